"""Two histories of one dataset, and how the second can follow the first.

Snapshots are the same when their guids are the same; names never decide. A raw stream also needs the same IV set,
so for one the pair (guid, ivsetguid) is compared wherever both sides report it.
"""

from dataclasses import dataclass

from planner.model import Bookmark, Replica, Snapshot
from planner.outlines import names_of, reach

Mark = Snapshot | Bookmark


@dataclass(frozen=True, slots=True)
class History:
    """A replica, with what finds its snapshots and bookmarks by guid."""

    replica: Replica

    @property
    def places(self) -> dict[str, int]:
        """Where each guid is in the snapshots, noted when first asked for; none of what is known by name only."""
        if self.replica.index is None:
            snapshots = enumerate(self.replica.snapshots)
            places = {s.guid: place for place, s in snapshots if s.guid and not s.by_name}  # is_certain
            object.__setattr__(self.replica, "index", places)
        assert self.replica.index is not None
        return self.replica.index

    @property
    def marks(self) -> dict[str, Bookmark]:
        """The bookmarks by guid."""
        return marks_of(self.replica)

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """Oldest first."""
        return self.replica.snapshots

    def get(self, guid: str) -> Snapshot | None:
        """The snapshot with this guid."""
        place = self.places.get(guid)
        return None if place is None else self.replica.snapshots[place]

    def find(self, guid: str) -> Mark | None:
        """The snapshot with this guid, or else the bookmark."""
        return self.get(guid) or self.marks.get(guid)

    def after(self, mark: Mark) -> tuple[Snapshot, ...] | None:
        """The snapshots later than one of this history's own, oldest first; None where that can't be told."""
        place = self.places.get(mark.guid)
        if place is not None:
            return self.replica.snapshots[place + 1 :]
        for place, snapshot in enumerate(self.replica.snapshots):
            later = _later(snapshot, mark)
            if later is None:
                return None
            if later:
                return self.replica.snapshots[place:]
        return ()


def history(replica: Replica) -> History:
    """The replica with what finds its parts."""
    return History(replica)


def marks_of(replica: Replica) -> dict[str, Bookmark]:
    """A replica's bookmarks by guid."""
    if replica.marks is None:
        object.__setattr__(replica, "marks", {mark.guid: mark for mark in _last_name_first(replica) if mark.guid})
    assert replica.marks is not None
    return replica.marks


def _last_name_first(replica: Replica) -> list[Bookmark]:
    """The bookmarks so that of several of one snapshot the first by name comes last, in whatever order they came."""
    return sorted(replica.bookmarks, key=lambda mark: mark.name, reverse=True)


def is_certain(snapshot: Snapshot) -> bool:
    """Whether its guid is known, so that it may be acted on."""
    return bool(snapshot.guid) and not snapshot.by_name


def _later(snapshot: Snapshot, mark: Mark) -> bool | None:
    """Whether a snapshot was made after a bookmarked one of the same pool; None where neither clock is known."""
    if snapshot.createtxg is not None and mark.createtxg is not None:
        return snapshot.createtxg > mark.createtxg
    if snapshot.creation is not None and mark.creation is not None:
        return snapshot.creation > mark.creation
    return None


@dataclass(frozen=True, slots=True)
class Common:
    """The newest snapshot that both have, and what came after it on either side, oldest first."""

    at_source: Mark  # a bookmark where the source has destroyed the snapshot
    at_target: Snapshot
    ahead: tuple[Snapshot, ...]  # the source's later snapshots
    own: tuple[Snapshot, ...]  # the target's later snapshots


@dataclass(frozen=True, slots=True)
class FastForward:
    """An increment on the common snapshot would be accepted."""

    common: Common


@dataclass(frozen=True, slots=True)
class Ahead:
    """The target was written to, and the source has nothing newer than the common snapshot."""

    common: Common


@dataclass(frozen=True, slots=True)
class Diverged:
    """The target was written to since the common snapshot, and the source went on too."""

    common: Common


@dataclass(frozen=True, slots=True)
class Unclear:
    """Whether the target was written to since the common snapshot is unknown."""

    common: Common


@dataclass(frozen=True, slots=True)
class Unrelated:
    """Nothing is common."""


@dataclass(frozen=True, slots=True)
class Empty:
    """The target has no snapshots, so that nothing can be compared."""


Relation = FastForward | Ahead | Diverged | Unclear | Unrelated | Empty


def relate(source: History, target: History, raw: bool = False) -> Relation:
    """How the target stands to the source.

    An increment applies on the newest common snapshot if nothing was written on the target after it. Later
    snapshots of the target's own are harmless while they are empty, except when it receives raw streams: there
    even an empty one is refused as "modified" (zfs-receive(8), and tried on OpenZFS 2.1).
    """
    if target.replica.newest is None:
        return Empty()
    common = newest_common(source, target, raw)
    if common is None:
        return Unrelated()
    written = [snapshot.written for snapshot in common.own] + [target.replica.written]
    if any(written) or (raw and common.own):
        return Diverged(common) if common.ahead else Ahead(common)
    if None in written:
        return Unclear(common)
    return FastForward(common)


def newest_common(source: History, target: History, raw: bool = False) -> Common | None:
    """The target's newest snapshot that the source has too, as a snapshot or a bookmark."""
    known = _known_common(source, target)
    if known is not None and not (raw and not _same_iv_set(known.at_source, known.at_target)):
        return known
    for place in range(len(target.snapshots) - 1, -1, -1):
        snapshot = target.snapshots[place]
        mark = source.find(snapshot.guid) if is_certain(snapshot) else None
        if mark is None or (raw and not _same_iv_set(mark, snapshot)):
            continue
        ahead = source.after(mark)
        if ahead is not None:
            return Common(mark, snapshot, ahead, target.snapshots[place + 1 :])
    return None


def _known_common(source: History, target: History) -> Common | None:
    """What is common where the target's newest is the source's, or one of its snapshots, or where the source has all
    that the target has but the newest ones; None if that is not known so. The target is not read if it need not be."""
    here, there = source.replica.outline, target.replica.outline
    if here is None or there is None:
        return None
    ours, newest = here.newest, there.newest
    if ours.guid == newest.guid:
        return Common(ours, newest, (), ())
    if newest.guid in names_of(source.replica):
        place = source.places[newest.guid]
        return Common(source.snapshots[place], newest, source.snapshots[place + 1 :], ())
    count = reach(target.replica, source.replica)
    if count is None or any(snapshot.guid in source.marks for snapshot in target.snapshots[count:]):
        return None
    return Common(ours, target.snapshots[count - 1], (), target.snapshots[count:])


def _same_iv_set(one: Mark, other: Mark) -> bool:
    return one.ivsetguid is None or other.ivsetguid is None or one.ivsetguid == other.ivsetguid
