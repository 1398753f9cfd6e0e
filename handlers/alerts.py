"""Alerts: what the tick finds, what is remembered of it, and the messages that follow."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from handlers.beats import beat_of
from handlers.events import record
from handlers.gathering import planning_of, window_open
from handlers.notify import alerts_message, digest_message, put_messages
from handlers.request import Request
from handlers.resolving import record_check
from handlers.sync_groups import SyncGroup, all_groups
from planner.alerts import Alert, Trouble, decide, troubles_of_group, troubles_of_system
from planner.model import Guard, Member, Plan, Policy
from store import ALERTS, Store, StoreError
from store import documents as kept

log = logging.getLogger("zfs_sync.alerts")


def alerts_in_force(store: Store) -> list[kept.Alert]:
    """The alerts that were raised and are not over, the critical ones first, then the oldest."""
    found = [each for each in store.read(ALERTS).alerts.all() if each.raised_at and not each.recovered_at]
    return sorted(found, key=lambda each: (each.severity != "critical", each.since, each.id))


@dataclass(slots=True)
class Findings:
    """What one look found."""

    troubles: list[Trouble] = field(default_factory=list)
    groups: list[tuple[SyncGroup, Plan]] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)  # ids of groups: of what is wrong in them, nothing is known


def look(request: Request) -> None:
    """Find what is wrong, remember it, and put what is to be told into messages, all at once.

    Of two looks that overlap, the one that began later counts.
    """
    findings = _find(request)
    quiet = is_quiet(request)
    with request.store.transaction(ALERTS) as tx:
        view = tx[ALERTS]
        last = view.ticks.get("last") if "last" in view.ticks else kept.Tick(id="last", started_at=request.now, by="")
        if last.looked_at is not None and last.looked_at > request.now:
            return
        known = {each.id: _remembered(each) for each in view.alerts.all()}
        troubles = [*findings.troubles, *_carried_over(findings, known.values())]
        decision = decide(troubles, known, request.now.timestamp(), quiet)
        _keep(view.alerts, decision.alerts)
        if decision.tell:
            put_messages(request, view.messages, alerts_message(request, decision.tell))
        due_on = _digest_due_on(request)
        digest_on = last.digest_on or f"{request.now - timedelta(days=1):%Y-%m-%d}"
        if due_on and due_on != digest_on and not quiet:
            put_messages(request, view.messages, digest_message(request, decision.alerts, findings.groups))
            digest_on = due_on
        changed = {"looked_at": request.now, "digest_on": digest_on}
        view.ticks.put(kept.Tick(**{**_fields(last), **changed}))
        for what, alerts in (("alert.raised", decision.raised), ("alert.over", decision.recovered)):
            for alert in alerts:
                _record(request, what, alert)
    _record_checks(request, findings, {alert.trouble.group_id for alert in (*decision.raised, *decision.recovered)})


def is_quiet(request: Request) -> bool:
    """Whether nothing is told now."""
    return request.config.quiet_hours is not None and window_open(request.config.quiet_hours, request.now)


def _digest_due_on(request: Request) -> str | None:
    """The day of the latest digest that is due: one that falls into quiet hours before midnight is sent after them."""
    if request.config.digest_at is None:
        return None
    early = f"{request.now:%H:%M}" < request.config.digest_at
    return f"{request.now - timedelta(days=early):%Y-%m-%d}"


def _record(request: Request, what: str, alert: Alert) -> None:
    trouble = alert.trouble
    record(
        request,
        what,
        subject=trouble.text,
        system_id=trouble.system_id,
        sync_group_id=trouble.group_id,
        kind=trouble.kind,
        severity=trouble.severity,
        dataset=trouble.dataset,
    )


def _record_checks(request: Request, findings: Findings, group_ids: set[str | None]) -> None:
    """Where something changed, note states and conflicts, too: then each has the moment at which it was seen."""
    for group, plan in findings.groups:
        if group.id in group_ids:
            record_check(request, group, plan)


# --- finding -------------------------------------------------------------------------------------


def _find(request: Request) -> Findings:
    """What is wrong now. What cannot be read is a trouble, and hides no other."""
    findings = Findings()
    error = request.witness.groups_file.error
    if error is not None:
        text = f"the sync groups are as they were before the last edit: {error}"
        findings.troubles.append(Trouble("settings", "settings", "warning", text))
    seats: dict[str, list[tuple[Policy, Member]]] = {}
    guards: dict[str, set[Guard]] = {}
    looked_at = []
    for group in all_groups(request):
        try:
            policy, members, work, plan = planning_of(request, group)
        except StoreError as unreadable:
            text = f"nothing is known of {group.name}: {unreadable}"
            findings.troubles.append(Trouble(f"store:{group.id}", "store", "critical", text))
            findings.unreadable.add(group.id)
            continue
        findings.groups.append((group, plan))
        looked_at.append((policy, members, plan, work))
        for member in members:
            if member.last_seen_at is not None or member.reported_at is not None:
                seats.setdefault(member.system_id, []).append((policy, member))
        for guard in work.guards:
            guards.setdefault(guard.system_id, set()).add(guard)
    in_force = {alert.id for alert in alerts_in_force(request.store)}
    of_systems = [
        trouble
        for system_id, taken in seats.items()
        for trouble in troubles_of_system(
            taken,
            _clock_ahead_s(request.store, system_id),
            sorted(guards.get(system_id, ()), key=lambda guard: guard.dataset),
            request.config.pool_full_percent,
            in_force,
            request.now.timestamp(),
        )
    ]
    unheard = {each.system_id for each in of_systems if each.kind in ("silent", "stale", "pool_missing")}
    findings.troubles += of_systems
    for policy, members, plan, work in looked_at:
        findings.troubles += troubles_of_group(policy, members, plan, work, {each for each in unheard if each})
    return findings


def _clock_ahead_s(store: Store, system_id: str) -> int | None:
    beat = beat_of(store, system_id)
    return beat.clock_ahead_s if beat is not None else None


def _carried_over(findings: Findings, known: Iterable[Alert]) -> Iterator[Trouble]:
    """What was wrong where nothing could be read now: it did not end by that."""
    if findings.unreadable:
        found = {trouble.id for trouble in findings.troubles}
        for alert in known:
            trouble, in_force = alert.trouble, alert.raised_at is not None and alert.recovered_at is None
            if in_force and trouble.id not in found and _is_unreadable(findings, trouble):
                yield trouble


def _is_unreadable(findings: Findings, trouble: Trouble) -> bool:
    return trouble.group_id in findings.unreadable if trouble.group_id else trouble.system_id is not None


# --- remembering ---------------------------------------------------------------------------------


def _fields(document: Any) -> dict[str, Any]:
    return {name: getattr(document, name) for name in document.__struct_fields__}


def _remembered(alert: kept.Alert) -> Alert:
    """An alert's document as the planner sees it. Its grace is told anew by the next trouble."""
    kind: Any = alert.kind
    severity: Any = alert.severity
    return Alert(
        Trouble(alert.id, kind, severity, alert.text, alert.group_id, alert.system_id, alert.dataset),
        since=alert.since.timestamp(),
        raised_at=alert.raised_at.timestamp() if alert.raised_at else None,
        recovered_at=alert.recovered_at.timestamp() if alert.recovered_at else None,
        told=alert.told,
    )


def _keep(table: Any, alerts: Iterable[Alert]) -> None:
    documents = {alert.trouble.id: _document(alert) for alert in alerts}
    for id in table.ids():
        if id not in documents:
            table.remove(id)
    for document in documents.values():
        table.put(document)


def _document(alert: Alert) -> kept.Alert:
    trouble = alert.trouble
    return kept.Alert(
        id=trouble.id,
        kind=trouble.kind,
        severity=trouble.severity,
        text=trouble.text,
        group_id=trouble.group_id,
        system_id=trouble.system_id,
        dataset=trouble.dataset,
        since=_moment(alert.since),
        raised_at=_moment(alert.raised_at) if alert.raised_at is not None else None,
        recovered_at=_moment(alert.recovered_at) if alert.recovered_at is not None else None,
        told=alert.told,
    )


def _moment(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)
