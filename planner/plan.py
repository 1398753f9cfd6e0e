"""A sync group's next steps in order, each with its reason; and what was left out, each with its reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from planner.admission import Admitted
from planner.cells import cell_of
from planner.conflicts import conflicts_of
from planner.decisions import Errand, claims_of, decide, errands_of, hold, moved, with_options
from planner.leaders import Leaderless
from planner.mirror import bookmarks, deletions, mirrors, releases
from planner.model import Conflict, Decision, Member, Plan, Policy, Skip, Work
from planner.order import in_order, numbered
from planner.sites import Scene, Site, scene_of
from planner.strands import Strand, strands_of
from planner.timing import next_change


@dataclass(frozen=True, slots=True)
class _Survey:
    """A group as it stands under the decisions taken so far."""

    errands: tuple[Errand, ...]
    strands: tuple[Strand, ...]
    conflicts: tuple[Conflict, ...]


def plan_group(policy: Policy, members: Sequence[Member], work: Work, now: float) -> Plan:
    """What the group's members should do next. The same facts give the same plan, in whatever order they come.

    An ordinary plan only adds. What would destroy data is described as a conflict, for a person to decide.
    """
    scene = scene_of(policy, members, work, now)
    survey = _survey(scene)
    decided = decide(scene, survey.conflicts)
    if decided:
        work = replace(work, decisions=work.decisions + decided)
        scene = replace(scene, work=work)
        survey = _survey(scene)
    plan = _plan(scene, survey, decided)
    plan = _mirrored(scene, survey.strands, plan) if mirrors(scene) else plan
    return replace(plan, until=next_change(scene, survey.strands))


def _survey(scene: Scene) -> _Survey:
    claims = claims_of(scene)
    errands = errands_of(scene, scene.work.decisions, claims)
    strands = strands_of(scene, partial(hold, errands, claims), partial(moved, errands, claims))
    return _Survey(errands, tuple(strands), with_options(scene, conflicts_of(scene, strands), errands, claims))


def _plan(scene: Scene, survey: _Survey, decided: tuple[Decision, ...]) -> Plan:
    strands = survey.strands
    errand_steps = [step for errand in survey.errands for step in errand.steps]
    seen = {site.id for site in scene.sites if site.seen}
    steps = in_order([outcome for strand in strands for outcome in strand.outcomes], seen)
    errand_skips = [skip for errand in survey.errands for skip in errand.skips]
    return Plan(
        numbered([*errand_steps, *steps]),
        (*errand_skips, *_skips(strands), *_absences(scene, strands)),
        survey.conflicts,
        tuple(cell_of(scene, strand.course, outcome) for strand in strands for outcome in strand.outcomes),
        decided,
        tuple(s.path for s in strands if isinstance(s.course, Leaderless) and s.course.is_moving),
    )


def _mirrored(scene: Scene, strands: tuple[Strand, ...], plan: Plan) -> Plan:
    """The plan with bookmarks for bases that are at risk, and at its end what the hub's deletions bring with them."""
    plan = _joined(plan, bookmarks(scene, strands))
    plan = _joined(plan, deletions(scene, strands, plan))
    return _joined(plan, releases(scene, plan))


def _joined(plan: Plan, more: Admitted) -> Plan:
    steps, skips = more
    return replace(plan, steps=numbered([*plan.steps, *steps]), skips=plan.skips + skips)


def _skips(strands: Sequence[Strand]) -> Iterator[Skip]:
    for strand in strands:
        for outcome in strand.outcomes:
            for reason in outcome.reasons:
                yield Skip(strand.path, outcome.site.dataset(strand.path), outcome.site.id, reason)


def _absences(scene: Scene, strands: Sequence[Strand]) -> Iterator[Skip]:
    """Members that take no part, where no dataset says so already."""
    told = {outcome.site.id for strand in strands for outcome in strand.outcomes if outcome.reasons}
    for site in scene.sites:
        reason = f"the group {scene.policy.name} is disabled" if not scene.policy.enabled else _absence(site)
        if reason is not None and site.id not in told:
            yield Skip("", site.dataset(""), site.id, reason)


def _absence(site: Site) -> str | None:
    """Why a member takes no part at all. Without a root, each dataset has a pool of its own to be missing."""
    return site.barred("") if site.member.root is not None else site.unknown or site.paused
