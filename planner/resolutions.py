"""The ways out of a conflict: whose history wins under each strategy, what would run, and what it would cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from shlex import quote

from planner.cases import Case
from planner.credits import apply_credits
from planner.encryption import is_cipher
from planner.globs import selects
from planner.histories import FastForward, Relation, Unclear, history, is_certain, newest_common
from planner.model import Conflict, Decision, Loser, Member, Option, Policy, Replica, Snapshot, Step, Strategy, Work
from planner.paths import dataset_of, path_of
from planner.progress import resolution_steps

__all__ = ["choose", "options", "resolution_steps"]

STRATEGIES: tuple[Strategy, ...] = ("use_newest", "use_largest", "use_majority", "manual", "ignore")


@dataclass(frozen=True, slots=True)
class _Holder:
    """A member with snapshots of the dataset in question."""

    member: Member
    replica: Replica
    head: Snapshot


def options(
    conflict: Conflict, policy: Policy, members: Sequence[Member], work: Work, now: float
) -> tuple[Option, ...]:
    """What each strategy would do, keeping what loses; manual stands for whomever a person names."""
    members, work = apply_credits(members, work), replace(work, credits=())
    holders = _holders(conflict.path, policy, members)
    found: list[Option] = []
    outcomes: dict[str, Option] = {}  # by winner: most rules choose the same one, and then do the same
    for strategy in STRATEGIES:
        choice = _choice(conflict, strategy, None, False, holders, members)
        if isinstance(choice, _Holder):
            winner = choice.member.system_id
            if winner not in outcomes:
                outcomes[winner] = _outcome(conflict, strategy, choice, False, policy, members, work, holders, now)
            choice = replace(outcomes[winner], strategy=strategy)
        found.append(choice)
    return tuple(found)


def choose(
    conflict: Conflict,
    strategy: Strategy,
    winner: str | None,
    discard: bool,
    policy: Policy,
    members: Sequence[Member],
    work: Work,
    now: float,
) -> Option:
    """What one strategy would do; `refused` says why it can't. `winner`, a system_id, counts for manual only."""
    members, work = apply_credits(members, work), replace(work, credits=())
    holders = _holders(conflict.path, policy, members)
    choice = _choice(conflict, strategy, winner, discard, holders, members)
    if isinstance(choice, Option):
        return choice
    return _outcome(conflict, strategy, choice, discard, policy, members, work, holders, now)


def _choice(
    conflict: Conflict,
    strategy: Strategy,
    winner: str | None,
    discard: bool,
    holders: Sequence[_Holder],
    members: Sequence[Member],
) -> _Holder | Option:
    """Who wins under a strategy; an option without steps where nobody does."""
    if strategy == "ignore":
        return _option(strategy, cost="Nothing is done, and nothing is said about it until the evidence changes.")
    if conflict.type == "missing":
        return _option(strategy, refused="nothing is to be chosen: the histories fit, and only snapshots are missing")
    if strategy == "manual" and winner is None:
        hosts = " or ".join(holder.member.hostname for holder in holders)
        return _option(strategy, cost=f"You say which system's history wins: {hosts}.")
    found = _winner(strategy, winner, conflict.path, holders, members)
    if isinstance(found, str):
        return _option(strategy, winner if strategy == "manual" else None, discard, refused=found)
    return found


def _option(
    strategy: Strategy,
    winner: str | None = None,
    discard: bool = False,
    cost: str = "",
    refused: str | None = None,
) -> Option:
    return Option(strategy, winner, discard, (), (), (), 0, 0, cost, refused)


def _holders(path: str, policy: Policy, members: Sequence[Member]) -> list[_Holder]:
    """Who has snapshots of the dataset: the hub, then as configured."""
    places = {system: place for place, system in enumerate(policy.order)}

    def rank(member: Member) -> tuple[bool, int, str]:
        return member.system_id != policy.hub, places.get(member.system_id, len(places)), member.system_id

    found: list[_Holder] = []
    for member in sorted(members, key=rank):
        replica = member.replicas.get(dataset_of(member, path))
        head = _head(replica) if replica is not None else None
        if replica is not None and head is not None:
            found.append(_Holder(member, replica, head))
    return found


def _head(replica: Replica) -> Snapshot | None:
    if replica.newest is None or is_certain(replica.newest):
        return replica.newest
    return next(filter(is_certain, reversed(replica.snapshots)), None)


# --- whose history wins --------------------------------------------------------------------------


def _winner(
    strategy: Strategy, named: str | None, path: str, holders: Sequence[_Holder], members: Sequence[Member]
) -> _Holder | str:
    """Who wins, or why that can't be said. Of several with the same head, the first."""
    if not holders:
        return "no member has a snapshot of it"
    match strategy:
        case "use_newest":
            return _greatest(holders, [holder.head.creation for holder in holders], "was made at the same second")
        case "use_largest":
            return _greatest(holders, [holder.head.referenced for holder in holders], "is of the same size")
        case "use_majority":
            return _most_frequent(holders)
    for holder in holders:
        if holder.member.system_id == named:
            return holder
    member = next((member for member in members if member.system_id == named), None)
    host = member.hostname if member is not None else named
    if member is not None and dataset_of(member, path) in member.absent:
        return f"the pool of {dataset_of(member, path)} is not in the inventory of {host}"
    return f"{host} has no snapshot of it that could win"


def _greatest(holders: Sequence[_Holder], values: Sequence[int | None], tie: str) -> _Holder | str:
    unknown = [holder.member.hostname for holder, value in zip(holders, values, strict=True) if value is None]
    if unknown:
        return f"{_and(unknown)} did not report what is compared: when the newest snapshot was made, and its size"
    top = max(value for value in values if value is not None)
    best = [holder for holder, value in zip(holders, values, strict=True) if value == top]
    if any(holder.head.guid != best[0].head.guid for holder in best):
        hosts = _and([holder.member.hostname for holder in best])
        return f"a tie: the newest snapshot of {hosts} {tie}"
    return best[0]


def _most_frequent(holders: Sequence[_Holder]) -> _Holder | str:
    followers: dict[str, list[_Holder]] = {}
    for holder in holders:
        followers.setdefault(holder.head.guid, []).append(holder)
    most = max(len(group) for group in followers.values())
    best = [group for group in followers.values() if len(group) == most]
    if len(best) > 1:
        sides = [_and([holder.member.hostname for holder in group]) for group in best]
        return f"a tie, {' to '.join(str(len(group)) for group in best)}: {' against '.join(sides)}"
    return best[0][0]


# --- what it comes to ----------------------------------------------------------------------------


def _outcome(
    conflict: Conflict,
    strategy: Strategy,
    winner: _Holder,
    discard: bool,
    policy: Policy,
    members: Sequence[Member],
    work: Work,
    holders: Sequence[_Holder],
    now: float,
) -> Option:
    at_odds = _losers(conflict, policy, winner, members, holders, now)
    losers = at_odds if discard else _able_to_move(at_odds, policy)
    decision = Decision(conflict.id, conflict.path, strategy, winner.member.system_id, discard, losers)
    others = replace(work, decisions=tuple(d for d in work.decisions if d.path != conflict.path))
    steps, skips = resolution_steps(decision, policy, members, others, now)
    lost, lost_bytes = _lost(losers, members) if discard else ((), 0)
    refused = skips[0].reason if skips else None
    away = (member for member in members if dataset_of(member, conflict.path) in member.absent)
    if not steps and refused is None and (there := next(away, None)) is not None:
        refused = f"the pool of {dataset_of(there, conflict.path)} is not in the inventory of {there.hostname}"
    if not steps and refused is None:
        host, dataset = winner.member.hostname, winner.replica.dataset
        refused = f"every other member can follow {host} as it is: there is nothing to resolve"
        if losers:
            refused = f"{host} has no newer snapshot of {dataset} that the group chooses: take one there"
    return Option(
        strategy,
        winner.member.system_id,
        discard,
        losers,
        steps,
        lost,
        lost_bytes,
        _send_bytes(steps),
        " ".join(
            [
                *(_cost(loser, winner, discard, steps, members) for loser in losers),
                *(f"{loser.dataset} is a pool, and stays as it is." for loser in at_odds if loser not in losers),
                *(_left_behind(losers, winner, members, work) if discard else ()),
                *_unsent(policy, winner, holders),
            ]
        ),
        refused,
    )


def _able_to_move(losers: tuple[Loser, ...], policy: Policy) -> tuple[Loser, ...]:
    """Those that can be set aside: a pool can't be renamed, which keeps nobody else in conflict unless it leads."""
    able = tuple(loser for loser in losers if "/" in loser.dataset or loser.system_id == policy.hub)
    return able or losers


def _losers(
    conflict: Conflict,
    policy: Policy,
    winner: _Holder,
    members: Sequence[Member],
    holders: Sequence[_Holder],
    now: float,
) -> tuple[Loser, ...]:
    """Every member that can't follow the winner as it is; and the hub, if it lacks any of what wins."""
    losers = []
    won = history(winner.replica)
    for holder in holders:
        if holder.member is not winner.member:
            loser = _loser(conflict, holder.member, holder.replica, None)
            case = Case(policy, conflict.path, loser, holder.member, winner.member, won, now)
            stands = case.relation_of(holder.replica)
            follows = isinstance(stands, FastForward) and not (case.must_lead and stands.common.ahead)
            if not follows and not _only_unclear(stands, conflict, holder):
                losers.append(_loser(conflict, holder.member, holder.replica, stands))
    for member in members:
        lacks = all(holder.member is not member for holder in holders)
        if member.system_id == policy.hub and lacks:
            losers.insert(0, _loser(conflict, member, None, None))
    return tuple(losers)


def _only_unclear(stands: Relation, conflict: Conflict, holder: _Holder) -> bool:
    """Whether nothing speaks against it but a column that was not reported, and it has no part in the conflict."""
    return isinstance(stands, Unclear) and all(side.system_id != holder.member.system_id for side in conflict.sides)


def _loser(conflict: Conflict, member: Member, replica: Replica | None, stands: Relation | None) -> Loser:
    dataset = dataset_of(member, conflict.path)
    common = getattr(stands, "common", None)
    own = common.own if common is not None else ()
    to_come = common.ahead[-1:] if common is not None else ()
    return Loser(
        member.system_id,
        dataset,
        common.at_target.guid if common is not None else None,
        tuple(snapshot.guid for snapshot in own if is_certain(snapshot)),
        replica.written if replica is not None else None,
        f"{dataset}.aside-{conflict.id[:8]}",
        to_come[0].creation if to_come else None,
    )


def _lost(losers: Sequence[Loser], members: Sequence[Member]) -> tuple[tuple[Snapshot, ...], int | None]:
    """The snapshots and bytes that a discard loses; None bytes where a part is unknown."""
    by_id = {member.system_id: member for member in members}
    lost: list[Snapshot] = []
    sizes: list[int | None] = []
    for loser in losers:
        replica = by_id[loser.system_id].replicas.get(loser.dataset)
        if replica is not None:
            removable = frozenset(loser.removable_guids)
            own = [snapshot for snapshot in replica.snapshots if snapshot.guid in removable] if removable else []
            lost += own
            sizes += [*(snapshot.written for snapshot in own), replica.written]
    known = [size for size in sizes if size is not None]
    return tuple(lost), sum(known) if len(known) == len(sizes) else None


def _send_bytes(steps: Sequence[Step]) -> int | None:
    sizes = [step.estimated_size_bytes for step in steps if step.type in ("create", "sync", "resume")]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _cost(loser: Loser, winner: _Holder, discard: bool, steps: Sequence[Step], members: Sequence[Member]) -> str:
    """What it means for one loser, in words."""
    member = next(member for member in members if member.system_id == loser.system_id)
    replica = member.replicas.get(loser.dataset)
    host, name = member.hostname, loser.dataset
    if replica is None or (replica.resume_token and replica.newest is None):
        return f"{host} gets all of {winner.replica.dataset} from {winner.member.hostname}."
    there = [step for step in steps if step.target == loser.system_id]
    sent = _bytes(_send_bytes(there))
    own, size = _lost((loser,), (member,))
    has_nothing_own = replica.newest is not None and replica.newest.guid == loser.base_guid and loser.written == 0
    if has_nothing_own or (there and all(step.type not in ("rename", "rollback") for step in there)):
        return f"On {host}, {name} goes on with what {winner.member.hostname} has: {sent}."
    amount = f"{_count(len(own), 'snapshot')} and {_bytes(size)}"
    if discard and loser.base_guid is None:
        return f"On {host}, {name} shares no snapshot with {winner.member.hostname}'s to go back to."
    if discard:
        names = f" ({', '.join(snapshot.name for snapshot in own)})" if own else ""
        marks = " Bookmarks made since then go too." if _later_bookmarks(replica, loser) else ""
        return (
            f"On {host}, {name} goes back to the common snapshot: {amount} of its own are lost for good{names}.{marks}"
        )
    if loser.base_guid is None:
        kept = f"with all its {_count(len(replica.snapshots), 'snapshot')}"
        how = f"nothing is shared, so {winner.member.hostname} sends it anew, at first {sent}"
    else:
        kept = f"with {amount} of its own"
        how = f"{winner.member.hostname} sends {sent} on top of what both share"
    words = f"On {host}, {name} is set aside as {loser.aside} {kept}; {how}. Nothing is destroyed."
    if replica.mounted:
        where = f" at {replica.mountpoint}" if replica.mountpoint not in (None, "-", "none", "legacy") else ""
        words += f" It is mounted{where}: the new dataset is not, until you mount it."
    if is_cipher(replica.encryption) and loser.base_guid is not None:
        # as zfs promote makes the clone the encryption root, the key is no longer loaded (OpenZFS 2.1.11)
        words += (
            f" If it has a key of its own that is loaded now, load it again afterwards: zfs load-key {quote(name)}."
        )
    return words


def _left_behind(losers: Sequence[Loser], winner: _Holder, members: Sequence[Member], work: Work) -> list[str]:
    """Who goes on, here or in another group, from what a discard destroys, and neither wins nor loses itself."""
    by_id = {member.system_id: member for member in members}
    judged = {winner.member.system_id, *(loser.system_id for loser in losers)}
    told: list[str] = []
    for loser in losers:
        replica = by_id[loser.system_id].replicas.get(loser.dataset)
        if replica is None:
            continue
        going = {*loser.removable_guids, *_later_bookmarks(replica, loser)}
        for member, other in _other_copies(loser, members, work):
            pairs = ((other, replica), (replica, other))  # the second finds what the loser has a bookmark of only
            commons = (newest_common(history(one), history(two)) for one, two in pairs)
            shared = next((c.at_target.name for c in commons if c is not None and c.at_target.guid in going), None)
            if shared is not None and member.system_id not in judged:
                both = f"{other.dataset} on {member.hostname} shares {shared} with it"
                told.append(f"{both}, which is lost: it can't go on from {loser.dataset} as it is.")
    return list(dict.fromkeys(told))


def _other_copies(loser: Loser, members: Sequence[Member], work: Work) -> Iterator[tuple[Member, Replica]]:
    """The copies that others have of a loser's dataset, in any group."""
    for near in (members, *(each.members for each in work.neighbours_in_order)):
        target = next((member for member in near if member.system_id == loser.system_id), None)
        path = path_of(target, loser.dataset) if target is not None else None
        if path is not None:
            copies = ((each, {**each.absent, **each.replicas}.get(dataset_of(each, path))) for each in near)
            yield from ((each, copy) for each, copy in copies if copy is not None and each is not target)


def _unsent(policy: Policy, winner: _Holder, holders: Sequence[_Holder]) -> list[str]:
    """A warning that a spoke that wins over its hub would be in conflict again at once."""
    if policy.hub is None or winner.member.system_id == policy.hub:
        return []
    host, dataset = winner.member.hostname, winner.replica.dataset
    there = {s.guid for holder in holders if holder.member.system_id == policy.hub for s in holder.replica.snapshots}
    since = "since its newest snapshot" if winner.replica.written else None
    for snapshot in reversed(winner.replica.snapshots):
        if snapshot.guid in there or selects(policy.snapshot_include, policy.snapshot_exclude, snapshot.name):
            break
        since = f"before {snapshot.name}, which the group does not choose," if snapshot.written != 0 else since
    return [f"What was written to {dataset} on {host} {since} is not sent: take one there first."] if since else []


def _later_bookmarks(replica: Replica, loser: Loser) -> set[str]:
    """The guids of the bookmarks that a rollback takes along: it destroys those that are younger (zfs-rollback(8))."""
    txgs = [snapshot.createtxg for snapshot in replica.snapshots if snapshot.guid == loser.base_guid]
    return {
        mark.guid
        for mark in replica.bookmarks
        for txg in txgs
        if mark.createtxg is None or txg is None or mark.createtxg > txg
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _bytes(size: int | None) -> str:
    """A size in words: 1.5 MiB."""
    if size is None:
        return "an unknown number of bytes"
    if size < 1024:
        return f"{size} bytes"
    power = min((size.bit_length() - 1) // 10, 6)
    return f"{size / 1024**power:.1f} {' KMGTPE'[power]}iB"


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
