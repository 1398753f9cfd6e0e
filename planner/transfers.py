"""Steps that move data: a route's streams as a chain, the rest of a broken stream, and missing parents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shlex import quote

from planner.admission import failure_of
from planner.histories import History, history
from planner.model import Bookmark, Member, Replica, ResumeToken, Snapshot, Step, StepType
from planner.outlines import names_of
from planner.paths import dataset_of, is_internal, path_of
from planner.sites import Scene, Site
from planner.sources import Leg, Route, Wish
from planner.steps import action_id
from planner.streams import Stream, full, increments


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps that follow each other, and why some of a route was left out."""

    steps: tuple[Step, ...]
    stopped: str | None = None
    failed: bool = False  # stopped by a failure that must not be repeated yet


def chain(scene: Scene, wish: Wish, route: Route, after: str | None, room: int | None) -> Chain:
    """A step for each stream of a route, each depending on the one before it, the first on `after`.

    It stops at a stream that the target has no room for, or that failed and may not be tried again yet.
    """
    steps: list[Step] = []
    needed = 0
    for leg in route.legs:
        for stream in leg.streams:
            step = _transfer(scene, wish, leg, stream, wish.start.replica.newest is None and not steps, after)
            failure = failure_of(scene, step)
            if failure is not None:
                return Chain(tuple(steps), failure, failed=True)
            needed += step.estimated_size_bytes or 0
            if room is not None and needed > room:
                return Chain(tuple(steps), no_room(wish.target, leg.dataset.dataset, stream.end))
            steps.append(step)
            after = step.action_id
    return Chain(tuple(steps))


def _transfer(scene: Scene, wish: Wish, leg: Leg, stream: Stream, new: bool, after: str | None) -> Step:
    target_dataset = wish.target.dataset(wish.path)
    kind: StepType = "sync" if stream.base else "create"
    base_guid = stream.base.guid if stream.base else None
    return Step(
        action_id(scene.policy.group_id, wish.path, wish.target.id, kind, base_guid, stream.end.guid),
        kind,
        wish.path,
        executor=_executor(scene, leg.source, wish.target),
        target=wish.target.id,
        target_dataset=target_dataset,
        reason=_why(wish, leg, stream),
        source=leg.source.id,
        source_dataset=leg.dataset.dataset,
        kind=leg.dataset.kind,
        end=stream.end,
        base=stream.base,
        intermediates=stream.intermediates,
        delivers=stream.delivers,
        raw=leg.form.raw,
        embedded=leg.form.embedded and not leg.form.raw,
        expected_guids=_history_from(wish.start, base_guid),
        expected_written=0 if stream.base else None,
        properties=scene.policy.properties if new else (),
        estimated_size_bytes=stream.size_bytes,
        depends_on=(after,) if after else (),
    )


def _executor(scene: Scene, source: Site, target: Site) -> str:
    return source.id if scene.policy.transfer == "push" else target.id


def _history_from(start: History, guid: str | None) -> tuple[str, ...]:
    """The target's snapshots from a base on; the base alone where an earlier step will have brought it."""
    if guid is None:
        return ()
    if start.replica.outline is not None and start.replica.outline.newest.guid == guid:
        return (guid,)
    place = start.places.get(guid)
    return (guid,) if place is None else tuple(snapshot.guid for snapshot in start.snapshots[place:])


def _why(wish: Wish, leg: Leg, stream: Stream) -> str:
    host, source = wish.target.host, leg.source.host
    if stream.base is None:
        return f"{host} has no copy of {leg.dataset.dataset}: {source} sends it in full, as of {stream.end.name}"
    number = len(stream.delivers)
    what = f"{number} newer snapshots, up to {stream.end.name}" if number > 1 else f"the newer {stream.end.name}"
    # a bookmark's name is the source's
    base = wish.start.get(stream.base.guid) if isinstance(stream.base, Bookmark) else stream.base
    return f"{host} has {leg.dataset.dataset} up to {(base or stream.base).name}: {source} sends {what}"


def no_room(target: Site, dataset: str, end: Snapshot) -> str:
    """That a stream does not fit, and what to do about it."""
    return (
        f"{target.host} has too little room for {dataset}@{end.name}: "
        "free some space there, or give the dataset's parent a larger quota"
    )


def resumption(scene: Scene, path: str, target: Site, source: Site, token: ResumeToken) -> Step:
    """The rest of a stream that broke off: one snapshot, whatever the stream was to bring after it.

    The source has both ends, and its base is the newest common snapshot.
    """
    held, sent = target.histories[path], source.histories[path]
    end = sent.get(token.to_guid)
    base = sent.find(token.from_guid) if token.from_guid else None
    assert end is not None, "the source has what the token names"
    whole = full(sent, end, {end.guid}) if base is None else increments(sent, base, {end.guid})
    size = whole[0].size_bytes if whole else None
    return Step(
        action_id(scene.policy.group_id, path, target.id, "resume", token.from_guid, token.to_guid),
        "resume",
        path,
        executor=_executor(scene, source, target),
        target=target.id,
        target_dataset=held.replica.dataset,
        reason=f"{target.host} holds a part of {sent.replica.dataset}@{end.name}: {source.host} sends the rest",
        source=source.id,
        source_dataset=sent.replica.dataset,
        kind=sent.replica.kind,
        end=end,
        base=base,
        delivers=(end,),
        raw=token.raw,
        embedded=token.embedded,
        resume_token=held.replica.resume_token,
        expected_guids=_history_from(held, token.from_guid),
        expected_written=0 if base else None,
        estimated_size_bytes=max(0, size - token.bytes_done) if size is not None else None,
    )


def no_room_for_rest(rest: Step, target: Site, token: ResumeToken) -> str | None:
    """Why the rest of a broken stream would not fit: what came of it may have filled the pool itself."""
    room = room_for(target, rest.target_dataset)
    if room is None or (rest.estimated_size_bytes or 0) <= room:
        return None
    way_out = f"free some space there, or drop what came of it with zfs receive -A {quote(rest.target_dataset)}"
    return f"{target.host} has too little room for the rest of {token.to_name}: {way_out}"


def abort(scene: Scene, path: str, target: Site, token: ResumeToken) -> Step:
    """Dropping the partial state of a stream that nobody can continue."""
    held = target.histories[path]
    return Step(
        action_id(scene.policy.group_id, path, target.id, "abort_receive", token.from_guid, token.to_guid),
        "abort_receive",
        path,
        executor=target.id,
        target=target.id,
        target_dataset=held.replica.dataset,
        reason=f"{target.host} holds the beginning of a transfer of {token.to_name}, which no member can continue",
        resume_token=held.replica.resume_token,
        expected_guids=tuple(snapshot.guid for snapshot in held.snapshots),
    )


def can_continue(member: Member, held: History | None, token: ResumeToken) -> bool:
    """Whether `zfs send -t` sends what is in a dataset of a member, and no other, for a token.

    It looks for the guids of both ends, by no name: in the dataset that the token names, bookmarks too, then below each
    one above that, so in all of its pool (guid_to_name in libzfs). The agent lets it send what was planned only.
    """
    if held is None or held.get(token.to_guid) is None:
        return False
    if held.replica.dataset == token.to_name.partition("@")[0]:
        return token.from_guid is None or held.find(token.from_guid) is not None
    ends = {token.to_guid, token.from_guid or token.to_guid}
    alone = not any(ends & names_of(other).keys() for other in _others_in(token, member, held.replica.dataset))
    return alone and ends <= names_of(held.replica).keys() and _pool(token.to_name) == _pool(held.replica.dataset)


def _others_in(token: ResumeToken, member: Member, dataset: str) -> Iterator[Replica]:
    pool = _pool(token.to_name)
    return (other for name, other in member.replicas.items() if name != dataset and _pool(name) == pool)


def _pool(name: str) -> str:
    return name.partition("@")[0].partition("/")[0]


def continued_elsewhere(scene: Scene, path: str, target: Site, token: ResumeToken) -> str | None:
    """The other group of which a member can continue a transfer."""
    for each in scene.work.neighbours_in_order:
        here = next((member for member in each.members if member.system_id == target.id), None)
        other = path_of(here, target.dataset(path)) if here is not None and each.policy.enabled else None
        for member in each.members if other is not None else ():
            name = dataset_of(member, other or "")
            held = member.replicas.get(name) or member.absent.get(name)
            if member.system_id != target.id and held is not None and can_continue(member, history(held), token):
                return each.policy.name
    return None


def undroppable(target: Member, dataset: str) -> str | None:
    """Why the beginning of a full stream can't be dropped: that destroys the dataset, which ZFS refuses where it has
    children (cannot destroy: dataset already exists)."""
    below = [name for name in target.replicas if name.startswith(f"{dataset}/") and not is_internal(name)]
    if not below:
        return None
    what = f"{dataset} on {target.hostname} holds only the beginning of a transfer, which nobody can continue"
    return f"{what}; it can't be dropped while {min(below)} lies below it: rename or destroy that"


def parents(
    scene: Scene, target: Site, source: Site, missing: Sequence[tuple[str, str]], after: str | None
) -> tuple[Step, ...]:
    """A create_parent for each (path, dataset) that a new dataset needs above it, the outermost first.

    They hold nothing, are never mounted, and each is made on its own: `zfs create -p` ignores the properties
    for the parents that it makes.
    """
    steps: list[Step] = []
    for path, dataset in missing:
        step = Step(
            action_id(scene.policy.group_id, path, target.id, "create_parent", None, dataset),
            "create_parent",
            path,
            executor=_executor(scene, source, target),
            target=target.id,
            target_dataset=dataset,
            reason=f"{target.host} needs {dataset} before what lies below it can be received",
            source=source.id,
            kind="filesystem",
            properties=(("canmount", "off"), ("readonly", "on")),
            depends_on=(after,) if after else (),
        )
        steps.append(step)
        after = step.action_id
    return tuple(steps)


def room_for(target: Site, dataset: str) -> int | None:
    """What the target still has room for at a dataset or the nearest one above it that reports it."""
    above = above_of(target, dataset)
    return above.available if above else None


def above_of(target: Site, dataset: str) -> Replica | None:
    """The dataset itself, or the nearest one above it, as the target last listed it."""
    name = dataset
    while name:
        if name in target.member.replicas:
            return target.member.replicas[name]
        name = name.rpartition("/")[0]
    return None
