"""What every plan keeps to, said once more from DESIGN 4 and 5 alone: a pool accepts much that nobody wants."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise

from planner.model import Member, Plan, Policy, Replica, Snapshot, Step, Work
from planner.resume import decode_resume_token
from tests.zfs_values import Snapshot as Kept

TRANSFERS = ("create", "sync")


def above(path: str) -> Iterator[str]:
    """The paths above one; "" is the root."""
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(len(parts)))


def below(root: str, name: str) -> bool:
    """Whether a dataset is another one or lies below it."""
    return (name + "/").startswith(root + "/")


def chosen_name(policy: Policy, name: str) -> bool:
    """Whether the group chooses snapshots of a name."""
    chosen = any(fnmatchcase(name, glob) for glob in policy.snapshot_include)
    return chosen and not any(fnmatchcase(name, glob) for glob in policy.snapshot_exclude)


def is_due(policy: Policy, snapshot: Snapshot | Kept, now: float) -> bool:
    """Whether a snapshot is old enough to be sent."""
    return not policy.min_age_s or (snapshot.creation or 0) <= now - policy.min_age_s


def check_rules(policy: Policy, members: Sequence[Member], work: Work, now: float, plan: Plan) -> None:
    """Every step is one that the group wants, by the member that should do it. Raises AssertionError."""
    by_id = {member.system_id: member for member in members}
    decided = {decision.path for decision in (*work.decisions, *plan.decided)}
    ordinary = [step for step in plan.steps if decided.isdisjoint({step.path, *above(step.path)})]
    for step in plan.steps:
        if step.lease is None:
            _check_allowed(policy, by_id, work, now, step)
    for cell in plan.cells:
        assert ".aside-" not in cell.path, f"it was set aside: {cell}"
        assert "%" not in cell.path, f"zfs's own: {cell}"
    for step in ordinary:
        if step.type in TRANSFERS:
            _check_sent(policy, members, now, step)
            _check_source(policy, members, work, now, plan, step)
        elif step.type == "abort_receive":
            _check_dropped(members, step)
    _check_order(plan, ordinary)
    _check_decided(policy, by_id, work, plan)


def _check_allowed(policy: Policy, by_id: dict[str, Member], work: Work, now: float, step: Step) -> None:
    """Nothing begins where the group is at rest, on what is not known well, or while it is being worked on."""
    assert policy.enabled, f"the group is disabled: {step}"
    assert policy.window_open or step.source is None, f"the window is closed: {step}"
    assert not any(fnmatchcase(step.path, glob) for glob in policy.paused_datasets), f"paused: {step}"
    for member in [by_id[each] for each in (step.source, step.target) if each]:
        assert member.system_id not in policy.paused_systems, f"{member.hostname} is paused: {step}"
        assert _is_known(policy, member, now), f"{member.hostname} is not known well enough: {step}"
    for lease in work.leases:
        place = (lease.target, lease.target_dataset)
        assert lease.expires_at <= now or place != (step.target, step.target_dataset), f"under way: {step}"
    for failure in work.failures:
        same = failure.action_id == step.action_id and failure.executor in ("", step.executor)
        assert not same or failure.retry_at <= now, f"it failed a moment ago: {step}"
    assert step.type != "delete" or policy.delete == "mirror", f"nobody wants deletions: {step}"
    if step.type in TRANSFERS:
        executor = step.source if policy.transfer == "push" else step.target
        assert step.executor == executor, f"{policy.transfer} by another: {step}"


def _is_known(policy: Policy, member: Member, now: float) -> bool:
    moments = [moment for moment in (member.reported_at, member.confirmed_at) if moment is not None]
    pools = {name.split("/")[0] for name in member.replicas}
    imported = member.root is None or member.root.split("/")[0] in pools
    return member.reported_at is not None and max(moments) >= now - policy.stale_after_s and imported


def _check_sent(policy: Policy, members: Sequence[Member], now: float, step: Step) -> None:
    for snapshot in step.delivers:
        held = (s for member in members for replica in member.replicas.values() for s in replica.snapshots)
        names = {s.name for s in held if s.guid == snapshot.guid} | {snapshot.name}  # its sender may have renamed it
        assert any(chosen_name(policy, name) for name in names), f"{snapshot.name} is not chosen: {step}"
        assert is_due(policy, snapshot, now), f"{snapshot.name} is too young: {step}"


def _check_dropped(members: Sequence[Member], step: Step) -> None:
    """Nobody could go on with what is dropped, be it that its pool or its agent is away."""
    token = decode_resume_token(step.resume_token or "")
    assert token is not None, f"what nobody can read is for a person: {step}"
    for member in members:
        name = f"{member.root}/{step.path}".rstrip("/")
        there = member.replicas.get(name) or member.absent.get(name)
        if there is None or member.system_id == step.target:
            continue
        guids = {snap.guid for snap in there.snapshots}
        named = name == token.to_name.partition("@")[0]
        has_base = token.from_guid in {None, *guids, *(mark.guid for mark in there.bookmarks if named)}
        has_both = has_base and token.to_guid in guids
        ends = {token.to_guid, token.from_guid}
        copies = [each for each in member.replicas.values() if {s.guid for s in each.snapshots} & ends]
        same_pool = name.split("/")[0] == re.split("[/@]", token.to_name)[0]
        found = named or (same_pool and copies == [there])  # zfs looks in the whole pool, if there first
        assert not (has_both and found), f"{member.hostname} can go on: {step}"


# --- the source ----------------------------------------------------------------------------------


def _check_source(policy: Policy, members: Sequence[Member], work: Work, now: float, plan: Plan, step: Step) -> None:
    """Of the members that have all that is sent, seen lately goes first, then who is free, who leads, who is named.

    It is looked at where nothing is encrypted: which form a member may send in is another question. And only the
    first of several streams, where nothing failed before and what is reported is what is there.
    """
    place = (step.target, step.target_dataset)
    if step.lease or step.depends_on or any((each.target, each.target_dataset) == place for each in work.failures):
        return
    chain = [each for each in plan.steps if (each.target, each.target_dataset) == place and each.source == step.source]
    source = next(member for member in members if member.system_id == step.source)
    sent = source.replicas.get(step.source_dataset or "")
    held = next(member for member in members if member.system_id == step.target).replicas.get(step.target_dataset)
    if sent is None or _is_in_motion(work, step.source, step.target) or sent.encryption != "off":
        return
    if held is not None and held.encryption != "off":
        return
    lead = next((cell.system_id for cell in plan.cells if cell.path == step.path and cell.is_source), None)
    ranks = [
        _rank(policy, work, now, lead, each)
        for each in members
        if each is source or (each.system_id != step.target and _could_send(policy, work, now, each, step, chain, held))
    ]
    best, ours = min(ranks), _rank(policy, work, now, lead, source)
    assert ours == best, f"{best[-1]} should send it, before {ours[-1]}: {step}"


def _is_in_motion(work: Work, *systems: str | None) -> bool:
    """Whether more has happened on a system than it reported."""
    return any(credit.step.target in systems for credit in work.credits)


def _rank(
    policy: Policy, work: Work, now: float, lead: str | None, member: Member
) -> tuple[bool, bool, bool, int, str]:
    leases = [lease for lease in work.leases if lease.expires_at > now]
    busy = sum(member.system_id in {lease.source, lease.target} for lease in leases)
    seen = (member.last_seen_at or 0) >= now - policy.heartbeat_timeout_s
    place = policy.order.index(member.system_id)
    return not seen, busy >= policy.max_transfers, member.system_id != lead, place, member.hostname


def _could_send(
    policy: Policy, work: Work, now: float, member: Member, step: Step, chain: Sequence[Step], held: Replica | None
) -> bool:
    """Whether a member has what a chain of streams begins with, and all that it brings, under the same names."""
    there = member.replicas.get(f"{member.root}/{step.path}".rstrip("/"))
    if there is None or there.encryption != "off" or _is_in_motion(work, member.system_id):
        return False
    if member.system_id in policy.paused_systems or not _is_known(policy, member, now):
        return False
    names = {snap.guid: snap.name for snap in there.snapshots}
    known = {*names, *(mark.guid for mark in there.bookmarks)}
    shared = [snap.guid for snap in held.snapshots if snap.guid in known] if held else []
    base = [step.base.guid] if step.base else []
    return shared[-1:] == base and all(names.get(snap.guid) == snap.name for one in chain for snap in one.delivers)


# --- order and decisions -------------------------------------------------------------------------


def _check_order(plan: Plan, ordinary: Sequence[Step]) -> None:
    """What lies above comes first on a member; and then what lacks the oldest snapshot, there or below.

    Where something is said of a dataset besides, it may lack more than it gets; and what broke off may be of any age.
    """
    told = {(skip.target, skip.dataset) for skip in plan.skips}
    told |= {(step.target, step.target_dataset) for step in ordinary if step.type == "resume"}
    firsts: dict[tuple[str, str], Step] = {}
    for step in ordinary:
        if step.type in TRANSFERS:
            firsts.setdefault((step.target, step.target_dataset), step)
    oldest: dict[tuple[str, str], float] = {}
    for (target, dataset), step in firsts.items():
        since = step.delivers[0].creation or 0
        for name in (*above(dataset), dataset):
            oldest[target, name] = min(since, oldest.get((target, name), since))
    free = [place for place, step in firsts.items() if not step.depends_on]
    free = [place for place in free if not any(one == place[0] and below(place[1], name) for one, name in told)]
    for before, after in pairwise(free):
        assert oldest[before] <= oldest[after], f"{after} lags more than {before}"
        assert before[0] != after[0] or after[1] not in above(before[1]), f"{before} before {after}, above it"


def _check_decided(policy: Policy, by_id: dict[str, Member], work: Work, plan: Plan) -> None:
    """What a policy decides by itself touches neither the hub nor what somebody may be working in."""
    for decision in plan.decided:
        for loser in decision.losers if decision.strategy != "ignore" else ():
            replica = by_id[loser.system_id].replicas.get(loser.dataset)
            assert loser.system_id != policy.hub, f"the hub loses by itself: {decision}"
            if not _is_in_motion(work, loser.system_id):
                assert replica is not None, f"it is not there: {decision}"
                assert replica.readonly is True, f"it may be in use: {decision}"
        assert not decision.discard, f"nobody let this go: {decision}"
