"""Which step goes first."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from planner.cells import lag_of
from planner.model import Step
from planner.paths import ancestors
from planner.sites import Scene
from planner.targets import Outcome


@dataclass(frozen=True, slots=True)
class _Job:
    """Steps that belong together: the chain into one dataset, or one parent."""

    target: str
    dataset: str
    depth: int  # below the member's root
    path: str
    place: int  # of the target
    lag: int
    steps: tuple[Step, ...]


def in_order(scene: Scene, outcomes: Iterable[Outcome]) -> list[Step]:
    """Parents before what lies below them, then the largest lag first, so that nothing starves.

    A parent is as urgent as the most urgent dataset below it on the same member.
    """
    jobs: dict[tuple[str, str, str], _Job] = {}
    for outcome in outcomes:
        lag = lag_of(scene, outcome)
        for step in outcome.steps:
            if step.type == "create_parent":
                jobs.setdefault((step.target, step.target_dataset, "parent"), _job(outcome, (step,), step, lag))
        chain = tuple(step for step in outcome.steps if step.type != "create_parent")
        if chain:
            jobs[chain[0].target, chain[0].target_dataset, "chain"] = _job(outcome, chain, chain[0], lag)
    urgency: dict[tuple[str, str], int] = {}
    for job in jobs.values():
        for name in (*ancestors(job.dataset), job.dataset):
            urgency[job.target, name] = max(job.lag, urgency.get((job.target, name), 0))
    ordered = sorted(jobs.values(), key=lambda j: (-urgency[j.target, j.dataset], j.depth, j.path, j.place, j.dataset))
    return [step for job in ordered for step in job.steps]


def _job(outcome: Outcome, steps: tuple[Step, ...], step: Step, lag: int) -> _Job:
    root = outcome.site.member.root
    depth = step.target_dataset.count("/") - (root.count("/") if root is not None else 0)
    return _Job(step.target, step.target_dataset, depth, step.path, outcome.site.place, lag, steps)


def numbered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps with their places as priorities."""
    return tuple(replace(step, priority=place) for place, step in enumerate(steps))
