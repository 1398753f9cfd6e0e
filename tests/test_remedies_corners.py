"""Decisions where two rules meet: what a pool would refuse, or would never end, is neither planned nor offered."""

import re
from contextlib import suppress
from dataclasses import replace

import pytest

from planner import plan_group
from planner.commands import commands_of
from planner.model import Decision, Loser, Policy, Skip, Step, Work
from planner.resolutions import choose, resolution_steps
from tests import test_plan_obeyed as ordinary
from tests.conflict_world import (
    ASIDE,
    CONFLICT,
    HUB_A,
    NO_WORK,
    NOW,
    POLICY,
    Hosts,
    a_host,
    decide,
    diverged,
    fits,
    follow,
    members_of,
    obey,
    pick,
    unrelated,
)
from tests.zfs_model import Pools, Refused

DATA = "pool/root/data"
WITH_ALL_BELOW = replace(HUB_A, include=("data/**",))


def left(decision: Decision, hosts: Hosts, policy: Policy = POLICY) -> tuple[tuple[Step, ...], tuple[Skip, ...]]:
    return resolution_steps(decision, policy, members_of(hosts), NO_WORK, NOW)


def begin(step: Step, hosts: Hosts) -> None:
    """A transfer that breaks off."""
    with suppress(Refused):
        obey(step, hosts, cut=0)


def names(hosts: Hosts, name: str) -> list[str]:
    return [snap.name for snap in hosts[name].dataset(DATA).snapshots]


def test_encrypted_children_stay_within_their_encryption_root() -> None:
    """ZFS: cannot move encrypted child outside of its encryption root."""
    hosts: Hosts = {}
    for name in "AB":
        pools = hosts[name] = Pools(name)
        pools.create("pool")
        pools.create("pool/root", encryption="aes-256-gcm")
        for dataset in (DATA, f"{DATA}/kid"):
            pools.create(dataset)
            pools.snapshot(dataset, name)
    refused = str(pick(hosts).refused)
    assert "encrypted datasets that can't be moved" in refused
    (advice,) = re.findall(r"zfs rename (\S+) (\S+),", refused)
    hosts["B"].rename(*advice)
    for _ in range(2):  # the child once its parent is there
        for step in plan_group(WITH_ALL_BELOW, members_of(hosts), NO_WORK, 1000.0).steps:
            obey(step, hosts)
    assert hosts["A"].guids(DATA) == hosts["B"].guids(DATA)
    assert hosts["A"].guids(f"{DATA}/kid") == hosts["B"].guids(f"{DATA}/kid")
    hosts = unrelated()
    hosts["B"].create(f"{DATA}/kid", encryption="aes-256-gcm")  # with a key of its own: it moves freely
    hosts["B"].snapshot(f"{DATA}/kid", "k")
    follow(decide(pick(hosts)), POLICY, hosts)
    assert f"{DATA}/kid" in hosts["B"].datasets


def test_what_was_set_aside_stays_below_what_is_set_aside() -> None:
    """Its key may be that of what took its place: cannot move encrypted child outside of its encryption root."""
    hosts = unrelated()
    for child in ("kid", "kid.aside-00000001"):
        hosts["B"].create(f"{DATA}/{child}")
        hosts["B"].snapshot(f"{DATA}/{child}", "k")
    follow(decide(pick(hosts)), POLICY, hosts)
    assert f"{DATA}/kid" in hosts["B"].datasets
    assert f"{DATA}{ASIDE}/kid.aside-00000001" in hosts["B"].datasets


def test_children_do_not_come_below_a_volume() -> None:
    hosts: Hosts = {name: Pools(name, ordinary.START) for name in "AB"}
    for name, pools in hosts.items():
        pools.create(f"pool{name}")
        pools.create(f"pool{name}/root")
        pools.create(f"pool{name}/root/data", "volume" if name == "A" else "filesystem")
        pools.snapshot(f"pool{name}/root/data", name)
    hosts["B"].create("poolB/root/data/kid")
    members = ordinary.report(hosts, ordinary.START + 9)
    plan = plan_group(ordinary.HUB, members, NO_WORK, ordinary.START + 9)
    (conflict,) = [each for each in plan.conflicts if each.path == "data"]
    option = choose(conflict, "manual", "A", False, ordinary.HUB, members, NO_WORK, ordinary.START + 9)
    assert "is a volume, below which poolB/root/data/kid can't be" in str(option.refused)


def test_a_resume_goes_on_whatever_its_snapshot_is_called_now() -> None:
    hosts = diverged()
    option = pick(hosts)
    obey(option.steps[0], hosts)
    begin(option.steps[1], hosts)
    hosts["A"].rename_snapshot(DATA, "3", "three")
    assert left(decide(option), hosts)[0][0].type == "resume"
    follow_all(decide(option), hosts)
    assert fits(hosts)


def follow_all(decision: Decision, hosts: Hosts, policy: Policy = POLICY) -> None:
    """Carry out what there is, though something else may still wait for it."""
    for _ in range(12):
        steps, skips = left(decision, hosts, policy)
        if not steps:
            assert not skips
            return
        obey(steps[0], hosts)
    raise AssertionError("it does not end")


def test_an_increment_that_broke_off_is_dropped_though_there_are_children() -> None:
    hosts = diverged(after="", own="X", children=("kid",))
    with suppress(Refused):
        hosts["A"].receive(DATA, hosts["B"].send(DATA, "X", "@2").cut(0), resumable=True)
    hosts["B"].write(DATA, 1)
    hosts["B"].snapshot(DATA, "Y")
    hosts["B"].destroy_snapshots(DATA, ["X"])
    decision = Decision(CONFLICT.id, "data", "manual", "B", False, (Loser("A", DATA, None, (), 0, DATA + ASIDE),))
    assert left(decision, hosts, HUB_A)[0][0].type == "abort_receive"


@pytest.mark.parametrize("discard", [False, True])
def test_a_hub_that_is_only_behind_the_winner_gets_what_is_newer(discard: bool) -> None:
    """Else the winner would be at odds with it as before, and what others lost for it would have gone for nothing."""
    hosts = diverged(after="", own="XY")
    hosts["C"] = a_host("C")
    hosts["C"].receive(DATA, hosts["A"].send(DATA, "1"))
    hosts["C"].write(DATA, 100)
    hosts["C"].snapshot(DATA, "Z")
    option = pick(hosts, winner="B", discard=discard, policy=HUB_A)
    assert [loser.system_id for loser in option.losers] == ["A", "C"]
    assert "On hostA, pool/root/data goes on with what hostB has: 200 bytes." in option.cost
    follow(decide(option), HUB_A, hosts)
    assert names(hosts, "A") == names(hosts, "B") == ["1", "2", "X", "Y"]


def test_a_winner_without_anything_newer_that_the_group_chooses_is_refused() -> None:
    hosts = diverged(after="", own="X")
    option = pick(hosts, winner="B", policy=replace(HUB_A, snapshot_exclude=("X",)))
    assert option.refused == "hostB has no newer snapshot of pool/root/data that the group chooses: take one there"


def test_a_hub_that_has_only_a_beginning_gets_all_of_the_winners() -> None:
    hosts = unrelated()
    hosts["A"].destroy(DATA, recursive=True)
    begin(pick(hosts, winner="B", policy=HUB_A).steps[0], hosts)
    option = pick(hosts, winner="B", policy=HUB_A)
    assert option.steps[0].type == "resume"
    hosts["B"].write(DATA, 1)
    hosts["B"].snapshot(DATA, "last")
    hosts["B"].destroy_snapshots(DATA, [option.steps[0].delivers[0].name])  # so that nobody can send the rest
    option = pick(hosts, winner="B", policy=HUB_A)
    assert [step.type for step in option.steps[:2]] == ["abort_receive", "create"]
    assert "hostA gets all of pool/root/data from hostB" in option.cost
    letting_go = pick(hosts, winner="B", policy=HUB_A, discard=True)
    assert letting_go.refused == "hostA has nothing of pool/root/data to discard: decide without that"
    follow(decide(option), HUB_A, hosts)
    assert names(hosts, "A") == names(hosts, "B")


@pytest.mark.parametrize("discard", [False, True])
def test_a_hub_gets_no_name_twice(discard: bool) -> None:
    hosts = diverged(after="3", own="XYZ")
    hosts["A"].rename_snapshot(DATA, "1", "Y")
    option = pick(hosts, winner="B", policy=HUB_A, discard=discard)
    for step in option.steps:  # as an agent does that carries out one plan to its end
        obey(step, hosts)
    follow(decide(option), HUB_A, hosts)
    assert names(hosts, "A") == ["Y", "2", "X", "Z"]


def test_a_hub_that_is_written_to_midway_has_a_conflict_again() -> None:
    hosts = diverged(after="3", own="XY")
    option = pick(hosts, winner="B", policy=HUB_A)
    for step in option.steps[:3]:
        obey(step, hosts)
    hosts["A"].write(DATA, 7)
    assert left(decide(option), hosts, HUB_A) == ((), ())
    plan = plan_group(WITH_ALL_BELOW, members_of(hosts), Work(decisions=(decide(option),)), 1000.0)
    assert (plan.steps, [each.path for each in plan.conflicts if each.type == "diverged"]) == ((), ["data"])


def test_nothing_is_promoted_onto_a_name_that_is_taken() -> None:
    """ZFS: snapshot name '1' from origin conflicts with '1' from target."""
    hosts = diverged(after="3", own="X")
    option = pick(hosts)
    for step in option.steps[:2]:
        obey(step, hosts)
    hosts["B"].snapshot(DATA, "1")
    steps, (skip, *_) = left(decide(option), hosts)
    assert steps == ()
    assert "both have a snapshot named 1: rename the newer one" in skip.reason
    hosts["B"].rename_snapshot(DATA, "1", "own")
    follow_all(decide(option), hosts)


@pytest.mark.parametrize(("after", "expected"), [("3", "123"), ("34", "1234")])
def test_the_names_of_what_is_set_aside_are_free_again(after: str, expected: str) -> None:
    """A promote brings along what is older than the origin alone."""
    hosts = diverged(after=after, own="X")
    hosts["B"].rename_snapshot(DATA, "X", "3")
    follow_all(decide(pick(hosts)), hosts)
    ordinary_steps = plan_group(WITH_ALL_BELOW, members_of(hosts), NO_WORK, 1000.0).steps
    for step in ordinary_steps:
        obey(step, hosts)
    assert names(hosts, "B") == [*expected]


def test_what_a_hub_lacked_is_resumed() -> None:
    hosts = {"A": a_host("A"), "B": unrelated()["B"]}
    option = pick(hosts, winner="B", policy=HUB_A)
    begin(option.steps[0], hosts)
    assert [step.type for step in left(decide(option), hosts, HUB_A)[0]] == ["resume", "sync"]


def test_a_hub_without_the_dataset_has_nothing_to_discard() -> None:
    hosts = {"A": a_host("A"), "B": unrelated()["B"]}
    option = pick(hosts, winner="B", policy=HUB_A, discard=True)
    assert "hostA has nothing of pool/root/data to discard" in str(option.refused)


def test_the_rest_of_a_decided_stream_has_the_properties_of_its_beginning() -> None:
    hosts = unrelated()
    hosts["A"].dataset(DATA).properties["readonly"] = "off"
    option = pick(hosts, winner="B", policy=HUB_A)
    obey(option.steps[0], hosts)
    begin(option.steps[1], hosts)
    rest = left(decide(option), hosts, HUB_A)[0][0]
    by_id = {member.system_id: member for member in members_of(hosts)}
    assert rest.type == "resume"
    for step in (option.steps[1], rest):
        assert any("readonly=off" in word for argv in commands_of(step, HUB_A, by_id) for word in argv)


def test_nothing_is_set_aside_with_a_child_that_is_paused() -> None:
    hosts = diverged(after="34", own="X", children=("kid",))
    decision = decide(pick(hosts))
    work = Work(decisions=(decision,))
    paused = replace(WITH_ALL_BELOW, paused_datasets=("data/kid",))
    assert plan_group(paused, members_of(hosts), work, 1000.0).steps == ()
    assert plan_group(WITH_ALL_BELOW, members_of(hosts), work, 1000.0).steps != ()
