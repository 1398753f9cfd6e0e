"""Which planned steps may start: not what failed a moment ago, and with it nothing that depends on it."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from planner.model import Skip, Step
from planner.sites import Scene

Admitted = tuple[tuple[Step, ...], tuple[Skip, ...]]


def failure_of(scene: Scene, step: Step) -> str | None:
    """Why a step may not be tried again yet."""
    for failure in scene.work.failures:
        whose = failure.executor in ("", step.executor)
        if failure.action_id == step.action_id and whose and failure.retry_at > scene.now:
            times = "once" if failure.count == 1 else f"{failure.count} times"
            return f"failed {times} and waits before it is tried again: {failure.message}"
    return None


def admitted(
    scene: Scene, steps: Iterable[Step], hindrance: Callable[[Scene, Step], str | None] = failure_of
) -> Admitted:
    """The steps that may start now, or are under way and have their lease; and why others may not."""
    allowed: list[Step] = []
    skips: list[Skip] = []
    waiting: set[str] = set()
    for step in steps:
        lease = scene.leases.get((step.target, step.target_dataset))
        if waiting.intersection(step.depends_on):
            waiting.add(step.action_id)
        elif lease is not None and lease.action_id == step.action_id:
            allowed.append(replace(step, lease=lease))
        else:
            reason = hindrance(scene, step)
            if reason is None:
                allowed.append(step)
            else:
                waiting.add(step.action_id)
                skips.append(Skip(step.path, step.target_dataset, step.target, reason))
    return tuple(allowed), tuple(skips)
