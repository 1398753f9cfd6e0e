"""Where each dataset stands on each member: state, lag, what is missing and what it would take."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Cell, Gone, Guard, Listed, Member, Replica, Work
from tests.pictures import DAY, NOW, hub_policy, members_of, peers_policy
from tests.tokens import encode_resume_token

HOUR = 3600


def cells(picture: str, now: float = NOW, **fields: Any) -> dict[str, Cell]:
    made = plan_group(hub_policy(**fields), members_of(picture), Work(), now)
    return {cell.system_id: cell for cell in made.cells}


def test_who_has_everything_is_in_sync() -> None:
    found = cells("A: 1 2 B: 1 2 x")
    assert [(found[name].status, found[name].is_source) for name in "AB"] == [("in_sync", True), ("in_sync", False)]
    replica = found["B"]
    assert (replica.lag_s, replica.late, replica.missing, replica.bytes_to_send, replica.why) == (0, False, (), 0, "")
    assert (replica.newest and replica.newest.name, replica.newest_common and replica.newest_common.name) == ("x", "2")
    assert found["A"].newest_common == found["A"].newest


def test_what_nobody_can_get_is_not_in_sync() -> None:
    """For want of a snapshot, or of one that is old enough."""
    for policy, why in ((hub_policy(), "take one, or exclude it"), (peers_policy(), "take one, or exclude it")):
        for written, status in ((2**20, "out_of_sync"), (2**20 - 1, "in_sync")):
            there = {"tank/data": Replica("tank/data", written=written)}
            members = [Member("A", "hostA", "tank", reported_at=NOW, replicas=there), *members_of("B:")]
            plan = plan_group(policy, members, Work(), NOW)
            assert [(cell.system_id, cell.status) for cell in plan.cells] == [("A", status)]
            assert [why in skip.reason for skip in plan.skips] == [True] * (status == "out_of_sync")
    young = cells("A: 1 2 B:", min_age_s=10**9)["B"]
    why = "hostA sends tank/data once its snapshots are old enough"
    assert (young.status, young.why, young.late) == ("out_of_sync", why, False)
    assert cells("A: 1 2 B: 1", min_age_s=10**9)["B"].status == "in_sync"


def test_who_lacks_something_says_what() -> None:
    replica = cells("A: 1 2 3 4 B: 2")["B"]
    assert replica.status == "out_of_sync"
    assert [snapshot.name for snapshot in replica.missing] == ["1", "3", "4"]
    assert replica.bytes_to_send == 2000, "1 can't be sent any more"
    assert replica.why == "hostB has tank/data up to 2: hostA sends 2 newer snapshots, up to 4"
    assert cells("A: 1 2? B: 1")["B"].bytes_to_send is None
    assert cells("A: 1 2 B:")["B"].bytes_to_send == 1000 + 1000, "what 1 refers to, and what 2 wrote"
    assert "is stale" in cells("A: 1 2 B-: 1 2")["B"].why


def test_a_cell_says_why_it_is_not_in_sync() -> None:
    assert cells("A: 1 2 B: 1 ?")["B"].why.startswith("whether tank/data on hostB was written to since 1 is not known")
    unknown = cells("A-: none B: 1")["B"]
    assert (unknown.status, unknown.why[:26]) == ("out_of_sync", "the inventory of hostA is ")
    members = members_of("A: 1 2 B: 1")
    held = members[1].replicas["tank/data"]
    token = encode_resume_token("tank/data@2", "2", "1", 0)
    broken = {**members[1].replicas, "tank/data": replace(held, resume_token=token)}
    policy = hub_policy(snapshot_exclude=("2",))
    made = plan_group(policy, [members[0], replace(members[1], replicas=broken)], Work(), NOW)
    assert [(cell.status, cell.why, bool(made.steps)) for cell in made.cells if cell.system_id == "B"] == [
        ("in_sync", "", True)
    ], "it has all that is wanted; the broken stream is tidied up"


def test_without_a_hub_both_sides_of_a_conflict_say_so() -> None:
    made = plan_group(peers_policy(), members_of("A: 1 2 3 B: 1 2 X"), Work(), NOW)
    assert {cell.system_id: cell.status for cell in made.cells} == {"A": "conflict", "B": "conflict"}
    assert all("see the conflict" in cell.why for cell in made.cells)


def test_lag_is_of_the_oldest_whose_age_is_known() -> None:
    members = members_of("A: 1 2 3 B: 1")
    held = members[0].replicas["tank/data"]
    undated = tuple(replace(s, creation=None) if s.guid == "2" else s for s in held.snapshots)
    members[0] = replace(members[0], replicas={**members[0].replicas, "tank/data": replace(held, snapshots=undated)})
    assert [c.lag_s for c in plan_group(hub_policy(), members, Work(), NOW).cells] == [0, 97 * DAY]


def test_lag_is_the_age_of_the_oldest_that_is_missing_after_the_newest_common() -> None:
    assert cells("A: 1 95 97 99 B: 95")["B"].lag_s == 3 * DAY
    assert cells("A: 1 95 97 99 B: 95", now=NOW + 7)["B"].lag_s == 3 * DAY + 7
    assert cells("A: 97 99 B:")["B"].lag_s == 3 * DAY
    assert cells("A: 97 99 B: 99")["B"].lag_s == 0, "97 can't be had any more"
    assert cells("A: 97 98@fresh-looking B: 97 x@fresh-looking")["B"].lag_s == 2 * DAY, "by guid, not by name"
    assert cells("A: 97 99 B: 97", snapshot_exclude=("99",))["B"].lag_s == 0, "only what is wanted counts"
    assert cells("A: 99 B:", now=99 * DAY - 5)["B"].lag_s == 0, "a clock that runs ahead makes no negative lag"


@pytest.mark.parametrize(("age", "late"), [(2 * HOUR, False), (2 * HOUR + 1, True)])
def test_a_member_is_late_after_the_interval_and_the_grace(age: int, late: bool) -> None:
    found = cells("A: 1 99 B: 1", now=99 * DAY + age, interval_s=HOUR, grace_s=HOUR)
    assert found["B"].late is late
    assert found["B"].status == "out_of_sync"


@pytest.mark.parametrize(("age", "late"), [(2 * HOUR, False), (2 * HOUR + 1, True)])
def test_a_source_that_takes_no_new_snapshots_is_late_too(age: int, late: bool) -> None:
    found = cells("A: 1 99 B: 1 99", now=99 * DAY + age, interval_s=HOUR, grace_s=HOUR)
    assert (found["A"].status, found["A"].late, found["B"].late) == ("in_sync", late, False)
    assert ("has taken no new snapshot of tank/data" in found["A"].why) is late


def test_only_selected_snapshots_show_that_a_source_is_alive() -> None:
    assert not cells("A: 1 99", now=99 * DAY + 60)["A"].late
    assert cells("A: 1 99", now=99 * DAY + 60, snapshot_exclude=("99",))["A"].late
    assert not cells("A: ()")["A"].late, "one that never had any has not stopped"


def test_what_a_replica_pruned_by_itself_is_not_missing() -> None:
    members = members_of("A: 1 2 3 B: 3")
    gone = Work(gone=Listed((Gone("B", "tank/data", "1"), Gone("A", "tank/data", "2"))))
    (cell,) = [c for c in plan_group(hub_policy(), members, gone, NOW).cells if c.system_id == "B"]
    assert [snapshot.name for snapshot in cell.missing] == ["2"]
    guarded = replace(gone, guards=(Guard("B", "tank/data"),))
    (cell,) = [c for c in plan_group(hub_policy(), members, guarded, NOW).cells if c.system_id == "B"]
    assert [snapshot.name for snapshot in cell.missing] == ["1", "2"]


def test_every_dataset_of_every_member_has_a_cell() -> None:
    made = plan_group(peers_policy(), members_of("A: 1 B: () C: 1 X D: none"), Work(), NOW)
    assert [cell.system_id for cell in made.cells] == ["A", "B", "C", "D"]
    assert [cell.status for cell in made.cells] == ["out_of_sync", "out_of_sync", "in_sync", "out_of_sync"]
    assert not any(
        cell.system_id == "D" for cell in plan_group(peers_policy(), members_of("A: () D:"), Work(), NOW).cells
    )
