"""Files and folders that are on the disk before anyone goes on: what was written is there when the power comes back."""

import os
import secrets
from pathlib import Path

from store.codec import HEAD_BYTES


def write_beside(path: str, data: bytes) -> tuple[str, object]:
    """A durable temporary file that `path` can be replaced by, and the stamp it will then have."""
    folder, file = os.path.split(path)
    temporary = f"{folder}/.{file}.{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
            return temporary, stamp_of(descriptor, data[:HEAD_BYTES])
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(temporary)
        raise


def stamp_of(descriptor: int, head: bytes) -> object:
    """What tells one content from another. The generation in the head is enough for what we write ourselves: two
    replacements of one size within a tick of the clock look the same to stat. stat adds what other hands wrote."""
    found = os.fstat(descriptor)
    return head, found.st_size, found.st_mtime_ns, found.st_ino


def sync_folder(folder: Path | str) -> None:
    """Make the names in a folder durable: without that, a rename itself could be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
