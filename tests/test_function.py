"""The witness as a function: the functional tests again, by way of each kind of event that AWS sends."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import doorways
from tests.checkout import ROOT
from tests.doorways import EVENTS, function_front

FUNCTIONAL = ("test_systems.py", "test_inventories.py", "test_snapshots.py")  # bodies and answers of all kinds
APART = "not body_shorter_than_it_says"  # a gateway passes on no body that is cut short


@pytest.mark.parametrize("kind", EVENTS)
def test_what_holds_for_the_server_holds_for_the_function(kind: str) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--through", kind, "--engine", "files", "-k", APART]
    files = [str(ROOT / "tests" / name) for name in FUNCTIONAL]
    done = subprocess.run([*argv, *files], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]


def ask(kind: str, environ: dict[str, str], app: Any) -> None:
    """Send one event through the function to an app."""
    full = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO(), **environ}
    list(function_front(app, EVENTS[kind])(full, lambda status, headers: None))


@pytest.mark.parametrize("kind", EVENTS)
def test_the_callers_address_is_the_gateways_word(kind: str) -> None:
    seen = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return [b""]

    ask(kind, {"REMOTE_ADDR": "198.51.100.7", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}, app)
    assert seen["REMOTE_ADDR"] == "198.51.100.7"
    assert "HTTP_X_FORWARDED_FOR" not in seen


def test_the_function_opens_its_store_at_the_first_event_and_ticks_when_it_is_time(tmp_path: Path) -> None:
    """In a process of its own, as the platform starts it."""
    event = doorways.http_event({"REQUEST_METHOD": "GET", "PATH_INFO": "/health/ready"}, b"")
    script = f"""
import importlib, pathlib
function = importlib.import_module("deploy.function.aws_lambda")
assert not pathlib.Path("data").exists()
answer = function.lambda_handler({event!r}, None)
assert answer["statusCode"] == 200, answer
assert pathlib.Path("data").exists()
assert [function.tick_handler({{"source": "aws.events"}}, None)["ticked"] for _ in range(2)] == [True, False]
"""
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "ZFS_SYNC_DATA_DIR": "data"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environ, check=True, timeout=60)
