"""What is remembered of checks and of conflicts: when each was seen, what was decided, when it was settled."""

import uuid
from dataclasses import asdict, replace
from typing import Any

import msgspec

from handlers.events import record
from handlers.gathering import BY_POLICY, decision_of, members_of, plan_of, policy_of, work_of
from handlers.request import Request
from handlers.sync_groups import NAMESPACE, SyncGroup, all_groups, has_group
from planner import model
from planner.cases import may_touch
from planner.model import Conflict, Member, Plan
from planner.paths import is_below, path_of
from planner.progress import is_left_behind
from planner.resolutions import resolution_steps
from store import group_records
from store.documents import Decision, SyncState


def cell_id(group_id: str, system_id: str, path: str) -> str:
    """A state's UUID: the same for one group, dataset and system."""
    return str(uuid.uuid5(NAMESPACE, f"state {group_id} {system_id} {path}"))


def record_check(request: Request, group: SyncGroup, plan: Plan) -> None:
    """Record the state of every cell, conflicts seen for the first time, and decisions that are settled."""
    shard = group_records(group.id)
    with request.store.transaction(shard) as tx:
        if not has_group(request, group.id):
            return  # it was deleted meanwhile, and its records with it
        view = tx[shard]
        _record_states(request, group, plan, view.states)
        new, settled = _record_conflicts(request, group, plan, view.decisions)
        for conflict in new:
            record(
                request,
                "conflict.detected",
                subject=conflict.path,
                sync_group_id=group.id,
                conflict_id=conflict.id,
                type=conflict.type,
                severity=conflict.severity,
            )
        for decision in settled:
            record(request, "conflict.settled", subject=decision.path, sync_group_id=group.id, conflict_id=decision.id)


def _record_states(request: Request, group: SyncGroup, plan: Plan, states: Any) -> None:
    live = set()
    for cell in plan.cells:
        state_id = cell_id(group.id, cell.system_id, cell.path)
        live.add(state_id)
        before = states.get(state_id) if state_id in states else SyncState(id=state_id)
        since = before.since if before.status == cell.status else request.now
        states.put(msgspec.structs.replace(before, last_check=request.now, status=cell.status, since=since))
    for state_id in list(states.ids()):
        if state_id not in live:
            states.remove(state_id)


def _record_conflicts(
    request: Request, group: SyncGroup, plan: Plan, decisions: Any
) -> tuple[list[Conflict], list[Decision]]:
    live = {conflict.id: conflict for conflict in plan.conflicts}
    new, settled = [], []
    for conflict in plan.conflicts:
        if conflict.id not in decisions:
            decisions.put(Decision(id=conflict.id, detected_at=request.now, path=conflict.path))
            new.append(conflict)
    for decision in decisions.all():
        if decision.id in live or decision.resolved_at is not None:
            continue
        if any(is_below(decision.path, path) for path in plan.waiting):
            continue  # it may be there again
        if not decision.strategy or decision.strategy == "ignore" or _is_given_up(request, group, decision):
            decisions.remove(decision.id)  # it went away by itself
        elif _is_settled(request, group, decision):
            done = msgspec.structs.replace(decision, resolved_at=request.now)
            decisions.put(done)
            settled.append(done)
    return new, settled


def _is_given_up(request: Request, group: SyncGroup, decision: Decision) -> bool:
    """Whether the group has left it behind, or on_conflict decided about losers that only a person may touch by now."""
    policy, known = policy_of(request, group), decision_of(decision)
    members = {member.system_id: member for member in members_of(request.store, group)}
    if is_left_behind(known, policy, list(members.values()), request.now.timestamp()):
        return True
    if decision.decided_by != BY_POLICY:
        return False
    losers = [loser for loser in known.losers if loser.system_id in members]
    return not any(may_touch(policy, members[loser.system_id], loser) for loser in losers)


def _is_settled(request: Request, group: SyncGroup, decision: Decision) -> bool:
    """Whether the inventories alone, without any credit, leave nothing of the decision to be done."""
    members = members_of(request.store, group)
    work = replace(work_of(request, group), credits=(), decisions=())
    steps, skips = resolution_steps(
        decision_of(decision), policy_of(request, group), members, work, request.now.timestamp()
    )
    return not steps and not skips


def settle_decisions(request: Request, system_id: str) -> None:
    """After a report: check the groups in which a decision about this system is still pending."""
    for group in all_groups(request):
        if group.has(system_id):
            pending = request.store.read(group_records(group.id)).decisions.all()
            if any(each.strategy and each.resolved_at is None for each in pending):
                record_check(request, group, plan_of(request, group))


def note_sync(request: Request, states: Any, group_id: str, system_id: str, dataset: str) -> None:
    """Note that a dataset on a system was brought up to date now."""
    for membership in [each for group in all_groups(request) if group.id == group_id for each in group.members]:
        if membership.system_id == system_id:
            path = path_of(Member(system_id, membership.hostname, membership.root), dataset)
            state_id = cell_id(group_id, system_id, path or "")
            before = states.get(state_id) if state_id in states else SyncState(id=state_id)
            states.put(msgspec.structs.replace(before, last_sync=request.now))


def put_decision(request: Request, decisions: Any, decided: model.Decision, shown: Any, who: str | None) -> None:
    """Store what was decided about a conflict, with the conflict as it was shown."""
    known = decisions.get(decided.conflict_id) if decided.conflict_id in decisions else None
    decisions.put(
        Decision(
            id=decided.conflict_id,
            detected_at=known.detected_at if known else request.now,
            path=decided.path,
            strategy=decided.strategy,
            winner=decided.winner,
            discard=decided.discard,
            losers=[msgspec.to_builtins(asdict(loser)) for loser in decided.losers],
            decided_by=who,
            decided_at=request.now,
            conflict=msgspec.to_builtins(shown),
        )
    )
