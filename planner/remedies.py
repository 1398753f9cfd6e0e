"""How one loser of a decided conflict is put right.

Under keep, a losing dataset is renamed, the winner's increment is received in its place as a clone of the common
past (a full stream where there is none), and promoted; the datasets below it get their names back. Nothing is
destroyed, and what was set aside costs only what was its own (tried on OpenZFS 2.1). Under discard, the losing
dataset is rolled back to the common snapshot, and goes on from there like any other.
"""

from collections.abc import Collection
from dataclasses import replace
from shlex import quote

from planner.cases import Case, Remedy, properties_of
from planner.encryption import Form, Unfit, form_for_new, form_for_replica, is_cipher
from planner.histories import (
    Common,
    Diverged,
    Empty,
    FastForward,
    Mark,
    Unclear,
    Unrelated,
    history,
    is_certain,
    newest_common,
)
from planner.model import Replica, Step
from planner.names import LONGEST_NAME
from planner.paths import is_internal, is_set_aside, longest_name
from planner.resume import decode_resume_token
from planner.streams import full, increments
from planner.transfers import can_continue, undroppable

# --- keep: nothing is destroyed ------------------------------------------------------------------


def keep(case: Case) -> Remedy:
    """The steps that set a loser aside and put the winner's history in its place."""
    remedy = Remedy(case)
    here, old = case.here, case.aside
    if old is None and here is not None and here.resume_token and not here.snapshots:
        if _resume(remedy, here):  # the hub lacked it, and what it gets broke off
            return _go_on(remedy, remedy.steps[-1])
        return remedy if remedy.reason is not None else _catch_up(remedy, None)
    if old is None:
        if here is None or isinstance(case.relation_of(here), FastForward):
            return _catch_up(remedy, here)
        problem, new = _rename_problem(case, here), _has_gone_on(case, here)
        if problem is not None or new is not None:
            return remedy.refuse(problem or new or "", is_void=new is not None)
        old = here
        _set_aside(remedy, here)
        here = None
    received = here is not None and bool(here.snapshots)
    if not received:
        _receive(remedy, old, here)
    if remedy.reason is not None:
        return Remedy(case, remedy.steps if case.aside is not None else [], remedy.reason)
    arrival = None if received else remedy.steps[-1]
    _promote(remedy, old, here, arrival)
    if remedy.reason is not None:
        return remedy
    _name_children_back(remedy, old)
    return _catch_up(remedy, here) if arrival is None else _go_on(remedy, arrival, _names_up_to(old, arrival.base))


def _names_up_to(old: Replica, base: Mark | None) -> frozenset[str]:
    """The names that a promote brings along: those of the common past."""
    guids = [snapshot.guid for snapshot in old.snapshots]
    at = guids.index(base.guid) + 1 if base is not None and base.guid in guids else 0
    return frozenset(snapshot.name for snapshot in old.snapshots[:at])


def _names_before(old: Replica, origin: str | None) -> frozenset[str]:
    """The names that a promote of a clone of this origin brings along."""
    return _names_up_to(old, next((each for each in old.snapshots if f"{old.dataset}@{each.name}" == origin), None))


def _rename_problem(case: Case, here: Replica) -> str | None:
    if here.newest is not None and not is_certain(here.newest):
        return f"{here.dataset}@{here.newest.name} was reported without its guid, so it can't be checked what is moved"
    longest = longest_name(case.target, here.dataset) + len(case.loser.aside) - len(here.dataset)
    if isinstance(case.relation_of(here), Unclear):
        return f"whether anything was written to {here.dataset} is not known: report the column written"
    below = [each for name, each in case.target.replicas.items() if name.startswith(f"{here.dataset}/")]
    if below and case.source.replica.kind == "volume":
        return f"{case.source.replica.dataset} is a volume, below which {below[0].dataset} can't be: rename that first"
    shares_key = is_cipher(here.encryption) and any(is_cipher(each.encryption) for each in below)
    if shares_key and isinstance(case.relation_of(here), Unrelated):
        way_out = f"as with zfs rename {quote(here.dataset)} {quote(case.loser.aside)}, and all of it is sent anew"
        what = "encrypted datasets that can't be moved into what is received anew"  # but for those with their own key
        return f"{here.dataset} holds {what}: move it away with all below, {way_out}"
    if "/" not in here.dataset:
        return f"{here.dataset} is a pool, and a pool can't be renamed: give the group a root inside it"
    if longest > LONGEST_NAME:
        return f"names below {here.dataset} are too long to set it aside as {case.loser.aside}: rename what is longest"
    return None


def _has_gone_on(case: Case, here: Replica) -> str | None:
    """That a hub that is to give way has data of its own of which nobody knew when it was decided about."""
    mine = history(here)
    base = mine.find(case.loser.base_guid or "")
    since = mine.after(base) if base is not None else None
    new = {each.guid for each in since or () if is_certain(each) and each.written != 0} - set(
        case.loser.removable_guids
    )
    was_idle = case.loser.base_guid is not None and not case.loser.removable_guids and case.loser.written == 0
    if not case.must_lead or (new <= set(case.loser.removable_guids) and not (was_idle and here.written)):
        return None
    where = f"{here.dataset} on {case.target.hostname}"
    return f"{where} has data of its own that was not there when it was decided: decide again"


def _set_aside(remedy: Remedy, here: Replica) -> None:
    case = remedy.case
    remedy.add(
        "rename",
        (None, case.loser.aside),
        f"{here.dataset} on {case.target.hostname} is set aside as it is: {case.winner.hostname}'s takes its place",
        end=here.snapshots[-1] if here.snapshots else None,
        new_name=case.loser.aside,
        expected_written=here.written,
    )


_YOUNG = "wait until its snapshots are as old as the group's min_age_s says"


def _receive(remedy: Remedy, old: Replica, here: Replica | None) -> None:
    """The increment on the common past as a clone, or a full stream where there is none; or the rest of it."""
    case = remedy.case
    if here is not None and (_resume(remedy, here) or remedy.reason is not None):
        return
    form = form_for_replica(case.policy, case.source, history(old))
    common = newest_common(case.source, history(old), isinstance(form, Form) and form.raw)
    if common is None:
        _receive_all(remedy)
        return
    # a promote brings the loser's names along, so one of them can't be used again
    wanted = case.receivable(common.ahead, _names_up_to(old, common.at_target))
    if isinstance(form, Unfit):
        remedy.refuse(form.reason)
    elif form.raw and case.source.replica.encryption != "off" and not is_cipher(old.encryption):
        # as a clone of what is not encrypted a raw increment is not refused: the kernel panics (OpenZFS 2.1.11)
        remedy.refuse(f"whether {old.dataset} and its source are encrypted is not known: report the column encryption")
    elif not wanted:
        way_out = _YOUNG if case.is_early else "take a snapshot there"
        name = common.at_target.name
        remedy.refuse(f"{case.winner.hostname} has nothing newer than {name} to put in its place: {way_out}")
    else:
        stream = increments(case.source, common.at_source, {wanted[0].guid})[0]
        remedy.transfer(form, stream, origin=f"{case.loser.aside}@{common.at_target.name}")


def _receive_all(remedy: Remedy) -> None:
    """A full stream."""
    case = remedy.case
    above = case.loser.dataset.rpartition("/")[0]
    parent = case.target.replicas.get(above)
    wanted = case.wanted(case.source.snapshots)
    if not any(name == above or name.startswith(f"{above}/") for name in case.target.replicas):
        remedy.refuse(
            f"{case.target.hostname} has no {above} yet, below which it belongs: "
            "resolve the conflict of that first, or create it"
        )
    elif not wanted:
        why = f": {_YOUNG}" if case.is_early else ""
        dataset = case.source.replica.dataset
        remedy.refuse(f"{case.winner.hostname} has no snapshot of {dataset} that the group chooses{why}")
    else:
        first = wanted[-1] if case.policy.initial == "newest" else wanted[0]
        form = form_for_new(case.policy, case.source, parent.encryption if parent else None)
        remedy.transfer(form, full(case.source, first, ())[0])


def _resume(remedy: Remedy, here: Replica) -> bool:
    """The rest of what broke off, if the winner still has it, or else dropping it; whether it goes on."""
    case = remedy.case
    where = f"{here.dataset} on {case.target.hostname}"
    token = decode_resume_token(here.resume_token or "")
    end = case.source.get(token.to_guid) if token else None
    if not here.resume_token:
        remedy.refuse(
            f"{here.dataset} was made anew and holds no snapshot: rename or destroy it, so that it can be received"
        )
    elif token is None or end is None or not can_continue(case.winner, case.source, token):
        problem = None if here.snapshots else undroppable(case.target, here.dataset)
        if problem is not None:
            remedy.refuse(problem)
            return False
        remedy.add(
            "abort_receive",
            (token.from_guid if token else None, token.to_guid if token else None),
            f"{where} holds the beginning of a transfer that {case.winner.hostname} can't continue",
            resume_token=here.resume_token,
        )
    else:
        remedy.add(
            "resume",
            (token.from_guid, token.to_guid),
            f"{where} holds a part of {end.name}: {case.winner.hostname} sends the rest",
            executor=case.winner.system_id if case.policy.transfer == "push" else case.target.system_id,
            source=case.winner.system_id,
            source_dataset=case.source.replica.dataset,
            kind=case.source.replica.kind,
            end=end,
            base=case.source.find(token.from_guid or ""),
            delivers=(end,),
            raw=token.raw,
            embedded=token.embedded,
            resume_token=here.resume_token,
            properties=() if token.from_guid else properties_of(case),
        )
        return True
    return False


def _promote(remedy: Remedy, old: Replica, here: Replica | None, arrival: Step | None) -> None:
    """The clone takes over the common past, so that what was set aside can go whenever its owner wishes.

    Bookmarks come along, and at a name that the clone has already OpenZFS 2.1.11 does not refuse, but panics.
    """
    case = remedy.case
    if arrival is not None:
        is_clone, first = arrival.base is not None, arrival.end
    else:
        assert here is not None, "what has arrived is here"
        is_clone, first = (here.origin or "").startswith(f"{case.loser.aside}@"), here.snapshots[0]
    clash = {mark.name for mark in old.bookmarks} & {mark.name for mark in here.bookmarks} if here is not None else ()
    again = _names_before(old, here.origin) & {snapshot.name for snapshot in here.snapshots} if here is not None else ()
    if is_clone and again:
        both = f"{old.dataset} and {case.loser.dataset} on {case.target.hostname} both have a snapshot"
        remedy.refuse(f"{both} named {min(again)}: rename the newer one")
    elif is_clone and clash:
        both = f"{old.dataset} and {case.loser.dataset} on {case.target.hostname} both have a bookmark"
        remedy.refuse(f"{both} named {min(clash)}: destroy one of them first")
    elif is_clone:
        reason = f"the new {case.loser.dataset} takes over the past that it shares with {case.loser.aside}"
        remedy.add("promote", (case.loser.aside, None), reason, end=first)


def _name_children_back(remedy: Remedy, old: Replica) -> None:
    """What lies below moved along with the rename. It goes back under its name, and on as before.

    Not what was set aside there itself: nobody goes by its name, and an encrypted one may have its key from the one
    that took its place, without which ZFS does not move it.
    """
    case = remedy.case
    above = f"{old.dataset}/"
    below = {name[len(above) :] for name in case.target.replicas if name.startswith(above)}
    clashes = []
    children = {name.partition("/")[0] for name in below if not is_internal(name)}
    for child in sorted(child for child in children if not is_set_aside(child)):
        name = f"{case.loser.dataset}/{child}"
        if case.aside is not None and name in case.target.replicas:
            clashes.append(name)
            continue
        moved = case.target.replicas.get(f"{old.dataset}/{child}")
        remedy.add(
            "rename",
            (case.loser.aside, name),
            f"{name} was moved along with {case.loser.dataset}, and gets its name back",
            path=f"{case.path}/{child}" if case.path else child,
            target_dataset=f"{case.loser.aside}/{child}",
            new_name=name,
            end=moved.snapshots[-1] if moved and moved.snapshots else None,
        )
    if clashes:
        remedy.refuse(
            f"{clashes[0]} exists again while the one set aside still waits below {case.loser.aside}: rename one"
        )


def _catch_up(remedy: Remedy, here: Replica | None) -> Remedy:
    """The rest of the winner's history, if the loser must lead the others with it."""
    case = remedy.case
    if not case.must_lead:
        return remedy
    if here is None and case.loser.base_guid is not None:
        return remedy.refuse(
            f"{case.loser.dataset} is not on {case.target.hostname} any more: decide again", is_void=True
        )
    if here is None:
        _receive_all(remedy)
        return remedy if remedy.reason is not None else _go_on(remedy, remedy.steps[-1])
    form = form_for_replica(case.policy, case.source, history(here))
    common = newest_common(case.source, history(here), isinstance(form, Form) and form.raw)
    there = {snapshot.name for snapshot in here.snapshots}
    wanted = {s.guid for s in case.receivable(common.ahead, there)} if common else set()
    if common is None or not wanted or isinstance(case.relation_of(here), Diverged):
        return remedy  # written to meanwhile: a conflict of its own
    if isinstance(form, Unfit):
        return remedy.refuse(form.reason)
    if here.resume_token and (_resume(remedy, here) or remedy.reason is not None):
        return remedy
    for stream in increments(case.source, common.at_source, wanted):
        remedy.transfer(form, stream)
    return remedy


def _go_on(remedy: Remedy, arrival: Step, taken: Collection[str] = ()) -> Remedy:
    """What follows the stream that a step brings, if the loser must lead."""
    case = remedy.case
    ahead = case.source.after(arrival.end) if case.must_lead and arrival.end is not None else None
    wanted = {snapshot.guid for snapshot in case.receivable(ahead or (), taken)}
    if arrival.end is not None:
        for stream in increments(case.source, arrival.end, wanted):
            remedy.transfer(Form(arrival.raw, arrival.embedded), stream)
    return remedy


# --- discard: what was the loser's own goes ------------------------------------------------------


def discard(case: Case) -> Remedy:
    """The rollback that takes a loser back to the common snapshot, if nothing but what was decided on would go."""
    remedy = Remedy(case)
    here = case.here
    stands = case.relation_of(here) if here is not None else None
    if case.must_lead and (here is None or isinstance(stands, Empty)):
        nothing = f"{case.target.hostname} has nothing of {case.loser.dataset} to discard"
        return remedy.refuse(f"{nothing}: decide without that")
    if here is None or stands is None:
        return remedy
    if isinstance(stands, FastForward | Empty):
        return _catch_up(remedy, here)
    if isinstance(stands, Unrelated):
        return remedy.refuse(f"{here.dataset} shares no snapshot with {case.winner.hostname}'s: nothing to go back to")
    common = stands.common
    unexpected = {s.guid for s in common.own if is_certain(s)} - set(case.loser.removable_guids)
    if here.written is not None and (unexpected or here.written != case.loser.written):
        where = f"{here.dataset} on {case.target.hostname}"
        return remedy.refuse(f"{where} has changed since it was decided what to discard: decide again", is_void=True)
    if not _still_to_come(case, common):
        lost = f"{case.winner.hostname} has lost what was to come after {common.at_target.name}"
        return remedy.refuse(f"{lost}: what {here.dataset} on {case.target.hostname} has since may be all that is left")
    problem = _discard_problem(case, here, common)
    if problem is not None:
        return remedy.refuse(problem)
    if here.resume_token:
        reason = f"a broken transfer into {here.dataset} keeps it from being rolled back"
        remedy.add("abort_receive", (case.loser.aside, None), reason, resume_token=here.resume_token)
    remedy.add(
        "rollback",
        (common.at_target.guid, case.loser.aside),
        f"{here.dataset} on {case.target.hostname} goes back to {common.at_target.name}: what is later is lost",
        end=common.at_target,
        expected_guids=tuple(dict.fromkeys((*(own.guid for own in common.own), *_marks_after(here, common)))),
        expected_written=here.written,
        destructive=True,
    )
    kept = here.snapshots[: len(here.snapshots) - len(common.own)]
    return _catch_up(remedy, replace(here, snapshots=kept, written=0, resume_token=None))


def _still_to_come(case: Case, common: Common) -> bool:
    """Whether the winner has as new a history as when it was decided, or had nothing to come."""
    newest = case.loser.to_come_at
    return newest is None or any(s.creation is not None and s.creation >= newest for s in common.ahead)


def _marks_after(here: Replica, common: Common) -> tuple[str, ...]:
    """What the bookmarks are of that a rollback takes along: those made since (zfs-rollback(8))."""
    since = common.at_target.createtxg
    return tuple(
        mark.guid for mark in here.bookmarks if since is None or mark.createtxg is None or mark.createtxg > since
    )


def _discard_problem(case: Case, here: Replica, common: Common) -> str | None:
    """Why a rollback would destroy more than was decided, or would be refused."""
    where = f"{here.dataset} on {case.target.hostname}"
    if here.written is None:
        return f"how much was written to {where} is not known: report the column written"
    for snapshot in common.own:
        if not is_certain(snapshot):
            return f"{here.dataset}@{snapshot.name} was reported without its guid, so it can't be told what would go"
    clones = {replica.origin for replica in case.target.replicas.values()}
    for snapshot in common.own:
        if snapshot.userrefs is None:
            return f"whether {here.dataset}@{snapshot.name} has holds is not known: report the column userrefs"
        if snapshot.userrefs:
            return f"{here.dataset}@{snapshot.name} has holds: release them first"
        if f"{here.dataset}@{snapshot.name}" in clones:
            return f"{here.dataset}@{snapshot.name} has a clone: it can't be destroyed"
    return None
