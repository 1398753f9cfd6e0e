"""Decisions that the group has left behind: what is not begun is not begun any more, what is begun is ended."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Decision, Member, Plan, Policy, Work
from planner.progress import is_left_behind
from planner.resolutions import choose
from tests.pictures import NOW, draw, hub_policy, member_with, members_of, peers_policy, reasons, story
from tests.tokens import encode_resume_token


def decided(members: list[Member], winner: str = "A", discard: bool = False, policy: Policy | None = None) -> Decision:
    """What a person decides about the only conflict there is."""
    policy = policy or hub_policy()
    (conflict,) = [c for c in plan_group(policy, members, Work(), NOW).conflicts if c.type != "missing"]
    option = choose(conflict, "manual", winner, discard, policy, members, Work(), NOW)
    assert option.refused is None
    return Decision(conflict.id, conflict.path, "manual", winner, discard, option.losers)


def plan(decisions: Decision | tuple[Decision, ...], members: list[Member], policy: Policy | None = None) -> Plan:
    several = (decisions,) if isinstance(decisions, Decision) else decisions
    return plan_group(policy or hub_policy(), members, Work(decisions=several), NOW)


def half_way(decision: Decision, arrived: str | None = None, kid: str | None = None) -> Member:
    """B with `1 2 X` set aside, and perhaps the clone that takes its place, and what moved along."""
    aside = decision.losers[0].aside.removeprefix("tank/")
    found = member_with("B", "", {aside: "1 2 X", **({f"{aside}/kid": kid} if kid else {})})
    if arrived is None:
        return found
    clone = replace(member_with("B", "", {"data": arrived}).replicas["tank/data"], origin=f"tank/{aside}@2")
    return replace(found, replicas={**found.replicas, "tank/data": clone})


APART = "A: 1 2 3  B: 1 2 X"


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("fields", [{"exclude": ("data",)}, {"include": ("other",)}])
def test_nothing_is_begun_in_a_dataset_that_the_group_no_longer_chooses(fields: Any, discard: bool) -> None:
    decision = decided(members_of(APART), discard=discard)
    made = plan(decision, members_of(APART), hub_policy(**fields))
    assert made.steps == ()
    assert "the group group no longer chooses tank/data" in reasons(made, "B")
    if not discard:
        begun = [members_of(APART)[0], half_way(decision)]
        assert draw(plan(decision, begun, hub_policy(**fields))) == "B 2-3, B promote"


@pytest.mark.parametrize("discard", [False, True])
def test_nothing_is_begun_below_a_root_that_the_member_no_longer_has(discard: bool) -> None:
    a, b = members_of(APART)
    made = plan(decided([a, b], discard=discard), [a, replace(b, root="tank/elsewhere")])
    assert "has another root than when it was decided about tank/data: decide again" in reasons(made, "B")
    assert not [step for step in made.steps if step.type in ("rename", "rollback")]


def test_nothing_is_rolled_back_while_the_winner_can_send_nothing() -> None:
    decision = decided(members_of(APART), discard=True)
    away = plan(decision, members_of("A-: 1 2 3  B: 1 2 X"))
    assert (away.steps, "the inventory of hostA is stale" in reasons(away, "B")) == ((), True)
    paused = plan(decision, members_of(APART), hub_policy(paused_systems=frozenset("A")))
    assert (paused.steps, "hostA is paused" in reasons(paused, "B")) == ((), True)
    assert draw(plan(decision, members_of(APART))) == "B rollback, B diverged"


def test_a_new_hub_does_not_give_way_with_what_it_took_since() -> None:
    """A was to win over B and C; then C took over."""
    decision = decided(members_of("A: 1 2 3  B: 1 2 X  C: 1 2 X"))
    made = plan(decision, members_of("A: 1 2 3  B: 1 2 X  C: 1 2 X Y"), hub_policy(hub="C"))
    assert draw(made, usual="C") == "B X-Y, A diverged"
    assert "hostC has data of its own that was not there when it was decided: decide again" in reasons(made, "C")
    assert [c.status for c in made.conflicts if c.type == "diverged"] == ["open"]


@pytest.mark.parametrize(("since", "begins"), [("", True), (" x", True), (" Y", False), (" y?", False)])
def test_a_hub_gives_way_with_no_data_that_nobody_knew_of(since: str, begins: bool) -> None:
    decision = decided(members_of("A: 1 2 X  B: 1 2 3"), winner="B")
    steps = plan(decision, members_of(f"A: 1 2 X{since}  B: 1 2 3")).steps
    assert [step.type for step in steps[:1]] == (["rename"] if begins else [])


def test_nothing_is_set_aside_for_a_history_that_the_hub_does_not_share() -> None:
    decision = decided(members_of("A: 1 2 3  B: 1 2 X  C: 1 2"))
    made = plan(decision, members_of("A: 1 2 3  B: 1 2 X  C: 1 2 Y"), hub_policy(hub="C"))
    assert made.steps == ()
    assert "hostC, the hub, has another history of tank/data than hostA: decide again" in reasons(made, "B")


def test_what_is_half_way_waits_for_a_person_when_the_winner_has_left() -> None:
    a, _, c = members_of("A: 1 2 3  B: 1 2 X  C: 1 2 3")
    peers = peers_policy(order=("B", "C"))
    decision = decided([a, *members_of("B: 1 2 X")])
    made = plan(decision, [half_way(decision, kid="1 2"), c], peers)
    assert made.steps == ()
    aside = decision.losers[0].aside
    assert f"add it again, or take back what was set aside: zfs rename {aside} tank/data" in reasons(made, "B")
    made = plan(decision, [half_way(decision, arrived="3", kid="1 2"), c], peers)
    assert made.steps == ()
    assert f"zfs promote tank/data, and rename back what lies below {aside}" in reasons(made, "B")
    assert story(plan(decision, [*members_of("B: 1 2"), c], peers)) == ["sync tank/data"], "it was taken back"


@pytest.mark.parametrize("group", [f"g{number}" for number in range(6)])  # whichever decision's id comes first
def test_only_those_wait_for_another_decision_who_are_part_of_it(group: str) -> None:
    policy = replace(hub_policy(), group_id=group)
    first = decided(members_of("A: 1 2 3  B: 1 2 X  C: 1 2 3"), policy=policy)
    members = members_of("A: 1 2 3 4  B-: 1 2 X  C: 1 2 3 Y")
    made = plan_group(policy, members, Work(decisions=(first,)), NOW)
    (conflict,) = [c for c in made.conflicts if c.type == "diverged"]
    option = choose(conflict, "manual", "A", False, policy, members, Work(), NOW)
    second = replace(first, conflict_id=conflict.id, losers=option.losers)
    assert draw(plan((first, second), members, policy)).startswith("C rename, C 3-4, C promote")


def test_what_moves_along_with_a_hub_that_gives_way_is_no_orphan() -> None:
    a = member_with("A", "", {"data": "1 2 3", "data/kid": "1 2 3"})
    b = member_with("B", "", {"data": "1 2 X", "data/kid": "1 2"})
    decision = decided([a, b], winner="B")
    aside = decision.losers[0].aside.removeprefix("tank/")
    made = plan(decision, [member_with("A", "", {aside: "1 2 3", f"{aside}/kid": "1 2 3"}), b])
    assert made.conflicts == ()
    assert "tank/data/kid waits until what was decided about its conflict has been done" in reasons(made, "B")


@pytest.mark.parametrize("since", ["*", "Y"])
def test_a_hub_that_was_only_to_get_what_is_newer_is_not_set_aside_for_it(since: str) -> None:
    decision = decided(members_of("A: 1 2  B: 1 2 X"), winner="B")
    assert draw(plan(decision, members_of("A: 1 2  B: 1 2 X"))).startswith("A 2-X via B")
    made = plan(decision, members_of(f"A: 1 2 {since}  B: 1 2 X"))
    assert made.steps == ()
    assert "has data of its own that was not there when it was decided: decide again" in reasons(made, "A")


@pytest.mark.parametrize("group", [f"g{number}" for number in range(6)])  # whichever decision's id comes first
def test_what_has_begun_is_ended_before_what_was_decided_earlier(group: str) -> None:
    """The hub is half way to C's history; what was decided for B before, and not begun, gets no other chance."""
    policy = replace(hub_policy(), group_id=group)
    first = decided(members_of("A: 1 2  B: 1 X"), winner="B", policy=policy)
    members = members_of("A: 1 2 3  B: 1 X  C: 1 Z")
    (conflict,) = [c for c in plan(first, members, policy).conflicts if c.type == "diverged"]
    option = choose(conflict, "manual", "C", False, policy, members, Work(), NOW)
    second = replace(first, conflict_id=conflict.id, winner="C", losers=option.losers)
    aside = option.losers[0].aside.removeprefix("tank/")
    begun = [member_with("A", "", {aside: "1 2 3"}), *members[1:]]
    assert draw(plan((first, second), begun, policy)).startswith("A 1-Z via C, A promote, B rename")


@pytest.mark.parametrize(
    ("arrived", "way_out"),
    [
        ("7 8", "rename back what lies below tank/data.aside-"),
        ("()", "zfs receive -A tank/data, then zfs rename tank/data.aside-"),
    ],
)
def test_what_was_sent_anew_is_ended_by_a_person_when_the_winner_has_left(arrived: str, way_out: str) -> None:
    decision = decided(members_of("A: 7 8  B: 1 2 X"))
    b = half_way(decision, arrived, kid="1 2")
    token = encode_resume_token("tank/data@7", "7", None, 300) if arrived == "()" else None
    held = replace(b.replicas["tank/data"], origin=None, resume_token=token)
    b = replace(b, replicas={**b.replicas, "tank/data": held})
    made = plan(decision, [b, *members_of("C: 7 8")], peers_policy(order=("B", "C")))
    assert way_out in reasons(made, "B")
    assert made.steps == ()


def test_a_decision_of_which_the_rest_is_left_behind_is_given_up() -> None:
    decision = decided(members_of("A: 1 2 3  B: 1 2 X  C: 1 2 Y"))
    a, b, c = members_of("A: 1 2 3  B: 1 2 X  C: 1 2 3")
    assert not is_left_behind(decision, hub_policy(), [a, b, c], NOW)
    assert is_left_behind(decision, hub_policy(), [a, replace(b, root="tank/elsewhere"), c], NOW), "C is put right"


def test_what_has_begun_below_is_ended_before_what_lies_above_begins() -> None:
    lines = {"A": {"data": "1 2 3", "data/kid": "1 2 3"}, "B": {"data": "1 2 X", "data/kid": "1 2 Y"}}
    members = [member_with(name, "", each) for name, each in lines.items()]
    conflicts = {c.path: c for c in plan_group(hub_policy(), members, Work(), NOW).conflicts if c.type == "diverged"}
    losers = {
        p: choose(c, "manual", "A", False, hub_policy(), members, Work(), NOW).losers for p, c in conflicts.items()
    }
    both = tuple(Decision(c.id, p, "manual", "A", False, losers[p]) for p, c in conflicts.items())
    aside = losers["data/kid"][0].aside.removeprefix("tank/")
    begun = [members[0], member_with("B", "", {"data": "1 2 X", aside: "1 2 Y"})]
    made = plan(both, begun)
    assert story(made) == ["sync tank/data/kid", "promote tank/data/kid"]
    assert "the conflict of data/kid, which lies below it, is resolved first" in reasons(made, "B")


def test_a_hub_that_lost_what_was_to_give_way_does_not_get_all_of_the_winners() -> None:
    decision = decided(members_of("A: 1 2  B: 1 X"), winner="B")
    made = plan(decision, members_of("A:  B: 1 X"))
    assert made.steps == ()
    assert "tank/data is not on hostA any more: decide again" in reasons(made, "A")


def test_of_two_decisions_that_change_the_hub_the_one_that_has_begun_goes_first() -> None:
    members = members_of("A: 1 2 3  B: 1 X  C: 1 Z  D: 1 W")
    (conflict,) = [c for c in plan_group(hub_policy(), members, Work(), NOW).conflicts if c.type == "diverged"]
    ways = {winner: choose(conflict, "manual", winner, False, hub_policy(), members, Work(), NOW) for winner in "CD"}
    untouched = tuple(
        replace(one, aside="tank/data.aside-00000000") for one in ways["D"].losers if one.system_id == "A"
    )
    first = Decision("0", "data", "manual", "D", False, untouched)
    second = Decision(conflict.id, "data", "manual", "C", False, ways["C"].losers)
    aside = next(one.aside for one in second.losers if one.system_id == "B").removeprefix("tank/")
    begun = [members[0], member_with("B", "", {aside: "1 X"}), *members[2:]]
    assert draw(plan((first, second), begun)).startswith("A rename, A 1-Z via C")
    assert draw(plan((first, second), members)).startswith("A rename, A 1-W via D"), "or else the first by its id"
