"""What should run next, and where everything stands."""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

from handlers import plan_answers as a
from handlers.bodies import OfSystem, StateQuery
from handlers.errors import Forbidden, Malformed
from handlers.gathering import member_by_id, members_of, planning_of, work_of
from handlers.instructions import GroupPlan, answer_instructions
from handlers.memory import Memory
from handlers.pages import paginated
from handlers.planning import GROUPS
from handlers.request import SCRIPT, Answer, Request
from handlers.resolving import cell_id, record_check
from handlers.snapshots import snapshot_id
from handlers.sync_groups import NAMESPACE, SyncGroup, get_group, visible_groups
from handlers.values import from_unix, identity
from planner.model import Cell, Member, Snapshot, Verdict
from planner.paths import dataset_of
from planner.prune import prunable, prunable_bookmarks
from store import REGISTRY, NotFound, group_records
from store.documents import SyncState


def group_plan(request: Request, group: SyncGroup) -> GroupPlan:
    """A group with its plan as of now."""
    policy, members, _, plan = planning_of(request, group)
    return GroupPlan(group, policy, {member.system_id: member for member in members}, plan)


# --- instructions --------------------------------------------------------------------------------


def show_instructions(request: Request, group_id: str, query: OfSystem) -> Answer[a.Instructions]:
    """Say what the caller should run next in a sync group; to viewers and admins, what every member should."""
    group = get_group(request, group_id)
    system_id = _narrowed(request, query)
    if system_id is not None:
        member_by_id(members_of(request.store, group), system_id)
    _require_one_system_for_script(request, system_id)
    return answer_instructions(request, [group_plan(request, group)], system_id)


def show_own_instructions(request: Request, query: OfSystem) -> Answer[a.Instructions]:
    """Say what the caller should run next over all its sync groups; to others, what `?system_id=` should."""
    system_id = _narrowed(request, query)
    if system_id is not None:
        request.store.read(REGISTRY).systems.get(system_id)
    _require_one_system_for_script(request, system_id)
    return _instructions_over_groups(request, system_id)


def show_system_instructions(request: Request, system_id: str) -> Answer[a.Instructions]:
    """Say what one system should run next over all its sync groups."""
    request.store.read(REGISTRY).systems.get(system_id)
    return _instructions_over_groups(request, system_id)


def _instructions_over_groups(request: Request, system_id: str | None) -> Answer[a.Instructions]:
    groups = [group for group in visible_groups(request) if system_id is None or group.has(system_id)]
    return answer_instructions(request, [group_plan(request, group) for group in groups], system_id)


def _narrowed(request: Request, query: OfSystem) -> str | None:
    """Whose steps are asked for: an agent's own, always; everybody else's as they say."""
    if not request.caller.is_agent:
        return query.system_id
    if query.system_id not in (None, request.caller.system_id):
        raise Forbidden("this key's system has no part in that")
    return request.caller.system_id


def _require_one_system_for_script(request: Request, system_id: str | None) -> None:
    if system_id is None and SCRIPT in request.headers.get("accept", ""):
        raise Malformed("a script is for one system: say which with ?system_id=")


# --- where everything stands ---------------------------------------------------------------------


def check_sync_group(request: Request, group_id: str) -> a.GroupStatus:
    """Compare the group's systems now, record states and conflicts, and show the status."""
    group = get_group(request, group_id)
    context = group_plan(request, group)
    record_check(request, group, context.plan)
    return present_status(request, context)


def show_status(request: Request, group_id: str) -> a.GroupStatus:
    """Show the dataset by system matrix: state, newest common snapshot, lag, and why a cell is not in sync."""
    return present_status(request, group_plan(request, get_group(request, group_id)))


_matrices: Memory[tuple[tuple[Cell, ...], list[a.StatusRow]]] = Memory(GROUPS)


def present_status(request: Request, context: GroupPlan) -> a.GroupStatus:
    """A group's matrix as the API shows it."""
    group, cells = context.group, context.plan.cells
    place = _matrices.place(request.store, group.id)
    known = place.kept
    if known is None or known[0] is not cells:  # the very cells: those of a plan that is still remembered
        known = place.kept = (cells, _matrix(cells))
    counts = Counter(cell.status for cell in cells)
    checked = request.store.read(group_records(group.id)).states.all()
    return {
        "sync_group_id": group.id,
        "name": group.name,
        "enabled": group.options.enabled,
        "checked_at": max((each.last_check for each in checked if each.last_check is not None), default=None),
        "systems": [
            {
                "system_id": each.system_id,
                "hostname": each.hostname,
                "root": each.root,
                "is_hub": each.system_id == group.hub_system_id,
                "expected": not each.registered,
            }
            for each in group.members
        ],
        "datasets": known[1],
        "summary": {
            **cast(a.StatusCounts, dict(counts)),
            "conflicts": sum(each.status != "ignored" for each in context.plan.conflicts),
            "actions": len(context.plan.steps),
            "skipped": len(context.plan.skips),
            "max_lag_s": max((cell.lag_s for cell in cells), default=0),
            "late": sum(cell.late for cell in cells),
        },
    }


def _matrix(cells: Iterable[Cell]) -> list[a.StatusRow]:
    rows: dict[str, dict[str, a.StatusCell]] = {}
    for cell in cells:
        rows.setdefault(cell.path, {})[cell.system_id] = _cell_json(cell)
    return [{"dataset": path, "systems": rows[path]} for path in sorted(rows)]


def _cell_json(cell: Cell) -> a.StatusCell:
    return {
        "dataset": cell.dataset,
        "status": cell.status,
        "is_source": cell.is_source,
        "newest": _named(cell.newest),
        "newest_common": _named(cell.newest_common),
        "newest_common_at": from_unix(cell.newest_common.creation) if cell.newest_common else None,
        "lag_s": cell.lag_s,
        "lag_snapshots": len(cell.missing),
        "late": cell.late,
        "bytes_to_send": cell.bytes_to_send,
        "why": cell.why,
    }


def _named(snapshot: Snapshot | None) -> a.NamedSnapshot | None:
    if snapshot is None:
        return None
    return {
        "name": snapshot.name,
        "guid": snapshot.guid or None,
        "identity": identity(snapshot.guid),
        "timestamp": from_unix(snapshot.creation),
    }


# --- states --------------------------------------------------------------------------------------


def list_states(request: Request, query: StateQuery) -> Answer[list[a.State]]:
    """List the state of each dataset on each system of the groups; `?per=snapshot` has one per snapshot."""
    groups = visible_groups(request)
    if query.sync_group_id is not None:
        group = get_group(request, query.sync_group_id) if not request.caller.is_agent else None
        groups = [each for each in groups if each.id == query.sync_group_id]
        if group is None and not groups:
            raise Forbidden("this key's system has no part in that")
    states = [state for group in groups for state in _states_of(request, group, query.per)]
    equal = {"system_id": query.system_id, "snapshot_id": query.snapshot_id, "status": query.status}
    wanted = {name: value for name, value in equal.items() if value is not None}
    found = [
        state
        for state in states
        if all(state.get(name) == value for name, value in wanted.items())
        and query.dataset in (None, state["dataset"], state["path"])
    ]
    return paginated(request, "/sync/states", query, found, lambda state: state)


def show_state(request: Request, state_id: str) -> a.State:
    """Show one state. Raises NotFound."""
    for group in visible_groups(request):
        for state in _states_of(request, group, "dataset"):
            if state["id"] == state_id:
                return state
    if request.caller.is_agent:
        raise Forbidden("this key's system has no such state")
    raise NotFound(f"no sync state '{state_id}'")


def _states_of(request: Request, group: SyncGroup, per: str) -> Iterator[a.State]:
    stored = request.store.read(group_records(group.id)).states
    context = group_plan(request, group)
    for cell in context.plan.cells:
        state = _state_json(group, cell, stored)
        if per == "dataset":
            yield state
        else:
            yield from _states_per_snapshot(context, cell, state)


def _state_json(group: SyncGroup, cell: Cell, stored: Any) -> a.State:
    state_id = cell_id(group.id, cell.system_id, cell.path)
    known = stored.get(state_id) if state_id in stored else SyncState(id=state_id)
    newest = cell.newest_common
    return {
        "id": state_id,
        "sync_group_id": group.id,
        "system_id": cell.system_id,
        "dataset": cell.dataset,
        "path": cell.path,
        "status": cell.status,
        "last_sync": known.last_sync,
        "last_check": known.last_check,
        "newest_common_snapshot": _named(newest),
        "snapshot_id": snapshot_id(cell.system_id, cell.dataset, newest.name, newest.guid) if newest else None,
        "missing_count": len(cell.missing),
        "error_message": cell.why if cell.status in ("error", "conflict") else None,
    }


def _states_per_snapshot(context: GroupPlan, cell: Cell, state: a.State) -> Iterator[a.State]:
    """One state for each snapshot that is there, in sync if another system has it too, and for each that is missing."""
    elsewhere = {
        snapshot.guid
        for member in context.members.values()
        if member.system_id != cell.system_id
        for snapshot in _snapshots_of(member, dataset_of(member, cell.path))
    }
    not_in_sync = cell.status if cell.status != "in_sync" else "out_of_sync"
    here = _snapshots_of(context.members[cell.system_id], cell.dataset)
    shown = [(each, "in_sync" if cell.is_source or each.guid in elsewhere else not_in_sync) for each in here]
    shown += [(each, not_in_sync) for each in cell.missing]
    for snapshot, status in shown:
        yield {
            **state,
            "id": str(uuid.uuid5(NAMESPACE, f"{state['id']} {snapshot.guid}")),
            "snapshot_id": snapshot_id(cell.system_id, cell.dataset, snapshot.name, snapshot.guid),
            "snapshot_name": snapshot.name,
            "snapshot_guid": snapshot.guid,
            "status": status,
        }


def _snapshots_of(member: Member, dataset: str) -> list[Snapshot]:
    """A dataset's snapshots that are known by guid."""
    replica = member.replicas.get(dataset)
    return [snapshot for snapshot in replica.snapshots if not snapshot.by_name] if replica is not None else []


# --- what may go ---------------------------------------------------------------------------------


def show_prunable(request: Request, group_id: str) -> a.Prunable:
    """Show, per system, which snapshots and bookmarks no peer needs any more, and which must be kept and for whom."""
    group = get_group(request, group_id)
    context = group_plan(request, group)
    members = list(context.members.values())
    work = work_of(request, group, whole=True)
    facts = (context.policy, members, work, context.plan, request.now.timestamp())
    systems: dict[str, a.PrunableSystem] = {
        each.system_id: {
            "system_id": each.system_id,
            "prunable": [],
            "keep": [],
            "prunable_bookmarks": [],
            "keep_bookmarks": [],
        }
        for each in group.members
        if each.registered
    }
    for verdict in prunable(*facts):
        if verdict.system_id in systems:
            systems[verdict.system_id]["keep" if verdict.needed else "prunable"].append(_verdict_json(verdict))
    for verdict in prunable_bookmarks(*facts):
        if verdict.system_id in systems:
            lists = systems[verdict.system_id]
            lists["keep_bookmarks" if verdict.needed else "prunable_bookmarks"].append(_verdict_json(verdict))
    return {"sync_group_id": group.id, "systems": list(systems.values())}


def _verdict_json(verdict: Verdict) -> a.PrunableSnapshot:
    return {
        "dataset": verdict.dataset,
        "name": verdict.snapshot.name,
        "guid": verdict.snapshot.guid or None,
        "reason": verdict.reason,
        "needed_by": list(verdict.needed_by),
    }
