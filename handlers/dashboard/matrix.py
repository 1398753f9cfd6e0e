"""A group's page: the dataset by system matrix, in parts, the worst first."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from handlers import plan_answers as a
from handlers.bodies import Offset
from handlers.dashboard.rendering import Page, Visit, link
from handlers.dashboard.standing import STATES, TROUBLE, Copy, Standing, standing_of
from handlers.sync_groups import get_group, interval_s

ROWS, COLUMNS = 50, 20  # shown at once


class MatrixQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which part of the matrix to show."""

    q: Annotated[str, Meta(max_length=256)] | None = None  # a part of the dataset's or the system's name
    state: str | None = None  # one of STATES, or trouble
    offset: Offset = 0
    column: Offset = 0


def show_group(visit: Visit, group_id: str, query: MatrixQuery) -> Page:
    """Show where each dataset of a group stands on each of its systems. Raises NotFound."""
    request = visit.request
    standing = standing_of(request, get_group(request, group_id))
    rows = [copies for copies in standing.rows() if _is_wanted(copies, query)]
    systems = _columns(standing, query)
    shown = systems[query.column : query.column + COLUMNS]
    values = {
        "standing": standing,
        "group": standing.group,
        "interval_s": interval_s(request, standing.group),
        "query": query,
        "systems": shown,
        "rows": [_row(copies, shown) for copies in rows[query.offset : query.offset + ROWS]],
        "row_pages": pages(visit, query, "offset", len(rows), ROWS),
        "column_pages": pages(visit, query, "column", len(systems), COLUMNS),
        "row_count": len(rows),
        "conflicts": standing.conflicts,
        "empty": [copy for copy in standing.copies if _is_made_by_hand(copy)],
    }
    return Page("group", standing.group.name, values)


def _is_wanted(copies: list[Copy], query: MatrixQuery) -> bool:
    words = (query.q or "").lower().split()
    names = [f"{copy.path} {copy.hostname} {copy.dataset}".lower() for copy in copies]
    named = not words or any(all(word in name for word in words) for name in names)
    states = TROUBLE if query.state == "trouble" else {query.state}
    return named and (query.state is None or any(copy.state in states for copy in copies))


def _columns(standing: Standing, query: MatrixQuery) -> list[a.StatusSystem]:
    """The systems: the hub first; where there are too many for one page, those with the worst copies next."""
    systems: list[a.StatusSystem] = standing.status["systems"]
    if len(systems) > COLUMNS:
        worst: dict[str, int] = {}
        for copy in standing.copies:
            place = STATES.index(copy.state)
            worst[copy.system_id] = min(place, worst.get(copy.system_id, place))
        systems = sorted(systems, key=lambda system: worst.get(system["system_id"], len(STATES)))
    return sorted(systems, key=lambda system: not system["is_hub"])


def _row(copies: list[Copy], systems: list[a.StatusSystem]) -> tuple[str, list[Copy | None]]:
    by_system = {copy.system_id: copy for copy in copies}
    return copies[0].path, [by_system.get(system["system_id"]) for system in systems]


def _is_made_by_hand(copy: Copy) -> bool:
    """A dataset that was made where a stream should make it: nothing is lost, and nothing can be received there."""
    return copy.newest is None and copy.state in ("late", "behind") and "without any snapshot" in copy.why


def pages(visit: Visit, query: Any, name: str, count: int, step: int) -> dict[str, Any]:
    """Where a part of a list begins and ends, and links to the parts before and after it."""
    path = visit.here.partition("?")[0]
    given = {field: getattr(query, field) for field in query.__struct_fields__}
    at = given[name]

    def page_at(offset: int) -> str:
        return link(path, **{**given, name: offset or None})

    return {
        "first": at + 1 if count else 0,
        "last": min(at + step, count),
        "count": count,
        "before": page_at(max(0, at - step)) if at else None,
        "after": page_at(at + step) if at + step < count else None,
    }
