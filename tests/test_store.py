"""The store's contract: tables, transactions, ids, the audit trail. The same for any engine."""

import dataclasses
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store import (
    ALERTS,
    LEASES,
    REGISTRY,
    AlreadyExists,
    Busy,
    NotFound,
    Shard,
    Store,
    StoreError,
    View,
    events_of,
    group_records,
    heartbeat_of,
    history_of,
    inventory_of,
)
from store.documents import GoneRow, Report, SyncState
from store.store import EVENTS_PER_SEGMENT
from tests.store_samples import (
    NOON,
    Place,
    content,
    dataset,
    event,
    heartbeat,
    put_content,
    put_systems,
    row,
    state,
    system,
)

NAS = inventory_of("nas")


@pytest.fixture
def folder(place: Path) -> Path:
    """For tests that look at the files themselves."""
    return place


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    opened = Store.open(place)
    yield opened
    opened.close()


# --- tables --------------------------------------------------------------------------------------


def test_a_shard_that_was_never_written_is_empty(store: Store) -> None:
    assert store.read(REGISTRY).systems.all() == []
    assert len(store.read(NAS).datasets) == 0


def test_what_was_put_is_read_back_by_another_process(store: Store, place: Place) -> None:
    full = system("a", "nas", platform="freebsd", ssh_port=2222, metadata={"rack": [1, {"u": None}]})
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(full)
    assert Store.open(place).read(REGISTRY).systems.get("a") == full


def test_get_of_what_is_not_there_says_what_is_missing(store: Store) -> None:
    with pytest.raises(NotFound, match="no system 'x'"):
        store.read(REGISTRY).systems.get("x")
    with pytest.raises(NotFound, match="no sync group 'x'"):
        store.read(REGISTRY).groups.get("x")
    with pytest.raises(NotFound, match="no dataset 'tank/x'"):
        store.read(NAS).datasets.get("tank/x")


def test_find_all_ids_len_and_in(store: Store) -> None:
    with store.transaction(REGISTRY) as tx:
        for id, platform in (("a", "linux"), ("b", "freebsd"), ("c", "linux")):
            tx[REGISTRY].systems.put(system(id, platform=platform))
    systems = store.read(REGISTRY).systems
    assert [found.id for found in systems.find(platform="linux")] == ["a", "c"]
    assert [found.id for found in systems.find(platform="linux", hostname="host-c")] == ["c"]
    assert systems.find(platform="illumos") == []
    assert systems.ids() == [found.id for found in systems.all()] == ["a", "b", "c"]
    assert len(systems) == 3
    assert "b" in systems
    assert "x" not in systems


@pytest.mark.parametrize("shard", [REGISTRY, NAS], ids=["TinyDB", "bytes"])
def test_put_replaces_remove_forgets_clear_empties(store: Store, shard: Shard[Any]) -> None:
    def table(view: View) -> Any:
        return view.tables["systems" if shard is REGISTRY else "datasets"]

    make: Callable[..., Any] = system if shard is REGISTRY else dataset
    with store.transaction(shard) as tx:
        for id in "abc":
            table(tx[shard]).put(make(id))
        changed = (
            msgspec.structs.replace(make("b"), created_at=NOON + timedelta(1)) if shard is REGISTRY else make("b", 9)
        )
        table(tx[shard]).put(changed)
        table(tx[shard]).remove("c")
        with pytest.raises(NotFound):
            table(tx[shard]).remove("c")
        assert table(tx[shard]).get("b") == changed
        assert "c" not in table(tx[shard])
    assert table(store.read(shard)).all() == [make("a"), changed]
    with store.transaction(shard) as tx:
        table(tx[shard]).clear()
        assert table(tx[shard]).all() == []
    assert len(table(store.read(shard))) == 0


def test_names_that_must_be_unique_are(store: Store) -> None:
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("a", "nas"))
    with (
        pytest.raises(AlreadyExists, match="a system with the hostname 'nas' exists already"),
        store.transaction(REGISTRY) as tx,
    ):
        tx[REGISTRY].systems.put(system("b", "nas"))
    with store.transaction(REGISTRY) as tx:  # its own name is no obstacle
        tx[REGISTRY].systems.put(system("a", "nas", platform="freebsd"))
    assert store.read(REGISTRY).systems.ids() == ["a"]


def test_tinydb_ids_stay_with_their_documents(store: Store) -> None:
    put_systems(store, "a", "b", "c")
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.remove("b")
    put_systems(store, "d")
    rows = msgspec.json.decode(content(store, "registry") or b"")["systems"]
    assert {number: found["id"] for number, found in rows.items()} == {"1": "a", "3": "c", "4": "d"}


# --- transactions --------------------------------------------------------------------------------


def test_an_exception_changes_nothing(store: Store) -> None:
    put_systems(store, "a")
    before = content(store, "registry")

    def change_and_fail() -> None:
        with store.transaction(REGISTRY, NAS) as tx:
            tx[REGISTRY].systems.put(system("b"))
            tx[NAS].datasets.put(dataset("tank"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_and_fail()
    assert content(store, "registry") == before
    assert store.shards("inventories") == []
    assert store.read(REGISTRY).systems.ids() == ["a"]


def test_changes_are_seen_inside_at_once_and_outside_at_the_end(store: Store) -> None:
    put_systems(store, "a")
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("b"))
        assert tx[REGISTRY].systems.ids() == ["a", "b"]
        assert store.read(REGISTRY).systems.ids() == ["a"]
    assert store.read(REGISTRY).systems.ids() == ["a", "b"]


def test_a_view_stays_as_it_was(store: Store) -> None:
    put_systems(store, "a")
    before = store.read(REGISTRY)
    put_systems(store, "b")
    assert before.systems.ids() == ["a"]
    assert before.generation != store.read(REGISTRY).generation


def test_a_view_that_was_not_looked_into_yet_stays_as_it_was_too(store: Store, place: Place) -> None:
    for id in "ab":
        fresh = Store.open(place)
        before = fresh.read(REGISTRY), fresh.read(NAS)
        with fresh.transaction(REGISTRY, NAS) as tx:
            tx[REGISTRY].systems.put(system(id))
            tx[NAS].datasets.put(dataset(id))
        expected = [] if id == "a" else ["a"]
        assert [before[0].systems.ids(), before[1].datasets.ids()] == [expected, expected]


def test_in_a_block_a_transaction_sees_the_present_and_the_block_what_it_wrote(store: Store, place: Place) -> None:
    other = Store.open(place)
    put_systems(store, "a")
    with store.reading():
        assert store.read(REGISTRY).systems.ids() == ["a"]
        put_systems(other, "b")
        assert store.read(REGISTRY).systems.ids() == ["a"]
        with store.transaction(REGISTRY) as tx:
            assert tx[REGISTRY].systems.ids() == ["a", "b"]
            tx[REGISTRY].systems.put(system("c"))
        assert store.read(REGISTRY).systems.ids() == ["a", "b", "c"]
    put_systems(other, "d")
    assert store.read(REGISTRY).systems.ids() == ["a", "b", "c", "d"]
    other.close()


def test_only_changed_shards_are_written(store: Store) -> None:
    put_systems(store, "a")
    generation = store.read(REGISTRY).generation
    with store.transaction(REGISTRY, LEASES, heartbeat_of("a")) as tx:
        tx[heartbeat_of("a")].heartbeats.put(heartbeat("a"))
    assert store.read(REGISTRY).generation == generation
    assert content(store, "leases") is None
    assert content(store, "heartbeats/a") is not None


@pytest.mark.parametrize("again", ["put", "clear and put"])
def test_putting_what_is_there_already_is_no_change(store: Store, again: str) -> None:
    for shard in (REGISTRY, NAS):
        for _ in range(2):
            generation = store.read(shard).generation
            with store.transaction(REGISTRY, NAS) as tx:
                if again == "clear and put":
                    tx[REGISTRY].systems.clear()
                    tx[NAS].datasets.clear()
                for id in "cab":
                    tx[REGISTRY].systems.put(system(id))
                    tx[NAS].datasets.put(dataset(id))
        assert store.read(shard).generation == generation


def test_a_new_order_is_a_change(store: Store) -> None:
    for order in ("abc", "cab"):
        with store.transaction(NAS) as tx:
            tx[NAS].datasets.clear()
            for id in order:
                tx[NAS].datasets.put(dataset(id))
        assert "".join(store.read(NAS).datasets.ids()) == order


def test_outside_its_transaction_a_table_can_not_be_changed(store: Store) -> None:
    with store.transaction(REGISTRY) as tx:
        inside = tx[REGISTRY].systems
        inside.put(system("a"))
    for table in (inside, store.read(REGISTRY).systems):
        with pytest.raises(AssertionError, match="only be changed inside its transaction"):
            table.put(system("b"))
        with pytest.raises(AssertionError):
            table.remove("a")
        with pytest.raises(AssertionError):
            table.clear()
    assert store.read(REGISTRY).systems.ids() == ["a"]


def test_shards_not_in_the_transaction_are_not_to_be_had_from_it(store: Store) -> None:
    with store.transaction(REGISTRY) as tx, pytest.raises(KeyError):
        tx[LEASES]


def test_transactions_inside_each_other_keep_to_the_order_of_locks(store: Store) -> None:
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("a"))
        with store.transaction(NAS) as inner:
            inner[NAS].datasets.put(dataset("tank"))
        store.add_event(event("1"))  # events come last
        with pytest.raises(AssertionError, match="leases can't be locked after events/"), store.transaction(LEASES):
            raise RuntimeError("not reached")
    with (
        store.transaction(NAS),
        pytest.raises(AssertionError, match="registry can't be locked after inventories/nas"),
        store.transaction(REGISTRY),
    ):
        raise RuntimeError("not reached")
    with store.transaction(REGISTRY) as tx:  # and nothing is left locked
        tx[REGISTRY].systems.put(system("b"))
    assert store.read(NAS).datasets.ids() == ["tank"]


def test_removing_a_shard_leaves_the_others(store: Store) -> None:
    for id in "ab":
        with store.transaction(heartbeat_of(id)) as tx:
            tx[heartbeat_of(id)].heartbeats.put(heartbeat(id))
    old = store.read(heartbeat_of("a")).generation
    store.remove(heartbeat_of("a"))
    store.remove(heartbeat_of("a"))
    assert len(store.read(heartbeat_of("a")).heartbeats) == 0
    assert store.shards("heartbeats") == [heartbeat_of("b")]
    with store.transaction(heartbeat_of("a")) as tx:
        tx[heartbeat_of("a")].heartbeats.put(heartbeat("a"))
    assert store.read(heartbeat_of("a")).generation != old


def test_ten_thousand_documents_can_be_put_in_one_transaction(store: Store) -> None:
    records = group_records("g")
    with store.transaction(records) as tx:
        for n in range(10_000):
            tx[records].states.put(state(f"{n}", status="in_sync"))
    with store.transaction(records) as tx:
        for n in range(0, 10_000, 2):
            tx[records].states.put(state(f"{n}", status="conflict"))
    assert len(store.read(records).states.find(status="conflict")) == 5_000


# --- ids -----------------------------------------------------------------------------------------

GOOD_IDS = ["a", "A.b_c-9", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "x" * 64, "_", "a..b"]
BAD_IDS = ["", ".", "..", ".a", "../a", "a/b", "a\\b", "a b", "a\n", "\na", "a\0", "é", "x" * 65, "%2e%2e"]


@pytest.mark.parametrize("id", GOOD_IDS)
def test_an_id_that_can_be_a_file_name_is_one(store: Store, id: str) -> None:
    with store.transaction(group_records(id)) as tx:
        tx[group_records(id)].states.put(SyncState(id="s"))
    assert store.shards("groups") == [group_records(id)]
    assert store.read(group_records(id)).states.ids() == ["s"]


@pytest.mark.parametrize("id", BAD_IDS)
@pytest.mark.parametrize("shard_of", [heartbeat_of, inventory_of, group_records, events_of])
def test_any_other_id_is_not_found(shard_of: Callable[[str], Shard[View]], id: str) -> None:
    with pytest.raises(NotFound):
        shard_of(id)
    with pytest.raises(NotFound):
        history_of(id, "2026-11-22")
    with pytest.raises(NotFound):
        history_of("nas", id)


@pytest.mark.on_files
def test_strays_beside_our_files_are_not_shards(store: Store, folder: Path) -> None:
    with store.transaction(heartbeat_of("a")) as tx:
        tx[heartbeat_of("a")].heartbeats.put(heartbeat("a"))
    for stray in ("a copy.json", ".a.json", "a.json~", "deep/a.json"):
        (folder / "heartbeats" / stray).parent.mkdir(exist_ok=True)
        (folder / "heartbeats" / stray).write_text("{}")
    assert store.shards("heartbeats") == [heartbeat_of("a")]


# --- the order of locks --------------------------------------------------------------------------


def test_every_kind_of_shard_has_its_place_in_the_order() -> None:
    shards: list[Shard[View]] = [
        REGISTRY,
        LEASES,
        heartbeat_of("a"),
        heartbeat_of("b"),
        inventory_of("a"),
        group_records("a"),
        history_of("a", "2026-01-01"),
        ALERTS,
        events_of("2026-01-01-0001"),
    ]
    assert sorted(shards, key=lambda shard: shard.order) == shards
    assert all(dataclasses.is_dataclass(shard) for shard in shards)


def test_it_is_told_of_each_wait_for_locks(store: Store, place: Place) -> None:
    told: list[tuple[bool, bool]] = []
    store.on_lock = lambda wait_s, free: told.append((wait_s >= 0.02, free))
    put_systems(store, "a")
    with (
        Store.open(place).transaction(REGISTRY),
        pytest.raises(Busy),
        store.transaction(REGISTRY, lock_timeout_s=0.02),
    ):
        raise RuntimeError("not reached")
    assert told[0][1] is True
    assert told[1:] == [(True, False)]


def test_its_size_grows_with_what_is_kept(store: Store) -> None:
    put_systems(store, "a")
    before = store.size_bytes()
    with store.transaction(NAS) as tx:
        tx[NAS].datasets.put(dataset("tank", snapshots=100))
    assert store.size_bytes() - before > 5000


# --- history and the audit trail -----------------------------------------------------------------


def test_history_is_kept_by_day_and_dropped_when_old(store: Store) -> None:
    for system_id, day in (("nas", "2026-11-20"), ("nas", "2026-11-22"), ("backup", "2026-11-19")):
        shard = history_of(system_id, day)
        with store.transaction(shard) as tx:
            tx[shard].gone.put(GoneRow(id="1", dataset="tank", at=NOON, rows=[row("tank@1", 1)]))
    assert store.history_segments("nas") == [history_of("nas", "2026-11-20"), history_of("nas", "2026-11-22")]
    assert store.history_segments("offsite") == []
    assert store.drop_old_history(1, NOON) == 2
    assert store.shards("history") == [history_of("nas", "2026-11-22")]


def test_days_of_one_history_share_a_lock() -> None:
    assert history_of("nas", "2026-11-20").lock == history_of("nas", "2026-11-22").lock
    assert history_of("nas", "2026-11-20").lock != history_of("backup", "2026-11-20").lock


def test_events_are_read_newest_first_over_segments_and_days(store: Store) -> None:
    count = EVENTS_PER_SEGMENT + 5
    for n in range(count):
        store.add_event(event(f"{n:05}", NOON + timedelta(seconds=n)))
    store.add_event(event("tomorrow", NOON + timedelta(days=1)))
    assert [shard.name for shard in store.event_segments()] == [
        "events/2026-11-22-0001",
        "events/2026-11-22-0002",
        "events/2026-11-23-0001",
    ]
    assert [found.id for found in store.events()] == ["tomorrow", *(f"{n:05}" for n in reversed(range(count)))]


def test_old_events_are_dropped_by_the_day(store: Store) -> None:
    for days in range(5):
        store.add_event(event(f"{days}", NOON - timedelta(days=days)))
    assert store.drop_old_events(2, NOON) == 2
    assert [found.id for found in store.events()] == ["0", "1", "2"]


def test_a_damaged_segment_does_not_stop_the_audit_trail(store: Store) -> None:
    store.add_event(event("1"))
    put_content(store, "events/2026-11-22-0001", b"{")
    put_content(store, "events/2026-11-22-0001-copy", b"{")
    store.add_event(event("2"))
    assert [found.id for found in store.read(events_of("2026-11-22-0002")).events] == ["2"]
    with pytest.raises(StoreError, match=r"events/2026-11-22-0001.* is damaged"):
        list(store.events())


# --- what the inventory's form is for ------------------------------------------------------------


def test_one_dataset_of_an_inventory_is_read_without_decoding_the_others(store: Store, place: Place) -> None:
    with store.transaction(NAS) as tx:
        for n in range(20):
            tx[NAS].datasets.put(dataset(f"tank/{n}"))
        tx[NAS].reports.put(
            Report(
                id="current",
                reported_at=NOON,
                changed_at=NOON,
                columns=[],
                digest=None,
                snapshot_count=60,
                dataset_count=20,
            )
        )
    good, bad = b'{"id":"tank/3","reported":true', b'{"id":"tank/3","reported":"??"'
    put_content(store, "inventories/nas", (content(store, "inventories/nas") or b"").replace(good, bad))
    inventory = store.read(NAS)
    assert inventory.reports.get("current").snapshot_count == 60
    assert len(inventory.datasets) == 20
    assert inventory.datasets.ids()[3] == "tank/3"
    assert inventory.datasets.get("tank/7") == dataset("tank/7")
    with pytest.raises(StoreError, match=r"inventories/nas.* is damaged"):  # so it was not looked at before
        inventory.datasets.get("tank/3")
    with store.transaction(NAS) as tx:  # nor is it when another one is changed
        tx[NAS].datasets.put(dataset("tank/7", 9))
    assert len(Store.open(place).read(NAS).datasets.get("tank/7").snapshots) == 9


def test_history_and_events_take_little_more_memory_than_their_files(store: Store, place: Place) -> None:
    day = history_of("nas", "2026-11-22")
    with store.transaction(day) as tx:
        for n in range(100):
            rows = [row(f"tank@{number}", number) for number in range(100)]
            tx[day].gone.put(GoneRow(id=f"{n}", dataset="tank", at=NOON, rows=rows))
        for n in range(EVENTS_PER_SEGMENT):
            store.add_event(event(f"{n}", subject="x" * 200))
    fresh = Store.open(place)
    for shard in (day, *fresh.event_segments()):
        size = len(content(fresh, shard.name) or b"")
        tracemalloc.start()
        for table in fresh.read(shard).tables.values():
            assert sum(1 for _ in table) >= 100
        assert tracemalloc.get_traced_memory()[0] < 2 * size
        tracemalloc.stop()
