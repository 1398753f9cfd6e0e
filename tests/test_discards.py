"""What a discard may remove: what was decided on, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Neighbour, Work
from planner.resolutions import choose, resolution_steps
from tests import pictures
from tests.conflict_world import (
    CONFLICT,
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
    pick,
    unrelated,
)


def test_discard_rolls_back_what_was_decided_and_no_more() -> None:
    hosts = diverged(own="Xy", written=True)
    option = pick(hosts, discard=True)
    [rollback] = option.steps
    assert (rollback.type, rollback.destructive, rollback.executor) == ("rollback", True, "B")
    assert [s.name for s in option.lost] == ["X", "y"]
    assert rollback.expected_guids == option.losers[0].removable_guids == tuple(s.guid for s in option.lost)
    assert (option.lost_bytes, rollback.expected_written) == (150, 50)
    follow(decide(option), POLICY, hosts)
    assert fits(hosts)


def test_a_discard_names_the_bookmarks_that_go_along() -> None:
    hosts = diverged(own="XY")
    held = hosts["B"].dataset("pool/root/data").snapshots
    marked = {snapshot.name: snapshot.guid for snapshot in held}
    for name in "1X":
        hosts["B"].bookmark("pool/root/data", name, f"of-{name}")
    hosts["B"].destroy_snapshots("pool/root/data", ["X"])
    option = pick(hosts, discard=True)
    assert marked["X"] in option.steps[0].expected_guids
    assert marked["1"] not in option.steps[0].expected_guids
    assert marked["X"] not in option.losers[0].removable_guids
    follow(decide(option), POLICY, hosts)
    assert fits(hosts)


@pytest.mark.parametrize("near", ["C/: 1 2 X", "C/: X"])
def test_a_discard_names_who_goes_on_from_what_is_lost(near: str) -> None:
    """In the same group, with its pool away, or in another."""
    pair, (third,) = pictures.members_of("A: 1 2 3 B: 1 2 X"), pictures.members_of(near)
    there = replace(third, replicas=third.absent, absent={})
    beside = Neighbour(replace(pictures.hub_policy(hub="B"), group_id="far"), (pair[1], there))
    policy = pictures.hub_policy()
    for members, work in (([*pair, third], Work()), (pair, Work(neighbours=(beside,)))):
        plan = plan_group(policy, members, work, pictures.NOW)
        (conflict,) = (each for each in plan.conflicts if each.type == "diverged")
        costs = [
            choose(conflict, "manual", "A", yes, policy, members, work, pictures.NOW).cost for yes in (True, False)
        ]
        told = "tank/data on hostC shares X with it, which is lost: it can't go on from tank/data as it is."
        assert [told in cost for cost in costs] == [True, False]
        alone = choose(conflict, "manual", "A", True, policy, pair, Work(), pictures.NOW)
        assert "hostC" not in alone.cost


def test_a_discard_names_who_goes_on_from_a_bookmark_that_goes_along() -> None:
    pair, (third,) = pictures.members_of("A: 1 2 3 B: 1 2 #X Y"), pictures.members_of("C: 1 2 X")
    far = Neighbour(replace(pictures.hub_policy(hub="B"), group_id="far"), (pair[1], third))
    policy, work = pictures.hub_policy(), Work(neighbours=(far,))
    (conflict,) = (c for c in plan_group(policy, pair, work, pictures.NOW).conflicts if c.type == "diverged")
    cost = choose(conflict, "manual", "A", True, policy, pair, work, pictures.NOW).cost
    assert cost.count("which is lost") == 1
    assert "tank/data on hostC shares X with it, which is lost" in cost


def test_discard_of_what_was_only_written() -> None:
    hosts = diverged(own="", written=True)
    option = pick(hosts, discard=True)
    assert (option.lost, option.lost_bytes) == ((), 50)
    follow(decide(option), POLICY, hosts)
    assert fits(hosts)


def change_write(hosts: Hosts) -> None:
    hosts["B"].write("pool/root/data", 7)


def change_snapshot(hosts: Hosts) -> None:
    hosts["B"].snapshot("pool/root/data", "late")


@pytest.mark.parametrize("change", [change_write, change_snapshot])
def test_discard_stops_when_anything_was_added(change: Any) -> None:
    hosts = diverged(written=True)
    decision = decide(pick(hosts, discard=True))
    change(hosts)
    steps, [skip] = resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW)
    assert (steps, "decide again" in skip.reason) == ((), True)


@pytest.mark.parametrize("change", [change_write, change_snapshot])
def test_keep_goes_on_when_anything_was_added(change: Any) -> None:
    hosts = diverged(written=True)
    decision = decide(pick(hosts))
    change(hosts)
    before = kept(hosts["B"])
    follow(decision, POLICY, hosts)
    assert before <= kept(hosts["B"])


def test_discard_is_refused_where_nothing_is_common() -> None:
    option = pick(unrelated(), discard=True)
    assert (option.steps, "nothing to go back to" in str(option.refused)) == ((), True)


def test_discard_is_refused_on_unknowns_holds_and_clones() -> None:
    hosts = diverged()
    [one, other] = members_of(hosts)

    def refusal(**fields: Any) -> str:
        held = other.replicas["pool/root/data"]
        last = replace(held.snapshots[-1], **{k: v for k, v in fields.items() if k != "row"})
        changed = replace(held, snapshots=(*held.snapshots[:-1], last), **fields.get("row", {}))
        found = replace(other, replicas={**other.replicas, "pool/root/data": changed})
        return str(choose(CONFLICT, "manual", "A", True, POLICY, [one, found], NO_WORK, NOW).refused)

    assert "report the column written" in refusal(row={"written": None})
    assert "report the column userrefs" in refusal(userrefs=None)
    assert "without its guid" in refusal(guid="", by_name=True)
    assert refusal() == "None"
    hosts["B"].hold("pool/root/data", "X", "tag")
    assert "has holds" in str(pick(hosts, discard=True).refused)
    hosts["B"].release("pool/root/data", "X", "tag")
    hosts["B"].datasets["pool/clone"] = replace(
        hosts["B"].dataset("pool/root"), name="pool/clone", origin="pool/root/data@X"
    )
    assert "has a clone" in str(pick(hosts, discard=True).refused)


def test_unknown_sizes_make_an_unknown_loss() -> None:
    [one, other] = members_of(diverged())
    held = other.replicas["pool/root/data"]
    unknown = replace(held, snapshots=tuple(replace(s, written=None) for s in held.snapshots), written=1)
    found = replace(other, replicas={**other.replicas, "pool/root/data": unknown})
    option = choose(CONFLICT, "manual", "A", True, POLICY, [one, found], NO_WORK, NOW)
    assert (option.lost_bytes, option.refused) == (None, None)
    assert "an unknown number of bytes" in option.cost


def test_a_partial_receive_is_dropped_before_a_rollback() -> None:
    hosts = diverged(own="", written=False)
    with pytest.raises(Exception, match="Partially received"):
        hosts["B"].receive("pool/root/data", hosts["A"].send("pool/root/data", "3", "@2").cut(0), resumable=True)
    hosts["B"].write("pool/root/data", 5)
    option = pick(hosts, discard=True)
    assert [step.type for step in option.steps] == ["abort_receive", "rollback"]
    follow(decide(option), POLICY, hosts)
    assert fits(hosts)


def test_a_dataset_that_is_gone_needs_no_rollback() -> None:
    hosts = diverged()
    decision = decide(pick(hosts, discard=True))
    hosts["B"].destroy("pool/root/data", recursive=True)
    assert resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW) == ((), ())


def test_nobody_is_rolled_back_when_one_of_them_has_changed() -> None:
    """What B lost would come again from C, and be rolled back again."""
    hosts = diverged(own="X")
    hosts["C"] = a_host("C")
    hosts["C"].receive("pool/root/data", hosts["B"].send("pool/root/data", "1"))
    hosts["C"].receive("pool/root/data", hosts["B"].send("pool/root/data", "X", "@1", intermediates=True))
    decision = decide(pick(hosts, discard=True))
    assert [loser.system_id for loser in decision.losers] == ["B", "C"]
    hosts["C"].snapshot("pool/root/data", "late")
    steps, skips = resolution_steps(decision, POLICY, members_of(hosts), NO_WORK, NOW)
    assert (steps, [skip.target for skip in skips]) == ((), ["B", "C"])
    assert {skip.reason for skip in skips} == {
        "pool/root/data on hostC has changed since it was decided what to discard: decide again"
    }
