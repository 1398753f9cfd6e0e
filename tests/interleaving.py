"""Two requests over real HTTP, the second in the midst of the first: at each place where the first looks at the store.

Nothing is left to chance or to the clock: the first request's thread stops where it is about to read a shard or to
take a lock, holding none; the second is made and answered; the first goes on.
"""

import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psycopg

from handlers.request import Witness
from handlers.routes import make_app
from tests.contract import hold_to_contract, row_of
from tests.witness import BASE, place_of

FIRST = "HTTP_X_FIRST_OF_TWO"


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be made."""

    method: str
    path: str
    key: str | None
    body: Any = None  # JSON, or bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests see the answers."""


class FolderCopy:
    """What a folder has now."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._kept = folder, folder.with_name("kept")
        shutil.copytree(folder, self._kept)

    def put_back(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._kept, self._folder)

    def drop(self) -> None:
        shutil.rmtree(self._kept)


class TableCopy:
    """What a database's table has now."""

    def __init__(self, address: str) -> None:
        self._connection = psycopg.connect(address, autocommit=True)
        self._connection.execute("CREATE TABLE kept AS TABLE zfs_sync_shards")

    def put_back(self) -> None:
        with self._connection.transaction():
            self._connection.execute("DELETE FROM zfs_sync_shards")
            names = "INSERT INTO zfs_sync_shards (name, stamp, data)"
            self._connection.execute(f"{names} SELECT name, stamp, data FROM kept WHERE name <> 'removals'")
            self._connection.execute(
                f"{names} VALUES ('removals', gen_random_uuid(), '')"
            )  # rows are gone: ask for all

    def drop(self) -> None:
        self._connection.execute("DROP TABLE kept")
        self._connection.close()


class Meeting:
    """A witness that is served, and put back to what it was before each pair of requests."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self._app = make_app(witness)
        self._port = 0
        self._first: int | None = None  # the thread that answers the first request
        self._passed = self._place = 0  # of the places where it can be interrupted
        self._interrupt: Callable[[], None] = lambda: None

    def pairs(self, first: Call, second: Call) -> Iterator[tuple[Answered, Answered]]:
        """The answers to both, once for each place in the first where the second can come, and once for after it."""
        place = place_of(self.witness)
        kept = TableCopy(place) if isinstance(place, str) else FolderCopy(place)
        try:
            yield from self._pairs(first, second, kept)
        finally:
            kept.put_back()
            kept.drop()

    def _pairs(self, first: Call, second: Call, kept: FolderCopy | TableCopy) -> Iterator[tuple[Answered, Answered]]:
        self._place, interrupted = 0, True
        while interrupted:
            kept.put_back()
            seconds: list[Answered] = []
            self._interrupt = lambda seconds=seconds: seconds.append(self.ask(second))  # type: ignore[misc]
            answer = self.ask(first, first=True)
            interrupted = bool(seconds)
            yield answer, seconds[0] if seconds else self.ask(second)
            self._place += 1

    def ask(self, call: Call, first: bool = False) -> Answered:
        """Make one request. Its answer must be one that the API's description has."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        body = call.body if isinstance(call.body, bytes | None) else json.dumps(call.body).encode()
        headers = {"X-API-Key": call.key or "", "Content-Type": "application/json", **call.headers}
        headers |= {"X-First-Of-Two": "1"} if first else {}
        connection.request(call.method, BASE + call.path, body, headers)
        response = connection.getresponse()
        answered = Answered(response.status, dict(response.getheaders()), response.read())
        connection.close()
        row = row_of(call.method, BASE + call.path.partition("?")[0])
        assert row is not None
        sent = [pair for pair in answered.headers.items() if pair[0] not in ("Date", "Server")]
        hold_to_contract(row, answered.status, sent, answered.body)
        return answered

    def answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The WSGI app."""
        if FIRST in environ:
            self._first, self._passed = threading.get_ident(), 0
        body: Iterable[bytes] = self._app(environ, start_response)
        if FIRST in environ:
            self._first = None
        return body

    def may_interrupt(self) -> None:
        """Called where a thread is about to look at the store."""
        if threading.get_ident() != self._first or self.witness.store._here.work is not None:
            return
        self._passed += 1
        if self._passed == self._place + 1:
            self._interrupt()


@contextmanager
def meeting(witness: Witness, monkeypatch: Any) -> Iterator[Meeting]:
    """A witness that answers over HTTP, and can be interrupted where it looks at the store."""
    met, store = Meeting(witness), witness.store
    read, locked = store.read, store._locked

    def read_later(shard: Any) -> Any:
        met.may_interrupt()
        return read(shard)

    def lock_later(ordered: Any, timeout_s: float | None) -> Any:
        met.may_interrupt()
        return locked(ordered, timeout_s)

    monkeypatch.setattr(store, "read", read_later)
    monkeypatch.setattr(store, "_locked", lock_later)
    with make_server("127.0.0.1", 0, met.answer, ThreadingServer, Silent) as server:
        met._port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield met
        finally:
            server.shutdown()
            thread.join()
