"""What systems once reported and later did not, as the planner asks for it: read when a plan turns on it, no sooner."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from handlers.memory import Memory
from planner.model import Gone
from store import Store, StoreError
from store.shards import History, Shard

DAYS = 4096  # of whose history, one system's each, this process remembers what it made

_ByDataset = Mapping[str, tuple[Gone, ...]]


@dataclass(frozen=True, slots=True)
class StoredPast:
    """The history of every system in a store. A day that can't be read is as if nothing had gone on it, which lets no
    more be deleted."""

    store: Store
    days: dict[str, list[_ByDataset]] = field(default_factory=dict, compare=False, repr=False)  # by system, once asked

    def of(self, system_id: str, dataset: str) -> Iterable[Gone]:
        """What a system once reported of a dataset and later did not."""
        if system_id not in self.days:
            segments = self.store.history_segments(system_id)
            self.days[system_id] = [_day(self.store, system_id, shard) for shard in segments]
        return (gone for day in self.days[system_id] for gone in day.get(dataset, ()))


@dataclass(frozen=True, slots=True)
class _Day:
    generation: str
    gone: _ByDataset


_memory: Memory[_Day] = Memory(DAYS)


def _day(store: Store, system_id: str, shard: Shard[History]) -> _ByDataset:
    """What went on a day: the same objects for as long as its file is the same."""
    place = _memory.place(store, shard.name)
    try:
        segment = store.read(shard)
        made = place.kept
        if made is None or made.generation != segment.generation:
            made = place.kept = _Day(segment.generation, _by_dataset(system_id, segment))
    except StoreError:
        return {}
    return made.gone


def _by_dataset(system_id: str, segment: History) -> _ByDataset:
    found: dict[str, list[Gone]] = {}
    for each in segment.gone.all():
        hub_of = tuple(each.hub_of)
        rows = (Gone(system_id, each.dataset, row.guid, row.name, hub_of) for row in each.rows if row.guid)
        found.setdefault(each.dataset, []).extend(rows)
    return {dataset: tuple(rows) for dataset, rows in found.items()}
