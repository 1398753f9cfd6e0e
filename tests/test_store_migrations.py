"""A schema that moves on: files of an older one are brought along at the start, and the old file is kept."""

import json
import logging
import re
from pathlib import Path

import pytest

from store import REGISTRY, Busy, Store, StoreError, codec, heartbeat_of, inventory_of, migrations
from store.codec import PlainTables
from store.engines import engine_at
from store.shards import lock_of
from tests.store_samples import Place, dataset, everything, heartbeat, system

NAS = inventory_of("nas")


@pytest.fixture
def old(place: Place) -> Place:
    """A store that was written in schema 1."""
    store = Store.open(place)
    with store.transaction(REGISTRY, NAS, heartbeat_of("nas")) as tx:
        tx[REGISTRY].systems.put(system("nas", "box"))
        tx[NAS].datasets.put(dataset("tank"))
        tx[heartbeat_of("nas")].heartbeats.put(heartbeat("nas"))
    return place


def bytes_at(place: Place, name: str) -> bytes:
    """A shard's bytes, without opening a store, which would migrate it."""
    held = engine_at(place).read(name)
    return (held and held.data) or b""


def put_bytes(place: Place, name: str, data: bytes) -> None:
    engine = engine_at(place)
    with engine.locked([lock_of(name)], 5):
        engine.replace({name: data})


def set_aside(place: Place, name: str, label: str) -> bytes | None:
    """What a migration left beside."""
    if isinstance(place, Path):
        file = place / f"{name}.json.{label}"
        return file.read_bytes() if file.exists() else None
    return engine_at(place).read_private(f"old/{name}.{label}")


@pytest.fixture
def schema_3(old: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on from that."""

    def capitals(name: str, tables: PlainTables) -> PlainTables:
        if name == "registry":
            for document in tables["systems"].values():
                document["hostname"] = document["hostname"].upper()
        return tables

    def dotted(name: str, tables: PlainTables) -> PlainTables:
        if name == "registry":
            for document in tables["systems"].values():
                document["hostname"] += ".example"
        if name.startswith("inventories/"):
            for document in tables["datasets"].values():
                document["guid"] = "7"
        return tables

    monkeypatch.setattr(codec, "SCHEMA", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: capitals, 2: dotted})


def test_every_schema_has_its_migration() -> None:
    assert sorted(migrations.MIGRATIONS) == list(range(1, codec.SCHEMA))


@pytest.mark.usefixtures("schema_3")
def test_files_are_brought_to_the_present_schema_and_the_old_ones_kept(old: Place) -> None:
    before = bytes_at(old, "registry")
    generation = json.loads(before)["_meta"]["1"]["gen"]
    store = Store.open(old)
    assert store.read(REGISTRY).systems.get("nas").hostname == "BOX.example"
    assert store.read(NAS).datasets.get("tank").guid == "7"
    assert store.read(NAS).datasets.get("tank").snapshots == dataset("tank").snapshots
    assert set_aside(old, "registry", "schema-1") == before
    meta = json.loads(bytes_at(old, "registry"))["_meta"]["1"]
    assert (meta["schema"], meta["gen"]) == (3, generation + 1)
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("b", "b"))
    assert {shard.name for shard in store.shards("inventories")} == {"inventories/nas"}  # what is kept is no shard


@pytest.mark.usefixtures("schema_3")
def test_a_second_start_migrates_nothing(old: Place) -> None:
    first = everything(Store.open(old)), set_aside(old, "registry", "schema-1")
    assert (everything(Store.open(old)), set_aside(old, "registry", "schema-1")) == first


@pytest.mark.usefixtures("schema_3")
def test_a_damaged_file_does_not_stop_the_others(old: Place, caplog: pytest.LogCaptureFixture) -> None:
    put_bytes(old, "inventories/nas", b"{")
    with caplog.at_level(logging.WARNING):
        store = Store.open(old)
    assert store.read(REGISTRY).systems.get("nas").hostname == "BOX.example"
    assert re.search("inventories/nas.* is damaged", caplog.text)
    with pytest.raises(StoreError, match=r"inventories/nas.* is damaged"):
        store.read(NAS)


@pytest.mark.usefixtures("schema_3")
@pytest.mark.parametrize("content", [b"", b'{"_meta":{"1":{"gen":1,"nonce":"","schema":9}}}', None])
def test_a_file_that_is_being_written_keeps_nothing_from_starting_unless_it_is_old(
    old: Place, content: bytes | None
) -> None:
    if content is not None:
        put_bytes(old, "inventories/nas", content)
    holder = engine_at(old)
    with holder.locked([lock_of("inventories/nas")], 1):
        if content is None:
            with pytest.raises(Busy, match="inventories/nas is being written by others"):
                Store.open(old, lock_timeout_s=0.05)
            return
        store = Store.open(old, lock_timeout_s=0.05)
        assert store.read(REGISTRY).systems.get("nas").hostname == "BOX.example"
    holder.close()


def test_an_older_version_refuses_a_newer_file_and_leaves_it(old: Place) -> None:
    newer = bytes_at(old, "registry").replace(b'"schema":1', b'"schema":2')
    put_bytes(old, "registry", newer)
    with pytest.raises(StoreError, match=r"registry.* has schema 2; this version of zfs-sync reads schema 1"):
        Store.open(old).read(REGISTRY)
    assert bytes_at(old, "registry") == newer
    assert set_aside(old, "registry", "schema-1") is None
