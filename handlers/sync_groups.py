"""Sync groups: those of zfs_sync.yaml, which only the file changes, and those made over the API."""

import uuid
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from config.groups import MOST_GROUPS, MOST_SYSTEMS, GroupOptions, GroupSettings, Paused
from handlers import answers as a
from handlers.bodies import GroupBody, GroupChanges, MembershipBody, Page
from handlers.errors import Conflicting, Invalid
from handlers.events import record
from handlers.memory import Memory
from handlers.pages import paginated
from handlers.request import Answer, Request, Witness
from handlers.values import legal_root
from handlers.wire import converted, require_match
from store import REGISTRY, AlreadyExists, NotFound, group_records
from store.documents import Group, System
from store.shards import Registry

NAMESPACE = uuid.UUID("6f1c6d0e-5f0b-5d3a-9c55-0d4f6a3c9b10")  # for ids that follow from a name
OPTION_FIELDS = GroupOptions.__struct_fields__


@dataclass(frozen=True, slots=True)
class Membership:
    """A system in a group; `registered` is False for one that the file names and that has not come yet."""

    system_id: str
    hostname: str
    root: str | None
    registered: bool = True


@dataclass(frozen=True, slots=True)
class SyncGroup:
    """A group from either place, with its systems by id."""

    id: str
    name: str
    source: Literal["config", "api"]
    options: GroupOptions
    directional: bool
    hub_system_id: str | None
    members: tuple[Membership, ...]  # in the order of preference
    paused_systems: frozenset[str] = frozenset()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def has(self, system_id: str | None) -> bool:
        """Whether the system is one of the group's."""
        return any(member.system_id == system_id for member in self.members)


# --- finding -------------------------------------------------------------------------------------


def all_groups(request: Request) -> list[SyncGroup]:
    """Every sync group, by name."""
    return groups_of(request.witness)


def groups_of(witness: Witness) -> list[SyncGroup]:
    """Every sync group of the file and of the store, by name. One of the file hides a stored one of its name."""
    registry, settings = witness.store.read(REGISTRY), witness.groups_file.current()
    place = _memory.place(witness.store, "groups")
    known = place.kept
    if known is None or known.generation != registry.generation or known.settings is not settings:
        known = place.kept = _Known(registry.generation, settings, _joined(registry, settings))
    return list(known.groups)


class _Known(NamedTuple):
    """The groups, and what they were made of."""

    generation: str
    settings: tuple[GroupSettings, ...]
    groups: list[SyncGroup]


_memory: Memory[_Known] = Memory(1)


def _joined(registry: Registry, in_file: Iterable[GroupSettings]) -> list[SyncGroup]:
    systems = {system.hostname.lower(): system for system in registry.systems.all()}
    by_id = {system.id: system for system in systems.values()}
    groups = {settings.name: _from_file(settings, systems) for settings in in_file}
    for stored in registry.groups.all():
        groups.setdefault(stored.name, _from_store(stored, by_id))
    return [groups[name] for name in sorted(groups)]


def get_group(request: Request, group_id: str) -> SyncGroup:
    """One group. Raises NotFound."""
    for group in all_groups(request):
        if group.id == group_id:
            return group
    raise NotFound(f"no sync group '{group_id}'")


def is_member(request: Request, group_id: str) -> bool:
    """Whether the calling system is in the group; False, too, for a group that is not there."""
    return any(group.id == group_id and group.has(request.caller.system_id) for group in all_groups(request))


def has_group(request: Request, group_id: str) -> bool:
    """Whether there is such a group now."""
    return any(group.id == group_id for group in all_groups(request))


def visible_groups(request: Request) -> list[SyncGroup]:
    """The groups that the caller may see: an agent's own, everybody else's all."""
    groups = all_groups(request)
    return [group for group in groups if group.has(request.caller.system_id)] if request.caller.is_agent else groups


def led_by(request: Request, system_id: str) -> list[str]:
    """The ids of the groups whose hub a system is."""
    return [group.id for group in all_groups(request) if group.hub_system_id == system_id]


def interval_s(request: Request, group: SyncGroup) -> int:
    """The group's pace."""
    return group.options.sync_interval_seconds or request.config.default_sync_interval_s


def expected_id(hostname: str) -> str:
    """Stands for a system that the file names and that has not registered yet."""
    return str(uuid.uuid5(NAMESPACE, f"expected {hostname.lower()}"))


def _from_file(settings: GroupSettings, systems: dict[str, System]) -> SyncGroup:
    members = []
    for hostname, member in settings.systems.items():
        system = systems.get(hostname.lower())
        members.append(
            Membership(
                system_id=system.id if system else expected_id(hostname),
                hostname=system.hostname if system else hostname,
                root=member.root if member else None,
                registered=system is not None,
            )
        )
    ids = {hostname: member.system_id for hostname, member in zip(settings.systems, members, strict=True)}
    return SyncGroup(
        id=str(uuid.uuid5(NAMESPACE, f"group {settings.name}")),
        name=settings.name,
        source="config",
        options=settings,
        directional=settings.hub is not None,
        hub_system_id=ids[settings.hub] if settings.hub is not None else None,
        members=tuple(members),
        paused_systems=frozenset(ids[hostname] for hostname in settings.paused.systems),
    )


def _from_store(stored: Group, systems: dict[str, System]) -> SyncGroup:
    spec = stored.spec
    options = msgspec.convert({name: spec[name] for name in OPTION_FIELDS if name in spec}, GroupOptions)
    members = tuple(
        Membership(system_id, systems[system_id].hostname, member.get("root"))
        for system_id, member in spec["members"].items()
        if system_id in systems
    )
    return SyncGroup(
        id=stored.id,
        name=stored.name,
        source="api",
        options=options,
        directional=spec["hub_system_id"] is not None,
        hub_system_id=spec["hub_system_id"],
        members=members,
        paused_systems=frozenset(options.paused.systems),
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


# --- endpoints -----------------------------------------------------------------------------------


def create_sync_group(request: Request, body: GroupBody) -> Answer[a.SyncGroup]:
    """Make a sync group. Its name must be free; its systems must be registered."""
    group = Group(
        id=str(uuid.uuid4()),
        name=body.name,
        spec=_spec_of(request, body),
        created_at=request.now,
        updated_at=request.now,
    )
    with request.store.transaction(REGISTRY) as tx:
        groups = tx[REGISTRY].groups
        _require_free_name(request, groups, body.name, group.id)
        if len(groups.ids()) >= MOST_GROUPS:
            raise Conflicting(f"there are {MOST_GROUPS} sync groups, and no more are possible")
        groups.put(group)
        record(request, "group.created", subject=body.name, sync_group_id=group.id)
    shown = present_group(request, get_group(request, group.id))
    return Answer(shown, headers={"Location": f"{request.config.api_prefix}/sync-groups/{group.id}"})


def list_sync_groups(request: Request, query: Page) -> Answer[list[a.SyncGroup]]:
    """List the sync groups, by name."""
    groups = visible_groups(request)
    return paginated(request, "/sync-groups", query, groups, lambda group: present_group(request, group))


def show_sync_group(request: Request, group_id: str) -> a.SyncGroup:
    """Show one sync group. Raises NotFound."""
    return present_group(request, get_group(request, group_id))


def change_sync_group(request: Request, group_id: str, body: GroupChanges) -> a.SyncGroup:
    """Change the fields given (each as a whole) and leave the others."""
    _require_api_group(request, get_group(request, group_id))
    with request.store.transaction(REGISTRY) as tx:
        groups = tx[REGISTRY].groups
        stored = groups.get(group_id)
        require_match(request, present_group(request, get_group(request, group_id)))
        whole = _changed_body(request, stored)
        _require_free_name(request, groups, whole.name, group_id)
        after = msgspec.structs.replace(stored, name=whole.name, spec=_spec_of(request, whole))
        if after != stored:
            groups.put(msgspec.structs.replace(after, updated_at=request.now))
            record(request, "group.changed", subject=whole.name, sync_group_id=group_id)
    return present_group(request, get_group(request, group_id))


def _changed_body(request: Request, stored: Group) -> GroupBody:
    """The group as it would be made anew with these changes."""
    given = msgspec.json.decode(request.raw, type=dict[str, Any])
    changes = {name: value for name, value in given.items() if name in GroupBody.__struct_fields__}
    if "system_ids" in changes and "members" not in changes:
        members = stored.spec["members"]
        changes["members"] = {each: members.get(each, {}) for each in changes.pop("system_ids")}
    whole: GroupBody = converted({"name": stored.name, **stored.spec, **changes}, GroupBody)
    return whole


def delete_sync_group(request: Request, group_id: str) -> None:
    """Delete a sync group and what was decided in it. No snapshot is touched."""
    group = get_group(request, group_id)
    _require_api_group(request, group)
    with request.store.transaction(REGISTRY) as tx:
        tx[REGISTRY].groups.remove(group_id)
        request.store.remove(group_records(group_id))
        record(request, "group.deleted", subject=group.name, sync_group_id=group_id)


def add_group_system(request: Request, group_id: str, body: MembershipBody) -> a.SyncGroup:
    """Add a system to a sync group, or change its root."""
    _require_api_group(request, get_group(request, group_id))
    if body.root is not None:
        legal_root(body.root, "root")
    with request.store.transaction(REGISTRY) as tx:
        registry = tx[REGISTRY]
        if body.system_id not in registry.systems:
            raise Invalid.at("system_id", f"no system '{body.system_id}'")
        stored = registry.groups.get(group_id)
        members = {**stored.spec["members"], body.system_id: {"root": body.root}}
        _require_not_too_many(members, "system_id")
        registry.groups.put(
            msgspec.structs.replace(stored, spec={**stored.spec, "members": members}, updated_at=request.now)
        )
        record(request, "group.system_added", subject=stored.name, sync_group_id=group_id, system=body.system_id)
    return present_group(request, get_group(request, group_id))


def remove_group_system(request: Request, group_id: str, system_id: str) -> None:
    """Take a system out of a sync group. The hub stays until another is named."""
    group = get_group(request, group_id)
    _require_api_group(request, group)
    with request.store.transaction(REGISTRY) as tx:
        stored = tx[REGISTRY].groups.get(group_id)
        if stored.spec["hub_system_id"] == system_id:
            raise Conflicting(f"that system is the hub of '{group.name}': name another first")
        if system_id not in stored.spec["members"]:
            raise NotFound(f"no system '{system_id}' in the sync group '{group.name}'")
        tx[REGISTRY].groups.put(without_member(stored, system_id, request.now))
        record(request, "group.system_removed", subject=group.name, sync_group_id=group_id, system=system_id)


def without_member(stored: Group, system_id: str, now: datetime) -> Group:
    """The group without one of its systems."""
    members = {each: member for each, member in stored.spec["members"].items() if each != system_id}
    paused = stored.spec["paused"]
    paused = {**paused, "systems": [each for each in paused["systems"] if each != system_id]}
    return msgspec.structs.replace(stored, spec={**stored.spec, "members": members, "paused": paused}, updated_at=now)


def _require_api_group(request: Request, group: SyncGroup) -> None:
    if group.source == "config":
        file = request.config.file or "the environment (ZFS_SYNC_GROUPS)"
        raise Conflicting(f"the sync group '{group.name}' is written in {file}: edit it there, under groups:")


def _require_free_name(request: Request, groups: Any, name: str, group_id: str) -> None:
    taken = {settings.name for settings in request.witness.groups_file.current()}
    taken |= {other.name for other in groups.all() if other.id != group_id}
    if name in taken:
        raise AlreadyExists(f"a sync group '{name}' is there already")


def _require_not_too_many(members: Sized, loc: str) -> None:
    if len(members) > MOST_SYSTEMS:
        raise Invalid.at(loc, f"expected at most {MOST_SYSTEMS} systems in a group, got {len(members)}")


def _spec_of(request: Request, body: GroupBody) -> dict[str, Any]:
    """What is stored of a body. Raises Invalid for systems that are not there and a hub that is no member."""
    members: dict[str, Any] = {system_id: {"root": None} for system_id in body.system_ids}
    for system_id, member in body.members.items():
        if member.root is not None:
            legal_root(member.root, f"members.{system_id}.root")
        members[system_id] = {"root": member.root}
    _require_not_too_many(members, "members")
    systems = request.store.read(REGISTRY).systems
    for system_id in members:
        if system_id not in systems:
            raise Invalid.at("members", f"no system '{system_id}'")
    if body.hub_system_id is not None and body.hub_system_id not in members:
        raise Invalid.at("hub_system_id", f"the hub '{body.hub_system_id}' is not among the group's systems")
    if body.directional is True and body.hub_system_id is None:
        raise Invalid.at("hub_system_id", "a directional group needs a hub")
    if body.directional is False and body.hub_system_id is not None:
        raise Invalid.at("directional", "a group with a hub is directional; leave the hub out for both directions")
    for system_id in body.paused.systems:
        if system_id not in members:
            raise Invalid.at("paused.systems", f"'{system_id}' is not among the group's systems")
    options = msgspec.json.decode(msgspec.json.encode(body))  # lists, as they come back from the store
    return {
        **{name: options[name] for name in OPTION_FIELDS},
        "hub_system_id": body.hub_system_id,
        "members": members,
    }


def present_group(request: Request, group: SyncGroup) -> a.SyncGroup:
    """A group as the API shows it: every default filled in, systems by id."""
    config, options = request.config, group.options
    return {
        "id": group.id,
        "name": group.name,
        "description": options.description,
        "enabled": options.enabled,
        "datasets": options.datasets,
        "snapshots": options.snapshots,
        "sync_interval_seconds": interval_s(request, group),
        "stale_after_seconds": options.stale_after_seconds or config.stale_after_s,
        "transfer": options.transfer,
        "raw": options.raw,
        "on_conflict": options.on_conflict,
        "delete": options.delete,
        "max_transfers": options.max_transfers or config.max_transfers,
        "grace_s": options.grace_s,
        "window": options.window,
        "rate_limit": options.rate_limit,
        "paused": Paused(systems=tuple(sorted(group.paused_systems)), datasets=options.paused.datasets),
        "properties": options.properties,
        "metadata": options.metadata,
        "directional": group.directional,
        "hub_system_id": group.hub_system_id,
        "system_ids": [member.system_id for member in group.members if member.registered],
        "members": {member.system_id: {"root": member.root} for member in group.members if member.registered},
        "expected": [member.hostname for member in group.members if not member.registered],
        "source": group.source,
        "created_at": group.created_at,
        "updated_at": group.updated_at,
    }
