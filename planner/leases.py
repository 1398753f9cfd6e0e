"""What may not start while something else is under way: one step at a time changes a dataset, whosever group it is."""

from collections.abc import Iterator

from planner.model import Lease, Step
from planner.paths import is_below


def stands_in_the_way(lease: Lease, step: Lease | Step) -> bool:
    """Whether a step, or one whose lease ran out, must wait for another: both change one dataset, or one renames what
    the other works with."""
    if (lease.target, lease.target_dataset) == (step.target, step.target_dataset):
        return True
    return any(moves(lease, *place) for place in _places(step)) or any(moves(step, *place) for place in _places(lease))


def moves(work: Lease | Step, system: str, dataset: str) -> bool:
    """Whether work under way gives another name to a dataset, or takes its name: a rename moves all that lies below."""
    if work.type != "rename" or work.target != system:
        return False
    names = (name for name in (work.target_dataset, work.new_name) if name is not None)
    return any(is_below(dataset, name) for name in names)


def _places(work: Lease | Step) -> Iterator[tuple[str, str]]:
    yield work.target, work.target_dataset
    if work.source is not None and work.source_dataset is not None:
        yield work.source, work.source_dataset
