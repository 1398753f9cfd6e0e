"""Connections to PostgreSQL: a pool in each process, what a new one may mend, and refusals without a password."""

import logging
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from store.errors import StoreError, StoreFull

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

PAUSE_S = 0.02  # between two attempts
ONE_WAIT_S = (
    0.25  # for a connection of the pool, before asking again: a failed attempt to connect is not repeated by it
)

# What the address does not say otherwise. A server that is gone without a word is noticed within half a minute.
DEFAULTS: dict[str, str | int] = {
    "fallback_application_name": "zfs-sync",
    "connect_timeout": 5,
    "target_session_attrs": "read-write",  # of several hosts, the one that is not a standby
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

SILENCE_S = 30.0

log = logging.getLogger("psycopg.pool")


class _Seldom(logging.Filter):
    """Lets a message of the pool pass once in a while: as long as the server is gone, it has several a second."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._told.get(record.msg, -SILENCE_S) < SILENCE_S:
            return False
        self._told[record.msg] = now
        return True


log.setLevel(logging.WARNING)  # it would tell of each connection that is lent
log.addFilter(_Seldom())


class Connections:
    """The connections of one engine to its database."""

    def __init__(self, address: str, limit: int) -> None:
        try:
            given = conninfo_to_dict(address)
            self._conninfo = make_conninfo("", **(DEFAULTS | given | {"client_encoding": "UTF8"}))
        except psycopg.Error:  # its message may hold the password
            raise StoreError("store_url cannot be read: expected postgresql://user:password@host/database") from None
        host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or "this machine"
        database = given.get("dbname") or os.environ.get("PGDATABASE") or "of the user's name"
        self.place = f"PostgreSQL database {database} on {host}"
        self._limit = limit
        self._pool: ConnectionPool[Connection] | None = None
        self._pid = 0
        self._inherited: list[object] = []

    def connect(self) -> Connection:
        """A connection outside the pool, for the start: it says why there can be none."""
        return psycopg.connect(self._conninfo, autocommit=True)

    def lend(self, wait_s: float) -> Connection:
        """A connection, to be given back. Raises PoolTimeout."""
        return self._of_this_process().getconn(timeout=max(0.001, min(wait_s, ONE_WAIT_S)))

    def give_back(self, connection: Connection) -> None:
        """The pool replaces it if it is closed or broken."""
        self._of_this_process().putconn(connection)

    def close(self) -> None:
        """Close the connections that nobody has; a later use opens new ones."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.close()
            self._pool = None

    def retrying(self, attempt: Callable[[Connection], T], limit_s: float) -> T:
        """What an attempt answers. It is made again, on another connection, for as long as a new one may do better and
        the time allows. Raises StoreError or StoreFull."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                connection = self.lend(deadline - time.monotonic())
                try:
                    return attempt(connection)
                except psycopg.Error as error:
                    if is_passing(error) or connection.info.transaction_status != TransactionStatus.IDLE:
                        connection.close()
                    raise
                finally:
                    self.give_back(connection)
            except psycopg.Error as error:
                self.pause_or_refuse(error, deadline)

    def pause_or_refuse(self, error: psycopg.Error, deadline: float) -> None:
        """Wait a moment after an error that may pass; raise StoreError or StoreFull for any other, or out of time."""
        if not is_passing(error) or time.monotonic() + PAUSE_S >= deadline:
            raise self.refusal(error) from error
        time.sleep(PAUSE_S)

    def refusal(self, error: psycopg.Error) -> StoreError:
        """An error in words for whoever asked."""
        if isinstance(error, PoolTimeout):
            return StoreError(f"{self.place}: there was no connection to be had in time; the log may say why")
        reason = error.diag.message_primary or str(error).strip().splitlines()[0]
        if isinstance(error, psycopg.errors.DiskFull):
            return StoreFull(f"{self.place}: {reason}. What was stored is unchanged; make room and try again")
        return StoreError(f"{self.place}: {reason}")

    def _of_this_process(self) -> ConnectionPool[Connection]:
        if self._pid != os.getpid():  # the first use, or the first after a fork: a socket is not to be shared
            self._inherited.append(self._pool)
            self._pool, self._pid = None, os.getpid()
        if self._pool is None:
            self._pool = ConnectionPool(
                self._conninfo,
                kwargs={"autocommit": True, "prepare_threshold": None},  # what is prepared would not survive a pooler
                min_size=0,
                max_size=self._limit,
                reconnect_timeout=0,  # whoever needs a connection asks again
                num_workers=1,
                name="store",
                open=True,
            )
            weakref.finalize(self, _close, self._pool, self._pid)
        return self._pool


def is_passing(error: psycopg.Error) -> bool:
    """Whether a new connection, or another attempt, may do better: the connection was lost or ended (PostgreSQL Error
    Codes: 08, 57P, 25P03), another server has taken over and this one only reads (25006), it has too many connections
    (53300), or transactions got in each other's way (40)."""
    if isinstance(error, psycopg.InterfaceError):
        return True  # the connection was closed
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(("08", "40", "57P", "25P03", "25P04", "25006", "53300"))


def _close(pool: ConnectionPool[Connection], pid: int) -> None:
    if os.getpid() == pid:
        pool.close()
