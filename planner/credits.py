"""Members as they stand after the steps that finished since their last inventory."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from planner.encryption import as_received
from planner.model import Bookmark, Credit, Member, Replica, Snapshot, Step, Work
from planner.paths import is_below

Replicas = dict[str, Replica]


def apply_credits(members: Sequence[Member], work: Work) -> tuple[Member, ...]:
    """The members as if their inventories already showed every finished step.

    A full inventory that is newer than the step has the truth, so the step no longer counts.
    """
    by_target: dict[str, list[Credit]] = {}
    for credit in sorted(work.credits, key=lambda credit: (credit.finished_at, credit.step.action_id)):
        by_target.setdefault(credit.step.target, []).append(credit)
    known = {member.system_id: member for member in members}
    return tuple(_credited(member, by_target.get(member.system_id, ()), known) for member in members)


def _credited(member: Member, credits: Iterable[Credit], known: dict[str, Member]) -> Member:
    due = [c for c in credits if member.reported_at is None or c.finished_at > member.reported_at]
    if not due:
        return member
    replicas: Replicas = dict(member.replicas)
    for credit in due:
        _carry_out(replicas, credit, known)
    return replace(member, replicas=replicas)


def _carry_out(replicas: Replicas, credit: Credit, known: dict[str, Member]) -> None:
    """Change one system's replicas as the step changed its pool."""
    step = credit.step
    name = step.target_dataset
    match step.type:
        case "create" | "sync" | "resume":
            replicas[name] = _received(replicas, credit, known)
        case "create_parent":
            replicas.setdefault(name, Replica(name, kind="filesystem", readonly=True, mounted=False))
        case "rename":
            _rename(replicas, name, step.new_name or name)
        case "promote":
            _promote(replicas, name)
        case "abort_receive":
            _abort(replicas, name)
        case "delete" | "rollback" if name in replicas:
            replicas[name] = _without(replicas[name], step)
        case "bookmark" if name in replicas and step.end is not None and step.new_name is not None:
            mark = _bookmark(step.new_name.partition("#")[2], step.end)
            held = replicas[name]
            replicas[name] = replace(held, bookmarks=(*(b for b in held.bookmarks if b.name != mark.name), mark))
        case "release" if name in replicas:
            held = replicas[name]
            left = tuple(mark for mark in held.bookmarks if f"{name}#{mark.name}" != step.new_name)
            replicas[name] = replace(held, bookmarks=left)


def _received(replicas: Replicas, credit: Credit, known: dict[str, Member]) -> Replica:
    """The dataset with what the stream brought on top. What only its own pool can tell is unknown."""
    step = credit.step
    held = replicas.get(step.target_dataset) or Replica(
        step.target_dataset,
        kind=step.kind,
        encryption=_encryption(replicas, step, known),
        origin=step.origin,
        readonly=True,
        mounted=False,
    )
    there = {snapshot.guid for snapshot in held.snapshots}
    place = f"{step.target} {step.target_dataset}"
    new = (as_received(s, step.raw, held.encryption, place) for s in credit.delivered if s.guid not in there)
    brought = tuple(replace(s, createtxg=None, used=None, written=None, userrefs=None) for s in new)
    if held.snapshots and not brought:
        return held  # it was reported before its agent said that it is done, and may have been written to since
    return replace(held, snapshots=held.snapshots + brought, written=0, resume_token=None)


def _encryption(replicas: Replicas, step: Step, known: dict[str, Member]) -> str | None:
    """What a new dataset is encrypted with: a raw stream brings its source's cipher, others take the parent's."""
    if step.raw:
        source = known.get(step.source or "")
        sent = source.replicas.get(step.source_dataset or "") if source else None
        return sent.encryption if sent else None
    parent = replicas.get(step.target_dataset.rpartition("/")[0])
    return parent.encryption if parent else None


def _rename(replicas: Replicas, old: str, new: str) -> None:
    """Children move along, and clones of what moved name its new place."""
    moved = [name for name in replicas if is_below(name, old)]
    for name in moved:
        replica = replicas.pop(name)
        replicas[new + name[len(old) :]] = replace(replica, dataset=new + name[len(old) :])
    for name, replica in list(replicas.items()):
        origin = replica.origin or ""
        if origin.startswith((f"{old}@", f"{old}/")):
            replicas[name] = replace(replica, origin=new + origin[len(old) :])


def _promote(replicas: Replicas, name: str) -> None:
    """The clone takes over its origin's snapshots up to the one it was made of; the two change places."""
    clone = replicas.get(name)
    if clone is None or not clone.origin:
        return
    parent_name, _, at = clone.origin.partition("@")
    parent = replicas.get(parent_name)
    if parent is None:
        return
    place = next((i for i, s in enumerate(parent.snapshots) if s.name == at), None)
    if place is None:
        return
    common, kept = parent.snapshots[: place + 1], parent.snapshots[place + 1 :]
    replicas[name] = replace(clone, snapshots=common + clone.snapshots, origin=parent.origin)
    replicas[parent_name] = replace(parent, snapshots=kept, origin=f"{name}@{at}")


def _abort(replicas: Replicas, name: str) -> None:
    """A dataset that a broken full stream began goes with its partial state; others keep their snapshots."""
    held = replicas.get(name)
    if held is None:
        return
    if held.snapshots:
        replicas[name] = replace(held, resume_token=None)
    else:
        del replicas[name]


def _without(held: Replica, step: Step) -> Replica:
    gone = set(step.expected_guids)
    left = tuple(s for s in held.snapshots if s.guid not in gone)
    return replace(held, snapshots=left, written=0 if step.type == "rollback" else held.written)


def _bookmark(name: str, snapshot: Snapshot) -> Bookmark:
    return Bookmark(name, snapshot.guid, snapshot.createtxg, snapshot.creation, snapshot.ivsetguid)
