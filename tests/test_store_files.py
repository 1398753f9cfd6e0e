"""The files: their form, their generations, and what happens when a disk, a folder or a file is not as it should be."""

import json
import os
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tinydb import TinyDB, where

from store import (
    LEASES,
    LIMITS,
    REGISTRY,
    Shard,
    Store,
    StoreError,
    StoreFull,
    View,
    events_of,
    group_records,
    heartbeat_of,
    history_of,
    inventory_of,
)
from store.documents import (
    Attempts,
    BookmarkRow,
    Credit,
    Decision,
    Failure,
    GoneRow,
    Group,
    GuardFlag,
    Key,
    Lease,
    PlanStamp,
    Report,
    SigningKey,
    Summary,
    Total,
)
from tests.store_samples import NOON, dataset, event, heartbeat, row, state, system

NAS = inventory_of("nas")
EVERY_SHARD: tuple[Shard[View], ...] = (
    REGISTRY,
    LEASES,
    heartbeat_of("nas"),
    NAS,
    group_records("g"),
    history_of("nas", "2026-11-22"),
    events_of("2026-11-22-0001"),
    LIMITS,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store.open(folder)


def put_system(store: Store, id: str = "a", hostname: str = "") -> None:
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system(id, hostname))


def put_work(leases: Any) -> None:
    """A lease, a credit and a failure."""
    lease = Lease(
        id="act",
        token="t",
        group_id="g",
        action={"n": 1},
        executor_system_id="nas",
        source_system_id=None,
        target_system_id="b",
        source_dataset=None,
        target_dataset="tank",
        base_guid=None,
        end_guid="2",
        delivers=[row("tank@1", 1)],
        started_at=NOON,
        expires_at=NOON,
    )
    leases.leases.put(lease)
    leases.credits.put(
        Credit(id="a", token="t", group_id="g", action={}, target_system_id="b", delivers=[], finished_at=NOON)
    )
    leases.failures.put(
        Failure(
            id="a",
            token="t",
            group_id="g",
            target_system_id="b",
            target_dataset="tank",
            count=1,
            exit_status=1,
            message="no",
            failed_at=NOON,
            retry_at=NOON,
        )
    )
    leases.totals.put(Total(id="g b", group_id="g", target_system_id="b"))


def put_one_of_each(store: Store) -> None:
    """A document in every table there is."""
    with store.transaction(*EVERY_SHARD) as tx:
        tx[REGISTRY].systems.put(system("nas", metadata={"ü": "…", "n": 2**63}))
        tx[REGISTRY].groups.put(Group(id="g", name="media", spec={"hub": "nas"}, created_at=NOON, updated_at=NOON))
        tx[REGISTRY].keys.put(Key(id="k", role="admin", hash="00", created_at=NOON))
        tx[REGISTRY].signing_keys.put(SigningKey(id="s", made_at=NOON, signs_from=NOON))
        put_work(tx[LEASES])
        tx[heartbeat_of("nas")].heartbeats.put(heartbeat("nas"))
        tx[NAS].reports.put(
            Report(
                id="current",
                reported_at=NOON,
                changed_at=NOON,
                columns=["name"],
                digest=None,
                snapshot_count=3,
                dataset_count=1,
            )
        )
        tx[NAS].guards.put(GuardFlag(id="tank", raised_at=NOON, lost=4, had=5))
        tx[NAS].summaries.put(
            Summary(
                id="tank",
                count=3,
                guids_digest="00",
                newest="2",
                newest_creation=1,
                written=None,
                receive_resume_token=None,
            )
        )
        bookmark = BookmarkRow(name="b", guid="1", createtxg=1, creation=1, referenced=None, ivsetguid=None)
        tx[NAS].datasets.put(
            msgspec.structs.replace(dataset("tank"), bookmarks=[bookmark], snapshot_metadata={"1": {"by": "hand"}})
        )
        tx[group_records("g")].states.put(state("s", last_sync=NOON))
        tx[group_records("g")].decisions.put(Decision(id="c", detected_at=NOON))
        tx[group_records("g")].stamps.put(PlanStamp(id="nas", digest="00", changed_at=NOON))
        tx[EVERY_SHARD[5]].tables["gone"].put(GoneRow(id="1", dataset="tank", at=NOON, rows=[row("tank@1", 1)]))
        tx[EVERY_SHARD[6]].tables["events"].put(event("1"))
        tx[LIMITS].attempts.put(Attempts("auth 192.0.2.1", NOON, NOON, 1, 0))


def contents(store: Store) -> dict[str, list[object]]:
    return {f"{shard.name}:{name}": t.all() for shard in EVERY_SHARD for name, t in store.read(shard).tables.items()}


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


# --- the form ------------------------------------------------------------------------------------


def test_stock_tinydb_opens_every_file_and_finds_what_we_put(store: Store, folder: Path) -> None:
    put_one_of_each(store)
    for shard in EVERY_SHARD:
        with TinyDB(folder / f"{shard.name}.json", access_mode="r") as stock:
            assert stock.table("_meta").get(doc_id=1)["schema"] == 1
            for name, table in store.read(shard).tables.items():
                (document,) = table.all()
                assert stock.table(name).search(where("id") == document.id) == [msgspec.to_builtins(document)]


def test_a_file_that_stock_tinydb_wrote_to_is_read_and_written_again(store: Store, folder: Path) -> None:
    put_one_of_each(store)
    before = contents(store)
    for shard in EVERY_SHARD:
        with TinyDB(folder / f"{shard.name}.json") as stock:  # rewrites the whole file its own way
            stock.table("notes").insert({"by": "hand"})
    assert contents(store) == contents(Store.open(folder)) == before
    put_system(store, "b")
    with store.transaction(NAS) as tx:
        tx[NAS].datasets.put(dataset("tank/more"))
    assert store.read(NAS).datasets.ids() == Store.open(folder).read(NAS).datasets.ids() == ["tank", "tank/more"]
    for shard in (REGISTRY, NAS):
        with TinyDB(folder / f"{shard.name}.json", access_mode="r") as stock:
            assert stock.table("notes").all() == [{"by": "hand"}]


def test_a_document_stands_on_a_line_of_its_own(store: Store, folder: Path) -> None:
    for n in range(3):
        put_system(store, str(n))
    lines = (folder / "registry.json").read_text().splitlines()
    assert [line[:4] for line in lines] == ['{"_m', '"sys', '"1":', '"2":', '"3":']


def test_the_generation_fits_into_what_a_reader_compares(store: Store, folder: Path) -> None:
    from store.codec import HEAD_BYTES, Meta, encode_tables

    head = encode_tables(Meta(gen=10**15, nonce="f" * 32, schema=1), {})[:HEAD_BYTES]
    assert head.index(b'"schema":1') < HEAD_BYTES


def test_files_are_private(store: Store, folder: Path) -> None:
    put_one_of_each(store)
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


# --- generations ---------------------------------------------------------------------------------


def test_a_same_size_replacement_within_a_tick_is_seen(store: Store, folder: Path) -> None:
    """Both files get the same size and time, and as inodes are reused at once, often the same inode."""
    reader = Store.open(folder)
    generations = set()
    for n in range(200):
        put_system(store, "a", f"host-{n:03}")
        os.utime(folder / "registry.json", ns=(0, 0))
        view = reader.read(REGISTRY)
        assert view.systems.get("a").hostname == f"host-{n:03}"
        generations.add(view.generation)
    assert len(generations) == 200


def test_a_removed_and_remade_shard_does_not_repeat_its_generation(store: Store) -> None:
    generations = set()
    for _ in range(20):
        put_system(store)
        generations.add(store.read(REGISTRY).generation)
        store.remove(REGISTRY)
    assert len(generations) == 20


def test_an_edit_by_hand_is_seen(store: Store, folder: Path) -> None:
    put_system(store, "a", "nas")
    store.read(REGISTRY)
    file = folder / "registry.json"
    file.write_text(file.read_text().replace('"nas"', '"box"'))
    assert store.read(REGISTRY).systems.get("a").hostname == "box"


def test_an_unchanged_file_is_not_decoded_again(store: Store) -> None:
    put_one_of_each(store)
    for shard in EVERY_SHARD:
        assert store.read(shard) is store.read(shard)


def test_the_cache_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.store.CACHE_BYTES", 3000)
    store = Store.open(folder)
    shards = [heartbeat_of(f"{n}") for n in range(30)]
    for shard in shards:
        with store.transaction(shard) as tx:
            tx[shard].heartbeats.put(heartbeat("x", metadata={"filler": "x" * 500}))
    views = [store.read(shard) for shard in shards]
    assert store.read(shards[-1]) is views[-1]
    assert store.read(shards[0]) is not views[0]
    assert [view.heartbeats.ids() for view in views] == [["x"]] * 30


# --- damage --------------------------------------------------------------------------------------

DAMAGES = {
    "empty": b"",
    "cut off": b'{"_meta":{"1":{"gen":1,"nonce":"0","schema":1}},"systems":{"1":{"id":',
    "binary": bytes(range(256)),
    "not an object": b"[]",
    "no generation": b'{"systems":{}}',
    "a generation of another kind": b'{"_meta":{"1":{"gen":"x"}}}',
    "not a number": b'{"_meta":{"1":{"gen":NaN,"nonce":"0","schema":1}}}',
    "nested too deeply": b'{"_meta":' * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("shard", [REGISTRY, NAS], ids=["TinyDB", "bytes"])
def test_a_damaged_file_is_named_and_the_others_work(
    store: Store, folder: Path, shard: Shard[View], damage: bytes
) -> None:
    put_one_of_each(store)
    file = folder / f"{shard.name}.json"
    file.write_bytes(damage)
    for each in (store, Store.open(folder)):
        with pytest.raises(StoreError, match=f"{file} is damaged"):
            each.read(shard)
        with pytest.raises(StoreError, match=f"{file} is damaged"), each.transaction(shard):
            raise RuntimeError("not reached")
    assert file.read_bytes() == damage
    put_one_of_each_but(store, shard)


def test_a_schema_that_never_was_keeps_nothing_from_starting(store: Store, folder: Path) -> None:
    put_one_of_each(store)
    file = folder / f"{NAS.name}.json"
    file.write_bytes(file.read_bytes().replace(b'"schema":1', b'"schema":0'))
    opened = Store.open(folder)
    with pytest.raises(StoreError, match=f"{file} has schema 0"):
        opened.read(NAS)
    put_one_of_each_but(opened, NAS)


@pytest.mark.parametrize("shard", [REGISTRY, NAS], ids=["TinyDB", "bytes"])
def test_a_damaged_number_of_a_document_is_named(store: Store, folder: Path, shard: Shard[View]) -> None:
    put_one_of_each(store)
    file = folder / f"{shard.name}.json"
    content = file.read_bytes()
    file.write_bytes(re.sub(rb'("(?:systems|datasets)":\{\s*")1"', rb'\g<1>q"', content))
    assert file.read_bytes() != content
    view: Any = Store.open(folder).read(shard)
    with pytest.raises(StoreError, match=f"{file} is damaged"):
        (view.systems if shard is REGISTRY else view.datasets).all()


def put_one_of_each_but(store: Store, damaged: Shard[View]) -> None:
    for shard in EVERY_SHARD:
        if shard is not damaged:
            generation = store.read(shard).generation
            with store.transaction(shard) as tx:
                for table in tx[shard].tables.values():
                    table.clear()
            assert store.read(shard).generation != generation


def test_a_document_of_another_kind_is_named_when_it_is_asked_for(store: Store, folder: Path) -> None:
    put_one_of_each(store)
    for name, wrong in (("registry", '"hostname":7'), ("inventories/nas", '"snapshots":7')):
        file = folder / f"{name}.json"
        found = json.loads(file.read_text())
        table = found["systems"] if name == "registry" else found["datasets"]
        key, value = wrong.split(":")
        table["1"][key.strip('"')] = json.loads(value)
        file.write_text(json.dumps(found))
    with pytest.raises(StoreError, match=r"registry\.json is damaged: Expected `str`, got `int` - at `\$\.hostname`"):
        store.read(REGISTRY).systems.get("nas")
    with pytest.raises(StoreError, match=r"nas\.json is damaged"):
        store.read(NAS).datasets.get("tank")
    assert store.read(REGISTRY).keys.ids() == ["k"]
    assert store.read(NAS).summaries.ids() == ["tank"]


def test_a_newer_schema_is_refused(store: Store, folder: Path) -> None:
    put_system(store)
    file = folder / "registry.json"
    file.write_text(file.read_text().replace('"schema":1', '"schema":99'))
    with pytest.raises(StoreError, match=r"registry\.json has schema 99"):
        store.read(REGISTRY)


def test_a_file_that_can_not_be_read_is_named(store: Store, folder: Path) -> None:
    put_one_of_each(store)
    (folder / "leases.json").unlink()
    (folder / "leases.json").mkdir()
    with pytest.raises(StoreError, match=r"leases\.json: Is a directory"):
        store.read(LEASES)
    assert store.read(REGISTRY).systems.ids() == ["nas"]


# --- the folder ----------------------------------------------------------------------------------


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match="data: File exists"):
        Store.open(tmp_path / "data")
    with pytest.raises(StoreError, match="below: Not a directory"):
        Store.open(tmp_path / "data/below")


def test_a_folder_that_vanishes_is_not_an_empty_store(store: Store, folder: Path) -> None:
    put_system(store)
    folder.rename(folder.with_name("elsewhere"))
    for mounted in (False, True):
        if mounted:
            folder.mkdir()  # a mount point with nothing on it
        with pytest.raises(StoreError, match="data/locks: No such file"):
            store.read(REGISTRY)
        with pytest.raises(StoreError, match="No such file"):
            put_system(store, "b")
        with pytest.raises(StoreError, match="No such file"):
            store.check()
        assert not mounted or not list(folder.iterdir())


def test_temporary_files_of_killed_writers_are_swept(store: Store, folder: Path) -> None:
    put_one_of_each(store)
    for name in (".registry.json", "inventories/.nas.json", "history/nas/.2026-11-22.json", ".probe", ".secret_key"):
        (folder / f"{name}.0123456789abcdef.tmp").write_bytes(b"half")
    Store.open(folder)
    assert left_over(folder) == []


def test_temporary_files_of_living_writers_are_not(store: Store, folder: Path) -> None:
    put_system(store)
    temporary = folder / ".registry.json.0123456789abcdef.tmp"
    with store.transaction(REGISTRY):
        temporary.write_bytes(b"half")
        Store.open(folder)
        assert temporary.exists()


def test_a_copy_of_the_folder_is_a_store(store: Store, folder: Path, tmp_path: Path) -> None:
    put_one_of_each(store)
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("locks"))
    copy = Store.open(tmp_path / "copy")
    assert contents(copy) == contents(store)
    assert copy.secret == store.secret
    (tmp_path / "copy/inventories/nas.json").unlink()
    assert copy.read(NAS).datasets.all() == []


# --- the secret ----------------------------------------------------------------------------------


def test_the_secret_is_made_once_and_kept(store: Store, folder: Path, tmp_path: Path) -> None:
    assert len(store.secret) >= 32
    assert Store.open(folder).secret == store.secret
    assert Store.open(tmp_path / "other").secret != store.secret
    moved = (folder / "secret_key").read_text()
    assert Store.open(tmp_path / "third", secret=moved).secret == store.secret
    assert not (tmp_path / "third/secret_key").exists()


def test_a_damaged_secret_is_refused(store: Store, folder: Path) -> None:
    (folder / "secret_key").write_text("")
    with pytest.raises(StoreError, match=r"secret_key in .* is damaged"):
        Store.open(folder)


# --- a full disk, a read-only one ----------------------------------------------------------------


def test_a_full_disk_leaves_the_old_content(small_disk: Path) -> None:
    store = Store.open(small_disk / "data")
    put_one_of_each(store)
    with store.transaction(heartbeat_of("kept")) as tx:
        tx[heartbeat_of("kept")].heartbeats.put(heartbeat("kept", metadata={"filler": "x" * 300_000}))
    before = {path: path.read_bytes() for path in small_disk.rglob("*.json")}

    def grow() -> None:
        with store.transaction(REGISTRY, heartbeat_of("kept")) as tx:
            tx[REGISTRY].systems.put(system("b"))  # would fit on its own
            tx[heartbeat_of("kept")].heartbeats.put(heartbeat("kept", metadata={"filler": "y" * 900_000}))

    with pytest.raises(StoreFull, match=r"kept\.json: No space left on device"):
        grow()
    assert {path: path.read_bytes() for path in small_disk.rglob("*.json")} == before
    assert left_over(small_disk) == []
    assert store.read(REGISTRY).systems.ids() == ["nas"]
    put_system(store, "c")  # small writes go on
    with store.transaction(heartbeat_of("kept")) as tx:
        tx[heartbeat_of("kept")].heartbeats.clear()
    assert Store.open(small_disk / "data").read(REGISTRY).systems.ids() == ["nas", "c"]


def test_check_sees_a_full_disk(small_disk: Path) -> None:
    store = Store.open(small_disk / "data")
    store.check()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(StoreFull, match="No space left on device"):
        store.check()
    assert left_over(small_disk) == []
    filler.unlink()
    store.check()


def test_a_read_only_folder_is_read_and_says_what_it_refuses(small_disk: Path, tmp_path: Path) -> None:
    store = Store.open(small_disk / "data")
    put_one_of_each(store)
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    subprocess.run(["mount", "--bind", small_disk, frozen], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", frozen], check=True)
        reader = Store.open(frozen / "data")
        assert contents(reader) == contents(store)
        with pytest.raises(StoreError, match=r"registry\.lock: Read-only file system"):
            put_system(reader, "b")
        with pytest.raises(StoreError, match="Read-only file system"):
            reader.check()
        (small_disk / "data/secret_key").unlink()
        with pytest.raises(StoreError, match="Read-only file system"):
            Store.open(frozen / "data")
    finally:
        subprocess.run(["umount", "-l", frozen], check=True)
