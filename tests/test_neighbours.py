"""Decisions of two groups about one place: what one has begun the other neither follows nor changes."""

from dataclasses import replace

import pytest

from planner import plan_group
from planner.decisions import in_turn
from planner.model import Decision, Member, Neighbour, Plan, Policy, Work
from planner.resolutions import choose
from tests.pictures import NOW, draw, hub_policy, member_with, members_of, reasons
from tests.test_progress import decided, half_way

HUB = hub_policy(order=("A", "B"))
NEXT = replace(hub_policy(hub="B", order=("B", "C"), on_conflict="use_newest"), group_id="h", name="next")


@pytest.mark.parametrize("arrived", [None, "3"])
def test_what_a_hub_has_half_way_is_not_its_history(arrived: str | None) -> None:
    """B is the loser in one group and leads C in the next, which would else begin anew there."""
    a, b, c = members_of("A: 1 2 3  B: 1 2 X  C: 1 2")
    decision = decided([a, b], policy=HUB)
    b = half_way(decision, arrived)
    made = plan_group(NEXT, [b, c], Work(neighbours=(Neighbour(HUB, (a, b), (decision,)),)), NOW)
    assert (made.steps, made.decided, made.conflicts) == ((), (), ())
    assert reasons(made, "C") == "tank/data waits until what the group group decided about it has been done"
    assert plan_group(NEXT, [b, c], Work(), NOW).conflicts, "it would be one, without that"
    (d,) = members_of("D:")
    made = plan_group(NEXT, [b, c, d], Work(neighbours=(Neighbour(HUB, (a, b), (decision,)),)), NOW)
    assert "tank/data waits until what the group group decided" in reasons(made, "D")
    assert made.waiting == ("data",)
    assert [cell.late for cell in made.cells if cell.system_id == "C"] == [True], "nothing tells how far it lags"


def test_one_that_is_half_way_holds_up_nobody_elsewhere() -> None:
    """Z has been set aside for A; B, which leads the next group, is whole, and A's group does nothing now."""
    a, b, c, z = members_of("A: 1 2 3  B: 1 2 X Y  C: 1 2 X  Z: 1 2 W")
    members = [a, b, replace(z, system_id="Z")]
    policy = hub_policy(order=("A", "B", "Z"))
    (conflict,) = [found for found in plan_group(policy, members, Work(), NOW).conflicts if found.type == "diverged"]
    losers = choose(conflict, "manual", "A", False, policy, members, Work(), NOW).losers
    decision = Decision(conflict.id, conflict.path, "manual", "A", False, losers)
    z = member_with("Z", "", {losers[1].aside.removeprefix("tank/"): "1 2 W"})
    beside = Neighbour(replace(policy, enabled=False), (a, b, z), (decision,))
    assert draw(plan_group(NEXT, [b, c], Work(neighbours=(beside,)), NOW), usual="B") == "C X-Y"
    (d,) = members_of("D: 1 2 X Y W")
    to_b = replace(NEXT, hub="D", order=("D", "B"))
    assert draw(plan_group(to_b, [d, b], Work(neighbours=(beside,)), NOW), usual="D") == "B Y-W"


def test_what_may_not_begin_holds_nothing_up() -> None:
    a, b, c = members_of("A: 1 2 3 4  B: 1 2 3  C: 9")
    here = hub_policy(order=("A", "B"))
    there = replace(hub_policy(hub="C", order=("C", "B")), group_id="h", name="old")
    (conflict,) = [each for each in plan_group(there, [c, b], Work(), NOW).conflicts if each.type == "orphaned"]
    losers = choose(conflict, "manual", "C", False, there, [c, b], Work(), NOW).losers
    decision = Decision(conflict.id, conflict.path, "manual", "C", False, losers)

    def beside(policy: Policy, b: Member = b) -> Plan:
        return plan_group(here, [a, b], Work(neighbours=(Neighbour(policy, (c, b), (decision,)),)), NOW)

    assert "waits until what the group old decided" in reasons(beside(there), "B")
    for quiet in (replace(there, enabled=False), replace(there, paused_systems=frozenset("B"))):
        assert draw(beside(quiet)) == "B 3-4"
    moved = member_with("B", "", {losers[0].aside.removeprefix("tank/"): "1 2 3"})
    assert beside(replace(there, enabled=False), moved).steps == (), "but for what has begun"


def two_roots(*members: Member) -> list[Member]:
    return [replace(member, root="tank/data") for member in members]


@pytest.mark.parametrize("group", ["a", "z"])
def test_of_two_groups_decisions_about_one_place_one_is_carried_out_first(group: str) -> None:
    """One has begun, or else that of the group whose id comes first."""
    a = member_with("A", "", {"data": "1 2 3", "data/kid": "1 2 3"})
    b = member_with("B", "", {"data": "1 2 X", "data/kid": "1 2 Y"})
    above = hub_policy(include=("data",))
    decision = replace(decided(members_of("A: 1 2 3  B: 1 2 X"), policy=HUB), path="data")
    below = replace(hub_policy(), group_id=group, name="kids")
    (conflict,) = [c for c in plan_group(below, two_roots(a, b), Work(), NOW).conflicts if c.path == "kid"]
    option = choose(conflict, "manual", "A", False, below, two_roots(a, b), Work(), NOW)
    kids = Decision(conflict.id, conflict.path, "manual", "A", False, option.losers)

    def beside(b: Member, decisions: tuple[Decision, ...] = (kids,)) -> Plan:
        work = Work(decisions=decisions, neighbours=(Neighbour(above, (a, b), (decision,)),))
        return plan_group(below, two_roots(a, b), work, NOW)

    assert [step.type for step in beside(b).steps] == (["rename", "sync", "promote"] if group == "a" else [])
    aside = decision.losers[0].aside.removeprefix("tank/")
    moved = member_with("B", "", {aside: "1 2 X", f"{aside}/kid": "1 2 Y"})
    made = beside(moved)
    assert made.steps == ()
    assert "what the group group decided about tank/data is carried out first" in reasons(made, "B")
    shown = [option for c in beside(b, ()).conflicts if c.type != "missing" for option in c.options if option.winner]
    assert {option.refused for option in shown} == {"what the group group decided about tank/data is carried out first"}
    work = Work(neighbours=(Neighbour(above, (a, b), (decision,)),))
    facts = below, two_roots(a, b), work, NOW
    asked = in_turn(choose(conflict, "manual", "A", True, *facts), conflict.path, *facts)
    assert asked.refused == "what the group group decided about tank/data is carried out first"
