"""A schema that moves on: files of an older one are brought along at the start, and the old file is kept."""

import json
import logging
from pathlib import Path

import pytest

from store import REGISTRY, Store, StoreError, codec, heartbeat_of, inventory_of, migrations
from store.codec import PlainTables
from tests.store_samples import dataset, heartbeat, system

NAS = inventory_of("nas")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "data")
    with store.transaction(REGISTRY, NAS, heartbeat_of("nas")) as tx:
        tx[REGISTRY].systems.put(system("nas", "box"))
        tx[NAS].datasets.put(dataset("tank"))
        tx[heartbeat_of("nas")].heartbeats.put(heartbeat("nas"))
    return tmp_path / "data"


@pytest.fixture
def schema_3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on from what the folder was written in."""

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
def test_files_are_brought_to_the_present_schema_and_the_old_ones_kept(folder: Path) -> None:
    old = (folder / "registry.json").read_bytes()
    generation = json.loads(old)["_meta"]["1"]["gen"]
    store = Store.open(folder)
    assert store.read(REGISTRY).systems.get("nas").hostname == "BOX.example"
    assert store.read(NAS).datasets.get("tank").guid == "7"
    assert store.read(NAS).datasets.get("tank").snapshots == dataset("tank").snapshots
    assert (folder / "registry.json.schema-1").read_bytes() == old
    meta = json.loads((folder / "registry.json").read_text())["_meta"]["1"]
    assert (meta["schema"], meta["gen"]) == (3, generation + 1)
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("b", "b"))
    assert {shard.name for shard in store.shards("inventories")} == {"inventories/nas"}  # what is kept is no shard


@pytest.mark.usefixtures("schema_3")
def test_a_second_start_migrates_nothing(folder: Path) -> None:
    Store.open(folder)
    first = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    Store.open(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.json*")} == first


@pytest.mark.usefixtures("schema_3")
def test_a_damaged_file_does_not_stop_the_others(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "inventories/nas.json").write_bytes(b"{")
    with caplog.at_level(logging.WARNING):
        store = Store.open(folder)
    assert store.read(REGISTRY).systems.get("nas").hostname == "BOX.example"
    assert "inventories/nas.json is damaged" in caplog.text
    with pytest.raises(StoreError, match=r"inventories/nas\.json is damaged"):
        store.read(NAS)


def test_an_older_version_refuses_a_newer_file_and_leaves_it(folder: Path) -> None:
    file = folder / "registry.json"
    newer = file.read_text().replace('"schema":1', '"schema":2')
    file.write_text(newer)
    with pytest.raises(StoreError, match=r"registry\.json has schema 2; this version of zfs-sync reads schema 1"):
        Store.open(folder).read(REGISTRY)
    assert file.read_text() == newer
    assert not list(folder.glob("*.schema-*"))
