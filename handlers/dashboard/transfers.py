"""Transfers in progress: how far, how fast, how long still."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from handlers.dashboard.rendering import Page, Visit
from handlers.request import Request
from handlers.sync_groups import visible_groups
from store import LEASES, REGISTRY
from store.documents import Failure, Lease


@dataclass(frozen=True, slots=True)
class Transfer:
    """A step that an agent carries out now."""

    kind: str
    dataset: str
    target_dataset: str
    source: str
    target: str
    executor: str
    group: str
    group_id: str
    reason: str
    started_at: datetime
    heard_at: datetime  # when its agent last said how far it is
    bytes_done: int | None
    bytes_total: int | None

    @property
    def percent(self) -> int | None:
        """How much of it is done; None where that is not known."""
        if self.bytes_done is None or not self.bytes_total:
            return None
        return min(100, self.bytes_done * 100 // self.bytes_total)

    @property
    def rate(self) -> int | None:
        """Bytes a second, from its start to what was said last."""
        took_s = (self.heard_at - self.started_at).total_seconds()
        return int(self.bytes_done / took_s) if self.bytes_done and took_s >= 1 else None

    @property
    def ends_at(self) -> datetime | None:
        """When it is done if it goes on like that."""
        if not self.rate or not self.bytes_total or self.bytes_done is None:
            return None
        return self.heard_at + timedelta(seconds=max(0, self.bytes_total - self.bytes_done) / self.rate)


def show_transfers(visit: Visit) -> Page:
    """Show what runs now, and what failed and when it is tried again."""
    values = {"transfers": transfers_of(visit.request), "failures": failures_of(visit.request)}
    return Page("transfers", "Transfers", values)


def transfers_of(request: Request) -> list[Transfer]:
    """What runs now in the groups that the caller may see, the longest running first."""
    groups = {group.id: group.name for group in visible_groups(request)}
    hostnames = _hostnames(request)
    leases = [
        lease
        for lease in request.store.read(LEASES).leases.all()
        if lease.expires_at > request.now and lease.group_id in groups
    ]
    return [
        _transfer(request, lease, hostnames, groups[lease.group_id])
        for lease in sorted(leases, key=lambda lease: lease.started_at)
    ]


def _transfer(request: Request, lease: Lease, hostnames: dict[str, str], group: str) -> Transfer:
    action = lease.action
    heard_at = lease.expires_at - timedelta(seconds=request.config.lease_s)
    return Transfer(
        kind=action["action_type"],
        dataset=action["dataset"] or action["target_dataset"],
        target_dataset=action["target_dataset"],
        source=hostnames.get(lease.source_system_id or "", "-"),
        target=hostnames.get(lease.target_system_id, "-"),
        executor=hostnames.get(lease.executor_system_id, "-"),
        group=group,
        group_id=lease.group_id,
        reason=action["reason"],
        started_at=lease.started_at,
        heard_at=max(heard_at, lease.started_at),
        bytes_done=lease.bytes_done,
        bytes_total=lease.bytes_total or action["estimated_size"],
    )


def failures_of(request: Request) -> list[tuple[Failure, str]]:
    """What failed in the groups that the caller may see, with its target's hostname; the latest first."""
    groups = {group.id for group in visible_groups(request)}
    hostnames = _hostnames(request)
    failed = [each for each in request.store.read(LEASES).failures.all() if each.group_id in groups]
    latest = sorted(failed, key=lambda each: each.failed_at, reverse=True)
    return [(each, hostnames.get(each.target_system_id, "-")) for each in latest]


def _hostnames(request: Request) -> dict[str, str]:
    return {system.id: system.hostname for system in request.store.read(REGISTRY).systems.all()}
