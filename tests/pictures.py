"""Histories as pictures: `A: 1 #2 3  B: 1 x` reads as members, and a plan is drawn the same way.

    1 2 3     snapshots, oldest first: the word is the guid and the name; digits were made on that day
    x X       one of the member's own: a small letter is empty, a capital has data
    2@foo     guid 2, named foo
    #2        a bookmark of 2
    ~2        known by name only
    x?        how much it wrote is unknown; ? alone: how much was written since the newest
    *         at the end: written to since the newest
    none      no dataset; nothing after the colon: no dataset either
    ()        a dataset without any snapshot
    A- A/     a member whose inventory is stale; whose pool is not imported

A drawn step reads `B 1..3`: B gets 3 on top of 1, with all in between; `1>3` steps over some; `#1..2` starts at a
bookmark; `full 1`; `via C` names a source that is neither A nor the usual one.
"""

import re
from dataclasses import replace
from typing import Any

from planner.model import Bookmark, Lease, Member, Plan, Policy, Replica, Snapshot, Step

DAY = 86400
NOW = 100.0 * DAY
SIZE = 1000

_MEMBER = re.compile(r"([A-Z])([-/]?):")


def history_of(line: str, dataset: str = "tank/data", **fields: Any) -> Replica | None:
    """The replica that a line of words draws; None where it says there is none."""
    words = line.split()
    if words in ([], ["none"]):
        return None
    snapshots: list[Snapshot] = []
    bookmarks: list[Bookmark] = []
    written: int | None = 0
    creation = 0
    for txg, word in enumerate(words, 1):
        if word in ("*", "?"):
            written = SIZE if word == "*" else None
        elif word != "()":
            plain = word.strip("#~?")
            guid, _, name = plain.partition("@")
            creation = int(guid) * DAY if guid.isdigit() else creation + 60
            if word.startswith("#"):
                bookmarks.append(Bookmark(name or guid, guid, txg, creation))
            else:
                snapshots.append(_snapshot(word, guid, name or guid, txg, creation))
    settings: dict[str, Any] = {"kind": "filesystem", "written": written, "encryption": "off", "readonly": True}
    return Replica(dataset, snapshots=tuple(snapshots), bookmarks=tuple(bookmarks), **{**settings, **fields})


def _snapshot(word: str, guid: str, name: str, txg: int, creation: int) -> Snapshot:
    by_name = word.startswith("~")
    written = None if word.endswith("?") else 0 if guid.islower() else SIZE
    return Snapshot(
        name,
        "" if by_name else guid,
        None if by_name else txg,
        creation,
        used=0,
        referenced=SIZE * txg,
        written=written,
        userrefs=0,
        by_name=by_name,
    )


def members_of(picture: str, dataset: str = "data", **fields: Any) -> list[Member]:
    """The members that a picture draws, each with one dataset below its root `tank`."""
    parts = _MEMBER.split(picture)
    return [
        member_with(name, mark, {dataset: line}, **fields)
        for name, mark, line in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    ]


def member_with(name: str, mark: str, lines: dict[str, str], **fields: Any) -> Member:
    """One member with several datasets below its root `tank`."""
    held = {}
    for path, line in lines.items():
        replica = history_of(line, f"tank/{path}" if path else "tank", **fields)
        if replica is not None:
            held[replica.dataset] = replica
    pool = {"tank": Replica("tank", kind="filesystem", written=0, encryption="off")}
    at = NOW - 10 * DAY if mark == "-" else NOW
    if mark == "/":
        return Member(name, f"host{name}", "tank", {}, held, at, at, at)
    return Member(name, f"host{name}", "tank", {**pool, **held}, {}, at, at, at)


def hub_policy(**fields: Any) -> Policy:
    """A group that A leads."""
    return peers_policy(**{"directional": True, "hub": "A", **fields})


def peers_policy(**fields: Any) -> Policy:
    """A group that nobody leads."""
    settings: dict[str, Any] = {"order": ("A", "B", "C", "D"), "include": ("*/**",), "grace_s": 600}
    return Policy("g", "group", **{**settings, **fields})


def draw(plan: Plan, path: str = "data", usual: str = "A") -> str:
    """What a plan does to one dataset, in its order: `B full 1, B 1..3, C 2..3 via B`; and who is in conflict."""
    drawn = [draw_step(step, usual) for step in plan.steps if step.path == path]
    for conflict in plan.conflicts:
        if conflict.path == path and conflict.type != "missing":
            apart = [c.system_id for c in plan.cells if c.path == path and c.status == "conflict"]
            drawn.append(f"{'+'.join(apart)} {conflict.type}")
    return ", ".join(drawn) or "nothing"


def draw_step(step: Step, usual: str) -> str:
    """One step."""
    via = f" via {step.source}" if step.source not in (usual, None) else ""
    match step.type:
        case "create":
            what = f"full {step.end.guid}" if step.end else "full"
        case "sync":
            assert step.base is not None
            assert step.end is not None
            mark = "#" if isinstance(step.base, Bookmark) else ""
            what = f"{mark}{step.base.guid}{'..' if step.intermediates else '-'}{step.end.guid}"
        case "resume":
            what = f"rest of {step.end.guid if step.end else ''}"
        case "delete":
            what = f"delete {' '.join(step.expected_guids)}"
        case "bookmark" | "release":
            what = f"{step.type} {step.new_name}"
        case _:
            what = step.type
    return f"{step.target} {what}{via}"


def reasons(plan: Plan, target: str | None = None) -> str:
    """Why things were left out, for every member or one."""
    return "; ".join(skip.reason for skip in plan.skips if target in (None, skip.target))


def status(plan: Plan, system_id: str, path: str = "data") -> str:
    """The state of one cell."""
    return next(cell.status for cell in plan.cells if (cell.path, cell.system_id) == (path, system_id))


def story(plan: Plan) -> list[str]:
    """Every step in one word, with the dataset that it makes or changes."""
    return [f"{step.type} {step.target_dataset}" for step in plan.steps]


def lease_of(step: Step, **fields: Any) -> Lease:
    """The lease of a step's executor."""
    lease = Lease(
        step.action_id,
        "g",
        step.executor,
        step.source,
        step.target,
        step.target_dataset,
        step.source_dataset,
        step.base.guid if step.base else None,
        step.end.guid if step.end else None,
        NOW + 60,
        step.type,
        step.new_name,
    )
    return replace(lease, **fields)
