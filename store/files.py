"""Shards as files in a folder: read without a lock, replaced whole, never half of either.

    registry.json  leases.json  alerts.json  limits.json  heartbeats/<id>.json  inventories/<id>.json  groups/<id>.json
    history/<id>/<day>.json  events/<segment>.json  secret_key  locks/  commits/

A reader opens the old file or the new one, and reads on in the one it opened. A writer writes a temporary file
beside, makes it durable (fsync), renames it over the old one (atomic within a folder), and makes the folder durable,
without which the rename itself could be lost with the power. Several files take their places one after the other, once
a journal says which (`store.commits`).
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from store.codec import HEAD_BYTES
from store.commits import Commits
from store.durable import stamp_of, sync_folder, write_beside
from store.engine import SECRET_KEY, Held
from store.errors import Busy, StoreError, refusals
from store.locks import Locks
from store.shards import is_shard_name, lock_of

_TEMPORARY = re.compile(r"\.(.+?)(?:\.json(?:\.schema-\d+|\.(?:damaged|aside)-[^.]+\.\d+Z)?)?\.[0-9a-f]{16}\.tmp")


class FileEngine:
    """A folder of JSON files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with refusals(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for own in ("locks", "commits"):
                (folder / own).mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder)
        with suppress(OSError):  # a parent that we may not read is no reason not to start
            sync_folder(folder.parent)
        self._lock_folder = f"{folder}/locks"
        self._locks = Locks(folder / "locks")
        self._commits = Commits(folder, self._locks, self.place)

    def read(self, name: str, known: object = None) -> Held | None:
        path = self.place(name)
        with refusals(path):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self._expect_folder()
                return None
            try:
                head = os.read(descriptor, HEAD_BYTES)
                stamp = stamp_of(descriptor, head)
                if stamp == known:
                    return Held(stamp, None)
                with open(descriptor, "rb", closefd=False) as rest:
                    return Held(stamp, head + rest.read())
            finally:
                os.close(descriptor)

    def heads(self) -> Iterator[tuple[str, bytes]]:
        for name in self.names():
            path = self.place(name)
            with refusals(path), suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
                yield name, file.read(HEAD_BYTES)

    def reading(self) -> AbstractContextManager[None]:
        return nullcontext()  # to look whether a file has changed costs next to nothing

    @contextmanager
    def locked(self, locks: Sequence[str], timeout_s: float) -> Iterator[None]:
        """What a writer that was killed has left half done under these locks is whole when the block begins."""
        with self._locks.hold(locks, timeout_s):
            self._commits.finish(locks)
            yield

    def replace(self, contents: Mapping[str, bytes]) -> dict[str, object]:
        """All new contents are durable beside the old ones before the first takes its place: a full disk shows here.

        Should this be cut off while several take their places, the next one to lock any of them does the rest. Until
        then readers, who take no lock, see those that are in place, and of the others what was there before.
        """
        stamps: dict[str, object] = {}
        waiting: dict[str, str] = {}
        journal: str | None = None
        try:
            for name, data in contents.items():
                waiting[name], stamps[name] = self._write_waiting(name, data)
            if len(waiting) > 1:
                journal = self._commits.note(waiting)
            for name, temporary in waiting.items():
                path = self.place(name)
                with refusals(path):
                    os.replace(temporary, path)
        except BaseException:
            if all(map(os.path.lexists, waiting.values())):  # none has taken its place: this was not done
                self._give_up(waiting.values(), journal)
            raise
        self._sync_folders(contents)
        if journal is not None:
            self._commits.drop(journal)
        return stamps

    def _write_waiting(self, name: str, data: bytes) -> tuple[str, object]:
        path = self.place(name)
        with refusals(path):
            try:
                return write_beside(path, data)
            except FileNotFoundError:
                self._make_folders(name)
                return write_beside(path, data)

    def _give_up(self, temporaries: Iterable[str], journal: str | None) -> None:
        if journal is not None:
            self._commits.withdraw(journal)
        for temporary in temporaries:
            with suppress(OSError):
                os.unlink(temporary)

    def remove(self, name: str) -> None:
        path = self.place(name)
        with refusals(path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return
        self._sync_folders([name])

    def keep_old(self, name: str, label: str, content: bytes) -> None:
        self._write_file(f"{self.place(name)}.{label}", content)

    def names(self, kind: str = "") -> list[str]:
        folder = self._folder / kind
        with refusals(folder):
            found = [str(path.relative_to(self._folder))[: -len(".json")] for path in folder.rglob("*.json")]
            return sorted(filter(is_shard_name, found))

    def check(self) -> None:
        with refusals(self._folder):
            self._expect_folder()
            temporary, _ = write_beside(f"{self._folder}/probe", b"can this be written?\n")
            Path(temporary).unlink(missing_ok=True)  # another process that starts now may have swept it

    @property
    def where(self) -> str:
        return str(self._folder)

    def place(self, name: str) -> str:
        return f"{self._folder}/{name}" if name == SECRET_KEY else f"{self._folder}/{name}.json"

    def size_bytes(self) -> int:
        total = 0
        with refusals(self._folder):
            for path in self._folder.rglob("*.json"):
                with suppress(FileNotFoundError):  # removed meanwhile
                    total += path.stat().st_size
        return total

    def close(self) -> None:
        """What is open stays so: descriptors of lock files, which go with the process."""

    def sweep(self) -> None:
        """A temporary file belongs to whoever holds its shard's lock; without a holder, and when no journal waits for
        it any more, it is nobody's."""
        self._commits.sweep()
        with refusals(self._folder):
            for path in self._folder.rglob(".*.tmp"):
                found = _TEMPORARY.fullmatch(path.name)
                if found:
                    name = str(path.relative_to(self._folder).parent / found[1])
                    with suppress(Busy, StoreError), self.locked([lock_of(name)], timeout_s=0):
                        path.unlink(missing_ok=True)

    def read_private(self, name: str) -> bytes | None:
        path = self._folder / name
        with refusals(path):
            return path.read_bytes() if path.exists() else None

    def write_private(self, name: str, content: bytes) -> None:
        self._write_file(f"{self._folder}/{name}", content)

    def _write_file(self, path: str, content: bytes) -> None:
        with refusals(path):
            temporary, _ = write_beside(path, content)
            os.replace(temporary, path)
            sync_folder(Path(path).parent)

    def _expect_folder(self) -> None:
        """A folder that is gone, or a mount point with nothing mounted, is not an empty store."""
        with refusals(self._lock_folder):
            os.stat(self._lock_folder)

    def _make_folders(self, name: str) -> None:
        parent = self._folder
        for part in name.split("/")[:-1]:
            folder = parent / part
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
                sync_folder(parent)
            parent = folder

    def _sync_folders(self, names: Iterable[str]) -> None:
        for folder in {os.path.dirname(self.place(name)) for name in names}:
            with refusals(folder):
                sync_folder(folder)
