"""Single snapshots as they are reported: added, updated, deleted, beside what the last full report said."""

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from handlers import answers as a
from handlers.bodies import SnapshotBody
from handlers.errors import Forbidden, Invalid, require_valid
from handlers.events import record
from handlers.inventories import keep_gone, put_dataset
from handlers.request import Answer, Request
from handlers.snapshots import find_snapshot, full_name, metadata_key, present_snapshot
from handlers.values import MAX_GUID, guid, legal_name, number, with_offset
from store import REGISTRY, NotFound, Shard, history_of, inventory_of
from store.documents import DatasetDoc, Report, SnapshotRow


def report_snapshot(request: Request, body: SnapshotBody) -> Answer[a.Snapshot]:
    """Add or update one snapshot; what the inventory says of others stays."""
    shown = _store_snapshots(request, [body], lambda index, name: name)[0]
    location = f"{request.config.api_prefix}/snapshots/{shown['id']}"
    return Answer(shown, headers={"Location": location})


def report_snapshots(request: Request, body: list[SnapshotBody]) -> list[a.Snapshot]:
    """Add or update several snapshots: all of them, or, if one cannot be, none."""
    return _store_snapshots(request, body, lambda index, name: f"snapshots[{index}].{name}")


class Single(NamedTuple):
    """A snapshot that was reported by itself, checked."""

    system_id: str
    dataset: str
    row: SnapshotRow
    metadata: Any  # msgspec.UNSET: what is known stays


def _store_snapshots(request: Request, bodies: list[SnapshotBody], loc_of: Any) -> list[a.Snapshot]:
    singles = _checked(request, bodies, loc_of)
    if not singles:
        return []
    by_dataset: dict[tuple[str, str], list[Single]] = {}
    for single in singles:
        by_dataset.setdefault((single.system_id, single.dataset), []).append(single)
    systems = {single.system_id for single in singles}
    stored: dict[tuple[str, str], DatasetDoc] = {}
    with request.store.transaction(*(shard for each in systems for shard in _shards_of(request, each))) as tx:
        for system_id in systems:
            _require_system(request, system_id, "system_id")  # again: it may have been deleted meanwhile
        for (system_id, dataset), reported in by_dataset.items():
            view, history = (tx[shard] for shard in _shards_of(request, system_id))
            stored[system_id, dataset], replaced = _with_rows(_known(view.datasets, dataset), reported)
            _require_all(stored[system_id, dataset], reported, singles, loc_of)
            put_dataset(view, stored[system_id, dataset])
            keep_gone(request, history, dataset, replaced, led=[])  # as below: nobody follows it in that
        for system_id in systems:
            view, _ = (tx[shard] for shard in _shards_of(request, system_id))
            changed = view.changed
            _note_singles(view, request.now)
            if changed:
                count = sum(single.system_id == system_id for single in singles)
                record(request, "snapshots.reported", system_id=system_id, count=count)
    rows = {key: {row.name: row for row in document.snapshots} for key, document in stored.items()}
    return [present_snapshot(each.system_id, stored[each[:2]], rows[each[:2]][each.row.name]) for each in singles]


def _require_all(document: DatasetDoc, reported: list[Single], singles: list[Single], loc_of: Any) -> None:
    """Raise Invalid where two of those reported are one snapshot: by its guid, and without it by its name and time."""
    names = {row.name for row in document.snapshots}
    for single in reported:
        if single.row.name not in names:
            message = f"another one of {document.id} is this snapshot, too, under another name: give its guid"
            raise Invalid.at(loc_of(singles.index(single), "name"), message)


def _shards_of(request: Request, system_id: str) -> tuple[Shard[Any], Shard[Any]]:
    return inventory_of(system_id), history_of(system_id, f"{request.now:%Y-%m-%d}")


def _known(datasets: Any, dataset: str) -> DatasetDoc:
    known: DatasetDoc = datasets.get(dataset) if dataset in datasets else DatasetDoc(id=dataset, reported=False)
    return known


def _checked(request: Request, bodies: list[SnapshotBody], loc_of: Any) -> list[Single]:
    """The snapshots to be stored. Raises Invalid naming each that cannot be."""
    errors: list[tuple[str, str]] = []
    singles: list[Single] = []
    seen: set[tuple[str, str, str, str]] = set()
    for index, body in enumerate(bodies):
        try:
            system_id = _system_of(request, body, loc_of(index, "system_id"))
            dataset, row = _row_of(request, body, lambda name, index=index: loc_of(index, name))
            for field in ("name", "guid") if row.guid else ("name",):
                if (system_id, dataset, field, getattr(row, field)) in seen:
                    raise Invalid.at(loc_of(index, field), f"{dataset} is there with this {field} twice")
                seen.add((system_id, dataset, field, getattr(row, field)))
            singles.append(Single(system_id, dataset, row, body.metadata))
        except Invalid as invalid:
            errors += invalid.errors
    require_valid(errors)
    return singles


def _system_of(request: Request, body: SnapshotBody, loc: str) -> str:
    system_id = body.system_id or request.caller.system_id
    if system_id is None:
        raise Invalid.at(loc, "is missing: an admin says which system has the snapshot")
    if request.caller.is_agent and system_id != request.caller.system_id:
        raise Forbidden("this key's system has no part in that")
    _require_system(request, system_id, loc)
    return system_id


def _require_system(request: Request, system_id: str, loc: str) -> None:
    if system_id not in request.store.read(REGISTRY).systems:
        raise Invalid.at(loc, f"no system '{system_id}'")


def _row_of(request: Request, body: SnapshotBody, loc: Any) -> tuple[str, SnapshotRow]:
    if body.pool is not None and "/" in body.pool:
        raise Invalid.at(loc("pool"), "a pool's name has no '/'")
    dataset = full_name(body.dataset, body.pool)
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


def _with_rows(document: DatasetDoc, singles: list[Single]) -> tuple[DatasetDoc, list[SnapshotRow]]:
    """The dataset with these snapshots in it, each in place of the one that it updates; and those it re-created.

    A name may go from one to the next, as where `daily.0` becomes `daily.1`: whichever these bring is not gone.
    """
    rows = {row.name: row for row in document.snapshots}
    known = {row.guid: row for row in document.snapshots if row.guid}
    brought = {single.row.guid for single in singles if single.row.guid}
    metadata: Any = document.snapshot_metadata
    metadata = {} if metadata is msgspec.UNSET else dict(metadata)
    replaced = []
    for single in singles:
        row = single.row
        namesake = rows.get(row.name)
        old = known.get(row.guid)
        if namesake is not None and old is None and _is_same(namesake, row):
            old = namesake
        if namesake is not None and namesake is not old:
            del rows[row.name]
            if namesake.guid not in brought:
                replaced.append(namesake)
                metadata.pop(metadata_key(namesake), None)
        if old is not None:
            row = _updated(old, row)
            if old.name != row.name and rows.get(old.name) is old:
                del rows[old.name]
        rows[row.name] = row
        if row.guid:
            known[row.guid] = row
        said = metadata.pop(f"@{row.name}", msgspec.UNSET) if single.metadata is msgspec.UNSET else single.metadata
        if said is not msgspec.UNSET:
            metadata[metadata_key(row)] = said
    kept = metadata or msgspec.UNSET
    changed = msgspec.structs.replace(document, snapshots=[*rows.values()], snapshot_metadata=kept, absent=False)
    return changed, replaced


def _is_same(old: SnapshotRow, new: SnapshotRow) -> bool:
    """Whether two of one name are one snapshot, where a guid is missing: the creation time decides."""
    return not (old.guid and new.guid) and old.creation == new.creation


def _updated(old: SnapshotRow, new: SnapshotRow) -> SnapshotRow:
    """`new`, with what it leaves out taken from `old`, which it is if nothing differs."""
    values = {
        name: getattr(new, name) if getattr(new, name) not in (None, "") else getattr(old, name)
        for name in new.__struct_fields__
    }
    same = SnapshotRow(**{**values, "first_seen": old.first_seen, "changed": old.changed})
    return old if same == old else msgspec.structs.replace(same, changed=new.changed)


def _note_singles(view: Any, now: datetime) -> None:
    """Note that single snapshots were reported: a system that never reports in full is kept fresh by them."""
    full = "current" in view.reports and view.reports.get("current").columns
    if view.changed or not full:
        _forget_digest(view, now)


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


def forget_snapshot(request: Request, snapshot_id: str) -> None:
    """Take one snapshot out of the inventory (the pool is not touched). Raises NotFound."""
    system_id, document, row = find_snapshot(request, snapshot_id)
    shards = _shards_of(request, system_id)
    with request.store.transaction(*shards) as tx:
        view, history = (tx[shard] for shard in shards)
        current = _known(view.datasets, document.id)
        gone = [each for each in current.snapshots if (each.name, each.guid) == (row.name, row.guid)]
        if not gone:
            raise NotFound(f"no snapshot '{snapshot_id}'")
        left = [each for each in current.snapshots if each not in gone]
        metadata: Any = current.snapshot_metadata
        if metadata is not msgspec.UNSET:
            metadata = {key: value for key, value in metadata.items() if key != metadata_key(row)} or msgspec.UNSET
        changed = msgspec.structs.replace(current, snapshots=left, snapshot_metadata=metadata)
        put_dataset(view, changed)
        keep_gone(request, history, document.id, gone, led=[])  # no word of its pool, so nobody follows it in that
        _forget_digest(view, request.now)
        record(request, "snapshot.forgotten", subject=f"{document.id}@{row.name}", system_id=system_id)
