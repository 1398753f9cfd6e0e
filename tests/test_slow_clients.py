"""Callers that dawdle, flood or lie about sizes, against the real server: the others are answered all the same."""

import gzip
import http.client
import json
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from cli.pacing import Crowd, PacedSocket
from tests.test_serve import KEY, Server, serving

THREADS = 2  # of the one worker


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("slow")
    (folder / "zfs_sync.yaml").write_text(f"port: 0\nworkers: 1\nthreads: {THREADS}\nmax_inventory_bytes: 100000\n")
    with serving(folder, workers=1) as started:
        yield started


def connected(server: Server, stack: ExitStack, said: bytes = b"") -> socket.socket:
    port = int(server.address.rpartition(":")[2])
    made = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
    made.sendall(said)
    return made


def heartbeat_works(server: Server) -> bool:
    """Whether another caller is answered; it gives up long before the dawdlers do."""
    with ExitStack() as stack:
        other = connected(server, stack, b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        other.settimeout(15)
        return other.recv(100).startswith(b"HTTP/1.1 200")


def test_idle_connections_stop_nobody(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            connected(server, stack)
        assert heartbeat_works(server)


def test_heads_that_never_end_stop_nobody(server: Server) -> None:
    with ExitStack() as stack:
        slow = [connected(server, stack, b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ") for _ in range(50)]
        for _ in range(3):
            for each in slow:
                each.sendall(b"a")
            assert heartbeat_works(server)


WHOLE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "beginning",
    [WHOLE + b"GET /health HTTP/1.1\r\nX-A: ", b"\r\n\r\nGET /health", b"GET / HTTP/1.1\r\nX-A: " + b"a" * 16384],
    ids=["second of two", "empty lines", "long"],
)
def test_nor_do_heads_that_look_like_more(server: Server, beginning: bytes) -> None:
    with ExitStack() as stack:
        slow = [connected(server, stack, beginning) for _ in range(50)]
        assert heartbeat_works(server)
        if b"a" * 16384 in beginning:
            assert b"HTTP/1.1 431" in {answered(each) for each in slow}


def test_a_head_in_pieces_is_answered(server: Server) -> None:
    with ExitStack() as stack:
        slow = connected(server, stack, b"GET /health/live HTTP/1.1\r\nHost: x\r\n")
        time.sleep(0.3)
        slow.sendall(b"X-A: b\r\n")
        time.sleep(0.3)
        slow.sendall(b"\r\n")
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        slow.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 2)  # kept alive, and two at once
        said = b""
        while said.count(b"HTTP/1.1 200") < 2:
            said += slow.recv(1000)


def test_the_longest_silent_make_room_for_new_ones(server: Server) -> None:
    with ExitStack() as stack:
        silent = [connected(server, stack) for _ in range(1100)]  # of a worker's 1000
        assert heartbeat_works(server)
        assert silent[0].recv(1) == b""


def answered(client: socket.socket) -> bytes:
    """The beginning of an answer; nothing if what was sent too much reset the connection before it was read."""
    try:
        return client.recv(12)
    except ConnectionResetError:
        return b""


def refused_at_once(slow: list[socket.socket]) -> int:
    """How many have been told to come back with fewer requests."""
    poll = select.poll()  # which, unlike select, takes descriptors above 1024
    by_number = {each.fileno(): each for each in slow}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return sum(answered(by_number[number]) == b"HTTP/1.1 429" for number, _ in poll.poll(0))


def test_bodies_of_those_without_a_key_are_not_waited_for(server: Server) -> None:
    head = b"PUT /api/v1/systems/0b5c8f0e-0000-4000-8000-000000000000/inventory HTTP/1.1\r\nHost: x\r\n"
    with ExitStack() as stack:
        slow = [connected(server, stack, head + b"Content-Length: 90000\r\n\r\nx") for _ in range(3 * THREADS)]
        assert heartbeat_works(server)
        assert all(answered(each) in (b"HTTP/1.1 401", b"") for each in slow)


def test_nor_are_forms_of_those_who_are_not_signed_in(server: Server) -> None:
    head = b"POST /dashboard/sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with ExitStack() as stack:
        slow = [connected(server, stack, head + b"Content-Length: 900\r\n\r\nk") for _ in range(3 * THREADS)]
        assert heartbeat_works(server)
        assert refused_at_once(slow) >= len(slow) - 2


def test_one_key_keeps_half_of_the_threads_waiting_at_most(server: Server) -> None:
    admin = dict(KEY.findall(server.said))["admin"]
    head = f"POST /api/v1/systems/register HTTP/1.1\r\nHost: x\r\nX-API-Key: {admin}\r\nContent-Length: 90000\r\n\r\n"
    with ExitStack() as stack:
        slow = [connected(server, stack, head.encode() + b"{" + b" " * 4096) for _ in range(3 * THREADS)]
        assert heartbeat_works(server)
        assert refused_at_once(slow) >= len(slow) - 2
        enroll = dict(KEY.findall(server.said))["enroll"]  # another's body may come in two pieces meanwhile
        head = f"POST /api/v1/systems/register HTTP/1.1\r\nHost: x\r\nX-API-Key: {enroll}\r\nContent-Length: 19\r\n"
        other = connected(server, stack, f"{head}Content-Type: application/json\r\n\r\n".encode())
        time.sleep(0.5)
        other.sendall(b'{"hostname": "now"}')
        assert answered(other) == b"HTTP/1.1 201"


HURRIED = "import sys, cli.pacing; cli.pacing.BODY_S = 0.5; import zfs_sync; sys.exit(zfs_sync.main())"


def test_bodies_that_drip_are_given_up_though_their_key_is_good(tmp_path: Path) -> None:
    (tmp_path / "zfs_sync.yaml").write_text(f"port: 0\nworkers: 1\nthreads: {THREADS}\n")
    environ = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with serving(tmp_path, program=(sys.executable, "-c", HURRIED), workers=1, **environ) as hurried:
        admin = dict(KEY.findall(hurried.said))["admin"]
        _, system = put(hurried, "/systems/register", admin, b'{"hostname": "nas"}', Content_Type="application/json")
        head = f"PUT /api/v1/systems/{system['id']} HTTP/1.1\r\nHost: x\r\nX-API-Key: {admin}\r\n".encode()
        with ExitStack() as stack:
            said = head + b"Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n{"
            slow = connected(hurried, stack, said)
            assert heartbeat_works(hurried)
            given_up = threading.Event()
            drip = threading.Thread(target=drop_by_drop, args=(slow, given_up))
            drip.start()
            answer = answered(slow)
            given_up.set()
            drip.join()
            assert answer in (b"HTTP/1.1 400", b"")


def drop_by_drop(client: socket.socket, given_up: threading.Event) -> None:
    """Go on for longer than the test waits for an answer, a byte at a time."""
    for _ in range(600):
        if given_up.wait(0.1):
            return
        with suppress(OSError):
            client.sendall(b" ")


class Line:
    """A socket on which so many bytes arrive in a second of its own clock."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s, self.now, self.waits_s = bytes_per_s, 0.0, 0.0

    def settimeout(self, seconds: float) -> None:
        self.waits_s = seconds

    def send(self, data: bytes) -> int:
        return len(self.recv(len(data))[: len(data)])

    def recv(self, size: int) -> bytes:
        if not self.waits_s:
            raise BlockingIOError
        piece = max(1, int(self.bytes_per_s))
        took_s = piece / self.bytes_per_s
        self.now += min(took_s, self.waits_s)
        if took_s > self.waits_s:
            raise TimeoutError
        return bytes(piece)


def arrived(line: Any, size: int) -> int:
    """How much of a body of this size comes over a line before it is given up."""
    paced, count = PacedSocket(line, Crowd(1), lambda: float(line.now)), 0
    with suppress(TimeoutError):
        while count < size:
            count += len(paced.recv(65536))
    return count


@pytest.mark.parametrize(
    ("size", "bytes_per_s", "whole"),
    [
        (8_300_000, 16_000, True),  # 200,000 lines as gzip over 128 kbit/s
        (8_300_000, 4_200, True),
        (60_000, 3_000, True),  # what is small may come slower
        (900_000, 2_000, False),
        (900_000, 1, False),
        (900, 0.05, False),
    ],
)
def test_a_body_has_time_by_what_of_it_has_come(size: int, bytes_per_s: float, whole: bool) -> None:
    line = Line(bytes_per_s)
    assert (arrived(line, size) >= size) is whole
    assert whole or line.now < 60


@pytest.mark.parametrize(("bytes_per_s", "whole"), [(100_000, True), (4_200, True), (2_000, False), (0.05, False)])
def test_an_answer_has_time_by_what_of_it_has_gone(bytes_per_s: float, whole: bool) -> None:
    line: Any = Line(bytes_per_s)
    sent = PacedSocket(line, Crowd(1), lambda: float(line.now))
    if whole:
        sent.sendall(bytes(9_000_000))
        assert line.now > 60
    else:
        with pytest.raises(TimeoutError):
            sent.sendall(bytes(9_000_000))
        assert line.now < 60


def test_one_caller_leaves_half_of_the_threads_to_others_when_it_does_not_read() -> None:
    crowd, given_up = Crowd(1), threading.Event()

    def send(sock: socket.socket) -> None:
        with suppress(OSError):
            PacedSocket(sock, crowd).sendall(bytes(20_000_000))
        given_up.set()

    with ExitStack() as stack:
        ends = [stack.enter_context(end) for _ in range(2) for end in socket.socketpair()]
        for end in ends[::2]:
            threading.Thread(target=send, args=(end,), daemon=True).start()
        assert given_up.wait(10)  # half of the time that one alone would have
        with crowd.waiting("another") as has_room:
            assert has_room


def test_those_who_do_not_close_stop_nobody(server: Server) -> None:
    with ExitStack() as stack:
        head = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for _ in range(150):
            connected(server, stack, head)
        assert heartbeat_works(server)


@pytest.mark.parametrize(
    "chunks", [b"ZZ\r\n", b"F" * 18 + b"\r\n", b"5\r\nabcdeX", b"2;a=b;\x00\r\n{}\r\n", b"0\r\n\x00: x\r\n\r\n"]
)
def test_chunks_that_are_none_are_the_callers_fault(server: Server, chunks: bytes) -> None:
    admin = dict(KEY.findall(server.said))["admin"]
    head = (
        f"POST /api/v1/systems/register HTTP/1.1\r\nHost: x\r\nX-API-Key: {admin}\r\nContent-Type: application/json\r\n"
    )
    with ExitStack() as stack:
        odd = connected(server, stack, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks)
        odd.shutdown(socket.SHUT_WR)
        assert answered(odd) == b"HTTP/1.1 400"
    assert "Traceback" not in server.err.read_text()


@pytest.mark.parametrize(
    "said", [b"GET\r\n\r\n", b"get / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_http_is_refused_in_json(server: Server, said: bytes) -> None:
    with ExitStack() as stack:
        odd = connected(server, stack, said)
        head, _, body = b"".join(iter(lambda: odd.recv(4096), b"")).partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    assert str(json.loads(body)["status_code"]).encode() in head.split(b"\r\n")[0]


def test_a_key_in_a_head_that_is_none_is_not_logged(server: Server) -> None:
    for head in (
        b"X-API-Key: admin.sEcReT\x00",
        b"X-API-Key : admin.sEcReT",
        b" X-API-Key: admin.sEcReT",
        b"X-API-Key admin.sEcReT",
    ):
        with ExitStack() as stack:
            assert (
                answered(connected(server, stack, b"GET / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n"))
                == b"HTTP/1.1 400"
            )
    assert "sEcReT" not in server.err.read_text()


def put(server: Server, path: str, key: str, body: bytes, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.address.rpartition(":")[2]), timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST" if "register" in path else "PUT", f"/api/v1{path}", body, {"X-API-Key": key, **sent})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said


def peak_kib(server: Server) -> int:
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in server.workers())
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def test_a_gzip_bomb_is_refused_for_the_room_of_its_limit(server: Server) -> None:
    admin = dict(KEY.findall(server.said))["admin"]
    named = json.dumps({"hostname": "nas"}).encode()
    _, system = put(server, "/systems/register", admin, named, Content_Type="application/json")
    path = f"/systems/{system['id']}/inventory"
    bomb = gzip.compress(bytes(64 * 2**20), 9)
    assert len(bomb) < 100_000
    before = peak_kib(server)
    status, said = put(server, path, admin, bomb, Content_Type="text/tab-separated-values", Content_Encoding="gzip")
    assert (status, said["status_code"]) == (413, 413)
    assert peak_kib(server) - before < 16 * 1024
    twice = gzip.compress(gzip.compress(bytes(64 * 2**20), 9), 9)
    status, said = put(server, path, admin, twice, Content_Type="text/tab-separated-values", Content_Encoding="gzip")
    assert status == 422


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_400(server: Server, opening: bytes) -> None:
    admin = dict(KEY.findall(server.said))["admin"]
    deep = b'{"hostname": "deep", "metadata": {"a": ' + opening * 100_000
    status, _ = put(server, "/systems/register", admin, deep, Content_Type="application/json")
    assert status == 400
    assert heartbeat_works(server)
