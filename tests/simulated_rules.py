"""What must be so in the simulated world, whatever happens: judged by the pools themselves, not by the planner."""

import copy
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from planner import plan_group
from planner.model import Conflict, Gone, Lease, Member, Past, Plan, Policy, Skip, Step, Work
from tests.plan_rules import above, below, check_rules, chosen_name, is_due
from tests.simulated_hosts import Action, Host
from tests.simulated_world import Group, World
from tests.zfs_model import Refused
from tests.zfs_values import Block, Dataset, Snapshot, beyond

RENAMED = ("under another name", "is renamed")  # a person says whether it is
ASIDE = r"\.aside-[0-9a-f]{8}"
TAKES_NO_PART = ("is disabled", "is paused", "is stale", "has not reported", "not in its inventory")


# --- while an agent changes a host ---------------------------------------------------------------


def keep_data(world: World, action: Action, change: Callable[[], None]) -> None:
    """Snapshots go only where a person or the policy said so, and no others than the plan named."""
    target = world.hosts[action["target_system_id"]]
    path = target.path(re.sub(ASIDE, "", action["target_dataset"]))
    kind = action["action_type"]
    _allowed(world, target, path, action)
    snapshots, blocks, pairs = _guids(target), _blocks(target), _pairs(world, path)
    try:
        change()
    finally:
        lost = set(snapshots - _guids(target))
        named = set(action["expected_guids"].split(","))
        assert not lost or (kind in ("delete", "rollback") and lost <= named), f"lost {lost} by {action}"
        assert kind == "rollback" or blocks <= _blocks(target), f"what was written is lost by {action}"
        if kind in ("delete", "release"):
            assert pairs <= _pairs(world, path), f"a pair has lost its base by {action}"


def keep_needed(world: World, hosts: list[Host], change: Callable[[], None]) -> None:
    """Where hosts destroy what they are told is free, every pair keeps its base, and everything wanted a copy."""
    paths = sorted({path for _, path, _ in world.replicas() if any(group.chooses(path) for group in world.groups)})
    is_right = all(host.known for host in world.hosts.values())  # or else a copy may have gone since it was reported
    before = {path: (_pairs(world, path), _wanted(world, path)) for path in paths}
    change()
    for path, (pairs, wanted) in before.items():
        assert pairs <= _pairs(world, path), f"a pair has lost its base for {path}, which was said to be free"
        left = {snap.guid for held in _held_at(world, path) for snap in held.snapshots}  # under whatever name
        assert not is_right or wanted <= left, f"the last copy of something in {path} was said to be free"


def _wanted(world: World, path: str) -> set[str]:
    """What some host has of a dataset and a group of it wants: chosen, and not destroyed on the hub.

    What a host has beyond what it shares with the hub counts, too, where that is more than nothing: the hub went back.
    """
    wanted: set[str] = set()
    for group in world.groups:
        policy, _, work, _ = world.inputs(group)
        hub = group.hosts.get(policy.hub or "")
        places = {(policy.hub or "", hub.dataset(path))} if hub and policy.delete == "mirror" else set()
        gone = {guid for system, dataset in places for guid in work.gone.guids(system, dataset)}
        if hub and (leading := holding(hub, path)) is not None:
            gone -= {snap.guid for each in _held_at(world, path) for snap in _own(each, leading)}
        kept = (s for h in group.hosts.values() if (held := holding(h, path)) for s in held.snapshots)
        if group.chooses(path):
            wanted |= {snap.guid for snap in kept if chosen_name(policy, snap.name) and snap.guid not in gone}
    return wanted


def _own(held: Dataset, leading: Dataset) -> list[Snapshot]:
    """What came on a copy after the newest that it shares with the hub, unless that is empty."""
    theirs = {snap.guid for snap in (*leading.snapshots, *leading.bookmarks)}
    shared = max((place for place, snap in enumerate(held.snapshots, 1) if snap.guid in theirs), default=0)
    base = held.snapshots[shared - 1].blocks if shared else ()
    return held.snapshots[shared:] if beyond(held.blocks, base) else []


def _held_at(world: World, path: str) -> list[Dataset]:
    return [held for host in world.hosts.values() if (held := holding(host, path))]


def _allowed(world: World, target: Host, path: str | None, action: Action) -> None:
    """Whether anybody wanted such a step."""
    kind = action["action_type"]
    group = next(group for group in world.groups if group.id == action["sync_group_id"])
    if kind == "delete":
        assert group.mirrored, f"nobody asked for deletions: {action}"
    if kind == "rollback":
        assert path in world.discards, f"nobody let this go: {action}"
    places = {path, *(above(path) if path else ())}
    if kind in ("rename", "promote", "rollback") and places.isdisjoint(world.resolved):
        assert group.automatic, f"nobody decided this: {action}"


def _guids(host: Host) -> Counter[str]:
    return Counter(snap.guid for kept in host.pools.datasets.values() for snap in kept.snapshots)


def _blocks(host: Host) -> set[Block]:
    kept = [each for each in host.pools.datasets.values() if each.origin or not each.newborn]
    return {block for each in kept for block in each.blocks}


def _pairs(world: World, path: str | None) -> set[tuple[str, str]]:
    """Source and target, in some group, of every increment that could go on now, if the witness knows both well."""
    pairs: set[tuple[str, str]] = set()
    for group in world.groups if path is not None else ():
        known = (host for host in group.hosts.values() if host.known and group.chooses(path))
        known = (host for host in known if not host.shelf or _heard_of(world, group, host, path))
        held = {host.name: kept for host in known if (kept := holding(host, path) or _moved(host, path))}
        pairs |= {(a, b) for a, one in held.items() for b, other in held.items() if a != b and follows(one, other)}
    return pairs


def _heard_of(world: World, group: Group, host: Host, path: str) -> bool:
    """Whether what lies on a host's disk that is away was reported before that went."""
    return any(
        host.dataset(path) in member.absent for member in world.inputs(group)[1] if member.system_id == host.system_id
    )


def holding(host: Host, path: str | None) -> Dataset | None:
    """A host's dataset at a path, also in a pool that is not imported."""
    name = host.dataset(path or "")
    return host.pools.datasets.get(name) or host.shelf.get(name)


def _moved(host: Host, path: str | None) -> Dataset | None:
    """A host's dataset that moved along with one above it that was set aside."""
    name = host.dataset(path or "")
    return next((kept for each, kept in host.pools.datasets.items() if re.sub(ASIDE, "", each) == name), None)


def newest_common(source: Dataset, target: Dataset) -> Snapshot | None:
    """The target's newest snapshot that the source has, too, or has a bookmark of."""
    known = {snap.guid for snap in source.snapshots + source.bookmarks}
    return next((snap for snap in reversed(target.snapshots) if snap.guid in known), None)


def follows(source: Dataset, target: Dataset) -> bool:
    """Whether nothing was written on the target since what it shares with the source."""
    common = newest_common(source, target)
    return common is not None and common.blocks == target.blocks


def keep_apart(world: World) -> None:
    """Whenever a lease is given: nothing else is being done to the same dataset, in whichever group."""
    leases = [lease for lease in world.inputs(world.groups[0])[2].leases if lease.expires_at > world.now]
    for place, one in enumerate(leases):
        for other in leases[:place]:
            ours, theirs = _touched(one), _touched(other)
            assert not any(a == b or _moves(one, b) or _moves(other, a) for a in ours for b in theirs), (one, other)


def _touched(lease: Lease) -> set[tuple[str, str]]:
    return {(lease.target, name) for name in (lease.target_dataset, lease.new_name) if name and "#" not in name}


def _moves(lease: Lease, place: tuple[str, str]) -> bool:
    return lease.type == "rename" and any(a == place[0] and below(name, place[1]) for a, name in _touched(lease))


# --- whenever a plan is made ---------------------------------------------------------------------


def check_plan(world: World, group: Group) -> Plan:
    """The plan as of now: the same in whatever order the facts come, and nothing left out silently."""
    facts = world.inputs(group)
    plan = plan_group(*facts)
    remembered = world.plan(group)
    if world.dice.random() < 0.4:
        other = plan_group(*_shuffled(world.dice, *facts))
        assert plan == other, f"in another order, or all of it read, another plan:\n{_first_difference(plan, other)}"
        assert plan.until == other.until, "in another order, or all of it read, another moment"
    assert plan == remembered, f"another plan than what is remembered:\n{_first_difference(plan, remembered)}"
    for path, member in _demands(group, *facts[:2]):
        decided = any(decision.path == path for decision in facts[2].decisions)  # what is pending is shown, too
        assert decided or _told(plan, path, member), f"nothing is said of {path} on {member.hostname}"
    for step in plan.steps:
        assert _is_the_hubs(group, *facts[:3], plan, step), f"not the hub's, and nobody decided it: {step}"
    check_rules(*facts, plan)
    _note(world, facts[2], plan)
    return plan


def _note(world: World, work: Work, plan: Plan) -> None:
    """Count what a plan shows."""
    for conflict in plan.conflicts:
        world.note(f"conflict: {conflict.type}, {conflict.severity}, {conflict.status}")
    for decision in plan.decided:
        world.note(f"decided by {decision.strategy}")
    if any("under another name" in skip.reason for skip in plan.skips):
        world.note("a rename proposed")
    if work.guards:
        world.note("a mass deletion guarded")
    if len(world.groups) > 1:
        first, second = (group.hosts.keys() for group in world.groups)
        world.note("two groups, a fan" if second <= first else "two groups, a chain")


def _is_the_hubs(group: Group, policy: Policy, members: list[Member], work: Work, plan: Plan, step: Step) -> bool:
    """Whether a step of a directional group brings what the hub has, or a person decided something else."""
    hub = next((member for member in members if member.system_id == policy.hub), None)
    decided = {decision.path for decision in (*work.decisions, *plan.decided)}
    if hub is None or step.type not in ("create", "sync") or decided & {step.path, *above(step.path)}:
        return True
    name = f"{hub.root}/{step.path}".rstrip("/")
    held = {**hub.absent, **hub.replicas}.get(name)
    guids = {snap.guid for snap in held.snapshots} if held else set()
    there = group.hosts[hub.system_id].pools.datasets.get(name)  # what has come since its report is the hub's, too
    guids |= {snap.guid for snap in there.snapshots} if there else set()
    return step.target != hub.system_id and guids.issuperset(snap.guid for snap in step.delivers)


def _shuffled(
    dice: random.Random, policy: Policy, members: list[Member], work: Work, now: float
) -> tuple[Policy, list[Member], Work, float]:
    mixed = [_mixed_member(dice, member) for member in dice.sample(members, len(members))]
    kinds = ("leases", "credits", "failures", "guards", "decisions")
    lists = {kind: tuple(dice.sample(getattr(work, kind), len(getattr(work, kind)))) for kind in kinds}
    near = (replace(each, members=tuple(_mixed_member(dice, one) for one in each.members)) for each in work.neighbours)
    return policy, mixed, replace(work, **lists, neighbours=tuple(near), gone=_MixedPast(dice, work.gone)), now


@dataclass(frozen=True, slots=True)
class _MixedPast:
    dice: random.Random
    past: Past

    def guids(self, system_id: str, dataset: str, hub_of: str | None = None) -> list[str]:
        guids = list(self.past.guids(system_id, dataset, hub_of))
        return self.dice.sample(guids, len(guids))

    def since(self, system_id: str, dataset: str, moment: float) -> list[Gone]:
        rows = list(self.past.since(system_id, dataset, moment))
        return self.dice.sample(rows, len(rows))


def _mixed_member(dice: random.Random, member: Member) -> Member:
    """The member with its datasets in another order, each with all of its snapshots, and no outline to plan by."""
    names = dice.sample(list(member.replicas), len(member.replicas))
    absent = dice.sample(list(member.absent), len(member.absent))
    replicas = {name: replace(member.replicas[name]) for name in names}
    return replace(member, replicas=replicas, absent={name: replace(member.absent[name]) for name in absent})


def _first_difference(one: Plan, other: Plan) -> str:
    for field in ("steps", "skips", "conflicts", "cells", "decided"):
        for left, right in zip(getattr(one, field), getattr(other, field), strict=False):
            if left != right:
                return f"{left}\n{right}"
    return "one has more"


def _demands(group: Group, policy: Policy, members: list[Member]) -> Iterator[tuple[str, Member]]:
    """Each dataset and member of which a plan must say something."""
    held: dict[str, dict[str, int]] = {}
    for member in members:
        for name, replica in {**member.absent, **member.replicas}.items():
            path = (name + "/")[len(member.root or "") + 1 : -1] if below(member.root or "", name) else None
            if path is not None and group.chooses(path) and ".aside-" not in name:
                wanted = sum(chosen_name(policy, snap.name) for snap in replica.snapshots)
                held.setdefault(path, {})[member.system_id] = wanted or -len(replica.snapshots)
    for path, holders in held.items():
        offered = max([holders.get(policy.hub, 0)] if policy.hub else holders.values())
        for member in members:
            if holders.get(member.system_id, 0) != 0 or (offered > 0 and member.system_id not in holders):
                yield path, member


def _told(plan: Plan, path: str, member: Member) -> bool:
    system = member.system_id
    return (
        any(step.path == path and step.target == system for step in plan.steps)
        or any(_tells(skip, path, system) for skip in plan.skips)
        or any(found.path == path and _names(found, system) for found in plan.conflicts)
        # of the whole dataset, and what was set aside along with it
        or any(skip.path in (path, *above(path)) and "what was decided" in skip.reason for skip in plan.skips)
        or any(c.path == path and c.system_id == system and (c.status == "in_sync" or c.is_source) for c in plan.cells)
    )


def _names(conflict: Conflict, system: str) -> bool:
    """Whether a conflict is about a member: one that has nothing of a contested dataset is no side of it."""
    return conflict.type != "missing" or any(side.system_id == system for side in conflict.sides)


def _tells(skip: Skip, path: str, system: str) -> bool:
    if skip.target != system or not skip.reason:
        return False
    return skip.path == path or (skip.path == "" and any(words in skip.reason for words in TAKES_NO_PART))


# --- when the faults have stopped ----------------------------------------------------------------


def check_contents(world: World) -> None:
    """What has one guid is one thing, wherever it is."""
    seen: dict[str, object] = {}
    for host in world.hosts.values():
        for kept in host.pools.datasets.values():
            for snap in kept.snapshots:
                assert seen.setdefault(snap.guid, snap.blocks) == snap.blocks, "equal guids, other contents"


def check_settled(world: World, group: Group, plan: Plan) -> None:
    """Who is said to be in sync is; and who is not could not be, as far as the pools are concerned."""
    policy = world.inputs(group)[0]
    leaders = {cell.path: world.hosts[cell.system_id] for cell in plan.cells if cell.is_source}
    here = group.hosts.values()
    for path in sorted({path for host, path, name in world.replicas() if host in here and ".aside-" not in name}):
        if not group.chooses(path):
            continue
        leader = leaders.get(path)
        if leader is None:
            _check_no_leader(group, policy, path)
            continue
        for host in here:
            if host is not leader:
                _Follower(world, group, policy, plan, path, leader, host).check()


def _check_no_leader(group: Group, policy: Policy, path: str) -> None:
    if policy.directional:
        hub = group.hosts[policy.hub or ""]
        assert hub.dataset(path) not in hub.pools.datasets, f"{path} is on the hub, and the plan knows no source"
        return
    held = [kept for host in group.hosts.values() if (kept := host.pools.datasets.get(host.dataset(path)))]
    held = [kept for kept in held if kept.snapshots]
    for one in held:
        if all(follows(one, other) and not _looks_changed(one, other) for other in held if other is not one):
            raise AssertionError(f"all could follow {one.name}, and the plan knows no source")


def _looks_changed(source: Dataset, target: Dataset) -> bool:
    """Whether `written` says that something changed since: an intent log was freed, or a raw stream received."""
    common = newest_common(source, target)
    return any(s.log_freed or s.raw for s in target.snapshots if common and s.createtxg > common.createtxg)


def wanted_now(policy: Policy, lead: Dataset, now: float) -> list[Snapshot]:
    """What every member should have of the leading history."""
    return [s for s in lead.snapshots if chosen_name(policy, s.name) and is_due(policy, s, now)]


@dataclass(frozen=True)
class _Follower:
    """A host that should have what another leads in."""

    world: World
    group: Group
    policy: Policy
    plan: Plan
    path: str
    leader: Host
    host: Host

    def check(self) -> None:
        """It has what is wanted, or no pool would accept it, or a person says first whether it should."""
        lead = self.leader.pools.datasets[self.leader.dataset(self.path)]
        wanted = wanted_now(self.policy, lead, self.world.now)
        held = self.host.pools.datasets.get(self.host.dataset(self.path))
        there = {snap.guid for snap in held.snapshots} if held else set()
        if not wanted or wanted[-1].guid in there:
            return
        where = f"{self.host.dataset(self.path)} after {lead.name}"
        cells = [c for c in self.plan.cells if c.path == self.path and c.system_id == self.host.system_id]
        assert cells, f"{where} is not in the matrix"
        reached = _place(lead, newest_common(lead, held)) if held else -1
        lacking = [snap for snap in wanted if snap.createtxg > reached]
        assert not lacking or cells[0].status != "in_sync", f"{where} is said to be in sync"
        if self.is_left_to_a_person(lead, held):
            return
        accepted = self.accepted(lacking, held)
        assert accepted is None, f"{where}: {accepted} would be accepted, and the plan says {self.reasons}"

    @property
    def reasons(self) -> list[str]:
        """What the plan says of it."""
        told = (skip for skip in self.plan.skips if skip.target == self.host.system_id)
        return [skip.reason for skip in told if skip.path == self.path]

    def is_left_to_a_person(self, lead: Dataset, held: Dataset | None) -> bool:
        """Whether it is new there and contested or there under another name, or went along with what is set aside."""
        if held is None and not self.policy.directional and self.is_contested(lead):
            return True
        if held is None and any(words in reason for words in RENAMED for reason in self.reasons):
            return True
        return any("decided about" in reason for reason in self.reasons) and self.waits_for_a_person()

    def is_contested(self, lead: Dataset) -> bool:
        """Whether a member goes another way than the leading one, so that a person says what new members get."""
        held = [host.pools.datasets.get(host.dataset(self.path)) for host in self.group.hosts.values()]
        return any(kept and kept is not lead and kept.snapshots and not follows(lead, kept) for kept in held)

    def waits_for_a_person(self) -> bool:
        """Whether a winner needs a new snapshot, or it moved with one above that is in the way itself."""
        name = self.host.dataset(self.path)
        moved = (re.sub(r"\.aside-[0-9a-f]{8}", "", each) for each in self.host.pools.datasets if each != name)
        skips = [skip for group in self.world.groups for skip in self.world.plan(group).skips]
        told = [skip for skip in skips if skip.target == self.host.system_id]
        if any(skip.path == self.path and "take a snapshot there" in skip.reason for skip in told):
            return True
        ways_out = any("rename or destroy it" in skip.reason for skip in told if skip.path in above(self.path))
        return name in moved and ways_out

    def accepted(self, lacking: list[Snapshot], held: Dataset | None) -> str | None:
        """A stream that some member could send and this one would receive, in a form that the group allows."""
        datasets, name = self.host.pools.datasets, self.host.dataset(self.path)
        if any(datasets[each].newborn for each in (*above(name), name) if each in datasets):
            return None  # there, but the rest of what broke off, and below it what is new
        ends = {snap.guid for snap in lacking}
        for source in self.group.hosts.values():
            sent = source.pools.datasets.get(source.dataset(self.path))
            if sent is None or source is self.host:
                continue
            marks = [*("@" + snap.name for snap in sent.snapshots), *("#" + mark.name for mark in sent.bookmarks)]
            bases = [None] if held is None else marks
            for raw in _forms(self.policy, sent, held):
                for end in sent.snapshots:
                    for base in bases if end.guid in ends else ():
                        with suppress(Refused):
                            stream = source.pools.send(sent.name, end.name, base, raw=raw)
                            copy.deepcopy(self.host.pools).receive(self.host.dataset(self.path), stream)
                            return f"{sent.name}@{end.name} on {base} from {source.name}, raw={raw}"
        return None


def _place(lead: Dataset, common: Snapshot | None) -> int:
    """When the leading pool got what it shares with another."""
    marks = lead.snapshots + lead.bookmarks
    return next((mark.createtxg for mark in marks if common and mark.guid == common.guid), -1)


def _forms(policy: Policy, sent: Dataset, held: Dataset | None) -> tuple[bool, ...]:
    """Raw or not: what was received raw goes on so, whatever a pool with the key might accept."""
    if policy.raw != "auto":
        return (policy.raw == "always",)
    if held is None:
        return (sent.encryption != "off",)
    common = newest_common(sent, held)
    if common is None or "off" in (sent.encryption, held.encryption):
        return (True, False)
    ours = [mark.ivsetguid for mark in sent.snapshots + sent.bookmarks if mark.guid == common.guid]
    return (ours[0] == common.ivsetguid,)
