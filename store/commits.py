"""Journals of transactions over several files: what one that was killed has begun, the next one completes.

    commits/<lock>.<random>.json  {"registry":{"temporary":".registry.json.….tmp","size_bytes":812,"head":"7b22…"},…}

A journal is durable before the first of its files is renamed, and is removed after the last. Its writer holds the locks
of all its shards meanwhile: whoever has taken one of them knows that the writer is no more. A file that was written to
since, or a temporary file that is not whole, as in a copy of the folder, is never touched by it.
"""

import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Raw, Struct

from store import codec
from store.durable import head_of, sync_folder, write_new
from store.engine import SECRET_KEY
from store.errors import Busy, Damaged, StoreError, refusals
from store.locks import Locks
from store.shards import is_shard_name, lock_of

_JOURNAL = re.compile(r"(.+)\.[0-9a-f]{16}\.json")  # a lock of its writer, and what makes it unlike others


class Waiting(Struct, frozen=True):
    """A shard's next content, in a temporary file beside the one whose place it is going to take."""

    temporary: str  # the file's name
    size_bytes: int
    head: str | None  # what the content in its place begins with, in hex; None: there is none


class Commits:
    """The journals in a store's folder."""

    def __init__(self, folder: Path, locks: Locks, place: Callable[[str], str]) -> None:
        self._store = folder
        self._folder = f"{folder}/commits"
        self._locks = locks
        self._place = place

    def note(self, temporaries: Mapping[str, str]) -> str:
        """Write a journal of the shards whose places these files are about to take; its path."""
        for folder in set(map(os.path.dirname, temporaries.values())):  # power that fails may not take what it names
            with refusals(folder):
                sync_folder(folder)
        waiting = {name: self._waiting(name, temporary) for name, temporary in temporaries.items()}
        lock = lock_of(next(iter(temporaries))).replace("/", "__")
        journal = f"{self._folder}/{lock}.{secrets.token_hex(8)}.json"
        content = bytes(codec.encode_document(waiting))
        with refusals(journal):
            try:
                write_new(journal, content)
            except FileNotFoundError:
                os.mkdir(self._folder, 0o700)
                sync_folder(self._store)
                write_new(journal, content)
            try:
                sync_folder(self._folder)
            except BaseException:
                os.unlink(journal)
                raise
        return journal

    def drop(self, journal: str) -> None:
        """All is in place. What may still fail here does no harm: the journal says what is so already."""
        with suppress(OSError):
            os.unlink(journal)

    def withdraw(self, journal: str) -> None:
        """Nothing is in place, and nothing is to be."""
        with suppress(OSError):
            os.unlink(journal)
            sync_folder(self._folder)

    def finish(self, locks: Sequence[str]) -> None:
        """Complete what others have begun under these locks, which the caller has just taken."""
        for journal in self._journals():
            waiting = self._read(journal)
            if not {lock_of(name) for name in waiting}.isdisjoint(locks):
                self._finish(journal, waiting, locks)

    def sweep(self) -> None:
        """At the start: complete what nobody is at, and remove what cannot be read. What fails now, the next writer of
        the same files is told."""
        for journal in self._journals():
            for lock in {lock_of(name) for name in self._read(journal)} or {_lock_in_name(journal)}:
                with suppress(Busy, StoreError), self._locks.hold([lock], timeout_s=0):
                    if not self._read(journal):  # still, when nobody can be writing it
                        self.drop(journal)
                    self.finish([lock])

    def _finish(self, journal: str, waiting: Mapping[str, Waiting], locks: Sequence[str]) -> None:
        """What lies under further locks is completed, too, where these are free."""
        paths = {name: self._place(name) for name in waiting}
        beside = {name: f"{os.path.dirname(paths[name])}/{each.temporary}" for name, each in waiting.items()}
        for name, each in waiting.items():
            if lock_of(name) in locks:
                _put_in_place(each, beside[name], paths[name])
            elif os.path.lexists(beside[name]):
                with suppress(Busy), self._locks.hold([lock_of(name)], timeout_s=0):
                    _put_in_place(each, beside[name], paths[name])
        if not any(map(os.path.lexists, beside.values())):
            for folder in {os.path.dirname(path) for path in paths.values()}:
                with refusals(folder), suppress(FileNotFoundError):
                    sync_folder(folder)
            self.drop(journal)

    def _journals(self) -> list[str]:
        with refusals(self._folder):
            try:
                names = os.listdir(self._folder)
            except FileNotFoundError:
                return []
        return [f"{self._folder}/{name}" for name in names if _JOURNAL.fullmatch(name)]

    def _read(self, journal: str) -> dict[str, Waiting]:
        """What waits by a journal. Nothing: it is gone, or was not written to its end, so that nothing was begun."""
        with refusals(journal):
            try:
                waiting = codec.decode_document(Raw(Path(journal).read_bytes()), dict[str, Waiting], journal)
            except (FileNotFoundError, Damaged):
                return {}
        known = all(name == SECRET_KEY or is_shard_name(name) for name in waiting)
        return waiting if known and not any("/" in each.temporary for each in waiting.values()) else {}

    def _waiting(self, name: str, temporary: str) -> Waiting:
        path = self._place(name)
        with refusals(path):
            return Waiting(os.path.basename(temporary), os.stat(temporary).st_size, _hex(head_of(path)))


def _put_in_place(waiting: Waiting, temporary: str, path: str) -> None:
    """Do what was begun, unless it is done, or is not to be any more."""
    with refusals(path), suppress(FileNotFoundError):
        if os.stat(temporary).st_size == waiting.size_bytes and _hex(head_of(path)) == waiting.head:
            os.replace(temporary, path)
        else:
            os.unlink(temporary)


def _hex(head: bytes | None) -> str | None:
    return None if head is None else head.hex()


def _lock_in_name(journal: str) -> str:
    found = _JOURNAL.fullmatch(os.path.basename(journal))
    assert found is not None
    return found[1].replace("__", "/", 1)
