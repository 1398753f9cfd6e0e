"""Where everything stands, as pages say it: each copy with one state and one word, the worst first."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakKeyDictionary

from handlers import plan_answers as a
from handlers.conflicts import conflicts_of
from handlers.instructions import GroupPlan
from handlers.request import Request
from handlers.sync import group_plan, present_status
from handlers.sync_groups import SyncGroup, visible_groups
from handlers.values import from_unix
from store import LEASES, REGISTRY, Store, group_records, inventory_of
from store.shards import Shard, View

# The worst first. What is not known is worse than what is on its way.
STATES = ("conflict", "error", "late", "expected", "syncing", "behind", "ok", "source")
TROUBLE = frozenset({"conflict", "error", "late"})
WORDS = {
    "conflict": "conflict",
    "error": "failing",
    "late": "late",
    "expected": "not registered yet",
    "syncing": "transferring",
    "behind": "behind",
    "ok": "in sync",
    "source": "source",
}


# A large group takes seconds to plan, and a page that refreshes itself asks again and again.
LASTS_S = 30
LASTS_TIMES = 10  # the time that planning took: then it never takes more than a tenth of a processor


@dataclass(frozen=True, slots=True)
class Copy:
    """A dataset on one system of a group."""

    group: SyncGroup
    path: str
    system_id: str
    hostname: str
    dataset: str  # the full name there
    state: str  # one of STATES
    word: str
    why: str
    is_source: bool
    since: datetime | None  # when the oldest wanted snapshot that it lacks was made
    newest_at: datetime | None
    common: a.NamedSnapshot | None  # the newest snapshot it shares with the source
    newest: a.NamedSnapshot | None
    lacking: int
    bytes_to_send: int | None

    @property
    def badness(self) -> tuple[int, float, str, str]:
        """Sorts the worst first."""
        since = self.since.timestamp() if self.since else float("inf")
        return STATES.index(self.state), since, self.path, self.hostname


@dataclass(frozen=True, slots=True)
class Standing:
    """A group, its matrix as the API shows it, and its copies."""

    context: GroupPlan
    status: a.GroupStatus
    copies: tuple[Copy, ...]
    conflicts: tuple[a.Conflict, ...]  # those that want a decision, or wait for one to be carried out

    @property
    def group(self) -> SyncGroup:
        """The group itself."""
        return self.context.group

    @property
    def counts(self) -> dict[str, int]:
        """How many copies are in each state, the worst first. Sources that are well don't count: they are no copies."""
        return counted(self.copies)

    def rows(self) -> list[list[Copy]]:
        """The copies of each dataset, the worst first; nothing of what has no snapshot anywhere."""
        found: dict[str, list[Copy]] = {}
        for copy in self.copies:
            found.setdefault(copy.path, []).append(copy)
        shown = [
            copies for copies in found.values() if any(each.newest or each.state != "ok" for each in _copies(copies))
        ]
        return sorted(shown, key=lambda copies: min(copy.badness for copy in copies))


def _copies(copies: Iterable[Copy]) -> Iterable[Copy]:
    return (copy for copy in copies if copy.state != "source" or copy.newest)


@dataclass(frozen=True, slots=True)
class _Known:
    """A standing, and until when it is good if nothing changes."""

    basis: tuple[object, ...]
    standing: Standing
    made_at: float
    lasts_s: float


_known: WeakKeyDictionary[Store, dict[str, _Known]] = WeakKeyDictionary()  # by store and group's id


def standings(request: Request) -> list[Standing]:
    """Every group that the caller may see, as it stands now."""
    return [standing_of(request, group) for group in visible_groups(request)]


def standing_of(request: Request, group: SyncGroup) -> Standing:
    """One group as it stands now, or stood a moment ago if nothing that bears on it was stored since."""
    of_store = _known.setdefault(request.store, {})
    basis, now = _basis(request, group), request.now.timestamp()
    known = of_store.get(group.id)
    if known is None or known.basis != basis or not 0 <= now - known.made_at <= known.lasts_s:
        started = time.perf_counter()
        standing = _standing(request, group)
        lasts_s = max(LASTS_S, LASTS_TIMES * (time.perf_counter() - started))
        known = of_store[group.id] = _Known(basis, standing, now, lasts_s)
    return known.standing


def _basis(request: Request, group: SyncGroup) -> tuple[object, ...]:
    """What a group's standing follows from, beside the time. Signs of life alone only count after a while."""
    shards: list[Shard[View]] = [REGISTRY, LEASES, group_records(group.id)]
    shards += [inventory_of(member.system_id) for member in group.members if member.registered]
    return group, *(request.store.read(shard).generation for shard in shards)


def _standing(request: Request, group: SyncGroup) -> Standing:
    context = group_plan(request, group)
    status = present_status(request, context)
    hostnames = {system["system_id"]: system for system in status["systems"]}
    copies = [
        _copy(request, group, row["dataset"], hostnames[system_id], cell)
        for row in status["datasets"]
        for system_id, cell in row["systems"].items()
    ]
    return Standing(context, status, tuple(copies), tuple(open_conflicts(request, context)))


def open_conflicts(request: Request, context: GroupPlan) -> list[a.Conflict]:
    """What a person should know of: not what is settled, and no snapshot that is only missing and does no harm."""
    return [
        conflict
        for conflict in conflicts_of(request, context, lambda each: not _is_minor(each.type, each.severity))
        if conflict["status"] != "resolved" and not is_minor(conflict)
    ]


def is_minor(conflict: a.Conflict) -> bool:
    """Whether nobody has to decide anything: snapshots are only missing, and none of them was the last copy."""
    return _is_minor(conflict["type"], conflict["severity"])


def _is_minor(type: str, severity: str) -> bool:
    return type == "missing" and severity != "high"


def _copy(request: Request, group: SyncGroup, path: str, system: a.StatusSystem, cell: a.StatusCell) -> Copy:
    state = _state(system, cell)
    newest = cell["newest"]
    return Copy(
        group=group,
        path=path,
        system_id=system["system_id"],
        hostname=system["hostname"],
        dataset=cell["dataset"],
        state=state,
        word=_word(state, cell),
        why=cell["why"],
        is_source=cell["is_source"],
        since=_since(request, cell["lag_s"]),
        newest_at=newest["timestamp"] if newest else None,
        common=cell["newest_common"],
        newest=newest,
        lacking=cell["lag_snapshots"],
        bytes_to_send=cell["bytes_to_send"],
    )


def _since(request: Request, lag_s: int) -> datetime | None:
    """The moment from which a lag counts: the same whenever it is asked, so that a page stays as it is."""
    return from_unix(math.floor(request.now.timestamp()) - lag_s) if lag_s else None


def _state(system: a.StatusSystem, cell: a.StatusCell) -> str:
    if system["expected"]:
        return "expected"
    if cell["status"] in ("conflict", "error"):
        return str(cell["status"])
    if cell["late"]:
        return "late"
    if cell["status"] == "syncing":
        return "syncing"
    if cell["is_source"]:
        return "source"
    return "ok" if cell["status"] == "in_sync" else "behind"


def _word(state: str, cell: a.StatusCell) -> str:
    if state == "late" and cell["is_source"]:
        return "no new snapshots"
    if state in ("late", "behind") and cell["newest_common"] is None:
        return "not there yet"
    return WORDS[state]


def counted(copies: Iterable[Copy]) -> dict[str, int]:
    """How many copies are in each state, the worst first; sources that are well left out."""
    states = [copy.state for copy in copies]
    return {state: states.count(state) for state in STATES if state != "source" and state in states}
