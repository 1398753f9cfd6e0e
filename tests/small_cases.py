"""Small cases, all of them: histories as pictures (see pictures), made into model pools, planned, obeyed and judged.

The shared past is a row of snapshots that A once took, while its clock went astray; each host kept some of them, or a
bookmark, or nothing. What a host has of its own comes on top: `x` is empty, `X` has data, `x@4` bears the name of the 4
that A takes, and `*` was written since. Where the group sends raw, all is encrypted, and what bears a `'` was received
in plain form and encrypted anew.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from zlib import crc32

from planner import plan_group
from planner.model import Bookmark, Conflict, Decision, Member, Option, Plan, Policy, Replica, Work
from planner.model import Snapshot as SnapshotReport
from planner.resolutions import choose
from tests.conflict_world import obey as resolve
from tests.plan_rules import check_rules, chosen_name, is_due
from tests.simulated_rules import follows
from tests.test_plan_obeyed import Hosts, contents, obey
from tests.zfs_model import Pools, Refused
from tests.zfs_values import Block, Dataset, Snapshot, Stream, beyond, size

NOW = 1_795_000_000
DAY = 86400
DATASET = "pool/root/data"
HUB = Policy("g", "group", directional=True, hub="A", order=("A", "B", "C"), include=("data",))
PEERS = replace(HUB, directional=False, hub=None)
NO_WORK = Work()


# --- pictures --------------------------------------------------------------------------------------


def kept_of(past: Sequence[str], marks: bool = True) -> Iterator[str]:
    """Every way in which a host may have kept a past: each snapshot, a bookmark of it, or nothing."""
    ways = [("", word, f"#{word}") if marks else ("", word) for word in past]
    for words in product(*ways):
        yield " ".join(word for word in words if word)


def drawn(**lines: str) -> str:
    """The picture of some hosts."""
    return "  ".join(f"{name}: {line}" for name, line in lines.items())


def with_tail(line: str, tail: str) -> str | None:
    """A host's line with something of its own; None where a host has no dataset that it could be in."""
    if not tail:
        return line
    return f"{line} {tail}" if line.replace("#", "") else None


def hosts_of(picture: str, policy: Policy = HUB) -> Hosts:
    """The hosts that a picture draws, with their pools."""
    hosts: Hosts = {}
    parts = re.split("([A-Z]):", picture)
    for name, line in zip(parts[1::2], parts[2::2], strict=True):
        pools = Pools(name, NOW)
        pools.create("pool", properties={"readonly": "on"})
        pools.create("pool/root")
        if line.split():
            pools.datasets[DATASET] = _dataset(name, line.split(), policy.raw == "always")
        pools.txg = 1000
        hosts[name] = pools
    return hosts


def taken_at(guid: str, txg: int) -> int:
    """When a snapshot was made, in seconds: by A's clock, 3 came first, then 1, 4 and 2."""
    return NOW - 90 * DAY + (int(guid) * 7 % 5 if guid.isdigit() else txg) * DAY


def _dataset(host: str, words: Sequence[str], encrypted: bool) -> Dataset:
    """The dataset that a line of words draws. Digits hold all of the shared past up to them."""
    made = Dataset(DATASET, "filesystem", f"dataset-{host}", 1, NOW - 100 * DAY)
    if encrypted:
        made.encryption, made.key_of = "aes-256-gcm", made.guid
    blocks: tuple[Block, ...] = ()
    for txg, word in enumerate(words, 20):
        guid, _, name = word.strip("#'").partition("@")
        ivset = guid + host * word.endswith("'") if encrypted else None
        if guid.isdigit():
            blocks = tuple((number, 100) for number in range(1, int(guid) + 1))
        elif not guid.islower():  # with data, or written since
            blocks = (*blocks, (crc32(f"{host} {guid}".encode()) + 10, 100))
        if guid != "*":
            snap = Snapshot(name or guid, guid, txg, taken_at(guid, txg), blocks, ivset)
            (made.bookmarks if word.startswith("#") else made.snapshots).append(snap)
    made.blocks = blocks
    return made


def report(hosts: Hosts) -> list[Member]:
    """What every host's agent would report."""
    return [
        Member(name, f"host{name}", "pool/root", _replicas(pools), {}, NOW, NOW, NOW) for name, pools in hosts.items()
    ]


def _replicas(pools: Pools) -> dict[str, Replica]:
    return {
        name: Replica(
            name,
            "filesystem",
            dataset.guid,
            tuple(_snapshots(dataset)),
            tuple(Bookmark(m.name, m.guid, m.createtxg, m.creation, m.ivsetguid) for m in dataset.bookmarks),
            written=pools.written(name),
            encryption=dataset.encryption,
            readonly=True,
        )
        for name, dataset in pools.datasets.items()
    }


def _snapshots(dataset: Dataset) -> Iterator[SnapshotReport]:
    before: tuple[Block, ...] = ()
    for snap in dataset.snapshots:
        written = size(beyond(snap.blocks, before))
        yield SnapshotReport(
            snap.name,
            snap.guid,
            snap.createtxg,
            snap.creation,
            0,
            size(snap.blocks),
            written,
            snap.ivsetguid,
            userrefs=0,
        )
        before = snap.blocks


# --- what must be so -------------------------------------------------------------------------------


def check(picture: str, policy: Policy, work: Work = NO_WORK) -> None:
    """Plan, obey and look: nothing is refused, nothing is lost, all that could come has come, in the fewest streams."""
    hosts = hosts_of(picture, policy)
    before, had = hosts_of(picture, policy), contents(hosts)
    plan = plan_group(policy, report(hosts), work, NOW)
    check_rules(policy, report(hosts), work, NOW, plan)
    for step in plan.steps:
        obey(step, hosts)
    assert had <= contents(hosts), "an ordinary plan only adds"
    after = plan_group(policy, report(hosts), work, NOW)
    assert after.steps == (), "one plan brings all that can be brought"
    for name in hosts:
        first, last = leader_of(plan), leader_of(after)
        if first not in (None, name):
            _check_brought(before, hosts, name, first or "", policy, plan)
        if last not in (None, name):
            _check_told(hosts, name, last or "", policy, after)
    if leader_of(after) is None:
        _check_leaderless(hosts, policy, after)


def check_at_rest(picture: str, policy: Policy, work: Work = NO_WORK) -> None:
    """Where nothing may begin, there is no step, and all that does not come is explained."""
    hosts = hosts_of(picture)
    plan = plan_group(policy, report(hosts), work, NOW)
    assert plan.steps == (), "nothing may begin"
    _check_all_told(hosts, policy, plan)


def check_unknown(picture: str, policy: Policy) -> None:
    """Where no listing says what was written, nothing comes that a pool refuses, and all that does not is explained."""
    hosts = hosts_of(picture)
    plan = plan_group(policy, [_without_written(member) for member in report(hosts)], NO_WORK, NOW)
    for step in plan.steps:
        obey(step, hosts)
    _check_all_told(hosts, policy, plan)


def _check_all_told(hosts: Hosts, policy: Policy, plan: Plan) -> None:
    """Whoever follows another is told what does not come."""
    leader = leader_of(plan)
    for name in hosts:
        if leader not in (None, name):
            _check_told(hosts, name, leader or "", policy, plan)


def _without_written(member: Member) -> Member:
    replicas = {name: replace(replica, written=None) for name, replica in member.replicas.items()}
    return replace(member, replicas=replicas)


def leader_of(plan: Plan) -> str | None:
    """Whose history the others follow, of those in the plan's cells."""
    return next((cell.system_id for cell in plan.cells if cell.is_source), None)


def _check_leaderless(hosts: Hosts, policy: Policy, plan: Plan) -> None:
    """Nobody can be followed by all, and everybody who has something is told so."""
    held = {name: pools.datasets[DATASET] for name, pools in hosts.items() if DATASET in pools.datasets}
    held = {name: dataset for name, dataset in held.items() if dataset.snapshots}
    if policy.directional:
        assert "A" not in held, "the hub leads"
    for one in held if not policy.directional else ():
        assert not all(follows(held[one], held[other]) for other in held if other != one), f"all can follow {one}"
    for name in held:
        assert any(skip.target == name for skip in plan.skips) or _in_conflict(plan, name), f"{name} is not told why"


def _in_conflict(plan: Plan, name: str) -> bool:
    return any(side.system_id == name and found.reason for found in plan.conflicts for side in found.sides)


def _check_brought(before: Hosts, after: Hosts, name: str, leader: str, policy: Policy, plan: Plan) -> None:
    """What came is the most that pools would have taken, in the fewest streams."""
    wanted = _wanted(before[leader].datasets[DATASET], policy, DATASET in before[name].datasets)
    had = _guids(before[name])
    streams = sum(step.target == name for step in plan.steps)
    brought = [guid for guid in _guids(after[name]) if guid not in had]
    assert set(brought) <= set(wanted), "nothing comes that the group does not want"
    if not any(skip.target == name and "have nothing in common" in skip.reason for skip in plan.skips):
        most, fewest = best(before, name, wanted, policy.raw == "always")
        assert (len(brought), streams) == (most, fewest), f"{name} could get {most} in {fewest}"


def _check_told(hosts: Hosts, name: str, leader: str, policy: Policy, plan: Plan) -> None:
    """What did not come has a reason, and nobody is said to be in sync who could have more."""
    wanted = _wanted(hosts[leader].datasets[DATASET], policy, DATASET in hosts[name].datasets)
    lacking = [guid for guid in wanted if guid not in _guids(hosts[name])]
    newer = [guid for guid in lacking if _could_come(hosts[leader], hosts[name], guid)]
    if policy.initial == "newest":  # older ones are not missed
        lacking = newer
    told = any(skip.target == name and skip.reason for skip in plan.skips)
    told = told or any(found.type == "missing" and _in_conflict(plan, name) for found in plan.conflicts)
    assert told or not lacking, f"{name} is not told why it lacks {lacking}"
    cell = next((cell for cell in plan.cells if cell.system_id == name), None)
    assert not newer or cell is None or cell.status != "in_sync", f"{name} is said to be in sync, and lacks {newer}"


def _could_come(leader: Pools, member: Pools, guid: str) -> bool:
    """Whether a snapshot is newer than all that a member has of its leader's."""
    lead = leader.datasets[DATASET]
    places = {snap.guid: snap.createtxg for snap in (*lead.bookmarks, *lead.snapshots)}
    return places[guid] > max((places.get(held, 0) for held in _guids(member)), default=0)


def _guids(pools: Pools) -> list[str]:
    return pools.guids(DATASET) if DATASET in pools.datasets else []


def _wanted(lead: Dataset, policy: Policy, exists: bool) -> list[str]:
    """What the group chooses of the leading history."""
    chosen = [snap.guid for snap in lead.snapshots if chosen_name(policy, snap.name) and is_due(policy, snap, NOW)]
    return chosen[-1:] if policy.initial == "newest" and not exists else chosen


# --- conflicts -------------------------------------------------------------------------------------


def check_resolution(picture: str, policy: Policy, discard: bool) -> None:
    """Whoever wins: the steps are accepted one after the other, and everybody ends with the winner's history.

    What is set aside is all still there; of what is discarded, no more is lost than was said.
    """
    for conflict in plan_group(policy, report(hosts_of(picture)), NO_WORK, NOW).conflicts:
        for side in conflict.sides if conflict.type != "missing" else ():
            hosts = hosts_of(picture)
            option = choose(conflict, "manual", side.system_id, discard, policy, report(hosts), NO_WORK, NOW)
            if option.refused is None:
                _carry_out(hosts, policy, conflict, option)


def _carry_out(hosts: Hosts, policy: Policy, conflict: Conflict, option: Option) -> None:
    had, blocks = _held(hosts)
    work = Work(decisions=(decision_of(conflict, option),))
    for _ in range(12):
        steps = plan_group(policy, report(hosts), work, NOW).steps
        if not steps:
            break
        resolve(steps[0], hosts)
    else:
        raise AssertionError("it does not end")
    left, blocks_left = _held(hosts)
    lost = {guid for _, guid in had - left}
    assert lost <= {snap.guid for snap in option.lost}, f"{lost} is lost"
    assert option.discard or blocks <= blocks_left, "what was written is lost"
    for name, pools in hosts.items():
        won = hosts[option.winner or ""].datasets[DATASET]
        assert name == option.winner or follows(won, pools.datasets[DATASET]), f"{name} can't follow who won"


def _held(hosts: Hosts) -> tuple[set[tuple[str, str]], set[tuple[str, Block]]]:
    """Every snapshot, and all that is in datasets now, by host."""
    datasets = [(name, dataset) for name, pools in hosts.items() for dataset in pools.datasets.values()]
    snapshots = {(name, snap.guid) for name, dataset in datasets for snap in dataset.snapshots}
    written = {(name, block) for name, dataset in datasets for block in dataset.blocks}
    return snapshots, written


def decision_of(conflict: Conflict, option: Option) -> Decision:
    """What an admin decides who takes an option."""
    return Decision(conflict.id, conflict.path, option.strategy, option.winner, option.discard, option.losers)


# --- all that pools would accept -------------------------------------------------------------------


def best(hosts: Hosts, target: str, wanted: Iterable[str], raw: bool) -> tuple[int, int]:
    """The most wanted snapshots that a host's pool accepts, and the fewest streams that bring them.

    Every stream that any other host can send is tried on every state that can be reached.
    """
    streams = list(_streams(hosts, target, set(wanted), raw))
    lab, start = Pools(target), hosts[target].datasets.get(DATASET)
    lab.create("pool")
    lab.create("pool/root")
    had = len(start.snapshots) if start else 0
    seen = {(): (0, 0)}
    states: list[Dataset | None] = [start]
    found, count = (0, 0), 0
    while states:
        count += 1
        reached: dict[tuple[str, ...], Dataset] = {}
        for state in states:
            for stream in streams:
                made = _received(lab, state, stream)
                guids = tuple(snap.guid for snap in made.snapshots) if made else ()
                if made is not None and guids not in seen and guids not in reached:
                    reached[guids] = made
        for guids in reached:
            seen[guids] = (len(guids) - had, count)
            if len(guids) - had > found[0]:
                found = (len(guids) - had, count)
        states = list(reached.values())
    return found


def _streams(hosts: Hosts, target: str, wanted: set[str], raw: bool) -> Iterator[Stream]:
    """Every stream of wanted snapshots only."""
    for name, pools in hosts.items():
        sent = pools.datasets.get(DATASET)
        if sent is None or name == target:
            continue
        marks = [*("@" + snap.name for snap in sent.snapshots), *("#" + mark.name for mark in sent.bookmarks)]
        for base, end, whole in product([None, *marks], sent.snapshots, (False, True)):
            with suppress(Refused):
                stream = pools.send(DATASET, end.name, base, intermediates=whole, raw=raw)
                if {part.to_guid for part in stream.parts} <= wanted and (not whole or len(stream.parts) > 1):
                    yield stream


def _received(lab: Pools, state: Dataset | None, stream: Stream) -> Dataset | None:
    """The dataset after a stream; None where it is refused or changes nothing."""
    lab.datasets.pop(DATASET, None)
    if state is not None:
        lab.datasets[DATASET] = replace(state, snapshots=list(state.snapshots), bookmarks=[])
    try:
        lab.receive(DATASET, stream)
    except Refused:
        return None
    return lab.datasets[DATASET]
