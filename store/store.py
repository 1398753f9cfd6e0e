"""The store: views of shards for readers, transactions for writers."""

import hashlib
import os
import re
import secrets
import time
from collections import ChainMap, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from threading import Lock, local
from typing import Any, NamedTuple, TypeVar, cast

from store.codec import ids_in
from store.documents import Event
from store.engine import SECRET_KEY, Engine
from store.engines import engine_at
from store.errors import Damaged, StoreError
from store.migrations import migrate
from store.shards import (
    LEASES,
    REGISTRY,
    Events,
    History,
    Shard,
    View,
    events_of,
    history_of,
    lock_of,
    shard_named,
)

V = TypeVar("V", bound=View)

EVENTS_PER_SEGMENT = 250  # each event rewrites its segment, so segments stay small
CACHE_BYTES = 256 * 2**20
_SEGMENT = re.compile(r"events/[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{4}")
SHORTEST_SECRET = 32


class _Work:
    """What a thread has locked and changed, from the beginning of its outermost block to the end of that."""

    def __init__(self) -> None:
        self.stack = ExitStack()  # gives the locks back
        self.locked: list[Shard[View]] = []  # those by which it took its locks, in their order
        self.open: list[Shard[View]] = []  # those of its blocks that have not ended
        self.unsaved: dict[Shard[View], View | None] = {}  # what those that have changed; None: it is to go


class _Here(local):
    """What this thread is doing."""

    work: _Work | None = None
    seen: dict[str, View] | None = None  # in a block of `reading`, what was read there


class Store:
    """Every shard of one witness. Any number of threads and processes may have one open on the same place."""

    def __init__(self, engine: Engine, *, lock_timeout_s: float = 5.0, secret: str | None = None) -> None:
        self._engine = engine
        self._lock_timeout_s = lock_timeout_s
        self._cache = _Cache(CACHE_BYTES)
        self._here = _Here()
        self.on_lock: Callable[[float, bool], None] | None = None  # told of each wait in seconds, and if it was enough
        engine.sweep()
        migrate(engine, lock_timeout_s)
        self.secret = _secret(engine, secret, lock_timeout_s)

    @classmethod
    def open(
        cls, place: Path | str, *, lock_timeout_s: float = 5.0, secret: str | None = None, threads: int = 8
    ) -> "Store":
        """The store in a folder, which is made if need be, or in a database (postgresql://...), for so many threads of
        this process. Without a `secret`, the store's own secret_key counts."""
        engine = engine_at(place, lock_timeout_s=lock_timeout_s, threads=threads)
        return cls(engine, lock_timeout_s=lock_timeout_s, secret=secret)

    def close(self) -> None:
        """Give back what is open; whoever goes on using the store opens it again."""
        self._engine.close()

    @property
    def where(self) -> str:
        """The folder or the database, in words, without a password."""
        return self._engine.where

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A block for several reads, each of which may be answered as of its beginning: whether something has changed
        is then asked only once. A transaction within it sees what was written before it, like any other."""
        here = self._here
        if here.seen is not None:
            yield
            return
        here.seen = {}
        try:
            with self._engine.reading():
                yield
        finally:
            here.seen = None

    def read(self, shard: Shard[V]) -> V:
        """A shard as it stands, without waiting for anyone. One that was never written has empty tables."""
        seen = self._here.seen
        if seen is None or self._here.work is not None:
            return self._read(shard)
        if shard.name not in seen:
            seen[shard.name] = self._read(shard)
        return cast(V, seen[shard.name])

    def _read(self, shard: Shard[V]) -> V:
        cached = self._cache.get(shard.name)
        held = self._engine.read(shard.name, cached.stamp if cached else None)
        if held is None:
            return cast(V, self._empty(shard))
        if held.data is None:
            assert cached is not None
            return cast(V, cached.view)
        view = shard.view.of(held.data, self._engine.place(shard.name))
        self._cache.put(shard.name, _Cached(held.stamp, view, len(held.data)))
        return cast(V, view)

    @contextmanager
    def transaction(self, *shards: Shard[View], lock_timeout_s: float | None = None) -> Iterator["Transaction"]:
        """Shards to change. Those that changed are saved, whole and durably, when the block ends without an exception;
        otherwise nothing is. Raises Busy if the locks can't be had in time.

        A transaction inside another is a part of that: its locks are kept, and its changes saved, with the outer one's,
        when that ends. It may only take shards that come later in the order of locks, as events do.
        """
        ordered = sorted(set(shards), key=lambda shard: shard.order)
        with self._locked(ordered, lock_timeout_s) as work, self._changes(ordered, work) as tx:
            yield tx

    def remove(self, shard: Shard[View]) -> None:
        """Drop a shard with all its documents."""
        with self._locked([shard], None) as work:
            work.unsaved[shard] = None

    def start_afresh(self, shard: Shard[V], fill: Callable[[V, set[str], str], None] | None = None) -> str | None:
        """Put an empty shard in the place of a damaged one, which is kept beside it, where only a person looks.

        `fill` may put documents into the new one; it is told what ids could still be read in the old one, and what
        was wrong. Returns the latter; None if nothing is, and then nothing changes.
        """
        with self._locked([shard], None) as work:
            held = self._engine.read(shard.name)
            problem = self._damage(shard)
            if problem is None or held is None or held.data is None:
                return None
            view = shard.view.of(None, self._engine.place(shard.name)).editable()
            if fill is not None:
                fill(cast(V, view), ids_in(held.data), problem)
            view.close()
            self._engine.keep_old(shard.name, f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}", held.data)
            work.unsaved[shard] = view
        return problem

    def put_aside(self, shard: Shard[View]) -> None:
        """Drop a shard; its content stays where only a person looks for it."""
        with self._locked([shard], None) as work:
            held = self._engine.read(shard.name)
            if held is not None and held.data is not None:
                self._engine.keep_old(shard.name, f"aside-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}", held.data)
            work.unsaved[shard] = None

    def _damage(self, shard: Shard[View]) -> str | None:
        try:
            self.read(shard).decode_all()
        except Damaged as damage:
            return str(damage)
        return None

    def shards(self, kind: str) -> list[Shard[View]]:
        """Every shard there is of a kind: heartbeats, inventories, groups, history or events; the oldest first."""
        return [shard_named(name) for name in self._engine.names(kind)]

    def history_segments(self, system_id: str) -> list[Shard[History]]:
        """A system's history, a shard a day, oldest first."""
        folder = history_of(system_id, "any").lock
        return [history_of(system_id, name.split("/")[2]) for name in self._engine.names(folder)]

    def event_segments(self) -> list[Shard[Events]]:
        """The audit trail in pieces, oldest first."""
        names = filter(_SEGMENT.fullmatch, self._engine.names("events"))  # people leave copies of files beside them
        return [events_of(name.split("/")[1]) for name in names]

    def add_event(self, event: Event) -> None:
        """Append to the audit trail, in the newest segment of the event's day or in a new one. In a transaction, the
        event is a part of that: it is there if, and only if, what it tells of is."""
        day = f"{event.at.astimezone(UTC):%Y-%m-%d}"
        with self._locked([events_of(day)], None) as work:
            segment = self._segment_to_fill(day, work)
            with self._changes([segment], work) as tx:
                tx[segment].events.put(event)

    def events(self) -> Iterator[Event]:
        """The audit trail, newest first, read piece by piece as far as the caller goes."""
        for segment in reversed(self.event_segments()):
            yield from sorted(self.read(segment).events, key=lambda event: (event.at, event.id), reverse=True)

    def drop_old_events(self, days: int, now: datetime | None = None) -> int:
        """Forget the audit trail of all but the last `days` days. Returns how many segments went."""
        return self._drop_before(self.shards("events"), days, now)

    def drop_old_history(self, days: int, now: datetime | None = None) -> int:
        """Forget every system's history of all but the last `days` days. Returns how many segments went."""
        return self._drop_before(self.shards("history"), days, now)

    def check(self) -> None:
        """Raise StoreError (or StoreFull) unless the store can be read and written now."""
        self.read(REGISTRY)
        self._engine.check()

    def size_bytes(self) -> int:
        """How much room everything takes."""
        return self._engine.size_bytes()

    def _segment_to_fill(self, day: str, work: _Work) -> Shard[Events]:
        there = [shard.name for shard in (*self.event_segments(), *work.unsaved)]
        of_day = [name for name in there if name.startswith(f"events/{day}-")]
        if not of_day:
            return events_of(f"{day}-0001")
        newest = events_of(max(of_day).split("/")[1])
        try:
            full = len(self._latest(newest, work).events) >= EVENTS_PER_SEGMENT
        except StoreError:
            full = True  # damaged: leave it as evidence, and go on beside it
        return events_of(f"{day}-{int(newest.name[-4:]) + 1:04}") if full else newest

    def problems(self) -> list[str]:
        """A line for each file that is not good to its last document. It decodes everything, so it takes its time."""
        found = []
        for name in self._engine.names():
            try:
                self.read(shard_named(name)).decode_all()
            except StoreError as error:
                found.append(str(error))
        return found

    @contextmanager
    def everything(self) -> Iterator[Mapping[str, bytes]]:
        """Every shard's content by its name, as of one moment: what there is then nobody writes in this block."""
        with self._locked_whole() as names:
            yield _Contents(self._engine, names)

    def replace_everything(self, contents: Mapping[str, bytes], secret: bytes | None = None) -> None:
        """Make these the store's shards, and drop all others; put another store's secret in place of its own, if there
        is one. That counts from the next start on."""
        with self._locked_whole(contents) as names, self._engine.locked([SECRET_KEY], self._lock_timeout_s):
            private = {} if secret is None else {SECRET_KEY: secret}
            self._engine.replace(ChainMap(private, cast(MutableMapping[str, bytes], contents)))
            for name in names:
                if name not in contents:
                    self._engine.remove(name)

    @property
    def kept_secret(self) -> bytes | None:
        """The secret as the store keeps it; None if it was given from outside."""
        return self._engine.read_private(SECRET_KEY)

    @contextmanager
    def _locked_whole(self, more: Iterable[str] = ()) -> Iterator[list[str]]:
        """The names of all shards, each of them locked, and `more`. One that is made while the locks are taken has a
        lock that was not among them: then they are taken again."""
        found = self._engine.names()
        while True:
            names = {REGISTRY.name, LEASES.name, *found, *more}
            shards = sorted(map(shard_named, names), key=lambda shard: shard.order)
            with self._locked(shards, None):
                found = self._engine.names()
                if {lock_of(name) for name in found} <= {shard.lock for shard in shards}:
                    yield found
                    return

    def _drop_before(self, segments: Sequence[Shard[View]], days: int, now: datetime | None) -> int:
        first_kept = f"{(now or datetime.now(UTC)) - timedelta(days=days):%Y-%m-%d}"
        old = [segment for segment in segments if segment.name.rpartition("/")[2] < first_kept]
        for segment in old:
            self.remove(segment)
        return len(old)

    @contextmanager
    def _locked(self, ordered: Sequence[Shard[View]], timeout_s: float | None) -> Iterator[_Work]:
        """Hold the locks of these shards to the end of this thread's outermost block. If that raises nothing, all that
        has changed is saved then."""
        assert ordered, "a transaction names its shards"
        here = self._here
        if here.work is not None:
            with self._block(here.work, ordered, timeout_s):
                yield here.work
            return
        work = _Work()
        with work.stack:
            with self._block(work, ordered, timeout_s):
                here.work = work
                try:
                    yield work
                finally:
                    here.work = None
                    if here.seen is not None:
                        here.seen.clear()
            self._save(work.unsaved)

    @contextmanager
    def _block(self, work: _Work, ordered: Sequence[Shard[View]], timeout_s: float | None) -> Iterator[None]:
        """One of a thread's blocks, with those locks taken that the others have not taken yet."""
        locked = {shard.lock for shard in work.locked}
        new = [shard for shard in ordered if shard.lock not in locked]
        for held, wanted in ((work.open, ordered), (work.locked, new)):
            if held and wanted:
                message = f"{wanted[0].name} can't be locked after {held[-1].name}"
                assert held[-1].order < wanted[0].order, message
        if new:
            self._wait_for(work.stack, list(dict.fromkeys(shard.lock for shard in new)), timeout_s)
            work.locked += new
        work.open += ordered
        try:
            yield
        finally:
            del work.open[-len(ordered) :]

    def _wait_for(self, stack: ExitStack, locks: Sequence[str], timeout_s: float | None) -> None:
        """Take locks that `stack` gives back, and tell how long that took."""
        started = time.perf_counter()
        free = False
        try:
            stack.enter_context(self._engine.locked(locks, self._lock_timeout_s if timeout_s is None else timeout_s))
            free = True
        finally:
            if self.on_lock is not None:
                self.on_lock(time.perf_counter() - started, free)

    @contextmanager
    def _changes(self, shards: Sequence[Shard[View]], work: _Work) -> Iterator["Transaction"]:
        """Shards to change, their locks being held."""
        tx = Transaction({shard: self._latest(shard, work).editable() for shard in shards})
        try:
            yield tx
        finally:
            for view in tx.views.values():
                view.close()
        for shard, view in tx.views.items():
            if view.changed or work.unsaved.get(shard) is not None:  # or was, and is now as it was before that
                work.unsaved[shard] = view

    def _latest(self, shard: Shard[V], work: _Work) -> V:
        """A shard with what this thread has changed in it."""
        if shard not in work.unsaved:
            return self._read(shard)
        view = work.unsaved[shard]
        return cast(V, self._empty(shard) if view is None else view)

    def _save(self, unsaved: Mapping[Shard[View], View | None]) -> None:
        """Put all changes in place; only then may what is to go. What is read first comes last: who has read a new
        inventory then reads the history of what went with the old one, and not what was there before."""
        in_order = sorted(unsaved.items(), key=lambda each: each[0].order, reverse=True)
        changed = {shard: view for shard, view in in_order if view is not None}
        contents = {shard.name: view.save() for shard, view in changed.items()}
        stamps = self._engine.replace(contents) if contents else {}
        for shard, view in changed.items():
            self._cache.put(shard.name, _Cached(stamps[shard.name], view, len(contents[shard.name])))
        for shard in unsaved.keys() - changed.keys():
            self._engine.remove(shard.name)
            self._cache.drop(shard.name)

    def _empty(self, shard: Shard[View]) -> View:
        return _never_written(cast(Any, shard.view), self._engine.place(shard.name))


class _Contents(Mapping[str, bytes]):
    """What every shard holds, read one at a time."""

    def __init__(self, engine: Engine, names: list[str]) -> None:
        self._engine = engine
        self._names = names

    def __getitem__(self, name: str) -> bytes:
        held = self._engine.read(name)
        if held is None or held.data is None:
            raise KeyError(name)
        return held.data

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Transaction:
    """The shards of a transaction, to be read and changed; what was changed is seen at once, here and nowhere else."""

    def __init__(self, views: dict[Shard[View], View]) -> None:
        self.views = views

    def __getitem__(self, shard: Shard[V]) -> V:
        return cast(V, self.views[shard])


class _Cached(NamedTuple):
    stamp: object
    view: View
    size_bytes: int


class _Cache:
    """Views this process has decoded, the longest unused going first when they get too many. Any of them may be out
    of date: the stamp tells."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._empty()

    def get(self, name: str) -> _Cached | None:
        if self._pid != os.getpid():
            self._empty()  # after a fork: another thread of the parent may have held the lock
        with self._lock:
            cached = self._views.get(name)
            if cached is not None:
                self._views.move_to_end(name)
            return cached

    def put(self, name: str, cached: _Cached) -> None:
        with self._lock:
            self._size_bytes -= self._views.pop(name).size_bytes if name in self._views else 0
            self._views[name] = cached
            self._size_bytes += cached.size_bytes
            while self._size_bytes > self._limit_bytes and len(self._views) > 1:
                self._size_bytes -= self._views.popitem(last=False)[1].size_bytes

    def drop(self, name: str) -> None:
        with self._lock:
            self._size_bytes -= self._views.pop(name).size_bytes if name in self._views else 0

    def _empty(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._views: OrderedDict[str, _Cached] = OrderedDict()
        self._size_bytes = 0


@lru_cache(maxsize=1024)
def _never_written(kind: type[View], place: str) -> View:
    """The empty tables of a shard that is not there. Readers share a view, and writers change a copy."""
    return kind.of(None, place)


def _secret(engine: Engine, given: str | None, timeout_s: float) -> bytes:
    """What keys are hashed and cookies signed with: the given secret, or the store's own, made at its first start."""
    if given is not None:
        return hashlib.sha256(given.strip().encode()).digest()
    kept = engine.read_private(SECRET_KEY)
    if kept is None:
        with engine.locked([SECRET_KEY], timeout_s):
            if engine.read_private(SECRET_KEY) is None:  # several workers start at once
                engine.write_private(SECRET_KEY, f"{secrets.token_hex(32)}\n".encode())
            kept = engine.read_private(SECRET_KEY) or b""
    if len(kept.strip()) < SHORTEST_SECRET:
        raise StoreError(f"{SECRET_KEY} in {engine.where} is damaged: it has {len(kept.strip())} characters")
    return hashlib.sha256(kept.strip()).digest()
