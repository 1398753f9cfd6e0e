"""Decisions in a plan: carried out step by step by model pools, holding up what must wait, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.decisions import Errand
from planner.model import Credit, Decision, Failure, Lease, Loser, Member, Neighbour, Plan, Policy, Step, Work
from planner.resolutions import choose
from planner.sites import scene_of
from tests.conflict_world import Hosts, a_host, diverged, kept, members_of, obey, unrelated
from tests.zfs_model import Pools

NOW = 1000.0
NO_WORK = Work()
HUB = Policy("group", "media", directional=True, hub="A", order=("A", "B", "C"), include=("data/**",), grace_s=600)


def plan(hosts: Hosts, work: Work = NO_WORK, policy: Policy = HUB) -> Plan:
    return plan_group(policy, members_of(hosts), work, NOW)


def story(made: Plan) -> list[str]:
    return [f"{step.type} {step.target} {step.path}" for step in made.steps]


def decided(hosts: Hosts, strategy: str = "use_newest", policy: Policy = HUB, **fields: Any) -> Decision:
    """What an admin would decide: the plan's own option for a strategy."""
    (conflict,) = [c for c in plan(hosts, policy=policy).conflicts if c.type != "missing"]
    (option,) = [option for option in conflict.options if option.strategy == strategy]
    assert option.refused is None
    made = Decision(conflict.id, conflict.path, option.strategy, option.winner, False, option.losers)
    return replace(made, **fields)


def follow(hosts: Hosts, work: Work, policy: Policy = HUB) -> list[str]:
    """Obey the first step of each new plan until nothing is left to do."""
    told: list[str] = []
    while (made := plan(hosts, work, policy)).steps:
        assert len(told) < 30, "it does not end"
        told += story(made)[:1]
        obey(made.steps[0], hosts)
    return told


def newer(hosts: Hosts, name: str, snap: str) -> Hosts:
    """The host went on, a minute later."""
    hosts[name].now += 60
    hosts[name].write("pool/root/data", 100)
    hosts[name].snapshot("pool/root/data", snap)
    return hosts


def hub_wins() -> tuple[Hosts, Decision]:
    hosts = newer(diverged(), "A", "4")
    return hosts, decided(hosts)


def test_a_decision_is_carried_out_and_then_all_goes_on() -> None:
    hosts, decision = hub_wins()
    before = kept(hosts["B"])
    work = Work(decisions=(decision,))
    assert follow(hosts, work) == ["rename B data", "sync B data", "promote B data", "sync B data"]
    assert before <= kept(hosts["B"]), "nothing is destroyed"
    done = plan(newer(hosts, "A", "5"), work)
    assert story(done) == ["sync B data"]
    assert [c.type for c in done.conflicts] == ["missing"]


def test_a_decision_waits_first_in_the_plan_and_its_conflict_is_pending() -> None:
    hosts, decision = hub_wins()
    made = plan(hosts, Work(decisions=(decision,)))
    assert story(made) == ["rename B data", "sync B data", "promote B data"]
    assert [step.priority for step in made.steps] == [0, 1, 2]
    assert [(c.type, c.status) for c in made.conflicts] == [("diverged", "pending")]
    (skip,) = [skip for skip in made.skips if skip.target == "B"]
    assert skip.reason == "pool/root/data waits until what was decided about its conflict has been done"


def test_nothing_else_is_planned_half_way() -> None:
    """Once the dataset is set aside, its name is free: an ordinary plan would send everything anew."""
    hosts, decision = hub_wins()
    work = Work(decisions=(decision,))
    obey(plan(hosts, work).steps[0], hosts)
    assert story(plan(hosts, work)) == ["sync B data", "promote B data"]
    assert story(plan(hosts)) == ["create B data", "sync B data"], "without the decision it would"


def test_half_way_counts_also_while_nothing_can_be_done() -> None:
    hosts, decision = hub_wins()
    work = Work(decisions=(decision,))
    obey(plan(hosts, work).steps[0], hosts)
    made = plan(hosts, work, replace(HUB, window_open=False))
    assert made.steps == ()
    gone = [member for member in members_of(hosts) if member.system_id != "A"]
    emptied = replace(members_of(hosts)[0], replicas={})
    made = plan_group(HUB, [emptied, *gone], work, NOW)
    assert made.steps == ()
    assert made.conflicts == ()


def test_children_wait_while_their_parent_is_replaced() -> None:
    hosts = newer(diverged(children=("kid",)), "A", "4")
    decision = decided(hosts)
    hosts["A"].snapshot("pool/root/data/kid", "more")
    work = Work(decisions=(decision,))
    assert "sync B data/kid" in story(plan(hosts)), "without the decision it goes on"
    assert not [s for s in plan(hosts, work).steps if s.path == "data/kid" and s.type in ("sync", "create")]
    told = follow(hosts, work)
    assert told.index("promote B data") < told.index("sync B data/kid")


def stuck(hosts: Hosts, work: Work) -> Hosts:
    """B's was set aside, an increment took its place, and somebody destroyed that again."""
    for step in plan(hosts, work).steps[:2]:
        obey(step, hosts)
    hosts["B"].destroy_snapshots("pool/root/data", [s.name for s in hosts["B"].dataset("pool/root/data").snapshots])
    return hosts


def test_a_child_goes_on_beside_what_only_a_person_can_put_right() -> None:
    """Whatever went along with its parent waits for its name; what is made later does not."""
    hosts = newer(diverged(children=("moved",)), "A", "4")
    work = Work(decisions=(decided(hosts),))
    hosts = stuck(hosts, work)
    for kid in ("moved", "new"):
        if kid == "new":
            hosts["A"].create("pool/root/data/new")
        hosts["A"].snapshot(f"pool/root/data/{kid}", "5")
    made = plan(hosts, work)
    assert "create B data/new" in story(made)
    assert [skip.path for skip in made.skips if "what was decided" in skip.reason] == ["data/moved"]
    assert any("rename or destroy it" in skip.reason for skip in made.skips if skip.path == "data")
    hosts["B"].destroy("pool/root/data", recursive=True)
    assert follow(hosts, work)[:3] == ["sync B data", "promote B data", "rename B data/moved"]


def test_a_child_that_was_made_again_holds_nothing_up() -> None:
    hosts = newer(diverged(children=("kid",)), "A", "4")
    work = Work(decisions=(decided(hosts),))
    for step in plan(hosts, work).steps[:3]:
        obey(step, hosts)
    hosts["B"].create("pool/root/data/kid")
    made = plan(newer(hosts, "B", "Y"), work)
    assert [skip.path for skip in made.skips if "one set aside still waits" in skip.reason] == ["data"]
    assert [(c.type, c.status) for c in made.conflicts if c.path == "data"] == [("diverged", "open")]
    hosts["B"].rollback("pool/root/data", "3", recursive=True)
    assert story(plan(hosts, work)) == ["sync B data"]


def test_no_place_is_kept_for_what_the_winner_has_lost() -> None:
    peers = replace(HUB, directional=False, hub=None)
    hosts = third(newer(unrelated(), "B", "Z"), "2")
    work = Work(decisions=(decided(hosts, "manual", peers, winner="B", losers=losers(hosts, peers)),))
    obey(plan(hosts, work, peers).steps[0], hosts)
    assert story(plan(hosts, work, peers))[0] == "create A data", "B's history takes its place"
    hosts["B"].destroy("pool/root/data", recursive=True)
    made = plan(hosts, work, peers)
    assert story(made) == ["create A data", "sync A data", "create B data", "sync B data"], "C brings what it has"
    assert any("can't be done: decide again" in skip.reason for skip in made.skips)


def losers(hosts: Hosts, policy: Policy) -> tuple[Loser, ...]:
    """Who gives way to B."""
    (conflict,) = [c for c in plan(hosts, policy=policy).conflicts if c.type != "missing"]
    return choose(conflict, "manual", "B", False, policy, members_of(hosts), NO_WORK, NOW).losers[:1]


def test_a_place_is_kept_while_the_winners_pool_is_away_or_its_next_snapshot_will_do() -> None:
    hosts, decision = hub_wins()
    work = Work(decisions=(decision,))
    obey(plan(hosts, work).steps[0], hosts)
    a, b = members_of(hosts)
    made = plan_group(HUB, [replace(a, replicas={}, absent=a.replicas), b], work, NOW)
    assert (made.steps, [c for c in made.conflicts if c.type != "missing"]) == ((), [])
    assert any("not in the inventory of hostA" in skip.reason for skip in made.skips)
    hosts["A"].destroy_snapshots("pool/root/data", ["3", "4"])
    assert story(plan(hosts, work)) == [], "no full stream: an increment will do once there is something newer"
    assert story(plan(newer(hosts, "A", "5"), work)) == ["sync B data", "promote B data"]


def test_of_two_decisions_about_one_dataset_the_second_waits() -> None:
    hosts, decision = hub_wins()
    other = replace(decision.losers[0], aside="pool/root/data.aside-ffffffff")
    second = replace(decision, conflict_id="ffffffff", losers=(other,))
    for both in ((decision, second), (second, decision)):
        made = plan(hosts, Work(decisions=both))
        assert story(made) == ["rename B data", "sync B data", "promote B data"]
        assert [s.reason for s in made.skips if "another decision about pool/root/data" in s.reason]
    told = follow(hosts, Work(decisions=(decision, second)))
    assert told == ["rename B data", "sync B data", "promote B data", "sync B data"]


def test_nothing_is_set_aside_for_what_does_not_fit() -> None:
    hosts, decision = hub_wins()
    a, b = members_of(hosts)
    held = b.replicas["pool/root/data"]
    for room, first in ((99, []), (100, ["rename B data", "sync B data", "promote B data"])):
        full = replace(b, replicas={**b.replicas, held.dataset: replace(held, available=room)})
        made = plan_group(HUB, [a, full], Work(decisions=(decision,)), NOW)
        assert story(made) == first
        assert any("too little room" in skip.reason for skip in made.skips) == (not first)


def third(hosts: Hosts, snap: str) -> Hosts:
    """C joined, with what A had up to a snapshot."""
    hosts["C"] = a_host("C")
    first, *others = [known.name for known in hosts["A"].dataset("pool/root/data").snapshots]
    hosts["C"].receive("pool/root/data", hosts["A"].send("pool/root/data", first))
    for base, end in zip([first, *others], others, strict=False):
        if base != snap:
            hosts["C"].receive("pool/root/data", hosts["A"].send("pool/root/data", end, f"@{base}"))
        else:
            break
    return hosts


def test_who_has_no_part_in_a_conflict_goes_on() -> None:
    hosts = third(newer(diverged(), "A", "4"), "3")
    decision = decided(hosts)
    assert [loser.system_id for loser in decision.losers] == ["B"]
    assert story(plan(hosts, Work(decisions=(decision,))))[-1] == "sync C data"


def test_other_datasets_go_on() -> None:
    hosts, decision = hub_wins()
    for name in ("pool/root/database", "pool/root/other"):
        hosts["A"].create(name)
        hosts["A"].snapshot(name, "1")
    told = story(plan(hosts, Work(decisions=(decision,)), replace(HUB, include=("*/**",))))
    assert [line for line in told if line.startswith("create")] == ["create B database", "create B other"]


def test_a_decision_about_the_root_holds_up_all_below_it() -> None:
    hosts, decision = hub_wins()
    scene = scene_of(HUB, members_of(hosts), NO_WORK, NOW)
    errand = Errand(replace(decision, path=""), (), (), frozenset(), frozenset({("B", "")}), replaces_hub=False)
    held = [(path, site.id) for path in ("", "data", "data/kid") for site in scene.sites if errand.holds_up(path, site)]
    assert held == [("", "B"), ("data", "B"), ("data/kid", "B")]


def test_while_the_hub_is_replaced_all_wait() -> None:
    hosts = third(newer(diverged(), "B", "Y"), "3")
    work = Work(decisions=(decided(hosts),))
    assert {loser.system_id for loser in work.decisions[0].losers} == {"A", "C"}
    hosts["D"] = a_host("D")
    policy = replace(HUB, order=("A", "B", "C", "D"))
    assert {step.target for step in plan(hosts, work, policy).steps} == {"A", "C"}
    told = follow(hosts, work, policy)
    assert told.index("promote A data") < told.index("create D data")


def test_finished_steps_count_before_the_next_report() -> None:
    hosts, decision = hub_wins()
    members, work, told = members_of(hosts), Work(decisions=(decision,)), []
    for number in range(1, 9):
        made = plan_group(HUB, members, work, NOW)
        if not made.steps:
            break
        told += story(made)[:1]
        step = made.steps[0]
        work = replace(work, credits=(*work.credits, Credit(step, step.delivers, NOW + number)))
    assert told == ["rename B data", "sync B data", "promote B data", "sync B data"]


def test_a_discard_whose_evidence_changed_opens_the_conflict_again() -> None:
    hosts, decision = hub_wins()
    work = Work(decisions=(replace(decision, discard=True),))
    made = plan(hosts, work)
    assert story(made) == ["rollback B data"]
    assert made.steps[0].destructive
    made = plan(newer(hosts, "B", "Y"), work)
    assert made.steps == ()
    (found,) = [c for c in made.conflicts if c.type != "missing"]
    assert (found.type, found.status) == ("diverged", "open")
    assert found.id != decision.conflict_id
    reasons = [skip.reason for skip in made.skips if skip.target == "B"]
    assert len(reasons) == 2, "why the decision can't be carried out, and why there is no increment"
    assert not any("waits until what was decided" in reason for reason in reasons)


def test_what_was_set_aside_is_no_dataset_of_the_group() -> None:
    hosts, decision = hub_wins()
    follow(hosts, Work(decisions=(decision,)))
    assert any(".aside-" in name for name in hosts["B"].datasets)
    assert {cell.path for cell in plan(hosts, policy=replace(HUB, include=("**",))).cells} == {"", "data"}


# --- what keeps a decision from being carried out ----------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "steps", "reason"),
    [
        ({"enabled": False}, [], "is disabled"),
        ({"paused_systems": frozenset("B")}, [], "hostB is paused"),
        ({"paused_systems": frozenset("A")}, [], "hostA is paused"),
        ({"paused_datasets": ("data",)}, [], "is paused in this group"),
        ({"window_open": False}, [], "transfer window of the group media is closed"),
    ],
)
def test_what_is_held_back_waits_with_all_that_depends_on_it(
    fields: dict[str, Any], steps: list[str], reason: str
) -> None:
    hosts, decision = hub_wins()
    made = plan(hosts, Work(decisions=(decision,)), replace(HUB, **fields))
    assert story(made) == steps
    assert any(reason in skip.reason for skip in made.skips)


def test_a_failed_step_waits_with_all_that_depends_on_it() -> None:
    hosts, decision = hub_wins()
    rename = plan(hosts, Work(decisions=(decision,))).steps[0]
    failed = Failure(rename.action_id, 1, NOW, NOW + 60, "dataset is busy")
    made = plan(hosts, Work(decisions=(decision,), failures=(failed,)))
    assert made.steps == ()
    assert any("dataset is busy" in skip.reason for skip in made.skips)


def lease_of(step: Step, **fields: Any) -> Lease:
    lease = Lease(
        step.action_id, "group", step.executor, None, step.target, step.target_dataset, None, None, None, NOW + 60
    )
    return replace(lease, **fields)


def test_a_step_under_way_is_shown_with_its_lease() -> None:
    hosts, decision = hub_wins()
    rename = plan(hosts, Work(decisions=(decision,))).steps[0]
    lease = lease_of(rename)
    made = plan(hosts, Work(decisions=(decision,), leases=(lease,)))
    assert made.steps[0] == replace(rename, lease=lease)
    other = lease_of(rename, action_id="another", group_id="another")
    assert plan(hosts, Work(decisions=(decision,), leases=(other,))).steps == ()


# --- on_conflict -------------------------------------------------------------------------------------


def readonly(hosts: Hosts, *names: str) -> Hosts:
    for name in names:
        hosts[name].dataset("pool/root/data").properties["readonly"] = "on"
    return hosts


def writable(hosts: Hosts, *names: str) -> Hosts:
    for name in names:
        hosts[name].dataset("pool/root/data").properties["readonly"] = "off"
    return hosts


NEWEST = replace(HUB, on_conflict="use_newest")


def test_a_strategy_resolves_without_a_person() -> None:
    hosts = readonly(newer(diverged(), "A", "4"), "B")
    made = plan(hosts, policy=NEWEST)
    assert story(made) == ["rename B data", "sync B data", "promote B data"]
    assert [(c.type, c.status) for c in made.conflicts] == [("diverged", "pending")]
    (decision,) = made.decided
    assert (decision.strategy, decision.winner, decision.discard) == ("use_newest", "A", False)
    assert plan(hosts, Work(decisions=made.decided), NEWEST).steps == made.steps, "recorded, it stays as it is"
    assert plan(hosts, Work(decisions=made.decided), NEWEST).decided == ()


def test_a_strategy_never_touches_a_replica_that_may_be_in_use() -> None:
    hosts = writable(newer(diverged(), "A", "4"), "B")
    made = plan(hosts, policy=NEWEST)
    assert (made.steps, made.decided) == ((), ())
    assert [c.status for c in made.conflicts] == ["open"]


def test_a_strategy_never_touches_the_hub() -> None:
    hosts = readonly(newer(diverged(), "B", "Y"), "A", "B")
    made = plan(hosts, policy=NEWEST)
    assert (made.steps, made.decided) == ((), ())
    peers = replace(NEWEST, directional=False, hub=None)
    assert story(plan(hosts, policy=peers)) == ["rename A data", "sync A data", "promote A data"]
    behind = readonly(newer(diverged(after="", own=""), "B", "Y"), "A", "B")
    made = plan(behind, policy=NEWEST)
    assert (made.steps, made.decided) == ((), ()), "nor where it is only behind"


def test_what_a_strategy_decided_is_not_done_to_what_it_may_not_touch_by_now() -> None:
    hosts = readonly(newer(diverged(), "A", "4"), "B")
    work = Work(decisions=plan(hosts, policy=NEWEST).decided)
    assert story(plan(hosts, work, replace(NEWEST, hub="B"))) == []
    assert [c.status for c in plan(writable(hosts, "B"), work, NEWEST).conflicts] == ["open"]
    obey(plan(readonly(hosts, "B"), work, NEWEST).steps[0], hosts)
    assert story(plan(hosts, work, NEWEST)) == ["sync B data", "promote B data"], "but not left half way"


def test_a_strategy_decides_nothing_in_a_disabled_group() -> None:
    hosts = readonly(newer(diverged(), "A", "4"), "B")
    made = plan(hosts, policy=replace(NEWEST, enabled=False))
    assert (made.steps, made.decided) == ((), ())


def test_a_tie_is_left_to_a_person() -> None:
    hosts = readonly(diverged(), "A", "B")
    made = plan(hosts, policy=replace(HUB, on_conflict="use_majority"))
    assert (made.steps, made.decided) == ((), ())


def two_conflicts() -> Hosts:
    """B went on from what it had from A; C's dataset was never A's."""
    return {**newer(diverged(), "A", "4"), "C": unrelated()["B"]}


def test_another_conflict_about_the_dataset_is_still_shown() -> None:
    """C came later with a dataset that was never A's: a decision about B says nothing of it."""
    hosts, decision = hub_wins()
    hosts["C"] = unrelated()["B"]
    made = plan(hosts, Work(decisions=(decision,)))
    shown = {conflict.type for conflict in made.conflicts if conflict.status == "open" and conflict.options}
    assert shown == {"orphaned"}


def test_of_two_conflicts_about_a_dataset_one_is_decided_at_a_time() -> None:
    hosts = readonly(two_conflicts(), "B", "C")
    made = plan(hosts, policy=NEWEST)
    assert [decision.losers[0].system_id for decision in made.decided] == ["B"]
    assert {decision.conflict_id for decision in made.decided} <= {conflict.id for conflict in made.conflicts}
    follow(hosts, Work(decisions=made.decided), NEWEST)
    after = plan(hosts, Work(decisions=made.decided), NEWEST)
    assert [cell.status for cell in after.cells] == ["in_sync"] * 3


def test_decisions_come_in_any_order() -> None:
    hosts = diverged(own="", children=["a", "b"])
    hosts["A"].now += 60
    for child in "ab":
        hosts["A"].snapshot(f"pool/root/data/{child}", "3")
        hosts["B"].write(f"pool/root/data/{child}", 100)
    made = [c for c in plan(hosts).conflicts if c.type == "diverged"]
    assert [conflict.path for conflict in made] == ["data/a", "data/b"]
    losers = [next(o.losers for o in c.options if o.winner == "A" and o.losers) for c in made]
    one, other = (Decision(c.id, c.path, "manual", "A", False, gone) for c, gone in zip(made, losers, strict=True))
    assert "rename B data/a" in story(plan(hosts, Work(decisions=(one, other))))
    assert plan(hosts, Work(decisions=(one, other))) == plan(hosts, Work(decisions=(other, one)))


def test_ignore_mutes_without_a_person() -> None:
    made = plan(diverged(), policy=replace(HUB, on_conflict="ignore"))
    assert [(c.type, c.status) for c in made.conflicts] == [("diverged", "ignored")]
    assert [decision.strategy for decision in made.decided] == ["ignore"]


def test_an_orphan_may_be_replaced_too() -> None:
    hosts = readonly(unrelated(), "B")
    hosts["A"].now += 60
    hosts["A"].snapshot("pool/root/data", "3")
    made = plan(hosts, policy=NEWEST)
    assert story(made)[0] == "rename B data"
    assert follow(hosts, Work(decisions=made.decided), NEWEST)[:2] == ["rename B data", "create B data"]


def test_a_hub_that_lacks_a_dataset_is_not_given_it_without_a_person() -> None:
    hosts = {"A": a_host("A"), "B": a_host("B")}
    pools: Pools = hosts["B"]
    pools.create("pool/root/data")
    pools.snapshot("pool/root/data", "1")
    made = plan(readonly(hosts, "B"), policy=NEWEST)
    assert (made.steps, made.decided) == ((), ())
    assert [c.type for c in made.conflicts] == ["orphaned"]


def test_members_are_not_changed() -> None:
    hosts, decision = hub_wins()
    members: list[Member] = members_of(hosts)
    before = [replace(member) for member in members]
    plan_group(HUB, members, Work(decisions=(decision,)), NOW)
    assert members == before


def test_what_another_group_puts_right_waits_for_it() -> None:
    """Half way through keep, the dataset's name is free; no other group may send into it."""
    hosts, decision = hub_wins()
    mine, other = Work(decisions=(decision,)), replace(HUB, group_id="other", name="other")

    def beside() -> Plan:
        return plan(hosts, Work(neighbours=(Neighbour(HUB, tuple(members_of(hosts)), (decision,)),)), other)

    held = "pool/root/data waits until what the group media decided about it has been done"
    assert held in [skip.reason for skip in beside().skips], "before it has begun, too"
    obey(plan(hosts, mine).steps[0], hosts)
    assert story(plan(hosts, policy=other)) == ["create B data", "sync B data"], "it would, without that"
    assert story(beside()) == []
    assert [skip.reason for skip in beside().skips if skip.target == "B"] == [held]
    follow(hosts, mine)
    newer(hosts, "A", "5")
    assert story(beside()) == ["sync B data"], "once it is done, all goes on"
