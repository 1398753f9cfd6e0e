"""Conflicts, what each way out would cost, and a person's decision."""

from collections.abc import Callable
from typing import Any, Literal, cast

from handlers import plan_answers as a
from handlers.bodies import ConflictQuery, ResolveBody, ResolveQuery
from handlers.errors import Conflicting, Invalid
from handlers.events import record
from handlers.gathering import BY_POLICY, decision_of, work_of
from handlers.instructions import GroupPlan, action_of
from handlers.request import Request
from handlers.resolving import put_decision
from handlers.sync import group_plan
from handlers.sync_groups import get_group, visible_groups
from handlers.values import from_unix, identity
from planner import model
from planner.claims import is_begun
from planner.decisions import in_turn
from planner.model import Conflict, Option, Side, Snapshot, Step
from planner.paths import pool_of
from planner.resolutions import choose
from store import NotFound, group_records
from store.documents import Decision


def list_conflicts(request: Request, query: ConflictQuery) -> a.Conflicts:
    """Show the conflicts of all sync groups that the caller may see."""
    shown = [
        conflict for group in visible_groups(request) for conflict in conflicts_of(request, group_plan(request, group))
    ]
    return _listed(shown, query, None)


def show_group_conflicts(request: Request, group_id: str, query: ConflictQuery) -> a.Conflicts:
    """Show a sync group's conflicts with their ways out. Raises NotFound."""
    context = group_plan(request, get_group(request, group_id))
    return _listed(conflicts_of(request, context), query, group_id)


def _listed(shown: list[a.Conflict], query: ConflictQuery, group_id: str | None) -> a.Conflicts:
    if query.status is None:
        conflicts = [each for each in shown if each["status"] != "resolved"]
    else:
        conflicts = [each for each in shown if each["status"] == query.status]
    return {"conflicts": conflicts, "count": len(conflicts), "sync_group_id": group_id}


def conflicts_of(
    request: Request, context: GroupPlan, is_shown: Callable[[Conflict], bool] = lambda _: True
) -> list[a.Conflict]:
    """The live conflicts; then decided ones whose evidence is gone: pending until the inventories prove them."""
    shown = [present_conflict(request, context, each) for each in context.plan.conflicts if is_shown(each)]
    live = {conflict.id for conflict in context.plan.conflicts}
    for decision in request.store.read(group_records(context.group.id)).decisions.all():
        if decision.id not in live and decision.conflict:
            known = cast(a.Conflict, decision.conflict)
            status: Literal["ignored", "pending", "resolved"]
            status = "ignored" if decision.strategy == "ignore" else "resolved" if decision.resolved_at else "pending"
            shown.append({**known, "status": status, "resolution": _resolution(decision), "options": []})
    return shown


def resolve_conflict(request: Request, conflict_id: str, body: ResolveBody, query: ResolveQuery) -> a.Decided:
    """Decide a conflict, or, with dry_run, show what that would run and cost. A tie or new evidence is a conflict."""
    context, conflict = _live(request, conflict_id)
    option = weigh(request, context, conflict, body)
    if not query.dry_run:
        shown = present_conflict(request, context, conflict)
        _record_decision(request, context, conflict, option, shown)
    return present_decided(context, conflict, option, query.dry_run)


def weigh(request: Request, context: GroupPlan, conflict: Conflict, body: ResolveBody) -> Option:
    """What a decision would run and cost. Raises Invalid, or Conflicting when it can't be carried out."""
    data = body.resolution_data
    if body.strategy == "manual" and data.system_id is None:
        raise Invalid.at("resolution_data.system_id", "manual needs the system that wins")
    if data.system_id is not None and data.system_id not in {side.system_id for side in conflict.sides}:
        raise Invalid.at("resolution_data.system_id", "that system has no part in this conflict")
    facts = context.policy, list(context.members.values()), work_of(request, context.group), request.now.timestamp()
    option = in_turn(choose(conflict, body.strategy, data.system_id, data.discard, *facts), conflict.path, *facts)
    if option.refused is not None:
        raise Conflicting(option.refused)
    return option


def present_decided(context: GroupPlan, conflict: Conflict, option: Option, dry_run: bool) -> a.Decided:
    """A decision, or what one would come to, as the API shows it."""
    status: Literal["ignored", "pending"] = "ignored" if option.strategy == "ignore" else "pending"
    return {
        "id": conflict.id,
        "sync_group_id": context.group.id,
        "dry_run": dry_run,
        "status": conflict.status if dry_run else status,
        **_option_json(option, context),
    }


def _record_decision(
    request: Request, context: GroupPlan, conflict: Conflict, option: Option, shown: a.Conflict
) -> None:
    decided = model.Decision(conflict.id, conflict.path, option.strategy, option.winner, option.discard, option.losers)
    records = group_records(context.group.id)
    with request.store.transaction(records) as tx:
        get_group(request, context.group.id)  # again: it may have been deleted meanwhile
        put_decision(request, tx[records].decisions, decided, shown, request.caller.key_id)
        _forget_before(context, tx[records].decisions, decided)
        record(
            request,
            "conflict.resolved",
            subject=conflict.path,
            sync_group_id=context.group.id,
            conflict_id=conflict.id,
            strategy=option.strategy,
            winner=option.winner,
            discard=option.discard,
        )


def _forget_before(context: GroupPlan, decisions: Any, decided: model.Decision) -> None:
    """Drop what was decided about the same dataset before, was not begun, and is a conflict no more."""
    live = {conflict.id for conflict in context.plan.conflicts}
    for each in decisions.all():
        is_older = each.path == decided.path and each.id not in live and each.strategy and each.resolved_at is None
        if is_older and not any(is_begun(context.members, loser) for loser in decision_of(each).losers):
            decisions.remove(each.id)


def adopt_automatic(request: Request, context: GroupPlan, step: Step, decisions: Any) -> None:
    """Store the decision that the group's on_conflict made, once an agent starts to carry it out.

    Its later steps must stay in the plan when the conflict's own evidence is gone.
    """
    conflicts = {conflict.id: conflict for conflict in context.plan.conflicts}
    for decision in context.plan.decided:
        if decision.path == step.path:
            shown = present_conflict(request, context, conflicts[decision.conflict_id])
            put_decision(request, decisions, decision, shown, BY_POLICY)


def _live(request: Request, conflict_id: str) -> tuple[GroupPlan, Conflict]:
    """The conflict as it stands now. Raises NotFound, or Conflicting when its evidence has changed."""
    known = False
    for group in visible_groups(request):
        context = group_plan(request, group)
        for conflict in context.plan.conflicts:
            if conflict.id == conflict_id:
                return context, conflict
        known = known or conflict_id in request.store.read(group_records(group.id)).decisions
    if known:
        raise Conflicting("what this conflict was about has changed meanwhile; look at the conflicts again")
    raise NotFound(f"no conflict '{conflict_id}'")


# --- presenting ----------------------------------------------------------------------------------


def present_conflict(request: Request, context: GroupPlan, conflict: Conflict) -> a.Conflict:
    """A conflict as the API shows it."""
    decisions = request.store.read(group_records(context.group.id)).decisions
    known = decisions.get(conflict.id) if conflict.id in decisions else None
    return {
        "id": conflict.id,
        "type": conflict.type,
        "snapshot_name": conflict.snapshot_names[0] if conflict.snapshot_names else None,
        "snapshot_names": list(conflict.snapshot_names),
        "pool": pool_of(conflict.sides[0].dataset) if conflict.sides else None,
        "dataset": conflict.path,
        "sync_group_id": context.group.id,
        "systems": {side.system_id: _side_json(side, context) for side in conflict.sides},
        "severity": conflict.severity,
        "status": conflict.status,
        "detected_at": known.detected_at if known else _first_seen(context, conflict),
        "resolution": _resolution(known) if known is not None and known.strategy else None,
        "reason": conflict.reason,
        "options": [_option_json(option, context) for option in conflict.options],
    }


def _first_seen(context: GroupPlan, conflict: Conflict) -> Any:
    """When a conflict that no check has recorded yet could first be seen: with the newest report it rests on."""
    reports = [context.members[side.system_id].reported_at for side in conflict.sides]
    return from_unix(max((each for each in reports if each is not None), default=None))


def _resolution(decision: Decision) -> a.Resolution:
    return {
        "strategy": decision.strategy,
        "winner_system_id": decision.winner,
        "discard": decision.discard,
        "decided_by": decision.decided_by,
        "decided_at": decision.decided_at,
        "resolved_at": decision.resolved_at,
    }


def _side_json(side: Side, context: GroupPlan) -> a.ConflictSide:
    return {
        "hostname": context.members[side.system_id].hostname,
        "dataset": side.dataset,
        "head": _evidence(side.head),
        "newest_common": _evidence(side.newest_common),
        "only_here": [_shown(snapshot) for snapshot in side.only_here],
        "written_bytes": side.written_bytes,
    }


def _evidence(snapshot: Snapshot | None) -> a.Evidence | None:
    return _shown(snapshot) if snapshot is not None else None


def _shown(snapshot: Snapshot) -> a.Evidence:
    return {
        "name": snapshot.name,
        "guid": snapshot.guid or None,
        "identity": identity(snapshot.guid),
        "timestamp": from_unix(snapshot.creation),
        "size": snapshot.used,
        "written": snapshot.written,
    }


def _option_json(option: Option, context: GroupPlan) -> a.Option:
    return {
        "strategy": option.strategy,
        "winner_system_id": option.winner,
        "discard": option.discard,
        "actions": [action_of(step, context) for step in option.steps],
        "lost": [_shown(snapshot) for snapshot in option.lost],
        "lost_bytes": option.lost_bytes,
        "send_bytes": option.send_bytes,
        "cost": option.cost,
        "refused": option.refused,
    }
