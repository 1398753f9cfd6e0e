"""What time alone changes in a plan, so that a plan can be kept for as long as nothing else does."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import floor, inf

from planner.cells import ages, newest_selected, patience_s
from planner.model import Listed, Member, Neighbour, Plan, Policy, Snapshot, Work
from planner.sites import Scene, is_fresh, is_seen
from planner.strands import Strand


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan depends on but the time: equal facts, equal plans until `Plan.until`.

    Of when a system was last heard from, only what follows is in it, so that a mere sign of life changes nothing.
    """

    policy: Policy
    members: tuple["_Known", ...]
    work: Work
    neighbours: tuple[tuple["_Known", ...], ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A member, whether it was heard from lately, and whether its inventory still counts."""

    member: Member
    is_seen: bool
    is_fresh: bool


def facts_of(policy: Policy, members: Sequence[Member], work: Work, now: float) -> Facts:
    """What a plan made now would depend on."""
    neighbours = tuple(_known(each.policy, each.members, now) for each in work.neighbours)
    nameless = tuple(Neighbour(each.policy, (), each.decisions) for each in work.neighbours)
    return Facts(policy, _known(policy, members, now), replace(work, neighbours=nameless, gone=Listed()), neighbours)


def _known(policy: Policy, members: Iterable[Member], now: float) -> tuple[_Known, ...]:
    return tuple(
        _Known(
            replace(each, confirmed_at=None, last_seen_at=None), is_seen(policy, each, now), is_fresh(policy, each, now)
        )
        for each in members
    )


def next_change(scene: Scene, strands: Iterable[Strand]) -> float:
    """When time alone may change the plan next, other than the lags of its cells."""
    work = scene.work
    ends = chain((lease.expires_at for lease in work.leases), (failure.retry_at for failure in work.failures))
    moments = chain(ends, _coming_of_age(scene), _running_late(scene, strands))
    return min((moment for moment in moments if moment >= scene.now), default=inf)


def _coming_of_age(scene: Scene) -> Iterator[float]:
    """When snapshots that are too young to be sent will be old enough, here or in a group that shares systems."""
    groups = [(scene.policy, tuple(scene.members.values()))]
    groups += [(each.policy, each.members) for each in scene.work.neighbours]
    for policy, members in groups:
        if policy.min_age_s:
            young = _snapshots_of(members, scene.now - policy.min_age_s)
            for snapshot in chain(young, *(each.delivered for each in scene.work.credits)):
                if snapshot.creation is not None:
                    yield snapshot.creation + policy.min_age_s


def _snapshots_of(members: Iterable[Member], since: float) -> Iterator[Snapshot]:
    """The snapshots of all datasets but those that are known to have none since then."""
    for member in members:
        for replica in chain(member.replicas.values(), member.absent.values()):
            outline = replica.outline
            if outline is None or (outline.latest_creation is not None and outline.latest_creation >= since):
                yield from replica.snapshots


def _running_late(scene: Scene, strands: Iterable[Strand]) -> Iterator[float]:
    """When what lacks begins to lag, and is late; and when sources that take no snapshot will have gone quiet."""
    for strand in strands:
        for outcome in strand.outcomes:
            lacking = next((s.creation for s in outcome.lack.newer if s.creation is not None), None)
            if lacking is not None:
                yield lacking + 1
                yield lacking + patience_s(scene) + 1
            if ages(strand.course, outcome) and outcome.held is not None:
                newest = newest_selected(scene, outcome.held.replica)
                if newest is not None and newest.creation is not None:
                    yield newest.creation + patience_s(scene)


def aged(plan: Plan, made_at: float, now: float) -> Plan:
    """A plan as it would be made now, of the same facts, before its `until`: lags grow by what has passed."""
    passed = floor(now) - floor(made_at)
    if not passed or not any(cell.lag_s for cell in plan.cells):
        return plan
    return replace(
        plan, cells=tuple(replace(cell, lag_s=cell.lag_s + passed) if cell.lag_s else cell for cell in plan.cells)
    )
