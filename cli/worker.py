"""A gunicorn worker whose threads are for requests that have arrived: those who send slowly wait outside.

gunicorn's own threads wait five seconds for each new connection to say something, and without end for one that
began to: sixteen clients that dawdle would be enough to stop all others. Loaded by gunicorn, by its name.
"""

import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from errno import ENOTCONN
from functools import partial
from http import HTTPStatus
from os import SEEK_END
from selectors import EVENT_READ
from typing import Any

from gunicorn import util
from gunicorn.http import get_parser
from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.sock import ssl_wrap_socket
from gunicorn.workers.gthread import TConn, ThreadWorker

from cli import signals
from cli.pacing import NOT_YET, Crowd, PacedSocket
from handlers.errors import error_body
from handlers.limiting import caller_in
from handlers.request import JSON

log = logging.getLogger("zfs_sync")

STATUSES = {  # of what is no HTTP; 400 for the rest
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
HEAD_BYTES = 16384  # of a head; a longer one is refused
HEAD_S = 1.0  # for the parser, which has the whole head
REQUEST_S = 600.0  # for a whole request: as long as an agent waits
DRAIN_S = 0.2  # for a body that was refused unread
CLOSE_S = 1.0  # for the caller to close first


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection, read until a whole head has arrived without ever waiting for it, and closed without waiting."""

    def __init__(
        self, cfg: Any, client: socket.socket, address: Any, listener: Any, linger: Callable[..., None]
    ) -> None:
        super().__init__(cfg, client, address, listener)
        self._linger = linger
        if cfg.is_ssl:
            self.sock = ssl_wrap_socket(client, cfg)
        self.parser = get_parser(cfg, self.sock, address)
        self.initialized = self.data_ready = True
        self.set_timeout()

    def has_head(self) -> bool:
        """Whether a request can be read without waiting. Raises OSError when the caller is gone."""
        self.sock.setblocking(False)
        unread = self.parser.unreader.buf
        try:
            while not (b"\r\n\r\n" in unread.getvalue() or self.is_refused):
                piece = self.sock.recv(HEAD_BYTES)  # over TLS, this goes on with the handshake, too
                if not piece:
                    raise ConnectionResetError("closed before it asked")
                unread.seek(0, SEEK_END)
                unread.write(piece)
        except NOT_YET:
            return False
        return True

    @property
    def is_refused(self) -> bool:
        """Whether what has arrived is more than a head may have."""
        said = self.parser.unreader.buf.getvalue()
        return len(said) >= HEAD_BYTES and b"\r\n\r\n" not in said

    def close(self, graceful: bool = False) -> None:
        if graceful:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
                self._linger(self)
                return
        super().close()


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Hands a connection to a thread once the head of its request is there, and takes it back in time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._crowd = Crowd(max(1, self.cfg.threads // 2))
        self._until: dict[Connection, float] = {}  # those in a thread
        self._closing: deque[Connection] = deque()  # for a moment, so that the caller can read its answer

    def init_signals(self) -> None:
        """Leave Ctrl-C, which a terminal sends to every process, to the master, and let in what has waited."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals.release()

    def load_wsgi(self) -> None:
        """Let a request's socket know whose it is, as soon as the app does."""
        super().load_wsgi()
        app: Any = self.wsgi  # type: ignore[has-type]

        def paced(environ: dict[str, Any], start_response: Any) -> Any:
            environ["gunicorn.socket"].whose = partial(caller_in, environ)
            return app(environ, start_response)

        self.wsgi = paced

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, in place of the one that has been silent longest if there are too many."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker took it, or it is gone
        try:
            connection = Connection(self.cfg, client, address, listener.getsockname(), self._linger)
        except OSError as error:
            if error.errno != ENOTCONN:  # not gone again already: the certificate cannot be read any more
                log.warning("a connection cannot be served: %s", error)
            client.close()
            return
        self.nr_conns += 1
        self._wait_for(connection)
        if self.nr_conns >= self.worker_connections:
            self._drop(self._waiting_longest())

    def on_pending_socket_readable(self, connection: Connection, client: socket.socket) -> None:
        """Something has arrived: more of a handshake, or of a head."""
        try:
            if not connection.has_head():
                return
        except OSError:
            self._forget(connection)
            self._drop(connection)
            return
        self._forget(connection)
        self.enqueue_req(connection)

    def enqueue_req(self, connection: Connection) -> None:
        """Hand it to a thread if its request's head has arrived; else wait for that."""
        try:
            if not connection.has_head():
                connection.set_timeout()
                self._wait_for(connection)
            elif connection.is_refused:
                self.handle_error(None, connection.sock, connection.client, LimitRequestHeaders("too long"))
                self.nr_conns -= 1
                connection.close(graceful=True)
            else:
                super().enqueue_req(connection)
        except OSError:
            self._drop(connection)

    def murder_pending(self) -> None:
        """Called by gunicorn's loop, once a second or more often."""
        now = time.monotonic()
        if not self.alive:  # nobody who has not asked yet keeps it from ending
            for waiting in self.pending_conns:
                waiting.timeout = now
        super().murder_pending()
        while self._closing and self._closing[0].timeout <= now:
            self._closing.popleft().close()
        for connection, until in list(self._until.items()):
            if until <= now:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)  # its thread reads the end

    def handle(self, connection: Connection) -> Any:
        """In a thread: read the head, which is there, and answer."""
        self._until[connection] = time.monotonic() + HEAD_S
        try:
            return super().handle(connection)
        finally:
            self._until.pop(connection, None)

    def handle_request(self, request: Any, connection: Connection) -> Any:
        """The head was read."""
        self._until[connection] = time.monotonic() + REQUEST_S
        sock = connection.sock
        connection.sock = connection.parser.unreader.sock = PacedSocket(sock, self._crowd)
        try:
            return super().handle_request(request, connection)
        except TimeoutError:
            return False  # the caller takes its answer too slowly
        finally:
            connection.sock = connection.parser.unreader.sock = sock

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

    def _wait_for(self, connection: Connection) -> None:
        self.pending_conns.append(connection)
        self.poller.register(connection.sock, EVENT_READ, partial(self.on_pending_socket_readable, connection))

    def _forget(self, connection: Connection) -> None:
        self.poller.unregister(connection.sock)
        self.pending_conns.remove(connection)

    def _waiting_longest(self) -> Connection:
        oldest: Connection = self.pending_conns[0]
        self._forget(oldest)
        return oldest

    def _drop(self, connection: Connection) -> None:
        self.nr_conns -= 1
        connection.close()

    def _linger(self, connection: Connection) -> None:
        """Close it later: at once would be taken for a reset by a caller that still sends."""
        connection.timeout = time.monotonic() + CLOSE_S
        self._closing.append(connection)
        if len(self._closing) > self.worker_connections:
            self._closing.popleft().close()
