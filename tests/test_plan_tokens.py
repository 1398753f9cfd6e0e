"""Transfers that broke off: what their resume tokens let happen, and nothing else before."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Failure, Member, Plan, Replica, Work
from tests.pictures import (
    NOW,
    draw,
    hub_policy,
    lease_of,
    member_with,
    members_of,
    peers_policy,
    reasons,
    status,
    story,
)
from tests.tokens import encode_resume_token

NO_WORK = Work()


def broken(line: str, token: str) -> Member:
    member = members_of(f"B: {line or '()'}")[0]
    held = replace(member.replicas["tank/data"], resume_token=token)
    return replace(member, replicas={**member.replicas, "tank/data": held})


def with_token(hub: str, replica: str, token: str, work: Work = NO_WORK, others: str = "", **fields: Any) -> Plan:
    members = [members_of(f"A: {hub}")[0], broken(replica, token), *members_of(others)]
    return plan_group(hub_policy(**fields), members, work, NOW)


TOKEN = encode_resume_token("tank/data@2", "2", "1", 400)
FULL_TOKEN = encode_resume_token("tank/data@1", "1", None, 300)


@pytest.mark.parametrize(
    ("hub", "replica", "token", "steps"),
    [
        ("1 2", "1", TOKEN, "B rest of 2"),
        ("1 2 3", "1", TOKEN, "B rest of 2, B 2-3"),
        ("#1 2", "1", TOKEN, "B rest of 2"),
        ("1 2", "", FULL_TOKEN, "B rest of 1, B 1-2"),
        ("1 3", "1", TOKEN, "B abort_receive"),  # 2 is gone
        ("2 3", "1", TOKEN, "B abort_receive, B orphaned"),  # the base is gone
        ("1 2@other 3", "1", TOKEN, "B rest of 2, B 2-3"),  # zfs send -t looks for the guid
        ("1 4@2 3", "1", TOKEN, "B abort_receive"),  # that name is another's now
        ("1 2", "1 *", TOKEN, "B diverged"),
        ("1 3", "1 *", TOKEN, "B abort_receive, B diverged"),
        ("1 2", "1 ?", TOKEN, "nothing"),
        ("1 2 3", "1 3", TOKEN, "nothing"),  # it no longer ends where the stream began
    ],
)
def test_a_broken_stream_is_continued_or_dropped(hub: str, replica: str, token: str, steps: str) -> None:
    assert draw(with_token(hub, replica, token)) == steps


@pytest.mark.parametrize(
    ("hub", "named", "copied", "steps"),
    [
        ("1 2", "tank/was", False, "B rest of 2"),  # zfs finds it below tank
        ("1 2", "tank/gone/was", False, "B rest of 2"),
        ("1 2", "tank/was", True, "B abort_receive"),  # zfs may find the other one first
        ("1 2", "vault/was", False, "B abort_receive"),
        ("#1 2", "tank/was", False, "B abort_receive"),  # zfs finds no bookmark but of what the token names
        ("#1 2", "tank/data", True, "B rest of 2"),
    ],
)
def test_what_was_renamed_goes_on_where_zfs_finds_it(hub: str, named: str, copied: bool, steps: str) -> None:
    """guid_to_name in libzfs; seen on real pools."""
    members = [members_of(f"A: {hub}")[0], broken("1", encode_resume_token(f"{named}@2", "2", "1", 400))]
    if copied:
        copy = replace(members[0].replicas["tank/data"], dataset="tank/copy")
        members[0] = replace(members[0], replicas={**members[0].replicas, "tank/copy": copy})
    assert draw(plan_group(hub_policy(exclude=("copy",)), members, NO_WORK, NOW)) == steps


def test_a_stream_of_what_is_no_longer_chosen_is_completed_too() -> None:
    assert draw(with_token("1 2 3", "1", TOKEN, snapshot_exclude=("2",))) == "B rest of 2, B 2-3"


def test_a_member_without_the_dataset_can_not_continue() -> None:
    assert draw(with_token("1 3", "1", TOKEN, others="C: none")) == "C full 1, C 1-3, B abort_receive"


def test_a_broken_stream_is_completed_beside_a_conflict() -> None:
    token = encode_resume_token("tank/data@2", "2", "1", 0)
    third = replace(broken("1", token), system_id="C", hostname="hostC")
    made = plan_group(peers_policy(), [*members_of("A: 1 2 3 B: 1 Y"), third], NO_WORK, NOW)
    assert draw(made) == "C rest of 2, A+B diverged"
    assert "on the other members have diverged" in reasons(made, "C")


def test_a_resume_says_what_it_continues() -> None:
    first, second = with_token("1 2 3", "1", TOKEN).steps
    assert (first.resume_token, first.base and first.base.guid, first.end and first.end.guid) == (TOKEN, "1", "2")
    assert [snapshot.guid for snapshot in first.delivers] == ["2"]
    assert first.estimated_size_bytes == 600
    assert (first.raw, first.source, first.executor) == (False, "A", "A")
    assert (first.expected_guids, first.expected_written) == (("1",), 0)
    assert second.depends_on == (first.action_id,)
    assert with_token("1 2", "", FULL_TOKEN).steps[0].expected_written is None
    assert with_token("1 2?", "1", TOKEN).steps[0].estimated_size_bytes is None
    assert with_token("1", "", FULL_TOKEN).steps[0].estimated_size_bytes == 700


def test_a_token_that_a_member_away_could_continue_is_kept() -> None:
    members = [members_of("A-: 1 2")[0], broken("1", TOKEN)]
    made = plan_group(hub_policy(), members, NO_WORK, NOW)
    assert made.steps == ()
    assert "the inventory of hostA is stale" in reasons(made, "B")
    assert "it alone can continue a transfer" in reasons(made, "B")


def test_a_token_under_a_lease_is_left_alone() -> None:
    aborted = with_token("1 3", "1", TOKEN).steps[0]
    lease = lease_of(aborted, action_id="the transfer that left it")
    made = with_token("1 3", "1", TOKEN, Work(leases=(lease,)))
    assert made.steps == ()
    resumed = with_token("1 2", "1", TOKEN).steps[0]
    lease = lease_of(resumed)
    assert with_token("1 2", "1", TOKEN, Work(leases=(lease,))).steps == (replace(resumed, lease=lease),)


def test_a_resume_onto_a_changed_dataset_is_not_tried() -> None:
    told = reasons(with_token("1 2", "1 *", TOKEN), "B")
    assert told.startswith("tank/data on hostB changed since a transfer into it broke off")
    assert "its agent must report the column written" in reasons(with_token("1 2", "1 ?", TOKEN), "B")


def test_a_token_that_can_not_be_read_is_named() -> None:
    made = with_token("1 2", "1", "1-abc-def")
    assert made.steps == ()
    assert "that can't be read: zfs receive -A tank/data drops it" in reasons(made, "B")


def test_the_beginning_of_a_full_stream_is_not_dropped_under_its_children() -> None:
    """`zfs receive -A` destroys the dataset then, which ZFS refuses."""
    hub = members_of("A: 2 3")[0]
    begun = broken("", FULL_TOKEN)
    kids = {**begun.replicas, "tank/data/kid": Replica("tank/data/kid"), "tank/data/%recv": Replica("tank/data/%recv")}
    made = plan_group(hub_policy(), [hub, replace(begun, replicas=kids)], NO_WORK, NOW)
    assert made.steps == ()
    assert "can't be dropped while tank/data/kid lies below it" in reasons(made, "B")
    assert draw(plan_group(hub_policy(), [hub, begun], NO_WORK, NOW)) == "B abort_receive"
    partly = broken("1", TOKEN)  # of an increment only that goes
    kids = {**partly.replicas, "tank/data/kid": Replica("tank/data/kid")}
    made = plan_group(hub_policy(), [members_of("A: 1 3")[0], replace(partly, replicas=kids)], NO_WORK, NOW)
    assert draw(made) == "B abort_receive"


def test_a_hub_that_has_only_a_beginning_is_told_so() -> None:
    hub = replace(broken("", FULL_TOKEN), system_id="A", hostname="hostA")
    made = plan_group(hub_policy(), [hub, members_of("B: none")[0]], NO_WORK, NOW)
    assert "is only the beginning of a transfer, so that nobody gets it yet" in reasons(made, "A")


def test_an_abort_runs_where_the_token_is() -> None:
    (step,) = with_token("1 3", "1", TOKEN).steps
    assert (step.executor, step.target, step.source, step.resume_token) == ("B", "B", None, TOKEN)
    assert step.expected_guids == ("1",)
    assert not step.destructive


def test_a_failed_resume_waits() -> None:
    step = with_token("1 2", "1", TOKEN).steps[0]
    work = Work(failures=(Failure(step.action_id, 1, NOW, NOW + 1, "cut"),))
    made = with_token("1 2 3", "1", TOKEN, work)
    assert made.steps == ()
    assert status(made, "B") == "error"


def test_a_child_does_not_wait_for_a_parents_increment() -> None:
    token = encode_resume_token("tank/a@2", "2", "1", 0)
    member = member_with("B", "", {"a": "1"}, resume_token=token)
    made = plan_group(hub_policy(), [member_with("A", "", {"a": "1 2", "a/b": "1"}), member], NO_WORK, NOW)
    assert [(step.type, step.depends_on) for step in made.steps] == [("resume", ()), ("create", ())]


def test_a_child_waits_for_a_parent_that_is_only_begun() -> None:
    token = encode_resume_token("tank/a@1", "1", None, 0)
    begun = replace(Replica("tank/a"), resume_token=token)
    member = member_with("B", "", {})
    member = replace(member, replicas={**member.replicas, "tank/a": begun})
    made = plan_group(hub_policy(), [member_with("A", "", {"a": "1", "a/b": "1"}), member], NO_WORK, NOW)
    assert story(made) == ["resume tank/a", "create tank/a/b"]
    assert made.steps[1].depends_on == (made.steps[0].action_id,)
    made = plan_group(hub_policy(), [member_with("A", "", {"a": "2", "a/b": "1"}), member], NO_WORK, NOW)
    assert story(made) == ["abort_receive tank/a"], "with the token goes the dataset"


@pytest.mark.parametrize(("available", "steps"), [(599, "nothing"), (600, "B rest of 2"), (None, "B rest of 2")])
def test_the_rest_needs_room_for_what_has_not_come_yet(available: int | None, steps: str) -> None:
    target = broken("1", TOKEN)
    held = replace(target.replicas["tank/data"], available=available)
    target = replace(target, replicas={**target.replicas, "tank/data": held})
    made = plan_group(hub_policy(), [members_of("A: 1 2")[0], target], NO_WORK, NOW)
    assert draw(made) == steps
    assert ("too little room for the rest of tank/data@2" in reasons(made)) == (steps == "nothing")
