"""One transaction of one thread: the locks it holds, what it saw under them, and what it is going to write."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from store.postgres.connections import Connection
from store.postgres.stamps import REMOVALS, Rows, Stamps, changes_since
from store.shards import lock_of

# The snapshot of each statement is its own, so that what is read after a lock was had is what its last holder left.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# The server lets go of the locks of an instance that it no longer hears from.
IDLE_LIMIT = "SET LOCAL idle_in_transaction_session_timeout = '30s'"

# The time that a wait may take is for all locks together, so the server is to reckon.
CLOCK_MS = "1000 * extract(epoch FROM clock_timestamp())"
NOTE_END = f"SELECT set_config('zfs_sync.end_ms', ({CLOCK_MS} + {{limit_ms}})::text, true)"
LEFT_MS = f"greatest(1, ceil(current_setting('zfs_sync.end_ms')::numeric - {CLOCK_MS}))"
WHAT_IS_LEFT = f"SELECT set_config('lock_timeout', {LEFT_MS}::text, true)"

WRITE = (
    "INSERT INTO zfs_sync_shards (name, stamp, data) VALUES (%s, %s, %b)"
    " ON CONFLICT (name) DO UPDATE SET stamp = excluded.stamp, data = excluded.data, written = pg_current_xact_id()"
)
REMOVE = "DELETE FROM zfs_sync_shards WHERE name = ANY(%s)"

HELD_BY_OTHERS = (
    "SELECT ((classid::bigint << 32) | objid::bigint) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND objsubid = 1 AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class New(NamedTuple):
    """What a shard is going to be."""

    stamp: str | None  # None: it is removed
    data: bytes = b""


@dataclass(slots=True)
class Work:
    """A transaction between its first lock and its commit."""

    connection: Connection | None = None  # None: it was lost, and with it the locks
    locks: list[str] = field(default_factory=list)
    seen: dict[str, str | None] = field(default_factory=dict)  # the stamp that each shard had when it was first read
    new: dict[str, New] = field(default_factory=dict)
    sent: bool = False  # a COMMIT of what is new may have been done

    def note(self, name: str, stamp: str | None) -> None:
        """Remember what was seen, if others cannot change it meanwhile."""
        if lock_of(name) in self.locks:
            self.seen.setdefault(name, stamp)

    def is_saved(self, stamps: Stamps) -> bool:
        """Whether what is new is there, given that a COMMIT may have been done: it was done as a whole."""
        written = [stamps.get(name) == new.stamp for name, new in self.new.items() if new.stamp is not None]
        return any(written) if written else all(stamps.get(name) is None for name in self.new)

    def write(self, connection: Connection) -> None:
        """Send what is new, to be committed."""
        written = [(name, new.stamp, new.data) for name, new in self.new.items() if new.stamp is not None]
        removed = [name for name, new in self.new.items() if new.stamp is None]
        if removed:
            connection.execute(REMOVE, (removed,))
            written.append((REMOVALS, new_stamp(), b""))
        if len(written) == 1:
            connection.execute(WRITE, written[0])
        else:
            with connection.cursor() as cursor:
                cursor.executemany(WRITE, sorted(written))


def new_stamp() -> str:
    """One that no other content ever had."""
    return secrets.token_hex(16)


def key_of(schema: str, lock: str) -> int:
    """The number that stands for a lock. Those of another schema of the database are others."""
    return int.from_bytes(blake2b(f"{schema}/{lock}".encode(), digest_size=8).digest(), signed=True)


def take_locks(connection: Connection, keys: Sequence[int], timeout_s: float, since: int, nested: bool) -> Rows:
    """Take locks in this order, in one round trip, and say what has changed since. Raises LockNotAvailable when they
    cannot all be had in time; within a transaction (`nested`) what was held before is then still held."""
    limit_ms = max(1, math.ceil(timeout_s * 1000))  # 0 would be no limit
    statements = ["SAVEPOINT more"] if nested else [BEGIN, IDLE_LIMIT]
    statements.append(NOTE_END.format(limit_ms=limit_ms))
    for number, key in enumerate(keys):
        statements.append(WHAT_IS_LEFT if number else f"SET LOCAL lock_timeout = {limit_ms}")
        statements.append(f"SELECT pg_advisory_xact_lock({key:d})")
    statements += ["SET LOCAL lock_timeout = DEFAULT", *["RELEASE SAVEPOINT more"] * nested]
    return last_result(connection, [*statements, changes_since(since)])


def held_by_others(connection: Connection, keys: Sequence[int]) -> list[int]:
    """Which of these locks somebody else has now."""
    held = {key for (key,) in connection.execute(HELD_BY_OTHERS)}
    return [key for key in keys if key in held]


def last_result(connection: Connection, statements: Sequence[str]) -> Rows:
    """Run statements in one round trip; the rows of the last one."""
    with connection.cursor() as cursor:
        cursor.execute("; ".join(statements).encode())
        while cursor.nextset():
            pass
        return cursor.fetchall()
