"""/metrics for Prometheus: how things stand, from the store as it is now, and what the processes counted.

What comes from the store is the same whichever worker or instance is asked; requests and waits are each instance's own.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from handlers.actions import TRANSFERS
from handlers.alerts import alerts_in_force
from handlers.beats import beat_of
from handlers.gathering import planning_of
from handlers.meter import add_counts
from handlers.notify import waiting_messages
from handlers.request import Answer, Request
from handlers.sync_groups import SyncGroup, all_groups
from handlers.tick import last_tick
from planner.alerts import Kind
from planner.model import Cell, Plan, Work
from store import LEASES, REGISTRY, StoreError, inventory_of

MAX_CELLS = 5000  # with series of their own, those with the largest lag; the others count in the sums only
OF_CELL = ("group", "dataset", "system")


def show_metrics(request: Request) -> Answer[str]:
    """Show Prometheus how every group, dataset and system stands, and what the service did."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

    registry = CollectorRegistry()
    registry.register(_Stands(request))
    add_counts(registry)
    return Answer(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A group, where it stands, and what its systems are called."""

    group: SyncGroup
    plan: Plan
    work: Work
    hosts: dict[str, str]


class _Stands:
    """Collects what the store says."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._unreadable = 0
        self._groups = list(self._planned())

    def _planned(self) -> Iterator[_Planned]:
        request = self._request
        for group in all_groups(request):
            try:
                _, members, work, plan = planning_of(request, group)
            except StoreError:
                self._unreadable += 1
            else:
                yield _Planned(group, plan, work, {each.system_id: each.hostname for each in members})

    def collect(self) -> Iterator[Any]:
        """What prometheus-client asks for."""
        yield from self._cells()
        yield from self._of_groups()
        yield from self._transfers()
        yield from self._systems()
        yield from self._service()

    def _cells(self) -> Iterator[Any]:
        cells = [(planned, cell) for planned in self._groups for cell in planned.plan.cells]
        cells.sort(key=lambda each: -each[1].lag_s)
        lag = _gauge("lag_seconds", "Age of the oldest snapshot that is wanted and missing", *OF_CELL)
        missing = _gauge("missing_snapshots", "Snapshots that are wanted and missing", *OF_CELL)
        newest = _gauge("newest_common_timestamp_seconds", "When the newest common snapshot was made", *OF_CELL)
        for planned, cell in cells[:MAX_CELLS]:
            labels = _labels(planned, cell)
            lag.add_metric(labels, cell.lag_s)
            missing.add_metric(labels, len(cell.missing))
            if cell.newest_common is not None and cell.newest_common.creation is not None:
                newest.add_metric(labels, cell.newest_common.creation)
        left_out = _gauge("cells_left_out", f"Datasets on systems beyond the {MAX_CELLS} that are shown one by one")
        left_out.add_metric((), max(0, len(cells) - MAX_CELLS))
        yield from (lag, missing, newest, left_out)

    def _of_groups(self) -> Iterator[Any]:
        datasets = _gauge("datasets", "Datasets on a system, by where they stand", "group", "system", "status")
        late = _gauge("late_datasets", "Datasets past the group's interval and grace", "group", "system")
        conflicts = _gauge("conflicts", "Conflicts", "group", "type", "status")
        actions = _gauge("actions", "Steps, by whether they can start, run, wait after a failure", "group", "state")
        for planned in self._groups:
            name, plan = planned.group.name, planned.plan
            for (system_id, status), count in _counted((cell.system_id, cell.status) for cell in plan.cells):
                datasets.add_metric((name, planned.hosts[system_id], status), count)
            late_on = Counter(cell.system_id for cell in plan.cells if cell.late)
            for system_id in planned.hosts:
                late.add_metric((name, planned.hosts[system_id]), late_on[system_id])
            found: Counter[tuple[str, str]] = Counter((conflict.type, conflict.status) for conflict in plan.conflicts)
            for kind in ("diverged", "orphaned", "missing"):
                for status in ("open", "pending", "ignored"):
                    conflicts.add_metric((name, kind, status), found[kind, status])
            for state, count in self._states_of_actions(planned).items():
                actions.add_metric((name, state), count)
        unreadable = _gauge("unreadable_groups", "Groups of which a file of the store cannot be read")
        unreadable.add_metric((), self._unreadable)
        yield from (datasets, late, conflicts, actions, unreadable)

    def _states_of_actions(self, planned: _Planned) -> dict[str, int]:
        running = sum(lease.group_id == planned.group.id for lease in planned.work.leases)
        failures = self._request.store.read(LEASES).failures.find(group_id=planned.group.id)
        return {
            "planned": sum(step.lease is None for step in planned.plan.steps),
            "running": running,
            "failed": sum(failure.retry_at > self._request.now for failure in failures),
            "skipped": len(planned.plan.skips),
        }

    def _transfers(self) -> Iterator[Any]:
        names = {planned.group.id: (planned.group.name, planned.hosts) for planned in self._groups}
        done = _gauge("transfer_done_bytes", "Bytes of a transfer that runs now", "group", "dataset", "system")
        total = _gauge(
            "transfer_size_bytes", "Estimated size of a transfer that runs now", "group", "dataset", "system"
        )
        sent = _counter("transferred_bytes", "Bytes that transfers brought", "group", "system")
        ended = _counter("transfers", "Transfers that ended", "group", "system", "outcome")
        work = self._request.store.read(LEASES)
        for lease in work.leases.all():
            is_transfer = lease.action["action_type"] in TRANSFERS
            if is_transfer and lease.group_id in names and lease.expires_at > self._request.now:
                name, hosts = names[lease.group_id]
                labels = (name, lease.target_dataset, hosts.get(lease.target_system_id, "unknown"))
                done.add_metric(labels, lease.bytes_done or 0)
                total.add_metric(labels, lease.bytes_total or lease.action["estimated_size"] or 0)
        for each in work.totals.all():
            if each.group_id in names and each.target_system_id in names[each.group_id][1]:
                name, hosts = names[each.group_id]
                into = (name, hosts[each.target_system_id])
                sent.add_metric(into, each.bytes_done)
                ended.add_metric((*into, "done"), each.done)
                ended.add_metric((*into, "failed"), each.failed)
        yield from (done, total, sent, ended)

    def _systems(self) -> Iterator[Any]:
        store = self._request.store
        seen = _gauge("system_last_seen_timestamp_seconds", "When a system last called", "system")
        known = _gauge("inventory_timestamp_seconds", "When a system last said what it has", "system")
        ahead = _gauge("clock_ahead_seconds", "A system's clock against the witness's", "system")
        snapshots = _gauge("snapshots", "Snapshots that a system has", "system")
        for system in store.read(REGISTRY).systems.all():
            label = (system.hostname,)
            try:
                reports = store.read(inventory_of(system.id)).reports
                beat = beat_of(store, system.id)
            except StoreError:
                continue
            report = reports.get("current") if "current" in reports else None
            moments = (beat.confirmed_at if beat else None, report.reported_at if report else None)
            held_at = max(filter(None, moments), default=None)
            snapshots.add_metric(label, report.snapshot_count if report else 0)
            if beat is not None:
                seen.add_metric(label, beat.last_seen_at.timestamp())
            if held_at is not None:
                known.add_metric(label, held_at.timestamp())
            if beat is not None and beat.clock_ahead_s is not None:
                ahead.add_metric(label, beat.clock_ahead_s)
        yield from (seen, known, ahead, snapshots)

    def _service(self) -> Iterator[Any]:
        store = self._request.store
        alerts = _gauge("alerts", "Alerts in force", "kind")
        in_force = Counter(alert.kind for alert in alerts_in_force(store))
        for kind in get_args(Kind):
            alerts.add_metric((kind,), in_force[kind])
        waiting = _gauge("messages_waiting", "Messages that no channel took yet")
        waiting.add_metric((), len(waiting_messages(store)))
        ticked = _gauge("last_tick_timestamp_seconds", "When the witness last looked for what is late or wrong")
        last = last_tick(self._request.witness)
        if last is not None:
            ticked.add_metric((), last.started_at.timestamp())
        size = _gauge("store_bytes", "Room that the store takes")
        size.add_metric((), store.size_bytes())
        yield from (alerts, waiting, ticked, size)


def _labels(planned: _Planned, cell: Cell) -> tuple[str, str, str]:
    return planned.group.name, cell.path or "(root)", planned.hosts[cell.system_id]


def _counted(values: Iterator[tuple[str, str]]) -> list[tuple[tuple[str, str], int]]:
    return sorted(Counter(values).items())


def _gauge(name: str, text: str, *labels: str) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"zfs_sync_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"zfs_sync_{name}", text, labels=labels)
