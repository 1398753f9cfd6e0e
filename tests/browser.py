"""A real browser on a witness that is served from here, with the example's three systems."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

import config
from cli.demo import SETTINGS, fill
from handlers.request import Witness
from handlers.routes import make_app
from tests.witness import ADMIN, ENROLL
from zfs_sync import open_witness

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Quiet(WSGIRequestHandler):
    """A request is no line on the terminal."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Threads(ThreadingMixIn, WSGIServer):
    """A browser asks for several things at once."""

    daemon_threads = True


@contextmanager
def served(witness: Witness) -> Iterator[str]:
    """The address of a witness, while it is served."""
    server = make_server("127.0.0.1", 0, make_app(witness), Threads, Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium; skips the test where there is none."""
    if not Path(CHROMIUM).exists():
        pytest.skip("there is no /usr/bin/chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


def example(folder: Path) -> Witness:
    """The witness of the demo, filled as the demo fills it."""
    file = folder / "zfs_sync.yaml"
    file.write_text(SETTINGS)
    settings = config.load(file, {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL})
    witness = open_witness(replace(settings, data_dir=folder / "data"))
    fill(witness, datetime.now(UTC))
    return witness
