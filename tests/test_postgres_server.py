"""The database behind the store: restarts, roles, what it refuses, and what is never told of it."""

import logging
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from store import REGISTRY, Store, StoreError, StoreFull
from store.engines import engine_at
from store.postgres.engine import PostgresEngine
from tests.postgres_server import Server
from tests.store_samples import everything, put_content, put_systems


@pytest.fixture
def address(postgresql: Server) -> str:
    return postgresql.address(postgresql.new_schema())


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = Store.open(address)
    yield opened
    opened.close()


# --- the database itself -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_restart_is_waited_for(store: Store, postgresql: Server, how: str) -> None:
    put_systems(store, "a")
    postgresql.stop(how)
    found: list[list[str]] = []
    reader = threading.Thread(target=lambda: found.append(store.read(REGISTRY).systems.ids()))
    writer = threading.Thread(target=lambda: put_systems(store, "b"))
    reader.start()
    writer.start()
    postgresql.start()
    reader.join()
    writer.join()
    assert found[0][0] == "a"
    assert store.read(REGISTRY).systems.ids() == ["a", "b"]


def test_a_database_that_is_gone_is_an_error_that_says_so(
    address: str, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.engines.PATIENCE_S", 0.3)
    store = Store.open(address, lock_timeout_s=0.3)
    put_systems(store, "a")
    postgresql.stop()
    try:
        for attempt in (lambda: store.read(REGISTRY), lambda: put_systems(store, "b"), store.check):
            with pytest.raises(StoreError, match="no connection to be had in time"):
                attempt()
        with pytest.raises(StoreError, match=r"No such file or directory|Connection refused"):
            Store.open(address, lock_timeout_s=0.1)
    finally:
        postgresql.start()
    assert store.read(REGISTRY).systems.ids() == ["a"]
    store.close()


def test_a_database_that_only_reads_is_not_ready(store: Store, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_systems(store, "a")
    reader = Store.open(f"{address}%20-cdefault_transaction_read_only%3Don&target_session_attrs=any")
    assert reader.read(REGISTRY).systems.ids() == ["a"]
    with pytest.raises(StoreError, match="read-only"):
        reader.check()
    reader.close()


def test_a_full_disk_is_told_from_other_trouble(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    execute: Any = psycopg.Cursor.execute

    def full(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if str(query).startswith("INSERT"):
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")
        return execute(cursor, query, *arguments, **options)

    put_systems(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", full)
        with pytest.raises(StoreFull, match=r"No space left on device. What was stored is unchanged"):
            put_systems(store, "b")
    put_systems(store, "c")
    assert store.read(REGISTRY).systems.ids() == ["a", "c"]


def test_a_role_that_may_only_use_the_table_is_enough(store: Store, postgresql: Server, address: str) -> None:
    schema = address.partition("search_path%3D")[2]
    postgresql.run(f"CREATE ROLE user_of_{schema} LOGIN")
    postgresql.run(f"GRANT USAGE ON SCHEMA {schema} TO user_of_{schema}")
    postgresql.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.zfs_sync_shards TO user_of_{schema}")
    theirs = Store.open(postgresql.address(schema, user=f"user_of_{schema}"))
    theirs.check()
    put_systems(theirs, "a")
    theirs.remove(REGISTRY)
    assert everything(store) == {}
    theirs.close()


def test_a_role_that_may_not_make_the_table_is_told(postgresql: Server) -> None:
    schema = postgresql.new_schema()
    postgresql.run(f"CREATE ROLE user_of_{schema} LOGIN")
    postgresql.run(f"GRANT USAGE ON SCHEMA {schema} TO user_of_{schema}")
    with pytest.raises(StoreError, match=f"permission denied for schema {schema}"):
        Store.open(postgresql.address(schema, user=f"user_of_{schema}"))


def test_the_layout_of_a_later_version_is_refused(store: Store, address: str) -> None:
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE zfs_sync_shards SET data = '2' WHERE name = 'layout'")
    with pytest.raises(StoreError, match="has layout 2; this version of zfs-sync knows layout 1"):
        Store.open(address)


# --- what is never told --------------------------------------------------------------------------


def test_no_message_and_no_log_line_has_the_password(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("store.engines.PATIENCE_S", 0.1)
    caplog.set_level(logging.DEBUG)
    host = str(postgresql.folder).replace("/", "%2F")
    for address in (
        f"postgresql://nobody:s3cret@{host}/postgres",
        f"postgresql://nobody:s3cret@{host}/postgres?wrong=option",
        "postgresql://nobody:s3%cret@host/postgres",
        "postgresql://nobody:s3cret@127.0.0.1:1/postgres?connect_timeout=2",
    ):
        with pytest.raises(StoreError) as refused:
            engine_at(address, lock_timeout_s=0.1)
        assert "s3" not in "".join(traceback.format_exception(refused.value))
    assert "s3" not in "\n".join(record.getMessage() for record in caplog.records)


def test_where_it_is_names_host_and_database_alone(postgresql: Server, address: str) -> None:
    engine = engine_at(f"{address}&password=s3cret")
    assert isinstance(engine, PostgresEngine)
    assert engine.where == f"PostgreSQL database postgres on {postgresql.folder}"
    assert engine.place("registry") == f"registry in the {engine.where}"


def test_a_damaged_row_is_named(store: Store) -> None:
    put_content(store, "registry", b"{")
    with pytest.raises(StoreError, match=r"registry in the PostgreSQL database postgres on .* is damaged"):
        store.read(REGISTRY)
