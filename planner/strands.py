"""A group dataset by dataset: whom the others follow, and what planning comes to on each member."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from shlex import quote

from planner.leaders import Course, Leaderless, course_of
from planner.outcomes import Outcome
from planner.sites import Scene, Site
from planner.targets import HOLDS_SOMETHING_BYTES, consider, unled

Hold = Callable[[str, Site], str | None]  # why nothing may go into a path on a member now


@dataclass(frozen=True, slots=True)
class Strand:
    """One dataset of the group, on every member that has it or should have it."""

    course: Course | Leaderless
    outcomes: tuple[Outcome, ...]  # in the configured order of the members

    @property
    def path(self) -> str:
        return self.course.path


def strands_of(scene: Scene, hold: Hold, unsettled: Hold) -> list[Strand]:
    """Every selected dataset that any member has, those above before those below.

    `unsettled` says why what a member has is not to be followed now.
    """
    paths = {path for site in scene.sites for path in site.histories}
    done: dict[tuple[str, str], Outcome] = {}
    strands: list[Strand] = []
    for path in sorted(paths, key=lambda path: path.split("/")):
        course = _unless_unsettled(scene, course_of(scene, path), unsettled)
        outcomes = tuple(_outcomes(scene, course, hold, done))
        done.update({(path, outcome.site.id): outcome for outcome in outcomes})
        strands.append(Strand(course, outcomes))
    return strands


def _unless_unsettled(scene: Scene, course: Course | Leaderless, unsettled: Hold) -> Course | Leaderless:
    """The course; none while the hub's dataset is moved, so that what is under its name now is not its history."""
    hub = scene.site(scene.policy.hub) if scene.policy.directional else None
    reason = unsettled(course.path, hub) if hub is not None else None
    return Leaderless(course.path, reason, is_moving=True) if reason is not None else course


def _outcomes(
    scene: Scene, course: Course | Leaderless, hold: Hold, done: dict[tuple[str, str], Outcome]
) -> Iterator[Outcome]:
    for site in scene.sites:
        if isinstance(course, Leaderless):
            if course.path in site.histories or course.is_moving:
                yield unled(scene, _without_leader(course, site), hold(course.path, site))
        elif site is course.leader:
            yield _as_leader(course, site)
        else:
            outcome = consider(scene, course, site, hold(course.path, site), done)
            if outcome.held is not None or outcome.lack.later:
                yield outcome
            elif (nothing := _nothing_to_get(scene, course)) is not None:
                yield replace(outcome, reasons=(nothing,))


def _nothing_to_get(scene: Scene, course: Course) -> str | None:
    """Why a member without a dataset gets nothing of it, where that is not simply what the group chooses."""
    dataset, host = course.leader.dataset(course.path), course.leader.host
    if any(scene.selects_name(snapshot.name) for snapshot in course.lead.snapshots):
        return f"{host} reported the snapshots of {dataset} without their guids, so that nothing can be sent of it"
    if _is_chosen_elsewhere(scene, course):
        return f"{host} leads in {dataset} and has no snapshot of it that the group chooses: take one there"
    return None


def _is_chosen_elsewhere(scene: Scene, course: Course) -> bool:
    """Whether the group chooses snapshots of a dataset on others than the member who leads where nobody is the hub."""
    held = (history for site in scene.sites if (history := site.histories.get(course.path)) is not None)
    return not scene.policy.directional and any(scene.selects_name(s.name) for each in held for s in each.snapshots)


def _as_leader(course: Course, site: Site) -> Outcome:
    problem = site.unfit(course.path) or _never_taken(site, course.path)
    reasons = (problem,) if problem else ()
    return Outcome(course.path, site, reasons=reasons, apart=course.diverged, is_source=not course.diverged)


def _never_taken(site: Site, path: str) -> str | None:
    """That a dataset with something in it has no snapshot, so that nobody gets any of it."""
    replica = site.histories[path].replica
    if replica.newest is not None:
        return None
    if replica.resume_token:
        begun = f"{replica.dataset} on {site.host} is only the beginning of a transfer, so that nobody gets it yet"
        return f"{begun}; if that will not go on, drop it: zfs receive -A {quote(replica.dataset)}"
    if (replica.written or 0) < HOLDS_SOMETHING_BYTES:
        return None
    return f"{site.host} has no snapshot of {replica.dataset}, so that nobody gets it: take one, or exclude it"


def _without_leader(course: Leaderless, site: Site) -> Outcome:
    unfit = site.unfit(course.path)
    if unfit is not None:
        return Outcome(course.path, site, reasons=(unfit,))
    held = site.histories.get(course.path)
    has_some = held is not None and held.replica.newest is not None
    reason = course.reason if has_some or course.is_moving else _never_taken(site, course.path)
    reasons = (reason,) if reason else ()
    return Outcome(course.path, site, reasons=reasons, apart=course.orphaned and has_some)
