"""What one member lacks of a dataset, and the steps that would bring it, or why there are none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from planner.admission import admitted, failure_of
from planner.encryption import Form, form_for_replica
from planner.globs import selects
from planner.histories import (
    Ahead,
    Common,
    Diverged,
    Empty,
    FastForward,
    History,
    Relation,
    Unclear,
    history,
    is_certain,
    relate,
)
from planner.leaders import Course, is_apart
from planner.model import Lease, Replica, ResumeToken, Snapshot, Step
from planner.names import name_problem
from planner.other_names import told_to_rename
from planner.outlines import names_in, names_of, reach
from planner.paths import ancestors, dataset_of, path_of
from planner.resume import decode_resume_token
from planner.sites import Scene, Site
from planner.sources import Route, Wish, ranked, route
from planner.streams import full, increments
from planner.transfers import (
    Chain,
    abort,
    above_of,
    can_continue,
    chain,
    continued_elsewhere,
    no_room_for_rest,
    parents,
    resumption,
    room_for,
    undroppable,
)


@dataclass(frozen=True, slots=True)
class Lack:
    """What a member lacks of what is wanted, oldest first."""

    newer: tuple[Snapshot, ...] = ()  # than the newest common one: they can still be received
    older: tuple[Snapshot, ...] = ()  # they can't be received any more
    size_bytes: int | None = 0  # of the streams that would bring `newer`
    later: bool = False  # the group chooses some of it, be it too young to be sent
    is_tail: bool = False  # known: what is there is the very beginning of the leading history


@dataclass(frozen=True, slots=True)
class Outcome:
    """What planning came to for one dataset on one member."""

    path: str
    site: Site
    relation: Relation | None = None  # to the leading history; None: the dataset is not here
    lack: Lack = Lack()
    steps: tuple[Step, ...] = ()
    reasons: tuple[str, ...] = ()  # why there are no steps, or not all
    apart: bool = False  # no increment can be received here, from whomever
    failed: bool = False
    leased: bool = False
    by_choice: bool = False  # held back by what somebody set: paused, disabled, a closed window, a decision
    is_source: bool = False

    @property
    def common(self) -> Common | None:
        """What this member's history shares with the leading one."""
        if isinstance(self.relation, FastForward | Ahead | Diverged | Unclear):
            return self.relation.common
        return None

    @property
    def is_partial(self) -> bool:
        """Whether the dataset is only the beginning of a full stream that broke off: it may go again."""
        return self.held is not None and bool(self.held.replica.resume_token) and self.held.replica.newest is None

    @property
    def held(self) -> History | None:
        """What this member has of the dataset."""
        return self.site.histories.get(self.path)


Done = Mapping[tuple[str, str], Outcome]  # by path and system_id


def consider(scene: Scene, course: Course, target: Site, hold: str | None, done: Done) -> Outcome:
    """What a member should get of a dataset. `hold` says why nothing may go there; `done` has what lies above it."""
    path = course.path
    held = target.histories.get(path)
    relation = _relation(scene, course, held)
    outcome = Outcome(path, target, relation, _lack(scene, course, Outcome(path, target, relation)))
    token = held.replica.resume_token if held else None
    lease = scene.lease_on(target, path)
    unfit = target.unfit(path)
    if not outcome.lack.newer and not token and not is_apart(relation):
        return replace(outcome, reasons=(unfit,) if unfit else ())
    outcome = replace(outcome, apart=_is_apart(scene, course, outcome))
    if lease is not None:
        return _in_progress(scene, course, outcome, lease, done)
    chosen = _held_back(scene, outcome, hold)
    if chosen is not None:
        return replace(outcome, reasons=(chosen,), by_choice=True)
    if unfit is not None:
        return replace(outcome, reasons=(unfit,))
    if token:
        return _continued(scene, course, outcome, token)
    blocked = _blocked(course, outcome)
    if blocked is not None:
        return replace(outcome, reasons=(blocked,))
    return _brought(scene, course, outcome, done)


def _relation(scene: Scene, course: Course, held: History | None) -> Relation | None:
    if held is None:
        return None
    form = form_for_replica(scene.policy, course.lead, held)
    return relate(course.lead, held, isinstance(form, Form) and form.strict)


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
    place = (outcome.site.id, outcome.site.dataset(outcome.path))
    return (*place, snapshot.guid) in scene.pruned and place not in scene.guarded


def _total(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _wish(course: Course, outcome: Outcome, todo: tuple[Snapshot, ...]) -> Wish:
    target, dataset = outcome.site, outcome.site.dataset(outcome.path)
    above = above_of(target, dataset.rpartition("/")[0])
    start = outcome.held or history(Replica(dataset))
    return Wish(outcome.path, target, start, todo, course.leader, above.encryption if above else None)


def _is_apart(scene: Scene, course: Course, outcome: Outcome) -> bool:
    """Whether neither the leading history nor that of another member can go on here."""
    return is_apart(outcome.relation) and not route(scene, _wish(course, outcome, outcome.lack.newer)).legs


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


def _blocked(course: Course, outcome: Outcome) -> str | None:
    """Why nothing can be sent here until a conflict is resolved."""
    target = outcome.site
    if outcome.apart:
        return _apart_reason(course, outcome)
    if course.contested is not None and (outcome.held is None or outcome.held.replica.newest is None):
        return course.contested
    if course.diverged:
        return f"the histories of {target.dataset(outcome.path)} on the other members have diverged: see the conflict"
    return None


def _apart_reason(course: Course, outcome: Outcome) -> str:
    dataset, leader = outcome.site.dataset(outcome.path), course.leader
    common = outcome.common
    if common is None:
        return f"{dataset} on {outcome.site.host} has no snapshot in common with {leader.host}: see the conflict"
    since = common.at_target.name
    return f"{dataset} on {outcome.site.host} was written to since {since}, the last it shares: see the conflict"


# --- a transfer that runs, or broke off ------------------------------------------------------------


def _in_progress(scene: Scene, course: Course, outcome: Outcome, lease: Lease, done: Done) -> Outcome:
    """The step that an agent is carrying out, if it is still one of this group's; nothing else goes there now."""
    outcome = replace(outcome, leased=True)
    if lease.group_id == scene.policy.group_id:
        places = [place for place, s in enumerate(outcome.lack.newer) if s.guid == lease.end_guid]
        todo = outcome.lack.newer[: places[0] + 1] if places else outcome.lack.newer
        wish = _wish(course, outcome, todo)
        above = _above(scene, outcome, done)
        steps = chain(scene, wish, route(scene, wish, pinned=lease.source), above.after, None).steps
        token = outcome.held.replica.resume_token if outcome.held else None
        if token:
            steps = _continued(scene, course, outcome, token).steps
        for step in steps:
            if step.action_id == lease.action_id:
                return replace(outcome, steps=(replace(step, lease=lease),))
    site = scene.site(lease.executor)
    worker = site.host if site else "a member of another group"
    return replace(outcome, reasons=(f"{worker} is working on {lease.target_dataset} now",))


def _continued(scene: Scene, course: Course, outcome: Outcome, text: str) -> Outcome:
    """The rest of a stream that broke off, then what is newer; or dropping what nobody can continue.

    While there is a partial state, nothing else can be received.
    """
    path, target = outcome.path, outcome.site
    token = decode_resume_token(text)
    if token is None:
        reason = f"holds the beginning of a transfer that can't be read: zfs receive -A {target.dataset(path)} drops it"
        return replace(outcome, reasons=(f"{target.dataset(path)} on {target.host} {reason}",))
    holders = [site for site in scene.sites if site is not target and can_continue(site.histories.get(path), token)]
    able = [site for site, _ in ranked(scene, path, target, course.leader) if site in holders]
    if not able and holders:
        return replace(outcome, reasons=(f"{holders[0].barred(path)}, and it alone can continue a transfer",))
    if not able:
        problem = _undroppable(scene, outcome, token)
        if problem is not None:
            return replace(outcome, reasons=(problem,))
        return _with_one(scene, outcome, abort(scene, path, target, token))
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
    blocked = _blocked(course, outcome)
    return replace(rest, reasons=(blocked,)) if blocked else _followed(scene, course, rest, source, token)


def _undroppable(scene: Scene, outcome: Outcome, token: ResumeToken) -> str | None:
    """Why what nobody in this group can continue stays all the same."""
    dataset = outcome.site.dataset(outcome.path)
    group = continued_elsewhere(scene, outcome.path, outcome.site, token)
    if group is not None:
        return f"{dataset} waits for a transfer of the group {group}"
    return undroppable(outcome.site.member, dataset) if outcome.is_partial else None


def _unfit_to_continue(outcome: Outcome, sent: History, token: ResumeToken) -> str | None:
    """Why the rest of a stream would be refused, although its source still has it."""
    held, end = outcome.held, sent.get(token.to_guid)
    for reason in obstacles(outcome, (end,) if end is not None else ()).values():
        return f"{reason}, so the transfer that broke off can't end: rename it"
    if token.from_guid is None or held is None:
        return None
    relation = relate(sent, held, token.raw)
    if isinstance(relation, Unclear):
        return _unclear(outcome, relation)
    if isinstance(relation, FastForward) and relation.common.at_source.guid == token.from_guid:
        return None
    dataset = outcome.site.dataset(outcome.path)
    reason = f"changed since a transfer into it broke off, so that can't go on: zfs receive -A {dataset} drops it"
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
    received = replace(
        held.replica,
        snapshots=(*held.snapshots, end if token.raw else replace(end, ivsetguid=None)),
        written=0,
        encryption=cipher if token.raw and not held.snapshots else held.replica.encryption,
    )
    newer = outcome.lack.newer
    if not held.snapshots and end.guid in course.lead.places:  # with `initial: newest`, more is wanted now than before
        newer = tuple(snapshot for snapshot in course.lead.after(end) or () if scene.wants(snapshot))
    places = [place for place, snapshot in enumerate(newer) if snapshot.guid == end.guid]
    todo = newer[places[0] + 1 :] if places else newer
    todo = tuple(snapshot for snapshot in todo if snapshot.guid not in obstacles(outcome, todo))
    wish = replace(_wish(course, outcome, todo), start=history(received))
    more = chain(scene, wish, route(scene, wish), outcome.steps[0].action_id, room_for(outcome.site, received.dataset))
    return replace(outcome, steps=outcome.steps + more.steps, reasons=_left_out(more))


def _left_out(rest: Chain) -> tuple[str, ...]:
    return (rest.stopped,) if rest.stopped else ()


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
            way_out = f"rename it, so that a filesystem can take its place: zfs rename {name} {name}-apart"
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
    for each in scene.work.neighbours:
        policy, members = each.policy, {member.system_id: member for member in each.members}
        path = path_of(members[target.id], name) if target.id in members else None
        if path is None or target.id == policy.hub or not policy.enabled:
            continue
        senders = [policy.hub] if policy.hub in members else [other for other in members if other != target.id]
        held = (members[sender].replicas.get(dataset_of(members[sender], path)) for sender in senders if sender)
        names = (snapshot.name for replica in held if replica is not None for snapshot in replica.snapshots)
        if selects(policy.include, policy.exclude, path) and any(
            selects(policy.snapshot_include, policy.snapshot_exclude, snapshot) for snapshot in names
        ):
            return policy.name
    return None


def _brought(scene: Scene, course: Course, outcome: Outcome, done: Done) -> Outcome:
    """The streams that bring what is lacking, with the parents it needs, and what has to be left out."""
    above = _above(scene, outcome, done)
    told = told_to_rename(scene, course, outcome.site)
    if told is not None and above.waits is None:
        made, refused = admitted(scene, parents(scene, outcome.site, course.leader, above.missing, above.after))
        return replace(outcome, steps=made, reasons=(told, *(skip.reason for skip in refused)))
    problem = told or _impossible(outcome) or above.waits
    if problem is not None:
        return replace(outcome, reasons=(problem,))
    blocked = obstacles(outcome, outcome.lack.newer)
    todo = tuple(snapshot for snapshot in outcome.lack.newer if snapshot.guid not in blocked)
    wish = _wish(course, outcome, todo)
    found, made, sent = _first_that_may(scene, wish, above)
    reasons = [*dict.fromkeys(blocked.values()), *_left_out(sent)]
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
        below = any(name.startswith(f"{dataset}/") for name in target.existing)
        return (
            f"{dataset} exists on {target.host} without any snapshot, so a full stream can't be received there: "
            f"{_RENAME if below else _DESTROY}, and it will be made anew; or give the member another root"
        )
    return None


_DESTROY = "rename or destroy it"
_RENAME = "rename it (what lies below moves along, and gets its name back afterwards)"


def obstacles(outcome: Outcome, todo: tuple[Snapshot, ...]) -> dict[str, str]:
    """Why single snapshots can't be received here, by guid; a stream can step over them."""
    if not todo:
        return {}
    target, dataset = outcome.site, outcome.site.dataset(outcome.path)
    taken: Collection[str] = ()
    if outcome.held is not None and not outcome.lack.is_tail:  # no name in a tail is there yet
        taken = names_in(outcome.held.replica)
    found: dict[str, str] = {}
    for snapshot in todo:
        problem = name_problem(f"{dataset}@{snapshot.name}")
        if snapshot.name in taken:
            found[snapshot.guid] = f"{dataset}@{snapshot.name} on {target.host} is another snapshot of that name"
        elif snapshot.name == "-":
            found[snapshot.guid] = f"a snapshot of {dataset} is named -, which stands for none: rename it"
        elif problem is not None:
            found[snapshot.guid] = f"{dataset}@{snapshot.name} can't be a name on {target.host}: {problem}"
    return found


def _why_not(course: Course, outcome: Outcome) -> str:
    """Why no member can bring what is lacking."""
    target, dataset = outcome.site, outcome.site.dataset(outcome.path)
    if isinstance(outcome.relation, Unclear):
        return _unclear(outcome, outcome.relation)
    barred = course.leader.barred(outcome.path)
    if barred is not None:
        return f"{barred}; no other member has what {target.host} could receive"
    return f"no member that may send has both what {target.host} has of {dataset} and something newer"


def _unclear(outcome: Outcome, relation: Unclear) -> str:
    dataset, host = outcome.site.dataset(outcome.path), outcome.site.host
    since = relation.common.at_target.name
    unknown = f"whether {dataset} on {host} was written to since {since} is not known"
    return f"{unknown}: its agent must report the column written"
