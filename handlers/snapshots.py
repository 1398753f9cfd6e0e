"""Single snapshots: added, listed, deleted; what appeared and went; and figures over them."""

import hashlib
import heapq
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from handlers.bodies import HistoryQuery, SnapshotBody, SnapshotQuery, StatisticsQuery
from handlers.errors import Forbidden, Invalid, require_valid
from handlers.events import record
from handlers.inventories import summary_of
from handlers.pages import paginated
from handlers.request import Answer, Request
from handlers.values import MAX_GUID, from_unix, guid, legal_name, number, with_offset
from store import REGISTRY, NotFound, inventory_of
from store.documents import DatasetDoc, Report, SnapshotRow

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


def _find(request: Request, wanted_id: str) -> tuple[str, DatasetDoc, SnapshotRow]:
    """Where a snapshot is. Raises NotFound; Forbidden for agents, whether it exists elsewhere or not."""
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
    if request.caller.is_agent:
        raise Forbidden("this key's system has no such snapshot")
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


# --- reporting -----------------------------------------------------------------------------------


def report_snapshot(request: Request, body: SnapshotBody) -> Answer:
    """Add or update one snapshot; what the inventory says of others stays."""
    shown = _store_snapshots(request, [body], lambda index, name: name)[0]
    location = f"{request.config.api_prefix}/snapshots/{shown['id']}"
    return Answer(shown, status=201, headers={"Location": location})


def report_snapshots(request: Request, body: list[SnapshotBody]) -> Answer:
    """Add or update several snapshots: all of them, or, if one cannot be, none."""
    return Answer(_store_snapshots(request, body, lambda index, name: f"snapshots[{index}].{name}"), status=201)


def _store_snapshots(request: Request, bodies: list[SnapshotBody], loc_of: Any) -> list[dict[str, Any]]:
    errors: list[tuple[str, str]] = []
    rows: list[tuple[str, str, SnapshotRow, Any]] = []
    for index, body in enumerate(bodies):
        try:
            system_id = _system_of(request, body, loc_of(index, "system_id"))
            dataset, row = _row_of(request, body, lambda name, index=index: loc_of(index, name))
            rows.append((system_id, dataset, row, body.metadata))
        except Invalid as invalid:
            errors += invalid.errors
    require_valid(errors)
    shards = {system_id: inventory_of(system_id) for system_id, *_ in rows}
    shown = []
    if not rows:
        return []
    with request.store.transaction(*shards.values()) as tx:
        for system_id, dataset, row, metadata in rows:
            view = tx[shards[system_id]]
            document = _with_row(view.datasets, dataset, row, metadata)
            view.datasets.put(document)
            view.summaries.put(summary_of(document))
            stored = next(found for found in document.snapshots if found.name == row.name)
            shown.append(present_snapshot(system_id, document, stored))
        for shard in shards.values():
            _forget_digest(tx[shard], request.now)
    for system_id in shards:
        record(request, "snapshots.reported", system_id=system_id, count=len(rows))
    return shown


def _system_of(request: Request, body: SnapshotBody, loc: str) -> str:
    system_id = body.system_id or request.caller.system_id
    if system_id is None:
        raise Invalid.at(loc, "is missing: an admin says which system has the snapshot")
    if request.caller.is_agent and system_id != request.caller.system_id:
        raise Forbidden("this key's system has no part in that")
    if system_id not in request.store.read(REGISTRY).systems:
        raise Invalid.at(loc, f"no system '{system_id}'")
    return system_id


def _row_of(request: Request, body: SnapshotBody, loc: Any) -> tuple[str, SnapshotRow]:
    dataset = body.dataset
    if body.pool is not None and dataset != body.pool and not dataset.startswith(body.pool + "/"):
        dataset = f"{body.pool}/{dataset}"
    for mark in "@#":
        if mark in dataset or mark in body.name:
            raise Invalid.at(loc("dataset" if mark in dataset else "name"), f"'{mark}' does not belong here")
    legal_name(dataset, loc("dataset"))
    legal_name(f"{dataset}@{body.name}", loc("name"))
    if body.guid is None and body.timestamp is None:
        raise Invalid.at(loc("timestamp"), "is needed where there is no guid")
    if body.size is not None and body.used is not None and body.size != body.used:
        raise Invalid.at(loc("used"), "size and used are two names for one number, and differ")
    size_name = "size" if body.size is not None else "used"
    now = int(request.now.timestamp())
    creation = None if body.timestamp is None else int(with_offset(body.timestamp, loc("timestamp")).timestamp())
    if creation is not None and creation < 0:
        raise Invalid.at(loc("timestamp"), "is before 1970")
    return dataset, SnapshotRow(
        body.name,
        guid(body.guid, loc("guid")) or "",
        number(body.createtxg, loc("createtxg"), MAX_GUID),
        creation,
        number(getattr(body, size_name), loc(size_name)),
        number(body.referenced, loc("referenced")),
        number(body.written, loc("written")),
        None,
        None,
        now,
        now,
    )


def _with_row(datasets: Any, dataset: str, row: SnapshotRow, metadata: Any) -> DatasetDoc:
    """The dataset's document with this snapshot in it, in place of the one that it updates."""
    document: DatasetDoc = datasets.get(dataset) if dataset in datasets else DatasetDoc(id=dataset, reported=False)
    rows = []
    for old in document.snapshots:
        same = old.guid == row.guid if old.guid and row.guid else (old.name, old.creation) == (row.name, row.creation)
        if same:
            row = _updated(old, row)
        elif old.name == row.name:
            continue  # re-created under the same name
        else:
            rows.append(old)
    rows.append(row)
    kept: Any = document.snapshot_metadata
    if metadata is not msgspec.UNSET:
        kept = {**({} if kept is msgspec.UNSET else kept), row.guid or f"@{row.name}": metadata}
    return msgspec.structs.replace(document, snapshots=rows, snapshot_metadata=kept, absent=False)


def _updated(old: SnapshotRow, new: SnapshotRow) -> SnapshotRow:
    """`new`, with what it leaves out taken from `old`."""
    values = {
        name: getattr(new, name) if getattr(new, name) not in (None, "") else getattr(old, name)
        for name in new.__struct_fields__
    }
    return SnapshotRow(**{**values, "first_seen": old.first_seen})


def _forget_digest(view: Any, now: datetime) -> None:
    """A single snapshot came or went: what the last full report's digest stood for is no longer so."""
    datasets = [document for document in view.datasets.all() if not document.absent]
    counts: dict[str, Any] = {"snapshot_count": sum(len(d.snapshots) for d in datasets), "dataset_count": len(datasets)}
    if "current" in view.reports:
        old = view.reports.get("current")
        if not old.columns:  # there never was a full report: single ones are all that this system sends
            counts["reported_at"] = now
        view.reports.put(msgspec.structs.replace(old, digest=None, body_digest=None, changed_at=now, **counts))
    else:
        view.reports.put(Report(id="current", reported_at=now, changed_at=now, columns=[], digest=None, **counts))


# --- showing -------------------------------------------------------------------------------------


def present_snapshot(system_id: str, document: DatasetDoc, row: SnapshotRow) -> dict[str, Any]:
    """A snapshot as the API shows it."""
    metadata = {} if document.snapshot_metadata is msgspec.UNSET else document.snapshot_metadata
    assert isinstance(metadata, dict)
    return {
        "id": snapshot_id(system_id, document.id, row.name, row.guid),
        "name": row.name,
        "pool": document.id.partition("/")[0],
        "dataset": document.id,
        "timestamp": from_unix(row.creation),
        "guid": row.guid or None,
        "createtxg": None if row.createtxg is None else str(row.createtxg),
        "size": row.used,
        "referenced": row.referenced,
        "written": row.written,
        "system_id": system_id,
        "identity": "guid" if row.guid else "name",
        "created_at": from_unix(row.first_seen),
        "updated_at": from_unix(row.changed),
        "metadata": metadata.get(row.guid or f"@{row.name}", {}),
    }


def _matching(request: Request, query: SnapshotQuery) -> Iterator[tuple[int, str, DatasetDoc, SnapshotRow]]:
    since = int(with_offset(query.since, "since").timestamp()) if query.since else None
    until = int(with_offset(query.until, "until").timestamp()) if query.until else None
    for system_id in _visible_systems(request, query.system_id):
        for document in _documents(request, system_id, query.dataset):
            if query.pool is not None and document.id.partition("/")[0] != query.pool:
                continue
            for row in document.snapshots:
                if (
                    query.name in (None, row.name)
                    and query.guid in (None, row.guid)
                    and (since is None or (row.creation or 0) >= since)
                    and (until is None or (row.creation or 0) <= until)
                ):
                    yield row.creation or 0, system_id, document, row


def _documents(request: Request, system_id: str, dataset: str | None) -> Iterable[DatasetDoc]:
    datasets = request.store.read(inventory_of(system_id)).datasets
    if dataset is None:
        return (document for document in datasets.all() if not document.absent)
    return (datasets.get(dataset),) if dataset in datasets and not datasets.get(dataset).absent else ()


def list_snapshots(request: Request, query: SnapshotQuery) -> Answer:
    """List snapshots, newest first."""
    found = sorted(_matching(request, query), key=lambda each: (-each[0], each[1], each[2].id, each[3].name))
    return paginated(request, "/snapshots", query, found, lambda each: present_snapshot(*each[1:]))


def show_snapshot(request: Request, snapshot_id: str) -> dict[str, Any]:
    """Show one snapshot. Raises NotFound."""
    return present_snapshot(*_find(request, snapshot_id))


def forget_snapshot(request: Request, snapshot_id: str) -> Answer:
    """Take one snapshot out of the inventory (the pool is not touched). Raises NotFound."""
    system_id, document, row = _find(request, snapshot_id)
    shard = inventory_of(system_id)
    with request.store.transaction(shard) as tx:
        view = tx[shard]
        if document.id not in view.datasets:
            raise NotFound(f"no snapshot '{snapshot_id}'")
        current = view.datasets.get(document.id)
        rows = [each for each in current.snapshots if (each.name, each.guid) != (row.name, row.guid)]
        changed = msgspec.structs.replace(current, snapshots=rows)
        view.datasets.put(changed)
        view.summaries.put(summary_of(changed))
        _forget_digest(view, request.now)
    record(request, "snapshot.forgotten", subject=f"{document.id}@{row.name}", system_id=system_id)
    return Answer(status=204)


def list_history(request: Request, query: HistoryQuery) -> Answer:
    """List which snapshots appeared and went within the last days, newest first."""
    start = request.now - timedelta(days=query.days)
    entries: list[dict[str, Any]] = []
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
    padded: list[Any] = part + [None] * (len(entries) - len(part))
    return paginated(request, "/snapshots/history", query, padded)


def _entries_of_gone(system_id: str, gone: Any, start: datetime) -> Iterator[dict[str, Any]]:
    for row in gone.rows:
        yield _entry("gone", system_id, gone.dataset, row, gone.at)
        first_seen = datetime.fromtimestamp(row.first_seen, UTC)
        if first_seen >= start:
            yield _entry("appeared", system_id, gone.dataset, row, first_seen)


def _entry(event: str, system_id: str, dataset: str, row: SnapshotRow, at: datetime) -> dict[str, Any]:
    return {
        "event": event,
        "at": at,
        "system_id": system_id,
        "pool": dataset.partition("/")[0],
        "dataset": dataset,
        "name": row.name,
        "guid": row.guid or None,
        "timestamp": from_unix(row.creation),
    }


def show_statistics(request: Request, query: StatisticsQuery) -> list[dict[str, Any]]:
    """Count each dataset's snapshots: how many, how old, how large, how many a day, how much growth over the days."""
    start = (request.now - timedelta(days=query.days)).timestamp()
    return [
        _statistics_of(system_id, document, start, query.days)
        for system_id in _visible_systems(request, query.system_id)
        for document in _documents(request, system_id, query.dataset)
    ]


def _statistics_of(system_id: str, document: DatasetDoc, start: float, days: int) -> dict[str, Any]:
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
        "pool": document.id.partition("/")[0],
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
