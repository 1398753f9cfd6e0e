"""What two replicas share, as far as their outlines tell: the snapshots of one in sync, or only behind, stay unread."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Protocol

from planner.model import Replica, Snapshot


class Row(Protocol):
    """A snapshot, be it as it is kept or as it is planned with."""

    @property
    def name(self) -> str: ...

    @property
    def guid(self) -> str: ...

    @property
    def ivsetguid(self) -> str | None: ...


def digest_of(rows: Iterable[Row]) -> str:
    """What tells snapshots, oldest first, from all others that differ in a guid, a name, an IV set or their order."""
    return sha256("".join(f"{row.guid} {row.ivsetguid or ''} {row.name}\n" for row in rows).encode()).hexdigest()


def is_level(one: Replica, other: Replica) -> bool:
    """Whether both are known to have the very same snapshots. False says nothing: they may have."""
    return one.outline is not None and other.outline is not None and one.outline.digest == other.outline.digest


def names_of(replica: Replica) -> Mapping[str, str]:
    """The names of its snapshots by guid, of those whose guid is known."""
    if replica.names is None:
        unread = replica.source is not None and replica.index is None
        names = replica.source.names() if replica.source is not None and unread else _names_in(replica.snapshots)
        object.__setattr__(replica, "names", names)
    assert replica.names is not None
    return replica.names


def _names_in(snapshots: Iterable[Snapshot]) -> Mapping[str, str]:
    return {snapshot.guid: snapshot.name for snapshot in snapshots if snapshot.guid and not snapshot.by_name}


def names_in(replica: Replica) -> frozenset[str]:
    """The names of all its snapshots, those that are known by nothing else too."""
    if replica.outline is not None:
        return frozenset(names_of(replica).values())
    return frozenset(snapshot.name for snapshot in replica.snapshots)


def reach(longer: Replica, shorter: Replica) -> int | None:
    """How many snapshots are known to be all that the shorter has, and the first that the longer has.

    None says nothing. The longer one is read for it where it has more of them.
    """
    if longer.outline is None or shorter.outline is None or longer.outline.count < shorter.outline.count:
        return None
    count = shorter.outline.count
    if longer.outline.count == count:
        return count if is_level(longer, shorter) else None
    if longer.snapshots[count - 1].guid != shorter.outline.newest.guid:
        return None
    if count not in longer.outline.prefixes:  # several replicas that are behind mostly are equally so
        longer.outline.prefixes[count] = digest_of(longer.snapshots[:count])
    return count if longer.outline.prefixes[count] == shorter.outline.digest else None
