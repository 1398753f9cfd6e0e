"""What diverged, was orphaned or is missing: how bad it is, who is in it, and that its id names the evidence."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Conflict, Decision, Failure, Gone, Guard, Listed, Plan, Policy, Work
from tests.pictures import NOW, hub_policy, lease_of, member_with, members_of, peers_policy

NO_WORK = Work()


def plan(picture: str, policy: Policy | None = None, work: Work = NO_WORK) -> Plan:
    return plan_group(policy or hub_policy(), members_of(picture), work, NOW)


def conflict(picture: str, policy: Policy | None = None, work: Work = NO_WORK, type: str = "") -> Conflict:
    (found,) = [
        c for c in plan(picture, policy, work).conflicts if c.type == type or (not type and c.type != "missing")
    ]
    return found


@pytest.mark.parametrize(
    ("picture", "type", "severity"),
    [
        ("A: 1 2 B: 1 X", "diverged", "high"),  # both have data of their own
        ("A: 1 B: 1 X", "diverged", "medium"),
        ("A: 1 y B: 1 X", "diverged", "medium"),  # what A has of its own is empty
        ("A: 1 * B: 1 X", "diverged", "high"),
        ("A: 1 2 B: 1 *", "diverged", "high"),
        ("A: 1 y? B: 1 *", "diverged", "high"),  # not known counts as data
        ("A: 1 2 B: 3", "orphaned", "high"),
        ("A: none B: 3", "orphaned", "medium"),
        ("A: () B: 3", "orphaned", "medium"),
    ],
)
def test_a_conflict_is_as_severe_as_what_could_be_lost(picture: str, type: str, severity: str) -> None:
    found = conflict(picture)
    assert (found.type, found.severity) == (type, severity)


def test_its_sides_are_all_that_have_the_dataset() -> None:
    found = conflict("A: 1 2 3 B: 1 2 X y C: 1 2 D: () ")
    hub, apart, behind = found.sides
    assert [side.system_id for side in found.sides] == ["A", "B", "C"]
    assert [side.newest_common.name for side in found.sides if side.newest_common] == ["2", "2", "2"]
    assert [[s.name for s in side.only_here] for side in found.sides] == [["3"], ["X", "y"], []]
    assert (hub.head and hub.head.name, apart.head and apart.head.name) == ("3", "y")
    assert (apart.written_bytes, behind.dataset) == (0, "tank/data")
    assert found.snapshot_names == ("X", "y")
    assert found.reason == (
        "tank/data on hostB changed after 2, the last snapshot in common with hostA, "
        "so that no increment can be received there"
    )


@pytest.mark.parametrize(
    ("picture", "gone", "told"),
    [
        ("A: 1 2 3 B: 1 2 X Y", "XY", True),
        ("A: 1 2 3 B: 1 2 X Y", "X", False),
        ("A: 1 2 3 B: 1 2 X *", "X", False),  # somebody wrote there after all
        ("A: 1 2 3 B: 1 2 *", "X", False),
    ],
)
def test_a_hub_that_went_back_is_named(picture: str, gone: str, told: bool) -> None:
    went = Listed(tuple(Gone("A", "tank/data", guid) for guid in gone))
    (found,) = plan_group(hub_policy(), members_of(picture), Work(gone=went), NOW).conflicts
    words = ". hostA once had X, Y of it, too: it was rolled back there, or they were destroyed"
    assert found.reason.endswith(words) == told
    assert ("rolled back" in found.reason) == told


def test_the_hubs_side_starts_at_the_oldest_base() -> None:
    found = conflict("A: 1 2 3 B: 1 2 X C: 1 Y")
    assert found.sides[0].newest_common is not None
    assert found.sides[0].newest_common.name == "1"
    assert [s.name for s in found.sides[0].only_here] == ["2", "3"]
    assert found.snapshot_names == ("X", "Y")


def test_one_conflict_a_dataset_and_type() -> None:
    found = plan("A: 1 2 B: 1 X C: 1 Y D: 9").conflicts
    assert sorted((c.type, c.path) for c in found) == [("diverged", "data"), ("orphaned", "data")]


# --- ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A: 1 2 B: 1 X", "A: 1 2 3 4 B: 1 X", True),  # the hub goes on
        ("A: 1 2 B: 1 X", "A: 1 2 B: 1 X C: 1", True),
        ("A: 1 2 B: 1 X", "A: 1 2 B: 1 X y", False),
        ("A: 1 2 B: 1 X", "A: 1 2 B: 1 X *", False),
        ("A: 1 2 B: 1 X", "A: 1 2 B: 1 Y", False),
        ("A: 1 2 3 B: 1 2 X", "A: 1 3 B: 1 2 X", False),  # the base went
        ("A: 1 2 B: 1 X", "A: 1 2 B: 1 X C: 1 Y", False),
        ("A: 3 B: 1 2", "A: 3 4 B: 1 2", True),
        ("A: 3 B: 1 2", "A: 3 B: 1 2 5", True),  # still nothing is common
        ("A: 3 B: 1 2", "A: 3 B: 2", False),
        ("A: none B: 1", "A: none B: 1 2", True),
        ("A: 1 2 B: 1 ~8", "A: 1 2 B: 1 ~9", False),
        ("A: 1 2 B: 1 ~8", "A: 1 2 B: 1 ~8", True),
    ],
)
def test_an_id_stays_while_its_evidence_does(one: str, other: str, same: bool) -> None:
    assert (conflict(one).id == conflict(other).id) is same


def test_without_a_hub_both_sides_are_evidence() -> None:
    peers = peers_policy()
    found = conflict("A: 1 2 B: 1 X", peers)
    assert found.id != conflict("A: 1 2 3 B: 1 X", peers).id
    assert found.id == conflict("B: 1 X A: 1 2", peers).id
    assert found.id == conflict("A: 1 2 B: 1 X", peers_policy(order=("B", "A"))).id
    assert conflict("A: 1 B: 2", peers).id == conflict("A: 1 3 B: 2", peers).id, "nobody leads, whoever is newest"


def test_ids_differ_by_group_and_type_and_look_like_uuids() -> None:
    found = conflict("A: 1 2 B: 1 X")
    assert found.id != conflict("A: 1 2 B: 1 X", replace(hub_policy(), group_id="other")).id
    assert len(found.id) == 36
    assert found.id == found.id.lower()


# --- orphaned --------------------------------------------------------------------------------------


def test_an_orphan_says_its_likely_cause() -> None:
    assert "All that hostA has of it is newer: it was made anew there" in conflict("A: 3 B: 1 2").reason
    assert "All that hostA has of it is older: the other was made anew" in conflict("A: 1 2 B: 3").reason
    assert "They were filled side by side" in conflict("A: 1 3 B: 2").reason
    assert conflict("A: () B: 2").reason.endswith("tank/data on hostA has no snapshot")
    pruned = Work(gone=Listed((Gone("A", "tank/data", "2"),)))
    reason = conflict("A: 3 B: 1 2", work=pruned).reason
    assert "hostA has destroyed all that its tank/data had in common" in reason
    assert "hostA, the hub, has no tank/data" in conflict("A: none B: 1").reason


def test_an_orphans_sides_have_nothing_in_common() -> None:
    found = conflict("A: 3 B: 1 2")
    assert [side.newest_common for side in found.sides] == [None, None]
    assert [[s.name for s in side.only_here] for side in found.sides] == [["3"], ["1", "2"]]
    assert found.snapshot_names == ("1", "2")


def test_what_only_its_source_has_is_simply_missing_elsewhere() -> None:
    assert [c.type for c in plan("A: 1 B:").conflicts] == ["missing"]
    assert [c.type for c in plan("A: none B: 1 C:", peers_policy()).conflicts] == ["missing"] * 2


# --- missing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "fields", "severity", "reason"),
    [
        ("A: 1 2 B: 1", {}, "low", "a planned step brings what is missing"),
        ("A: 1 2 3 B: 2 3", {}, "low", "can't be received there any more"),
        ("A-: 1 2 B: 1", {}, "medium", "the inventory of hostA is stale"),
        ("A/: 1 2 B: 1", {}, "medium", "the pool tank of hostA is not in its inventory"),
        ("A: 1 2 B-: 1", {}, "medium", "the inventory of hostB is stale"),
        ("A: 1 2 B: 1 ?", {}, "medium", "must report the column written"),
        ("A: 1 2 B: 1", {"enabled": False}, "low", "is disabled"),
        ("A: 1 2 B: 1", {"paused_systems": frozenset("B")}, "low", "is paused"),
    ],
)
def test_what_is_missing_says_whether_it_will_come(
    picture: str, fields: dict[str, Any], severity: str, reason: str
) -> None:
    (found,) = plan(picture, hub_policy(**fields)).conflicts
    assert (found.type, found.severity) == ("missing", severity)
    assert reason in found.reason


def test_a_failing_transfer_is_not_nothing() -> None:
    step = plan("A: 1 2 B: 1").steps[0]
    work = Work(failures=(Failure(step.action_id, 3, NOW, NOW + 60, "no space left"),))
    found = conflict("A: 1 2 B: 1", work=work, type="missing")
    assert found.severity == "medium"
    assert "no space left" in found.reason


def test_what_is_being_sent_is_not_alarming() -> None:
    step = plan("A: 1 2 B: 1").steps[0]
    work = Work(leases=(lease_of(step, group_id="other", executor="Z"),))
    found = conflict("A: 1 2 B: 1", work=work, type="missing")
    assert found.severity == "low"
    assert "a member of another group is working on tank/data now" in found.reason


def test_one_missing_conflict_a_dataset_and_system() -> None:
    found = plan("A: 1 2 3 B: 1 C: 2").conflicts
    assert [[side.system_id for side in c.sides] for c in found] in ([["A", "B"], ["A", "C"]], [["A", "C"], ["A", "B"]])
    assert {c.snapshot_names for c in found} == {("2", "3"), ("1",)}
    assert [side.head is not None for c in found for side in c.sides] == [True] * 4
    nothing = conflict("A: 1 B:", type="missing").sides[1]
    assert (nothing.head, nothing.only_here) == (None, ())


def test_what_never_comes_keeps_its_id_while_the_hub_goes_on() -> None:
    one, other = (conflict(picture, type="missing") for picture in ("A: 1 2 B: 2", "A: 1 2 3 B: 2"))
    assert one.id == other.id
    assert other.snapshot_names == ("1",)


def test_the_last_copy_lost_in_a_mass_deletion_is_high() -> None:
    gone = (Gone("A", "tank/data", "1", "daily-1"), Gone("A", "tank/data", "2"), Gone("A", "tank/data", "7", "x"))
    work = Work(gone=Listed(gone), guards=(Guard("A", "tank/data"),))
    (found,) = [c for c in plan("A: 8 9 B: 2 8 9", work=work).conflicts if c.severity == "high"]
    assert (found.type, found.snapshot_names) == ("missing", ("daily-1", "x"))
    assert "2 of the snapshots that tank/data on hostA lost at once are on no other member" in found.reason
    assert not [c for c in plan("A: 8 9 B: 2 8 9", work=Work(gone=Listed(gone))).conflicts if c.severity == "high"]
    nameless = replace(work, gone=Listed((Gone("A", "tank/data", "1"),)))
    (found,) = [c for c in plan("A: 8 9 B: 2 8 9", work=nameless).conflicts if c.severity == "high"]
    assert found.snapshot_names == ("1",)
    aside = replace(work, guards=(Guard("A", "tank/data"), Guard("A", "vault/data")))
    assert plan("A: 8 9", hub_policy(exclude=("data",)), aside).conflicts == ()
    kept = replace(work, gone=Listed(gone[1:2]))
    assert not [c for c in plan("A: 8 9 B: 2 8 9", work=kept).conflicts if c.severity == "high"]
    other = replace(work, guards=(Guard("A", "elsewhere/data"), Guard("Z", "tank/data")))
    assert not [c for c in plan("A: 8 9 B: 2 8 9", work=other).conflicts if c.severity == "high"]


# --- what becomes of them --------------------------------------------------------------------------


def test_an_ignored_conflict_stays_ignored_until_its_evidence_changes() -> None:
    found = conflict("A: 1 2 B: 1 X")
    ignore = Work(decisions=(Decision(found.id, "data", "ignore", None, False, ()),))
    assert conflict("A: 1 2 3 B: 1 X", work=ignore).status == "ignored"
    assert conflict("A: 1 2 3 B: 1 X *", work=ignore).status == "open"
    low = conflict("A: 1 2 B: 2", type="missing")
    mute = Work(decisions=(Decision(low.id, "data", "ignore", None, False, ()),))
    assert conflict("A: 1 2 B: 2", work=mute, type="missing").status == "ignored"


def test_each_strategy_is_an_option() -> None:
    found = conflict("A: 1 2 B: 1 X")
    assert [option.strategy for option in found.options] == [
        "use_newest",
        "use_largest",
        "use_majority",
        "manual",
        "ignore",
    ]
    assert conflict("A: 1 2 B: 1", type="missing").options == ()


def test_conflicts_come_by_path() -> None:
    lines = dict.fromkeys(("b", "a", "a/b", "a.b"), "1 X")
    hub = dict.fromkeys(lines, "1 2")
    made = plan_group(hub_policy(), [member_with("A", "", hub), member_with("B", "", lines)], NO_WORK, NOW)
    assert [c.path for c in made.conflicts] == ["a", "a/b", "a.b", "b"]


def test_a_member_that_went_away_stays_in_its_conflict() -> None:
    assert conflict("A: 1 2 B: 1 X").id == conflict("A: 1 2 B-: 1 X").id
