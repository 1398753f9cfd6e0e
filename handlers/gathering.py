"""Documents (what is kept) -> planner values (what is reasoned about)."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, time
from typing import Any, NamedTuple

from handlers.beats import beat_of
from handlers.past import StoredPast
from handlers.planning import plan_for
from handlers.replicas import replicas_of, snapshot_of
from handlers.request import Request
from handlers.sync_groups import SyncGroup, all_groups, interval_s
from handlers.values import unix
from planner.model import (
    Credit,
    Decision,
    Failure,
    Guard,
    Lease,
    Loser,
    Member,
    Neighbour,
    Plan,
    Policy,
    Snapshot,
    Step,
    Work,
)
from planner.paths import is_below
from store import LEASES, REGISTRY, NotFound, Store, StoreError, group_records, inventory_of
from store import documents as kept

BY_POLICY = "on_conflict"  # who decided a conflict that nobody did


class Planning(NamedTuple):
    """A group's plan, and what it was made of."""

    policy: Policy
    members: list[Member]
    work: Work
    plan: Plan


def planning_of(request: Request, group: SyncGroup) -> Planning:
    """The group's plan as of now, and its facts."""
    policy, members, work = policy_of(request, group), members_of(request.store, group), work_of(request, group)
    return Planning(policy, members, work, plan_for(request.store, policy, members, work, request.now.timestamp()))


def plan_of(request: Request, group: SyncGroup) -> Plan:
    """The group's plan as of now."""
    return planning_of(request, group).plan


def policy_of(request: Request, group: SyncGroup) -> Policy:
    """The group's settings with every default filled in."""
    options, config = group.options, request.config
    return Policy(
        group_id=group.id,
        name=group.name,
        enabled=options.enabled,
        directional=group.directional,
        hub=group.hub_system_id,
        order=tuple(member.system_id for member in group.members),
        include=tuple(options.datasets.include) or ("**",),
        exclude=tuple(options.datasets.exclude),
        snapshot_include=tuple(options.snapshots.include) or ("*",),
        snapshot_exclude=tuple(options.snapshots.exclude),
        min_age_s=options.snapshots.min_age_s,
        initial=options.snapshots.initial,
        interval_s=interval_s(request, group),
        grace_s=options.grace_s,
        stale_after_s=options.stale_after_seconds or config.stale_after_s,
        heartbeat_timeout_s=config.heartbeat_timeout_s,
        transfer=options.transfer,
        raw=options.raw,
        on_conflict=options.on_conflict,
        delete=options.delete,
        max_transfers=options.max_transfers or config.max_transfers,
        paused_systems=group.paused_systems,
        paused_datasets=tuple(options.paused.datasets),
        properties=tuple(sorted(options.properties.items())),
        window_open=window_open(options.window, request.now),
    )


def window_open(window: str | None, now: datetime) -> bool:
    """Whether now (UTC) is within "22:00-06:00"; None is always."""
    if window is None:
        return True
    start, end = (time.fromisoformat(part) for part in window.split("-"))
    at = now.time().replace(tzinfo=None)
    return start <= at < end if start < end else at >= start or at < end


def members_of(store: Store, group: SyncGroup) -> list[Member]:
    """The group's systems with all that they last reported."""
    systems = store.read(REGISTRY).systems
    members = []
    for membership in group.members:
        if not membership.registered:
            members.append(Member(membership.system_id, membership.hostname, membership.root))
            continue
        system_id = membership.system_id
        system = systems.get(system_id)
        beat = beat_of(store, system_id)
        inventory = store.read(inventory_of(system_id))
        report = inventory.reports.get("current") if "current" in inventory.reports else None
        replicas = replicas_of(store, system_id, inventory)
        reported_at = _latest(report.reported_at if report else None, beat.reported_at if beat else None)
        members.append(
            Member(
                system_id=system_id,
                hostname=system.hostname,
                root=membership.root,
                replicas=replicas.present,
                absent=replicas.absent,
                reported_at=reported_at,
                confirmed_at=_latest(reported_at, beat.confirmed_at if beat else None),
                last_seen_at=unix(beat.last_seen_at) if beat else None,
                ssh_hostname=system.ssh_hostname,
                ssh_user=system.ssh_user,
                ssh_port=system.ssh_port,
            )
        )
    return members


def _latest(*moments: datetime | float | None) -> float | None:
    known = [unix(each) if isinstance(each, datetime) else each for each in moments]
    return max((each for each in known if each is not None), default=None)


# --- what is under way, done, failed and decided -------------------------------------------------


def work_of(request: Request, group: SyncGroup, whole: bool = False) -> Work:
    """The witness's own memory that bears on a group.

    `whole`: with every group that has some of its systems, not only where something may go or was decided.
    """
    store = request.store
    leases = store.read(LEASES)
    neighbours = tuple(_neighbours(request, group, whole or group.options.delete == "mirror"))
    ids = {member.system_id for member in group.members if member.registered}
    ids |= {member.system_id for each in neighbours for member in each.members if member.reported_at is not None}
    return Work(
        leases=tuple(lease_of(lease) for lease in leases.leases.all() if lease.expires_at > request.now),
        credits=tuple(_credit_of(credit) for credit in _by_time(leases.credits.all())),
        failures=tuple(
            Failure(
                each.id,
                each.count,
                each.failed_at.timestamp(),
                each.retry_at.timestamp(),
                each.message,
                each.executor_system_id,
                each.target_system_id,
                each.target_dataset,
            )
            for each in leases.failures.all()
        ),
        guards=tuple(
            Guard(each, guard.id, guard.raised_at.timestamp())
            for each in sorted(ids)
            for guard in store.read(inventory_of(each)).guards.all()
        ),
        decisions=tuple(decisions_of(store, group.id)),
        gone=StoredPast(store),
        neighbours=neighbours,
    )


def _neighbours(request: Request, group: SyncGroup, whole: bool) -> Iterator[Neighbour]:
    """The other groups with some of the same systems; unless `whole`, those alone that carry out a decision, that may
    bring a member what this group would make as an empty parent, or may go on with a transfer that broke off."""
    roots = {member.system_id: member.root for member in group.members}
    for other in all_groups(request):
        shared = {member.system_id: member.root for member in other.members if member.system_id in roots}
        if other.id == group.id or not shared:
            continue
        hubs = (group.hub_system_id, other.hub_system_id)
        fills = any(_overlap(roots[each] or "", root or "") for each, root in shared.items() if each not in hubs)
        decisions: list[Decision] = []
        with suppress(StoreError):  # a group whose decisions can't be read carries out none
            decisions = [each for each in decisions_of(request.store, other.id) if each.strategy != "ignore"]
        if decisions or whole or fills or len(shared) > 1 or any(_holds_a_part(request.store, each) for each in shared):
            members = members_of(request.store, other)
            yield Neighbour(policy_of(request, other), tuple(members), tuple(decisions))


def _overlap(one: str, other: str) -> bool:
    """Whether two groups may have the same datasets of a system, by their roots there."""
    return is_below(one, other) or is_below(other, one)


def _holds_a_part(store: Store, system_id: str) -> bool:
    """Whether a transfer to a system broke off."""
    replicas = replicas_of(store, system_id, store.read(inventory_of(system_id)))
    return any(replica.resume_token for replica in replicas.present.values())


def _by_time(credits: Iterable[kept.Credit]) -> list[kept.Credit]:
    return sorted(credits, key=lambda credit: credit.finished_at)


def lease_of(lease: kept.Lease) -> Lease:
    """A lease's document as the planner sees it."""
    return Lease(
        action_id=lease.id,
        group_id=lease.group_id,
        executor=lease.executor_system_id,
        source=lease.source_system_id,
        target=lease.target_system_id,
        target_dataset=lease.target_dataset,
        source_dataset=lease.source_dataset,
        base_guid=lease.base_guid,
        end_guid=lease.end_guid,
        expires_at=lease.expires_at.timestamp(),
        type=lease.action["action_type"],
        new_name=lease.action.get("new_name"),
    )


def _credit_of(credit: kept.Credit) -> Credit:
    """A credit's document as the planner sees it: the step back from the action that the agent got."""
    action = credit.action
    delivers = tuple(snapshot_of(row) for row in credit.delivers)
    end = None
    if action["snapshot_guid"] is not None:
        named = Snapshot(action["snapshot_name"], action["snapshot_guid"])
        end = next((each for each in delivers if each.guid == named.guid), named)
    step = Step(
        action_id=credit.id,
        type=action["action_type"],
        path="",
        executor=action["executor_system_id"],
        target=action["target_system_id"],
        target_dataset=action["target_dataset"],
        reason=action["reason"],
        source=action["source_system_id"],
        source_dataset=action["dataset"],
        kind=action["kind"],
        end=end,
        raw=action["raw"],
        origin=action["origin"],
        new_name=action["new_name"],
        expected_guids=tuple(action["expected_guids"]),
        delivers=delivers,
    )
    return Credit(step, delivers, credit.finished_at.timestamp())


def decisions_of(store: Store, group_id: str) -> list[Decision]:
    """What was decided in a group and is not settled yet."""
    return [
        decision_of(each)
        for each in store.read(group_records(group_id)).decisions.all()
        if each.strategy and each.resolved_at is None
    ]


def decision_of(decision: kept.Decision) -> Decision:
    """A decision's document as the planner sees it."""
    losers = tuple(Loser(**{**loser, "removable_guids": tuple(loser["removable_guids"])}) for loser in decision.losers)
    strategy: Any = decision.strategy
    automatic = decision.decided_by == BY_POLICY
    return Decision(decision.id, decision.path, strategy, decision.winner, decision.discard, losers, automatic)


def member_by_id(members: Iterable[Member], system_id: str) -> Member:
    """One of a group's members. Raises NotFound."""
    for member in members:
        if member.system_id == system_id:
            return member
    raise NotFound(f"no system '{system_id}' in this sync group")
