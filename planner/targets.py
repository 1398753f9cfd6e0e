"""What one member lacks of a dataset, and the steps that would bring it, or why there are none."""

from dataclasses import dataclass, replace
from shlex import quote

from planner.admission import admitted
from planner.encryption import relation
from planner.globs import selects
from planner.histories import Common, Empty, Unclear, is_certain
from planner.leaders import Course, is_apart
from planner.model import Lease, Snapshot, Step
from planner.names import name_problem
from planner.other_groups import sent_by_others
from planner.other_names import told_to_rename
from planner.outcomes import Done, Lack, Outcome, conflict_over, left_out, obstacles, unclear, wish_of
from planner.outlines import names_of, reach
from planner.partial import continued, left_behind
from planner.paths import ancestors, path_of
from planner.sites import Scene, Site
from planner.sources import Route, Wish, route
from planner.streams import full, increments
from planner.transfers import Chain, chain, parents, room_for

HOLDS_SOMETHING_BYTES = 2**20  # written to a dataset without snapshots; an empty filesystem has some 100 kB


def consider(scene: Scene, course: Course, target: Site, hold: str | None, done: Done) -> Outcome:
    """What a member should get of a dataset. `hold` says why nothing may go there; `done` has what lies above it."""
    path = course.path
    held = target.histories.get(path)
    stands = relation(scene.policy, course.lead, held) if held else None
    outcome = Outcome(path, target, stands, _lack(scene, course, Outcome(path, target, stands)))
    token = held.replica.resume_token if held else None
    unfit = target.unfit(path)
    if not outcome.lack.newer and not token and not is_apart(stands):
        problem = unfit or _too_young(course, outcome)
        return replace(outcome, reasons=(problem,) if problem else ())
    outcome = replace(outcome, apart=_is_apart(scene, course, outcome))
    lease = scene.lease_on(target, path)
    if lease is not None:
        return _in_progress(scene, course, outcome, lease, done)
    chosen = _held_back(scene, outcome, hold)
    if chosen is not None:
        return replace(outcome, reasons=(chosen,), by_choice=True)
    if unfit is not None:
        return replace(outcome, reasons=(unfit,))
    if token:
        return continued(scene, course, outcome, token)
    conflict = conflict_over(course, outcome)
    if conflict is not None:
        return replace(outcome, reasons=(conflict,))
    return _brought(scene, course, outcome, done)


def _too_young(course: Course, outcome: Outcome) -> str | None:
    """Why a member has nothing of a dataset, where all that is to come may not be sent yet."""
    if not outcome.lack.later or (outcome.held is not None and outcome.held.replica.newest is not None):
        return None
    return f"{course.leader.host} sends {course.lead.replica.dataset} once its snapshots are old enough"


def unled(scene: Scene, outcome: Outcome, hold: str | None) -> Outcome:
    """What becomes of a dataset in which nobody leads: only what broke off there may go."""
    token = outcome.held.replica.resume_token if outcome.held else None
    if not token or outcome.site.unfit(outcome.path) or scene.lease_on(outcome.site, outcome.path) is not None:
        return outcome
    chosen = _held_back(scene, outcome, hold)
    if chosen is not None:
        return replace(outcome, reasons=(chosen,), by_choice=True)
    return left_behind(scene, outcome, token)


def _lack(scene: Scene, course: Course, outcome: Outcome) -> Lack:
    """What of the leading history is missing here. What a replica pruned by itself is not missed."""
    common, held = outcome.common, outcome.held
    if common is not None and held is not None and reach(course.lead.replica, held.replica) is not None:
        newer = tuple(snapshot for snapshot in common.ahead if scene.wants(snapshot))
        return Lack(newer, (), _increments_size(course, common, newer), is_tail=True)
    there = names_of(held.replica) if held else {}
    if names_of(course.lead.replica).keys() <= there.keys():
        return Lack()  # what is known by name only is never wanted
    lacking = [snapshot for snapshot in course.lead.snapshots if snapshot.guid not in there]
    wanted = [snapshot for snapshot in lacking if scene.wants(snapshot)]
    from_newest = scene.policy.initial == "newest"
    if common is None:
        # what shares nothing with the leading history may go on through another member's, with all that follows
        starts_here = held is None or held.replica.newest is None
        newer = tuple(wanted[-1:] if from_newest and starts_here else wanted)
        later = any(is_certain(s) and scene.selects_name(s.name) for s in lacking)
        streams = full(course.lead, newer[0], {s.guid for s in newer}) if newer else ()
        return Lack(newer, (), _total([stream.size_bytes for stream in streams]), later)
    if not wanted:
        return Lack()
    ahead = {snapshot.guid for snapshot in common.ahead}
    newer = tuple(snapshot for snapshot in wanted if snapshot.guid in ahead)
    older = () if from_newest else tuple(s for s in wanted if s.guid not in ahead and not _pruned(scene, outcome, s))
    return Lack(newer, older, _increments_size(course, common, newer))


def _increments_size(course: Course, common: Common, newer: tuple[Snapshot, ...]) -> int | None:
    streams = increments(course.lead, common.at_source, {snapshot.guid for snapshot in newer}) if newer else ()
    return _total([stream.size_bytes for stream in streams])


def _pruned(scene: Scene, outcome: Outcome, snapshot: Snapshot) -> bool:
    """Whether a replica had a snapshot and let it go, other than in a mass deletion that nobody accepted."""
    site, dataset = outcome.site, outcome.site.dataset(outcome.path)
    return (site.id, dataset) not in scene.guarded and scene.has_pruned(site, dataset, snapshot.guid)


def _total(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _is_apart(scene: Scene, course: Course, outcome: Outcome) -> bool:
    """Whether neither the leading history nor that of another member can go on here."""
    return is_apart(outcome.relation) and not route(scene, wish_of(course, outcome, outcome.lack.newer)).legs


def _held_back(scene: Scene, outcome: Outcome, hold: str | None) -> str | None:
    """Why somebody wants nothing to be sent here now."""
    path, target, policy = outcome.path, outcome.site, scene.policy
    if not policy.enabled:
        return f"the group {policy.name} is disabled"
    if target.paused is not None:
        return target.paused
    if scene.is_paused(path):
        return f"{target.dataset(path)} is paused in this group"
    if not policy.window_open and not outcome.apart:
        return f"the transfer window of the group {policy.name} is closed"
    return hold


# --- a transfer that runs ----------------------------------------------------------------------------


def _in_progress(scene: Scene, course: Course, outcome: Outcome, lease: Lease, done: Done) -> Outcome:
    """The step that an agent is carrying out, if it is still one of this group's; nothing else goes there now."""
    outcome = replace(outcome, leased=True)
    if lease.group_id == scene.policy.group_id:
        places = [place for place, s in enumerate(outcome.lack.newer) if s.guid == lease.end_guid]
        todo = outcome.lack.newer[: places[0] + 1] if places else outcome.lack.newer
        wish = wish_of(course, outcome, todo)
        above = _above(scene, outcome, done)
        steps = chain(scene, wish, route(scene, wish, pinned=lease.source), above.after, None).steps
        token = outcome.held.replica.resume_token if outcome.held else None
        if token:
            steps = continued(scene, course, outcome, token).steps
        for step in steps:
            if step.action_id == lease.action_id:
                return replace(outcome, steps=(replace(step, lease=lease),))
    site = scene.site(lease.executor)
    worker = site.host if site else "a member of another group"
    return replace(outcome, reasons=(f"{worker} is working on {lease.target_dataset} now",))


# --- what is new -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Above:
    """What a new dataset needs above it."""

    missing: tuple[tuple[str, str], ...] = ()  # path and name of each dataset to make, the outermost first
    after: str | None = None  # the action_id of the stream that makes the one above those
    waits: str | None = None  # why the dataset above can't be made yet


def _above(scene: Scene, outcome: Outcome, done: Done) -> _Above:
    """The parents that the target lacks: one with snapshots of its own comes by its own stream, or not yet.

    Below a volume there can be nothing (zfsconcepts(7)), although its name is that of a filesystem elsewhere.
    """
    target = outcome.site
    missing: list[tuple[str, str]] = []
    after: str | None = None
    for name in ancestors(target.dataset(outcome.path)) if outcome.held is None else ():
        path = path_of(target.member, name)
        above = done.get((path, target.id)) if path is not None else None
        known = target.member.replicas.get(name)
        if known is not None and known.kind == "volume":
            way_out = (
                f"rename it, so that a filesystem can take its place: zfs rename {quote(name)} {quote(f'{name}-apart')}"
            )
            return _Above(waits=f"{name} on {target.host} is a volume, and nothing can lie below one; {way_out}")
        if name in target.existing and not (above and above.is_partial):
            continue
        make = next((step for step in above.steps if step.type in ("create", "resume")), None) if above else None
        if make is not None and make.kind == "volume":
            return _Above(waits=f"{name} comes as a volume, below which nothing can lie")
        if make is not None:
            after, missing = make.action_id, []
        elif above is not None and (above.lack.later or name in target.existing):
            return _Above(waits=f"{target.dataset(outcome.path)} waits for {name}, which can't be received yet")
        elif (group := _brought_by(scene, target, name)) is not None:
            return _Above(waits=f"{target.dataset(outcome.path)} waits for {name}, which the group {group} brings")
        else:
            missing.append((path or "", name))
    return _Above(tuple(missing), after)


def _brought_by(scene: Scene, target: Site, name: str) -> str | None:
    """The other group that receives a dataset on a target, so that it may not be made empty there."""
    for policy, held in sent_by_others(scene, target, name):
        if any(selects(policy.snapshot_include, policy.snapshot_exclude, each.name) for each in held.snapshots):
            return policy.name
    return None


def _brought(scene: Scene, course: Course, outcome: Outcome, done: Done) -> Outcome:
    """The streams that bring what is lacking, with the parents it needs, and what has to be left out."""
    above = _above(scene, outcome, done)
    told = told_to_rename(scene, course, outcome.site)
    if told is not None and above.waits is None and course.leader.barred(course.path) is None:
        made, refused = admitted(scene, parents(scene, outcome.site, course.leader, above.missing, above.after))
        return replace(outcome, steps=made, reasons=(told, *(skip.reason for skip in refused)))
    problem = told or _impossible(outcome) or above.waits
    if problem is not None:
        return replace(outcome, reasons=(problem,))
    blocked = obstacles(outcome, outcome.lack.newer)
    todo = tuple(snapshot for snapshot in outcome.lack.newer if snapshot.guid not in blocked)
    wish = wish_of(course, outcome, todo)
    found, made, sent = _first_that_may(scene, wish, above)
    reasons = [*dict.fromkeys(blocked.values()), *left_out(sent)]
    brought = {snapshot.guid for step in sent.steps for snapshot in step.delivers}
    if not sent.stopped and any(snapshot.guid not in brought for snapshot in todo):
        reasons.append("; ".join(found.refusals) or _why_not(course, outcome))
    steps = made + sent.steps if sent.steps else ()
    return replace(outcome, steps=steps, reasons=tuple(reasons), failed=sent.failed)


def _first_that_may(scene: Scene, wish: Wish, above: _Above) -> tuple[Route, tuple[Step, ...], Chain]:
    """The best route, the parents it needs, and its steps; another source where the best one has just failed."""
    failed: list[str] = []
    first: tuple[Route, tuple[Step, ...], Chain] | None = None
    while True:
        found = route(scene, wish, without=failed)
        made, sent = _prepared(scene, wish, found, above)
        first = first or (found, made, sent)
        if sent.steps:
            return found, made, sent
        if not sent.failed:
            return first
        failed.append(found.legs[0].source.id)


def _prepared(scene: Scene, wish: Wish, found: Route, above: _Above) -> tuple[tuple[Step, ...], Chain]:
    """The steps of a route, after those of the parents that it needs."""
    if not found.legs:
        return (), Chain(())
    needed = parents(scene, wish.target, found.legs[0].source, above.missing, above.after)
    made, refused = admitted(scene, needed)
    if refused:
        return made, Chain((), refused[0].reason, failed=True)
    room = room_for(wish.target, wish.target.dataset(wish.path))
    return made, chain(scene, wish, found, made[-1].action_id if made else above.after, room)


def _impossible(outcome: Outcome) -> str | None:
    """Why nothing at all can be received as this dataset."""
    target, dataset = outcome.site, outcome.site.dataset(outcome.path)
    problem = name_problem(dataset)
    if problem is not None:
        return f"{dataset} can't be a dataset on {target.host}: {problem}"
    if outcome.held is None and dataset in target.existing:
        return f"{dataset} exists on {target.host}, but its inventory does not list it"
    if isinstance(outcome.relation, Empty):
        what = f"{dataset} exists on {target.host} without any snapshot, so a full stream can't be received there"
        if "/" not in dataset:
            return f"{what}: it is a pool, so give the member a root inside it"
        below = any(name.startswith(f"{dataset}/") for name in target.existing)
        written = outcome.held.replica.written if outcome.held is not None else None
        is_empty = written is not None and written < HOLDS_SOMETHING_BYTES
        way_out = _RENAME_WITH if below else _DESTROY if is_empty else _RENAME
        return f"{what}: {way_out}, and it will be made anew; or give the member another root"
    return None


_DESTROY = "rename or destroy it"
_RENAME = "rename it"
_RENAME_WITH = "rename it (what lies below moves along, and gets its name back afterwards)"


def _why_not(course: Course, outcome: Outcome) -> str:
    """Why no member can bring what is lacking."""
    target, dataset = outcome.site, outcome.site.dataset(outcome.path)
    if isinstance(outcome.relation, Unclear):
        return unclear(outcome, outcome.relation)
    barred = course.leader.barred(outcome.path)
    if barred is not None:
        return f"{barred}; no other member has what {target.host} could receive"
    return f"no member that may send has both what {target.host} has of {dataset} and something newer"
