"""What is not planned, or not now, and what is said instead."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.leases import stands_in_the_way
from planner.model import Failure, Lease, Member, Neighbour, Plan, Policy, Replica, Work
from tests.pictures import (
    DAY,
    NOW,
    draw,
    history_of,
    hub_policy,
    lease_of,
    member_with,
    members_of,
    peers_policy,
    reasons,
    status,
    story,
)

NO_WORK = Work()


def plan(picture: str, work: Work = NO_WORK, **fields: Any) -> Plan:
    return plan_group(hub_policy(**fields), members_of(picture), work, NOW)


# --- members that take no part ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "steps", "reason", "shown"),
    [
        ("A: 1 2 B-: 1", "nothing", "the inventory of hostB is stale", "error"),
        ("A: 1 2 B/: 1", "nothing", "the pool tank of hostB is not in its inventory", "error"),
        ("A-: 1 2 B: 1", "nothing", "the inventory of hostA is stale", "out_of_sync"),
        ("A/: 1 2 B: 1", "nothing", "the pool tank of hostA is not in its inventory", "out_of_sync"),
        ("A: 1 2 B-: 1 2", "nothing", "the inventory of hostB is stale", "error"),
    ],
)
def test_a_member_that_is_away_is_neither_source_nor_target(picture: str, steps: str, reason: str, shown: str) -> None:
    made = plan(picture)
    assert draw(made) == steps
    assert reason in reasons(made, "B")
    assert status(made, "B") == shown


def test_a_digest_that_confirms_an_inventory_makes_it_fresh() -> None:
    away, replica = members_of("A: 1 2 B-: 1")
    assert draw(plan_group(hub_policy(), [away, replace(replica, confirmed_at=NOW)], NO_WORK, NOW)) == "B 1-2"


def test_the_group_says_when_an_inventory_is_stale() -> None:
    assert draw(plan("A: 1 2 B-: 1", stale_after_s=10 * DAY)) == "B 1-2"
    assert draw(plan("A: 1 2 B-: 1", stale_after_s=10 * DAY - 1)) == "nothing"
    hub, replica = members_of("A: 1 2 B-: 1")
    unconfirmed = replace(replica, confirmed_at=None)
    policy = hub_policy(stale_after_s=10 * DAY)
    assert draw(plan_group(policy, [hub, unconfirmed], NO_WORK, NOW)) == "B 1-2"


def test_a_member_that_never_reported_is_named() -> None:
    hub, replica = members_of("A: 1 2 B:")
    expected = replace(replica, replicas={}, reported_at=None, confirmed_at=None, last_seen_at=None)
    made = plan_group(hub_policy(), [hub, expected], NO_WORK, NOW)
    assert made.steps == ()
    assert reasons(made, "B") == "hostB has not reported its datasets yet"
    assert status(made, "B") == "out_of_sync"
    made = plan_group(hub_policy(), [expected], NO_WORK, NOW)
    assert [(skip.path, skip.dataset, skip.target) for skip in made.skips] == [("", "tank", "B")]


def test_a_member_with_nothing_to_do_is_named_when_it_takes_no_part() -> None:
    hub, replica = members_of("A: () B:")
    unplugged = replace(replica, replicas={})
    made = plan_group(hub_policy(), [hub, unplugged], NO_WORK, NOW)
    assert reasons(made, "B") == "the pool tank of hostB is not in its inventory: it is not imported, or not there yet"
    rootless = replace(replica, root=None)
    assert plan_group(hub_policy(), [hub, rootless], NO_WORK, NOW).skips == ()
    policy = hub_policy(paused_systems=frozenset("B"))
    for paused in (replica, rootless):
        assert reasons(plan_group(policy, [hub, paused], NO_WORK, NOW), "B") == "hostB is paused in this group"
    stale = replace(rootless, reported_at=0.0, confirmed_at=None)
    assert "is stale" in reasons(plan_group(hub_policy(), [hub, stale], NO_WORK, NOW), "B")


def test_each_member_is_named_for_its_own_absence() -> None:
    made = plan("A-: none B-: 1 C: 1 D: ()")
    for system_id, host in (("B", "hostB"), ("C", "hostA")):
        assert f"the inventory of {host} is stale" in reasons(made, system_id)
    assert reasons(made, "D") == ""
    (cell,) = [cell for cell in plan("A-: 1 B: 1").cells if cell.is_source]
    assert "the inventory of hostA is stale" in cell.why


def test_a_pool_that_is_not_imported_orphans_nothing() -> None:
    hub, replica = members_of("A: 1 2 B: 1")
    unplugged = replace(hub, replicas={})
    made = plan_group(hub_policy(), [unplugged, replica], NO_WORK, NOW)
    assert (made.steps, made.conflicts) == ((), ())
    assert "the pool tank of hostA is not in its inventory" in reasons(made, "B")
    emptied = replace(hub, replicas={"tank": Replica("tank", written=0)})
    made = plan_group(hub_policy(), [emptied, replica], NO_WORK, NOW)
    assert [conflict.type for conflict in made.conflicts] == ["orphaned"]


def test_without_a_root_each_dataset_has_its_own_pool() -> None:
    one = Member("A", "hostA", None, _by_name(history_of("1 2", "usb/data"), history_of("1", "tank/x")), {}, NOW, NOW)
    other = replace(one, system_id="B", hostname="hostB", replicas=_by_name(history_of("1", "tank/x")))
    made = plan_group(hub_policy(), [one, other], NO_WORK, NOW)
    assert "the pool usb of hostB is not in its inventory" in reasons(made, "B")
    assert made.steps == ()


def _by_name(*replicas: Replica | None) -> dict[str, Replica]:
    return {replica.dataset: replica for replica in replicas if replica is not None}


def test_what_only_a_member_away_has_waits_for_it() -> None:
    made = plan("A-: 1 3 4 B: 1 2 C: 2 3")
    assert draw(made) == "B 2-3 via C"
    assert reasons(made, "B").startswith("the inventory of hostA is stale")


# --- what somebody wants to wait -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"enabled": False}, "the group group is disabled"),
        ({"paused_systems": frozenset("B")}, "hostB is paused in this group"),
        ({"paused_datasets": ("da*",)}, "tank/data is paused in this group"),
        ({"window_open": False}, "the transfer window of the group group is closed"),
    ],
)
def test_what_is_held_back_says_so(fields: dict[str, Any], reason: str) -> None:
    made = plan("A: 1 2 B: 1", **fields)
    assert made.steps == ()
    assert reasons(made, "B") == reason
    assert status(made, "B") == "out_of_sync"
    assert [(c.type, c.severity) for c in made.conflicts] == [("missing", "low")]


def test_a_paused_hub_sends_nothing_and_others_may() -> None:
    made = plan("A: 1 2 3 B: 1 C: 1 2", paused_systems=frozenset("A"))
    assert draw(made) == "B 1-2 via C"


def test_a_disabled_group_says_so_when_all_is_well_too() -> None:
    made = plan("A: 1 B: 1", enabled=False)
    assert {skip.target: skip.reason for skip in made.skips} == dict.fromkeys("AB", "the group group is disabled")


def test_a_closed_window_hides_no_conflict() -> None:
    made = plan("A: 1 2 B: 1 X", window_open=False)
    assert (draw(made), "was written to since 1" in reasons(made, "B")) == ("B diverged", True)


def test_a_closed_window_holds_back_nothing_that_has_arrived() -> None:
    assert plan("A: 1 2 B: 1 2", window_open=False).skips == ()


# --- what would be refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        ("A: 1 2 B: 1 ?", "its agent must report the column written"),
        ("A: 1 2 B: ()", "exists on hostB without any snapshot, so a full stream can't be received there"),
        ("A: 1 2@- B: 1", "is named -, which stands for none: rename it"),
        ("A: 1@- 2 B: 1@-", "holds the base under the name -"),
        (f"A: 1 2@{'x' * 245} B: 1", ""),
        (f"A: 1 2@{'x' * 246} B: 1", "can't be a name on hostB"),
    ],
)
def test_what_a_pool_would_refuse_is_not_planned(picture: str, reason: str) -> None:
    made = plan(picture)
    assert reason in reasons(made, "B")
    assert bool(made.steps) == (reason == "")


def test_a_name_that_grows_too_long_under_the_root_is_skipped() -> None:
    hub, replica = members_of("A: 1 B:")
    long = replace(replica, root=f"tank/{'x' * 246}")
    made = plan_group(hub_policy(), [hub, long], NO_WORK, NOW)
    assert made.steps == ()
    assert "can't be a dataset on hostB" in reasons(made, "B")


def roomy(available: int | None, line: str = "") -> Member:
    member = member_with("B", "", {"data": line}, available=available)
    pool = replace(member.replicas["tank"], available=available)
    return replace(member, replicas={**member.replicas, "tank": pool})


@pytest.mark.parametrize(
    ("available", "steps"),
    [
        (None, "B full 1, B 1..3"),
        (3000, "B full 1, B 1..3"),
        (2999, "B full 1"),
        (1000, "B full 1"),
        (999, "nothing"),
    ],
)
def test_a_target_without_room_gets_what_fits(available: int | None, steps: str) -> None:
    made = plan_group(hub_policy(), [members_of("A: 1 2 3")[0], roomy(available)], NO_WORK, NOW)
    assert draw(made) == steps
    assert ("hostB has too little room for tank/data@" in reasons(made)) == (steps != "B full 1, B 1..3")


def test_no_parent_is_made_for_what_there_is_no_room_for() -> None:
    members = [member_with("A", "", {"a/b": "1"}), roomy(999)]
    made = plan_group(hub_policy(), members, NO_WORK, NOW)
    assert made.steps == ()
    assert "too little room" in reasons(made, "B")


def test_a_pool_that_is_known_only_by_what_lies_deeper_has_unknown_room() -> None:
    replica = history_of("9", "tank/other")
    assert replica is not None
    lower = replace(roomy(1), replicas={"tank/other": replica})
    (step,) = plan_group(hub_policy(), [members_of("A: 1")[0], lower], NO_WORK, NOW).steps
    assert (step.type, step.embedded) == ("create", False)


def test_the_room_of_an_existing_dataset_is_its_own() -> None:
    members = [members_of("A: 1 2 3")[0], roomy(1999, "1")]
    assert draw(plan_group(hub_policy(), members, NO_WORK, NOW)) == "nothing"


# --- parents ---------------------------------------------------------------------------------------


def family(hub: dict[str, str], replica: dict[str, str], root: str = "tank", **fields: Any) -> Plan:
    members = [member_with("A", "", hub), replace(member_with("B", "", replica), root=root)]
    return plan_group(hub_policy(include=("**",), **fields), members, NO_WORK, NOW)


def test_missing_parents_are_made_one_by_one() -> None:
    made = family({"a/b/c": "1"}, {})
    assert story(made) == ["create_parent tank/a", "create_parent tank/a/b", "create tank/a/b/c"]
    outer, inner, stream = made.steps
    assert (inner.depends_on, stream.depends_on) == ((outer.action_id,), (inner.action_id,))
    assert outer.properties == (("canmount", "off"), ("readonly", "on"))
    assert (outer.executor, outer.target) == ("A", "B"), "who sends can reach the target"
    assert family({"a/b/c": "1"}, {}, transfer="pull").steps[0].executor == "B"


def test_a_parent_with_snapshots_comes_by_its_own_stream() -> None:
    made = family({"a": "1", "a/b/c": "1"}, {})
    assert story(made) == ["create tank/a", "create_parent tank/a/b", "create tank/a/b/c"]
    assert made.steps[1].depends_on == (made.steps[0].action_id,)


def test_two_children_share_a_parent() -> None:
    made = family({"a/b": "2", "a/c": "1"}, {})
    assert story(made) == ["create_parent tank/a", "create tank/a/c", "create tank/a/b"]


def test_the_levels_of_the_root_are_made_too() -> None:
    made = family({"a": "1"}, {}, root="tank/in/here")
    assert story(made) == ["create_parent tank/in", "create_parent tank/in/here", "create tank/in/here/a"]
    assert len({step.action_id for step in made.steps}) == 3
    assert [step.path for step in made.steps] == ["", "", "a"]
    assert made.steps[0].depends_on == ()


def test_a_parent_that_is_listed_only_by_its_children_exists() -> None:
    assert story(family({"a/b": "1", "a/c": "1"}, {"a/c": "1"})) == ["create tank/a/b"]
    made = family({"a": "1", "a/c": "1"}, {"a/c": "1"})
    assert made.steps == ()
    assert reasons(made, "B") == "tank/a exists on hostB, but its inventory does not list it"


def test_nothing_is_sent_below_a_volume() -> None:
    a, b = member_with("A", "", {"a/b": "1"}), member_with("B", "", {})
    for volume in ("tank/a", "tank"):
        made = plan_group(hub_policy(), [a, replace(b, replicas={volume: Replica(volume, kind="volume")})], Work(), NOW)
        assert made.steps == ()
        assert f"{volume} on hostB is a volume, and nothing can lie below one" in reasons(made, "B")


def test_no_empty_dataset_is_made_where_a_stream_must_land() -> None:
    young = family({"a": "50", "a/b": "1"}, {}, min_age_s=int(NOW) - 2 * DAY)
    assert young.steps == ()
    assert reasons(young, "B").endswith("old enough; tank/a/b waits for tank/a, which can't be received yet")
    for bare in ("()", "~1"):
        assert story(family({"a": bare, "a/b": "1"}, {})) == ["create_parent tank/a", "create tank/a/b"]
    unchosen = family({"a": "9", "a/b": "1"}, {}, snapshot_exclude=("9",))
    assert story(unchosen) == ["create_parent tank/a", "create tank/a/b"]
    excluded = family({"a": "1", "a/b": "1"}, {}, exclude=("a",))
    assert story(excluded) == ["create_parent tank/a", "create tank/a/b"]


def test_no_empty_dataset_is_made_where_another_groups_stream_must_land() -> None:
    a, b, c = member_with("A", "", {"a": "1", "a/b": "1"}), member_with("B", "", {}), member_with("C", "", {"a": "1"})

    def made(members: tuple[Member, ...] = (a, b), **fields: Any) -> list[str]:
        policy = replace(hub_policy(**{"include": ("a",), **fields}), group_id="h")
        work = Work(neighbours=(Neighbour(policy, members),))
        return story(plan_group(hub_policy(include=("a/b",)), [a, b], work, NOW))

    both = ["create_parent tank/a", "create tank/a/b"]
    assert made() == []
    assert made((b, c), hub=None, directional=False) == []
    assert made((b, c), hub="C") == []
    assert made((a, c)) == both, "B is not in it"
    assert made(enabled=False) == both
    assert made(include=("a/b",)) == both
    assert made(snapshot_exclude=("1",)) == both
    assert made((b, c), hub="B") == both, "there it is the hub"


def test_a_child_waits_for_a_parent_that_failed() -> None:
    first = family({"a": "1", "a/b": "1"}, {}).steps[0]
    work = Work(failures=(Failure(first.action_id, 2, NOW - 10, NOW + 10, "out of space"),))
    members = [member_with("A", "", {"a": "1", "a/b": "1"}), member_with("B", "", {})]
    made = plan_group(hub_policy(), members, work, NOW)
    assert made.steps == ()
    assert status(made, "B", "a") == "error"
    assert "failed 2 times and waits before it is tried again: out of space" in reasons(made, "B")
    assert "tank/a/b waits for tank/a" in reasons(made, "B")


def test_a_parent_that_could_not_be_made_waits_with_all_below_it() -> None:
    members = [member_with("A", "", {"a/b": "1", "a/c": "1"}), member_with("B", "", {})]
    first = plan_group(hub_policy(), members, NO_WORK, NOW).steps[0]
    assert first.type == "create_parent"
    work = Work(failures=(Failure(first.action_id, 1, NOW - 10, NOW + 10, "permission denied"),))
    made = plan_group(hub_policy(), members, work, NOW)
    assert made.steps == ()
    assert (status(made, "B", "a/b"), status(made, "B", "a/c")) == ("error", "error")
    assert "permission denied" in reasons(made, "B")
    leased = plan_group(hub_policy(), members, Work(leases=(lease_of(first),)), NOW)
    assert (leased.steps[0].lease, len(leased.steps)) == (lease_of(first), 3)


def test_a_root_that_exists_can_not_receive_the_roots_own_stream() -> None:
    members = [member_with("A", "", {"": "1", "a": "1"}), replace(member_with("B", "", {"in": "()"}), root="tank/in")]
    made = plan_group(hub_policy(include=("**",)), members, NO_WORK, NOW)
    assert story(made) == ["create tank/in/a"]
    assert "tank/in exists on hostB without any snapshot" in reasons(made, "B")


def test_a_parent_with_children_is_not_to_be_destroyed() -> None:
    """One that was made only to hold what lies below, and of which the hub took a snapshot later."""
    a = member_with("A", "", {"a": "5", "a/b": "1 2"})
    b = member_with("B", "", {"a": "()", "a/b": "1"})
    made = plan_group(hub_policy(), [a, b], NO_WORK, NOW)
    assert story(made) == ["sync tank/a/b"]  # what lies below goes on
    assert "rename it (what lies below moves along" in reasons(made, "B")
    assert "destroy" not in reasons(made, "B")


# --- leases and failures ---------------------------------------------------------------------------


def test_a_step_under_way_is_shown_with_its_lease_and_nothing_else_goes_there() -> None:
    step = plan("A: 1 2 B:").steps[0]
    lease = lease_of(step)
    made = plan("A: 1 2 B:", Work(leases=(lease,)))
    assert made.steps == (replace(step, lease=lease),)
    assert status(made, "B") == "syncing"


def test_a_step_under_way_stays_when_the_source_goes_on() -> None:
    lease = lease_of(plan("A: 1 2 3 B: 1").steps[0])
    made = plan("A: 1 2 3 4 B: 1", Work(leases=(lease,)))
    assert draw(made) == "B 1..3"
    assert made.steps[0].lease == lease


def test_a_step_under_way_keeps_its_source() -> None:
    step = plan("A-: 1 2 3 B: 1 C: 1 2 3").steps[0]
    made = plan("A: 1 2 3 B: 1 C: 1 2 3", Work(leases=(lease_of(step),)))
    assert [step.source for step in made.steps] == ["C"]


@pytest.mark.parametrize("fields", [{"group_id": "other", "executor": "Z"}, {"action_id": "an older one"}])
def test_another_step_into_the_same_dataset_holds_it_back(fields: dict[str, Any]) -> None:
    lease = lease_of(plan("A: 1 2 B: 1").steps[0], **fields)
    made = plan("A: 1 2 B: 1", Work(leases=(lease,)))
    assert made.steps == ()
    assert status(made, "B") == "syncing"
    worker = "hostA" if lease.executor == "A" else "a member of another group"
    assert reasons(made, "B") == f"{worker} is working on tank/data now"


@pytest.mark.parametrize(
    ("renamed", "held_back"),
    [("tank/data", True), ("tank", True), ("tank/dat", False), ("tank/data/kid", False)],
)
def test_a_rename_under_way_holds_back_what_lies_below(renamed: str, held_back: bool) -> None:
    """Another group sets a dataset aside that has this one below it, or gives one its name back."""
    step = replace(plan("A: 1 2 B: 1").steps[0], type="rename", action_id="other", source=None)
    for names in ((renamed, "tank/x"), ("tank/x", renamed)):
        moved = replace(step, target_dataset=names[0], new_name=names[1])
        made = plan("A: 1 2 B: 1", Work(leases=(lease_of(moved, group_id="other"),)))
        assert (made.steps == ()) is held_back
        elsewhere = plan("A: 1 2 B: 1", Work(leases=(lease_of(moved, group_id="other", target="C"),)))
        assert elsewhere.steps != ()


def test_a_transfer_under_way_holds_back_a_rename_of_what_lies_above() -> None:
    transfer = plan("A: 1 2 B: 1").steps[0]
    lease = lease_of(transfer)
    rename = replace(transfer, type="rename", action_id="other", source=None, source_dataset=None, new_name="tank/x")
    assert stands_in_the_way(lease, replace(rename, target_dataset="tank"))
    assert stands_in_the_way(lease, replace(rename, target="A", target_dataset="tank"))  # what is being sent
    assert not stands_in_the_way(lease, replace(rename, target_dataset="tank/other"))
    assert not stands_in_the_way(lease, replace(rename, target="C", target_dataset="tank"))
    assert not stands_in_the_way(lease, replace(transfer, target_dataset="tank/data/kid"))


def test_a_lease_that_ended_holds_nothing_back() -> None:
    lease = lease_of(plan("A: 1 2 B: 1").steps[0], group_id="other", expires_at=NOW)
    assert draw(plan("A: 1 2 B: 1", Work(leases=(lease,)))) == "B 1-2"


def test_what_failed_waits_until_it_may_be_tried_again() -> None:
    step = plan("A: 1 2 B: 1").steps[0]
    waiting = Work(failures=(Failure(step.action_id, 1, NOW - 10, NOW + 1, "ssh: no route to host"),))
    made = plan("A: 1 2 B: 1", waiting)
    assert made.steps == ()
    assert reasons(made) == "failed once and waits before it is tried again: ssh: no route to host"
    assert status(made, "B") == "error"
    again = Work(failures=(replace(waiting.failures[0], retry_at=NOW),))
    assert draw(plan("A: 1 2 B: 1", again)) == "B 1-2"
    assert draw(plan("A: 1 2 3 B: 1", waiting)) == "B 1..3", "another end is another step"


def test_what_one_system_failed_at_another_may_try_at_once() -> None:
    step = plan("A: 1 2 B: 1").steps[0]
    failed = Failure(step.action_id, 1, NOW - 10, NOW + 1, "ssh: no route to host", executor="C")
    assert draw(plan("A: 1 2 B: 1", Work(failures=(failed,)))) == "B 1-2"
    assert plan("A: 1 2 B: 1", Work(failures=(replace(failed, executor="A"),))).steps == ()


def test_where_the_best_source_failed_another_is_taken() -> None:
    step = plan("A: 1 2 B: 1").steps[0]
    failed = Failure(step.action_id, 1, NOW - 10, NOW + 1, "ssh: no route to host", executor="A")
    work = Work(failures=(failed,))
    assert draw(plan("A: 1 2 B: 1 C: 1 2", work)) == "B 1-2 via C"
    assert draw(plan("A: 1 2 3 B: 1 C: 1 2", work)) == "B 1..3, C 2-3", "another end is another step"
    both = Work(failures=(failed, replace(failed, executor="C")))
    made = plan("A: 1 2 B: 1 C: 1 2", both)
    assert (made.steps, status(made, "B")) == ((), "error")
    assert "no route to host" in reasons(made, "B")
    assert plan("A: 1 2 B: 1 C: 1 2", work, transfer="pull").steps != (), "B itself has not failed"


# --- which source ----------------------------------------------------------------------------------


def with_seen(picture: str, **ages: float) -> list[Member]:
    return [replace(m, last_seen_at=NOW - ages[m.system_id]) for m in members_of(picture)]


def sources(members: list[Member], policy: Policy | None = None, work: Work = NO_WORK) -> list[str | None]:
    return [step.source for step in plan_group(policy or hub_policy(), members, work, NOW).steps]


def test_a_source_seen_lately_goes_before_the_hub() -> None:
    picture = "A: 1 2 B: 1 2 C: 1"
    assert sources(with_seen(picture, A=300, B=10, C=10)) == ["A"]
    assert sources(with_seen(picture, A=301, B=10, C=10)) == ["B"]
    assert sources(with_seen(picture, A=301, B=301, C=10)) == ["A"], "nobody was seen: the hub"
    assert sources(with_seen(picture, A=301, B=10, C=10), hub_policy(heartbeat_timeout_s=400)) == ["A"]


def test_the_hub_goes_before_the_configured_order() -> None:
    members = members_of("A: 1 2 B: 1 2 C: 1")
    assert sources(members, hub_policy(order=("C", "B", "A"))) == ["A"]


def test_a_source_seen_long_ago_is_taken_where_only_it_has_the_end() -> None:
    assert sources(with_seen("A: 1 2 3 B: 1 2 C: 1", A=9999, B=10, C=10)) == ["A", "A"]


def test_a_source_at_its_limit_comes_after_one_with_a_transfer_to_spare() -> None:
    members = members_of("A: 1 2 B: 1 2 C: 1")
    away = Lease("x", "other", "A", "A", "Z", "vault/x", "tank/x", None, None, NOW + 60)
    busy = Work(leases=(away, replace(away, action_id="y", target_dataset="vault/y")))
    assert sources(members, work=busy) == ["B"]
    assert sources(members, hub_policy(max_transfers=3), busy) == ["A"]
    assert sources(members_of("A: 1 2 C: 1"), work=busy) == ["A"], "a limit holds back no listing"
    receives, ended = replace(away, source="Z", target="A"), replace(away, expires_at=NOW - 1)
    assert [sources(members, work=Work(leases=(away, each))) for each in (receives, ended)] == [["B"], ["A"]]


def test_without_a_hub_the_configured_order_chooses() -> None:
    assert sources(members_of("A: 1 2 B: 1 2 C: 1"), peers_policy(order=("C", "B", "A"))) == ["B"]
