"""Systems: machines with an agent. Their registration, keys, heartbeats and health."""

import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import msgspec

from handlers import answers as a
from handlers import sync_groups
from handlers.auth import make_key, require_still_known
from handlers.beats import beat_of, put_beat
from handlers.bodies import GraceQuery, HeartbeatBody, Page, SystemBody, SystemChanges
from handlers.errors import Conflicting, Forbidden
from handlers.events import record
from handlers.limiting import count_attempt
from handlers.pages import paginated
from handlers.request import Answer, Request
from handlers.wire import require_match
from store import LEASES, REGISTRY, AlreadyExists, Damaged, NotFound, Store, heartbeat_of, inventory_of
from store.documents import Heartbeat, System


def register_system(request: Request, body: SystemBody) -> Answer[a.RegisteredSystem]:
    """Register a system; its API key is in the answer, this once. A known hostname is a conflict."""
    config = request.config
    if request.caller.role != "admin":
        if config.registration == "closed":
            raise Forbidden("registration is closed; an admin can register the system")
        count_attempt(request.store, "registration", config.rate_limits.registration, request.address, request.now)
    system = System(
        id=str(uuid.uuid4()), created_at=request.now, updated_at=request.now, **msgspec.structs.asdict(body)
    )
    key, text = make_key(request.store, "agent", request.now, length=config.api_key_length, system_id=system.id)
    with request.store.transaction(REGISTRY) as tx:
        _require_free(tx[REGISTRY].systems, system.hostname, system.id)
        tx[REGISTRY].systems.put(system)
        tx[REGISTRY].keys.put(key)
        record(request, "system.registered", subject=system.hostname, system_id=system.id)
    shown: a.RegisteredSystem = {**present_system(request, system), "api_key": text}
    return Answer(shown, headers={"Location": f"{config.api_prefix}/systems/{system.id}"})


def list_systems(request: Request, query: Page) -> Answer[list[a.System]]:
    """List the systems, by hostname."""
    systems = sorted(request.store.read(REGISTRY).systems.all(), key=lambda system: system.hostname)
    return paginated(request, "/systems", query, systems, lambda system: present_system(request, system))


def show_system(request: Request, system_id: str) -> a.System:
    """Show one system. Raises NotFound."""
    return present_system(request, request.store.read(REGISTRY).systems.get(system_id))


def change_system(request: Request, system_id: str, body: SystemChanges) -> a.System:
    """Change the fields given (metadata as a whole) and leave the others."""
    given = {name: getattr(body, name) for name in SystemBody.__struct_fields__}
    changes = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    with request.store.transaction(REGISTRY) as tx:
        systems = tx[REGISTRY].systems
        before = systems.get(system_id)
        _require_may_rename(request, before, changes.get("hostname", before.hostname))
        require_match(request, present_system(request, before))
        _require_free(systems, changes.get("hostname", before.hostname), system_id)
        changed = {name for name, value in changes.items() if value != getattr(before, name)}
        after = msgspec.structs.replace(before, **changes, updated_at=request.now) if changed else before
        if changed:
            systems.put(after)
            record(request, "system.changed", subject=after.hostname, system_id=system_id, fields=sorted(changed))
    return present_system(request, after)


def _require_may_rename(request: Request, before: System, hostname: str) -> None:
    """zfs_sync.yaml names systems by hostname, so that another name may be in another group: an admin decides."""
    if request.caller.is_agent and hostname != before.hostname:
        raise Forbidden("an admin renames a system: groups are written with hostnames")


def forget_system(request: Request, system_id: str) -> None:
    """Delete a system with its keys and inventory, and take it out of its groups. A hub is a conflict."""
    store = request.store
    with store.transaction(REGISTRY, LEASES) as tx:
        registry = tx[REGISTRY]
        system = registry.systems.get(system_id)
        for group in sync_groups.all_groups(request):
            if group.hub_system_id == system_id:
                raise Conflicting(f"{system.hostname} is the hub of the sync group '{group.name}': name another first")
        for stored in registry.groups.all():
            if system_id in stored.spec.get("members", {}):
                registry.groups.put(sync_groups.without_member(stored, system_id, request.now))
        for key in registry.keys.find(system_id=system_id):
            registry.keys.remove(key.id)
        registry.systems.remove(system_id)
        _forget_work(tx[LEASES], system_id)
        for shard in (heartbeat_of(system_id), inventory_of(system_id)):
            store.remove(shard)  # a report under way holds these until it has written its history, too
        for segment in store.history_segments(system_id):
            store.remove(segment)
        record(request, "system.deleted", subject=system.hostname, system_id=system_id)


def _forget_work(view: Any, system_id: str) -> None:
    """Drop what is under way, done and failed on a system that is no more."""
    for lease in view.leases.all():
        if system_id in (lease.executor_system_id, lease.source_system_id, lease.target_system_id):
            view.leases.remove(lease.id)
    for table in (view.credits, view.failures, view.totals):
        for each in table.find(target_system_id=system_id):
            table.remove(each.id)


def report_heartbeat(request: Request, system_id: str, body: HeartbeatBody) -> Answer[a.HeartbeatAnswer]:
    """Note that the system is there, and say whether its inventory is still the one that was reported.

    A digest that fits confirms the inventory. It is stale, even so, once it is older than full_report_s, or when a
    transfer has ended here since: what was written, resume tokens and properties do not show in the digest.
    """
    store = request.store
    system = store.read(REGISTRY).systems.get(system_id)
    said: dict[str, Any] = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}
    digest = said.pop("inventory_digest", None)
    try:
        fits = digest is None or digest == _last_digest(store, system_id)
    except Damaged:
        fits = False  # the report that is then asked for heals it
    if digest is not None and fits:
        said["confirmed_at"] = request.now
    before = put_beat(request, system_id, clock_ahead_s=clock_ahead_s(request), **said)
    full_until = before.reported_at and before.reported_at + timedelta(seconds=request.config.full_report_s)
    current = fits and full_until is not None and request.now < full_until and not _was_changed(store, before)
    groups = [group for group in sync_groups.all_groups(request) if group.has(system_id)]
    inventory: Literal["current", "stale"] = "current" if current else "stale"
    answer: a.HeartbeatAnswer = {
        "status": connectivity(request, request.now),
        "last_seen": request.now,
        "inventory": inventory,
        "groups": [group.id for group in groups],
        "next_sync_in_s": min(
            (sync_groups.interval_s(request, group) for group in groups if group.options.enabled),
            default=request.config.default_sync_interval_s,
        ),
        "hostname": system.hostname,
    }
    return Answer(answer, headers={"X-Inventory": inventory})


def clock_ahead_s(request: Request) -> int | None:
    """How far the caller's clock is ahead of ours, by its Date header (RFC 9110, 6.6.1); None without one."""
    try:
        said = parsedate_to_datetime(request.headers.get("date", ""))
        return round((said.replace(tzinfo=said.tzinfo or UTC) - request.now).total_seconds())
    except (ValueError, OverflowError):
        return None


def _was_changed(store: Store, beat: Heartbeat) -> bool:
    """Whether a step that changes this system, or tried to, ended after its last full report."""
    work = store.read(LEASES)
    ended = [credit.finished_at for credit in work.credits.find(target_system_id=beat.id)]
    ended += [failure.failed_at for failure in work.failures.find(target_system_id=beat.id)]
    return any(beat.reported_at is None or at > beat.reported_at for at in ended)


def note_seen(request: Request) -> None:
    """Whoever calls is up: an agent that is busy with a long transfer is seen, too, without a heartbeat."""
    system_id = request.caller.system_id
    if system_id is None:
        return
    seen_at = last_seen(request.store, system_id)
    if seen_at is not None and (request.now - seen_at).total_seconds() < request.config.heartbeat_timeout_s / 4:
        return
    with suppress(NotFound):  # it was deleted meanwhile
        put_beat(request, system_id)


def _last_digest(store: Store, system_id: str) -> str | None:
    """The digest of the last full report; None once single snapshots came or went."""
    reports = store.read(inventory_of(system_id)).reports
    return reports.get("current").digest if "current" in reports else None


def show_system_health(request: Request, system_id: str) -> a.SystemHealth:
    """Show whether a system is there, and how old its inventory is. Raises NotFound."""
    return _health_of(request, request.store.read(REGISTRY).systems.get(system_id))


def list_system_health(request: Request) -> Answer[list[a.SystemHealth]]:
    """Show the health of every system that the caller may see."""
    systems = sorted(request.store.read(REGISTRY).systems.all(), key=lambda system: system.hostname)
    own = request.caller.system_id if request.caller.is_agent else None
    shown = [_health_of(request, system) for system in systems if own in (None, system.id)]
    return Answer(shown, headers={"X-Total-Count": str(len(shown))})


def _health_of(request: Request, system: System) -> a.SystemHealth:
    seen_at = last_seen(request.store, system.id)
    reports = request.store.read(inventory_of(system.id)).reports
    report = reports.get("current") if "current" in reports else None
    known_at = held_at(request.store, system.id)
    return {
        "system_id": system.id,
        "hostname": system.hostname,
        "connectivity_status": connectivity(request, seen_at),
        "last_seen": seen_at,
        "seconds_since_last_seen": None if seen_at is None else int((request.now - seen_at).total_seconds()),
        "inventory_age_s": None if known_at is None else int((request.now - known_at).total_seconds()),
        "snapshot_count": report.snapshot_count if report else 0,
    }


def rotate_api_key(request: Request, system_id: str, query: GraceQuery) -> a.RotatedKey:
    """Make a new key at once; the old ones stay valid for the grace period."""
    config = request.config
    grace = timedelta(seconds=config.key_grace_s if query.grace_s is None else query.grace_s)
    key, text = make_key(request.store, "agent", request.now, length=config.api_key_length, system_id=system_id)
    with request.store.transaction(REGISTRY) as tx:
        system = tx[REGISTRY].systems.get(system_id)
        keys = tx[REGISTRY].keys
        require_still_known(request, keys)
        for old in keys.find(system_id=system_id):
            end = min(filter(None, (old.expires_at, request.now + grace)))
            if end <= request.now:
                keys.remove(old.id)
            else:
                keys.put(msgspec.structs.replace(old, expires_at=end))
        keys.put(key)
        record(request, "key.rotated", subject=system.hostname, system_id=system_id, key=key.id)
    return {"system_id": system_id, "api_key": text, "old_key_valid_until": request.now + grace}


def revoke_api_key(request: Request, system_id: str) -> None:
    """Revoke every key of a system at once."""
    with request.store.transaction(REGISTRY) as tx:
        system = tx[REGISTRY].systems.get(system_id)
        for key in tx[REGISTRY].keys.find(system_id=system_id):
            tx[REGISTRY].keys.remove(key.id)
        record(request, "key.revoked", subject=system.hostname, system_id=system_id)


# --- presenting ----------------------------------------------------------------------------------


def present_system(request: Request, system: System) -> a.System:
    """A system as the API shows it."""
    seen_at = last_seen(request.store, system.id)
    return {
        "id": system.id,
        "hostname": system.hostname,
        "platform": system.platform,
        "connectivity_status": connectivity(request, seen_at),
        "ssh_hostname": system.ssh_hostname,
        "ssh_user": system.ssh_user,
        "ssh_port": system.ssh_port,
        "last_seen": seen_at,
        "created_at": system.created_at,
        "updated_at": system.updated_at,
        "metadata": system.metadata,
    }


def last_seen(store: Store, system_id: str) -> datetime | None:
    """When the system last called; None: never."""
    beat = beat_of(store, system_id)
    return beat.last_seen_at if beat is not None else None


def confirmed_at(store: Store, system_id: str) -> datetime | None:
    """When a digest last said that the system's inventory still holds; None: never."""
    beat = beat_of(store, system_id)
    return beat.confirmed_at if beat is not None else None


def held_at(store: Store, system_id: str) -> datetime | None:
    """When a system's inventory was last reported or confirmed; None: never."""
    reports = store.read(inventory_of(system_id)).reports
    known = [reports.get("current").reported_at if "current" in reports else None, confirmed_at(store, system_id)]
    return max((each for each in known if each is not None), default=None)


def connectivity(request: Request, seen_at: datetime | None) -> a.Connectivity:
    """online, offline, or unknown for a system that never called."""
    if seen_at is None:
        return "unknown"
    silent_s = (request.now - seen_at).total_seconds()
    return "online" if silent_s <= request.config.heartbeat_timeout_s else "offline"


def _require_free(systems: Any, hostname: str, system_id: str) -> None:
    wanted = hostname.lower()
    for other in systems.all():
        if other.hostname.lower() == wanted and other.id != system_id:
            raise AlreadyExists(
                f"a system '{other.hostname}' is registered already ({other.id}); if its key is lost, "
                f"an admin makes a new one with POST /systems/{other.id}/api-key/rotate"
            )
