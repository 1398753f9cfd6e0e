"""The audit trail in the terminal, and how it goes on."""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from cli.door import Door, open_door
from cli.terminal import OpenWitness, print_json

POLL_S = 2.0
AT_ONCE = 1000


def events(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Show what was done, the newest last; with --follow, go on until Ctrl-C."""
    door = open_door(options, open_witness)
    query = {} if options.what is None else {"what": options.what}
    found = door.ask("list_events", {**query, "limit": AT_ONCE if options.follow else options.limit})[::-1]
    shown = found[-options.limit :]
    if options.json and not options.follow:
        print_json(shown)
        return 0
    show = _print_as_json if options.json else _print_line
    for event in shown:
        show(event)
    if options.follow:
        for event in follow(door, query, found, time.sleep):
            show(event)
    return 0


def follow(
    door: Door, query: dict[str, Any], found: list[dict[str, Any]], wait: Callable[[float], object]
) -> Iterator[dict[str, Any]]:
    """What happens after these events, as it happens. Several may have one moment, so their ids count."""
    since = found[-1]["at"] if found else door.now.isoformat()
    seen = {event["id"] for event in found}
    while True:
        wait(POLL_S)
        new = [
            event
            for event in door.ask("list_events", {**query, "since": since, "limit": AT_ONCE})[::-1]
            if event["id"] not in seen
        ]
        yield from new
        seen |= {event["id"] for event in new}
        since = new[-1]["at"] if new else since


def _print_as_json(event: dict[str, Any]) -> None:
    print(msgspec.json.encode(event).decode(), flush=True)


def _print_line(event: dict[str, Any]) -> None:
    at = event["at"][:19].replace("T", " ")
    about = " ".join(f"{name}={value}" for name, value in event["detail"].items() if value not in (None, ""))
    words = [at, event["what"], event["subject"] or "", f"by {event['who'] or 'nobody'} from {event['address']}", about]
    line = "  ".join(word for word in words if word)
    print("".join(each if each.isprintable() else "?" for each in line), flush=True)
