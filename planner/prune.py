"""Which snapshots and bookmarks may go, as far as the other members are concerned, and which must stay and for whom.

A snapshot is needed when it is the newest one that any two members share, when a transfer that is planned,
running or broken off starts or ends with it, when it has holds or clones, and when it is the last copy of
anything the group wants. Other groups with the same systems count too. Of several copies that nothing else keeps,
one member is named to keep its own, so that hosts that prune in the same minute don't drop them all. Members that
are away count with what they last reported. What is not known is needed, and what is known by its name only is never
judged by it. A bookmark is needed when it is of such a base, or while any member has never said what it has.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.credits import apply_credits
from planner.encryption import relation
from planner.globs import selects
from planner.histories import Empty, FastForward, History, Mark, Relation, Unrelated, history, is_certain
from planner.model import Bookmark, Member, Plan, Policy, Snapshot, Step, Verdict, Work
from planner.names import own_bookmark
from planner.outlines import is_level
from planner.paths import is_internal, is_set_aside, name_before, path_of
from planner.resume import decode_resume_token
from planner.sites import is_fresh


@dataclass(frozen=True, slots=True)
class _Copy:
    """One member's history of a dataset."""

    member: Member
    history: History
    imported: bool  # False: what its pool held when it was last there
    counts: bool  # reported lately, so that it may stand in for another copy

    @property
    def system(self) -> str:
        return self.member.system_id


@dataclass(frozen=True, slots=True)
class _Need:
    reason: str
    by: str | None = None  # a system_id
    is_chosen: bool = False  # by one group's plan, or as its keeper: another group may choose otherwise


@dataclass(slots=True)
class _Needs:
    """Why snapshots must stay: by system and guid, in one dataset."""

    found: dict[tuple[str, str], list[_Need]] = field(default_factory=dict)

    def add(
        self, system: str | None, guid: str | None, reason: str, by: str | None = None, is_chosen: bool = False
    ) -> None:
        if system is not None and guid is not None:
            self.found.setdefault((system, guid), []).append(_Need(reason, by, is_chosen))

    def add_all(self, places: Iterable[tuple[str, str, "_Elsewhere"]]) -> None:
        """What other groups need of datasets, given as system, dataset and their needs."""
        for system, dataset, elsewhere in places:
            for guid, need in elsewhere.get((system, dataset), ()):
                self.found.setdefault((system, guid), []).append(need)

    def of(self, system: str, guid: str) -> list[_Need]:
        return self.found.get((system, guid), [])


_Elsewhere = Mapping[tuple[str, str], Sequence[tuple[str, _Need]]]  # by system and dataset: guid and why


@dataclass(frozen=True, slots=True)
class _Case:
    """One dataset of the group on all members, and all that its snapshots are judged by."""

    policy: Policy
    copies: Sequence[_Copy]
    needs: _Needs
    stop: _Need | None  # why nothing of it may go
    pruned: frozenset[str]  # guids that the hub once had and has no more
    clones: Mapping[tuple[str, str], str]  # by system and the snapshot's full name
    unheard: Sequence[Member]  # members that have never said what they have
    selected: dict[str, bool]  # whether the group chooses snapshots of a name, as far as asked
    keepers: dict[str, _Copy | None] = field(default_factory=dict)  # by guid, as far as asked

    def wants(self, snapshot: Snapshot) -> bool:
        name = snapshot.name
        if name not in self.selected:
            self.selected[name] = selects(self.policy.snapshot_include, self.policy.snapshot_exclude, name)
        return self.selected[name] and snapshot.guid not in self.pruned


def prunable(policy: Policy, members: Sequence[Member], work: Work, plan: Plan, now: float) -> tuple[Verdict, ...]:
    """A verdict on every snapshot of the group's datasets: by system as configured, dataset, oldest first.

    `plan` is the group's plan for the same members and work.
    """
    return tuple(
        _verdict(snapshot, copy, case)
        for copy, case in _cases(policy, members, work, plan, now)
        for snapshot in copy.history.snapshots
    )


def prunable_bookmarks(
    policy: Policy, members: Sequence[Member], work: Work, plan: Plan, now: float
) -> tuple[Verdict, ...]:
    """The same of every bookmark, whoever made it."""
    return tuple(
        _bookmark_verdict(mark, copy, case)
        for copy, case in _cases(policy, members, work, plan, now)
        for mark in copy.history.replica.bookmarks
    )


def _cases(
    policy: Policy, members: Sequence[Member], work: Work, plan: Plan, now: float
) -> Iterator[tuple[_Copy, _Case]]:
    """Every copy in a pool that is there, with what it is judged by; systems as configured, then by dataset."""
    places = {system: place for place, system in enumerate(policy.order)}
    ordered = sorted(apply_credits(members, work), key=lambda m: (places.get(m.system_id, len(places)), m.system_id))
    steps: dict[str, list[Step]] = {}
    for step in plan.steps:
        steps.setdefault(step.path, []).append(step)
    hosts = {member.system_id: member.hostname for member in ordered}
    clones = _clones(ordered)
    stops = _unaccepted(ordered, work)
    elsewhere = _needed_elsewhere(work, now)
    known = {member.system_id: member for each in work.neighbours for member in each.members}
    known.update({member.system_id: member for member in ordered})
    unheard = [known[system_id] for system_id in sorted(known) if known[system_id].reported_at is None]
    found: dict[tuple[str, str], tuple[_Copy, _Case]] = {}
    selected: dict[str, bool] = {}
    by_path = _copies_by_path(policy, ordered, now)
    moved = _copies_by_path(policy, ordered, now, set_aside=True)
    named = _OtherNames(by_path)
    for path, copies in by_path.items():
        needs = _needs(path, copies, work, steps.get(path, ()), hosts)
        _need_for_moved(needs, copies, moved.get(path, ()))
        named.add_needs(needs, copies)
        needs.add_all((copy.system, copy.history.replica.dataset, elsewhere) for copy in copies)
        _need_for_newcomers(needs, copies, ordered)
        stop = stops.get(path) or _unreadable(copies)
        case = _Case(policy, copies, needs, stop, _pruned_on_the_hub(policy, copies, work), clones, unheard, selected)
        found.update({(copy.system, copy.history.replica.dataset): (copy, case) for copy in copies if copy.imported})
    keys = ((member.system_id, dataset) for member in ordered for dataset in sorted(member.replicas))
    return iter([found[key] for key in keys if key in found])


def _copies_by_path(
    policy: Policy, members: Iterable[Member], now: float, set_aside: bool = False
) -> dict[str, list[_Copy]]:
    """What the members have of each dataset; or what was set aside, or moved along with that, by its name before."""
    copies: dict[str, list[_Copy]] = {}
    chosen: dict[str, bool] = {}
    for member in members:
        counts = is_fresh(policy, member, now)
        for name, replica in {**member.absent, **member.replicas}.items():
            if is_internal(name) or is_set_aside(name) != set_aside:
                continue
            path = path_of(member, name_before(name) if set_aside else name)
            if path is None:
                continue
            if path not in chosen:
                chosen[path] = selects(policy.include, policy.exclude, path)
            if chosen[path]:
                imported = name in member.replicas
                copies.setdefault(path, []).append(_Copy(member, history(replica), imported, counts and imported))
    return copies


def _clones(members: Iterable[Member]) -> dict[tuple[str, str], str]:
    """The clones of snapshots, the first by name of several: a snapshot that has one can't be destroyed."""
    return {
        (member.system_id, replica.origin): name
        for member in members
        for name, replica in sorted({**member.absent, **member.replicas}.items(), reverse=True)
        if replica.origin
    }


# --- what is needed ------------------------------------------------------------------------------


def _needs(path: str, copies: Sequence[_Copy], work: Work, steps: Iterable[Step], hosts: Mapping[str, str]) -> _Needs:
    needs = _Needs()
    for copy in copies:
        for other in copies:
            if other is not copy:
                _need_common(needs, copy, other)
        _need_resumable(needs, copy, copies)
    for step in steps:
        _need_planned(needs, step, hosts.get(step.target, step.target))
    for lease in work.leases:
        for system, dataset in ((lease.source, lease.source_dataset), (lease.target, lease.target_dataset)):
            if any(copy.system == system and copy.history.replica.dataset == dataset for copy in copies):
                for guid in (lease.base_guid, lease.end_guid):
                    needs.add(system, guid, "a transfer that is running needs it", lease.target)
    for decision in work.decisions:
        if decision.path == path:
            for loser in decision.losers:
                for copy in copies:
                    needs.add(copy.system, loser.base_guid, "resolving a conflict starts from it", loser.system_id)
    return needs


def _need_for_moved(needs: _Needs, copies: Iterable[_Copy], moved: Iterable[_Copy]) -> None:
    """What is shared with a dataset that was set aside, or moved along: once it has its name back, it goes on."""
    for one in moved:
        others = [copy for copy in copies if copy.system != one.system]
        for copy in others:
            _need_common(needs, copy, one)
            _need_common(needs, one, copy)
        _need_resumable(needs, one, others)


def _needed_elsewhere(work: Work, now: float) -> _Elsewhere:
    """What the members of other groups need of the systems that they share with this one."""
    found: dict[tuple[str, str], list[tuple[str, _Need]]] = {}
    for each in work.neighbours_in_order:
        theirs = replace(work, decisions=each.decisions)
        members = sorted(apply_credits(each.members, work), key=lambda member: member.system_id)
        clones, stops = _clones(members), _unaccepted(members, work)
        selected: dict[str, bool] = {}
        by_path = _copies_by_path(each.policy, members, now)
        moved = _copies_by_path(each.policy, members, now, set_aside=True)
        named = _OtherNames(by_path)
        for path, copies in by_path.items():
            needs = _needs(path, copies, theirs, (), {})
            _need_for_moved(needs, copies, moved.get(path, ()))
            named.add_needs(needs, copies)
            if stop := stops.get(path) or _unreadable(copies):
                _need_all(needs, copies, stop)
            _need_for_newcomers(needs, copies, members)
            pruned = _pruned_on_the_hub(each.policy, copies, work)
            _need_kept_copies(_Case(each.policy, copies, needs, None, pruned, clones, (), selected))
            for copy in copies:
                for (system, guid), reasons in needs.found.items():
                    if system == copy.system:
                        where = f", in the group {each.policy.name}"
                        told = [(guid, replace(need, reason=need.reason + where)) for need in reasons]
                        found.setdefault((system, copy.history.replica.dataset), []).extend(told)
    return found


def _need_all(needs: _Needs, copies: Iterable[_Copy], stop: _Need) -> None:
    for copy in copies:
        for guid in {**copy.history.places, **copy.history.marks}:
            needs.add(copy.system, guid, stop.reason, stop.by)


def _need_for_newcomers(needs: _Needs, copies: Iterable[_Copy], members: Iterable[Member]) -> None:
    """Everything, for a system that has called and is about to report: any of it may be all that it shares."""
    for member in members:
        if member.reported_at is None and member.last_seen_at is not None:
            _need_all(needs, copies, _Need(f"what {member.hostname} has is not known yet", member.system_id))


def _need_kept_copies(case: _Case) -> None:
    """What a group wants stays with the one that keeps it there: the others may let theirs go."""
    for copy in case.copies:
        for snapshot in copy.history.snapshots:
            if not case.wants(snapshot) or _firm_needs(snapshot, copy, case):
                continue  # what must stay anyway needs no choice
            if _keeper(snapshot, case) in (None, copy):
                case.needs.add(copy.system, snapshot.guid, "no other system keeps a copy", copy.system, is_chosen=True)


def _need_common(needs: _Needs, copy: _Copy, other: _Copy) -> None:
    """The newest that both have: the next increment starts from it. Raw ones need the same IV set too.

    The other side may have kept only a bookmark of it.
    """
    for raw in (False, True):
        for shared in _newest_shared(copy.history, other.history, raw):
            for one, for_whom in ((copy, other), (other, copy)):
                reason = f"it is the newest snapshot shared with {for_whom.member.hostname}"
                needs.add(one.system, shared, reason, for_whom.system)


class _OtherNames:
    """What members that lack a dataset share with it under another name: one that was renamed goes on from there."""

    def __init__(self, by_path: Mapping[str, Sequence[_Copy]]) -> None:
        self._copies: dict[str, list[_Copy]] = {}
        self._found: dict[str, dict[str, _Copy]] = {}
        for copy in (copy for _, copies in sorted(by_path.items()) for copy in copies):
            self._copies.setdefault(copy.system, []).append(copy)

    def add_needs(self, needs: _Needs, copies: Sequence[_Copy]) -> None:
        """The newest such snapshot of each copy, and each such bookmark."""
        there = {copy.system: copy for copy in copies}
        for system in sorted(self._copies):
            known = self._by_guid(system)
            for copy in copies:
                under_its_name = there.get(system)
                if under_its_name is not None and (under_its_name is copy or _share(copy, under_its_name)):
                    continue
                newest = next((s.guid for s in reversed(copy.history.snapshots) if s.guid in known), None)
                for guid in dict.fromkeys((newest, *copy.history.marks)):
                    if guid is not None and (other := known.get(guid)) is not None:
                        where = f"{other.history.replica.dataset} on {other.member.hostname}"
                        needs.add(copy.system, guid, f"it is the newest snapshot shared with {where}", system)

    def _by_guid(self, system: str) -> Mapping[str, _Copy]:
        if system not in self._found:
            self._found[system] = {
                guid: copy for copy in self._copies[system] for guid in (*copy.history.places, *copy.history.marks)
            }
        return self._found[system]


def _share(one: _Copy, other: _Copy) -> bool:
    return next(_newest_shared(one.history, other.history, raw=False), None) is not None


def _newest_shared(one: History, other: History, raw: bool) -> Iterator[str]:
    """The newest that both have; also the one before, where that is a bookmark of which it is not known what came after
    it, so that no plan goes by it."""
    if one.replica.newest is not None and is_level(one.replica, other.replica):
        yield one.replica.newest.guid
        return
    for snapshot in reversed(one.snapshots):
        mark = other.find(snapshot.guid) if is_certain(snapshot) else None
        if mark is not None and not (raw and snapshot.ivsetguid != mark.ivsetguid):
            yield snapshot.guid
            if other.after(mark) is not None:
                return


def _need_resumable(needs: _Needs, copy: _Copy, copies: Sequence[_Copy]) -> None:
    token = decode_resume_token(copy.history.replica.resume_token or "")
    if token is not None:
        for holder in copies:
            for guid in (token.to_guid, token.from_guid):
                reason = f"the transfer to {copy.member.hostname} that broke off goes on with it"
                needs.add(holder.system, guid, reason, copy.system)


def _need_planned(needs: _Needs, step: Step, target_host: str) -> None:
    base, end = (mark.guid if mark is not None else None for mark in (step.base, step.end))
    if step.type in ("create", "sync", "resume"):
        reason = f"the next transfer to {target_host} needs it"
        for guid in (base, end, *(snapshot.guid for snapshot in step.delivers)):
            needs.add(step.source, guid, reason, step.target, is_chosen=True)
        needs.add(step.target, base, reason, step.target, is_chosen=True)
    else:
        needs.add(step.target, end, f"a planned {step.type} needs it", step.target, is_chosen=True)


def _unaccepted(members: Iterable[Member], work: Work) -> dict[str, _Need]:
    """The paths of which one member lost much at once: until an admin accepts that, nothing of them goes anywhere."""
    stops: dict[str, _Need] = {}
    by_id = {member.system_id: member for member in members}
    for guard in work.guards:
        member = by_id.get(guard.system_id)
        path = path_of(member, guard.dataset) if member is not None else None
        if member is not None and path is not None:
            what = f"{member.hostname} lost many snapshots of {guard.dataset} at once"
            stops[path] = _Need(f"{what}: an admin must accept that first", member.system_id)
    return stops


def _unreadable(copies: Iterable[_Copy]) -> _Need | None:
    """What stops every deletion in a dataset when a broken transfer doesn't say what it goes on with."""
    for copy in copies:
        text = copy.history.replica.resume_token
        if text and decode_resume_token(text) is None:
            what = f"what the transfer to {copy.member.hostname} that broke off goes on with is not known"
            return _Need(f"{what}: its resume token can't be read", copy.system)
    return None


# --- the verdict on one snapshot -----------------------------------------------------------------


def _verdict(snapshot: Snapshot, copy: _Copy, case: _Case) -> Verdict:
    needs = _firm_needs(snapshot, copy, case)
    keeper = _keeper(snapshot, case) if case.wants(snapshot) else None
    if case.wants(snapshot) and keeper in (None, copy) and not needs:
        needs.append(_last_need(snapshot, copy, case))
    by = {need.by for need in needs if need.by is not None}
    mine = [each.system for each in case.copies]
    return Verdict(
        system_id=copy.system,
        dataset=copy.history.replica.dataset,
        snapshot=snapshot,
        needed=bool(needs),
        reason="; ".join(dict.fromkeys(need.reason for need in needs)) or _why_it_may_go(keeper),
        needed_by=(*(system for system in mine if system in by), *sorted(by.difference(mine))),
    )


def _bookmark_verdict(mark: Bookmark, copy: _Copy, case: _Case) -> Verdict:
    needs = [case.stop] if case.stop is not None else []
    needs += case.needs.of(copy.system, mark.guid)
    needs += [_Need(f"what {member.hostname} has is not known yet", member.system_id) for member in case.unheard]
    by = [need.by for need in needs]
    return Verdict(
        system_id=copy.system,
        dataset=copy.history.replica.dataset,
        snapshot=mark,
        needed=bool(needs),
        reason="; ".join(dict.fromkeys(need.reason for need in needs)) or "no transfer starts from it",
        needed_by=tuple(dict.fromkeys(system for system in by if system is not None)),
    )


def is_own(mark: Mark) -> bool:
    """Whether it is a bookmark that a plan had made."""
    return isinstance(mark, Bookmark) and bool(mark.guid) and mark.name == own_bookmark(mark.guid)


def _firm_needs(snapshot: Snapshot, copy: _Copy, case: _Case) -> list[_Need]:
    """Why a copy must stay, whatever other copies there are."""
    needs = [case.stop] if case.stop is not None else []
    return [*needs, *case.needs.of(copy.system, snapshot.guid), *_own_needs(snapshot, copy, case.clones)]


def _keeper(snapshot: Snapshot, case: _Case) -> _Copy | None:
    """Who keeps a snapshot so that others may let it go: one, or else all might in the same minute.

    Every group with the same systems must find the same, or each would leave it to the other's. Of those that reported
    lately, one that must keep it anyway, whatever any group plans; then the hub; then the first as configured. One that
    has it under a name which the group does not want keeps it for nobody.
    """
    if snapshot.guid not in case.keepers:
        case.keepers[snapshot.guid] = _chosen_keeper(snapshot, case)
    return case.keepers[snapshot.guid]


def _chosen_keeper(snapshot: Snapshot, case: _Case) -> _Copy | None:
    found: list[tuple[bool, bool, int]] = []
    for place, copy in enumerate(case.copies):
        held = copy.history.get(snapshot.guid) if copy.counts else None
        if held is not None:
            must = any(not need.is_chosen for need in _firm_needs(held, copy, case))
            if must or case.wants(held):
                found.append((not must, copy.system != case.policy.hub, place))
    return case.copies[min(found)[2]] if found else None


def _last_need(snapshot: Snapshot, copy: _Copy, case: _Case) -> _Need:
    """Why the one keeps it that nothing else obliges to."""
    others = [
        c.member.hostname for c in case.copies if c is not copy and snapshot.guid in c.history.places and c.counts
    ]
    if not others:
        return _Need("the group wants it, and no other system that reported lately has a copy")
    who = "the hub" if copy.system == case.policy.hub else copy.member.hostname
    return _Need(f"{who} keeps the copy that lets {' and '.join(others)} let theirs go")


def _own_needs(snapshot: Snapshot, copy: _Copy, clones: Mapping[tuple[str, str], str]) -> Iterator[_Need]:
    if not is_certain(snapshot):
        yield _Need("it was reported without its guid, and a name is not enough to tell what it is")
    if snapshot.userrefs is None:
        yield _Need("whether it has holds is not known: the agent must report the column userrefs")
    elif snapshot.userrefs:
        yield _Need("it has holds", copy.system)
    clone = clones.get((copy.system, f"{copy.history.replica.dataset}@{snapshot.name}"))
    if clone is not None:
        yield _Need(f"{clone} is a clone of it", copy.system)


def _why_it_may_go(keeper: _Copy | None) -> str:
    if keeper is None:
        return "no transfer needs it, and the group does not want it"
    return f"no transfer needs it, and {keeper.member.hostname} keeps a copy"


def let_go_by_hub(policy: Policy, dataset: str, work: Work) -> frozenset[str]:
    """The guids that the hub once reported of a dataset and, while it was the hub, later did not: a spoke lets go of
    what others have to keep."""
    return frozenset(work.gone.guids(policy.hub, dataset, hub_of=policy.group_id) if policy.hub is not None else ())


def _pruned_on_the_hub(policy: Policy, copies: Sequence[_Copy], work: Work) -> frozenset[str]:
    """What the hub once had of a dataset and has no more, so that a group that mirrors it no longer wants it.

    A dataset of which the hub has nothing left was not pruned: it was destroyed, renamed or made anew. Nor was what a
    copy has beyond what it shares with the hub, if the two are apart: there the hub went back, or began anew.
    """
    hub = next((copy for copy in copies if copy.system == policy.hub), None)
    if policy.delete != "mirror" or hub is None or not hub.history.places:
        return frozenset()
    gone = let_go_by_hub(policy, hub.history.replica.dataset, work) - hub.history.places.keys()
    for copy in copies if gone else ():
        gone -= _beyond(relation(policy, hub.history, copy.history), copy)
    return gone


def _beyond(stands: Relation, copy: _Copy) -> frozenset[str]:
    """What a copy has on top of what it shares with the hub, unless that is known to be empty."""
    match stands:
        case FastForward() | Empty():
            return frozenset()
        case Unrelated():
            return frozenset(copy.history.places)
    return frozenset(snapshot.guid for snapshot in stands.common.own)
