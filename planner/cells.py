"""Where each dataset stands on each member."""

from planner.leaders import Course, Leaderless
from planner.model import Cell, CellStatus, Replica, Snapshot
from planner.outcomes import Outcome
from planner.sites import Scene


def cell_of(scene: Scene, course: Course | Leaderless, outcome: Outcome) -> Cell:
    """One square of the dataset by system matrix."""
    lack, held = outcome.lack, outcome.held
    status = _status(outcome)
    lag = lag_of(scene, outcome)
    is_old = ages(course, outcome) and _is_old(scene, outcome)
    newest = held.replica.newest if held else None
    common = outcome.common
    return Cell(
        outcome.path,
        outcome.site.id,
        outcome.site.dataset(outcome.path),
        status,
        _why(course, outcome, status, is_old and outcome.is_source),
        is_source=outcome.is_source,
        newest=newest,
        newest_common=newest if outcome.is_source else common.at_target if common else None,
        missing=lack.older + lack.newer,
        lag_s=lag,
        late=is_old or lag > patience_s(scene),
        bytes_to_send=lack.size_bytes,
    )


def _status(outcome: Outcome) -> CellStatus:
    if outcome.apart:
        return "conflict"
    if outcome.site.member.reported_at is None:
        return "out_of_sync"
    if outcome.site.unfit(outcome.path) is not None:
        return "error"
    if outcome.leased:
        return "syncing"
    if outcome.failed:
        return "error"
    return "out_of_sync" if outcome.lack.newer or outcome.reasons else "in_sync"


def _why(course: Course | Leaderless, outcome: Outcome, status: CellStatus, quiet: bool) -> str:
    if outcome.reasons:
        return outcome.reasons[0]
    if outcome.steps and status != "in_sync":
        return outcome.steps[0].reason
    if status == "conflict":
        dataset = outcome.site.dataset(outcome.path)
        return f"others have another history of {dataset} than {outcome.site.host}: see the conflict"
    if quiet:
        return f"{outcome.site.host} has taken no new snapshot of {outcome.site.dataset(outcome.path)} for too long"
    return ""


def patience_s(scene: Scene) -> int:
    """How far a member may lag, and a source be without a new snapshot, before that is late."""
    return scene.policy.interval_s + scene.policy.grace_s


def lag_of(scene: Scene, outcome: Outcome) -> int:
    """The age in seconds of the oldest wanted snapshot that can still be received here; 0 if nothing lacks."""
    creation = next((s.creation for s in outcome.lack.newer if s.creation is not None), None)
    return max(0, int(scene.now - creation)) if creation is not None else 0


def is_late(scene: Scene, outcome: Outcome) -> bool:
    """Whether a member lags by more than the group's interval and the grace it allows."""
    return lag_of(scene, outcome) > patience_s(scene)


def ages(course: Course | Leaderless, outcome: Outcome) -> bool:
    """Whether it tells that something is late when a member's newest snapshot is old."""
    return outcome.is_source or (isinstance(course, Leaderless) and course.is_moving)


def _is_old(scene: Scene, outcome: Outcome) -> bool:
    """Whether the newest snapshot that a member has is older than a member may lag."""
    if outcome.held is None:
        return False
    newest = newest_selected(scene, outcome.held.replica)
    return newest is not None and newest.creation is not None and scene.now - newest.creation > patience_s(scene)


def newest_selected(scene: Scene, replica: Replica) -> Snapshot | None:
    """The last of its snapshots that the group chooses by its name."""
    newest = replica.newest
    if newest is None or scene.selects_name(newest.name):
        return newest
    return next((snapshot for snapshot in reversed(replica.snapshots) if scene.selects_name(snapshot.name)), None)
