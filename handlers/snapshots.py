"""Snapshots: listed and shown; what appeared and went; and figures over them."""

import hashlib
import heapq
import itertools
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from handlers import answers as a
from handlers.bodies import HistoryQuery, SnapshotQuery, StatisticsQuery
from handlers.errors import Forbidden
from handlers.pages import paginated
from handlers.request import Answer, Request
from handlers.values import from_unix, identity, with_offset
from planner.paths import pool_of
from store import REGISTRY, NotFound, inventory_of
from store.documents import DatasetDoc, SnapshotRow

# --- ids -----------------------------------------------------------------------------------------


def snapshot_id(system_id: str, dataset: str, name: str, snapshot_guid: str) -> str:
    """The snapshot's UUID: the same for one system, dataset, name and guid.

    A version 8 UUID (RFC 9562): its first parts are hashes of the system and of the dataset, so that the
    snapshot is found again without an index.
    """
    of_system, of_dataset = _hash(system_id)[:4], _hash(dataset)[:4]
    raw = bytearray(of_system + of_dataset + _hash(f"{name}\t{snapshot_guid}")[:8])
    raw[6] = 0x80 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(raw)))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def find_snapshot(request: Request, wanted_id: str) -> tuple[str, DatasetDoc, SnapshotRow]:
    """Where a snapshot is. Raises NotFound; to agents Forbidden for others' ids, whether they exist or not."""
    prefix = wanted_id[:8]
    for system_id in _visible_systems(request, None):
        if _hash(system_id)[:4].hex() != prefix:
            continue
        datasets = request.store.read(inventory_of(system_id)).datasets
        for name in datasets.ids():
            if not snapshot_id(system_id, name, "", "").startswith(wanted_id[:13]):
                continue
            document = datasets.get(name)
            for row in document.snapshots:
                if not document.absent and snapshot_id(system_id, name, row.name, row.guid) == wanted_id:
                    return system_id, document, row
    own = request.caller.system_id
    if request.caller.is_agent and (own is None or _hash(own)[:4].hex() != prefix):
        raise Forbidden("this key's system has no part in that")
    raise NotFound(f"no snapshot '{wanted_id}'")


def _visible_systems(request: Request, wanted: str | None) -> list[str]:
    """Ids of the systems whose snapshots the caller may see, narrowed to `wanted`. Raises Forbidden, NotFound."""
    if request.caller.is_agent:
        assert request.caller.system_id is not None
        if wanted not in (None, request.caller.system_id):
            raise Forbidden("this key's system has no part in that")
        return [request.caller.system_id]
    systems = request.store.read(REGISTRY).systems
    return sorted(systems.ids()) if wanted is None else [systems.get(wanted).id]


# --- showing -------------------------------------------------------------------------------------


def present_snapshot(system_id: str, document: DatasetDoc, row: SnapshotRow) -> a.Snapshot:
    """A snapshot as the API shows it."""
    metadata = {} if document.snapshot_metadata is msgspec.UNSET else document.snapshot_metadata
    assert isinstance(metadata, dict)
    return {
        "id": snapshot_id(system_id, document.id, row.name, row.guid),
        "name": row.name,
        "pool": pool_of(document.id),
        "dataset": document.id,
        "timestamp": from_unix(row.creation),
        "guid": row.guid or None,
        "createtxg": None if row.createtxg is None else str(row.createtxg),
        "size": row.used,
        "referenced": row.referenced,
        "written": row.written,
        "system_id": system_id,
        "identity": identity(row.guid),
        "created_at": from_unix(row.first_seen),
        "updated_at": from_unix(row.changed),
        "metadata": metadata.get(metadata_key(row), {}),
    }


def metadata_key(row: SnapshotRow) -> str:
    """What a snapshot's metadata goes by in its dataset's document."""
    return row.guid or f"@{row.name}"


def full_name(dataset: str, pool: str | None) -> str:
    """The dataset's full name: a path that does not begin with its pool lies below it."""
    return dataset if pool is None or pool_of(dataset) == pool else f"{pool}/{dataset}"


_Found = tuple[int, str, str, str, DatasetDoc, SnapshotRow]  # sorted, the newest come first; then by system and name


def _matching(request: Request, query: SnapshotQuery) -> Iterator[_Found]:
    since = int(with_offset(query.since, "since").timestamp()) if query.since else None
    until = int(with_offset(query.until, "until").timestamp()) if query.until else None
    takes_all = query.name is None and query.guid is None and since is None and until is None
    for system_id in _visible_systems(request, query.system_id):
        for document in _documents(request, system_id, query.dataset and full_name(query.dataset, query.pool)):
            if query.pool not in (None, pool_of(document.id)):
                continue
            for row in document.snapshots:
                if takes_all or (
                    query.name in (None, row.name)
                    and query.guid in (None, row.guid)
                    and (since is None or (row.creation or 0) >= since)
                    and (until is None or (row.creation or 0) <= until)
                ):
                    yield -(row.creation or 0), system_id, document.id, row.name, document, row


def _documents(request: Request, system_id: str, dataset: str | None) -> Iterable[DatasetDoc]:
    datasets = request.store.read(inventory_of(system_id)).datasets
    if dataset is None:
        return (document for document in datasets.all() if not document.absent)
    return (datasets.get(dataset),) if dataset in datasets and not datasets.get(dataset).absent else ()


def list_snapshots(request: Request, query: SnapshotQuery) -> Answer[list[a.Snapshot]]:
    """List snapshots, newest first."""
    count = itertools.count()
    matching = (each for each, _ in zip(_matching(request, query), count, strict=False))
    part = heapq.nsmallest(query.offset + query.limit, matching)
    return paginated(request, "/snapshots", query, part, lambda each: present_snapshot(each[1], *each[4:]), next(count))


def show_snapshot(request: Request, snapshot_id: str) -> a.Snapshot:
    """Show one snapshot. Raises NotFound."""
    return present_snapshot(*find_snapshot(request, snapshot_id))


def list_history(request: Request, query: HistoryQuery) -> Answer[list[a.HistoryEntry]]:
    """List which snapshots appeared and went within the last days, newest first."""
    start = request.now - timedelta(days=query.days)
    entries: list[a.HistoryEntry] = []
    for system_id in _visible_systems(request, query.system_id):
        for document in _documents(request, system_id, query.dataset):
            entries += [
                _entry("appeared", system_id, document.id, row, datetime.fromtimestamp(row.first_seen, UTC))
                for row in document.snapshots
                if row.first_seen >= start.timestamp()
            ]
        for shard in request.store.history_segments(system_id):
            for gone in request.store.read(shard).gone.all():
                if gone.at >= start and query.dataset in (None, gone.dataset):
                    entries += _entries_of_gone(system_id, gone, start)
    part = heapq.nlargest(query.offset + query.limit, entries, key=lambda each: (each["at"], each["name"]))
    return paginated(request, "/snapshots/history", query, part, lambda entry: entry, len(entries))


def _entries_of_gone(system_id: str, gone: Any, start: datetime) -> Iterator[a.HistoryEntry]:
    for row in gone.rows:
        yield _entry("gone", system_id, gone.dataset, row, gone.at)
        first_seen = datetime.fromtimestamp(row.first_seen, UTC)
        if first_seen >= start:
            yield _entry("appeared", system_id, gone.dataset, row, first_seen)


def _entry(
    event: Literal["appeared", "gone"], system_id: str, dataset: str, row: SnapshotRow, at: datetime
) -> a.HistoryEntry:
    return {
        "event": event,
        "at": at,
        "system_id": system_id,
        "pool": pool_of(dataset),
        "dataset": dataset,
        "name": row.name,
        "guid": row.guid or None,
        "identity": identity(row.guid),
        "timestamp": from_unix(row.creation),
    }


def show_statistics(request: Request, query: StatisticsQuery) -> Answer[list[a.Statistics]]:
    """Count each dataset's snapshots: how many, how old, how large, how many a day, how much growth over the days."""
    start = (request.now - timedelta(days=query.days)).timestamp()
    shown = [
        _statistics_of(system_id, document, start, query.days)
        for system_id in _visible_systems(request, query.system_id)
        for document in _documents(request, system_id, query.dataset)
    ]
    return Answer(shown, headers={"X-Total-Count": str(len(shown))})


def _statistics_of(system_id: str, document: DatasetDoc, start: float, days: int) -> a.Statistics:
    rows = document.snapshots
    times = sorted(row.creation for row in rows if row.creation is not None)
    recent = [row for row in rows if row.creation is not None and row.creation >= start]
    newest = max(rows, key=lambda row: row.creation or 0, default=None)
    earlier = [row for row in rows if row.creation is not None and row.creation < start]
    base = max(earlier, key=lambda row: row.creation or 0, default=None)
    growth = None
    if newest is not None and newest.referenced is not None:
        growth = newest.referenced - ((base.referenced or 0) if base is not None else 0)
    return {
        "system_id": system_id,
        "pool": pool_of(document.id),
        "dataset": document.id,
        "count": len(rows),
        "oldest": from_unix(times[0]) if times else None,
        "newest": from_unix(times[-1]) if times else None,
        "total_size": sum(row.used or 0 for row in rows),
        "referenced": newest.referenced if newest is not None else None,
        "used": document.used,
        "snapshots_per_day": round(len(recent) / days, 3),
        "growth": growth,
        "days": days,
    }
