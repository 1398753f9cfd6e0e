"""A sync group's next steps in order, each with its reason; and what was left out, each with its reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.cells import cell_of
from planner.leaders import Course, Leaderless, course_of
from planner.model import Member, Plan, Policy, Skip, Work
from planner.order import in_order, numbered
from planner.paths import dataset_of
from planner.sites import Scene, Site, scene_of
from planner.targets import Outcome, consider


@dataclass(frozen=True, slots=True)
class Strand:
    """One dataset of the group: whom the others follow, and what planning came to on each member."""

    course: Course | Leaderless
    outcomes: tuple[Outcome, ...]  # in the configured order of the members


def plan_group(policy: Policy, members: Sequence[Member], work: Work, now: float) -> Plan:
    """What the group's members should do next. The same facts give the same plan, in whatever order they come.

    An ordinary plan only adds. What would destroy data is described as a conflict, for a person to decide.
    """
    scene = scene_of(policy, members, work, now)
    strands = _strands(scene)
    outcomes = [outcome for strand in strands for outcome in strand.outcomes]
    return Plan(
        steps=numbered(in_order(scene, outcomes)),
        skips=(*_skips(outcomes), *_absences(scene, outcomes)),
        cells=tuple(cell_of(scene, strand.course, outcome) for strand in strands for outcome in strand.outcomes),
    )


def _strands(scene: Scene) -> list[Strand]:
    """Every selected dataset that any member has, those above before those below."""
    paths = {path for site in scene.sites for path in site.histories}
    done: dict[tuple[str, str], Outcome] = {}
    strands: list[Strand] = []
    for path in sorted(paths, key=_components):
        course = course_of(scene, path)
        outcomes = tuple(_outcomes(scene, course, done))
        done.update({(path, outcome.site.id): outcome for outcome in outcomes})
        strands.append(Strand(course, outcomes))
    return strands


def _components(path: str) -> list[str]:
    return path.split("/") if path else []


def _outcomes(scene: Scene, course: Course | Leaderless, done: dict[tuple[str, str], Outcome]) -> Iterator[Outcome]:
    """What planning comes to on each member that has the dataset or should have it."""
    for site in scene.sites:
        if isinstance(course, Leaderless):
            if course.path in site.histories:
                yield _without_leader(course, site)
        elif site is course.leader:
            yield _as_leader(course, site)
        else:
            outcome = consider(scene, course, site, None, done)
            if outcome.held is not None or outcome.lack.newer or outcome.lack.later:
                yield outcome


def _as_leader(course: Course, site: Site) -> Outcome:
    unfit = site.unfit(course.path)
    return Outcome(
        course.path, site, reasons=(unfit,) if unfit else (), apart=course.diverged, is_source=not course.diverged
    )


def _without_leader(course: Leaderless, site: Site) -> Outcome:
    unfit = site.unfit(course.path)
    if unfit is not None:
        return Outcome(course.path, site, reasons=(unfit,))
    has_some = bool(site.histories[course.path].snapshots)
    reasons = (course.reason,) if has_some and course.reason else ()
    return Outcome(course.path, site, reasons=reasons, apart=course.orphaned and has_some)


def _skips(outcomes: Sequence[Outcome]) -> Iterator[Skip]:
    for outcome in outcomes:
        for reason in outcome.reasons:
            yield Skip(outcome.path, outcome.site.dataset(outcome.path), outcome.site.id, reason)


def _absences(scene: Scene, outcomes: Sequence[Outcome]) -> Iterator[Skip]:
    """Members that take no part, where no dataset says so already."""
    told = {outcome.site.id for outcome in outcomes if outcome.reasons}
    for site in scene.sites:
        reason = f"the group {scene.policy.name} is disabled" if not scene.policy.enabled else _absence(site)
        if reason is not None and site.id not in told:
            yield Skip("", dataset_of(site.member, ""), site.id, reason)


def _absence(site: Site) -> str | None:
    return site.barred("") if site.member.root is not None else site.unknown
