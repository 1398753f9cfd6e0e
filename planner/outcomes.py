"""What planning came to for one dataset on one member, and what stands in the way of a stream there."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from planner.histories import (
    Ahead,
    Common,
    Diverged,
    FastForward,
    History,
    Relation,
    Unclear,
    history,
)
from planner.leaders import Course
from planner.model import Replica, Snapshot, Step
from planner.names import unreceivable
from planner.outlines import names_in
from planner.sites import Site
from planner.sources import Wish
from planner.transfers import (
    Chain,
    above_of,
)


@dataclass(frozen=True, slots=True)
class Lack:
    """What a member lacks of what is wanted, oldest first."""

    newer: tuple[Snapshot, ...] = ()  # than the newest common one: they can still be received
    older: tuple[Snapshot, ...] = ()  # they can't be received any more
    size_bytes: int | None = 0  # of the streams that would bring `newer`
    later: bool = False  # the group chooses some of it, be it too young to be sent
    is_tail: bool = False  # known: what is there is the very beginning of the leading history


@dataclass(frozen=True, slots=True)
class Outcome:
    """What planning came to for one dataset on one member."""

    path: str
    site: Site
    relation: Relation | None = None  # to the leading history; None: the dataset is not here
    lack: Lack = Lack()
    steps: tuple[Step, ...] = ()
    reasons: tuple[str, ...] = ()  # why there are no steps, or not all
    apart: bool = False  # no increment can be received here, from whomever
    failed: bool = False
    leased: bool = False
    by_choice: bool = False  # held back by what somebody set: paused, disabled, a closed window, a decision
    is_source: bool = False

    @property
    def common(self) -> Common | None:
        """What this member's history shares with the leading one."""
        if isinstance(self.relation, FastForward | Ahead | Diverged | Unclear):
            return self.relation.common
        return None

    @property
    def is_partial(self) -> bool:
        """Whether the dataset is only the beginning of a full stream that broke off: it may go again."""
        return self.held is not None and bool(self.held.replica.resume_token) and self.held.replica.newest is None

    @property
    def held(self) -> History | None:
        """What this member has of the dataset."""
        return self.site.histories.get(self.path)


Done = Mapping[tuple[str, str], Outcome]  # by path and system_id


def wish_of(course: Course, outcome: Outcome, todo: tuple[Snapshot, ...]) -> Wish:
    target, dataset = outcome.site, outcome.site.dataset(outcome.path)
    above = above_of(target, dataset.rpartition("/")[0])
    start = outcome.held or history(Replica(dataset))
    return Wish(outcome.path, target, start, todo, course.leader, above.encryption if above else None)


def conflict_over(course: Course, outcome: Outcome) -> str | None:
    """Why nothing can be sent here until a conflict is resolved."""
    target = outcome.site
    if outcome.apart:
        return _apart_reason(course, outcome)
    if course.contested is not None and (outcome.held is None or outcome.held.replica.newest is None):
        return course.contested
    if course.diverged:
        return f"the histories of {target.dataset(outcome.path)} on the other members have diverged: see the conflict"
    return None


def _apart_reason(course: Course, outcome: Outcome) -> str:
    dataset, leader = outcome.site.dataset(outcome.path), course.leader
    common = outcome.common
    if common is None:
        return f"{dataset} on {outcome.site.host} has no snapshot in common with {leader.host}: see the conflict"
    since = common.at_target.name
    return f"{dataset} on {outcome.site.host} was written to since {since}, the last it shares: see the conflict"


def obstacles(outcome: Outcome, todo: tuple[Snapshot, ...]) -> dict[str, str]:
    """Why single snapshots can't be received here, by guid; a stream can step over them."""
    if not todo:
        return {}
    target, dataset = outcome.site, outcome.site.dataset(outcome.path)
    taken: Collection[str] = ()
    if outcome.held is not None and not outcome.lack.is_tail:  # no name in a tail is there yet
        taken = names_in(outcome.held.replica)
    problems = ((snapshot.guid, unreceivable(dataset, target.host, snapshot.name, taken)) for snapshot in todo)
    return {guid: problem for guid, problem in problems if problem is not None}


def unclear(outcome: Outcome, relation: Unclear) -> str:
    dataset, host = outcome.site.dataset(outcome.path), outcome.site.host
    since = relation.common.at_target.name
    unknown = f"whether {dataset} on {host} was written to since {since} is not known"
    return f"{unknown}: its agent must report the column written"


def left_out(rest: Chain) -> tuple[str, ...]:
    return (rest.stopped,) if rest.stopped else ()
