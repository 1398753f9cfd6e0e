"""What a decision holds back: exactly what it moves or changes, in its own group and in others; and its room."""

from dataclasses import replace

import pytest

from planner import plan_group
from planner.model import Decision, Member, Neighbour, Plan, Policy, Work
from planner.resolutions import choose
from tests.conflict_world import Hosts, a_host, diverged, members_of
from tests.zfs_model import Pools

NOW = 1000.0
MEDIA = Policy("group", "media", directional=True, hub="A", order=("A", "B", "C"), include=("data/**",), grace_s=600)
OTHER = replace(MEDIA, group_id="other", name="other", include=("**",))


def decided(hosts: Hosts, discard: bool = False, winner: str = "A") -> Decision:
    members = members_of(hosts)
    (conflict,) = [c for c in plan_group(MEDIA, members, Work(), NOW).conflicts if c.type == "diverged"]
    option = choose(conflict, "manual", winner, discard, MEDIA, members, Work(), NOW)
    assert option.refused is None
    return Decision(conflict.id, conflict.path, option.strategy, option.winner, discard, option.losers)


def beside(hosts: Hosts, decision: Decision | None = None) -> Plan:
    """The other group's plan, while this one has decided something or nothing."""
    decisions = (decision,) if decision else ()
    return plan_group(
        OTHER, members_of(hosts), Work(neighbours=(Neighbour(MEDIA, tuple(members_of(hosts)), decisions),)), NOW
    )


def third(hosts: Hosts) -> Pools:
    """A host with the past that A and B share."""
    found = a_host("C")
    for snap, base in (("1", None), ("2", "@1")):
        found.receive("pool/root/data", hosts["A"].send("pool/root/data", snap, base))
    return found


@pytest.fixture
def hosts() -> Hosts:
    """B has written to data; below it and beside it, A has something new for B, as for C in all of them."""
    made = diverged(after="34", children=("kid",))
    source = made["A"]
    made["C"] = third(made)
    source.create("pool/root/data2")
    source.snapshot("pool/root/data2", "1")
    source.create("pool/root/data/new")
    source.snapshot("pool/root/data/new", "1")
    source.snapshot("pool/root/data/kid", "5")
    return made


def going(made: Plan) -> set[str]:
    return {f"{step.path} {step.target}" for step in made.steps}


HELD = ["pool/root/data", "pool/root/data/kid", "pool/root/data/new"]
ALL = {"data/kid B", "data/new B", "data2 B", "data C", "data/kid C", "data/new C", "data2 C"}


def test_what_is_set_aside_takes_along_what_lies_below_it_on_its_system(hosts: Hosts) -> None:
    assert going(beside(hosts)) == ALL
    assert going(beside(hosts, decided(hosts))) == ALL - {"data/kid B", "data/new B"}
    waits = [skip.reason for skip in beside(hosts, decided(hosts)).skips if skip.target == "B"]
    assert waits == [f"{name} waits until what the group media decided about it has been done" for name in HELD]


def test_a_rollback_moves_nothing_below_it(hosts: Hosts) -> None:
    decision = decided(hosts, discard=True)
    assert going(beside(hosts, decision)) == ALL
    waits = [skip.reason for skip in beside(hosts, decision).skips if skip.target == "B"]
    assert waits == ["pool/root/data waits until what the group media decided about it has been done"]


@pytest.mark.parametrize(("discard", "goes_on"), [(False, set()), (True, {"data/kid C", "data/new C"})])
def test_a_hub_that_loses_holds_back_the_others_in_what_changes(hosts: Hosts, discard: bool, goes_on: set[str]) -> None:
    decision = decided(hosts, discard, winner="B")
    made = plan_group(MEDIA, members_of(hosts), Work(decisions=(decision,)), NOW)
    assert {place for place in going(made) if place.endswith("C")} == goes_on


def with_room(member: Member, room: int) -> Member:
    held = replace(member.replicas["pool/root/data"], available=room)
    return replace(member, replicas={**member.replicas, held.dataset: held})


@pytest.mark.parametrize(("room", "streams"), [(99, 0), (199, 1), (200, 2)])
def test_all_that_takes_a_losers_place_must_fit_together(room: int, streams: int) -> None:
    hosts = diverged(own="XY")
    decision = decided(hosts, winner="B")
    hub, other = members_of(hosts)
    made = plan_group(MEDIA, [with_room(hub, room), other], Work(decisions=(decision,)), NOW)
    assert sum(step.target == "A" and step.source == "B" for step in made.steps) == streams
    assert any("too little room" in skip.reason for skip in made.skips) == (streams < 2)


def test_what_one_loser_gets_takes_no_room_of_another() -> None:
    hosts = diverged()
    hosts["C"] = third(hosts)
    hosts["C"].write("pool/root/data", 1)
    decision = decided(hosts)
    hub, b, c = members_of(hosts)
    made = plan_group(MEDIA, [hub, b, with_room(c, 100)], Work(decisions=(decision,)), NOW)
    assert [step.target for step in made.steps if step.source] == ["B", "C"]


def diverged_ones(hosts: Hosts, decision: Decision) -> list[str]:
    """The datasets that the conflicts shown are about, while a decision is carried out."""
    made = plan_group(MEDIA, members_of(hosts), Work(decisions=(decision,)), NOW)
    return [conflict.reason.partition(" changed")[0] for conflict in made.conflicts if conflict.type == "diverged"]


def test_who_has_nothing_of_its_own_is_not_at_odds_with_a_winner() -> None:
    hosts = diverged()
    hosts["C"] = third(hosts)
    decision = decided(hosts)
    hosts["B"].write("pool/root/data", 1)
    assert diverged_ones(hosts, decision) == [], "B's is about to be set aside, whatever it has by now"


@pytest.mark.parametrize("snapshot_it", [True, False])
def test_a_third_that_was_written_to_has_a_conflict_of_its_own(snapshot_it: bool) -> None:
    hosts = diverged()
    hosts["C"] = third(hosts)
    decision = decided(hosts)
    hosts["C"].write("pool/root/data", 1)
    if snapshot_it:
        hosts["C"].snapshot("pool/root/data", "own")
    assert diverged_ones(hosts, decision) == ["pool/root/data on hostB and pool/root/data on hostC"]


def test_the_quota_of_what_is_set_aside_goes_along_with_it() -> None:
    hosts = diverged()
    a, b = members_of(hosts)
    above, held = b.replicas["pool/root"], b.replicas["pool/root/data"]
    roomy = {above.dataset: replace(above, available=10**9), held.dataset: replace(held, available=1)}
    full = {above.dataset: replace(above, available=1), held.dataset: replace(held, available=10**9)}
    for rows, begins in ((roomy, True), (full, False)):
        made = plan_group(
            MEDIA, [a, replace(b, replicas={**b.replicas, **rows})], Work(decisions=(decided(hosts),)), NOW
        )
        assert bool(made.steps) == begins
