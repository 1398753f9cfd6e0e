"""A stream that broke off: its rest, and what may follow that, or dropping what came of it."""

from dataclasses import replace
from itertools import chain as chain_of
from shlex import quote

from planner.admission import failure_of
from planner.encryption import as_received
from planner.histories import FastForward, History, Unclear, history, relate
from planner.leaders import Course
from planner.model import ResumeToken, Step
from planner.outcomes import Outcome, conflict_over, left_out, obstacles, unclear, wish_of
from planner.resume import decode_resume_token
from planner.sites import Scene, Site
from planner.sources import ranked, route
from planner.transfers import (
    abort,
    can_continue,
    chain,
    continued_elsewhere,
    no_room_for_rest,
    resumption,
    room_for,
    undroppable,
)


def continued(scene: Scene, course: Course, outcome: Outcome, text: str) -> Outcome:
    """The rest of a stream that broke off, then what is newer; or dropping what nobody can continue.

    While there is a partial state, nothing else can be received.
    """
    path, target = outcome.path, outcome.site
    token = decode_resume_token(text)
    if token is None:
        return _unreadable(outcome)
    holders = _holders(scene, outcome, token)
    able = [site for site, _ in ranked(scene, path, target, course.leader) if site in holders]
    if not able and holders:
        return replace(outcome, reasons=(f"{holders[0].barred(path)}, and it alone can continue a transfer",))
    if not able:
        return _dropped(scene, outcome, token)
    source = able[0]
    problem = _unfit_to_continue(outcome, source.histories[path], token)
    if problem is not None:
        return replace(outcome, reasons=(problem,))
    step = resumption(scene, path, target, source, token)
    problem = no_room_for_rest(step, target, token)
    if problem is not None:
        return replace(outcome, reasons=(problem,))
    rest = _with_one(scene, outcome, step)
    if rest.failed:
        return rest
    conflict = conflict_over(course, outcome)
    return replace(rest, reasons=(conflict,)) if conflict else _followed(scene, course, rest, source, token)


def left_behind(scene: Scene, outcome: Outcome, text: str) -> Outcome:
    """What broke off of a dataset in which nobody leads: dropped, unless somebody could continue it."""
    token = decode_resume_token(text)
    if token is None:
        return _unreadable(outcome)
    return outcome if _holders(scene, outcome, token) else _dropped(scene, outcome, token)


def _unreadable(outcome: Outcome) -> Outcome:
    dataset = outcome.site.dataset(outcome.path)
    reason = f"holds the beginning of a transfer that can't be read: zfs receive -A {quote(dataset)} drops it"
    return replace(outcome, reasons=(f"{dataset} on {outcome.site.host} {reason}",))


def _holders(scene: Scene, outcome: Outcome, token: ResumeToken) -> list[Site]:
    others = [site for site in scene.sites if site is not outcome.site]
    return [site for site in others if can_continue(site.member, site.histories.get(outcome.path), token)]


def _dropped(scene: Scene, outcome: Outcome, token: ResumeToken) -> Outcome:
    problem = _undroppable(scene, outcome, token)
    if problem is not None:
        return replace(outcome, reasons=(problem,))
    return _with_one(scene, outcome, abort(scene, outcome.path, outcome.site, token))


def _undroppable(scene: Scene, outcome: Outcome, token: ResumeToken) -> str | None:
    """Why what nobody in this group can continue stays all the same."""
    dataset = outcome.site.dataset(outcome.path)
    unheard = _unheard(scene, outcome.site)
    if unheard is not None:
        return f"what {unheard} has is not known yet, and it may be what can continue a transfer into {dataset}"
    group = continued_elsewhere(scene, outcome.path, outcome.site, token)
    if group is not None:
        return f"{dataset} waits for a transfer of the group {group}"
    return undroppable(outcome.site.member, dataset) if outcome.is_partial else None


def _unheard(scene: Scene, target: Site) -> str | None:
    """Another member of a group of the target's whose agent has not reported anything so far."""
    near = [each.members for each in scene.work.neighbours if any(m.system_id == target.id for m in each.members)]
    for member in chain_of(scene.members.values(), *near):
        if member.reported_at is None and member.system_id != target.id:
            return member.hostname
    return None


def _unfit_to_continue(outcome: Outcome, sent: History, token: ResumeToken) -> str | None:
    """Why the rest of a stream would be refused, although its source still has it."""
    held, end = outcome.held, sent.get(token.to_guid)
    is_there = held is not None and held.get(token.to_guid) is not None
    for reason in obstacles(outcome, (end,) if end is not None and not is_there else ()).values():
        return f"{reason}, so the transfer that broke off can't end: rename it"
    if token.from_guid is None or held is None:
        return None
    relation = relate(sent, held, token.raw)
    if isinstance(relation, Unclear):
        return unclear(outcome, relation)
    if isinstance(relation, FastForward) and relation.common.at_source.guid == token.from_guid:
        return None
    dataset = outcome.site.dataset(outcome.path)
    reason = (
        f"changed since a transfer into it broke off, so that can't go on: zfs receive -A {quote(dataset)} drops it"
    )
    return f"{dataset} on {outcome.site.host} {reason}"


def _with_one(scene: Scene, outcome: Outcome, step: Step) -> Outcome:
    """The outcome with one step, unless that failed and may not be tried again yet."""
    failure = failure_of(scene, step)
    return replace(outcome, reasons=(failure,), failed=True) if failure else replace(outcome, steps=(step,))


def _followed(scene: Scene, course: Course, outcome: Outcome, source: Site, token: ResumeToken) -> Outcome:
    """The outcome with what may follow once the broken stream is complete."""
    held = outcome.site.histories[outcome.path]
    (end,) = outcome.steps[0].delivers
    cipher = source.histories[outcome.path].replica.encryption
    encryption = cipher if token.raw and not held.snapshots else held.replica.encryption
    last = as_received(end, token.raw, encryption, f"{outcome.site.id} {held.replica.dataset}")
    received = replace(held.replica, snapshots=(*held.snapshots, last), written=0, encryption=encryption)
    newer = outcome.lack.newer
    if not held.snapshots and end.guid in course.lead.places:  # with `initial: newest`, more is wanted now than before
        newer = tuple(snapshot for snapshot in course.lead.after(end) or () if scene.wants(snapshot))
    places = [place for place, snapshot in enumerate(newer) if snapshot.guid == end.guid]
    todo = newer[places[0] + 1 :] if places else newer
    todo = tuple(snapshot for snapshot in todo if snapshot.guid not in obstacles(outcome, todo))
    wish = replace(wish_of(course, outcome, todo), start=history(received))
    room = room_for(outcome.site, received.dataset)
    if room is not None:
        room -= outcome.steps[0].estimated_size_bytes or 0
    more = chain(scene, wish, route(scene, wish), outcome.steps[0].action_id, room)
    return replace(outcome, steps=outcome.steps + more.steps, reasons=left_out(more))
