"""What somebody should know, and when to say so: troubles found now, against the alerts remembered.

A trouble has an id that stays the same while it lasts. It becomes an alert when it has lasted for its grace, is told
once, and once more when it is over. What came and went untold, in quiet hours, is never told.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from planner.globs import matches
from planner.model import Cell, Conflict, Failure, Guard, Member, Plan, Policy, Work
from planner.paths import path_of, pool_of
from planner.words import span

Kind = Literal[
    "late",  # a replica lags by more than the group's interval and grace
    "quiet",  # a source takes no snapshots
    "conflict",
    "failing",  # transfers into a dataset fail again and again
    "silent",  # a system was not heard from
    "stale",  # a system calls, and its inventory is too old to plan by
    "clock",  # a system's clock is off
    "pool_missing",
    "pool_full",
    "guard",  # most snapshots of a dataset went at once
    "settings",  # the groups of the configuration file cannot be read
    "store",  # a file of the store cannot be read
]
Severity = Literal["warning", "critical"]

CLOCK_OFF_S = 120
FAILURES = 2  # the first one may be a cable; that it failed again is worth a message
FULL_AGAIN_PERCENT = 2  # so much emptier a pool must get before it is no longer nearly full


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not as it should be now."""

    id: str
    kind: Kind
    severity: Severity
    text: str  # a sentence, as of now
    group_id: str | None = None
    system_id: str | None = None
    dataset: str | None = None
    grace_s: int = 0  # how long it may last before anybody is told


@dataclass(frozen=True, slots=True)
class Alert:
    """A trouble that is remembered. Times are Unix seconds."""

    trouble: Trouble  # its text is as of when it was raised
    since: float
    raised_at: float | None = None  # None: it has not lasted for its grace yet
    recovered_at: float | None = None  # it is over, which is still to be told
    told: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a look: all that is to be remembered now, what changed, and what to tell."""

    alerts: tuple[Alert, ...]
    raised: tuple[Alert, ...]  # now
    recovered: tuple[Alert, ...]  # now
    tell: tuple[Alert, ...]  # in one message; those with recovered_at are over


def decide(troubles: Iterable[Trouble], known: Mapping[str, Alert], now: float, quiet: bool) -> Decision:
    """What becomes of the alerts (by id) now that these troubles were found, and no others. `quiet`: tell nothing."""
    found = {trouble.id: trouble for trouble in troubles}
    alerts, raised, recovered = [], [], []
    for trouble in found.values():
        before = known.get(trouble.id)
        after = _lasting(trouble, before, now)
        alerts.append(after)
        if after.raised_at is not None and (before is None or before.raised_at is None):
            raised.append(after)
    for id, before in known.items():
        if id in found or before.raised_at is None:
            continue
        over = replace(before, recovered_at=before.recovered_at or now)
        if before.recovered_at is None:
            recovered.append(over)
        if before.told:
            alerts.append(over)
    tell = [] if quiet else [alert for alert in alerts if _untold(alert)]
    if tell:
        alerts = [replace(each, told=True) if _untold(each) else each for each in alerts if each.recovered_at is None]
    return Decision(tuple(alerts), tuple(raised), tuple(recovered), tuple(tell))


def _lasting(trouble: Trouble, before: Alert | None, now: float) -> Alert:
    """A trouble that is there, as it is remembered. One that comes back before its end was told never ended."""
    if before is None:
        return Alert(trouble, now, raised_at=now if trouble.grace_s == 0 else None)
    if before.raised_at is not None:
        return replace(before, recovered_at=None)
    lasted = now - before.since >= trouble.grace_s
    return replace(before, trouble=trouble, raised_at=now) if lasted else before


def _untold(alert: Alert) -> bool:
    return alert.raised_at is not None and (alert.recovered_at is not None or not alert.told)


# --- a group's troubles --------------------------------------------------------------------------


def troubles_of_group(
    policy: Policy, members: Iterable[Member], plan: Plan, work: Work, unheard: Collection[str]
) -> Iterator[Trouble]:
    """What is wrong in a sync group. `unheard`: systems with a trouble of their own, which says enough."""
    if not policy.enabled:
        return
    hosts = {member.system_id: member.hostname for member in members if member.reported_at is not None}
    watched = [cell for cell in plan.cells if cell.system_id in hosts and not _is_paused(policy, cell)]
    for cell in watched:
        if cell.late and cell.status != "conflict" and cell.system_id not in unheard:
            yield _behind(policy, cell, hosts[cell.system_id])
    for conflict in plan.conflicts:
        if conflict.status == "open" and (conflict.type != "missing" or conflict.severity == "high"):
            yield _conflict(policy, conflict)
    for cell in watched:
        failures = [
            each for each in work.failures if (each.target, each.target_dataset) == (cell.system_id, cell.dataset)
        ]
        if cell.status != "in_sync" and sum(each.count for each in failures) >= FAILURES:
            yield _failing(policy, cell, hosts[cell.system_id], failures)


def _is_paused(policy: Policy, cell: Cell) -> bool:
    return cell.system_id in policy.paused_systems or any(matches(glob, cell.path) for glob in policy.paused_datasets)


def _behind(policy: Policy, cell: Cell, host: str) -> Trouble:
    """A late cell. What was never there gets the time of an interval to arrive for the first time."""
    if cell.is_source:
        kind: Kind = "quiet"
        newest = cell.newest.name if cell.newest else "the last one"
        text = f"{host} has taken no new snapshot of {cell.dataset} since {newest}"
    else:
        kind = "late"
        what = f"{len(cell.missing)} snapshots, {span(cell.lag_s)} behind"
        text = f"{cell.dataset} on {host} is late: {what}" + (f". {cell.why}" if cell.why else "")
    first_time = not cell.is_source and cell.newest_common is None
    return Trouble(
        f"{kind}:{policy.group_id}:{cell.system_id}:{cell.path}",
        kind,
        "warning",
        text,
        policy.group_id,
        cell.system_id,
        cell.path,
        grace_s=policy.interval_s + policy.grace_s if first_time else 0,
    )


def _conflict(policy: Policy, conflict: Conflict) -> Trouble:
    systems = "+".join(sorted(side.system_id for side in conflict.sides))
    return Trouble(
        f"conflict:{policy.group_id}:{conflict.type}:{systems}:{conflict.path}",
        "conflict",
        "critical" if conflict.severity == "high" else "warning",
        f"{conflict.path or 'the root'} is {conflict.type}: {conflict.reason}",
        policy.group_id,
        dataset=conflict.path,
    )


def _failing(policy: Policy, cell: Cell, host: str, failures: Sequence[Failure]) -> Trouble:
    last = max(failures, key=lambda each: each.failed_at)
    said = last.message.strip().rpartition("\n")[2][:300] or "it said nothing"
    return Trouble(
        f"failing:{policy.group_id}:{cell.system_id}:{cell.path}",
        "failing",
        "critical",
        f"transfers into {cell.dataset} on {host} failed {sum(each.count for each in failures)} times: {said}",
        policy.group_id,
        cell.system_id,
        cell.path,
    )


# --- a system's troubles -------------------------------------------------------------------------


def troubles_of_system(
    seats: Sequence[tuple[Policy, Member]],
    clock_ahead_s: float | None,
    guards: Iterable[Guard],
    full_percent: int,
    in_force: Collection[str],
    now: float,
) -> Iterator[Trouble]:
    """What is wrong with a system, which has a seat in each of these groups.

    It owes a sign of life once in the shortest interval of its groups, and their grace may pass beside. `in_force` are
    the ids of alerts: a pool that is nearly full stays so until it is clearly emptier.
    """
    seats = [(policy, member) for policy, member in seats if policy.enabled]
    active = [(policy, member) for policy, member in seats if member.system_id not in policy.paused_systems]
    if active:
        yield from _unheard(active, now)
        yield from _clock(active[0][1], clock_ahead_s)
        yield from _missing_pools(active)
        yield from _full_pools(active, full_percent, in_force)
    if seats:
        yield from (_guarded(seats[0][1], guard) for guard in guards)


def _of_system(kind: Kind, member: Member, text: str, about: str = "", **fields: object) -> Trouble:
    id = f"{kind}:{member.system_id}" + (f":{about}" if about else "")
    made = Trouble(id, kind, "warning", text, system_id=member.system_id, dataset=about or None)
    return replace(made, **fields)  # type: ignore[arg-type]  # fields of Trouble


def _unheard(seats: Sequence[tuple[Policy, Member]], now: float) -> Iterator[Trouble]:
    member = seats[0][1]
    if member.last_seen_at is None:
        return
    patience_s = min(max(policy.heartbeat_timeout_s, policy.interval_s) + policy.grace_s for policy, _ in seats)
    silent_s = now - member.last_seen_at
    if silent_s > patience_s:
        yield _of_system("silent", member, f"{member.hostname} was last heard from {span(silent_s)} ago")
        return
    stale_after_s = min(policy.stale_after_s for policy, _ in seats)
    known_at = member.confirmed_at if member.confirmed_at is not None else member.reported_at
    if known_at is not None and now - known_at > stale_after_s:
        old = span(now - known_at)
        text = f"{member.hostname} calls, but its inventory is {old} old: nothing is planned by it any more"
        yield _of_system("stale", member, text)


def _clock(member: Member, ahead_s: float | None) -> Iterator[Trouble]:
    """A clock that is off, by what the agent's heartbeat said, or by snapshots made after they were reported."""
    if ahead_s is None and member.reported_at is not None:
        newest = (replica.newest.creation for replica in member.replicas.values() if replica.newest is not None)
        ahead_s = max(0.0, max((each for each in newest if each is not None), default=0) - member.reported_at)
    if ahead_s is not None and abs(ahead_s) > CLOCK_OFF_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        text = f"the clock of {member.hostname} is {span(abs(ahead_s))} {way} the witness's: lags are wrong by as much"
        yield _of_system("clock", member, text)


def _missing_pools(seats: Sequence[tuple[Policy, Member]]) -> Iterator[Trouble]:
    """Pools of the groups that the last report lacked. A boot in progress gets the group's grace."""
    for policy, member in seats:
        for pool in sorted({pool_of(name) for name in member.absent if path_of(member, name) is not None}):
            text = f"the pool {pool} of {member.hostname} is not imported, or its key is not loaded"
            yield _of_system("pool_missing", member, text, pool, severity="critical", grace_s=policy.grace_s)


def _full_pools(
    seats: Sequence[tuple[Policy, Member]], full_percent: int, in_force: Collection[str]
) -> Iterator[Trouble]:
    member = seats[0][1]
    for name, replica in member.replicas.items():
        if name != pool_of(name) or replica.used is None or replica.available is None:
            continue
        room = replica.used + replica.available
        percent = replica.used * 100 / room if room else 0
        text = f"the pool {name} of {member.hostname} is {percent:.0f} % full"
        trouble = _of_system("pool_full", member, text, name)
        if percent >= full_percent - (FULL_AGAIN_PERCENT if trouble.id in in_force else 0):
            yield trouble


def _guarded(member: Member, guard: Guard) -> Trouble:
    text = f"{guard.dataset} on {member.hostname} lost most of its snapshots at once: deletes wait until you accept it"
    return _of_system("guard", member, text, guard.dataset, severity="critical")
