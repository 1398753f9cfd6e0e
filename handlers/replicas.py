"""Inventories as the planner sees them. What did not change since the last time is not made anew."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from handlers.memory import Memory
from planner.model import Bookmark, Outline, Replica, Snapshot, unread
from store import Store, documents
from store.shards import Inventory

SYSTEMS = 1024  # of which this process remembers what it made


@dataclass(slots=True)
class _Source:
    """A dataset's document as it is held, from which its snapshots are read when somebody asks for them."""

    inventory: Inventory
    name: str
    held: object

    def snapshots(self) -> tuple[Snapshot, ...]:
        """The snapshots, oldest first."""
        return snapshots_of(self.inventory.datasets.unpacked(self.held))

    def names(self) -> Mapping[str, str]:
        """Their names by guid: all that is decoded."""
        rows = self.inventory.datasets.unpacked_as(documents.DatasetNames, self.held).snapshots
        return {sys.intern(row.guid): sys.intern(row.name) for row in rows}


@dataclass(frozen=True, slots=True)
class Replicas:
    """A system's datasets: those there, and those of pools not imported now."""

    present: Mapping[str, Replica]
    absent: Mapping[str, Replica]
    generation: str  # of the inventory
    made_of: Mapping[str, tuple[_Source, Replica]]  # by dataset


_memory: Memory[Replicas] = Memory(SYSTEMS)


def replicas_of(store: Store, system_id: str, inventory: Inventory) -> Replicas:
    """The datasets of a system's inventory: the same objects for as long as their documents are the same."""
    place = _memory.place(store, system_id)
    found = place.kept
    if found is None or found.generation != inventory.generation:
        found = place.kept = _made(inventory, found)
    return found


def _made(inventory: Inventory, before: Replicas | None) -> Replicas:
    present: dict[str, Replica] = {}
    absent: dict[str, Replica] = {}
    made_of: dict[str, tuple[_Source, Replica]] = {}
    for name, held in inventory.datasets.held().items():
        known = before.made_of.get(name) if before is not None else None
        if before is not None and known is not None and known[0].held == held:
            source, replica = known
            source.inventory, source.held = inventory, held  # so that the old file's bytes can go
            is_absent = name in before.absent
        else:
            source = _Source(inventory, name, held)
            replica, is_absent = _replica_from(source)
        (absent if is_absent else present)[name] = replica
        made_of[name] = (source, replica)
    return Replicas(present, absent, inventory.generation, made_of)


def _replica_from(source: _Source) -> tuple[Replica, bool]:
    """A dataset, and whether it is of a pool that is not imported now; by its summary, if that says enough."""
    inventory, name = source.inventory, source.name
    summary = inventory.summaries.get(name) if name in inventory.summaries else None
    if summary is None or summary.outline is None or summary.checksum != inventory.datasets.checksum(name):
        document = inventory.datasets.get(name)
        return replica_of(document), document.absent
    replica = replica_of(summary.outline)
    outline = Outline(summary.count, summary.guids_digest, replica.snapshots[-1], summary.latest_creation)
    return unread(replica, outline, source), summary.outline.absent


def replica_of(document: documents.DatasetDoc) -> Replica:
    """A dataset's document as the planner sees it."""
    return Replica(
        dataset=document.id,
        kind="volume" if document.type == "volume" else "filesystem" if document.type else None,
        guid=document.guid,
        snapshots=snapshots_of(document),
        bookmarks=tuple(
            Bookmark(row.name, row.guid, row.createtxg, row.creation, row.ivsetguid) for row in document.bookmarks
        ),
        written=document.written,
        used=document.used,
        referenced=document.referenced,
        available=document.available,
        encryption=document.encryption,
        resume_token=document.receive_resume_token,
        origin=document.origin,
        readonly=document.readonly,
        mounted=document.mounted,
        mountpoint=document.mountpoint,
        reported=document.reported,
    )


def snapshots_of(document: documents.DatasetDoc) -> tuple[Snapshot, ...]:
    """A dataset's snapshots as the planner sees them, oldest first."""
    snapshots = [snapshot_of(row) for row in document.snapshots]
    if all(snapshot.createtxg is not None for snapshot in snapshots):
        snapshots.sort(key=lambda each: each.createtxg or 0)
    else:
        snapshots.sort(key=lambda each: each.creation or 0)
    return tuple(snapshots)


def snapshot_of(row: documents.SnapshotRow) -> Snapshot:
    """A snapshot's row as the planner sees it."""
    return Snapshot(
        sys.intern(row.name),  # the same on every system of a group, and often in every dataset
        sys.intern(row.guid),
        row.createtxg,
        row.creation,
        row.used,
        row.referenced,
        row.written,
        row.ivsetguid,
        row.userrefs,
        by_name=not row.guid,
    )


def row_of(snapshot: Snapshot) -> documents.SnapshotRow:
    """A planner's snapshot as a row, for what is kept of a transfer."""
    return documents.SnapshotRow(
        snapshot.name,
        snapshot.guid,
        snapshot.createtxg,
        snapshot.creation,
        snapshot.used,
        snapshot.referenced,
        snapshot.written,
        snapshot.userrefs,
        snapshot.ivsetguid,
        0,
        0,
    )
