"""Which step goes first."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from math import inf

from planner.model import Step
from planner.outcomes import Outcome
from planner.paths import ancestors


@dataclass(frozen=True, slots=True)
class _Job:
    """Steps that belong together: the chain into one dataset, or one parent."""

    target: str
    dataset: str
    depth: int  # below the member's root
    path: str
    place: int  # of the target
    since: float  # when the oldest snapshot that it brings was made
    steps: tuple[Step, ...]


def in_order(outcomes: Iterable[Outcome], seen: Container[str]) -> list[Step]:
    """Parents before what lies below them, then the largest lag first, so that nothing starves.

    A parent is as urgent as the most urgent dataset below it on the same member. Several may need it: it is made by one
    of those `seen` lately.
    """
    jobs: dict[tuple[str, str, str], _Job] = {}
    for outcome in outcomes:
        since = _since(outcome)
        for step in outcome.steps:
            if step.type == "create_parent":
                parent = (step.target, step.target_dataset, "parent")
                if parent not in jobs or (jobs[parent].steps[0].executor not in seen and step.executor in seen):
                    jobs[parent] = _job(outcome, (step,), step, since)
        chain = tuple(step for step in outcome.steps if step.type != "create_parent")
        if chain:
            jobs[chain[0].target, chain[0].target_dataset, "chain"] = _job(outcome, chain, chain[0], since)
    oldest: dict[tuple[str, str], float] = {}
    for job in jobs.values():
        for name in (*ancestors(job.dataset), job.dataset):
            oldest[job.target, name] = min(job.since, oldest.get((job.target, name), inf))
    ordered = sorted(jobs.values(), key=lambda j: (oldest[j.target, j.dataset], j.depth, j.path, j.place, j.dataset))
    return [step for job in ordered for step in job.steps]


def _since(outcome: Outcome) -> float:
    """What lags most lacks the oldest snapshot; this says so without a clock, so that time alone moves no step."""
    return next((float(s.creation) for s in outcome.lack.newer if s.creation is not None), inf)


def _job(outcome: Outcome, steps: tuple[Step, ...], step: Step, since: float) -> _Job:
    root = outcome.site.member.root
    depth = step.target_dataset.count("/") - (root.count("/") if root is not None else 0)
    return _Job(step.target, step.target_dataset, depth, step.path, outcome.site.place, since, steps)


def numbered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps with their places as priorities."""
    return tuple(replace(step, priority=place) for place, step in enumerate(steps))
