"""Files and folders that are on the disk before anyone goes on: what was written is there when the power comes back."""

import os
import secrets
from pathlib import Path

from store.codec import HEAD_BYTES


def write_beside(path: str, data: bytes) -> tuple[str, object]:
    """A durable temporary file that `path` can be replaced by, and the stamp it will then have."""
    folder, file = os.path.split(path)
    temporary = f"{folder}/.{file}.{secrets.token_hex(8)}.tmp"
    return temporary, write_new(temporary, data)


def write_new(path: str, data: bytes) -> object:
    """Write a durable file where there is none; its stamp. Its name is durable once its folder is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
            return stamp_of(descriptor, data[:HEAD_BYTES])
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(path)
        raise


def head_of(path: str) -> bytes | None:
    """What a file begins with, which is unlike any other's beginning. None: there is no such file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError:
        return None


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
