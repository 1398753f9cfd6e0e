"""Decisions carried out: the steps are obeyed in a model of ZFS, and what is there afterwards is looked at."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.model import (
    Bookmark,
    Credit,
    Decision,
    Member,
    Policy,
    Replica,
    Side,
    Snapshot,
    Work,
)
from planner.paths import is_set_aside
from planner.resolutions import choose, resolution_steps
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
    kept,
    members_of,
    obey,
    pick,
    unrelated,
)

# --- keep ----------------------------------------------------------------------------------------


def test_keep_sets_the_loser_aside_and_receives_the_increment_as_a_clone() -> None:
    hosts = diverged(after="34", own="X", written=True)
    before = kept(hosts["B"])
    option = pick(hosts)
    assert [step.type for step in option.steps] == ["rename", "sync", "promote"]
    rename, sync, promote = option.steps
    assert (rename.executor, sync.executor, promote.executor) == ("B", "A", "B")
    assert (rename.target_dataset, rename.new_name) == ("pool/root/data", "pool/root/data" + ASIDE)
    assert rename.end is not None
    assert (rename.end.name, rename.expected_written) == ("X", 50)
    assert sync.origin == f"pool/root/data{ASIDE}@2"
    assert (sync.intermediates, [s.name for s in sync.delivers]) == (False, ["3"])
    assert sync.expected_guids == (option.losers[0].base_guid,)
    assert [step.depends_on for step in option.steps] == [(), (rename.action_id,), (sync.action_id,)]
    assert not any(step.destructive for step in option.steps)
    assert (option.lost, option.lost_bytes, option.send_bytes) == ((), 0, 100)
    follow(decide(option), POLICY, hosts)
    assert before <= kept(hosts["B"])
    assert [snap.name for snap in hosts["B"].dataset("pool/root/data").snapshots] == ["1", "2", "3"]
    assert fits(hosts)
    aside = hosts["B"].dataset("pool/root/data" + ASIDE)
    assert [snap.name for snap in aside.snapshots] == ["X"]
    hosts["B"].destroy(aside.name, recursive=True)  # its owner may, whenever they wish
    assert fits(hosts)


def test_keep_without_anything_common_sends_all_again() -> None:
    hosts = unrelated()
    before = kept(hosts["B"])
    option = pick(hosts)
    assert [step.type for step in option.steps] == ["rename", "create"]
    follow(decide(option), POLICY, hosts)
    assert before <= kept(hosts["B"])
    assert fits(hosts)
    newest = replace(POLICY, initial="newest")
    assert [s.name for s in pick(unrelated(), policy=newest).steps[-1].delivers] == ["2"]
    assert [s.name for s in pick(unrelated()).steps[-1].delivers] == ["1"]


def test_children_get_their_names_back() -> None:
    hosts = diverged(children=("a b", "c"))
    option = pick(hosts)
    assert [step.type for step in option.steps] == ["rename", "sync", "promote", "rename", "rename"]
    assert [step.path for step in option.steps[3:]] == ["data/a b", "data/c"]
    assert [step.end and step.end.name for step in option.steps[3:]] == ["2", "2"]
    follow(decide(option), POLICY, hosts)
    assert {"pool/root/data/a b", "pool/root/data/c"} <= set(hosts["B"].datasets)
    assert not any(name.startswith(f"pool/root/data{ASIDE}/") for name in hosts["B"].datasets)
    hosts["A"].snapshot("pool/root/data/c", "3")
    hosts["B"].receive("pool/root/data/c", hosts["A"].send("pool/root/data/c", "3", "@2"))  # and go on


def test_children_of_the_root_get_their_names_back() -> None:
    root = replace(CONFLICT, path="")
    members = members_of(diverged())
    for place in (0, 1):  # the roots have nothing in common
        own = (Snapshot("1", f"7{place}", 1, 1, written=1),)
        held = replace(members[place].replicas["pool/root"], snapshots=own, written=0)
        members[place] = replace(members[place], replicas={**members[place].replicas, "pool/root": held})
    option = choose(root, "manual", "A", False, POLICY, members, NO_WORK, NOW)
    last = option.steps[-1]
    assert (last.path, last.target_dataset, last.new_name) == ("data", f"pool/root{ASIDE}/data", "pool/root/data")


def test_empty_snapshots_of_its_own_make_no_loser() -> None:
    option = pick(diverged(own="xy"))
    assert (option.losers, option.steps) == ((), ())


def test_a_loser_that_left_the_group_is_left_alone() -> None:
    hosts = diverged()
    decision = decide(pick(hosts))
    assert resolution_steps(decision, POLICY, members_of(hosts)[:1], NO_WORK, NOW) == ((), ())
    assert resolution_steps(decision, POLICY, members_of(hosts)[1:], NO_WORK, NOW) == ((), ())


def test_a_child_made_again_meanwhile_is_named_and_left() -> None:
    hosts = diverged(children=("c",))
    decision = decide(pick(hosts))
    for step in pick(hosts).steps[:3]:
        obey(step, hosts)
    hosts["B"].create("pool/root/data/c")
    steps, [skip] = resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW)
    assert (steps, "pool/root/data/c exists again" in skip.reason) == ((), True)


def test_a_bookmark_will_do_as_the_common_past() -> None:
    hosts = diverged()
    hosts["A"].bookmark("pool/root/data", "2", "kept")
    hosts["A"].destroy_snapshots("pool/root/data", ["1", "2"])
    option = pick(hosts)
    assert isinstance(option.steps[1].base, Bookmark)
    follow(decide(option), POLICY, hosts)
    assert fits(hosts)


def test_only_what_the_group_chooses_is_sent() -> None:
    policy = replace(POLICY, snapshot_exclude=("3",))
    assert [s.name for s in pick(diverged(after="34"), policy=policy).steps[1].delivers] == ["4"]
    assert "nothing newer than 2" in str(pick(diverged(after="3"), policy=policy).refused)
    hosts = unrelated()
    assert "that the group chooses" in str(pick(hosts, policy=replace(POLICY, snapshot_include=("9",))).refused)


def test_a_name_that_the_past_bears_is_stepped_over() -> None:
    hosts = diverged(after="345", own="X")
    hosts["B"].rename_snapshot("pool/root/data", "1", "3")
    option = pick(hosts)
    assert [s.name for s in option.steps[1].delivers] == ["4"]
    follow(decide(option), POLICY, hosts)


def test_a_winner_with_nothing_newer_must_take_a_snapshot_first() -> None:
    hosts = diverged(after="")
    option = pick(hosts)
    assert (option.steps, option.losers[0].system_id) == ((), "B")
    assert "take a snapshot there" in str(option.refused)
    hosts["A"].write("pool/root/data", 1)
    hosts["A"].snapshot("pool/root/data", "3")
    assert pick(hosts).refused is None


def test_pull_is_run_by_the_target() -> None:
    policy = replace(POLICY, transfer="pull")
    assert [step.executor for step in pick(diverged(), policy=policy).steps] == ["B", "B", "B"]


def test_who_wrote_there_can_write_there_again() -> None:
    hosts = diverged()
    hosts["B"].dataset("pool/root/data").properties["readonly"] = "off"
    policy = replace(POLICY, properties=(("compression", "zstd"),))
    decision = decide(pick(hosts, policy=policy))
    assert pick(hosts, policy=policy).steps[1].properties == (("readonly", "off"), ("compression", "zstd"))
    obey(pick(hosts, policy=policy).steps[0], hosts)
    [sync, _], _ = resolution_steps(decision, policy, members_of(hosts), NO_WORK, NOW)
    assert sync.properties == (("readonly", "off"), ("compression", "zstd"))
    assert pick(diverged()).steps[1].properties == ()


def test_what_can_not_be_set_aside() -> None:
    hosts = diverged(children=("c",))
    hosts["B"].snapshot("pool/root/data/c", "x" * 230)
    assert "too long to set it aside" in str(pick(hosts).refused)
    hosts["B"].destroy_snapshots("pool/root/data/c", ["x" * 230])
    hosts["B"].snapshot("pool/root", "x" * 240)  # keeps its name
    assert pick(hosts).refused is None
    one, other = (
        replace(m, root="pool", replicas={"pool": replace(m.replicas["pool/root/data"], dataset="pool")})
        for m in members_of(diverged())
    )
    root = replace(CONFLICT, path="")
    option = choose(root, "manual", "A", False, POLICY, [one, other], NO_WORK, NOW)
    assert "a pool can't be renamed" in str(option.refused)
    third = replace(
        other, system_id="C", root="pool/c", replicas={"pool/c": replace(other.replicas["pool"], dataset="pool/c")}
    )
    option = choose(root, "manual", "A", False, POLICY, [one, other, third], NO_WORK, NOW)
    assert {step.target for step in option.steps} == {"C"}  # which the pool does not hold up
    assert [loser.system_id for loser in option.losers] == ["C"]
    assert "pool is a pool, and stays as it is" in option.cost
    led = replace(POLICY, directional=True, hub="B")
    option = choose(root, "manual", "A", False, led, [one, other, third], NO_WORK, NOW)
    assert "a pool can't be renamed" in str(option.refused)  # all the others would follow it on


def test_a_column_that_was_not_reported_stops_it() -> None:
    [one, other] = members_of(diverged(own="", after="3"))
    held = other.replicas["pool/root/data"]
    unknown = replace(other, replicas={**other.replicas, "pool/root/data": replace(held, written=None)})
    in_conflict = replace(CONFLICT, sides=(Side("B", "pool/root/data", None, None, (), None),))
    option = choose(in_conflict, "manual", "A", False, POLICY, [one, unknown], NO_WORK, NOW)
    assert "report the column written" in str(option.refused)
    bystander = choose(CONFLICT, "manual", "A", False, POLICY, [one, unknown], NO_WORK, NOW)
    assert (bystander.losers, "nothing to resolve" in str(bystander.refused)) == ((), True)


def test_a_pool_that_is_not_there_waits() -> None:
    hosts = diverged()
    decision = decide(pick(hosts))
    [one, other] = members_of(hosts)
    away = replace(other, replicas={}, absent=other.replicas)
    steps, [skip] = resolution_steps(decision, POLICY, [one, away], NO_WORK, NOW)
    assert (steps, "is not in the inventory of hostB" in skip.reason) == ((), True)


def test_a_winner_that_lost_its_dataset_waits() -> None:
    hosts = diverged()
    decision = decide(pick(hosts))
    hosts["A"].destroy("pool/root/data", recursive=True)
    steps, [skip] = resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW)
    assert (steps, "no longer has pool/root/data" in skip.reason) == ((), True)


def test_the_conflict_above_goes_first() -> None:
    hosts = diverged(children=("c",))
    hosts["A"].write("pool/root/data/c", 1)
    hosts["A"].snapshot("pool/root/data/c", "3")
    hosts["B"].write("pool/root/data/c", 1)
    above = decide(pick(hosts))
    below_conflict = replace(CONFLICT, id="9999abcd-0000-4000-8000-000000000000", path="data/c")
    option = choose(below_conflict, "manual", "A", False, POLICY, members_of(hosts), NO_WORK, NOW)
    below = replace(decide(option), conflict_id=below_conflict.id, path="data/c")
    work = Work(decisions=(above, below))
    steps, [skip] = resolution_steps(below, POLICY, members_of(hosts), work, NOW)
    assert (steps, skip.reason) == ((), "the conflict of data, which lies above it, is resolved first")
    follow(above, POLICY, hosts)
    steps, skips = resolution_steps(below, POLICY, members_of(hosts), work, NOW)
    assert ([step.type for step in steps], skips) == (["rename", "sync", "promote"], ())


def test_the_root_lies_above_all() -> None:
    hosts = diverged()
    root_loser = replace(pick(hosts).losers[0], dataset="pool/root", aside="pool/root" + ASIDE)
    above = Decision("id", "", "manual", "A", False, (root_loser,))
    members = members_of(hosts)
    for name in ("1", "2"):  # the roots have nothing in common
        place = int(name) - 1
        held = members[place].replicas["pool/root"]
        own = replace(held, snapshots=(Snapshot(name, f"7{name}", 1, 1, written=1),), written=0)
        members[place] = replace(members[place], replicas={**members[place].replicas, "pool/root": own})
    decision = decide(pick(hosts))
    _, [skip] = resolution_steps(decision, POLICY, members, Work(decisions=(above,)), NOW)
    assert skip.reason == "the conflict of the root, which lies above it, is resolved first"
    elsewhere = replace(above, losers=(replace(root_loser, system_id="C"),))
    assert resolution_steps(decision, POLICY, members, Work(decisions=(elsewhere,)), NOW)[1] == ()


def encrypted(hosts: Hosts, ivsetguid: str | None) -> list[Member]:
    """The members as if all datasets were encrypted, the common past with these IV sets."""
    found = []
    for member in members_of(hosts):
        replicas = {
            name: replace(
                replica,
                encryption="aes-256-gcm",
                snapshots=tuple(replace(s, ivsetguid=ivsetguid) for s in replica.snapshots),
            )
            for name, replica in member.replicas.items()
        }
        found.append(replace(member, replicas=replicas))
    return found


def test_raw_streams_stay_raw() -> None:
    hosts = diverged(own="x")
    option = choose(CONFLICT, "manual", "A", False, POLICY, encrypted(hosts, "7"), NO_WORK, NOW)
    assert [step.type for step in option.steps] == [
        "rename",
        "sync",
        "promote",
    ]  # x is empty, and in the way all the same
    assert (option.steps[1].raw, option.steps[1].embedded) == (True, False)
    assert pick(diverged()).steps[1].embedded
    plain = pick(diverged(), policy=replace(POLICY, raw="always")).steps[1]
    assert (plain.raw, plain.embedded) == (False, True)  # of what is not encrypted, a raw stream is like any other
    unknown = choose(CONFLICT, "manual", "A", False, POLICY, encrypted(diverged(), None), NO_WORK, NOW)
    assert (unknown.steps, "report the column ivsetguid" in str(unknown.refused)) == ((), True)


def test_a_hub_that_has_all_needs_nothing_more() -> None:
    decision = decide(pick(diverged(), winner="B", policy=HUB_A))
    hosts = diverged(after="", own="X")
    hosts["A"].receive("pool/root/data", hosts["B"].send("pool/root/data", "X", "@2"))
    assert resolution_steps(decision, HUB_A, encrypted(hosts, None), NO_WORK, NOW) == ((), ())


def test_a_hub_with_something_else_in_its_place_is_left_alone() -> None:
    hosts = diverged()
    option = pick(hosts, winner="B", policy=HUB_A)
    obey(option.steps[0], hosts)
    hosts["A"].create("pool/root/data")
    hosts["A"].snapshot("pool/root/data", "other")
    assert resolution_steps(decide(option), HUB_A, members_of(hosts), NO_WORK, NOW) == ((), ())


# --- a stream that breaks off --------------------------------------------------------------------


def broken(hosts: Hosts) -> Decision:
    """The decision, after its rename and a part of its transfer."""
    option = pick(hosts)
    rename, transfer = option.steps[:2]
    obey(rename, hosts)
    with pytest.raises(Exception, match="Partially received"):
        obey(transfer, hosts, cut=0)
    return decide(option)


@pytest.mark.parametrize("make", [diverged, unrelated])
def test_a_broken_transfer_is_resumed(make: Any) -> None:
    hosts = make()
    before = kept(hosts["B"])
    decision = broken(hosts)
    steps, _ = resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW)
    assert steps[0].type == "resume"
    follow(decision, POLICY, hosts)
    assert before <= kept(hosts["B"])
    assert fits(hosts)


@pytest.mark.parametrize("make", [diverged, unrelated])
def test_what_can_not_be_resumed_is_dropped_and_sent_again(make: Any) -> None:
    hosts = make()
    decision = broken(hosts)
    first = "3" if make is diverged else "1"
    hosts["A"].write("pool/root/data", 1)
    hosts["A"].snapshot("pool/root/data", "9")
    hosts["A"].destroy_snapshots("pool/root/data", [first])
    steps, _ = resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW)
    again = ["sync", "promote"] if make is diverged else ["create"]
    assert [step.type for step in steps[:3]] == ["abort_receive", *again]
    follow(decision, POLICY, hosts)
    assert fits(hosts)


def test_an_unreadable_token_is_dropped() -> None:
    hosts = diverged()
    decision = broken(hosts)
    [one, other] = members_of(hosts)
    junk = replace(other.replicas["pool/root/data"], resume_token="1-junk")
    found = replace(other, replicas={**other.replicas, "pool/root/data": junk})
    [abort, *_], _ = resolution_steps(decision, POLICY, [one, found], NO_WORK, NOW)
    assert (abort.type, abort.resume_token) == ("abort_receive", "1-junk")
    kid = Replica("pool/root/data/kid")  # below what `zfs receive -A` would destroy
    with_kid = replace(found, replicas={**found.replicas, kid.dataset: kid})
    steps, [skip] = resolution_steps(decision, POLICY, [one, with_kid], NO_WORK, NOW)
    assert (steps, "lies below it" in skip.reason) == ((), True)


def test_something_else_in_its_place_is_left_alone() -> None:
    hosts = diverged()
    decision = decide(pick(hosts))
    obey(pick(hosts).steps[0], hosts)
    hosts["B"].create("pool/root/data")
    steps, [skip] = resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW)
    assert (steps, "was made anew" in skip.reason) == ((), True)


# --- the hub loses -------------------------------------------------------------------------------


def test_a_hub_that_loses_gets_all_of_the_winners_history() -> None:
    hosts = diverged(after="3", own="XYZ")
    policy = replace(HUB_A, properties=(("compression", "zstd"),))
    option = pick(hosts, winner="B", policy=policy)
    assert [step.type for step in option.steps] == ["rename", "sync", "promote", "sync"]
    assert [s.name for s in option.steps[-1].delivers] == ["Y", "Z"]
    assert [step.properties for step in option.steps if step.type == "sync"] == [(("compression", "zstd"),), ()]
    follow(decide(option), HUB_A, hosts)
    assert hosts["A"].guids("pool/root/data") == hosts["B"].guids("pool/root/data")
    one_more = diverged(after="3", own="XYZ")
    assert [step.type for step in pick(one_more, winner="B").steps] == ["rename", "sync", "promote"]  # without a hub


def test_a_hub_that_lacks_the_dataset_gets_it() -> None:
    hosts = {"A": a_host("A"), "B": unrelated()["B"]}
    for snap in "ZW":
        hosts["B"].write("pool/root/data", 100)
        hosts["B"].snapshot("pool/root/data", snap)
    option = pick(hosts, winner="B", policy=HUB_A)
    assert [(step.type, step.target) for step in option.steps] == [("create", "A"), ("sync", "A")]
    assert option.cost == "hostA gets all of pool/root/data from hostB."
    follow(decide(option), HUB_A, hosts)
    assert hosts["A"].guids("pool/root/data") == hosts["B"].guids("pool/root/data")


def test_a_hub_that_lacks_what_lies_above_says_so() -> None:
    hosts = {"A": a_host("A"), "B": unrelated()["B"]}
    hosts["A"].destroy("pool/root")
    assert "hostA has no pool/root yet" in str(pick(hosts, winner="B", policy=HUB_A).refused)


def test_a_hub_that_is_rolled_back_catches_up() -> None:
    hosts = diverged(after="3", own="XY")
    option = pick(hosts, winner="B", discard=True, policy=HUB_A)
    assert [step.type for step in option.steps] == ["rollback", "sync"]
    follow(decide(option), HUB_A, hosts)
    assert hosts["A"].guids("pool/root/data") == hosts["B"].guids("pool/root/data")


def test_every_member_that_can_not_follow_the_winner_loses() -> None:
    hosts = diverged(after="3", own="X")
    hosts["C"] = a_host("C")
    hosts["C"].receive("pool/root/data", hosts["A"].send("pool/root/data", "1"))
    assert [loser.system_id for loser in pick(hosts, winner="A").losers] == ["B"]
    hosts["C"].receive("pool/root/data", hosts["A"].send("pool/root/data", "3", "@1", intermediates=True))
    assert [loser.system_id for loser in pick(hosts, winner="B").losers] == ["A", "C"]
    option = pick(hosts, winner="B")
    follow(decide(option), POLICY, hosts)
    assert fits(hosts, "B", "A")
    assert fits(hosts, "B", "C")


# --- properties ----------------------------------------------------------------------------------

letters = st.text("XYxy", max_size=3).map(lambda text: "".join(dict.fromkeys(text)))
worlds = st.builds(
    diverged,
    after=st.sampled_from(["3", "34", "345"]),
    own=letters,
    written=st.booleans(),
    children=st.sampled_from([(), ("c",), ("c", "d e")]),
)


@settings(deadline=None)
@given(worlds | st.builds(unrelated), st.sampled_from(["A", "B"]), st.sampled_from([POLICY, HUB_A]), st.booleans())
def test_a_decision_ends_with_a_loser_that_follows(hosts: Hosts, winner: str, policy: Policy, discard: bool) -> None:
    loser = "B" if winner == "A" else "A"
    option = pick(hosts, winner=winner, policy=policy, discard=discard)
    if option.refused is not None:
        assert option.steps == ()
        return
    before = kept(hosts[loser])
    done = follow(decide(option), policy, hosts)
    assert fits(hosts, winner, loser)
    assert [step.action_id for step in done] == [step.action_id for step in option.steps]
    if not discard:
        assert before <= kept(hosts[loser])
        assert not any(step.destructive for step in done)


@settings(deadline=None)
@given(worlds | st.builds(unrelated), st.sampled_from(["A", "B"]), st.sampled_from([POLICY, HUB_A]), st.booleans())
def test_one_run_does_it_all_and_credits_leave_the_rest(
    hosts: Hosts, winner: str, policy: Policy, discard: bool
) -> None:
    option = pick(hosts, winner=winner, policy=policy, discard=discard)
    if option.refused is not None:
        return
    decision, reported, left = decide(option), members_of(hosts), list(option.steps)
    credits: list[Credit] = []
    while left:
        obey(left[0], hosts)
        credits.append(Credit(left[0], left[0].delivers, 2000.0 + len(credits)))
        left = left[1:]
        steps, skips = resolution_steps(decision, policy, reported, Work(credits=tuple(credits)), NOW)
        assert ([step.action_id for step in steps], skips) == ([step.action_id for step in left], ())
        for again, first in zip(steps, left, strict=True):
            assert (again.end and again.end.guid, again.target_dataset) == (
                first.end and first.end.guid,
                first.target_dataset,
            )


def test_names_set_aside_are_known_as_such() -> None:
    [loser] = pick(diverged()).losers
    assert is_set_aside(loser.aside)
    assert loser.aside == "pool/root/data" + ASIDE
