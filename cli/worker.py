"""A gunicorn worker whose threads are for requests that have arrived: those who send slowly wait outside.

gunicorn's own threads wait five seconds for each new connection to say something, and without end for one that
began to: sixteen clients that dawdle would be enough to stop all others. Loaded by gunicorn, by its name.
"""

import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ
from typing import Any

from gunicorn import util
from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import TConn, ThreadWorker

from handlers.errors import error_body
from handlers.request import JSON

log = logging.getLogger("zfs_sync")

STATUSES = {  # of what is no HTTP; 400 for the rest
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
HEAD_BYTES = 16384  # a head that is longer is the parser's to refuse
HEAD_S = 5.0  # for a TLS handshake and a head that a thread reads
IDLE_S = 20.0  # between two pieces of a body or of an answer
BODY_S = 20.0  # for a body, and a second more for each
BODY_BYTES_PER_S = 4096  # of it that have arrived: 200,000 lines, 8 MB as gzip, have all of REQUEST_S
REQUEST_S = 600.0  # for a whole request: as long as an agent waits
DRAIN_S = 0.2  # for a body that was refused unread
CLOSE_S = 0.2  # for the caller to close first


class PacedSocket:
    """What a body is read from: not for longer than it may take, by what of it has arrived."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._sock, self._clock = sock, clock
        self._ends_at = clock() + BODY_S

    def recv(self, size: int) -> bytes:
        """The next piece. Raises TimeoutError when it is too late for one."""
        left_s = self._ends_at - self._clock()
        if left_s <= 0:
            raise TimeoutError("the body comes too slowly")
        self._sock.settimeout(min(IDLE_S, left_s))
        try:
            piece = self._sock.recv(size)
        finally:
            self._sock.settimeout(IDLE_S)
        self._ends_at += len(piece) / BODY_BYTES_PER_S
        return piece


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection that is closed without keeping the loop for long."""

    def close(self, graceful: bool = False) -> None:
        if graceful:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
                self.sock.settimeout(CLOSE_S)
                self.sock.recv(HEAD_BYTES)
        super().close()


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Hands a connection to a thread once the head of its request is there, and takes it back in time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._partial: deque[Connection] = deque()  # with the beginning of a head, by when they are to be closed
        self._until: dict[Connection, float] = {}  # those in a thread

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, in place of the one that has been silent longest if there are too many."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker took it, or it is gone
        self.nr_conns += 1
        connection = Connection(self.cfg, client, address, listener.getsockname())
        connection.set_timeout()
        self.pending_conns.append(connection)
        self.poller.register(client, EVENT_READ, partial(self.on_pending_socket_readable, connection))
        if self.nr_conns >= self.worker_connections:
            oldest = self.pending_conns.popleft()
            self.poller.unregister(oldest.sock)
            self._drop(oldest)

    def enqueue_req(self, connection: Connection) -> None:
        """Hand it to a thread if its request's head has arrived, or cannot be looked at; else look again later."""
        connection.data_ready = True
        if self.cfg.is_ssl or _head_is_there(connection):
            super().enqueue_req(connection)
            return
        connection.set_timeout()
        self._partial.append(connection)

    def murder_pending(self) -> None:
        """Called by gunicorn's loop, once a second or more often."""
        now = time.monotonic()
        if not self.alive:  # nobody who has not asked yet keeps it from ending
            for waiting in (*self.pending_conns, *self._partial):
                waiting.timeout = now
        super().murder_pending()
        for _ in range(len(self._partial)):
            connection = self._partial.popleft()
            if _head_is_there(connection):
                super().enqueue_req(connection)
            elif connection.timeout <= now:
                self._drop(connection)
            else:
                self._partial.append(connection)
        for connection, until in list(self._until.items()):
            if until <= now:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)  # its thread reads the end

    def handle(self, connection: Connection) -> Any:
        """In a thread: read the head, and answer."""
        self._until[connection] = time.monotonic() + HEAD_S
        try:
            return super().handle(connection)
        finally:
            self._until.pop(connection, None)

    def handle_request(self, request: Any, connection: Connection) -> Any:
        """The head was read."""
        self._until[connection] = time.monotonic() + REQUEST_S
        connection.sock.settimeout(IDLE_S)
        connection.parser.unreader.sock = PacedSocket(connection.sock)
        try:
            return super().handle_request(request, connection)
        finally:
            connection.parser.unreader.sock = connection.sock

    def handle_error(self, request: Any, client: socket.socket, address: Any, error: Exception) -> None:
        """Refuse what is no HTTP as all is refused. Neither answer nor log repeats it: there may be a key in it."""
        if not isinstance(error, ParseException) or isinstance(error, ConfigurationProblem):
            super().handle_error(request, client, address, error)
            return
        status = STATUSES.get(type(error), HTTPStatus.BAD_REQUEST)
        what = type(error).__name__
        log.warning("no HTTP from %s: %s", (address or ("a socket",))[0], what)
        body = error_body(status, f"this is no HTTP that is understood here: {what}")
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\n"
            f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):
            util.write_nonblock(client, head.encode("ascii") + body)

    def _keepalive_after(self, connection: Connection, keepalive: bool) -> bool:
        return keepalive and bool(connection.parser.finish_body(deadline=time.monotonic() + DRAIN_S))

    def _drop(self, connection: Connection) -> None:
        self.nr_conns -= 1
        connection.close()


def _head_is_there(connection: Connection) -> bool:
    """Whether a thread would not have to wait; so also for a connection that has ended."""
    if connection.parser is not None and connection.parser.unreader.buf.getvalue():
        return True  # read together with the request before
    try:
        seen = connection.sock.recv(HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return not seen or len(seen) == HEAD_BYTES or b"\r\n\r\n" in seen
