"""What one group has decided about a dataset holds back exactly what that moves or changes, in the other groups."""

from dataclasses import replace

import pytest

from planner import plan_group
from planner.model import Decision, Neighbour, Plan, Policy, Work
from planner.resolutions import choose
from tests.conflict_world import Hosts, a_host, diverged, members_of

NOW = 1000.0
MEDIA = Policy("group", "media", directional=True, hub="A", order=("A", "B", "C"), include=("data/**",), grace_s=600)
OTHER = replace(MEDIA, group_id="other", name="other", include=("**",))


def decided(hosts: Hosts, discard: bool = False) -> Decision:
    members = members_of(hosts)
    (conflict,) = [c for c in plan_group(MEDIA, members, Work(), NOW).conflicts if c.type == "diverged"]
    option = choose(conflict, "manual", "A", discard, MEDIA, members, Work(), NOW)
    assert option.refused is None
    return Decision(conflict.id, conflict.path, option.strategy, option.winner, discard, option.losers)


def beside(hosts: Hosts, decision: Decision | None = None) -> Plan:
    """The other group's plan, while this one has decided something or nothing."""
    decisions = (decision,) if decision else ()
    return plan_group(
        OTHER, members_of(hosts), Work(neighbours=(Neighbour(MEDIA, tuple(members_of(hosts)), decisions),)), NOW
    )


@pytest.fixture
def hosts() -> Hosts:
    """B has written to data; below it and beside it, A has something new for B, as for C in all of them."""
    made = diverged(after="34", children=("kid",))
    source = made["A"]
    made["C"] = a_host("C")
    source.create("pool/root/data2")
    source.snapshot("pool/root/data2", "1")
    source.snapshot("pool/root/data/kid", "5")
    return made


def going(made: Plan) -> set[str]:
    return {f"{step.path} {step.target}" for step in made.steps}


HELD = ["pool/root/data", "pool/root/data/kid"]
ALL = {"data/kid B", "data2 B", "data C", "data/kid C", "data2 C"}


def test_what_is_set_aside_takes_along_what_lies_below_it_on_its_system(hosts: Hosts) -> None:
    assert going(beside(hosts)) == ALL
    assert going(beside(hosts, decided(hosts))) == ALL - {"data/kid B"}
    waits = [skip.reason for skip in beside(hosts, decided(hosts)).skips if skip.target == "B"]
    assert waits == [f"{name} waits until what the group media decided about it has been done" for name in HELD]


def test_a_rollback_moves_nothing_below_it(hosts: Hosts) -> None:
    decision = decided(hosts, discard=True)
    assert going(beside(hosts, decision)) == ALL
    waits = [skip.reason for skip in beside(hosts, decision).skips if skip.target == "B"]
    assert waits == ["pool/root/data waits until what the group media decided about it has been done"]
