"""A dataset's page: where each copy stands, its snapshots over time, and how to get data back from each copy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct

from handlers.bodies import Offset
from handlers.dashboard.matrix import pages
from handlers.dashboard.rendering import Page, Visit, link
from handlers.dashboard.restoring import Restore, restores_of
from handlers.dashboard.standing import Copy, Standing, standing_of
from handlers.dashboard.timeline import Lane, draw_timeline
from handlers.instructions import skip_of
from handlers.sync_groups import get_group
from handlers.values import from_unix
from planner.model import Snapshot
from planner.paths import dataset_of
from store import NotFound

LISTED = 40  # snapshots in the table at once
SPANS = ((1, "24 hours"), (7, "7 days"), (30, "30 days"), (365, "a year"))
WIDE, NARROW = 1080, 360


class DatasetQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which dataset, and how much of its past."""

    path: Annotated[str, Meta(max_length=256)] = ""
    days: Annotated[int, Meta(ge=1, le=36500)] | None = None
    offset: Offset = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A snapshot, and what each system has of it: here, missing, or nothing."""

    name: str
    creation: Any
    marks: tuple[str, ...]


def show_dataset(visit: Visit, group_id: str, query: DatasetQuery) -> Page:
    """Show one dataset of a group on all its systems. Raises NotFound."""
    request = visit.request
    standing = standing_of(request, get_group(request, group_id))
    copies = [copy for copy in standing.copies if copy.path == query.path]
    if not copies:
        raise NotFound(f"no dataset '{query.path}' in the sync group '{standing.group.name}'")
    copies.sort(key=lambda copy: not copy.is_source)
    held = {copy.system_id: snapshots_of(standing, copy) for copy in copies}
    rows = _rows(copies, held)
    start, end = _frame(held.values(), request.now.timestamp(), query.days)
    lanes = [_lane(standing, copy, held[copy.system_id]) for copy in copies]
    skips = [skip_of(skip) for skip in standing.context.plan.skips if skip.path == query.path]
    values = {
        "group": standing.group,
        "query": query,
        "copies": copies,
        "timelines": [draw_timeline(lanes, start, end, width) for width in (WIDE, NARROW)],
        "spans": _spans(group_id, query, (request.now.timestamp() - start) / 86400),
        "rows": rows[query.offset : query.offset + LISTED],
        "row_pages": pages(visit, query, "offset", len(rows), LISTED),
        "conflicts": [each for each in standing.conflicts if each["dataset"] == query.path],
        "skips": skips,
        "hostnames": {copy.system_id: copy.hostname for copy in copies},
        "restores": [restore for copy in copies for restore in _restores(standing, copies, copy)],
    }
    return Page("dataset", query.path or f"{standing.group.name}: root", values)


def snapshots_of(standing: Standing, copy: Copy) -> tuple[Snapshot, ...]:
    """What a system has of a dataset, oldest first; the last known where its pool is not imported."""
    member = standing.context.members[copy.system_id]
    name = dataset_of(member, copy.path)
    replica = member.replicas.get(name) or member.absent.get(name)
    return replica.snapshots if replica is not None else ()


def _missing(standing: Standing, copy: Copy) -> tuple[Snapshot, ...]:
    cells = standing.context.plan.cells
    return next((cell.missing for cell in cells if (cell.system_id, cell.path) == (copy.system_id, copy.path)), ())


def _lane(standing: Standing, copy: Copy, snapshots: tuple[Snapshot, ...]) -> Lane:
    note = "source" if copy.is_source else copy.word
    base = copy.common["guid"] if copy.common else None
    return Lane(copy.hostname, snapshots, copy.is_source, base, _missing(standing, copy), note)


def _frame(held: Iterable[tuple[Snapshot, ...]], now: float, days: int | None) -> tuple[float, float]:
    """From the oldest snapshot, or from so many days ago, until now; never less than an hour."""
    created = [each.creation for snapshots in held for each in snapshots if each.creation is not None]
    oldest = min(created, default=now - 86400)
    start = min(now - 3600, oldest if days is None else max(oldest, now - days * 86400))
    step = max(60, int((now - start) / 200))  # the picture moves on in steps too small to see
    return (start if start == oldest else start // step * step), max([-(-now // step) * step, *created])


def _spans(group_id: str, query: DatasetQuery, days_shown: float) -> list[tuple[str, str, int | None]]:
    """Words, link and days for each part of the past that is less than all of it."""
    path = f"/dashboard/groups/{group_id}/dataset"
    chosen = [(words, days) for days, words in SPANS if days < days_shown or query.days is not None]
    return [(words, link(path, path=query.path, days=days), days) for words, days in [*chosen, ("all", None)]]


def _rows(copies: list[Copy], held: dict[str, tuple[Snapshot, ...]]) -> list[Row]:
    """Every snapshot of the dataset by guid, the newest first."""
    known: dict[str, Snapshot] = {}
    names: dict[str, dict[str, str]] = {}
    for copy in copies:
        for snapshot in held[copy.system_id]:
            key = snapshot.guid or f"@{snapshot.name}"
            known.setdefault(key, snapshot)
            names.setdefault(key, {})[copy.system_id] = snapshot.name
    newest = sorted(known.items(), key=lambda item: (item[1].creation or 0, item[1].createtxg or 0), reverse=True)
    return [
        Row(snapshot.name, from_unix(snapshot.creation), tuple(_mark(copy, names[key], snapshot) for copy in copies))
        for key, snapshot in newest
    ]


def _mark(copy: Copy, names: dict[str, str], snapshot: Snapshot) -> str:
    """What a system has of a snapshot, in words."""
    if copy.system_id not in names:
        return ""
    named = names[copy.system_id]
    words = "here" if named == snapshot.name else f"here, as {named}"
    if copy.common is not None and not copy.is_source and snapshot.guid == copy.common["guid"]:
        return f"{words}: newest in common"
    return words if len(names) > 1 or copy.is_source else f"only {words}"


def _restores(standing: Standing, copies: list[Copy], copy: Copy) -> list[Restore]:
    return restores_of(standing.context, copies, copy)
