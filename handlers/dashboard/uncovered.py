"""Datasets that no group is about: nobody looks after their copies."""

from dataclasses import dataclass
from datetime import datetime

from handlers.dashboard.rendering import Page, Visit
from handlers.request import Request
from handlers.sync_groups import SyncGroup, visible_groups
from handlers.values import from_unix
from planner.globs import selects
from planner.model import Member
from planner.paths import ancestors, is_internal, is_set_aside, path_of
from store import REGISTRY, inventory_of


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A dataset in no group."""

    system_id: str
    hostname: str
    dataset: str
    used: int | None
    snapshots: int
    newest_at: datetime | None
    is_set_aside: bool  # by the resolution of a conflict


def show_uncovered(visit: Visit) -> Page:
    """Show the datasets that are in no group."""
    found = uncovered_datasets(visit.request)
    return Page("uncovered", "Datasets in no group", {"found": found})


def uncovered_datasets(request: Request) -> list[Uncovered]:
    """The datasets that no group selects, on the systems that the caller may see; the largest first.

    What only holds a group's root, like the pool above it, is no dataset that somebody forgot.
    """
    groups = visible_groups(request)
    own = request.caller.system_id if request.caller.is_agent else None
    found = []
    for system in request.store.read(REGISTRY).systems.all():
        if own not in (None, system.id):
            continue
        members = [
            (group, Member(system.id, system.hostname, member.root))
            for group in groups
            for member in group.members
            if member.system_id == system.id
        ]
        above = {name for _, member in members if member.root for name in ancestors(member.root)}
        datasets = request.store.read(inventory_of(system.id)).datasets
        for name in datasets.ids():
            if name in above or is_internal(name) or _is_covered(name, members):
                continue
            document = datasets.get(name)
            newest = max((row.creation for row in document.snapshots if row.creation is not None), default=None)
            found.append(
                Uncovered(
                    system.id,
                    system.hostname,
                    document.id,
                    document.used,
                    len(document.snapshots),
                    from_unix(newest),
                    is_set_aside(document.id),
                )
            )
    return sorted(found, key=lambda each: (-(each.used or 0), each.hostname, each.dataset))


def _is_covered(dataset: str, members: list[tuple[SyncGroup, Member]]) -> bool:
    if is_set_aside(dataset):
        return False
    for group, member in members:
        path = path_of(member, dataset)
        globs = group.options.datasets
        if path is not None and selects(globs.include, globs.exclude, path):
            return True
    return False
