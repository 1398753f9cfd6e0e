"""Locks between threads and processes: one lock file each, held through filelock's descriptor lock.

A lock file is never deleted: a process that had it open would then hold another lock than one that makes it anew.
"""

import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock

from filelock import lock_descriptor, unlock_descriptor

from store.errors import Busy, refusals

POLL_S = 0.002  # filelock's own 50 ms would let a writer wait for seconds under load
KEPT_OPEN = 256  # descriptors, of the 1024 that a process may have by default; a backup holds more while it reads


class Locks:
    """The locks in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = os.getpid()
        self._locks: dict[str, _Lock] = {}

    @contextmanager
    def hold(self, names: Sequence[str], timeout_s: float) -> Iterator[None]:
        """Hold the locks of these names, taken in this order. Raises Busy unless all are had in time."""
        deadline = time.monotonic() + timeout_s
        if len(names) > KEPT_OPEN:
            _make_room()
        with ExitStack() as held:
            for name in names:
                lock = self._lock(name)
                if not lock.acquire(deadline):
                    raise Busy(f"{name} is being written by others; it was not free within {timeout_s:g} s")
                held.callback(lock.release)
            yield

    def _lock(self, name: str) -> "_Lock":
        if self._pid != os.getpid():
            self._forget_parents()
        try:
            return self._locks[name]
        except KeyError:
            path = self._folder / (name.replace("/", "__") + ".lock")
            return self._locks.setdefault(name, _Lock(path, keep=len(self._locks) < KEPT_OPEN))

    def _forget_parents(self) -> None:
        """After a fork: a descriptor shared with the parent excludes nobody, and closing it unlocks nothing."""
        inherited, self._locks = self._locks, {}
        self._pid = os.getpid()
        for lock in inherited.values():
            lock.close()


def _make_room() -> None:
    """Let this process have as many descriptors as the system permits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # then the lock that has none left says so
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Lock:
    """One lock. Between threads an ordinary one, since they share the descriptor; between processes flock."""

    def __init__(self, path: Path, keep: bool) -> None:
        self._path = path
        self._keep = keep
        self._thread = Lock()
        self._descriptor: int | None = None

    def acquire(self, deadline: float) -> bool:
        if not self._thread.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        got = False
        try:
            while not (got := self._try()):
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_S)
        finally:
            if not got:
                self._thread.release()
        return got

    def release(self) -> None:
        assert self._descriptor is not None
        try:
            unlock_descriptor(self._descriptor)
            if not self._keep:
                self.close()
        finally:
            self._thread.release()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self) -> bool:
        with refusals(self._path):
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not lock_descriptor(self._descriptor, blocking=False):
                return False
            if self._is_current(self._descriptor):
                return True
        self.close()  # somebody deleted or moved the file after all: this lock excludes only those who had it open
        return False

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(descriptor))
        except FileNotFoundError:
            return False
