"""Alerts from the terminal: the tick for cron, and whether messages get through."""

import argparse

from cli.terminal import OpenWitness, Refusal, console, open_here, print_json, table
from handlers import notify, tick
from handlers.alerts import alerts_in_force
from handlers.words import ago


def run_tick(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Look and tell now, unless that was done less than tick_s ago."""
    request = open_here(options, open_witness)
    if not tick.tick(request.witness):
        last = tick.last_tick(request.witness)
        print(f"{last.by if last else 'another'} did so less than tick_s ({request.config.tick_s} s) ago")
    return 0


def run_notify(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Send a test over every channel, or show what is in force and what waits to be told."""
    request = open_here(options, open_witness)
    channels = notify.channels_of(request.config)
    if not channels:
        raise Refusal("there is nowhere to tell: set notify or webhook_url")
    if options.test:
        outcomes = notify.send_test(request)
        for name, problem in outcomes:
            print(f"{name}: {problem or 'delivered'}")
        return 1 if any(problem for _, problem in outcomes) else 0
    in_force, waiting = alerts_in_force(request.store), notify.waiting_messages(request.store)
    if options.json:
        print_json({"channels": [each.name for each in channels.values()], "alerts": in_force, "waiting": waiting})
        return 0
    made = table("alert", "severity", "since", "what")
    for alert in in_force:
        made.add_row(alert.kind, alert.severity, ago(alert.since.isoformat(), request.now), alert.text)
    console().print(made if in_force else "no alert is in force")
    for message in waiting:
        name = channels[message.channel].name if message.channel in channels else "a channel that is gone"
        print(f"not told yet by {name}: {message.body['title']} ({message.attempts} attempts; {message.error})")
    return 0
