"""How long a caller may keep a thread waiting: by what of a body or an answer has passed, and by who waits already."""

import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from handlers.errors import TooMany

IDLE_S = 20.0  # between two pieces of a body or of an answer
CROWDED_S = 1.0  # the same for an answer, where the caller keeps as many threads waiting as it may
BODY_S = 20.0  # for a body or an answer, and a second more for each
BODY_BYTES_PER_S = 4096  # of it that have passed: 200,000 lines, 8 MB as gzip, have ten minutes
PIECE_BYTES = 65536

NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Crowd:
    """Who keeps how many threads of a worker waiting."""

    def __init__(self, most: int) -> None:
        self._most = most  # threads for one caller
        self._waiting: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def waiting(self, who: str) -> Iterator[bool]:
        """One more thread waits. Answers whether that is no more than this caller may keep."""
        with self._lock:
            self._waiting[who] += 1
            has_room = self._waiting[who] <= self._most
        try:
            yield has_room
        finally:
            with self._lock:
                self._waiting[who] -= 1
                self._waiting += Counter()  # drops those at nought


class PacedSocket:
    """A connection while its request is answered: body and answer have time by what of them has passed.

    A caller may keep so many threads waiting. Further bodies of its are refused, and what it does not read is given up
    sooner.
    """

    def __init__(self, sock: Any, crowd: Crowd, clock: Callable[[], float] = time.monotonic) -> None:
        self._sock, self._crowd, self._clock = sock, crowd, clock
        self._body_ends_at = clock() + BODY_S
        self.whose: Callable[[], str] = lambda: ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """The next piece of a body. Raises TimeoutError when it is too late for one, TooMany where others wait."""
        try:
            piece = self._at_once(self._sock.recv, size)
        except NOT_YET:
            piece = self._piece_in_time(size)
        self._body_ends_at += len(piece) / BODY_BYTES_PER_S
        return bytes(piece)

    def sendall(self, data: bytes) -> None:
        """Send an answer. Raises TimeoutError when the caller takes it too slowly."""
        left, ends_at = memoryview(data), self._clock() + BODY_S
        while left:
            try:
                sent = self._at_once(self._sock.send, left[:PIECE_BYTES])
            except NOT_YET:
                with self._crowd.waiting(self.whose()) as has_room:
                    self._wait_until(ends_at, IDLE_S if has_room else CROWDED_S)
                    sent = self._sock.send(left[:PIECE_BYTES])
            left = left[sent:]
            ends_at += sent / BODY_BYTES_PER_S

    def _at_once(self, do: Callable[[Any], Any], what: Any) -> Any:
        self._sock.settimeout(0)
        try:
            return do(what)
        finally:
            self._sock.settimeout(IDLE_S)

    def _piece_in_time(self, size: int) -> bytes:
        with self._crowd.waiting(self.whose()) as has_room:
            if not has_room:
                detail = "too many requests of this caller wait for their bodies; send fewer at a time"
                raise TooMany(detail, headers={"Retry-After": "1"})
            self._wait_until(self._body_ends_at, IDLE_S)
            piece: bytes = self._sock.recv(size)
            return piece

    def _wait_until(self, ends_at: float, patience_s: float) -> None:
        """Let the next call wait for so long."""
        left_s = ends_at - self._clock()
        if left_s <= 0:
            raise TimeoutError("this comes or goes too slowly")
        self._sock.settimeout(min(patience_s, left_s))
