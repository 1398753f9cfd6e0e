"""PostgreSQL as the store: what it is asked, locks, and connections that are lost at any point."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from store import LEASES, REGISTRY, Busy, Store, StoreError, group_records, heartbeat_of, inventory_of
from store.postgres.stamps import EVERYTHING, REMOVALS, Stamps
from store.postgres.work import NOTE_END
from tests.postgres_server import Server
from tests.store_samples import dataset, event, heartbeat, put_systems, state, system

NAS = inventory_of("nas")
RECORDS = group_records("g")


@pytest.fixture
def address(postgresql: Server) -> str:
    return postgresql.address(postgresql.new_schema())


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = Store.open(address)
    yield opened
    opened.close()


@pytest.fixture
def other(store: Store, address: str) -> Iterator[Store]:
    """Another instance."""
    opened = Store.open(address)
    yield opened
    opened.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each question to the database from now on."""
    questions: list[str] = []
    execute: Any = psycopg.Cursor.execute

    def noted(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        questions.append(query.decode() if isinstance(query, bytes) else str(query))
        return execute(cursor, query, *arguments, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    return questions


# --- what it costs -------------------------------------------------------------------------------


def test_a_block_of_reads_asks_once_and_fetches_nothing_that_it_knows(store: Store, asked: list[str]) -> None:
    shards = [heartbeat_of(f"{n}") for n in range(20)]
    with store.transaction(*shards) as tx:
        for shard in shards:
            tx[shard].heartbeats.put(heartbeat("x"))
    asked.clear()
    with store.reading():
        assert all(len(store.read(shard).heartbeats) == 1 for shard in shards)
        assert len(store.shards("heartbeats")) == 20
    assert len(asked) == 1


def test_only_what_others_wrote_is_fetched_again(store: Store, other: Store, asked: list[str]) -> None:
    put_systems(store, "a")
    with store.transaction(NAS) as tx:
        tx[NAS].datasets.put(dataset("tank"))
    other.read(NAS), other.read(REGISTRY)
    put_systems(store, "b")
    asked.clear()
    with other.reading():
        assert other.read(NAS).datasets.ids() == ["tank"]
        assert other.read(REGISTRY).systems.ids() == ["a", "b"]
    assert len(asked) == 2


def test_a_write_takes_three_questions(store: Store, asked: list[str]) -> None:
    put_systems(store, "a")
    asked.clear()
    put_systems(store, "b")
    assert len(asked) == 3  # the lock, the content, the commit


# --- what changed since --------------------------------------------------------------------------


def test_what_fails_between_two_changes_leaves_neither(store: Store, other: Store) -> None:
    put_systems(store, "a")
    engine = store._engine
    before = engine.read("registry")

    def replace_and_fail() -> None:
        with engine.locked(["registry", "leases"], 1):
            engine.replace({"registry": b"{"})
            engine.remove("leases")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        replace_and_fail()
    assert engine.read("registry") == before
    assert other.read(REGISTRY).systems.ids() == ["a"]


def test_what_another_removed_is_gone_here(store: Store, other: Store) -> None:
    put_systems(store, "a")
    assert other.read(REGISTRY).systems.ids() == ["a"]
    store.remove(REGISTRY)
    assert other.read(REGISTRY).systems.ids() == []
    put_systems(store, "b")
    assert other.read(REGISTRY).systems.ids() == ["b"]


def test_a_transaction_that_began_early_and_ends_late_is_not_missed(
    store: Store, other: Store, postgresql: Server, address: str
) -> None:
    """Its number is lower than those of others that were seen before it ended."""
    put_systems(store, "a")
    with psycopg.connect(address) as early:
        early.execute("SELECT pg_current_xact_id()")
        for n in range(3):
            with store.transaction(heartbeat_of(f"{n}")) as tx:
                tx[heartbeat_of(f"{n}")].heartbeats.put(heartbeat("x"))
            assert len(other.shards("heartbeats")) == n + 1
        early.execute(
            "INSERT INTO zfs_sync_shards (name, stamp, data) SELECT 'heartbeats/late', 'late', data"
            " FROM zfs_sync_shards WHERE name = 'heartbeats/0'"
        )
        early.commit()
    assert heartbeat_of("late") in other.shards("heartbeats")


def answer(ended: int, *rows: tuple[str, str], server: str = "s", running: str = "") -> list[tuple[Any, ...]]:
    """A database's answer, after so many transactions."""
    snapshot = f"{ended}:{ended}:{running}"
    return [(server, snapshot, *row) for row in rows] or [(server, snapshot, None, None)]


def test_an_answer_that_comes_late_does_not_undo_a_newer_one() -> None:
    stamps = Stamps()
    assert stamps.apply(EVERYTHING, answer(10, ("a", "1")))
    assert stamps.apply(10, answer(12, ("a", "3")))
    assert stamps.apply(10, answer(11, ("a", "2")))
    assert (stamps.get("a"), stamps.since) == ("3", 12)
    assert stamps.apply(EVERYTHING, answer(11, ("a", "2"), ("b", "1")))
    assert (stamps.get("a"), stamps.get("b")) == ("3", None)


@pytest.mark.parametrize(
    "later",
    [
        (10, answer(12, ("a", "2"), server="another")),
        (10, answer(12, ("a", "2"), (REMOVALS, "9"))),
        (11, answer(12, ("a", "2"))),  # what was written at 10 is not in it
    ],
    ids=["another server", "something was removed", "it leaves a gap"],
)
def test_an_answer_that_is_not_enough_is_refused(later: tuple[int, Any]) -> None:
    stamps = Stamps()
    assert stamps.apply(EVERYTHING, answer(10, ("a", "1"), ("gone", "1"), (REMOVALS, "8")))
    assert not stamps.apply(*later)
    assert stamps.get("a") == "1"
    assert stamps.apply(EVERYTHING, answer(12, ("a", "2"), server=later[1][0][0]))
    assert (stamps.get("a"), stamps.get("gone")) == ("2", None)


def test_a_dump_of_an_older_server_is_numbered_anew(store: Store, address: str, postgresql: Server) -> None:
    """The numbers in it are of transactions that are still to come here, and would be asked for again and again."""
    put_systems(store, "a")
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE zfs_sync_shards SET written = '123456789012'")
    later = Store.open(address)
    later.read(REGISTRY)
    with psycopg.connect(address) as connection:
        found = connection.execute("SELECT count(*) FROM zfs_sync_shards WHERE written = '123456789012'").fetchone()
    assert found == (0,)


# --- lost connections ----------------------------------------------------------------------------


def test_a_connection_that_was_ended_is_not_noticed(store: Store, postgresql: Server) -> None:
    put_systems(store, "a")
    postgresql.end_connections()
    assert store.read(REGISTRY).systems.ids() == ["a"]
    postgresql.end_connections()
    put_systems(store, "b")
    postgresql.end_connections()
    store.check()
    postgresql.end_connections()
    assert store.size_bytes() > 0
    assert store.read(REGISTRY).systems.ids() == ["a", "b"]


def test_a_transaction_whose_connection_is_lost_is_taken_up_again(store: Store, postgresql: Server) -> None:
    put_systems(store, "a")
    with store.transaction(REGISTRY, LEASES) as tx:
        postgresql.end_connections()
        tx[REGISTRY].systems.put(system("b"))
        assert store.shards("heartbeats") == []
        postgresql.end_connections()
        store.add_event(event("1"))
        postgresql.end_connections()
    assert store.read(REGISTRY).systems.ids() == ["a", "b"]
    assert [found.id for found in store.events()] == ["1"]


def test_but_not_over_what_others_wrote_meanwhile(store: Store, other: Store, postgresql: Server) -> None:
    put_systems(store, "a")

    def lose_the_race() -> None:
        with store.transaction(REGISTRY) as tx:
            tx[REGISTRY].systems.put(system("mine"))
            postgresql.end_connections()
            put_systems(other, "theirs")

    with pytest.raises(Busy, match="registry was changed by others while the connection to the database was lost"):
        lose_the_race()
    assert store.read(REGISTRY).systems.ids() == ["a", "theirs"]
    put_systems(store, "mine")
    assert store.read(REGISTRY).systems.ids() == ["a", "theirs", "mine"]


def test_nor_over_a_shard_that_others_made_meanwhile(store: Store, other: Store, postgresql: Server) -> None:
    def lose_the_race() -> None:
        with store.transaction(RECORDS) as tx:
            tx[RECORDS].states.put(state("mine"))
            postgresql.end_connections()
            with other.transaction(RECORDS) as theirs:
                theirs[RECORDS].states.put(state("theirs"))

    with pytest.raises(Busy):
        lose_the_race()
    assert store.read(RECORDS).states.ids() == ["theirs"]


def around_the_commit(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Do something right before and right after the next COMMIT, which then ends as if without an answer."""
    execute: Any = psycopg.Cursor.execute
    done: list[bool] = []

    def interfered(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if not (isinstance(query, bytes) and query.startswith(b"COMMIT")) or done:
            return execute(cursor, query, *arguments, **options)
        done.append(True)
        before()
        result = execute(cursor, query, *arguments, **options)
        while result.nextset():
            pass
        after()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(psycopg.Cursor, "execute", interfered)


def nothing() -> None:
    """Let it be."""


def test_a_commit_that_was_done_but_not_answered_is_not_done_twice(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_systems(store, "a")
    around_the_commit(monkeypatch, nothing, nothing)
    put_systems(store, "b")
    view = other.read(REGISTRY)
    assert view.systems.ids() == ["a", "b"]
    assert view.meta.gen == 2
    store.remove(REGISTRY)
    around_the_commit(monkeypatch, nothing, nothing)
    store.remove(REGISTRY)
    assert other.read(REGISTRY).systems.ids() == []


def test_a_commit_that_was_not_done_is_done_again(
    store: Store, other: Store, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_systems(store, "a")
    around_the_commit(monkeypatch, postgresql.end_connections, nothing)
    put_systems(store, "b")
    assert other.read(REGISTRY).systems.ids() == ["a", "b"]


def test_a_commit_of_which_nothing_can_be_told_is_said_to_be_unknown(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was done, and others wrote over it before we could look."""
    put_systems(store, "a")
    around_the_commit(monkeypatch, nothing, lambda: put_systems(other, "theirs"))
    with pytest.raises(StoreError, match="whether this was saved is not known, so ask again"):
        put_systems(store, "b")
    assert store.read(REGISTRY).systems.ids() == ["a", "b", "theirs"]


def test_transactions_in_each_others_way_are_tried_again(
    store: Store, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_systems(store, "a")
    execute: Any = psycopg.Cursor.execute
    failures = [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected, psycopg.errors.AdminShutdown]

    def failing(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if failures and str(query).startswith("INSERT"):
            raise failures.pop()("not now")
        return execute(cursor, query, *arguments, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", failing)
    put_systems(store, "b")
    assert failures == []
    assert store.read(REGISTRY).systems.ids() == ["a", "b"]


def test_a_database_that_is_strict_by_default_loses_nothing(postgresql: Server) -> None:
    schema = postgresql.new_schema()
    options = f"-csearch_path={schema} -cdefault_transaction_isolation=serializable"
    stores = [Store.open(postgresql.address(options=options)) for _ in range(2)]

    def count(store: Store) -> None:
        for n in range(30):
            with store.transaction(RECORDS, lock_timeout_s=30) as tx:
                tx[RECORDS].states.put(state(f"{id(store)} {n}"))

    threads = [threading.Thread(target=count, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].read(RECORDS).states) == 60
    for store in stores:
        store.close()


# --- waiting -------------------------------------------------------------------------------------


def test_the_time_for_locks_is_for_all_of_them_together(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the first lock has used it up, so that the second one, which comes free later, is not waited for."""
    monkeypatch.setattr("store.postgres.work.NOTE_END", NOTE_END.replace("{limit_ms}", "0 * {limit_ms}"))
    refused, held = threading.Event(), threading.Event()

    def hold() -> None:
        with other.transaction(LEASES):
            held.set()
            refused.wait(2)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with pytest.raises(Busy, match="leases"), store.transaction(REGISTRY, LEASES, lock_timeout_s=30):
        raise RuntimeError("not reached")
    refused.set()
    holder.join()


def test_a_lock_inside_another_that_is_not_free_leaves_the_outer_one(store: Store, other: Store) -> None:
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("a"))
        with (
            other.transaction(RECORDS),
            pytest.raises(Busy, match="groups/g"),
            store.transaction(RECORDS, lock_timeout_s=0.05),
        ):
            raise RuntimeError("not reached")
        with pytest.raises(Busy), other.transaction(REGISTRY, lock_timeout_s=0.05):
            raise RuntimeError("not reached")
    assert other.read(REGISTRY).systems.ids() == ["a"]


def test_stores_of_two_schemas_do_not_wait_for_each_other(store: Store, postgresql: Server) -> None:
    apart = Store.open(postgresql.address(postgresql.new_schema()))
    with store.transaction(REGISTRY), apart.transaction(REGISTRY, lock_timeout_s=0.05) as tx:
        tx[REGISTRY].systems.put(system("a"))
    assert store.read(REGISTRY).systems.ids() == []
    apart.close()


def test_the_locks_of_an_instance_that_is_stuck_come_free(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that lost its power says no goodbye. One that was only slow finds out when it goes on."""
    monkeypatch.setattr("store.postgres.work.IDLE_LIMIT", "SET LOCAL idle_in_transaction_session_timeout = '100ms'")

    def be_stuck() -> None:
        with store.transaction(REGISTRY) as tx:
            tx[REGISTRY].systems.put(system("slow"))
            with other.transaction(REGISTRY, lock_timeout_s=20) as theirs:
                theirs[REGISTRY].systems.put(system("quick"))

    with pytest.raises(Busy):
        be_stuck()
    assert store.read(REGISTRY).systems.ids() == ["quick"]
