"""The hub is lost, a spoke takes over, the old hub comes back: no data goes anywhere without a person's word."""

from dataclasses import replace

import pytest

from planner import plan_group
from planner.model import Plan, Strategy, Work
from tests.pictures import NOW, draw, hub_policy, members_of, reasons
from tests.small_cases import check_resolution

NEW_HUB = hub_policy(hub="B")


def plan(picture: str, **fields: object) -> Plan:
    return plan_group(replace(NEW_HUB, **fields), members_of(picture), Work(), NOW)


def test_a_spoke_becomes_the_hub_by_one_edit() -> None:
    """It was in sync: all go on from what they have, and nothing is sent anew."""
    assert draw(plan("A/: 1 2 3  B: 1 2 3 4  C: 1 2"), usual="B") == "C 2..4"
    assert draw(plan("A/: 1 2 3  B: 1 2 3 4  C: none"), usual="B") == "C full 1, C 1..4"


def test_an_old_hub_that_returns_unchanged_follows() -> None:
    assert draw(plan("A: 1 2 3  B: 1 2 3 4 5  C: 1 2 3 4"), usual="B") == "A 3..5, C 4-5"


def test_the_new_hub_sends_though_the_old_one_is_configured_first() -> None:
    assert draw(plan("A: 1 2 3  B: 1 2 3  C: 1 2"), usual="B") == "C 2-3"


@pytest.mark.parametrize("old_hub", ["1 2 3 X", "1 2 3 *", "1 2 X 9"])
def test_what_an_old_hub_had_alone_is_neither_sent_nor_lost(old_hub: str) -> None:
    made = plan(f"A: {old_hub}  B: 1 2 3 4  C: 1 2 3")
    assert draw(made, usual="B") == "C 3-4, A diverged"
    assert all("A" not in (step.source, step.target) for step in made.steps)
    assert "was written to since" in reasons(made, "A")


@pytest.mark.parametrize("strategy", ["use_newest", "use_largest", "use_majority"])
def test_without_a_person_a_strategy_never_lets_an_old_hub_win(strategy: Strategy) -> None:
    """Its head is the newest and the largest; the new hub is not to be touched all the same."""
    made = plan("A: 1 2 3 X 9  B: 1 2 3 4  C: 1 2 3 X 9", on_conflict=strategy)
    assert not any(step.target == "B" or step.source == "A" for step in made.steps)


@pytest.mark.parametrize("strategy", ["manual", "use_newest", "use_largest", "use_majority"])
def test_an_old_hub_that_is_still_named_pushes_nothing_over_the_spokes_work(strategy: Strategy) -> None:
    """Somebody worked on B meanwhile, where it was made writable; nobody has edited the group."""
    a, b, c = members_of("A: 1 2 3  B: 1 2 X Y  C: 1 2")
    b = replace(b, replicas={name: replace(held, readonly=False) for name, held in b.replicas.items()})
    made = plan_group(hub_policy(on_conflict=strategy), [a, b, c], Work(), NOW)
    assert draw(made) == "C 2-3, B diverged"
    assert not any("B" in (step.source, step.target) for step in made.steps)


def test_a_person_may_bring_the_old_hubs_data_over() -> None:
    """Both directions, in the model: what loses is set aside, and all of it is still there."""
    check_resolution("A: 1 2 3 X  B: 1 2 3 4  C: 1 2 3", replace(NEW_HUB, include=("data",)), discard=False)
