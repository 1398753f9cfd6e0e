"""Inventories as the planner sees them. What did not change since the last time is not made anew."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from handlers.memory import Memory
from planner.model import Bookmark, Replica, Snapshot
from store import Store, documents
from store.shards import Inventory

SYSTEMS = 1024  # of which this process remembers what it made


@dataclass(frozen=True, slots=True)
class Replicas:
    """A system's datasets: those there, and those of pools not imported now."""

    present: Mapping[str, Replica]
    absent: Mapping[str, Replica]
    generation: str  # of the inventory
    made_of: Mapping[str, tuple[object, Replica]]  # by dataset: the document as it was held


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
    made_of: dict[str, tuple[object, Replica]] = {}
    for name, held in inventory.datasets.held().items():
        known = before.made_of.get(name) if before is not None else None
        if before is not None and known is not None and known[0] == held:
            replica, is_absent = known[1], name in before.absent
        else:
            document = inventory.datasets.get(name)
            replica, is_absent = replica_of(document), document.absent
        (absent if is_absent else present)[name] = replica
        made_of[name] = (held, replica)
    return Replicas(present, absent, inventory.generation, made_of)


def replica_of(document: documents.DatasetDoc) -> Replica:
    """A dataset's document as the planner sees it."""
    snapshots = [snapshot_of(row) for row in document.snapshots]
    if all(snapshot.createtxg is not None for snapshot in snapshots):
        snapshots.sort(key=lambda each: each.createtxg or 0)
    else:
        snapshots.sort(key=lambda each: each.creation or 0)
    return Replica(
        dataset=document.id,
        kind="volume" if document.type == "volume" else "filesystem" if document.type else None,
        guid=document.guid,
        snapshots=tuple(snapshots),
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
