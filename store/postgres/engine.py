"""Shards as rows of one PostgreSQL table.

    zfs_sync_shards (name, stamp, written, data)

Readers take no lock: they ask what has changed since they last asked, and fetch only that. A writer takes advisory
locks, which end with its transaction, and all that it replaces is committed at once when its outermost lock ends.

When the connection is lost before that, so are the locks. The transaction is then taken up again on a new one: the
same locks, and if what was read under them is still the same, the same writes. After a COMMIT without an answer, the
stamps tell whether it was done.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import local
from typing import TypeVar

import psycopg

from store.codec import HEAD_BYTES
from store.engine import Held
from store.errors import Busy, StoreError
from store.postgres.connections import Connection, Connections, is_passing
from store.postgres.stamps import EVERYTHING, Stamps, changes_since
from store.postgres.tables import set_up
from store.postgres.work import New, Work, held_by_others, key_of, last_result, new_stamp, take_locks
from store.shards import is_shard_name

T = TypeVar("T")

CHECK_S = 1.0  # a probe that waits longer is given up by whoever sent it

FETCH = "SELECT stamp, data FROM zfs_sync_shards WHERE name = %s"
HEADS = f"SELECT name, substring(data FOR {HEAD_BYTES}) FROM zfs_sync_shards ORDER BY name"  # noqa: S608
SIZE = "SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM zfs_sync_shards"

# A dump that was restored into a younger server has numbers of transactions that are still to come.
TO_COME = "SELECT EXISTS (SELECT FROM zfs_sync_shards WHERE written >= pg_snapshot_xmax(pg_current_snapshot()))"
RENUMBER = "UPDATE zfs_sync_shards SET written = pg_current_xact_id() WHERE written > pg_current_xact_id()"


class _Here(local):
    """What this thread is doing."""

    work: Work | None = None
    reading = False  # in a block of `reading`
    fresh = False  # what has changed was asked since the block, or the transaction, began


class PostgresEngine:
    """A table in a database. `timeout_s` is how long a request may wait for the database to come back."""

    def __init__(self, address: str, *, timeout_s: float = 5.0, connections: int = 10) -> None:
        self._connections = Connections(address, connections)
        self._timeout_s = timeout_s
        self._here = _Here()
        self._stamps = Stamps()
        self._schema = self._first(set_up)

    # --- reading ---------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is read in this block is as of its beginning or later."""
        here = self._here
        if here.reading or here.work is not None:
            yield
            return
        here.reading = True
        try:
            yield
        finally:
            here.reading = here.fresh = False

    def read(self, name: str, known: object = None) -> Held | None:
        work = self._here.work
        if work is not None and name in work.new:
            stamp, data = work.new[name]
            return None if stamp is None else Held(stamp, None if stamp == known else data)
        stamp = self._current().get(name)
        if work is not None:
            work.note(name, stamp)
        if stamp is None:
            return None
        if stamp == known:
            return Held(stamp, None)
        found = self._on_connection(lambda connection: connection.execute(FETCH, (name,), binary=True).fetchone())
        if found is None or found[0] != stamp:
            self._here.fresh = False  # written since: what is known of the others may be as old
        return None if found is None else Held(*found)

    def heads(self) -> Iterator[tuple[str, bytes]]:
        found = self._on_connection(lambda connection: connection.execute(HEADS, binary=True).fetchall())
        return ((name, head) for name, head in found if is_shard_name(name))

    def names(self, kind: str = "") -> list[str]:
        prefix = f"{kind}/" if kind else ""
        names = set(self._current().names())
        for name, new in (self._here.work or Work()).new.items():
            (names.discard if new.stamp is None else names.add)(name)
        return sorted(name for name in names if name.startswith(prefix) and is_shard_name(name))

    @property
    def where(self) -> str:
        return self._connections.place

    def place(self, name: str) -> str:
        return f"{name} in the {self.where}"

    def size_bytes(self) -> int:
        (size,) = self._on_connection(lambda connection: connection.execute(SIZE).fetchall())[0]
        return int(size)

    def read_private(self, name: str) -> bytes | None:
        held = self.read(name)
        return None if held is None else held.data

    # --- writing ---------------------------------------------------------------------------------

    @contextmanager
    def locked(self, locks: Sequence[str], timeout_s: float) -> Iterator[None]:
        """Within another block of this thread, the locks are held, and what is replaced waits, until that one ends;
        nothing of it is done if that one raises."""
        here = self._here
        if here.work is not None:
            self._lock_more(here.work, locks, timeout_s)
            yield
            return
        work = here.work = Work()
        try:
            self._lock_first(work, locks, timeout_s)
            yield
            self._finish(work)
        finally:
            here.work = None
            here.fresh = here.fresh and here.reading
            self._let_go(work)

    def replace(self, contents: Mapping[str, bytes]) -> dict[str, object]:
        """What is read in this thread is as replaced at once; everywhere else, and durably, when the locks end."""
        new = {name: New(new_stamp(), data) for name, data in contents.items()}
        self._work.new.update(new)
        return {name: each.stamp for name, each in new.items()}

    def remove(self, name: str) -> None:
        if self.read(name, known=self._current().get(name)) is not None:
            self._work.new[name] = New(None)

    def keep_old(self, name: str, label: str, content: bytes) -> None:
        self._work.new[f"old/{name}.{label}"] = New(new_stamp(), content)

    def write_private(self, name: str, content: bytes) -> None:
        self._work.new[name] = New(new_stamp(), content)

    # --- the place as a whole --------------------------------------------------------------------

    def check(self) -> None:
        def probe(connection: Connection) -> None:
            work = Work(new={f"probe {new_stamp()}": New(new_stamp(), b"can this be written?")})
            connection.execute("BEGIN")
            work.write(connection)
            connection.execute("ROLLBACK")

        self._connections.retrying(probe, CHECK_S)

    def sweep(self) -> None:
        def renumber(connection: Connection) -> None:
            if connection.execute(TO_COME).fetchone() == (True,):
                connection.execute(RENUMBER)

        self._connections.retrying(renumber, self._timeout_s)

    def close(self) -> None:
        self._connections.close()

    # --- within ----------------------------------------------------------------------------------

    @property
    def _work(self) -> Work:
        work = self._here.work
        assert work is not None, "the caller holds the locks"
        return work

    def _first(self, attempt: Callable[[Connection], T]) -> T:
        """What an attempt on a connection of its own answers: here the reason why there is none can be told."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                with self._connections.connect() as connection:
                    return attempt(connection)
            except psycopg.Error as error:
                self._connections.pause_or_refuse(error, deadline)

    def _current(self) -> Stamps:
        """The stamps, as of now or, in a block, of its beginning."""
        here = self._here
        if not here.fresh:
            self._on_connection(self._refresh)
            here.fresh = here.reading or here.work is not None
        return self._stamps

    def _refresh(self, connection: Connection) -> None:
        since = self._stamps.since
        self._apply(connection, since, last_result(connection, [changes_since(since)]))

    def _apply(self, connection: Connection, since: int, rows: Sequence[tuple[object, ...]]) -> None:
        while not self._stamps.apply(since, rows):
            since, rows = EVERYTHING, last_result(connection, [changes_since(EVERYTHING)])

    def _on_connection(self, attempt: Callable[[Connection], T]) -> T:
        """What an attempt answers: on the connection of this thread's transaction, if it is in one."""
        work = self._here.work
        if work is None:
            return self._connections.retrying(attempt, self._timeout_s)
        return self._going_on(work, attempt)

    def _going_on(self, work: Work, attempt: Callable[[Connection], T]) -> T:
        """The same in a transaction, which is taken up again on a new connection when it was lost."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                if work.connection is None:
                    self._take_up(work, deadline)
                assert work.connection is not None
                return attempt(work.connection)
            except psycopg.Error as error:
                self._let_go(work, broken=is_passing(error))
                self._connections.pause_or_refuse(error, deadline)

    def _let_go(self, work: Work, broken: bool = False) -> None:
        """Give the connection back, rolled back."""
        connection, work.connection = work.connection, None
        if connection is None:
            return
        try:
            if not broken and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            broken = True
        finally:
            if broken:
                connection.close()
            self._connections.give_back(connection)

    def _lock_first(self, work: Work, locks: Sequence[str], timeout_s: float) -> None:
        deadline = time.monotonic() + self._timeout_s
        while work.connection is None:
            try:
                work.connection = self._connections.lend(deadline - time.monotonic())
                self._lock(work, locks, timeout_s, nested=False)
            except psycopg.Error as error:
                self._let_go(work, broken=is_passing(error))
                self._connections.pause_or_refuse(error, deadline)

    def _lock_more(self, work: Work, locks: Sequence[str], timeout_s: float) -> None:
        self._going_on(work, lambda connection: self._lock(work, locks, timeout_s, nested=True))

    def _lock(self, work: Work, locks: Sequence[str], timeout_s: float, nested: bool) -> None:
        """Take locks, and know all that was committed before they were free. Raises Busy."""
        connection, since = work.connection, self._stamps.since
        assert connection is not None
        keys = {key_of(self._schema, lock): lock for lock in locks}
        try:
            rows = take_locks(connection, list(keys), timeout_s, since, nested)
        except psycopg.errors.LockNotAvailable:
            connection.execute("ROLLBACK TO SAVEPOINT more" if nested else "ROLLBACK")
            held = held_by_others(connection, list(keys)) or list(keys)
            message = f"{keys[held[0]]} is being written by others; it was not free within {timeout_s:g} s"
            raise Busy(message) from None
        self._apply(connection, since, rows)
        self._here.fresh = True
        work.locks += locks

    def _take_up(self, work: Work, deadline: float) -> None:
        """Go on with a transaction on a new connection. Raises Busy if something was changed meanwhile."""
        work.connection = self._connections.lend(deadline - time.monotonic())
        locks, work.locks = work.locks, []
        try:
            self._lock(work, locks, max(0.0, deadline - time.monotonic()), nested=False)
        finally:
            work.locks = locks
        if work.sent and work.is_saved(self._stamps):
            return
        changed = [name for name, stamp in work.seen.items() if self._stamps.get(name) != stamp]
        if changed:
            work.new.clear()
            raise Busy(f"{changed[0]} was changed by others while the connection to the database was lost; ask again")

    def _finish(self, work: Work) -> None:
        """Commit what is new, and know what others have changed meanwhile."""
        if not work.new:
            return

        def save(connection: Connection) -> None:
            if work.sent and work.is_saved(self._stamps):
                return
            work.write(connection)
            work.sent = True
            since = self._stamps.since
            self._apply(connection, since, last_result(connection, ["COMMIT", changes_since(since)]))

        try:
            self._going_on(work, save)
        except (Busy, StoreError) as error:
            if work.sent:
                raise StoreError(f"whether this was saved is not known, so ask again: {error}") from error
            raise
