"""Who sends what: the members that can bring a target what it lacks, and the streams they would send."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.encryption import Form, Unfit, as_received, form_for_new, form_for_replica
from planner.histories import Empty, FastForward, History, history, relate
from planner.model import Replica, Snapshot
from planner.sites import Scene, Site
from planner.streams import Stream, full, increments


@dataclass(frozen=True, slots=True)
class Leg:
    """What one source sends."""

    source: Site
    dataset: Replica  # there
    form: Form
    streams: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Legs that follow each other, and what kept members from sending."""

    legs: tuple[Leg, ...]
    refusals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """A target, what it has of a dataset, and what it should get."""

    path: str
    target: Site
    start: History  # with no snapshots where the dataset is to be made
    todo: tuple[Snapshot, ...]  # oldest first
    first: Site | None  # the member to ask first
    parent_encryption: str | None  # of the dataset above a new one


def ranked(scene: Scene, path: str, target: Site, first: Site | None) -> list[tuple[Site, History]]:
    """The members that could send a dataset to a target, the best first.

    Seen lately goes before all, then those with a transfer to spare, then the leading one, then the configured order.
    """
    limit = scene.policy.max_transfers
    able = [site for site in scene.senders_of(path) if site is not target]
    if able and able[0] is not first and any(site is first for site in able):
        able.sort(key=lambda site: (not site.seen, site.busy >= limit, site is not first))
    return [(site, site.histories[path]) for site in able]


def route(scene: Scene, wish: Wish, pinned: str | None = None, without: Collection[str] = ()) -> Route:
    """The streams that bring as much of the wish as its members can, the pinned one first, some left out.

    One source is taken while it holds the base and the end. Where the base is unknown to the one that has the end,
    another that has both the base and something newer brings the target to where the first can go on.
    """
    candidates = ranked(scene, wish.path, wish.target, wish.first)
    if without:
        candidates = [candidate for candidate in candidates if candidate[0].id not in without]
    if pinned is not None:
        candidates.sort(key=lambda candidate: candidate[0].id != pinned)
    legs: list[Leg] = []
    refusals: dict[str, None] = {}
    at, todo = wish.start, wish.todo
    while todo:
        leg = _best_leg(scene, replace(wish, start=at, todo=todo), candidates, refusals)
        if leg is None:
            break
        legs.append(leg)
        reached = leg.streams[-1].end.guid
        todo = todo[next(i for i, snapshot in enumerate(todo) if snapshot.guid == reached) + 1 :]
        if todo:
            at = _delivered(at, leg, wish)
    return Route(tuple(legs), tuple(refusals))


def _best_leg(
    scene: Scene, wish: Wish, candidates: Iterable[tuple[Site, History]], refusals: dict[str, None]
) -> Leg | None:
    """The leg that leaves no gap, goes furthest and brings most; the best ranked source of several."""
    places = {snapshot.guid: place for place, snapshot in enumerate(wish.todo)}
    best: Leg | None = None
    best_key: tuple[int, int, int] | None = None
    for site, held in candidates:
        leg = _leg(scene, wish, site, held, places)
        if isinstance(leg, Unfit):
            refusals[leg.reason] = None
            continue
        if leg is None:
            continue
        brought = [places[snapshot.guid] for stream in leg.streams for snapshot in stream.delivers]
        key = (brought[0], -brought[-1], -len(brought))
        if best_key is None or key < best_key:
            best, best_key = leg, key
        if len(brought) == len(places):
            break
    return best


def _leg(scene: Scene, wish: Wish, site: Site, held: History, places: Mapping[str, int]) -> Leg | Unfit | None:
    """What one member could send: None when it has nothing that fits on what the target has."""
    if wish.start.replica.newest is None:
        form: Form | Unfit = form_for_new(scene.policy, held, wish.parent_encryption)
    else:
        form = form_for_replica(scene.policy, held, wish.start)
    if isinstance(form, Unfit):
        return form
    streams: Sequence[Stream] = ()
    match relate(held, wish.start, form.strict):
        case Empty():
            start = next((s for s in held.snapshots if s.guid in places), None)
            streams = full(held, start, places) if start else ()
        case FastForward(common) if common.at_source.name == "-":
            return Unfit(f"{held.replica.dataset} holds the base under the name -, which stands for none: rename it")
        case FastForward(common):
            streams = increments(held, common.at_source, places)
    return Leg(site, held.replica, form, tuple(streams)) if streams else None


def _delivered(at: History, leg: Leg, wish: Wish) -> History:
    """The target after a leg."""
    encryption = at.replica.encryption
    if not at.snapshots:
        encryption = leg.dataset.encryption if leg.form.raw else wish.parent_encryption
    place = f"{wish.target.id} {wish.target.dataset(wish.path)}"
    brought = tuple(
        as_received(snapshot, leg.form.raw, encryption, place) for stream in leg.streams for snapshot in stream.delivers
    )
    return history(replace(at.replica, snapshots=at.snapshots + brought, written=0, encryption=encryption))
