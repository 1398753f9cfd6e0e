"""Whose history is wanted: the hub's, or else that of a member whom every other can follow."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.histories import Ahead, Diverged, FastForward, History, Relation, Unclear, Unrelated, newest_common, relate
from planner.model import Snapshot
from planner.sites import Scene, Site
from planner.sources import Wish, route


@dataclass(frozen=True, slots=True)
class Course:
    """Where a dataset should go on every member."""

    path: str
    leader: Site
    lead: History  # what is wanted; of the leader, or its last known one
    diverged: bool = False  # bidirectional, and nobody is to be followed: each holder is a side of a conflict
    contested: str | None = None  # why nothing may be sent to a member that has none of it


@dataclass(frozen=True, slots=True)
class Leaderless:
    """A dataset of which it is not known what is wanted."""

    path: str
    reason: str
    orphaned: bool = False  # the hub has none of it, which is a conflict for those who have
    is_moving: bool = False  # the hub will have it again; so those wait, too, who have none of it


def course_of(scene: Scene, path: str) -> Course | Leaderless:
    """Whom the others should follow in one dataset."""
    if scene.policy.directional:
        return _follow_hub(scene, path)
    return _follow_any(scene, path)


def _follow_hub(scene: Scene, path: str) -> Course | Leaderless:
    """The hub's history is what is wanted, also while the hub itself is away."""
    hub = scene.site(scene.policy.hub)
    if hub is None:
        return Leaderless(path, "the group's hub is not among its members: add it, or name another")
    lead = hub.histories.get(path)
    if lead is not None:
        return Course(path, hub, lead)
    unfit = hub.unfit(path)
    if unfit is not None:
        return Leaderless(path, unfit)
    if hub.dataset(path) in hub.existing:
        return Leaderless(path, f"{hub.dataset(path)} exists on {hub.host}, but its inventory does not list it")
    return Leaderless(path, f"{hub.host}, the hub, has no {hub.dataset(path)}", orphaned=True)


def _follow_any(scene: Scene, path: str) -> Course | Leaderless:
    """The member whom all others can follow; of several, the one with the newest snapshot, then as configured.

    One that is away may lead, since others can bring what it had. It does not count where that leaves nobody.
    """
    known = [site for site in scene.sites if _newest(site, path) is not None]
    known.sort(key=lambda site: _newest_first(site, path))
    here = [site for site in known if not site.barred(path)]
    for holders in (known, here):
        leader = _whom_all_follow(scene, path, holders)
        if leader is not None:
            return Course(path, leader, leader.histories[path])
    if not known:
        return Leaderless(path, "")
    related, *others = _related(path, known)
    contested = None
    if others:
        where = ", ".join(f"{site.dataset(path)} on {site.host}" for site in known)
        contested = f"{where} have histories of which some have nothing in common: see the conflict"
    leader = _whom_all_follow(scene, path, related)
    lonely = leader is None or len(related) == 1
    leader = leader or related[0]
    return Course(path, leader, leader.histories[path], diverged=lonely, contested=contested)


def _newest_first(site: Site, path: str) -> tuple[int, int]:
    newest = _newest(site, path)
    return (-newest.creation if newest and newest.creation is not None else 1), site.place


def _newest(site: Site, path: str) -> Snapshot | None:
    """The last snapshot that a member has of a dataset, if it has any."""
    held = site.histories.get(path)
    return held.replica.newest if held is not None else None


def _whom_all_follow(scene: Scene, path: str, holders: Sequence[Site]) -> Site | None:
    others = list(holders)
    for leader in holders:
        unable = next((o for o in others if o is not leader and not _can_follow(scene, path, leader, o)), None)
        if unable is None:
            return leader
        others.remove(unable)  # who can't follow one most likely can't follow the next either: asked first
        others.insert(0, unable)
    return None


def _can_follow(scene: Scene, path: str, leader: Site, other: Site) -> bool:
    """Whether the leader's history applies to another's as it is, or once a third has brought what links the two."""
    lead, held = leader.histories[path], other.histories[path]
    relation = relate(lead, held)
    if isinstance(relation, FastForward | Unclear):
        return True
    written = (
        [snapshot for snapshot in relation.common.own if snapshot.written] if isinstance(relation, Diverged) else []
    )
    thirds = (site.histories.get(path) for site in scene.sites if site is not leader and site is not other)
    if held.replica.written or (written and not any(third and third.find(written[-1].guid) for third in thirds)):
        return False  # nobody has what was written here, so no stream goes on after it
    wanted = tuple(snapshot for snapshot in lead.snapshots if scene.wants(snapshot))
    return bool(route(scene, Wish(path, other, held, wanted, leader, None)).legs)


def _related(path: str, holders: Sequence[Site]) -> list[list[Site]]:
    """The members in groups that share snapshots, the largest group first, each in the given order."""
    groups: list[list[Site]] = []
    for site in holders:
        near = [group for group in groups if any(_share(site, other, path) for other in group)]
        merged = [other for group in near for other in group]
        groups = [group for group in groups if group not in near] + [[*merged, site]]
    rank = {site.id: place for place, site in enumerate(holders)}
    tidy = [sorted(group, key=lambda site: rank[site.id]) for group in groups]
    return sorted(tidy, key=lambda group: (-len(group), rank[group[0].id]))


def _share(one: Site, other: Site, path: str) -> bool:
    here, there = one.histories[path], other.histories[path]
    return newest_common(here, there) is not None or newest_common(there, here) is not None


def is_apart(relation: Relation | None) -> bool:
    """Whether no increment of the leading history can be received there."""
    return isinstance(relation, Ahead | Diverged | Unrelated)
