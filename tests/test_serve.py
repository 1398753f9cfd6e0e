"""The server as a process: how it starts, what it prints, and how it ends. Likewise the example."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import config
from store import REGISTRY, history_of
from store.documents import Event, GoneRow
from tests.lab import CHECKOUT
from tests.programs import need
from zfs_sync import open_witness

PROGRAM = (sys.executable, str(CHECKOUT / "zfs_sync.py"))
ADDRESS = re.compile(r"(https?://127\.0\.0\.1:\d+)/api/v1")
KEY = re.compile(r"(\w+) key +(\S+)")


class Server:
    """A running server, and what it prints."""

    def __init__(
        self, folder: Path, *arguments: str, program: tuple[str, ...] = PROGRAM, workers: int = 2, **environ: str
    ) -> None:
        self.out = folder / "out"
        self.err = folder / "err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*program, *arguments],
                cwd=folder,
                env={**os.environ, "TMPDIR": str(folder), **environ},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.wait_until(lambda: ADDRESS.search(self.said))
        self.wait_until(lambda: len(self.workers()) == workers)

    @property
    def said(self) -> str:
        return self.out.read_text()

    @property
    def address(self) -> str:
        found = ADDRESS.search(self.said)
        assert found
        return found[1]

    def wait_until(self, happens: Callable[[], Any]) -> None:
        for _ in range(1200):
            if happens():
                return
            assert self.process.poll() is None, self.said + self.err.read_text()
            time.sleep(0.05)
        raise AssertionError(self.said + self.err.read_text())

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def get(self, path: str, key: str = "") -> Any:
        request = urllib.request.Request(self.address + path, headers={"X-API-Key": key} if key else {})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def end(self, signum: int, *, group: bool = False) -> int:
        """Send a signal, as Ctrl-C does to the whole group if need be; the exit status."""
        (os.killpg if group else os.kill)(self.process.pid, signum)
        return self.process.wait(40)


@contextmanager
def serving(folder: Path, *arguments: str, **options: Any) -> Iterator[Server]:
    server = Server(folder, *arguments, **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zfs_sync.yaml").write_text("port: 0\n")
    return tmp_path


def test_the_first_start_prints_keys_that_work_and_the_second_none(folder: Path) -> None:
    with serving(folder) as server:
        keys = {role: key for role, key in KEY.findall(server.said) if role != "API"}
        assert set(keys) == {"admin", "enroll"}
        assert server.get("/api/v1/systems", keys["admin"]) == []
        assert server.end(signal.SIGTERM) == 0
    with serving(folder) as server:
        assert KEY.findall(server.said) == []
        assert server.get("/api/v1/systems", keys["admin"]) == []
        server.end(signal.SIGTERM)


def test_no_key_is_seen_in_ps_and_none_is_logged(folder: Path) -> None:
    secret = "0123456789abcdef-secret"
    with serving(folder, ZFS_SYNC_ADMIN_KEY=f"admin.{secret}") as server:
        (enroll,) = (key for role, key in KEY.findall(server.said) if role == "enroll")
        server.get("/api/v1/systems", f"admin.{secret}")
        for pid in (server.process.pid, *server.workers()):
            line = Path(f"/proc/{pid}/cmdline").read_text()
            assert "zfs_sync.py" in line
            assert (secret in line, enroll in line) == (False, False)
        server.end(signal.SIGTERM)
        assert "GET /api/v1/systems 200" in server.err.read_text()
        assert secret not in server.said + server.err.read_text()


def wait_until_all_listen(server: Any) -> None:
    """A worker that has started leaves Ctrl-C to the master: it ignores SIGINT."""
    for _ in range(200):
        masks = [
            int(re.findall(r"SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())[0], 16)
            for pid in server.workers()
        ]
        if len(masks) == 2 and all(mask & 1 << signal.SIGINT - 1 for mask in masks):
            return
        time.sleep(0.05)
    raise AssertionError("not all workers have started")


@pytest.mark.parametrize(("signum", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_ends_it_cleanly_even_with_an_open_connection(folder: Path, signum: int, group: bool) -> None:
    with serving(folder) as server, socket.create_connection(("127.0.0.1", int(server.address.split(":")[2]))) as held:
        held.sendall(b"GET /health HTTP/1.1\r\nHost: witness\r\n\r\n")
        assert held.recv(15) == b"HTTP/1.1 200 OK"
        wait_until_all_listen(server)
        assert server.end(signum, group=group) == 0
        assert "Traceback" not in server.err.read_text()
        assert [line for line in server.err.read_text().splitlines() if " INFO " not in line] == []


def open_files(pid: int) -> str:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(descriptor))
    return "\n".join(found)


def test_a_signal_while_it_starts_ends_it_cleanly_too(folder: Path) -> None:
    environ = {**os.environ, "ZFS_SYNC_LOCK_TIMEOUT_S": "60"}
    witness = open_witness(config.load(folder / "zfs_sync.yaml", {}))
    with witness.store.transaction(REGISTRY), (folder / "err").open("w") as err:  # for which the first keys wait
        process = subprocess.Popen(PROGRAM, cwd=folder, env=environ, stderr=err)
        for _ in range(1200):
            if "/locks/registry" in open_files(process.pid):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("it never waited for the lock")
        process.terminate()
        assert process.wait(20) == 0
    assert (folder / "err").read_text() == ""


SLOW_CHILD = """
import os, time
os.register_at_fork(after_in_child=lambda: time.sleep(1))
"""
AMID_IMPORTS = """
import os, signal, sys, time, weakref

def is_first():
    try:
        os.mkdir("first")
    except FileExistsError:
        return False
    return True

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            gone = Finder()
            told = weakref.ref(gone, lambda _: ({deed}))
            del gone

sys.meta_path.insert(0, Finder())
"""


def test_a_signal_ends_a_worker_that_has_no_handlers_yet(folder: Path) -> None:
    """gunicorn waits 30 s for one that has missed it."""
    (folder / "sitecustomize.py").write_text(SLOW_CHILD)
    with serving(folder, PYTHONPATH=str(folder)) as server:
        begun = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 25


@pytest.mark.parametrize("module", ["concurrent_log_handler", "gunicorn.arbiter"])
def test_a_signal_is_not_lost_among_imports(folder: Path, module: str) -> None:
    """Python drops what a signal's handler raises in the callback of a weak reference: importing makes many."""
    (folder / "sitecustomize.py").write_text(
        AMID_IMPORTS.format(module=module, deed="os.kill(os.getpid(), signal.SIGTERM)")
    )
    environ = {**os.environ, "PYTHONPATH": str(folder), "ZFS_SYNC_LOG_FILE": "log"}
    done = subprocess.run(PROGRAM, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=40)
    assert done.returncode == 0
    assert "ZFS Sync witness" in done.stdout


def test_ctrl_c_disturbs_no_worker_among_imports(folder: Path) -> None:
    """gunicorn's own answer to it raises in the workers: what is dropped there leaves one that half ended."""
    deed = "is_first() and (os.kill(os.getppid(), signal.SIGINT), time.sleep(2))"  # a second one ends them at once
    (folder / "sitecustomize.py").write_text(AMID_IMPORTS.format(module="prometheus_client", deed=deed))
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(PROGRAM, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_port_in_use_is_one_line_and_changes_nothing(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            PROGRAM,
            cwd=folder,
            env={**os.environ, "ZFS_SYNC_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"zfs_sync: cannot listen on 127.0.0.1 port {port}: Address already in use; set another port\n"
    )
    assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("host: 203.0.113.1", "cannot listen on 203.0.113.1 port 0: Cannot assign requested address\n"),
        ("tls_cert: none.pem\ntls_key: none.pem", "none.pem: there is no such file, and TLS needs it\n"),
    ],
)
def test_what_keeps_it_from_listening_is_one_line(folder: Path, settings: str, complaint: str) -> None:
    (folder / "zfs_sync.yaml").write_text(f"port: 0\n{settings}\n")
    done = subprocess.run(PROGRAM, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"zfs_sync: \S*{re.escape(complaint)}", done.stderr)


def test_two_workers_with_threads_answer_at_once_and_are_replaced(folder: Path) -> None:
    with serving(folder, ZFS_SYNC_ADMIN_KEY="admin.0123456789abcdef") as server:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: server.get("/api/v1/systems", "admin.0123456789abcdef"), range(64)))
        assert answers == [[]] * 64
        before = server.workers()
        os.kill(before[0], signal.SIGKILL)
        server.wait_until(lambda: len(set(server.workers()) - {before[0]}) == 2)
        assert server.get("/health")["status"] == "ok"
        assert server.end(signal.SIGTERM) == 0


def test_a_start_forgets_what_is_older_than_the_settings_say(folder: Path) -> None:
    with (folder / "zfs_sync.yaml").open("a") as file:
        file.write("event_days: 10\nhistory_days: 5\n")
    store = open_witness(config.load(folder / "zfs_sync.yaml", {})).store
    now = datetime.now(UTC)
    for days in (1, 7, 20):
        at = now - timedelta(days=days)
        store.add_event(Event(id=f"{days}", at=at, what="tried"))
        shard = history_of("nas", f"{at:%Y-%m-%d}")
        with store.transaction(shard) as tx:
            tx[shard].gone.put(GoneRow(id=f"{days}", dataset="tank", at=at, rows=[]))
    with serving(folder) as server:
        server.wait_until(lambda: [event.id for event in store.events() if event.what == "tried"] == ["1", "7"])
        server.wait_until(lambda: len(store.history_segments("nas")) == 1)
        assert [shard.name[-10:] for shard in store.history_segments("nas")] == [f"{now - timedelta(days=1):%Y-%m-%d}"]
        server.end(signal.SIGTERM)


def test_every_line_of_the_log_is_json_in_the_file_that_the_settings_name(folder: Path) -> None:
    with (folder / "zfs_sync.yaml").open("a") as file:
        file.write("log_file: witness.log\nlog_format: json\n")
    with serving(folder) as server:
        server.get("/health")
        os.kill(server.workers()[0], signal.SIGKILL)  # of which gunicorn's own log tells
        server.wait_until(lambda: "SIGKILL" in (folder / "witness.log").read_text())
        assert server.end(signal.SIGTERM) == 0
    lines = [json.loads(line) for line in (folder / "witness.log").read_text().splitlines()]
    assert ("INFO", "zfs_sync") in [(line["levelname"], line["name"]) for line in lines]
    assert "gunicorn.error" in [line["name"] for line in lines]
    assert (folder / "err").read_text() == ""


def test_a_data_folder_that_cannot_be_used_is_one_line(folder: Path) -> None:
    (folder / "data").write_text("a file")
    done = subprocess.run(PROGRAM, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"zfs_sync: {folder}/data: .*\n", done.stderr)


# --- the example ---------------------------------------------------------------------------------


def demo_folders(folder: Path) -> list[Path]:
    return list(folder.glob("zfs-sync-demo-*"))


def test_the_example_serves_its_story_and_leaves_nothing_behind(folder: Path) -> None:
    need("curl")
    with serving(folder, "demo", "--port", "0") as server:
        assert server.said.startswith("CRITICAL: backup: 1 in conflict, 2 late, 2 behind, 9 in sync; offsite: 5 late\n")
        server.wait_until(lambda: "Ctrl-C ends it" in server.said)
        lines = re.findall(r"^  curl .*", server.said, re.MULTILINE)
        assert len(lines) == 4
        for line in lines:
            done = subprocess.run(f"{line} -sf", shell=True, capture_output=True, text=True, check=False)
            assert (done.returncode, len(done.stdout) > 500) == (0, True), line
        (command,) = re.findall(r"^  (\S+ \S+ conflicts .*)", server.said, re.MULTILINE)
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("diverged: backup: documents")
        # a worker that goes takes nothing with it
        first = server.workers()[0]
        os.kill(first, signal.SIGTERM)
        server.wait_until(lambda: first not in server.workers() and len(server.workers()) == 2)
        assert len(demo_folders(folder)) == 1
        assert server.get("/health/ready")["status"] == "ready"
        assert server.end(signal.SIGINT, group=True) == 0
        assert "Traceback" not in server.err.read_text()
        assert demo_folders(folder) == []


def test_an_example_that_is_ended_while_it_starts_leaves_nothing_behind(folder: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen([*PROGRAM, "demo", "--port", "0"], env=environ, stdout=subprocess.DEVNULL)
    while not list(folder.glob("zfs-sync-demo-*/data")):
        assert process.poll() is None
        time.sleep(0.005)
    process.terminate()
    assert (process.wait(40), demo_folders(folder)) == (0, [])


def test_an_example_that_cannot_start_leaves_nothing_behind(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = subprocess.run(
            [*PROGRAM, "demo", "--port", str(other.getsockname()[1])],
            env={**os.environ, "TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Address already in use" in done.stderr
    assert demo_folders(folder) == []


def test_the_example_does_not_look_at_the_settings_that_lie_here(folder: Path) -> None:
    (folder / "zfs_sync.yaml").write_text("nonsense: true\n")
    with serving(folder, "demo", "--port", "0", ZFS_SYNC_DATA_DIR=str(folder / "mine")) as server:
        assert server.end(signal.SIGTERM) == 0
    assert not (folder / "mine").exists()


def test_waitress_serves_where_gunicorn_does_not_run(folder: Path) -> None:
    """As on Windows, where nothing forks."""
    (folder / "sitecustomize.py").write_text("import os\ndel os.fork\n")
    with serving(folder, workers=0, PYTHONPATH=str(folder)) as server:
        (admin,) = (key for role, key in KEY.findall(server.said) if role == "admin")
        assert server.get("/api/v1/systems", admin) == []
        with urllib.request.urlopen(server.address + "/health") as response:
            assert "waitress" not in str(response.headers)
        assert server.end(signal.SIGTERM) == 0


def test_waitress_refuses_to_serve_tls_keys_in_the_clear(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text("import os\ndel os.fork\n")
    said = subprocess.run([*PROGRAM, "tls"], cwd=folder, capture_output=True, text=True, check=True).stdout
    files = {f"ZFS_SYNC_{name.upper()}": path for name, path in re.findall(r"^(tls_\w+): (.*)", said, re.MULTILINE)}
    environ = {**os.environ, "PYTHONPATH": str(folder), **files}
    done = subprocess.run([*PROGRAM], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "tls_cert needs gunicorn, which does not run here" in done.stderr
