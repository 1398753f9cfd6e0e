"""Inventories: the full truth about a host, reported at once, compared with the last report, and kept."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from handlers import answers as a
from handlers.beats import start_afresh
from handlers.bodies import AcceptQuery, ColumnsQuery, InventoryBody
from handlers.errors import UnsupportedMediaType
from handlers.events import record
from handlers.reports import ReportedInventory, columns_of, listing_of, read_json, read_listing
from handlers.request import TSV, Answer, Request
from handlers.resolving import settle_decisions
from handlers.sync_groups import led_by
from handlers.values import identity
from handlers.wire import decode_json, etag_of, require_match
from planner.names import dataset_problem
from planner.outlines import digest_of
from planner.paths import is_set_aside, pool_of
from store import LEASES, REGISTRY, Damaged, heartbeat_of, history_of, inventory_of
from store.documents import DatasetDoc, GoneRow, GuardFlag, Heartbeat, Report, SnapshotRow, Summary, System

log = logging.getLogger("zfs_sync.inventories")

LAST = "current"  # the id of the only document in an inventory's table of reports
GUARD_AT_LEAST = 3  # so many snapshots may go at once, whatever share of the dataset they are


@dataclass(slots=True)
class Comparison:
    """What a report changes: how many snapshots came, went and stayed, and the documents to write."""

    added: int = 0
    removed: int = 0
    unchanged: int = 0
    not_imported: list[str] = field(default_factory=list)  # pools that are known, and not in the report
    changed: list[DatasetDoc] = field(default_factory=list)  # to be put
    dropped: list[str] = field(default_factory=list)  # names of datasets to be removed
    gone: dict[str, list[SnapshotRow]] = field(default_factory=dict)
    guards: list[GuardFlag] = field(default_factory=list)


def replace_inventory(request: Request, system_id: str, query: ColumnsQuery) -> a.InventoryCounts:
    """Take a full report: JSON, or raw `zfs list -Hp` output. What is not in it is gone; always 200, with counts."""
    system = request.store.read(REGISTRY).systems.get(system_id)
    try:
        answer = _take_report(request, system, query)
    except Damaged:
        _heal(request, system, _read(request, query))
        answer = _take_report(request, system, query)
    _drop_credits(request, system_id)
    settle_decisions(request, system_id)
    return answer


def _take_report(request: Request, system: System, query: ColumnsQuery) -> a.InventoryCounts:
    body_digest = _body_digest(request, query)
    answer = None if request.if_match else _unchanged(request, system.id, body_digest)
    return answer or _keep_report(request, system, _read(request, query), body_digest)


def _heal(request: Request, system: System, reported: ReportedInventory) -> None:
    """Start afresh what is damaged of the files that a full report is kept in: the report says it all again.

    What the old inventory alone knew is lost: guards, and what was on pools that are not imported. So nothing is
    deleted of any dataset that it named, or that is there now, until an admin accepts.
    """

    def guard(view: Any, lost: set[str]) -> None:
        for name in sorted({*reported.datasets, *(id for id in lost - {LAST} if dataset_problem(id) is None)}):
            view.guards.put(GuardFlag(id=name, raised_at=request.now, lost=0, had=0))

    start_afresh(request, system, inventory_of(system.id), guard)
    start_afresh(request, system, heartbeat_of(system.id))
    start_afresh(request, system, history_of(system.id, f"{request.now:%Y-%m-%d}"))


def _keep_report(request: Request, system: System, reported: ReportedInventory, body_digest: str) -> a.InventoryCounts:
    """Put a report in place of the last one; the counts. Inventory, history and heartbeat are saved together."""
    shard, beats = inventory_of(system.id), heartbeat_of(system.id)
    history = history_of(system.id, f"{request.now:%Y-%m-%d}")
    with request.store.transaction(shard, beats, history) as tx:
        request.store.read(REGISTRY).systems.get(system.id)  # again: it may have been deleted meanwhile
        view = tx[shard]
        _require_match(request, view)
        before = {document.id: document for document in view.datasets.all()}
        compared = compare(before, reported)
        compared.guards = _guards_for(request, system.id, before, reported, compared.gone)
        _write(view, compared, reported)
        changed = bool(compared.changed or compared.dropped)
        old = view.reports.get(LAST) if LAST in view.reports else None
        led = led_by(request, system.id)
        report = Report(
            id=LAST,
            reported_at=request.now,
            changed_at=request.now if changed or old is None else old.changed_at,
            columns=reported.columns,
            digest=reported.digest,
            snapshot_count=sum(len(dataset.snapshots) for dataset in reported.datasets.values()),
            dataset_count=len(reported.datasets),
            body_digest=body_digest,
            led=led,
        )
        view.reports.put(report)
        for dataset, rows in compared.gone.items():
            keep_gone(request, tx[history], dataset, rows, _led_since(old, led))
        _confirm(request, tx[beats], system.id)
        _record_report(request, system, compared, changed)
    return _counts(report, view, compared)


def _led_since(old: Report | None, led: list[str]) -> list[str]:
    """Of the groups that a system leads now, those that it led at its last report, too: what went since may have gone
    before it became the hub of the others."""
    before = old.led if old is not None else None
    return led if before is None else [group_id for group_id in led if group_id in before]


def keep_gone(request: Request, history: Any, dataset: str, rows: list[SnapshotRow], led: list[str]) -> None:
    """Keep what a system no longer has, with the groups in which others may follow it in that."""
    if rows:
        gone_id = f"{request.id}-{dataset}"
        history.gone.put(GoneRow(id=gone_id, dataset=dataset, at=request.now, rows=rows, hub_of=led))


def _record_report(request: Request, system: System, compared: Comparison, changed: bool) -> None:
    if changed:
        record(
            request,
            "inventory.reported",
            subject=system.hostname,
            system_id=system.id,
            added=compared.added,
            removed=compared.removed,
        )
    for guard in compared.guards:
        record(request, "guard.raised", subject=guard.id, system_id=system.id, lost=guard.lost, had=guard.had)


def accept_inventory(request: Request, system_id: str, query: AcceptQuery) -> a.AcceptedGuards:
    """Lift the mass-delete guard of a system's datasets (or of the one named): the loss was meant."""
    shard = inventory_of(system_id)
    system = request.store.read(REGISTRY).systems.get(system_id)
    with request.store.transaction(shard) as tx:
        guards = tx[shard].guards
        names = list(guards.ids()) if query.dataset is None else [guards.get(query.dataset).id]
        for name in names:
            guards.remove(name)
            record(request, "guard.accepted", subject=name, system_id=system_id)
    return {"system_id": system_id, "hostname": system.hostname, "accepted": sorted(names)}


def show_inventory(request: Request, system_id: str) -> Answer[a.Inventory]:
    """Show the last report again: as JSON, or, by Accept, as the raw listing it was."""
    request.store.read(REGISTRY).systems.get(system_id)
    view = request.store.read(inventory_of(system_id))
    if TSV in request.headers.get("accept", ""):
        return Answer(_as_listing(view), content_type=TSV, headers={"X-Columns": ",".join(_columns(view))})
    return Answer(_as_json(view.datasets.all()))


def _columns(view: Any) -> list[str]:
    """The columns of the last report; the usual ones where only single snapshots were reported."""
    said = view.reports.get(LAST).columns if LAST in view.reports else []
    return said or columns_of(None)


def _as_listing(view: Any) -> bytes:
    return listing_of((document for document in view.datasets.all() if not document.absent), _columns(view)).encode()


def _require_match(request: Request, view: Any) -> None:
    """Raise PreconditionFailed unless If-Match names the inventory that is there, in either form."""
    if request.if_match and etag_of(_as_listing(view)) not in request.if_match:
        require_match(request, _as_json(view.datasets.all()))


def _as_json(datasets: Iterable[DatasetDoc]) -> a.Inventory:
    """The inventory as PUT takes it."""
    shown: list[Any] = []
    for dataset in datasets:
        if dataset.absent:
            continue
        fields = {name: getattr(dataset, name) for name in dataset.__struct_fields__ if name not in _NOT_SHOWN}
        shown.append(
            {
                "name": dataset.id,
                **fields,
                "snapshots": [_row_json(row) for row in dataset.snapshots],
                "bookmarks": [_row_json(row) for row in dataset.bookmarks],
            }
        )
    return {"datasets": shown}


_NOT_SHOWN = frozenset({"id", "absent", "reported", "snapshots", "bookmarks", "snapshot_metadata"})


def _row_json(row: msgspec.Struct) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in row.__struct_fields__ if name not in ("first_seen", "changed")}
    if fields.get("createtxg") is not None:
        fields["createtxg"] = str(fields["createtxg"])
    if not fields["guid"]:
        fields |= {"guid": None, "identity": identity(None)}
    return fields


# --- reading -------------------------------------------------------------------------------------


def _kind(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (TSV, "application/json"):
        raise UnsupportedMediaType(
            f"Content-Type: '{kind[:100]}' is not read here; send the output of zfs list -Hp as {TSV}, "
            "or application/json"
        )
    return kind


def _body_digest(request: Request, query: ColumnsQuery) -> str:
    columns = ",".join(columns_of(query.columns))
    return hashlib.sha256(f"{_kind(request)} {columns}\n".encode() + request.raw).hexdigest()


def _read(request: Request, query: ColumnsQuery) -> ReportedInventory:
    now = int(request.now.timestamp())
    if _kind(request) == TSV:
        return read_listing(request.raw, columns_of(query.columns), now)
    return read_json(decode_json(request.raw, InventoryBody), now)


def _unchanged(request: Request, system_id: str, body_digest: str) -> a.InventoryCounts | None:
    """The answer for the very report that was the last one; None when it is another."""
    shard, beats = inventory_of(system_id), heartbeat_of(system_id)
    if _last_report(request.store.read(shard), body_digest) is None:
        return None
    with request.store.transaction(shard, beats) as tx:
        report = _last_report(tx[shard], body_digest)  # again: the system may have been deleted meanwhile
        if report is None:
            return None
        _confirm(request, tx[beats], system_id)
        if report.led != (led := led_by(request, system_id)):
            tx[shard].reports.put(msgspec.structs.replace(report, led=led))
    absent = {pool_of(document.id) for document in tx[shard].datasets.all() if document.absent}
    return _counts(report, tx[shard], Comparison(unchanged=report.snapshot_count, not_imported=sorted(absent)))


def _last_report(view: Any, body_digest: str) -> Report | None:
    report = view.reports.get(LAST) if LAST in view.reports else None
    return report if report is not None and report.body_digest == body_digest else None


def _counts(report: Report, view: Any, compared: Comparison) -> a.InventoryCounts:
    return {
        "added": compared.added,
        "removed": compared.removed,
        "unchanged": compared.unchanged,
        "datasets": report.dataset_count,
        "snapshots": report.snapshot_count,
        "digest": report.digest,
        "guarded": sorted(view.guards.ids()),
        "not_imported": compared.not_imported,
    }


# --- comparing -----------------------------------------------------------------------------------


def compare(before: Mapping[str, DatasetDoc], reported: ReportedInventory) -> Comparison:
    """What a report changes.

    A pool that is not in the report at all is not imported, rather than emptied: its datasets are kept, marked
    absent, and none of their snapshots counts as removed. A dataset that was renamed (its own guid is there under a
    new name) has lost nothing.
    """
    pools = {pool_of(name) for name in reported.datasets}
    moved = {document.guid for name, document in reported.datasets.items() if document.guid and name not in before}
    result = Comparison(not_imported=sorted({pool_of(name) for name in before} - pools))
    for name, document in reported.datasets.items():
        old = before.get(name)
        merged, gone = _merged(old, document)
        had = len(old.snapshots) if old else 0
        stayed = had - len(gone)
        result.unchanged += stayed
        result.added += len(merged.snapshots) - stayed
        _note_gone(result, name, gone)
        if old is None or merged != old:
            result.changed.append(merged)
    for name, old in before.items():
        if name in reported.datasets:
            continue
        if pool_of(name) in pools:
            result.dropped.append(name)
            if old.guid in moved:
                result.removed += len(old.snapshots)
            else:
                _note_gone(result, name, list(old.snapshots))
        elif not old.absent:
            result.changed.append(msgspec.structs.replace(old, absent=True))
    return result


def _merged(old: DatasetDoc | None, new: DatasetDoc) -> tuple[DatasetDoc, list[SnapshotRow]]:
    """The new document, with what the old one knows of snapshots that are still there; and those that are not."""
    if old is None:
        return new, []
    known = {row.guid or _by_name(row): row for row in old.snapshots}
    rows = []
    for row in new.snapshots:
        earlier = known.pop(row.guid, None) or known.pop(_by_name(row), None)
        if earlier is not None:
            kept = msgspec.structs.replace(row, first_seen=earlier.first_seen, changed=earlier.changed)
            rows.append(earlier if kept == earlier else msgspec.structs.replace(kept, changed=row.changed))
        else:
            rows.append(row)
    metadata: Any = old.snapshot_metadata
    if metadata is not msgspec.UNSET:
        metadata = _kept_metadata(metadata, old, rows) or msgspec.UNSET
    return msgspec.structs.replace(new, snapshots=rows, snapshot_metadata=metadata), list(known.values())


def _by_name(row: SnapshotRow) -> tuple[str, int | None]:
    """What a snapshot that came without a guid is known again by."""
    return row.name, row.creation


def _kept_metadata(metadata: dict[str, Any], old: DatasetDoc, rows: list[SnapshotRow]) -> dict[str, Any]:
    """The metadata of the snapshots that are still there, by what they go by now."""
    nameless = {_by_name(row): metadata.get(f"@{row.name}") for row in old.snapshots if not row.guid}
    kept = {row.guid: metadata.get(row.guid, nameless.get(_by_name(row))) for row in rows}
    return {guid: value for guid, value in kept.items() if value is not None}


def _note_gone(result: Comparison, dataset: str, gone: list[SnapshotRow]) -> None:
    if gone:
        result.gone[dataset] = gone
        result.removed += len(gone)


# --- guarding ------------------------------------------------------------------------------------


def _guards_for(
    request: Request,
    system_id: str,
    before: Mapping[str, DatasetDoc],
    reported: ReportedInventory,
    gone: Mapping[str, list[SnapshotRow]],
) -> list[GuardFlag]:
    """A guard for each dataset that lost all of its snapshots, or more than three and more than the allowed share.

    What the system still has under another name is not lost, nor is what a step was to destroy, or what goes with a
    dataset that was set aside: its owner may destroy that.
    """
    percent = request.config.delete_guard_percent
    emptied = [name for name, rows in gone.items() if _is_mass(len(rows), len(before[name].snapshots), percent)]
    if not emptied:
        return []
    kept = {row.guid for dataset in reported.datasets.values() for row in dataset.snapshots if row.guid}
    let_go = _let_go(request, system_id)
    guards: list[GuardFlag] = []
    for name in emptied:
        had = len(before[name].snapshots)
        lost = [row for row in gone[name] if row.guid not in kept and (name, row.guid) not in let_go]
        is_mass = _is_mass(len(lost), had, percent) or len(gone[name]) == had
        if lost and is_mass and not is_set_aside(name):
            guards.append(GuardFlag(id=name, raised_at=request.now, lost=len(lost), had=had))
    return guards


def _is_mass(lost: int, had: int, allowed_percent: int) -> bool:
    return lost == had or (lost > GUARD_AT_LEAST and lost * 100 > allowed_percent * had)


def _let_go(request: Request, system_id: str) -> set[tuple[str, str]]:
    """The dataset and guid of each snapshot that a step on a system was to destroy since its last report."""
    leases = request.store.read(LEASES)
    steps: list[Any] = [
        *leases.leases.find(target_system_id=system_id),
        *leases.credits.find(target_system_id=system_id),
    ]
    return {
        (step.action["target_dataset"], guid)
        for step in steps
        if step.action["action_type"] in ("delete", "rollback")
        for guid in step.action["expected_guids"]
    }


# --- keeping -------------------------------------------------------------------------------------


def _write(view: Any, compared: Comparison, reported: ReportedInventory) -> None:
    """Save what changed, in the order of the report: then the listing comes back as it came."""
    for name in compared.dropped:
        view.datasets.remove(name)
        if name in view.summaries:
            view.summaries.remove(name)
    for document in compared.changed:
        put_dataset(view, document)
    for guard in compared.guards:
        if guard.id not in view.guards:
            view.guards.put(guard)
    wanted = [*reported.datasets, *(name for name in view.datasets.ids() if name not in reported.datasets)]
    if wanted != view.datasets.ids():
        documents = {document.id: document for document in view.datasets.all()}
        view.datasets.clear()
        for name in wanted:
            view.datasets.put(documents[name])
    _renew_summaries(view)


def _renew_summaries(view: Any) -> None:
    """Write those that are missing, or were taken from another document than there is: somebody else wrote that."""
    for name in view.datasets.ids():
        checksum = view.datasets.checksum(name)
        if name not in view.summaries or view.summaries.get(name).checksum != checksum:
            view.summaries.put(_summary_of(view.datasets.get(name), checksum))


def put_dataset(view: Any, document: DatasetDoc) -> None:
    """Keep a dataset's document and its summary."""
    view.datasets.put(document)
    view.summaries.put(_summary_of(document, view.datasets.checksum(document.id)))


def _summary_of(document: DatasetDoc, checksum: int) -> Summary:
    """What comparing two replicas needs at first."""
    rows = sorted(document.snapshots, key=lambda row: row.createtxg or 0)
    newest = rows[-1] if rows else None
    guids = {row.guid for row in rows if row.guid and row.createtxg is not None}
    outline = None
    if newest is not None and len(guids) == len({row.name for row in rows}) == len(rows):
        outline = msgspec.structs.replace(document, snapshots=[newest], snapshot_metadata=msgspec.UNSET)
    return Summary(
        id=document.id,
        count=len(rows),
        guids_digest=digest_of(rows),
        newest=newest.guid if newest else None,
        newest_creation=newest.creation if newest else None,
        written=document.written,
        receive_resume_token=document.receive_resume_token,
        latest_creation=max((row.creation for row in rows if row.creation is not None), default=None),
        outline=outline,
        checksum=checksum,
    )


def _confirm(request: Request, view: Any, system_id: str) -> None:
    """Note that the system is there, and has reported in full."""
    now, beats = request.now, view.heartbeats
    before = beats.get(system_id) if system_id in beats else Heartbeat(id=system_id, last_seen_at=now)
    beats.put(msgspec.structs.replace(before, last_seen_at=now, confirmed_at=now, reported_at=now))


def _drop_credits(request: Request, system_id: str) -> None:
    """A full report says how things are: steps credited to this system before it need no credit any more."""
    if not request.store.read(LEASES).credits.find(target_system_id=system_id):
        return
    with request.store.transaction(LEASES) as tx:
        for credit in tx[LEASES].credits.find(target_system_id=system_id):
            if credit.finished_at < request.now:
                tx[LEASES].credits.remove(credit.id)
