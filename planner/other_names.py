"""Datasets that two members have under different names: one that was renamed is not sent again in full."""

from dataclasses import dataclass
from shlex import quote

from planner.encryption import Unfit, form_for_replica
from planner.histories import Ahead, FastForward, history, newest_common, relate
from planner.leaders import Course
from planner.names import LONGEST_NAME
from planner.other_groups import sent_by_others
from planner.paths import is_below, longest_name, pool_of
from planner.sites import Scene, Site


@dataclass(frozen=True, slots=True)
class OtherName:
    """A dataset of a target that would go on as another path, if it had that name."""

    path: str  # what the leading member calls it
    old: str  # what the target calls it, both below the root
    base: str  # the name of the snapshot that it would go on from


def other_name(scene: Scene, course: Course, target: Site) -> OtherName | None:
    """The dataset that a target lacks only by name.

    It shares snapshots with the leading history, the leader has no other dataset with them, and it does not go on
    under the name that it has. Nothing was written there since, or, where there is no hub, only there: that may have
    been what was renamed. A copy within the leader, or a replica that its owner put out of the way because nothing
    could be received on top of it any more, is no renamed dataset.
    """
    path, lead = course.path, course.lead
    if path in target.histories or target.dataset(path) in target.existing:
        return None
    goes_on: dict[str, bool] = {}  # by what the target calls it, as far as asked
    for guid in (*(snapshot.guid for snapshot in reversed(lead.snapshots)), *lead.marks):
        for old in scene.paths_of(target, guid):
            held = target.histories[old]
            if is_below(path, old) or pool_of(target.dataset(old)) != pool_of(target.dataset(path)):
                continue  # nothing can be moved below itself, nor to another pool
            if old not in goes_on:
                goes_on[old] = _goes_on(scene, course, old, target)
            if goes_on[old] or _is_elsewhere(scene, course, guid):
                continue
            form = form_for_replica(scene.policy, lead, held)
            if isinstance(form, Unfit):
                continue
            stands = relate(lead, held, form.strict)
            if isinstance(stands, FastForward) or (isinstance(stands, Ahead) and not scene.policy.directional):
                return OtherName(path, old, stands.common.at_target.name)
    return None


def _is_elsewhere(scene: Scene, course: Course, guid: str) -> bool:
    """Whether the leader has a snapshot, or a bookmark of it, in another dataset, too."""
    leader = course.leader
    marked = (path for path, history in leader.histories.items() if guid in history.marks)
    return bool({*scene.paths_of(leader, guid), *marked} - {course.path})


def _goes_on(scene: Scene, course: Course, old: str, target: Site) -> bool:
    """Whether a target's dataset has a history under its own name, too: another group sends to that name, or both names
    are of datasets that there are, on its leader, and on any member if none is the hub."""
    held = target.histories[old]
    elsewhere = (sent for _, sent in sent_by_others(scene, target, target.dataset(old)))
    if any(newest_common(history(sent), held) is not None for sent in elsewhere):
        return True
    sites = (course.leader,) if scene.policy.directional else scene.sites
    others = (site.histories.get(old) for site in sites if site is not target and course.path in site.histories)
    return any(other is not None and newest_common(other, held) is not None for other in others)


def told_to_rename(scene: Scene, course: Course, target: Site) -> str | None:
    """Why a dataset is not sent in full to a member that has it under another name, and what to do there."""
    found = other_name(scene, course, target)
    if found is None:
        return None
    old, new = target.dataset(found.old), target.dataset(found.path)
    above, _, last = found.path.rpartition("/")
    lead = course.leader.histories.get(above)
    up = other_name(scene, Course(above, course.leader, lead), target) if lead is not None else None
    if up is not None and found.old == f"{up.old}/{last}":
        return f"{old} on {target.host} becomes {new} when {target.dataset(up.old)} is renamed"
    command = f"zfs rename {quote(old)} {quote(new)} on {target.host}"
    if longest_name(target.member, old) + len(new) - len(old) > LONGEST_NAME:
        theirs = course.leader.dataset(found.old)
        command = f"zfs rename {quote(course.lead.replica.dataset)} {quote(theirs)} on {course.leader.host}"
    return (
        f"{old} on {target.host} is {course.lead.replica.dataset} on {course.leader.host} under another name "
        f"(both have {found.base}). Rename one of them, as with {command}, "
        "and it goes on from there; or move it out of the group, and it is sent in full"
    )
