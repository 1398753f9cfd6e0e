"""The first page: is everything where it should be?"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from handlers import answers as a
from handlers.alerts import alerts_in_force
from handlers.dashboard.rendering import Page, Visit, link
from handlers.dashboard.standing import STATES, TROUBLE, Copy, Standing, counted, standings
from handlers.dashboard.systems import systems_health
from handlers.dashboard.transfers import transfers_of
from handlers.dashboard.uncovered import uncovered_datasets

SHOWN = 12  # troubles; the groups' pages have them all
ALIKE = 3  # so many copies of one system in one state are one line


@dataclass(frozen=True, slots=True)
class Trouble:
    """A line of what needs a look."""

    state: str
    word: str
    title: str
    detail: str
    since: datetime | None
    group: str
    path: str  # of the page that says more


def show_overview(visit: Visit) -> Page:
    """Show what needs a look, what is under way, and each group and system in a line."""
    request = visit.request
    found = standings(request)
    health = systems_health(request)
    silent = {each["system_id"]: each for each in health if each["connectivity_status"] == "offline"}
    enabled = [standing for standing in found if standing.group.options.enabled]
    # the cause comes before what follows from it, and what is broken before what is late
    troubles = sorted([*_silent(enabled, silent), *_troubles(enabled, silent)], key=lambda each: _rank(each.state))
    copies = [copy for standing in enabled for copy in standing.copies]
    values = {
        "verdict": _verdict(copies, troubles),
        "counts": counted(copies),
        "troubles": troubles[:SHOWN],
        "hidden": max(0, len(troubles) - SHOWN),
        "alerts": [] if request.caller.is_agent else alerts_in_force(request.store),
        "standings": found,
        "health": health,
        "transfers": transfers_of(request),
        "uncovered": len(uncovered_datasets(request)),
    }
    return Page("overview", "Overview", values)


def _rank(state: str) -> int:
    return STATES.index(state)


def _verdict(copies: list[Copy], troubles: list[Trouble]) -> tuple[str, str]:
    """The state of it all, and the sentence that a person reads first."""
    counts = counted(copies)
    if not copies:
        return "expected", "Nothing is watched yet"
    deciding = sum(counts.get(state, 0) for state in ("conflict", "error"))
    late = counts.get("late", 0)
    if deciding:
        more = f", and {late} {'is' if late == 1 else 'are'} late" if late else ""
        copies_need = "1 copy needs" if deciding == 1 else f"{deciding} copies need"
        return "conflict", f"{copies_need} you{more}"
    if late:
        return "late", f"{late} {'copy is' if late == 1 else 'copies are'} late"
    if any(trouble.state in TROUBLE for trouble in troubles):
        return "late", "Some systems are silent"
    if counts.get("expected"):
        return "expected", "Waiting for systems to register"
    if set(counts) <= {"ok"}:
        return "ok", "Everything is where it should be"
    return "ok", "All is well, and the newest is on its way"


def _silent(found: Iterable[Standing], silent: dict[str, a.SystemHealth]) -> list[Trouble]:
    """The systems that said nothing for too long."""
    lines = []
    for system_id, health in silent.items():
        late = [
            copy
            for standing in found
            for copy in standing.copies
            if copy.system_id == system_id and copy.state == "late"
        ]
        if any(standing.group.has(system_id) for standing in found):
            copies = (
                f"{len(late)} of its copies {'is' if len(late) == 1 else 'are'} late" if late else "no copy is late"
            )
            groups = ", ".join(sorted({copy.group.name for copy in late}))
            where = link(f"/dashboard/systems/{system_id}")
            lines.append(Trouble("late", "silent", health["hostname"], copies, health["last_seen"], groups, where))
    return lines


def _troubles(found: Iterable[Standing], silent: dict[str, a.SystemHealth]) -> list[Trouble]:
    """The copies that are not as they should be, the worst first; many of one system and state in one line."""
    bad = [
        copy
        for standing in found
        for copy in standing.copies
        if copy.state in TROUBLE and not (copy.state == "late" and copy.system_id in silent)
    ]
    alike: dict[tuple[str, str, str], list[Copy]] = {}
    for copy in sorted(bad, key=lambda each: each.badness):
        alike.setdefault((copy.group.id, copy.system_id, copy.word), []).append(copy)
    lines = []
    for copies in alike.values():
        lines += [_together(copies)] if len(copies) >= ALIKE else [_alone(copy) for copy in copies]
    return lines


def _alone(copy: Copy) -> Trouble:
    where = link(f"/dashboard/groups/{copy.group.id}/dataset", path=copy.path)
    title = f"{copy.path or '(root)'} on {copy.hostname}"
    return Trouble(copy.state, copy.word, title, copy.why, copy.since, copy.group.name, where)


def _together(copies: list[Copy]) -> Trouble:
    first = copies[0]
    where = link(f"/dashboard/groups/{first.group.id}", state=first.state)
    names = ", ".join(copy.path or "(root)" for copy in copies[:4])
    detail = names + (f" and {len(copies) - 4} more" if len(copies) > 4 else "")
    title = f"{len(copies)} datasets on {first.hostname}"
    return Trouble(first.state, first.word, title, detail, first.since, first.group.name, where)
