"""An inventory as the planner sees it: made anew only where a report said something new."""

import gc
import weakref
from typing import Any

from handlers.memory import Memory
from handlers.replicas import Replicas, replicas_of
from store import inventory_of
from tests.test_inventories import listing
from tests.witness import Agent, Client


def seen(agent: Agent) -> Replicas:
    store = agent.witness.store
    return replicas_of(store, agent.id, store.read(inventory_of(agent.id)))


def test_only_what_a_report_changed_is_made_anew(client: Client) -> None:
    nas = client.register("nas")
    nas.report(listing("tank: 1") + listing("tank/a: 2 3") + listing("tank/b: 4"))
    before = seen(nas)
    assert seen(nas) is before
    nas.report(listing("tank: 1") + listing("tank/a: 2 3 5") + listing("tank/c: 6"))
    after = seen(nas)
    assert list(after.present) == ["tank", "tank/a", "tank/c"]
    assert after.present["tank"] is before.present["tank"]
    assert [snapshot.guid for snapshot in after.present["tank/a"].snapshots] == ["2", "3", "5"]
    assert [snapshot.guid for snapshot in before.present["tank/a"].snapshots] == ["2", "3"]
    assert after.made_of["tank"][0].inventory.generation == after.generation, "the old file's bytes are kept"


def test_a_pool_that_is_not_imported_moves_aside_and_comes_back(client: Client) -> None:
    nas = client.register("nas")
    both = listing("tank: 1") + listing("usb: 2")
    for text, present, absent in (
        (both, ["tank", "usb"], []),
        (listing("tank: 1"), ["tank"], ["usb"]),
        (listing("tank: 1 3"), ["tank"], ["usb"]),
        (both, ["tank", "usb"], []),
    ):
        nas.report(text)
        assert (sorted(seen(nas).present), sorted(seen(nas).absent)) == (present, absent)


def test_each_store_has_its_own_memory_which_goes_with_it() -> None:
    class Place:
        """Stands for a store."""

    memory: Memory[str] = Memory(2)
    one: Any = Place()
    other: Any = Place()
    memory.place(one, "a").kept = "of one"
    assert memory.place(other, "a").kept is None
    assert memory.place(one, "a").kept == "of one"
    memory.place(one, "b").kept = memory.place(one, "c").kept = "newer"
    assert memory.place(one, "a").kept is None
    ghost = weakref.ref(one)
    del one
    gc.collect()
    assert ghost() is None
