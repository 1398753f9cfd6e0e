"""Advice and deletions where two facts meet: the last copy of anything, and the base of anything, stays."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Decision, Gone, Listed, Neighbour, Plan, Snapshot, Work
from planner.prune import prunable
from planner.resolutions import choose
from tests.boxes import COLUMNS, empty_boxes, listing
from tests.pictures import NOW, draw, hub_policy, member_with, members_of, reasons, story
from tests.test_prune import NOW as PRUNED_AT
from tests.test_prune import POLICY, droppable, judge, members, step

# --- the hub went back, or began anew ------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "guids", "free"),
    [
        ("A: 1 2 3 B: 1 2 X Y", "XY", "B 1"),
        ("A: 11 12 B: 1 2 3 4", "1234", "nothing"),  # though an admin accepted what went there
        ("A: 11 B: 1 2 3 C: 1 2", "123", "C 1"),
        ("A: 1 2 3 B: 1 2 X C: 1 2 X", "X", "B 1, C 1"),  # the newest that B and C share
        ("A: 2 3 B: 1 2 3 X", "1", "B 1 2"),  # what the hub pruned goes from others all the same
    ],
)
def test_the_history_that_a_conflict_is_about_stays(picture: str, guids: str, free: str) -> None:
    members, policy = members_of(picture), hub_policy(delete="mirror")
    work = Work(gone=Listed(tuple(Gone("A", "tank/data", guid, hub_of=("g",)) for guid in guids)))
    plan = plan_group(policy, members, work, NOW)
    assert droppable(list(prunable(policy, members, work, plan, NOW))) == free


# --- a spoke becomes the hub ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hub_of", "drawn"),
    [((), "nothing"), (("other",), "nothing"), (("other", "g"), "A delete 1 2 3, C delete 1 2 3")],
)
def test_what_the_hub_let_go_as_a_spoke_is_kept_by_the_others(hub_of: tuple[str, ...], drawn: str) -> None:
    members = members_of("A: 1 2 3 4 5 6 B: 4 5 6 C: 1 2 3 4 5 6")
    work = Work(gone=Listed(tuple(Gone("B", "tank/data", guid, hub_of=hub_of) for guid in "123")))
    policy = replace(hub_policy(delete="mirror", hub="B"), include=("data",))
    assert draw(plan_group(policy, members, work, NOW), usual="B") == drawn


@pytest.mark.parametrize(
    ("one_by_one", "reports_first", "went"),
    [(False, True, [["3"], ["3", "4"]]), (False, False, [[], ["4"]]), (True, True, [[], []])],
)
def test_a_failover_deletes_nothing_that_the_new_hub_pruned_before(
    make_witness: Any, one_by_one: bool, reports_first: bool, went: list[list[str]]
) -> None:
    """What is missing in its first report as the hub may have gone before; what is forgotten was not destroyed."""
    boxes = empty_boxes(make_witness, "  - name: far\n    systems: {offsite: , laptop: }\n")
    nas, backup = boxes.nas, boxes.backup
    settings = {"name": "both", "delete": "mirror", "members": {nas.id: {"root": "tank"}, backup.id: {"root": "vault"}}}
    group = boxes.client.call("POST", "/sync-groups", {**settings, "hub_system_id": nas.id}).json["id"]

    def let_go(*left: str) -> None:
        if one_by_one:
            known = boxes.client.get(f"/snapshots?system_id={backup.id}&limit=1000")
            for gone in (each for each in known if each["name"][1:] not in left):
                assert backup.call("DELETE", f"/snapshots/{gone['id']}").status_code == 204
        else:
            backup.report(listing("vault:", f"vault/a: {' '.join(left)}"), COLUMNS)

    def deleted() -> list[str]:
        actions = boxes.client.get(f"/sync/{group}/instructions")["actions"]
        return [guid[-1] for each in actions if each["action_type"] == "delete" for guid in each["expected_guids"]]

    nas.report(listing("tank:", "tank/a: 1 2 3 4 5 6"), COLUMNS)
    backup.report(listing("vault:", "vault/a: 1 2 3 4 5 6"), COLUMNS)
    let_go("3", "4", "5", "6")
    boxes.client.call("PUT", f"/sync-groups/{group}", {"hub_system_id": backup.id})
    if reports_first:
        let_go("3", "4", "5", "6")
    assert deleted() == []
    for left, gone in zip(("456", "56"), went, strict=True):
        let_go(*left)
        assert deleted() == gone


# --- two groups, one mistake ---------------------------------------------------------------------

CHAIN = """\
  - name: near
    hub: nas
    delete: mirror
    systems: {nas: {root: tank}, backup: {root: vault}}
  - name: far
    hub: backup
    systems: {backup: {root: vault}, offsite: {root: pool1}}
    snapshots: {include: [s6]}
"""


def test_what_one_group_lost_at_once_is_not_prunable_in_another(make_witness: Any) -> None:
    boxes = empty_boxes(make_witness, CHAIN)
    for agent, root in ((boxes.nas, "tank"), (boxes.backup, "vault"), (boxes.offsite, "pool1")):
        agent.report(listing(f"{root}:", f"{root}/a: {'6' if root == 'pool1' else '1 2 3 4 5 6'}"), COLUMNS)
    (far,) = (group["id"] for group in boxes.client.get("/sync-groups") if group["name"] == "far")

    def prunable_of_backup() -> list[str]:
        systems = boxes.client.get(f"/sync/{far}/prunable")["systems"]
        (found,) = (each for each in systems if each["system_id"] == boxes.backup.id)
        return [entry["name"] for entry in found["prunable"]]

    assert prunable_of_backup() == ["s1", "s2", "s3", "s4", "s5"], "near has them on nas, too"
    boxes.nas.report(listing("tank:", "tank/a: 6"), COLUMNS)
    assert prunable_of_backup() == []


# --- two groups, one copy ------------------------------------------------------------------------

BOTH = (
    ("A: 1 2  B: 1 2", {"snapshot_exclude": ("s1",)}, "A: 1 2  C: 1 2", {}),
    ("A: 1 2  B: 1 2", {}, "A: 1 2  C: 1 2", {}),
    ("A: 1 2  B: 1 2", {"hub": "A"}, "A: 1 2  B: 1 2", {"hub": "B"}),
    ("A: 1 2  B: 1 2  C: 1 2", {"hub": "A"}, "A: 1 2  B: 1 2  C: 1 2", {"hub": "B", "snapshot_exclude": ("s1",)}),
    ("A: 1 2  C: 1 2", {"hub": "C"}, "A: 1 2  B: 1 2  C: 1", {"hub": "A"}),
)


@pytest.mark.parametrize(("picture", "fields", "other_picture", "other_fields"), BOTH)
def test_the_advice_of_two_groups_leaves_a_copy_to_each(
    picture: str, fields: dict[str, Any], other_picture: str, other_fields: dict[str, Any]
) -> None:
    one = (replace(POLICY, group_id="one", name="one", **fields), tuple(members(picture)))
    two = (replace(POLICY, group_id="two", name="two", **other_fields), tuple(members(other_picture)))
    dropped: set[str] = set()
    for (policy, those), other in ((one, two), (two, one)):
        verdicts = judge(list(those), policy, Work(neighbours=(Neighbour(*other),)))
        dropped |= {verdict.system_id for verdict in verdicts if not verdict.needed and verdict.snapshot.name == "s1"}
    for policy, those in (one, two):
        if "s1" not in policy.snapshot_exclude:
            assert {member.system_id for member in those} - dropped, "all that follow it let it go"


def test_the_plan_of_a_group_does_not_change_who_keeps_a_copy() -> None:
    """The others don't know the plan, and go by the hub."""
    first = Snapshot("s1", "1")
    mark = step("bookmark", target="B", end=first)
    verdicts = judge(members("A: 1 2  B: 1 2"), plan=Plan(steps=(mark,)))
    assert droppable(verdicts) == "nothing"


def test_a_mirrored_deletion_and_the_advice_of_another_group_leave_a_copy() -> None:
    a, k, c = *members("A: 1 2"), *members("K: 2"), *members("C: 1 2")
    one = replace(POLICY, group_id="one", name="one", directional=True, hub="K", delete="mirror", interval_s=10**10)
    two = replace(POLICY, group_id="two", name="two")
    gone = Listed((Gone("K", "tank/data", "1", hub_of=("one",)),))
    mirrored = plan_group(one, [k, a], Work(gone=gone, neighbours=(Neighbour(two, (a, c)),)), PRUNED_AT)
    assert [each for each in mirrored.steps if each.type == "delete"] == []
    assert droppable(judge([a, c], two, Work(neighbours=(Neighbour(one, (k, a)),)))) == "C 1"


# --- a discard -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "drawn"),
    [
        ("1 2 3 4", "1 2 4", "B rollback"),
        ("1 2 3 4", "1 2 5", "B rollback"),
        ("1 2 3 4", "1 2 3", "B diverged"),
        ("1 2 3 4", "1 2", "B diverged"),
        ("1 2", "1 2", "B rollback"),
    ],
)
def test_nothing_is_discarded_for_what_the_winner_lost_meanwhile(before: str, after: str, drawn: str) -> None:
    (a, b), policy = members_of(f"A: {before} B: 1 2 X"), hub_policy()
    (conflict,) = plan_group(policy, [a, b], Work(), NOW).conflicts
    option = choose(conflict, "manual", "A", True, policy, [a, b], Work(), NOW)
    work = Work(decisions=(Decision(conflict.id, "data", "manual", "A", True, option.losers),))
    made = plan_group(policy, [members_of(f"A: {after}")[0], b], work, NOW)
    assert draw(made).partition(",")[0] == drawn
    assert ("hostA has lost what was to come" in reasons(made, "B")) == (drawn == "B diverged")


# --- what is set aside, or has another name -------------------------------------------------------


@pytest.mark.parametrize("in_the_group", [True, False])
def test_the_base_of_what_moved_along_stays_while_it_has_no_name(in_the_group: bool) -> None:
    """B's data is half way set aside, its child along with it; the window may be closed for weeks."""
    a = member_with("A", "", {"data": "1 2 3", "data/kid": "#2@zfs-sync-2 3 4"})
    b = member_with("B", "", {"data.aside-0123abcd": "1 2 X", "data.aside-0123abcd/kid": "2"})
    c = member_with("C", "", {"data/kid": "2 3 4"})
    gone = Listed((Gone("A", "tank/data/kid", "2", hub_of=("g",)),))
    mirror = hub_policy(delete="mirror")
    neighbours = () if in_the_group else (Neighbour(replace(mirror, group_id="h"), (a, b, c)),)
    members = [a, b, c] if in_the_group else [a, c]
    made = plan_group(mirror, members, Work(gone=gone, neighbours=neighbours), NOW)
    assert not {step.type for step in made.steps} & {"delete", "release"}
    if not in_the_group:
        assert story(plan_group(mirror, members, Work(gone=gone), NOW)) == [
            "delete tank/data/kid",
            "release tank/data/kid",
        ]


@pytest.mark.parametrize("anew", ["", "9", "()"])
def test_what_a_renamed_dataset_goes_on_from_stays_though_its_old_name_is_another_dataset_now(anew: str) -> None:
    members = [
        member_with("A", "", {"pictures": "2@old 3", "photos": anew}),
        member_with("B", "", {"photos": "1@older 2@old"}),
    ]
    policy = hub_policy(snapshot_exclude=("old*",))
    plan = plan_group(policy, members, Work(), NOW)
    needed = {(v.system_id, v.snapshot.name) for v in prunable(policy, members, Work(), plan, NOW) if v.needed}
    assert {("A", "old"), ("B", "old")} <= needed
    assert ("B", "older") not in needed


# --- two groups, one target ----------------------------------------------------------------------

FAN_IN = """\
  - name: movies
    hub: nas
    systems: {nas: {root: tank}, backup: {root: vault}}
    datasets: {include: [media/movies]}
  - name: media
    hub: offsite
    systems: {offsite: {root: pool1/media}, backup: {root: ROOT}}
"""


@pytest.mark.parametrize(("root", "steps"), [("vault/media", []), ("vault/else", ["create_parent", "create"])])
def test_no_empty_parent_where_a_group_that_shares_only_the_target_sends(
    make_witness: Any, root: str, steps: list[str]
) -> None:
    boxes = empty_boxes(make_witness, FAN_IN.replace("ROOT", root))
    boxes.nas.report(listing("tank:", "tank/media: 1", "tank/media/movies: 2"), COLUMNS)
    boxes.offsite.report(listing("pool1:", "pool1/media: 3"), COLUMNS)
    boxes.backup.report(listing("vault:"), COLUMNS)
    (movies,) = (group["id"] for group in boxes.client.get("/sync-groups") if group["name"] == "movies")
    actions = boxes.client.get(f"/sync/{movies}/instructions")["actions"]
    assert [action["action_type"] for action in actions] == steps
