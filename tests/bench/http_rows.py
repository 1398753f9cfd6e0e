"""A witness that serves, under its gunicorn, against HELLO: an empty Bottle handler under the same."""

import gzip
import http.client
import itertools
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from store.files import FileEngine
from tests.bench.fleet import asker_at, fill, listing
from tests.bench.measuring import Row, at_most, cpu_s, group_cpu_s
from tests.lab import CHECKOUT, free_port
from tests.witness import ADMIN, BASE, ENROLL, TSV

CONNECTIONS = (1, 8, 32)
KEY = {"X-API-Key": ADMIN}


class Served:
    """A server, and what it answers and costs."""

    def __init__(self, command: list[str], port: int, **environ: str) -> None:
        self.port = port
        started = {**os.environ, **environ}
        self._process = subprocess.Popen(command, env=started, cwd=CHECKOUT, stdout=subprocess.DEVNULL)
        for _ in range(300):
            try:
                self.ask(self.connect(), "GET", "/health")
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{command} does not answer")

    def connect(self) -> http.client.HTTPConnection:
        """A connection that stays open."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(self, to: http.client.HTTPConnection, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """The response, read to its end. Raises ValueError for any that is not good."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        to.request(method, path, body, {**KEY, **named})
        answer = to.getresponse()
        said = answer.read()
        if answer.status not in (200, 304):
            raise ValueError(f"{method} {path}: {answer.status} {said[:300]!r}")
        return answer

    def load(self, requests: int, method: str, paths: Sequence[str], **headers: str) -> tuple[float, float]:
        """The server's CPU seconds a request, and the requests a second, when as many connections as there are paths
        ask at once, each for its own."""
        connections = len(paths)

        def run(path: str) -> None:
            connection = self.connect()
            for _ in range(requests // connections):
                self.ask(connection, method, path, **headers)
            connection.close()

        threads = [threading.Thread(target=run, args=(path,)) for path in paths]
        cpu, started = group_cpu_s(self._process.pid), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - started
        done = requests // connections * connections
        return (group_cpu_s(self._process.pid) - cpu) / done, done / taken

    def end(self) -> None:
        """End it, and wait until it is gone."""
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def hello() -> Iterator[Served]:
    """An empty handler, served with the options that the witness has."""
    port = free_port()
    options = f"-b 127.0.0.1:{port} -w 2 -k gthread --threads 8 --keep-alive 30 --log-level error --no-control-socket"
    if Path("/dev/shm").is_dir():
        options += " --worker-tmp-dir /dev/shm"
    served = Served([sys.executable, "-m", "gunicorn", *options.split(), "tests.bench.hello:app"], port)
    try:
        yield served
    finally:
        served.end()


@contextmanager
def witness(folder: Path, store_url: str | None = None) -> Iterator[Served]:
    """The witness of a folder that a fleet was put into."""
    port = free_port()
    environ = {"ZFS_SYNC_PORT": str(port), "ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}
    if store_url:
        environ["ZFS_SYNC_STORE_URL"] = store_url
    command = [sys.executable, "zfs_sync.py", "--config", str(folder / "zfs_sync.yaml")]
    served = Served(command, port, **environ)
    try:
        yield served
    finally:
        served.end()


def rows(folder: Path, requests: int, large: int, store_url: str | None = None) -> Iterator[Row]:
    """What requests cost and how many there are in a second, and how long they wait while a large inventory arrives."""
    asker = asker_at(folder, store_url)
    group, ids = fill(asker, 3, 10, 100)
    beating = [f"{BASE}/systems/{asker.register(f'beating-{n:02}')}/heartbeat" for n in range(max(CONNECTIONS))]
    plan = f"{BASE}/sync/{group}/instructions"
    with hello() as empty, witness(folder, store_url) as served:
        tag = served.ask(served.connect(), "GET", plan).headers["ETag"]
        floors, beats = [], []
        for connections in CONNECTIONS:
            floors.append(empty.load(requests, "GET", ["/hello"] * connections))
            beats.append(served.load(requests, "POST", beating[:connections]))
        again = served.load(requests, "GET", [f"{BASE}/systems/{ids[0]}"] * 8)
        held = served.load(requests, "GET", [plan] * 8, If_None_Match=tag)
        yield Row("HELLO: an empty handler, 8 connections", f"{floors[1][0] * 1e6:.0f} us of CPU, {floors[1][1]:.0f}/s")
        replaced = _durable_s(folder) / floors[1][0]
        yield Row("a file of 300 bytes replaced durably, by itself: two fsyncs", f"{replaced:.3g} x HELLO")
        yield at_most("GET of one system, with a key", again[0] / floors[1][0], 1.3, "x HELLO")
        yield at_most("instructions unchanged (304)", held[0] / floors[1][0], 1.3, "x HELLO")
        for connections, floor, found in zip(CONNECTIONS, floors, beats, strict=True):
            share = f", {found[1]:.0f}/s, {found[1] / floor[1]:.2f} of HELLO's"
            yield at_most(f"heartbeat, {connections} systems at once", found[0] / floor[0], 3, "x HELLO", share)
        yield from _beside(served, ids, large)


def _durable_s(folder: Path) -> float:
    """The CPU seconds of the least that a durable heartbeat needs, other than a request."""
    store = FileEngine(folder / "alone")

    def replace() -> None:
        store.replace({"heartbeats/x": b"x" * 300})

    replace()
    return statistics.median(cpu_s(replace) for _ in range(50))


def _beside(served: Served, ids: list[str], large: int) -> Iterator[Row]:
    """What others wait, one after the other, before and while an inventory of so many snapshots arrives. They ask on
    several connections in turn, some of which the same worker answers."""
    body = gzip.compress(listing(2, large // 200, 200), 1)
    connections = itertools.cycle([served.connect() for _ in range(8)])

    def wait() -> float:
        started = time.perf_counter()
        served.ask(next(connections), "POST", f"{BASE}/systems/{ids[1]}/heartbeat")
        return time.perf_counter() - started

    quiet = statistics.median(wait() for _ in range(100))
    path = f"{BASE}/systems/{ids[2]}/inventory"
    put: Callable[[], Any] = lambda: served.ask(  # noqa: E731
        served.connect(), "PUT", path, body, Content_Type=TSV, Content_Encoding="gzip"
    )
    arriving = threading.Thread(target=put)
    started = time.perf_counter()
    arriving.start()
    waits = []
    while arriving.is_alive():
        waits.append(wait())
        time.sleep(0.005)
    taken = time.perf_counter() - started
    waits.sort()
    middle, late, worst = (waits[int(len(waits) * share)] for share in (0.5, 0.99, 0.9999))
    said = (
        f"{middle / quiet:.1f} x, 99 %: {late / quiet:.1f} x, the longest {worst / quiet:.0f} x ({worst * 1000:.0f} ms)"
    )
    yield Row(
        f"a heartbeat while {large // 1000}k snapshots arrive ({taken:.1f} s), of one in the quiet", said, "a few x"
    )
