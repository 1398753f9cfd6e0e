"""A transaction inside another is a part of it: its locks are kept, its changes saved or not, with the outer one's."""

from collections.abc import Callable, Iterator

import pytest

from store import LEASES, REGISTRY, Busy, NotFound, Store, events_of, group_records, inventory_of
from store.store import EVENTS_PER_SEGMENT
from tests.store_samples import Place, content, dataset, event, everything, put_content, put_systems, state, system

pytestmark = pytest.mark.on_both
NAS, RECORDS = inventory_of("nas"), group_records("g")


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    opened = Store.open(place)
    with opened.transaction(REGISTRY, NAS, RECORDS) as tx:
        tx[REGISTRY].systems.put(system("a"))
        tx[NAS].datasets.put(dataset("tank"))
        tx[RECORDS].states.put(state("s"))
    yield opened
    opened.close()


@pytest.fixture
def other(store: Store, place: Place) -> Iterator[Store]:
    """The same store as another process has it open."""
    opened = Store.open(place, lock_timeout_s=0.05)
    yield opened
    opened.close()


def put_state(store: Store, id: str, **fields: str) -> None:
    with store.transaction(RECORDS) as tx:
        tx[RECORDS].states.put(state(id, **fields))


def event_ids(store: Store) -> list[str]:
    return sorted(each.id for each in store.events())


def test_what_a_nested_one_changed_is_there_when_the_outer_one_ends(store: Store, other: Store) -> None:
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("b"))
        put_state(store, "t")
        store.add_event(event("1"))
        assert event_ids(other) == []
        assert other.read(RECORDS).states.ids() == store.read(RECORDS).states.ids() == ["s"]
    for each in (store, other):
        assert each.read(REGISTRY).systems.ids() == ["a", "b"]
        assert each.read(RECORDS).states.ids() == ["s", "t"]
        assert event_ids(each) == ["1"]


def test_its_locks_are_held_until_then(store: Store, other: Store) -> None:
    with store.transaction(REGISTRY):
        put_state(store, "t")
        with pytest.raises(Busy, match="groups/g is being written by others"):
            put_state(other, "u")
    put_state(other, "u")
    assert store.read(RECORDS).states.ids() == ["s", "t", "u"]


def outer_that_raises(store: Store, do: Callable[[], object]) -> None:
    def change_and_fail() -> None:
        with store.transaction(REGISTRY) as tx:
            tx[REGISTRY].systems.put(system("b"))
            do()
            store.add_event(event("1"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_and_fail()


@pytest.mark.parametrize("what", ["put", "remove"])
def test_nothing_of_it_is_there_when_the_outer_one_raises(store: Store, other: Store, what: str) -> None:
    before = everything(store)
    outer_that_raises(store, lambda: put_state(store, "t") if what == "put" else store.remove(RECORDS))
    assert everything(store) == everything(other) == before
    assert store.read(RECORDS).states.ids() == ["s"]
    put_state(other, "u")  # and nothing is left locked


@pytest.mark.parametrize("what", ["start afresh", "put aside"])
def test_nor_is_a_damaged_shard_replaced_then(store: Store, what: str) -> None:
    put_content(store, RECORDS.name, b"{")
    do = store.start_afresh if what == "start afresh" else store.put_aside
    before = everything(store)
    outer_that_raises(store, lambda: do(RECORDS))
    assert everything(store) == before
    with store.transaction(REGISTRY):
        do(RECORDS)
        assert content(store, RECORDS.name) == b"{"
        put_state(store, "t")
    assert store.read(RECORDS).states.ids() == ["t"]


def test_one_that_raises_leaves_what_others_changed(store: Store, other: Store) -> None:
    def change_and_fail() -> None:
        with store.transaction(RECORDS) as inner:
            inner[RECORDS].states.put(state("u"))
            inner[RECORDS].states.remove("t")
            inner[RECORDS].states.get("x")

    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("b"))
        put_state(store, "t")
        with pytest.raises(NotFound):
            change_and_fail()
        with store.transaction(RECORDS) as inner:
            assert inner[RECORDS].states.ids() == ["s", "t"]
    assert other.read(RECORDS).states.ids() == ["s", "t"]
    assert other.read(REGISTRY).systems.ids() == ["a", "b"]


@pytest.mark.parametrize("shard", [RECORDS, NAS], ids=["TinyDB", "bytes"])
def test_several_see_what_those_before_changed(store: Store, other: Store, shard: object) -> None:
    name, make = ("states", state) if shard is RECORDS else ("datasets", dataset)
    with store.transaction(REGISTRY):
        for id in "bcd":
            with store.transaction(shard) as tx:  # type: ignore[arg-type]
                table = tx[shard].tables[name]  # type: ignore[index]
                known = table.ids()
                table.put(make(id))
                table.remove(known[-1])
    assert other.read(shard).tables[name].ids() == ["d"]  # type: ignore[arg-type]
    assert [int(number) for number, _ in other.read(shard).tables[name]._rows.values()] == [4]  # type: ignore[arg-type]


def test_what_one_changed_and_another_changed_back_is_as_it_was(store: Store, other: Store) -> None:
    with store.transaction(REGISTRY):
        put_state(store, "t")
        with store.transaction(RECORDS) as tx:
            tx[RECORDS].states.remove("t")
    assert other.read(RECORDS).states.ids() == ["s"]


def test_a_shard_that_was_removed_is_empty_for_those_after(store: Store, other: Store) -> None:
    with store.transaction(REGISTRY):
        store.remove(RECORDS)
        with store.transaction(RECORDS) as tx:
            assert tx[RECORDS].states.ids() == []
    assert other.shards("groups") == []
    with store.transaction(REGISTRY):
        store.remove(RECORDS)
        put_state(store, "t")
    assert other.read(RECORDS).states.ids() == ["t"]


def test_a_shard_of_a_block_that_goes_on_is_not_to_be_had_twice(store: Store) -> None:
    with (
        store.transaction(REGISTRY, RECORDS),
        pytest.raises(AssertionError, match="groups/g can't be locked after groups/g"),
        store.transaction(RECORDS),
    ):
        raise RuntimeError("not reached")


def test_one_that_ended_counts_in_the_order_of_locks(store: Store) -> None:
    with store.transaction(REGISTRY):
        put_state(store, "t")
        with pytest.raises(AssertionError, match="leases can't be locked after groups/g"), store.transaction(LEASES):
            raise RuntimeError("not reached")
        put_state(store, "u")  # what is held already is no matter
    put_systems(store, "b")
    assert store.read(RECORDS).states.ids() == ["s", "t", "u"]


def test_one_that_is_not_free_leaves_the_outer_one_what_it_has(store: Store, other: Store) -> None:
    with store.transaction(RECORDS), other.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("b"))
        with pytest.raises(Busy):
            put_state(other, "t")
        other.add_event(event("1"))
    assert store.read(REGISTRY).systems.ids() == ["a", "b"]
    assert store.read(RECORDS).states.ids() == ["s"]
    assert event_ids(store) == ["1"]


def test_events_of_one_transaction_fill_segments_as_others_do(store: Store, other: Store) -> None:
    for n in range(3):
        store.add_event(event(f"before {n}"))
    with store.transaction(REGISTRY):
        for n in range(2 * EVENTS_PER_SEGMENT):
            store.add_event(event(f"{n:05}"))
    segments = [f"2026-11-22-000{n}" for n in (1, 2, 3)]
    assert other.event_segments() == [events_of(segment) for segment in segments]
    counts = [len(other.read(segment).events) for segment in other.event_segments()]
    assert counts == [EVENTS_PER_SEGMENT, EVENTS_PER_SEGMENT, 3]
    assert len(set(event_ids(other))) == 2 * EVENTS_PER_SEGMENT + 3


def test_a_segment_that_is_damaged_is_left_to_itself_within_a_transaction_too(store: Store) -> None:
    store.add_event(event("1"))
    put_content(store, "events/2026-11-22-0001", b"{")
    with store.transaction(REGISTRY):
        store.add_event(event("2"))
        store.add_event(event("3"))
    assert store.read(events_of("2026-11-22-0002")).events.ids() == ["2", "3"]
