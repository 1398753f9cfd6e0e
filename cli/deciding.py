"""Deciding a conflict from the terminal."""

import argparse
import sys
from typing import Any

from cli.door import Door, open_door, system_named, systems_of
from cli.terminal import OpenWitness, Refusal, print_json
from handlers.words import size


def resolve(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Decide a conflict, or only show what that would run and cost."""
    door = open_door(options, open_witness)
    if (options.strategy == "manual") != (options.system is not None):
        raise Refusal("the strategy manual needs --system HOST, who wins; the others choose for themselves")
    data: dict[str, Any] = {"discard": options.discard}
    if options.system is not None:
        data["system_id"] = system_named(door, options.system)
    body = {"strategy": options.strategy, "resolution_data": data}
    conflict_id = _conflict_named(door, options.conflict)
    outcome = door.ask("resolve_conflict", {"dry_run": options.dry_run}, body, conflict_id=conflict_id)
    if options.json:
        print_json(outcome)
        return 0
    _print_outcome(door, outcome)
    return 0


def _conflict_named(door: Door, name: str) -> str:
    """The id of the one conflict whose id begins so."""
    ids = [each["id"] for each in door.ask("list_conflicts")["conflicts"] if each["id"].startswith(name.lower())]
    if len(ids) != 1:
        raise Refusal(f"{len(ids) or 'no'} conflicts have an id that begins with '{name}': `conflicts` shows them")
    return str(ids[0])


def _print_outcome(door: Door, outcome: dict[str, Any]) -> None:
    hosts = {system["id"]: system["hostname"] for system in systems_of(door)}
    winner = hosts.get(outcome["winner_system_id"] or "", "nobody")
    print(f"{outcome['strategy']}: {winner} wins. {outcome['cost']}")
    for action in outcome["actions"]:
        print(
            f"  on {hosts.get(action['executor_system_id'], '?')}: {action['action_type']} {action['target_dataset']}"
        )
    for snapshot in outcome["lost"]:
        print(f"  lost for good: {snapshot['name']} ({size(snapshot['size'])})")
    if outcome["dry_run"]:
        print("nothing was decided: leave out --dry-run for that", file=sys.stderr)
    else:
        print("decided; the agents do it in their next runs", file=sys.stderr)
