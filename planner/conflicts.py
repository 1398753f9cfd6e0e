"""What diverged, was orphaned or is missing: detected, weighed, and named by its evidence."""

import uuid
from collections.abc import Iterable, Iterator, Sequence

from planner.globs import selects
from planner.histories import Common, Unrelated, is_certain
from planner.leaders import Course
from planner.model import Conflict, ConflictType, Gone, Guard, Severity, Side, Snapshot
from planner.outcomes import Outcome, obstacles
from planner.paths import path_of
from planner.sites import Scene, Site
from planner.strands import Strand

_CONFLICTS = uuid.UUID("0f6f0a53-6d4c-5a0e-8d39-3b7a5d0f7c42")

Evidence = Iterable[tuple[object, ...]]


def conflicts_of(scene: Scene, strands: Iterable[Strand]) -> tuple[Conflict, ...]:
    """Every conflict of a group, by path. Its id is the same while its evidence is: what the other side has of its own.

    New snapshots of the leading history don't change that, so a decision holds while the hub goes on.
    """
    found: list[Conflict] = []
    for strand in strands:
        found.extend(conflict for conflict in (_diverged(scene, strand), _orphaned(scene, strand)) if conflict)
        found.extend(_missing(scene, strand))
    found.extend(_lost(scene))
    return tuple(sorted(found, key=lambda conflict: (conflict.path.split("/"), conflict.type, conflict.id)))


def _identify(scene: Scene, type: ConflictType, path: str, evidence: Evidence) -> str:
    facts = [scene.policy.group_id, type, path, *(repr(fact) for fact in sorted(evidence, key=repr))]
    return str(uuid.uuid5(_CONFLICTS, "\n".join(facts)))


def _guids(snapshots: Sequence[Snapshot]) -> tuple[str, ...]:
    return tuple(snapshot.guid or f"@{snapshot.name}" for snapshot in snapshots)


# --- diverged --------------------------------------------------------------------------------------


def _diverged(scene: Scene, strand: Strand) -> Conflict | None:
    """Members that were written to since the newest common snapshot."""
    course = strand.course
    apart = [outcome for outcome in strand.outcomes if outcome.apart and outcome.common is not None]
    if not apart or not isinstance(course, Course):
        return None
    evidence = [_own_evidence(outcome) for outcome in apart]
    if course.diverged:
        evidence.append(_leader_evidence(course, apart))
    names = dict.fromkeys(s.name for outcome in apart if outcome.common for s in outcome.common.own)
    hosts = " and ".join(f"{outcome.site.dataset(strand.path)} on {outcome.site.host}" for outcome in apart)
    since = list(dict.fromkeys(outcome.common.at_target.name for outcome in apart if outcome.common))
    last = "the last snapshot" if len(since) == 1 else "the last snapshots"
    both = _leader_has_data(course, apart) and any(_has_data(outcome) for outcome in apart)
    return Conflict(
        _identify(scene, "diverged", strand.path, evidence),
        "diverged",
        strand.path,
        "high" if both else "medium",
        _sides(strand),
        tuple(names),
        f"{hosts} changed after {' and '.join(since)}, {last} in common with {course.leader.host}, "
        f"so that no increment can be received there{_went_back(scene, course, apart)}",
    )


def _went_back(scene: Scene, course: Course, apart: Sequence[Outcome]) -> str:
    """That all which others have of their own was once the leader's: nobody wrote there."""
    dataset = course.leader.dataset(course.path)
    theirs = [snapshot for outcome in apart if outcome.common for snapshot in outcome.common.own]
    written = any(outcome.held.replica.written for outcome in apart if outcome.held)
    if written or not theirs or not all(scene.has_pruned(course.leader, dataset, each.guid) for each in theirs):
        return ""
    names = ", ".join(dict.fromkeys(snapshot.name for snapshot in theirs))
    return f". {course.leader.host} once had {names} of it, too: it was rolled back there, or they were destroyed"


def _own_evidence(outcome: Outcome) -> tuple[object, ...]:
    common, held = outcome.common, outcome.held
    assert common is not None, "only those with something in common diverge"
    return outcome.site.id, common.at_target.guid, _guids(common.own), held.replica.written if held else None


def _leader_evidence(course: Course, apart: Sequence[Outcome]) -> tuple[object, ...]:
    """What the leading member has of its own. It counts where nobody is the hub: any side may give way."""
    common = _oldest_common(apart)
    assert common is not None, "those who diverged share something"
    return course.leader.id, common.at_target.guid, _guids(common.ahead), course.lead.replica.written


def _oldest_common(outcomes: Iterable[Outcome]) -> Common | None:
    """What is common where that lies furthest back in the leading history."""
    shared = [outcome.common for outcome in outcomes if outcome.common is not None]
    return max(shared, key=lambda common: len(common.ahead), default=None)


def _leader_has_data(course: Course, apart: Sequence[Outcome]) -> bool:
    """Whether the leading history holds data that the others lack; not knowing counts as yes."""
    common = _oldest_common(apart)
    ahead = common.ahead if common else ()
    return any(snapshot.written != 0 for snapshot in ahead) or bool(course.lead.replica.written)


def _has_data(outcome: Outcome) -> bool:
    own = outcome.common.own if outcome.common else ()
    return any(snapshot.written != 0 for snapshot in own) or bool(outcome.held and outcome.held.replica.written)


def _sides(strand: Strand) -> tuple[Side, ...]:
    """Every member that has snapshots of the dataset, since a majority is counted among all of them."""
    holders = [outcome for outcome in strand.outcomes if outcome.held and outcome.held.replica.newest]
    return tuple(_side(strand, outcome) for outcome in holders)


def _side(strand: Strand, outcome: Outcome) -> Side:
    held = outcome.held
    assert held is not None
    replica = held.replica
    common, is_leader = outcome.common, False
    if isinstance(strand.course, Course) and outcome.site is strand.course.leader:
        common, is_leader = _oldest_common(other for other in strand.outcomes if other.apart), True
    if common is None:
        return Side(outcome.site.id, replica.dataset, replica.newest, None, replica.snapshots, replica.written)
    only_here = common.ahead if is_leader else common.own
    return Side(outcome.site.id, replica.dataset, replica.newest, common.at_target, only_here, replica.written)


# --- orphaned --------------------------------------------------------------------------------------


def _orphaned(scene: Scene, strand: Strand) -> Conflict | None:
    """Members that have snapshots of a dataset, none of which the leading history has."""
    apart = [outcome for outcome in strand.outcomes if outcome.apart and _has_nothing_common(strand, outcome)]
    if not apart:
        return None
    sides = [(outcome.site, outcome.held) for outcome in apart if outcome.held]
    if isinstance(strand.course, Course) and strand.course.diverged:
        sides.append((strand.course.leader, strand.course.lead))
    # what it prunes of its own changes nothing about that
    evidence = [(site.id, held.replica.guid or _guids(held.snapshots[:1])) for site, held in sides]
    names = dict.fromkeys(s.name for outcome in apart if outcome.held for s in outcome.held.snapshots)
    hosts = " and ".join(f"{outcome.site.dataset(strand.path)} on {outcome.site.host}" for outcome in apart)
    reason = strand.course.reason if not isinstance(strand.course, Course) else _cause(scene, strand.course, apart)
    return Conflict(
        _identify(scene, "orphaned", strand.path, evidence),
        "orphaned",
        strand.path,
        "high" if isinstance(strand.course, Course) and strand.course.lead.snapshots else "medium",
        _sides(strand),
        tuple(names),
        f"{hosts} has a history of its own: {reason}{_elsewhere(scene, strand, apart)}",
    )


def _has_nothing_common(strand: Strand, outcome: Outcome) -> bool:
    return isinstance(outcome.relation, Unrelated) or not isinstance(strand.course, Course)


def _cause(scene: Scene, course: Course, apart: Sequence[Outcome]) -> str:
    """The likely cause of having nothing in common."""
    leader, dataset = course.leader, course.leader.dataset(course.path)
    theirs = [snapshot for outcome in apart if outcome.held for snapshot in outcome.held.snapshots]
    if any(scene.has_pruned(leader, dataset, snapshot.guid) for snapshot in theirs):
        return f"{leader.host} has destroyed all that its {dataset} had in common with it"
    if course.lead.replica.newest is None:
        there = "only the beginning of a transfer" if course.lead.replica.resume_token else "no snapshot"
        return f"{dataset} on {leader.host} has {there}"
    where = f"no snapshot is common with {dataset} on {leader.host}. "
    ours = [snapshot.creation for snapshot in course.lead.snapshots if snapshot.creation is not None]
    others = [snapshot.creation for snapshot in theirs if snapshot.creation is not None]
    if ours and others and min(ours) > max(others):
        newer = f"All that {leader.host} has of it is newer: it was made anew there"
        return f"{where}{newer}, or what both had was destroyed there"
    if ours and others and min(others) > max(ours):
        return (
            f"{where}All that {leader.host} has of it is older: the other was made anew, or what both had was destroyed"
        )
    return f"{where}They were filled side by side: a member's root is wrong, or two datasets share a name by chance"


def _elsewhere(scene: Scene, strand: Strand, apart: Sequence[Outcome]) -> str:
    """Under which other name the leading member has what an orphan has, which then was probably renamed."""
    leader = strand.course.leader if isinstance(strand.course, Course) else scene.site(scene.policy.hub)
    orphans = [(outcome, outcome.held.snapshots) for outcome in apart if outcome.held]
    if leader is None:
        return ""
    for outcome, snapshots in orphans:
        for snapshot in filter(is_certain, reversed(snapshots)):
            paths = scene.paths_of(leader, snapshot.guid)
            if paths:
                name = f"{outcome.site.dataset(strand.path)}@{snapshot.name}"
                return f". {leader.host} has {name} in {leader.dataset(paths[0])}: it was probably renamed"
    return ""


# --- missing ---------------------------------------------------------------------------------------


def _missing(scene: Scene, strand: Strand) -> Iterator[Conflict]:
    """For each member, the wanted snapshots that it lacks: those it can't receive any more, or else the newer ones.

    What can't be received any more stays the same while newer ones come and go, and so does the conflict's id.
    """
    if not isinstance(strand.course, Course):
        return
    for outcome in strand.outcomes:
        if outcome.apart or outcome.is_source:
            continue
        blocked = obstacles(outcome, outcome.lack.newer)
        never = outcome.lack.older + tuple(s for s in outcome.lack.newer if s.guid in blocked)
        missing = never or outcome.lack.newer
        if not missing:
            continue
        severity: Severity = "low"
        reason = "; ".join(dict.fromkeys(blocked.values()))
        if outcome.lack.older:
            reason = "it can't be received there any more, since newer ones were"
        elif not never:
            severity, reason = _prospects(outcome)
        dataset = outcome.site.dataset(strand.path)
        yield Conflict(
            _identify(scene, "missing", strand.path, [(outcome.site.id, _guids(missing))]),
            "missing",
            strand.path,
            severity,
            _missing_sides(strand, outcome),
            tuple(snapshot.name for snapshot in missing),
            f"{dataset} on {outcome.site.host} lacks {_some(missing)}, which the group wants: {reason}",
        )


def _some(snapshots: Sequence[Snapshot]) -> str:
    """Their names, a few of many."""
    names = [snapshot.name for snapshot in snapshots]
    return (
        ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:2])} and {len(names) - 2} more up to {names[-1]}"
    )


def _prospects(outcome: Outcome) -> tuple[Severity, str]:
    """How bad it is that newer snapshots are missing, and what will become of it."""
    brought = {snapshot.guid for step in outcome.steps for snapshot in step.delivers}
    if all(snapshot.guid in brought for snapshot in outcome.lack.newer):
        return "low", "a planned step brings what is missing"
    reason = outcome.reasons[0] if outcome.reasons else "a step under way brings some of it"
    return "low" if outcome.by_choice or outcome.leased else "medium", reason


def _missing_sides(strand: Strand, outcome: Outcome) -> tuple[Side, ...]:
    """The member that lacks something, and the one whose history is wanted."""
    sides = [_side(strand, other) for other in strand.outcomes if other.is_source]
    held = outcome.held
    if held is not None and held.replica.newest is not None:
        return (*sides, _side(strand, outcome))
    dataset = outcome.site.dataset(strand.path)
    return (*sides, Side(outcome.site.id, dataset, None, None, (), held.replica.written if held else None))


def _lost(scene: Scene) -> Iterator[Conflict]:
    """Snapshots that went in a mass deletion nobody accepted yet, and that no member has any more."""
    for guard in sorted(scene.work.guards, key=lambda guard: (guard.system_id, guard.dataset)):
        site = scene.site(guard.system_id)
        path = path_of(site.member, guard.dataset) if site else None
        if site is None or path is None or not selects(scene.policy.include, scene.policy.exclude, path):
            continue
        left = {guid for other in scene.sites if path in other.histories for guid in other.histories[path].places}
        gone = {row.guid: row for row in scene.work.gone.since(guard.system_id, guard.dataset, guard.raised_at)}
        lost = [row for guid, row in gone.items() if guid not in left]
        if lost:
            yield _loss(scene, site, guard, path, lost)


def _loss(scene: Scene, site: Site, guard: Guard, path: str, lost: Sequence[Gone]) -> Conflict:
    guids = tuple(sorted(snapshot.guid for snapshot in lost))
    return Conflict(
        _identify(scene, "missing", path, [(site.id, "lost", guids)]),
        "missing",
        path,
        "high",
        (Side(site.id, guard.dataset, None, None, (), None),),
        tuple(sorted(snapshot.name or snapshot.guid for snapshot in lost)),
        f"{len(lost)} of the snapshots that {guard.dataset} on {site.host} lost at once are on no other member",
    )
