"""Hosts whose histories do not fit together, as members of a group, and steps that their pools obey."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from planner.histories import FastForward, history, relate
from planner.model import (
    Bookmark,
    Conflict,
    Decision,
    Member,
    Option,
    Policy,
    Replica,
    Snapshot,
    Step,
    Strategy,
    Work,
)
from planner.resolutions import choose, resolution_steps
from tests.zfs_model import Pools

CONFLICT = Conflict("0123abcd-0000-4000-8000-000000000000", "diverged", "data", "high", (), (), "they differ")
ASIDE = ".aside-0123abcd"
POLICY = Policy("group", "media", order=("A", "B", "C"))
HUB_A = replace(POLICY, directional=True, hub="A")
NO_WORK = Work()
NOW = 2_000_000_000.0
Hosts = dict[str, Pools]


# --- members from pools, and steps obeyed by pools -----------------------------------------------


def a_host(name: str, pools: Pools | None = None) -> Pools:
    """A host with a pool and a root dataset in it."""
    pools = pools or Pools(name)
    pools.create("pool")
    pools.create("pool/root", properties={"readonly": "on"})
    return pools


def number(text: str) -> int | None:
    return None if text == "-" else int(text)


def member_of(name: str, pools: Pools) -> Member:
    """What the host's agent would report."""
    replicas: dict[str, Replica] = {}
    for dataset, snap, kind in pools.rows():
        columns = ("guid", "createtxg", "creation", "written", "referenced")
        guid, txg, creation, written, referenced = pools.values(columns, dataset, snap, kind)
        if snap is None:
            token, origin = pools.values(("receive_resume_token", "origin"), dataset, snap, kind)
            replicas[dataset.name] = Replica(
                dataset.name,
                kind="filesystem",
                guid=guid,
                written=number(written),
                encryption=dataset.encryption,
                resume_token=None if token == "-" else token,
                origin=None if origin == "-" else origin,
                readonly=pools.inherited(dataset.name, "readonly", "off") == "on",
            )
        elif kind == "bookmark":
            mark = Bookmark(snap.name, guid, int(txg), int(creation))
            held = replicas[dataset.name]
            replicas[dataset.name] = replace(held, bookmarks=(*held.bookmarks, mark))
        else:
            row = Snapshot(
                snap.name,
                guid,
                int(txg),
                int(creation),
                None,
                number(referenced),
                number(written),
                userrefs=len(snap.holds),
            )
            held = replicas[dataset.name]
            replicas[dataset.name] = replace(held, snapshots=(*held.snapshots, row))
    return Member(name, f"host{name}", "pool/root", replicas, reported_at=1000)


def members_of(hosts: Hosts) -> list[Member]:
    return [member_of(name, pools) for name, pools in hosts.items()]


def obey(step: Step, hosts: Hosts, cut: int | None = None) -> None:
    """Carry a step out as its agent would, guids checked first; `cut`: the transfer breaks off after so many blocks."""
    pools = hosts[step.target]
    name = step.target_dataset
    if step.type in ("create", "sync", "resume"):
        source = hosts[step.source or ""]
        assert step.source_dataset is not None
        assert step.end is not None
        if step.type == "resume":
            stream = source.resume(step.resume_token or "")
        else:
            base = None if step.base is None else ("#" if isinstance(step.base, Bookmark) else "@") + step.base.name
            stream = source.send(step.source_dataset, step.end.name, base, intermediates=step.intermediates)
        if cut is not None:
            stream = stream.cut(cut)
        pools.receive(name, stream, origin=step.origin, resumable=True, properties=dict(step.properties))
        return
    if step.end is not None:
        assert pools.find(f"{name}@{step.end.name}").guid == step.end.guid
    if step.expected_written is not None:
        assert pools.written(name) == step.expected_written
    match step.type:
        case "rename":
            pools.rename(name, step.new_name or "")
        case "promote":
            pools.promote(name)
        case "abort_receive":
            pools.abort(name)
        case "rollback":
            assert step.end is not None
            kept, goal = pools.dataset(name), pools.find(f"{name}@{step.end.name}")
            later = [each.guid for each in kept.snapshots + kept.bookmarks if each.createtxg > goal.createtxg]
            assert tuple(dict.fromkeys(later)) == step.expected_guids
            pools.rollback(name, step.end.name, recursive=True)
        case _:
            raise AssertionError(step.type)


def decide(option: Option) -> Decision:
    assert option.refused is None, option.refused
    return Decision(CONFLICT.id, CONFLICT.path, option.strategy, option.winner, option.discard, option.losers)


def follow(decision: Decision, policy: Policy, hosts: Hosts) -> list[Step]:
    """Carry out the first step of each new plan, with fresh inventories in between, until nothing is left."""
    done: list[Step] = []
    while True:
        steps, skips = resolution_steps(decision, policy, members_of(hosts), NO_WORK, NOW)
        assert skips == ()
        if not steps:
            return done
        assert len(done) < 20, "it does not end"
        obey(steps[0], hosts)
        done.append(steps[0])


def pick(
    hosts: Hosts,
    strategy: Strategy = "manual",
    winner: str | None = "A",
    discard: bool = False,
    policy: Policy = POLICY,
) -> Option:
    return choose(CONFLICT, strategy, winner, discard, policy, members_of(hosts), NO_WORK, NOW)


def diverged(after: str = "3", own: str = "X", written: bool = False, children: Sequence[str] = ()) -> Hosts:
    """A and B share 1 and 2; A went on with `after`, B with `own`. A small letter holds no data of its own."""
    hosts = {"A": a_host("A"), "B": a_host("B")}
    for dataset in ("data", *(f"data/{child}" for child in children)):
        name = f"pool/root/{dataset}"
        hosts["A"].create(name)
        for snap in "12":
            hosts["A"].write(name, 100)
            hosts["A"].snapshot(name, snap)
        hosts["B"].receive(name, hosts["A"].send(name, "1"))
        hosts["B"].receive(name, hosts["A"].send(name, "2", "@1"))
    for pools, names in ((hosts["A"], after), (hosts["B"], own)):
        for snap in names:
            if not snap.islower():
                pools.write("pool/root/data", 100)
            pools.snapshot("pool/root/data", snap)
    if written:
        hosts["B"].write("pool/root/data", 50)
    return hosts


def unrelated() -> Hosts:
    hosts = {"A": a_host("A"), "B": a_host("B")}
    for pools, names in ((hosts["A"], "12"), (hosts["B"], "XY")):
        pools.create("pool/root/data")
        for snap in names:
            pools.write("pool/root/data", 100)
            pools.snapshot("pool/root/data", snap)
    return hosts


def fits(hosts: Hosts, winner: str = "A", loser: str = "B") -> bool:
    """Whether the loser's dataset can follow the winner's now."""
    held = {m.system_id: m.replicas.get("pool/root/data") for m in members_of(hosts)}
    one, other = held[winner], held[loser]
    return one is not None and other is not None and isinstance(relate(history(one), history(other)), FastForward)


def kept(pools: Pools) -> set[tuple[str, Any]]:
    """Every snapshot's contents on a host, and what was written since."""
    whole = {(snap.guid, snap.blocks) for dataset in pools.datasets.values() for snap in dataset.snapshots}
    return whole | {("now", dataset.blocks) for dataset in pools.datasets.values()}
