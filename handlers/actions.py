"""Actions with leases: an agent starts one, says how far it is, and says how it ended."""

import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from handlers import plan_answers as a
from handlers.bodies import ExitStatus, FinishHeaders, LeaseHeaders, ProgressBody
from handlers.conflicts import adopt_automatic
from handlers.errors import Conflicting, Forbidden, Gone, Invalid
from handlers.events import record
from handlers.gathering import lease_of, policy_of
from handlers.instructions import GroupPlan, action_of
from handlers.replicas import row_of
from handlers.request import Answer, Request
from handlers.resolving import note_sync
from handlers.sync import group_plan
from handlers.sync_groups import all_groups, has_group, visible_groups
from handlers.systems import note_seen
from planner import model
from planner.leases import stands_in_the_way
from planner.model import Step
from store import LEASES, REGISTRY, group_records
from store.documents import Credit, Failure, Lease, Total

TRANSFERS = frozenset({"create", "sync", "resume"})
LOG_TAIL_CHARACTERS = 4000
FIRST_RETRY_S, LAST_RETRY_S = 60, 6 * 3600  # doubled with each failure in a row
FORGET_FAILURE_AFTER = timedelta(days=7)


# --- start ---------------------------------------------------------------------------------------


def start_action(request: Request, action_id: str) -> Answer[a.LeasedAction]:
    """Take the lease on an action, or extend it: its holder gets the same token again."""
    note_seen(request)
    held = _active_lease(request, request.store.read(LEASES), action_id)
    if held is not None and request.caller.system_id in (None, held.executor_system_id):
        return _extend(request, held)
    context, step = _planned(request, action_id)
    if request.caller.is_agent and step.executor != request.caller.system_id:
        raise Forbidden("another system runs this action")
    _require_dependencies(context, step)
    lease = _new_lease(request, context, step)
    records = group_records(context.group.id)
    with request.store.transaction(LEASES, records) as tx:
        view = tx[LEASES]
        held = _active_lease(request, view, action_id)
        if held is not None and request.caller.system_id in (None, held.executor_system_id):
            lease = _extended(request, view.leases, held)  # taken by the same caller while this was planned
            return _leased(request, lease)
        _require_still_there(request, context, step)
        _require_free(request, context, step, view.leases.all())
        _require_undone(context, step, view.credits)
        for old in view.leases.all():
            if old.expires_at < request.now - timedelta(days=1):
                view.leases.remove(old.id)
        view.leases.put(lease)
        adopt_automatic(request, context, step, tx[records].decisions)
        _record(request, "action.started", lease)
    return _leased(request, lease)


def _active_lease(request: Request, view: Any, action_id: str) -> Lease | None:
    lease = view.leases.get(action_id) if action_id in view.leases else None
    return lease if lease is not None and lease.expires_at > request.now else None


def _extend(request: Request, held: Lease) -> Answer[a.LeasedAction]:
    with request.store.transaction(LEASES) as tx:
        leases = tx[LEASES].leases
        if held.id not in leases or leases.get(held.id).token != held.token:
            raise Gone("this action was just finished")
        lease = _extended(request, leases, leases.get(held.id))
    return _leased(request, lease)


def _extended(request: Request, leases: Any, held: Lease) -> Lease:
    lease = msgspec.structs.replace(held, expires_at=_lease_end(request))
    leases.put(lease)
    _tell_if_another(request, lease)
    return lease


def _tell_if_another(request: Request, lease: Lease) -> None:
    """Record that another than its executor, so an admin, extended a lease; what the executor does is its work."""
    if request.caller.system_id != lease.executor_system_id:
        _record(request, "action.extended", lease, until=lease.expires_at)


def _record(request: Request, what: str, lease: Lease, **detail: Any) -> None:
    subject = f"{lease.action['action_type']} {lease.target_dataset}"
    record(request, what, subject=subject, sync_group_id=lease.group_id, action_id=lease.id, **detail)


def _planned(request: Request, action_id: str) -> tuple[GroupPlan, Step]:
    """The step in the plan of one of the caller's groups. Raises Gone."""
    for group in visible_groups(request):
        context = group_plan(request, group)
        for step in context.plan.steps:
            if step.action_id == action_id:
                return context, step
    raise Gone("the plan no longer contains this action; ask for the instructions again")


def _require_dependencies(context: GroupPlan, step: Step) -> None:
    planned = {each.action_id: each for each in context.plan.steps}
    for needed in step.depends_on:
        if needed in planned:
            first = planned[needed]
            raise Conflicting(
                f"it waits for another action: {first.type} {first.target_dataset} ({needed})",
                headers={"Retry-After": "60"},
            )


def _require_still_there(request: Request, context: GroupPlan, step: Step) -> None:
    """Raise Gone when the group, or a system, was deleted after the plan was made."""
    systems = request.store.read(REGISTRY).systems
    involved = {step.executor, step.source or step.target, step.target}
    if any(each not in systems for each in involved) or not has_group(request, context.group.id):
        raise Gone("the plan no longer contains this action; ask for the instructions again")


def _require_free(request: Request, context: GroupPlan, step: Step, leases: list[Lease]) -> None:
    """Raise Conflicting when another lease is in the way, or a system is at its max_transfers."""
    active = [lease for lease in leases if lease.expires_at > request.now]
    for lease in active:
        if lease.id == step.action_id or stands_in_the_way(lease_of(lease), step):
            raise _held_by_another(request, lease)
    limit = context.policy.max_transfers
    for system_id, busy in _busy(active, step):
        if len(busy) >= limit:
            soonest = min(lease.expires_at for lease in busy)
            raise Conflicting(
                f"{context.members[system_id].hostname} is at its max_transfers ({limit})",
                headers={"Retry-After": _seconds_until(request, soonest, at_most=60)},
            )


def _busy(active: list[Lease], work: model.Lease | Step) -> Iterator[tuple[str, list[Lease]]]:
    """What the systems of a transfer are transferring, each with its leases."""
    transfers = [lease for lease in active if lease.action["action_type"] in TRANSFERS]
    for system_id in (work.source, work.target) if work.type in TRANSFERS else ():
        if system_id is not None:
            yield system_id, [each for each in transfers if system_id in (each.source_system_id, each.target_system_id)]


def _require_undone(context: GroupPlan, step: Step, credits: Any) -> None:
    """Raise Gone when the action was finished after the plan was made."""
    if step.action_id in credits:
        reported_at = context.members[step.target].reported_at
        if reported_at is None or credits.get(step.action_id).finished_at.timestamp() > reported_at:
            raise Gone("this action was just finished")


def _held_by_another(request: Request, lease: Lease) -> Conflicting:
    return Conflicting(
        f"a lease on {lease.target_dataset} is held by another until {lease.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        headers={"Retry-After": _seconds_until(request, lease.expires_at, at_most=3600)},
    )


def _seconds_until(request: Request, moment: datetime, at_most: int) -> str:
    return str(min(at_most, max(1, int((moment - request.now).total_seconds()) + 1)))


def _new_lease(request: Request, context: GroupPlan, step: Step) -> Lease:
    return Lease(
        id=step.action_id,
        token=secrets.token_urlsafe(24),
        group_id=context.group.id,
        action=msgspec.to_builtins(action_of(step, context)),
        executor_system_id=step.executor,
        source_system_id=step.source,
        target_system_id=step.target,
        source_dataset=step.source_dataset,
        target_dataset=step.target_dataset,
        base_guid=step.base.guid if step.base else None,
        end_guid=step.end.guid if step.end else None,
        delivers=[row_of(snapshot) for snapshot in step.delivers],
        started_at=request.now,
        expires_at=_lease_end(request),
    )


def _lease_end(request: Request) -> datetime:
    return request.now + timedelta(seconds=request.config.lease_s)


def _leased(request: Request, lease: Lease) -> Answer[a.LeasedAction]:
    shown: a.LeasedAction = {
        **cast(a.Action, lease.action),
        "lease": {"system_id": lease.executor_system_id, "expires_at": lease.expires_at},
        "lease_token": lease.token,
        "lease_expires_at": lease.expires_at,
    }
    seconds = _seconds_until(request, lease.expires_at, at_most=request.config.lease_s)
    return Answer(shown, headers={"X-Lease-Token": lease.token, "X-Lease-Seconds": seconds})


# --- progress and finish -------------------------------------------------------------------------


def report_progress(request: Request, action_id: str, body: ProgressBody, headers: LeaseHeaders) -> Answer[a.Progress]:
    """Say how far a transfer is; renews the lease."""
    note_seen(request)
    with request.store.transaction(LEASES) as tx:
        lease = _held(request, tx[LEASES], action_id, headers)
        _require_still_free(request, lease, tx[LEASES].leases.all())
        lease = msgspec.structs.replace(
            lease,
            bytes_done=body.bytes_done,
            bytes_total=body.bytes_total if body.bytes_total is not None else lease.bytes_total,
            expires_at=_lease_end(request),
        )
        tx[LEASES].leases.put(lease)
        _tell_if_another(request, lease)
    shown: a.Progress = {"action_id": action_id, "lease_expires_at": lease.expires_at}
    return Answer(shown, headers={"X-Lease-Seconds": str(request.config.lease_s)})


def _require_still_free(request: Request, lease: Lease, leases: list[Lease]) -> None:
    """Raise Gone when the lease ran out, and what others do since leaves no room for it."""
    if lease.expires_at > request.now:
        return
    active = [other for other in leases if other.expires_at > request.now]
    work = lease_of(lease)
    if any(stands_in_the_way(lease_of(other), work) for other in active):
        raise Gone("the lease ran out, and another action changes that dataset now")
    limits = (policy_of(request, group).max_transfers for group in all_groups(request) if group.id == lease.group_id)
    limit = next(limits, request.config.max_transfers)
    if any(len(busy) >= limit for _, busy in _busy(active, work)):
        raise Gone(f"the lease ran out, and other transfers take its place: max_transfers is {limit}")


def finish_action(
    request: Request, action_id: str, exit_status: ExitStatus, headers: FinishHeaders
) -> a.FinishedAction:
    """Say how an action ended: 0 with the expected guid is done; anything else is a failure, tried again later.

    Repeating it changes nothing: the first answer counts.
    """
    note_seen(request)
    known = request.store.read(LEASES).leases
    groups = [known.get(action_id).group_id] if action_id in known else []
    records = [group_records(group.id) for group in all_groups(request) if group.id in groups]
    with request.store.transaction(LEASES, *records) as tx:
        view = tx[LEASES]
        ended = _already_finished(view, action_id, headers)
        if ended is None:
            lease = _held(request, view, action_id, headers)
            ended = _ended(request, view, lease, exit_status, headers.received_guid)
            view.leases.remove(action_id)
            _tell(request, lease, ended)
            if lease.action["action_type"] in TRANSFERS:
                _add_to_total(view.totals, lease, ended)
            if records and isinstance(ended, Credit) and lease.action["action_type"] in TRANSFERS:
                note_sync(request, tx[records[0]].states, lease.group_id, lease.target_system_id, lease.target_dataset)
    if isinstance(ended, Failure) and ended.exit_status == 0:
        raise Conflicting(ended.message)
    return _done_json(ended) if isinstance(ended, Credit) else _failed_json(ended)


def _ended(request: Request, view: Any, lease: Lease, status: int, received: str) -> Credit | Failure:
    """What an action came to, stored."""
    if status != 0:
        return _fail(request, view, lease, status, _log_tail(request))
    if lease.action["action_type"] not in TRANSFERS:
        return _credit(request, view, lease)
    if received == "-":
        raise Invalid.at("X-Received-Guid", "is needed: the newest guid on the target after the transfer")
    if received == lease.end_guid:
        return _credit(request, view, lease)
    wrong = f"the target's newest guid is {received[:20]}, and {lease.end_guid} was expected"
    return _fail(request, view, lease, status, f"{wrong}. {_log_tail(request)}".strip(". "))


def _held(request: Request, view: Any, action_id: str, headers: LeaseHeaders) -> Lease:
    """The caller's lease, by its token; one that ran out counts while nobody else has taken it."""
    if action_id not in view.leases:
        raise Gone("there is no lease on this action; start it again")
    lease: Lease = view.leases.get(action_id)
    if request.caller.is_agent and lease.executor_system_id != request.caller.system_id:
        if not any(group.id == lease.group_id for group in visible_groups(request)):
            raise Gone("there is no lease on this action; start it again")  # as if it were so
        raise Forbidden("another system runs this action")
    if not secrets.compare_digest(headers.lease_token.encode(), lease.token.encode()):
        raise Forbidden("X-Lease-Token is not this lease's")
    return lease


def _already_finished(view: Any, action_id: str, headers: LeaseHeaders) -> Credit | Failure | None:
    """How the action ended, for whom the lease was: a repetition gets the same answer."""
    token = headers.lease_token.encode()
    if action_id in view.leases:
        return None
    for table in (view.credits, view.failures):
        if action_id in table and secrets.compare_digest(table.get(action_id).token.encode(), token):
            ended: Credit | Failure = table.get(action_id)
            return ended
    return None


def _done_json(credit: Credit) -> a.FinishedAction:
    return {"action_id": credit.id, "status": "done", "finished_at": credit.finished_at}


def _failed_json(failure: Failure) -> a.FinishedAction:
    return {
        "action_id": failure.id,
        "status": "failed",
        "failures": failure.count,
        "message": failure.message,
        "retry_at": failure.retry_at,
    }


def _credit(request: Request, view: Any, lease: Lease) -> Credit:
    credit = Credit(
        id=lease.id,
        token=lease.token,
        group_id=lease.group_id,
        action=lease.action,
        target_system_id=lease.target_system_id,
        delivers=lease.delivers,
        finished_at=request.now,
    )
    view.credits.put(credit)
    for failure in view.failures.find(target_system_id=lease.target_system_id, target_dataset=lease.target_dataset):
        if (
            failure.id == lease.id or lease.action["action_type"] in TRANSFERS
        ):  # what failed before this arrived is over
            view.failures.remove(failure.id)
    return credit


def _fail(request: Request, view: Any, lease: Lease, status: int, message: str) -> Failure:
    before = view.failures.get(lease.id).count if lease.id in view.failures else 0
    wait_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(before, 20))
    failure = Failure(
        id=lease.id,
        token=lease.token,
        group_id=lease.group_id,
        target_system_id=lease.target_system_id,
        target_dataset=lease.target_dataset,
        count=before + 1,
        exit_status=status,
        message=message,
        failed_at=request.now,
        retry_at=request.now + timedelta(seconds=wait_s),
        executor_system_id=lease.executor_system_id,
    )
    for old in view.failures.all():
        if old.failed_at < request.now - FORGET_FAILURE_AFTER:
            view.failures.remove(old.id)
    view.failures.put(failure)
    return failure


def _add_to_total(totals: Any, lease: Lease, ended: Credit | Failure) -> None:
    """Count a transfer that ended. Of one that ended well all has arrived, whenever its progress was last told."""
    total_id = f"{lease.group_id} {lease.target_system_id}"
    before = (
        totals.get(total_id)
        if total_id in totals
        else Total(id=total_id, group_id=lease.group_id, target_system_id=lease.target_system_id)
    )
    told = lease.bytes_done or 0
    well = isinstance(ended, Credit)
    size = max(told, lease.bytes_total or lease.action["estimated_size"] or 0) if well else told
    totals.put(
        msgspec.structs.replace(
            before, bytes_done=before.bytes_done + size, done=before.done + well, failed=before.failed + (not well)
        )
    )


def _log_tail(request: Request) -> str:
    text = request.raw.decode("utf-8", "replace")[-LOG_TAIL_CHARACTERS:]
    return "".join(each for each in text if each.isprintable() or each == "\n").strip()


def _tell(request: Request, lease: Lease, ended: Credit | Failure) -> None:
    """Record the end of an action in the audit trail."""
    what = "action.finished" if isinstance(ended, Credit) else "action.failed"
    _record(request, what, lease, message=ended.message if isinstance(ended, Failure) else None)
