"""What a person looks at: status, plan, systems, conflicts. All of it is what the API answers, as tables."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from cli.door import Door, open_door, system_named, systems_of
from cli.terminal import OpenWitness, Refusal, console, print_json, table
from handlers.request import SCRIPT
from handlers.words import ago, size, span

Json = dict[str, Any]

VERDICTS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")  # by exit status, as monitoring plugins have it
OK, LATE, BROKEN, UNKNOWN = range(4)
STYLES = {"in_sync": "green", "syncing": "cyan", "out_of_sync": "yellow", "conflict": "red", "error": "red"}


def groups_named(door: Door, name: str | None) -> list[Json]:
    """The sync groups of that name or id; all of them for None. Raises Refusal."""
    groups: list[Json] = door.ask("list_sync_groups", {"limit": 1000})
    found = [group for group in groups if name in (None, group["name"], group["id"])]
    if name is not None and not found:
        known = ", ".join(group["name"] for group in groups) or "there are none"
        raise Refusal(f"no sync group '{name}' ({known})")
    return found


# --- status --------------------------------------------------------------------------------------


def status(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Show where every dataset stands; the exit status says how bad it is."""
    door = open_door(options, open_witness)
    groups = [door.ask("show_status", group_id=each["id"]) for each in groups_named(door, options.group)]
    if options.nagios:
        print(nagios_line(groups))
    elif options.json:
        print_json({"exit_status": verdict_of(groups), "verdict": VERDICTS[verdict_of(groups)], "groups": groups})
    else:
        print_status(groups, door)
    return verdict_of(groups)


def verdict_of(groups: list[Json]) -> int:
    """The exit status: the worst cell counts, and a system that nobody has heard of counts if no cell is bad."""
    found = {_verdict(cell) for group in groups for row in group["datasets"] for cell in row["systems"].values()}
    expected = any(system["expected"] for group in groups for system in group["systems"] if group["enabled"])
    bad = found & {LATE, BROKEN}
    return max(bad) if bad else UNKNOWN if expected or not found else OK


def _verdict(cell: Json) -> int:
    if cell["status"] in ("conflict", "error"):
        return BROKEN
    return LATE if cell["late"] else OK


def print_status(groups: list[Json], door: Door) -> None:
    """A line that says it all, then each group's table, then why what is not in sync is not."""
    out = console()
    out.print(f"{VERDICTS[verdict_of(groups)]}: {'; '.join(map(_summary, groups)) or 'there is no sync group'}")
    for group in groups:
        out.print()
        _print_group(out, group, door)


def nagios_line(groups: list[Json]) -> str:
    """One line for monitoring plugins: the verdict, a summary, and performance data."""
    cells = [cell for group in groups for row in group["datasets"] for cell in row["systems"].values()]
    counts = {
        "conflicts": sum(cell["status"] == "conflict" for cell in cells),
        "errors": sum(cell["status"] == "error" for cell in cells),
        "late": sum(cell["late"] for cell in cells),
        "datasets": len(cells),
    }
    lag_s = max((cell["lag_s"] for cell in cells), default=0)
    said = "; ".join(map(_summary, groups)) or "there is no sync group"
    data = " ".join(f"{name}={count}" for name, count in counts.items())
    return f"ZFS SYNC {VERDICTS[verdict_of(groups)]} - {said.replace('|', '/')} | {data} max_lag={lag_s}s"


def _summary(group: Json) -> str:
    every = [cell for row in group["datasets"] for cell in row["systems"].values()]
    cells = [cell for cell in every if not cell["is_source"] or _verdict(cell) != OK]
    counts = {
        "in conflict": sum(cell["status"] == "conflict" for cell in cells),
        "failing": sum(cell["status"] == "error" for cell in cells),
        "late": sum(_verdict(cell) == LATE for cell in cells),
        "behind": sum(_verdict(cell) == OK and cell["status"] != "in_sync" for cell in cells),
        "in sync": sum(_verdict(cell) == OK and cell["status"] == "in_sync" for cell in cells),
    }
    said = ", ".join(f"{count} {words}" for words, count in counts.items() if count) or "nothing to sync"
    return f"{group['name']}: {said}" if group["enabled"] else f"{group['name']}: disabled"


def _print_group(out: Any, group: Json, door: Door) -> None:
    from rich.text import Text

    systems = group["systems"]
    made = table(group["name"], *(system["hostname"] + " (hub)" * system["is_hub"] for system in systems))
    rows = sorted(filter(_holds_anything, group["datasets"]), key=_badness)
    for row in rows:
        cells = [row["systems"].get(system["system_id"]) for system in systems]
        shown = [Text(_cell_text(cell, door), style=_style(cell)) if cell else Text("-") for cell in cells]
        made.add_row(Text(row["dataset"] or "(root)"), *shown)
    out.print(made)
    for line in _reasons(rows, systems):
        out.print(line, soft_wrap=True)


def _holds_anything(row: Json) -> bool:
    """Whether it is more than a dataset without snapshots that others hang below."""
    return any(cell["newest"] or cell["status"] != "in_sync" for cell in row["systems"].values())


def _badness(row: Json) -> tuple[int, int, str]:
    cells = row["systems"].values()
    return -max(map(_verdict, cells), default=0), -max((cell["lag_s"] for cell in cells), default=0), row["dataset"]


def _cell_text(cell: Json, door: Door) -> str:
    newest = cell["newest"]["timestamp"] if cell["newest"] else None
    if cell["status"] in ("conflict", "error"):
        return str(cell["status"])
    if cell["is_source"]:
        text = f"newest {ago(newest, door.now)}" if cell["newest"] else "no snapshot"
    elif cell["status"] == "syncing":
        text = f"transfer runs, {_behind(cell)}"
    elif cell["status"] == "in_sync":
        text = "in sync"
    else:
        text = _behind(cell) if cell["newest_common"] else f"not there yet, {_behind(cell)}"
    return f"late: {text}" if cell["late"] else text


def _behind(cell: Json) -> str:
    return f"{cell['lag_snapshots']} behind, {span(cell['lag_s'])}" if cell["lag_snapshots"] else "nothing new"


def _style(cell: Json) -> str:
    return "red" if _verdict(cell) == LATE else STYLES[cell["status"]]


def _reasons(rows: Iterable[Json], systems: list[Json]) -> Iterator[str]:
    hostnames = {system["system_id"]: system["hostname"] for system in systems}
    for row in rows:
        for system_id, cell in row["systems"].items():
            if cell["why"] and (cell["late"] or cell["status"] != "in_sync"):
                yield f"  {row['dataset'] or '(root)'} on {hostnames[system_id]}: {cell['why']}"
    for system in systems:
        if system["expected"]:
            yield f"  {system['hostname']} has not registered yet"


# --- plan ----------------------------------------------------------------------------------------


def plan(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Show what a group's systems should run next, in order, and what is skipped and why."""
    door = open_door(options, open_witness)
    group = groups_named(door, options.group)[0]
    query = {"system_id": system_named(door, options.system)} if options.system else {}
    if options.script:
        if not options.system:
            raise Refusal("a script is for one system: say which with --system")
        script = door.ask("show_instructions", query, accept=SCRIPT, group_id=group["id"])
        sys.stdout.write(script.decode())
        return 0
    document = door.ask("show_instructions", query, group_id=group["id"])
    if options.json:
        print_json(document)
    else:
        _print_plan(document, {system["id"]: system["hostname"] for system in systems_of(door)})
    return 0


def _print_plan(document: Json, hostnames: dict[str, str]) -> None:
    out = console()
    made = table("runs on", "step", "dataset", "on", "size", "why")
    for action in document["actions"]:
        made.add_row(
            hostnames[action["executor_system_id"]],
            action["action_type"] + (" (runs now)" if action["lease"] else ""),
            action["target_dataset"],
            hostnames[action["target_system_id"]],
            size(action["estimated_size"]),
            action["reason"],
        )
    out.print(made if document["actions"] else "nothing to do")
    for skip in document["skipped"]:
        host = hostnames.get(skip["target_system_id"], "a system that has not registered yet")
        out.print(f"skipped: {skip['dataset'] or '(root)'} on {host}: {skip['reason']}", soft_wrap=True)


# --- systems and conflicts -----------------------------------------------------------------------


def systems(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Show the systems, when each was last heard from, and how old what is known of it is."""
    door = open_door(options, open_witness)
    health = {each["system_id"]: each for each in door.ask("list_system_health")}
    shown = [{**system, **health[system["id"]]} for system in systems_of(door) if system["id"] in health]
    if options.json:
        print_json(shown)
        return 0
    made = table("system", "state", "last seen", "inventory", "snapshots", "ssh", "id")
    for each in shown:
        age = each["inventory_age_s"]
        ssh = f"{each['ssh_user'] or 'root'}@{each['ssh_hostname'] or each['hostname']}:{each['ssh_port']}"
        made.add_row(
            each["hostname"],
            each["connectivity_status"],
            ago(each["last_seen"], door.now),
            "none" if age is None else f"{span(age)} old",
            str(each["snapshot_count"]),
            ssh,
            each["id"],
        )
    console().print(made if shown else "no system has registered yet")
    return 0


def conflicts(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Show what needs a decision, with every way out and its cost."""
    door = open_door(options, open_witness)
    found = [
        {**conflict, "group": group["name"]}
        for group in groups_named(door, options.group)
        for conflict in door.ask("show_group_conflicts", group_id=group["id"])["conflicts"]
    ]
    if options.json:
        print_json(found)
        return 0
    out = console()
    hostnames = {system["id"]: system["hostname"] for system in systems_of(door)}
    minor = [each for each in found if each["type"] == "missing" and each["severity"] == "low"]
    for conflict in sorted(found, key=lambda each: ("high", "medium", "low").index(each["severity"])):
        if conflict not in minor:
            for line in _conflict_lines(conflict, hostnames, door):
                out.print(line, soft_wrap=True)
            out.print()
    if len(minor) == len(found):
        out.print("no conflicts")
    if minor:
        out.print(f"{len(minor)} times snapshots are missing that need no decision: --json has them")
    return 0


def _conflict_lines(conflict: Json, hostnames: dict[str, str], door: Door) -> Iterator[str]:
    where = ", ".join(hostnames.get(each, each) for each in conflict["systems"])
    since = f", first seen {ago(conflict['detected_at'], door.now)}" if conflict["detected_at"] else ""
    yield f"{conflict['type']}: {conflict['group']}: {conflict['dataset'] or '(root)'} ({where})"
    yield f"  {conflict['severity']}, {conflict['status']}{since}, id {conflict['id']}"
    yield f"  {conflict['reason']}"
    for option in conflict["options"]:
        winner = hostnames.get(option["winner_system_id"] or "", "")
        name = option["strategy"] + (f" ({winner} wins)" if winner else "") + (", discard" if option["discard"] else "")
        yield f"    {name}: {option['refused'] or option['cost']}"
