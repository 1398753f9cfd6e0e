"""A group that mirrors deletions: what may go on replicas, and what keeps the way there open."""

from collections.abc import Iterable, Iterator

from planner.admission import Admitted, admitted, failure_of
from planner.cells import is_late
from planner.histories import History, Mark, is_certain
from planner.leaders import Course
from planner.model import Plan, Skip, Snapshot, Step, Verdict
from planner.names import name_problem, own_bookmark
from planner.outcomes import Outcome
from planner.paths import path_of
from planner.prune import is_own, let_go_by_hub, prunable, prunable_bookmarks
from planner.sites import Scene
from planner.steps import action_id
from planner.strands import Strand


def mirrors(scene: Scene) -> bool:
    """Whether what the hub destroys goes on its replicas too."""
    return scene.policy.directional and scene.policy.delete == "mirror" and scene.policy.enabled


def bookmarks(scene: Scene, strands: Iterable[Strand]) -> Admitted:
    """A bookmark on the hub for each base that it may destroy before the replica has got something newer.

    That is the newest common snapshot of a replica that is late or can't be brought up to date now, or one that is
    the hub's oldest and so the next to go. A bookmark for every base would leave thousands behind.
    """
    steps: dict[str, Step] = {}
    for strand in strands:
        course = strand.course
        if not isinstance(course, Course) or course.leader.barred(strand.path) or scene.is_paused(strand.path):
            continue
        for outcome in strand.outcomes:
            base = outcome.common.at_source if outcome.common else None
            if isinstance(base, Snapshot) and _at_risk(scene, course, outcome) and base.guid not in course.lead.marks:
                steps.setdefault(f"{strand.path}@{base.guid}", _bookmark(scene, course, base))
    return admitted(scene, steps.values(), _unmarkable)


def _at_risk(scene: Scene, course: Course, outcome: Outcome) -> bool:
    assert outcome.common is not None
    is_stuck = bool(outcome.lack.newer) and not outcome.steps
    return is_stuck or is_late(scene, outcome) or _is_oldest(course.lead, outcome.common.at_source)


def _is_oldest(lead: History, base: Mark) -> bool:
    outline = lead.replica.outline
    if outline is not None and outline.newest.guid == base.guid:
        return outline.count == 1
    return lead.places[base.guid] == 0


def _bookmark(scene: Scene, course: Course, base: Snapshot) -> Step:
    dataset, hub = course.lead.replica.dataset, course.leader
    return Step(
        action_id(scene.policy.group_id, course.path, hub.id, "bookmark", None, base.guid),
        "bookmark",
        course.path,
        executor=hub.id,
        target=hub.id,
        target_dataset=dataset,
        reason=f"the next increment of {dataset} starts at {base.name}: a bookmark keeps that possible if it goes",
        end=base,
        delivers=(base,),
        new_name=f"{dataset}#{own_bookmark(base.guid)}",
        expected_guids=(base.guid,),
    )


def _unmarkable(scene: Scene, step: Step) -> str | None:
    """Why a bookmark can't be made now."""
    if scene.is_held_up(step):
        return f"another step is changing {step.target_dataset} now"
    problem = name_problem(step.new_name or "")
    return f"no bookmark can keep what {step.target_dataset} shares: {problem}" if problem else failure_of(scene, step)


def releases(scene: Scene, plan: Plan) -> Admitted:
    """The bookmarks that earlier plans had made and that no member needs any more, a step for each."""
    held = (history.replica for site in scene.sites for history in site.histories.values())
    if not any(is_own(mark) for replica in held for mark in replica.bookmarks):
        return (), ()
    verdicts = prunable_bookmarks(scene.policy, list(scene.members.values()), scene.uncredited, plan, scene.now)
    free = [verdict for verdict in verdicts if not verdict.needed and is_own(verdict.snapshot)]
    return admitted(scene, [_release(scene, verdict) for verdict in free], _unreleasable)


def _release(scene: Scene, verdict: Verdict) -> Step:
    member, dataset, guid = scene.members[verdict.system_id], verdict.dataset, verdict.snapshot.guid
    path = path_of(member, dataset) or ""
    return Step(
        action_id(scene.policy.group_id, path, verdict.system_id, "release", None, guid),
        "release",
        path,
        executor=verdict.system_id,
        target=verdict.system_id,
        target_dataset=dataset,
        reason=f"{dataset}#{verdict.snapshot.name} on {member.hostname} kept a base, from which no transfer starts now",
        new_name=f"{dataset}#{verdict.snapshot.name}",
        expected_guids=(guid,),
    )


def _unreleasable(scene: Scene, step: Step) -> str | None:
    """Why a bookmark may not go now."""
    site = scene.site(step.target)
    assert site is not None, "verdicts are on members"
    if scene.is_held_up(step):
        return f"{step.new_name} stays while another step is changing {step.target_dataset}"
    if scene.is_paused(step.path):
        return f"{step.target_dataset} is paused in this group"
    return site.barred(step.path) or failure_of(scene, step)


def deletions(scene: Scene, strands: Iterable[Strand], plan: Plan) -> Admitted:
    """For each replica, the snapshots that once were on the hub, are gone from it, and that nobody needs."""
    candidates = [entry for strand in strands for entry in _candidates(scene, strand)]
    if not candidates:
        return (), ()
    verdicts = prunable(scene.policy, list(scene.members.values()), scene.uncredited, plan, scene.now)
    free = {(v.system_id, v.dataset, v.snapshot.guid) for v in verdicts if not v.needed}
    steps: list[Step] = []
    for course, outcome, gone in candidates:
        place = (outcome.site.id, outcome.site.dataset(outcome.path))
        going = tuple(snapshot for snapshot in gone if (*place, snapshot.guid) in free)
        if going:
            steps.append(_delete(scene, course, outcome, going))
    unsafe = [
        Skip(outcome.path, outcome.site.dataset(outcome.path), outcome.site.id, reason)
        for _, outcome, _ in candidates
        for reason in [_guarded(scene, outcome)]
        if reason is not None
    ]
    allowed, refused = admitted(scene, steps, _hindrance)
    return allowed, (*unsafe, *refused)


def _candidates(scene: Scene, strand: Strand) -> Iterator[tuple[Course, Outcome, tuple[Snapshot, ...]]]:
    """Replicas that hold selected snapshots which the hub destroyed."""
    course = strand.course
    if not isinstance(course, Course) or course.leader.barred(strand.path) or scene.is_paused(strand.path):
        return
    destroyed: frozenset[str] | None = None
    for outcome in strand.outcomes:
        held = outcome.held
        if outcome.is_source or held is None or outcome.apart or outcome.site.barred(strand.path):
            continue
        if outcome.lack.is_tail:
            continue  # the hub still has all of it
        if destroyed is None:
            destroyed = let_go_by_hub(scene.policy, course.lead.replica.dataset, scene.work)
        gone = tuple(
            snapshot
            for snapshot in held.snapshots
            if is_certain(snapshot)
            and snapshot.guid in destroyed
            and snapshot.guid not in course.lead.places
            and scene.selects_name(snapshot.name)
        )
        if gone:
            yield course, outcome, gone


def _guarded(scene: Scene, outcome: Outcome) -> str | None:
    """That some member lost most of this dataset's snapshots, so that nothing of it is deleted anywhere."""
    for site in scene.sites:
        dataset = site.dataset(outcome.path)
        if (site.id, dataset) in scene.guarded:
            lost = f"{dataset} on {site.host} lost most of its snapshots at once"
            return f"nothing is deleted: {lost}, and an admin must accept that first"
    return None


def _hindrance(scene: Scene, step: Step) -> str | None:
    """Why a deletion may not start now."""
    held = scene.members[step.target].replicas[step.target_dataset]
    if held.resume_token or scene.is_held_up(step):
        return f"nothing is deleted from {step.target_dataset} while a transfer into it is under way"
    if held.written is None:
        return f"nothing is deleted from {step.target_dataset}: its agent must report the column written"
    return failure_of(scene, step)


def _delete(scene: Scene, course: Course, outcome: Outcome, going: tuple[Snapshot, ...]) -> Step:
    held, site = outcome.held, outcome.site
    assert held is not None
    guids = tuple(snapshot.guid for snapshot in going)
    number = f"{len(going)} snapshots" if len(going) > 1 else "a snapshot"
    reason = f"{course.leader.host} has destroyed {number} of {course.lead.replica.dataset}, and no member needs them"
    return Step(
        action_id(scene.policy.group_id, outcome.path, site.id, "delete", None, ",".join(guids)),
        "delete",
        outcome.path,
        executor=site.id,
        target=site.id,
        target_dataset=held.replica.dataset,
        reason=reason,
        expected_guids=guids,
        expected_written=held.replica.written,
        destructive=True,
    )
