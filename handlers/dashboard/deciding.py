"""Conflicts: what happened, each way out with its cost, a dry run, and the decision."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from handlers import plan_answers as a
from handlers.bodies import ResolutionData, ResolveBody, ResolveQuery
from handlers.conflicts import conflicts_of, present_decided, resolve_conflict, weigh
from handlers.dashboard.rendering import Page, Visit
from handlers.dashboard.standing import is_minor, standings
from handlers.errors import Conflicting, Invalid
from handlers.sync_groups import visible_groups
from store import REGISTRY, NotFound

SEVERITIES = ("high", "medium", "low")
STRATEGIES = {
    "use_newest": "the newest wins",
    "use_largest": "the largest wins",
    "use_majority": "what most have wins",
    "manual": "chosen by a person",
    "ignore": "ignored until the evidence changes",
}

_OVER = "this conflict is over, or its evidence has changed: look at the conflicts again"


class ConflictsQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which conflicts to show: those that want attention, or the settled ones."""

    status: Literal["resolved"] | None = None


class DecisionForm(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What was chosen; `step` is the button."""

    way: str  # strategy, or strategy/system id for manual
    step: Literal["dry_run", "resolve"]
    discard: Literal["yes"] | None = None


def show_conflicts(visit: Visit, query: ConflictsQuery) -> Page:
    """Show what wants a decision, and what is only missing and will come or can't."""
    found = [each for each in _all(visit) if (each["status"] == "resolved") == (query.status == "resolved")]
    found.sort(key=lambda each: (SEVERITIES.index(each["severity"]), each["dataset"]))
    values = {
        "conflicts": [each for each in found if not is_minor(each)],
        "minor": [each for each in found if is_minor(each)],
        "query": query,
        **_names(visit),
    }
    return Page("conflicts", "Conflicts", values)


def show_conflict(visit: Visit, conflict_id: str) -> Page:
    """Show one conflict with its ways out. Raises NotFound."""
    return _page(visit, _found(visit, conflict_id))


def decide_conflict(visit: Visit, conflict_id: str, form: DecisionForm) -> Page:
    """Show what a way out would do, or take it; a refusal is shown beside the choices."""
    strategy, _, system_id = form.way.partition("/")
    if strategy not in STRATEGIES:
        raise Invalid.at("way", "is none of those offered")
    wanted: Any = strategy
    body = ResolveBody(
        strategy=wanted,
        resolution_data=ResolutionData(system_id=system_id or None, discard=form.discard == "yes"),
    )
    is_trial = form.step == "dry_run"
    conflict = _found(visit, conflict_id)
    try:
        outcome = resolve_conflict(visit.request, conflict_id, body, ResolveQuery(dry_run=is_trial))
    except Conflicting as refused:
        return _page(visit, conflict, form, refused=refused.detail, status=refused.status)
    after = conflict if is_trial else _found(visit, conflict_id)
    return _page(visit, after, form, outcome=outcome)


def _all(visit: Visit) -> list[a.Conflict]:
    """The conflicts of all groups, from the plans that the other pages show, too."""
    request = visit.request
    return [each for standing in standings(request) for each in conflicts_of(request, standing.context)]


def _found(visit: Visit, conflict_id: str) -> a.Conflict:
    for standing in standings(visit.request):
        for each in conflicts_of(visit.request, standing.context, lambda conflict: conflict.id == conflict_id):
            if each["id"] == conflict_id:
                return each
    raise NotFound(_OVER)


def _page(
    visit: Visit,
    conflict: a.Conflict,
    form: DecisionForm | None = None,
    *,
    outcome: a.Decided | None = None,
    refused: str | None = None,
    status: int = 200,
) -> Page:
    names = _names(visit)
    values = {
        "conflict": conflict,
        "ways": _ways(visit, conflict) if conflict["status"] in ("open", "ignored") else None,
        "form": form,
        "outcome": outcome,
        "refused": refused,
        "strategies": STRATEGIES,
        **names,
    }
    title = f"Conflict: {conflict['dataset'] or '(root)'}"
    return Page("conflict", title, values, status=status, is_live=False)


def _ways(visit: Visit, conflict: a.Conflict) -> dict[str, Any]:
    """The ways out: each system that could win, with the cost; the rules, with whom they choose; and ignoring."""
    offered = {option["strategy"]: option for option in conflict["options"]}
    rules = [option for option in conflict["options"] if option["strategy"] not in ("manual", "ignore")]
    winners = []
    if "manual" in offered and offered["manual"]["refused"] is None:
        winners = [_if_it_won(visit, conflict, system_id) for system_id in conflict["systems"]]
    return {"winners": winners, "rules": rules, "ignore": offered.get("ignore")}


def _if_it_won(visit: Visit, conflict: a.Conflict, system_id: str) -> Mapping[str, Any]:
    """What it would come to if this system's history won."""
    request, body = visit.request, ResolveBody(strategy="manual", resolution_data=ResolutionData(system_id=system_id))
    plans = [each.context for each in standings(request) if each.group.id == conflict["sync_group_id"]]
    lives = ((plan, each) for plan in plans for each in plan.plan.conflicts if each.id == conflict["id"])
    context, live = next(lives, (None, None))
    if context is None or live is None:
        raise NotFound(_OVER)
    try:
        return present_decided(context, live, weigh(request, context, live, body), dry_run=True)
    except Conflicting as refused:
        return {"winner_system_id": system_id, "refused": refused.detail, "cost": "", "send_bytes": None}


def _names(visit: Visit) -> dict[str, Any]:
    return {
        "hostnames": {system.id: system.hostname for system in visit.request.store.read(REGISTRY).systems.all()},
        "groups": {group.id: group.name for group in visible_groups(visit.request)},
    }
