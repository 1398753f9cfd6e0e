"""Backups: one moment, checked before they replace anything; unpacked, a data folder."""

import io
import tarfile
import threading
from pathlib import Path

import pytest

from store import LEASES, REGISTRY, Store, StoreError, heartbeat_of, history_of, inventory_of
from store.backup import restore_backup, write_backup
from tests.archives import unpack
from tests.store_samples import (
    NOON,
    NewPlace,
    Place,
    content,
    dataset,
    event,
    everything,
    heartbeat,
    put_content,
    system,
)

NAS = inventory_of("nas")


@pytest.fixture
def store(place: Place) -> Store:
    return filled(Store.open(place))


def filled(store: Store) -> Store:
    with store.transaction(REGISTRY, NAS, heartbeat_of("nas")) as tx:
        tx[REGISTRY].systems.put(system("nas"))
        tx[NAS].datasets.put(dataset("tank"))
        tx[heartbeat_of("nas")].heartbeats.put(heartbeat("nas"))
    store.add_event(event("1"))
    return store


def backup_of(store: Store) -> io.BytesIO:
    out = io.BytesIO()
    write_backup(store, out, NOON)
    out.seek(0)
    return out


def tar_with(**files: bytes) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    out.seek(0)
    return out


def test_a_backup_unpacked_is_a_data_folder(store: Store, tmp_path: Path) -> None:
    out = io.BytesIO()
    assert write_backup(store, out, NOON) == (5, [])  # four shards and the secret
    (tmp_path / "backup").write_bytes(out.getvalue())
    assert {member.mode for member in unpack(tmp_path / "backup", tmp_path / "copy")} == {0o600}
    copy = Store.open(tmp_path / "copy")
    assert everything(copy) == everything(store)
    assert copy.secret == store.secret


def test_a_backup_restored_replaces_all_there_was(store: Store, tmp_path: Path) -> None:
    saved, before = backup_of(store), everything(store)
    gone = history_of("nas", "2026-11-22")
    with store.transaction(REGISTRY, NAS, LEASES, gone, heartbeat_of("new")) as tx:
        tx[REGISTRY].systems.clear()
        tx[NAS].datasets.put(dataset("tank/new"))
        tx[heartbeat_of("new")].heartbeats.put(heartbeat("new"))
    assert restore_backup(store, saved) == (5, [])
    assert everything(store) == before
    assert store.read(REGISTRY).systems.ids() == ["nas"]  # what this process had cached is no longer believed
    assert store.shards("heartbeats") == [heartbeat_of("nas")]


@pytest.mark.parametrize("elsewhere", ["a place of its kind", "a folder"])
def test_a_backup_restored_elsewhere_brings_its_secret(
    store: Store, new_place: NewPlace, tmp_path: Path, elsewhere: str
) -> None:
    place = tmp_path / "folder" if elsewhere == "a folder" else new_place("other")
    other = Store.open(place)
    restore_backup(other, backup_of(store))
    assert Store.open(place).secret == store.secret
    assert everything(other) == everything(store)


def test_a_store_without_a_secret_of_its_own_is_backed_up_without(place: Place) -> None:
    store = filled(Store.open(place, secret="s" * 40))
    out = io.BytesIO()
    assert write_backup(store, out, NOON) == (4, [])
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert "secret_key" not in tar.getnames()


def test_what_is_damaged_is_set_apart_and_the_rest_restored(store: Store, new_place: NewPlace, tmp_path: Path) -> None:
    rest = {name: data for name, data in everything(store).items() if name != "inventories/nas"}
    broken = (content(store, "inventories/nas") or b"")[:-20]
    put_content(store, "inventories/nas", broken)
    out = io.BytesIO()
    count, (problem,) = write_backup(store, out, NOON)
    assert (count, problem.partition(":")[0]) == (4, "inventories/nas.json is damaged")
    (tmp_path / "backup").write_bytes(out.getvalue())
    unpack(tmp_path / "backup", tmp_path / "copy")
    assert (tmp_path / "copy/inventories/nas.json.damaged").read_bytes() == broken
    out.seek(0)
    other = Store.open(new_place("other"))
    assert restore_backup(other, out) == (4, ["inventories/nas.json"])
    assert everything(other) == everything(Store.open(tmp_path / "copy")) == rest


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (io.BytesIO(b""), "no backup"),
        (io.BytesIO(b"junk" * 1000), "no backup"),
        (tar_with(**{"../registry.json": b"{}"}), r"'\.\./registry\.json' is no file of a store"),
        (tar_with(**{"registry": b"{}"}), "'registry' is no file of a store"),
        (tar_with(**{"registry.json": b"{"}), r"registry\.json in the backup is damaged"),
        (tar_with(**{"registry.json": b'{"_meta":{"1":{"gen":1,"nonce":"","schema":9}}}'}), "has schema 9"),
        (
            tar_with(
                **{"inventories/a.json": b'{"_meta":{"1":{"gen":1,"nonce":"","schema":1}},"datasets":{"1":{"id":7}}}'}
            ),
            r"inventories/a\.json in the backup is damaged",
        ),
    ],
)
def test_what_is_no_good_backup_replaces_nothing(store: Store, source: io.BytesIO, says: str) -> None:
    before = everything(store)
    source.seek(0)
    with pytest.raises(StoreError, match=says):
        restore_backup(store, source)
    assert everything(store) == before


def test_a_backup_that_was_cut_off_replaces_nothing(store: Store) -> None:
    before, whole = everything(store), backup_of(store).getvalue()
    for length in range(0, len(whole), 37):
        with pytest.raises(StoreError, match="backup"):
            restore_backup(store, io.BytesIO(whole[:length]))
    assert everything(store) == before


def test_a_backup_shows_one_moment_of_several_shards(store: Store, tmp_path: Path) -> None:
    """A writer keeps two shards equal in each transaction; a backup taken meanwhile never shows them apart."""
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with store.transaction(REGISTRY, heartbeat_of("nas")) as tx:
                tx[REGISTRY].systems.put(system("nas", f"n{n}"))
                tx[heartbeat_of("nas")].heartbeats.put(heartbeat("nas", agent_version=f"n{n}"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(15):
            copy = Store.open(tmp_path / f"copy{n}")
            restore_backup(copy, backup_of(store))
            beat = copy.read(heartbeat_of("nas")).heartbeats.get("nas")
            if beat.agent_version is not None:
                assert beat.agent_version == copy.read(REGISTRY).systems.get("nas").hostname
    finally:
        stop.set()
        writer.join()


def test_problems_names_every_file_that_is_not_good(store: Store) -> None:
    assert store.problems() == []
    put_content(store, "heartbeats/nas", b"{")
    inventory = content(store, "inventories/nas") or b""
    put_content(store, "inventories/nas", inventory.replace(b'"reported":true', b'"reported":"?"'))
    problems = store.problems()
    assert len(problems) == 2
    assert "heartbeats/nas" in problems[0]
    assert "inventories/nas" in problems[1]
