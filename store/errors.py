"""What the store refuses, each named for what happened. The message is fit to be shown to whoever asked."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotFound(Exception):
    """No document, or no shard, goes by this id."""


class AlreadyExists(Exception):
    """Another document has the same name, and names of its kind are unique."""


class Busy(Exception):
    """A lock was not to be had in time. Nothing was changed; trying again is safe."""


class StoreError(Exception):
    """A file can't be read or written. The message names it; the other files still work."""


class Damaged(StoreError):
    """What a file holds can't be understood, and never will be: it was cut off, or others wrote to it."""


class StoreFull(StoreError):
    """The disk or the quota is full. What was stored before is unchanged."""


@contextmanager
def refusals(path: str | Path) -> Iterator[None]:
    """Say which file the system refused, and why: StoreFull for want of room, StoreError for the rest."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"{path}: {reason}. What was stored is unchanged; make room and try again") from error
        raise StoreError(f"{path}: {reason}") from error
