"""A backup is a tar of the data folder as of one moment; unpacked, it is a data folder. So is that of a database.

Copying the folder while the server runs is a valid backup too: each file of the copy is whole, though one may be
older than another. `locks/` and `commits/` hold nothing to keep: nothing is half done while all locks are held.
"""

import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import BinaryIO

from store.engine import SECRET_KEY
from store.errors import Damaged, StoreError
from store.migrations import brought_along
from store.shards import is_shard_name, shard_named
from store.store import Store

IN_MEMORY_BYTES = 64 * 2**20
DAMAGED = ".damaged"  # behind the name of a file that is no good


def write_backup(store: Store, out: BinaryIO, now: datetime) -> tuple[int, list[str]]:
    """Write the whole store to `out` as a gzipped tar; how many files it has, and a line for each that is damaged.

    Writers wait while it is spooled; it is checked, compressed, and sent wherever `out` leads, when they are free
    again. What is damaged goes in under a name that neither a restore nor an unpacked folder takes for a shard's.
    It holds the secret that keys are hashed with, so it is as private as the folder.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as spool:
        with store.everything() as contents, tarfile.open(fileobj=spool, mode="w") as tar:
            for name, data in contents.items():
                _add(tar, f"{name}.json", data, now)
            if store.kept_secret is not None:
                _add(tar, SECRET_KEY, store.kept_secret, now)
        spool.seek(0)
        with (
            gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=now.timestamp()) as zipped,
            tarfile.open(fileobj=spool, mode="r:") as spooled,
            tarfile.open(fileobj=zipped, mode="w|") as tar,
        ):
            return _add_checked(tar, spooled, now)


def _add_checked(tar: tarfile.TarFile, spooled: tarfile.TarFile, now: datetime) -> tuple[int, list[str]]:
    count, problems = 0, []
    for member in spooled:
        data = _bytes(spooled, member)
        try:
            if member.name != SECRET_KEY:
                _require_good(member.name.removesuffix(".json"), data, member.name)
            _add(tar, member.name, data, now)
            count += 1
        except Damaged as damage:
            _add(tar, f"{member.name}{DAMAGED}", data, now)
            problems.append(str(damage))
    return count, problems


def _require_good(name: str, data: bytes, place: str) -> None:
    """Raise StoreError unless a shard's content can be decoded to its last document."""
    shard_named(name).view.of(brought_along(name, data, place), place).decode_all()


def restore_backup(store: Store, source: BinaryIO) -> tuple[int, list[str]]:
    """Put a backup in place of all that the store holds; how many files those were, and which it left out, since they
    were damaged as it was made.

    Every document is decoded before anything is replaced: StoreError names the file that is no good. A running
    server goes on with what was restored, but for the secret, which it reads at its start.
    """
    try:
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as spool:
            with gzip.GzipFile(fileobj=source, mode="rb") as zipped:
                shutil.copyfileobj(zipped, spool)  # to its end, where its checksum is: a tar that was cut off has none
            spool.seek(0)
            with tarfile.open(fileobj=spool, mode="r:") as tar:
                return _restore(store, tar)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StoreError(f"this is no backup, or a damaged one: {error}") from error


def copy_store(source: Store, target: Store) -> int:
    """Put all that a store holds into another one, which must be empty, and say how many shards that were. Raises
    StoreError, before anything is copied, for a target that has something and a source that is not all good."""
    with target.everything() as found:
        if found:
            raise StoreError(f"{target.where} is not empty: it has {len(found)} files, the first is {min(found)}")
    for problem in source.problems():
        raise StoreError(f"nothing was copied: {problem}")
    with source.everything() as contents:
        target.replace_everything(contents, source.kept_secret)
        return len(contents)


def _restore(store: Store, tar: tarfile.TarFile) -> tuple[int, list[str]]:
    contents = _Contents(tar)
    for name, data in contents.items():
        _require_good(name, data, contents.place(name))
    store.replace_everything(contents, contents.secret)
    return len(tar.getmembers()) - len(contents.left_out), contents.left_out


class _Contents(Mapping[str, bytes]):
    """The shards in a tar, read one at a time, in the present schema."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.left_out = sorted(name.removesuffix(DAMAGED) for name in tar.getnames() if name.endswith(DAMAGED))
        good = [member for member in tar.getmembers() if not member.name.endswith(DAMAGED)]
        self._members = {member.name.removesuffix(".json"): member for member in good}
        secret = self._members.pop(SECRET_KEY, None)
        self.secret = None if secret is None else _bytes(tar, secret)
        for name, member in self._members.items():
            if not (is_shard_name(name) and member.name == f"{name}.json" and member.isfile()):
                raise StoreError(f"this is no backup: {member.name!r} is no file of a store")

    def place(self, name: str) -> str:
        return f"{self._members[name].name} in the backup"

    def __getitem__(self, name: str) -> bytes:
        return brought_along(name, _bytes(self._tar, self._members[name]), self.place(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    found = tar.extractfile(member)
    return b"" if found is None else found.read()


def _add(tar: tarfile.TarFile, name: str, data: bytes, now: datetime) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o600, int(now.timestamp())
    tar.addfile(member, io.BytesIO(data))
