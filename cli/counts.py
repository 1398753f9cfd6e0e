"""The folder in which a server's workers add up what they count."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from handlers.meter import FOLDER as VARIABLE

PREFIX = "zfs-sync-counts-"
YOUNG_S = 60  # a folder may be without its lock for a moment, after it was made


@contextmanager
def shared_counts() -> Iterator[None]:
    """A folder for this server, unless the environment names one; it goes with the server.

    The server and its workers hold a lock on it as long as they live: what one that was killed has left is swept.
    """
    import fcntl

    if os.environ.get(VARIABLE):
        yield
        return
    _sweep()
    ours = os.getpid()
    folder = tempfile.mkdtemp(prefix=PREFIX)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.environ[VARIABLE] = folder
    try:
        yield
    finally:
        if os.getpid() == ours:  # gunicorn's workers leave by here, too
            shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)
            os.close(lock)


def _sweep() -> None:
    """Remove the folders of ours that no server holds any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, or gone meanwhile
            if _is_left_over(folder):
                shutil.rmtree(folder)


def _is_left_over(folder: Path) -> bool:
    import fcntl

    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(lock)
        return found.st_uid == os.getuid() and time.time() - found.st_mtime > YOUNG_S
    finally:
        os.close(lock)
