"""Steps as the actions that agents get: as JSON, as tab-separated lines, and as a script for a person to read."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from handlers import plan_answers as a
from handlers.request import JSON, SCRIPT, TSV, Answer, Request
from handlers.signing import sign_plan
from handlers.snapshots import snapshot_id
from handlers.sync_groups import SyncGroup
from handlers.wire import encode_json
from planner.commands import SCRIPT_HEAD, SCRIPT_TAIL, commands_of, script_block, shell_line
from planner.model import Bookmark, Member, Plan, Policy, Skip, Step
from store import Busy, StoreError, group_records
from store.documents import PlanStamp

LINE_FIELDS = (  # the order of the tab-separated form: new ones are appended, none is ever moved
    "action_id",
    "action_type",
    "sync_group_id",
    "executor_system_id",
    "source_system_id",
    "target_system_id",
    "pool",
    "dataset",
    "target_pool",
    "target_dataset",
    "snapshot_name",
    "snapshot_id",
    "snapshot_guid",
    "incremental_base",
    "incremental_base_guid",
    "base_is_bookmark",
    "origin",
    "is_incremental",
    "snapshot_count",
    "estimated_size",
    "source_ssh_hostname",
    "source_ssh_user",
    "source_ssh_port",
    "target_ssh_hostname",
    "target_ssh_user",
    "target_ssh_port",
    "priority",
    "reason",
    "destructive",
    "depends_on",
    "lease",
    "kind",
    "raw",
    "intermediates",
    "embedded",
    "resume_token",
    "new_name",
    "expected_guids",
    "expected_written",
    "properties",
    "rate_limit",
)


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group with its plan, and what presenting it needs."""

    group: SyncGroup
    policy: Policy
    members: Mapping[str, Member]
    plan: Plan

    def steps_for(self, system_id: str | None) -> list[Step]:
        """The steps that a system runs; all of them for None."""
        return [step for step in self.plan.steps if system_id in (None, step.executor)]


# --- an action -----------------------------------------------------------------------------------


def action_of(step: Step, context: GroupPlan) -> a.Action:
    """A step as the API shows it. Every field is always there, None where it does not apply."""
    source = context.members.get(step.source) if step.source else None
    target = context.members[step.target]
    commands = commands_of(step, context.policy, context.members)
    owner = step.source if step.source else step.target
    dataset = step.source_dataset if step.source else step.target_dataset
    end_id = snapshot_id(owner, dataset or "", step.end.name, step.end.guid) if step.end else None
    return {
        "action_id": step.action_id,
        "action_type": step.type,
        "sync_group_id": context.group.id,
        "executor_system_id": step.executor,
        "source_system_id": step.source,
        "target_system_id": step.target,
        "pool": _pool(step.source_dataset),
        "dataset": step.source_dataset,
        "target_pool": _pool(step.target_dataset),
        "target_dataset": step.target_dataset,
        "snapshot_name": step.end.name if step.end else None,
        "snapshot_id": end_id,
        "snapshot_guid": step.end.guid if step.end else None,
        "incremental_base": step.base.name if step.base else None,
        "incremental_base_guid": step.base.guid if step.base else None,
        "base_is_bookmark": isinstance(step.base, Bookmark),
        "origin": step.origin,
        "is_incremental": step.base is not None,
        "snapshot_count": len(step.delivers) or len(step.expected_guids),
        "estimated_size": step.estimated_size_bytes,
        "source_ssh_hostname": _ssh_hostname(source),
        "source_ssh_user": source.ssh_user if source else None,
        "source_ssh_port": source.ssh_port if source else None,
        "target_ssh_hostname": _ssh_hostname(target),
        "target_ssh_user": target.ssh_user,
        "target_ssh_port": target.ssh_port,
        "priority": step.priority,
        "reason": step.reason,
        "destructive": step.destructive,
        "depends_on": list(step.depends_on),
        "lease": _lease(step),
        "sync_command": shell_line(commands),
        "commands": [list(command) for command in commands],
        "kind": step.kind,
        "raw": step.raw,
        "intermediates": step.intermediates,
        "embedded": step.embedded,
        "resume_token": step.resume_token,
        "new_name": step.new_name,
        "expected_guids": list(step.expected_guids),
        "expected_written": step.expected_written,
        "properties": dict(step.properties),
        "rate_limit": context.group.options.rate_limit,
    }


def _pool(dataset: str | None) -> str | None:
    return dataset.partition("/")[0] if dataset else None


def _ssh_hostname(member: Member | None) -> str | None:
    return (member.ssh_hostname or member.hostname) if member else None


def _lease(step: Step) -> a.ActionLease | None:
    if step.lease is None:
        return None
    return {"system_id": step.lease.executor, "expires_at": datetime.fromtimestamp(step.lease.expires_at, UTC)}


def skip_of(skip: Skip) -> a.Skipped:
    """A skip as the API shows it."""
    return {"dataset": skip.dataset, "target_system_id": skip.target, "reason": skip.reason, "path": skip.path}


# --- a whole answer ------------------------------------------------------------------------------


def answer_instructions(request: Request, plans: list[GroupPlan], system_id: str | None) -> Answer[a.Instructions]:
    """What a system should run next in these groups (None: what all members should), as the caller accepts it."""
    actions = [action_of(step, context) for context in plans for step in context.steps_for(system_id)]
    accept = request.headers.get("accept", "")
    if SCRIPT in accept:
        body, kind = _script(plans, system_id).encode(), SCRIPT
    elif TSV in accept:
        body, kind = _lines(actions).encode(), TSV
    else:
        body, kind = encode_json(_document(request, plans, system_id, actions)), JSON
    expires = _expires(request)
    headers = {"X-Plan-Expires": expires, "X-Plan-Signature": sign_plan(request.store, body, expires, request.now)}
    return Answer(body, content_type=kind, headers=headers)


def _expires(request: Request) -> str:
    """Unix seconds, between one and two leases ahead: the same for all answers of a while."""
    lease_s = request.config.lease_s
    return str((int(request.now.timestamp()) // lease_s + 2) * lease_s)


def _document(
    request: Request, plans: list[GroupPlan], system_id: str | None, actions: list[a.Action]
) -> a.Instructions:
    skipped = [skip_of(skip) for context in plans for skip in context.plan.skips]
    changed_at = [_changed_at(request, context, system_id) for context in plans]
    document: a.Instructions = {
        "system_id": system_id,
        "timestamp": max(changed_at, default=datetime.fromtimestamp(0, UTC)),
        "action_count": len(actions),
        "actions": actions,
        "skipped": skipped,
        "plan_digest": _digest(actions, skipped),
    }
    return {**document, "sync_group_id": plans[0].group.id} if len(plans) == 1 else document


def _digest(actions: list[a.Action], skipped: list[a.Skipped]) -> str:
    return hashlib.sha256(encode_json([actions, skipped])).hexdigest()


def _changed_at(request: Request, context: GroupPlan, system_id: str | None) -> datetime:
    """When a group's plan became what it is, so that equal plans are equal bytes; remembered beside its states."""
    shard = group_records(context.group.id)
    digest = _digest(
        [action_of(step, context) for step in context.steps_for(system_id)],
        [skip_of(skip) for skip in context.plan.skips],
    )
    stamp_id = system_id or "all"
    stamps = request.store.read(shard).stamps
    known = stamps.get(stamp_id) if stamp_id in stamps else None
    if known is not None and known.digest == digest:
        return known.changed_at
    # a plan can be read, too, from a store that cannot be written
    with suppress(Busy, StoreError), request.store.transaction(shard) as tx:
        tx[shard].stamps.put(PlanStamp(id=stamp_id, digest=digest, changed_at=request.now))
    return request.now


def _lines(actions: Iterable[Mapping[str, Any]]) -> str:
    rows = ["\t".join(LINE_FIELDS)]
    rows += ["\t".join(_text(action[name]) for name in LINE_FIELDS) for action in actions]
    return "\n".join(rows) + "\n"


def _text(value: Any) -> str:
    """A value as the tab-separated form has it: never empty."""
    match value:
        case None | "" | [] | {}:
            return "-"
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(str(each) for each in value)
        case {"expires_at": datetime() as expires_at}:
            return str(int(expires_at.timestamp()))
        case dict():
            return ",".join(f"{name}={each}" for name, each in value.items())
    return " ".join(str(value).split())


def _script(plans: list[GroupPlan], system_id: str | None) -> str:
    blocks = [
        script_block(step, context.policy, context.members)
        for context in plans
        for step in context.steps_for(system_id)
        if step.lease is None  # an agent is at it
    ]
    skips = [
        f"# skipped on {context.members[skip.target].hostname}: {skip.dataset}: {skip.reason}\n"
        for context in plans
        for skip in context.plan.skips
    ]
    return "\n".join([SCRIPT_HEAD, *(blocks or ["# Nothing to do.\n"]), "".join(skips) + SCRIPT_TAIL])
