"""Datasets that were renamed on one member: recognized by their snapshots, and never sent again in full."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Neighbour, Plan, Work
from planner.prune import prunable
from tests.pictures import NOW, hub_policy, member_with, peers_policy, reasons, story

TOLD = (
    "tank/photos on hostB is tank/pictures on hostA under another name (both have 2). Rename one of them, as with "
    "zfs rename tank/photos tank/pictures on hostB, and it goes on from there; or move it out of the group, and it "
    "is sent in full"
)


def plan(a: dict[str, str], b: dict[str, str], **fields: Any) -> Plan:
    return plan_group(hub_policy(**fields), [member_with("A", "", a), member_with("B", "", b)], Work(), NOW)


def test_what_the_hub_renamed_is_not_sent_again() -> None:
    made = plan({"pictures": "1 2 3"}, {"photos": "1 2"})
    assert made.steps == ()
    assert [skip.reason for skip in made.skips if skip.path == "pictures"] == [TOLD]


@pytest.mark.parametrize("delete", ["never", "mirror"])
def test_a_bookmark_of_what_both_had_tells_a_rename_and_stays(delete: str) -> None:
    made = plan({"pictures": "#2@zfs-sync-2 3 4"}, {"photos": "1 2"}, delete=delete)
    assert made.steps == ()
    assert [skip.reason for skip in made.skips if skip.path == "pictures"] == [TOLD]


def test_a_bookmark_that_a_copy_on_the_hub_has_too_tells_nothing() -> None:
    made = plan({"pictures": "#2 3 4", "copy": "#2 5"}, {"photos": "1 2"})
    assert "under another name" not in reasons(made)


def test_what_both_have_under_different_names_is_needed() -> None:
    """Though the group chooses none of it."""
    members = [member_with("A", "", {"pictures": "1@h1 2@h2 3@daily"}), member_with("B", "", {"photos": "1@h1 2@h2"})]
    policy = hub_policy(snapshot_include=("daily",))
    verdicts = prunable(policy, members, Work(), plan_group(policy, members, Work(), NOW), NOW)
    needed = {(each.system_id, each.snapshot.name): each.reason for each in verdicts if each.needed}
    assert needed.keys() == {("A", "daily"), ("A", "h2"), ("B", "h2")}
    assert needed["A", "h2"] == "it is the newest snapshot shared with tank/photos on hostB"


def test_a_name_by_which_another_group_goes_stays() -> None:
    """Each hub calls it otherwise: whoever followed the advice of one group would get that of the other."""
    a, b, c = (member_with(name, "", {"photos" if name != "C" else "pictures": "1 2 3"}) for name in "ABC")
    there = replace(hub_policy(hub="A", order=("A", "B")), group_id="there")
    here = hub_policy(hub="C", order=("C", "B"))
    made = plan_group(here, [c, b], Work(neighbours=(Neighbour(there, (a, b)),)), NOW)
    assert [step.type for step in made.steps] == ["create", "sync"]
    assert "under another name" in reasons(plan_group(here, [c, b], Work(), NOW))
    paused = Work(neighbours=(Neighbour(replace(there, enabled=False), (a, b)),))
    assert "under another name" in reasons(plan_group(here, [c, b], paused, NOW)), "that group sends nothing"


def test_names_with_spaces_are_advised_as_one_types_them() -> None:
    made = plan({"my pictures": "1 2 3"}, {"my photos": "1 2"})
    assert "zfs rename 'tank/my photos' 'tank/my pictures' on hostB" in reasons(made)


def test_the_orphan_says_what_it_was_renamed_to() -> None:
    (conflict,) = [c for c in plan({"pictures": "1 2 3"}, {"photos": "1 2"}).conflicts if c.type == "orphaned"]
    assert conflict.reason == (
        "tank/photos on hostB has a history of its own: hostA, the hub, has no tank/photos. "
        "hostA has tank/photos@2 in tank/pictures: it was probably renamed"
    )


def test_once_renamed_it_goes_on() -> None:
    assert story(plan({"pictures": "1 2 3"}, {"pictures": "1 2"})) == ["sync tank/pictures"]


def test_what_lies_below_moves_along() -> None:
    made = plan({"pictures": "1 2 3", "pictures/raw": "5 6"}, {"photos": "1 2", "photos/raw": "5"})
    assert made.steps == ()
    assert "tank/photos/raw on hostB becomes tank/pictures/raw when tank/photos is renamed" in reasons(made)


def test_there_is_a_place_to_rename_it_to() -> None:
    """Below a dataset that the target lacks and that no stream will bring."""
    made = plan({"new": "()", "new/pictures": "1 2 3"}, {"photos": "1 2"})
    assert story(made) == ["create_parent tank/new"]
    assert "zfs rename tank/photos tank/new/pictures on hostB" in reasons(made)


def test_nothing_is_told_to_move_below_itself() -> None:
    made = plan({"photos/old": "1 2 3"}, {"photos": "1 2"})
    assert "under another name" not in reasons(made)


def test_a_name_that_is_taken_is_no_place_to_rename_it_to() -> None:
    made = plan({"pictures": "1 2 3"}, {"photos": "1 2", "pictures": "()"})
    assert "tank/pictures exists on hostB without any snapshot" in reasons(made)
    assert "under another name" not in reasons(made)


def test_what_lies_elsewhere_does_not_move_along() -> None:
    made = plan({"pictures": "1 2 3", "pictures/raw": "5 6"}, {"photos": "1 2", "raw": "5"})
    assert "zfs rename tank/raw tank/pictures/raw on hostB" in reasons(made)


def test_a_new_dataset_under_the_old_name_comes_after_the_rename() -> None:
    made = plan({"pictures": "1 2 3", "photos": "8 9"}, {"photos": "1 2"})
    assert made.steps == ()
    assert TOLD in reasons(made)


def test_without_a_hub_both_names_wait() -> None:
    those = [member_with("A", "", {"pictures": "1 2 3"}), member_with("B", "", {"photos": "1 2 3"})]
    made = plan_group(peers_policy(), those, Work(), NOW)
    assert made.steps == ()
    assert "zfs rename tank/photos tank/pictures on hostB" in reasons(made, "B")
    assert "zfs rename tank/pictures tank/photos on hostA" in reasons(made, "A")


@pytest.mark.parametrize(("on_a", "steps"), [("1 2 X", []), ("1 2 *", []), ("1 2", [])])
def test_without_a_hub_what_went_on_under_a_new_name_is_not_sent_again(on_a: str, steps: list[str]) -> None:
    others = [member_with(name, "", {"photos": "1 2"}) for name in "BC"]
    made = plan_group(peers_policy(), [member_with("A", "", {"pictures": on_a}), *others], Work(), NOW)
    assert story(made) == steps
    assert "zfs rename tank/pictures tank/photos on hostA" in reasons(made, "A")
    assert all("zfs rename tank/photos tank/pictures" in reasons(made, name) for name in "BC")


def test_where_there_is_a_hub_what_was_written_to_elsewhere_is_no_renamed_dataset() -> None:
    assert story(plan({"pictures": "1 2"}, {"photos": "1 2 X"})) == ["create tank/pictures", "sync tank/pictures"]


def test_without_a_hub_two_names_that_a_member_has_side_by_side_are_of_two_datasets() -> None:
    """That which moved along with a renamed parent on B and C, where another came under the old name on C since: to
    rename it on B either way would only turn the question round."""
    datasets = {"A": {"kid": "1 2 3"}, "B": {"old/kid": "1 2 x y"}, "C": {"old/kid": "2 y", "kid": "3"}}
    members = [member_with(name, "", held) for name, held in datasets.items()]
    made = plan_group(peers_policy(), members, Work(), NOW)
    assert "under another name" not in reasons(made)
    assert {(step.target, step.target_dataset) for step in made.steps if step.type == "create"} >= {("B", "tank/kid")}


@pytest.mark.parametrize(
    ("hub", "replica"),
    [
        ({"data": "1 2 3", "copy": "1 2"}, {"data": "1 2"}),  # copied within the hub
        ({"data": "1 2 3", "copy": "1 2"}, {"other": "1 2"}),  # which of the two it was is not known
        ({"data": "1 2 3"}, {"other": "1 2 X"}),  # it could not go on under its new name either
        ({"data": "1 2 3"}, {"other": "8 9"}),
        ({"data": "1 2 3"}, {"other": "~1 ~2"}),
        ({"photos": "1 3", "pictures": "2 4"}, {"photos": "1 2"}),  # photos goes on as photos
    ],
)
def test_what_is_not_renamed_is_sent(hub: dict[str, str], replica: dict[str, str]) -> None:
    assert any(step.type == "create" for step in plan(hub, replica).steps)


def test_what_was_put_out_of_the_way_of_raw_streams_is_sent_again() -> None:
    """It was renamed because no raw stream goes on top of it: that is the way out that the plan names."""
    hub = member_with("A", "", {"data": "1 2 3"}, encryption="aes-256-gcm")
    plain = member_with("B", "", {"old": "1 2"})
    made = plan_group(replace(hub_policy(), raw="always"), [hub, plain], Work(), NOW)
    assert story(made)[0] == "create tank/data"


def test_nobody_who_is_away_makes_the_place_to_rename_it_to() -> None:
    b = member_with("B", "", {"old": "1 2"})
    for mark, steps in (("", ["create_parent"]), ("-", [])):
        a = member_with("A", mark, {"new/kid": "1 2 3"})
        made = plan_group(hub_policy(), [a, b], Work(), NOW)
        assert [step.type for step in made.steps] == steps
        assert "under another name" in reasons(made, "B")


def test_a_name_that_is_too_long_for_the_member_is_not_advised() -> None:
    a = member_with("A", "", {"n" * 240: "1 2 3@a-snapshot"})
    b = member_with("B", "", {"old": f"1 2@{'s' * 20}"})
    said = reasons(plan_group(hub_policy(), [a, b], Work(), NOW), "B")
    assert f"as with zfs rename tank/{'n' * 240} tank/old on hostA, and it goes on" in said
