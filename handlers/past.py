"""What systems once reported and later did not, as the planner asks for it: read when a plan turns on it, no sooner."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from handlers.memory import Memory
from planner.model import Gone
from store import Damaged, Store
from store.documents import GoneRow
from store.shards import History, Shard

SYSTEMS = 1024  # of whose history this process remembers what it made
CHANGING = 2  # of the newest days may be written to; those before them are only dropped

_Guids = tuple[tuple[str, ...], "array[int]"]  # the groups that the system led then, and what went: eight bytes each
_ByDataset = Mapping[str, list[_Guids]]


@dataclass(frozen=True, slots=True)
class StoredPast:
    """The history of every system in a store. A day whose file is damaged is as if nothing had gone on it: that lets
    nothing be deleted."""

    store: Store
    days: dict[str, list[_ByDataset]] = field(default_factory=dict)  # by system, once asked

    def guids(self, system_id: str, dataset: str, hub_of: str | None = None) -> Iterator[str]:
        """What a system once reported of a dataset and later did not; if asked so, while it was a group's hub."""
        if system_id not in self.days:
            self.days[system_id] = _days(self.store, system_id)
        for day in self.days[system_id]:
            for led, guids in day.get(dataset, ()):
                if hub_of is None or hub_of in led:
                    yield from map(str, guids)

    def since(self, system_id: str, dataset: str, moment: float) -> Iterable[Gone]:
        """That which went at a moment or later, with its names."""
        day = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
        for shard in self.store.history_segments(system_id):
            for each in _rows(self.store, shard) if shard.name.rpartition("/")[2] >= day else ():
                if each.dataset == dataset and each.at.timestamp() >= moment:
                    yield from (Gone(system_id, dataset, row.guid, row.name) for row in each.rows if row.guid)


_memory: Memory[dict[str, _ByDataset]] = Memory(SYSTEMS)


def _days(store: Store, system_id: str) -> list[_ByDataset]:
    place = _memory.place(store, system_id)
    known, segments = place.kept or {}, store.history_segments(system_id)
    days = {shard.name: known.get(shard.name) or _by_dataset(store, shard) for shard in segments[:-CHANGING]}
    place.kept = days
    return [*days.values(), *(_by_dataset(store, shard) for shard in segments[-CHANGING:])]


def _by_dataset(store: Store, shard: Shard[History]) -> _ByDataset:
    found: dict[str, dict[tuple[str, ...], array[int]]] = {}
    for each in _rows(store, shard):
        guids = found.setdefault(each.dataset, {}).setdefault(tuple(each.hub_of), array("Q"))
        guids.extend(int(row.guid) for row in each.rows if row.guid)
    return {dataset: list(by_led.items()) for dataset, by_led in found.items()}


def _rows(store: Store, shard: Shard[History]) -> list[GoneRow]:
    try:
        return store.read(shard).gone.all()
    except Damaged:
        return []
