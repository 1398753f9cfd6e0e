"""Conflicts over the API: what is shown, what a decision does, and when it counts as resolved."""

from dataclasses import replace
from typing import Any

import pytest

from store import group_records
from tests.boxes import COLUMNS, MEDIA, Boxes, empty_boxes, guid_of, listing, real_boxes
from tests.store_samples import everything
from tests.test_actions import finish, start
from tests.witness import NOBODY

NAS = ("tank: 1", "tank/a: a1 a2 a3")
BACKUP = ("vault:", "vault/nas: 1", "vault/nas/a: a1 a2 a4X")
OFFSITE = ("pool1:", "pool1/replica: 1", "pool1/replica/a: a1 a2 a3")


@pytest.fixture
def boxes(make_witness: Any) -> Boxes:
    """The backup took a snapshot with data of its own after s2; the others go on to s3."""
    return told(empty_boxes(make_witness))


def told(boxes: Boxes, nas: Any = NAS, backup: Any = BACKUP, offsite: Any = OFFSITE) -> Boxes:
    for agent, histories in ((boxes.nas, nas), (boxes.backup, backup), (boxes.offsite, offsite)):
        agent.report(listing(*histories), COLUMNS)
    return boxes


def conflicts(boxes: Boxes, query: str = "") -> Any:
    return boxes.client.get(f"/conflicts/{boxes.group}{query}")["conflicts"]


def diverged(boxes: Boxes) -> Any:
    """The one diverged conflict."""
    (found,) = [conflict for conflict in conflicts(boxes) if conflict["type"] == "diverged"]
    return found


def resolve(boxes: Boxes, conflict_id: str, strategy: str, query: str = "", status: int = 200, **data: Any) -> Any:
    body = {"strategy": strategy, **({"resolution_data": data} if data else {})}
    return boxes.client.call("POST", f"/conflicts/{conflict_id}/resolve{query}", body, status=status).json


def follow(boxes: Boxes) -> list[str]:
    """Do all that is planned, as the agents would; what was done."""
    done = []
    while actions := boxes.plan()["actions"]:
        agent = boxes.agent_of(actions[0]["executor_system_id"])
        finish(agent, actions[0], start(agent, actions[0]).json["lease_token"])
        done.append(f"{actions[0]['action_type']} {actions[0]['target_dataset']}")
    return done


# --- what is shown -------------------------------------------------------------------------------


def test_a_conflict_shows_its_evidence_and_its_ways_out(boxes: Boxes) -> None:
    found = diverged(boxes)
    assert set(found) == {
        "id",
        "type",
        "snapshot_name",
        "snapshot_names",
        "pool",
        "dataset",
        "sync_group_id",
        "systems",
        "severity",
        "status",
        "detected_at",
        "resolution",
        "reason",
        "options",
    }
    assert (found["dataset"], found["severity"], found["status"], found["resolution"]) == ("a", "high", "open", None)
    assert found["snapshot_name"] == "s4"
    backup = found["systems"][boxes.backup.id]
    assert (backup["head"]["name"], backup["newest_common"]["name"]) == ("s4", "s2")
    assert backup["only_here"] == [
        {
            "name": "s4",
            "guid": backup["head"]["guid"],
            "identity": "guid",
            "timestamp": "2023-11-15T02:13:20Z",
            "size": 1000,
            "written": 1000,
        }
    ]
    assert [option["strategy"] for option in found["options"]] == [
        "use_newest",
        "use_largest",
        "use_majority",
        "manual",
        "ignore",
    ]
    majority = found["options"][2]
    assert majority["winner_system_id"] == boxes.nas.id
    assert [action["action_type"] for action in majority["actions"]] == ["rename", "sync", "promote"]
    assert (majority["lost"], majority["lost_bytes"]) == ([], 0)
    assert "/vault/nas/a" in majority["cost"]


def test_conflicts_are_listed_for_those_who_may_see_the_group(boxes: Boxes) -> None:
    listed = boxes.nas.get(f"/conflicts/{boxes.group}")
    assert listed == {"conflicts": listed["conflicts"], "count": len(listed["conflicts"]), "sync_group_id": boxes.group}
    everywhere = boxes.client.get("/conflicts")
    assert (everywhere["conflicts"], everywhere["sync_group_id"]) == (listed["conflicts"], None)
    lonely = boxes.client.register("lonely")
    assert lonely.get("/conflicts")["conflicts"] == []
    lonely.call("GET", f"/conflicts/{boxes.group}", status=403)


def test_real_pools_are_in_the_conflicts_they_were_made_for(make_witness: Any) -> None:
    found = {(each["dataset"], each["type"]) for each in conflicts(real_boxes(make_witness))}
    assert found >= {("docs", "diverged"), ("www", "diverged"), ("git", "orphaned")}


def test_the_id_stays_while_the_evidence_does(boxes: Boxes) -> None:
    known = diverged(boxes)
    told(boxes, nas=("tank: 1", "tank/a: a1 a2 a3 a5"))  # the hub goes on
    assert diverged(boxes)["id"] == known["id"]
    told(boxes, backup=("vault:", "vault/nas: 1", "vault/nas/a: a1 a2 a4X a5X"))
    assert diverged(boxes)["id"] != known["id"]


def test_a_conflict_was_detected_when_a_check_first_saw_it(boxes: Boxes) -> None:
    boxes.client.call("POST", f"/sync/{boxes.group}/check")
    first = diverged(boxes)["detected_at"]
    told(boxes)
    boxes.client.call("POST", f"/sync/{boxes.group}/check")
    assert diverged(boxes)["detected_at"] == first


# --- deciding ------------------------------------------------------------------------------------


def recorded(boxes: Boxes) -> dict[str, bytes]:
    """All that the store keeps, but for how often somebody asked."""
    return {name: raw for name, raw in everything(boxes.client.witness.store).items() if name != "limits"}


def test_a_dry_run_shows_what_would_be_done_and_records_nothing(boxes: Boxes) -> None:
    known = diverged(boxes)
    before = recorded(boxes)
    shown = resolve(boxes, known["id"], "manual", "?dry_run=true", system_id=boxes.nas.id)
    assert (shown["dry_run"], shown["status"], shown["winner_system_id"]) == (True, "open", boxes.nas.id)
    assert [action["action_type"] for action in shown["actions"]] == ["rename", "sync", "promote"]
    assert recorded(boxes) == before
    assert diverged(boxes) == known


def test_what_loses_is_set_aside_and_nothing_is_destroyed(boxes: Boxes) -> None:
    known = diverged(boxes)
    aside = f"vault/nas/a.aside-{known['id'][:8]}"
    answer = resolve(boxes, known["id"], "manual", system_id=boxes.nas.id)
    assert (answer["status"], answer["discard"], answer["lost"]) == ("pending", False, [])
    rename, sync, promote = boxes.plan()["actions"]
    assert rename["executor_system_id"] == promote["executor_system_id"] == boxes.backup.id
    assert (rename["target_dataset"], rename["new_name"]) == ("vault/nas/a", aside)
    assert (sync["executor_system_id"], sync["origin"]) == (boxes.nas.id, f"{aside}@s2")
    assert not any(action["destructive"] for action in (rename, sync, promote))
    assert follow(boxes) == ["rename vault/nas/a", "sync vault/nas/a", "promote vault/nas/a"]
    assert diverged(boxes)["status"] == "pending"  # nobody has seen it yet
    boxes.nas.report(listing(*NAS), COLUMNS)
    assert diverged(boxes)["status"] == "pending"
    boxes.backup.report(listing("vault:", "vault/nas: 1", "vault/nas/a: a1 a2 a3", f"{aside}: a4X"), COLUMNS)
    assert conflicts(boxes) == []
    resolved = conflicts(boxes, "?status=resolved")
    assert [(each["id"], each["status"]) for each in resolved] == [(known["id"], "resolved")]
    resolution = resolved[0]["resolution"]
    assert (resolution["strategy"], resolution["winner_system_id"]) == ("manual", boxes.nas.id)
    assert resolution["decided_by"] == "admin"
    assert resolution["decided_at"] < resolution["resolved_at"]
    told_of = [event["what"] for event in boxes.client.get(f"/events?sync_group_id={boxes.group}")]
    assert told_of.index("conflict.settled") < told_of.index("conflict.resolved")


def test_while_a_dataset_is_set_aside_no_group_changes_what_lies_below(boxes: Boxes) -> None:
    told(boxes, (*NAS, "tank/a/kid: k1 k2"), (*BACKUP, "vault/nas/a/kid: k1"))
    members = {boxes.nas.id: {"root": "tank/a/kid"}, boxes.backup.id: {"root": "vault/nas/a/kid"}}
    body = {"name": "second", "members": members, "hub_system_id": boxes.nas.id}
    second = boxes.client.call("POST", "/sync-groups", body).json["id"]
    (sync,) = boxes.client.get(f"/sync/{second}/instructions")["actions"]
    resolve(boxes, diverged(boxes)["id"], "manual", system_id=boxes.nas.id)
    start(boxes.backup, boxes.plan()["actions"][0])
    assert start(boxes.nas, sync, expect_errors=True).status_code in (409, 410)
    shown = boxes.client.get(f"/sync/{second}/instructions")
    assert shown["actions"] == []
    assert "is working on" in shown["skipped"][0]["reason"]


def test_no_other_group_sends_into_the_name_of_what_was_set_aside(boxes: Boxes) -> None:
    members = {boxes.nas.id: {"root": "tank"}, boxes.backup.id: {"root": "vault/nas"}}
    body = {"name": "second", "members": members, "hub_system_id": boxes.nas.id}
    second = boxes.client.call("POST", "/sync-groups", body).json["id"]
    resolve(boxes, diverged(boxes)["id"], "manual", system_id=boxes.nas.id)
    rename = boxes.plan()["actions"][0]
    finish(boxes.backup, rename, start(boxes.backup, rename).json["lease_token"])
    shown = boxes.client.get(f"/sync/{second}/instructions")
    assert shown["actions"] == []
    assert "waits until what the group media decided" in shown["skipped"][0]["reason"]
    follow(boxes)
    assert boxes.client.get(f"/sync/{second}/instructions")["skipped"] == []


def test_an_inventory_that_shows_something_else_leaves_it_pending(boxes: Boxes) -> None:
    resolve(boxes, diverged(boxes)["id"], "manual", system_id=boxes.nas.id)
    follow(boxes)
    boxes.backup.report(listing(*BACKUP), COLUMNS)  # as if nothing had been done
    assert diverged(boxes)["status"] == "pending"
    assert [action["action_type"] for action in boxes.plan()["actions"]] == ["rename", "sync", "promote"]


def test_a_discard_says_what_goes_and_removes_nothing_else(boxes: Boxes) -> None:
    known = diverged(boxes)
    own = known["systems"][boxes.backup.id]["head"]
    answer = resolve(boxes, known["id"], "manual", system_id=boxes.nas.id, discard=True)
    assert [(lost["name"], lost["guid"]) for lost in answer["lost"]] == [("s4", own["guid"])]
    assert answer["lost_bytes"] == 1000
    assert "lost for good" in answer["cost"]
    rollback = next(action for action in boxes.plan()["actions"] if action["destructive"])
    assert (rollback["action_type"], rollback["target_dataset"]) == ("rollback", "vault/nas/a")
    assert rollback["expected_guids"] == [own["guid"]]
    assert rollback["expected_written"] == 0
    assert rollback["snapshot_guid"] == str(guid_of("a2"))
    script = boxes.backup.call("GET", "/sync/instructions", headers={"Accept": "text/x-shellscript"})
    assert "zfs rollback" not in script.text
    assert follow(boxes) == ["rollback vault/nas/a", "sync vault/nas/a"]
    told(boxes, backup=("vault:", "vault/nas: 1", "vault/nas/a: a1 a2 a3"))
    assert conflicts(boxes) == []


def test_an_ignored_conflict_is_muted_until_its_evidence_changes(boxes: Boxes) -> None:
    known = diverged(boxes)
    counted = boxes.client.get(f"/sync/{boxes.group}/status")["summary"]["conflicts"]
    assert resolve(boxes, known["id"], "ignore")["status"] == "ignored"
    assert diverged(boxes)["status"] == "ignored"
    assert boxes.client.get(f"/sync/{boxes.group}/status")["summary"]["conflicts"] == counted - 1
    assert [each["id"] for each in conflicts(boxes, "?status=ignored")] == [known["id"]]
    told(boxes, backup=("vault:", "vault/nas: 1", "vault/nas/a: a1 a2 a4X a5X"))
    boxes.client.call("POST", f"/sync/{boxes.group}/check")
    assert diverged(boxes)["status"] == "open"
    assert conflicts(boxes, "?status=resolved") == []  # it went away, and nobody resolved it


def test_another_decision_takes_the_place_of_the_first(boxes: Boxes) -> None:
    known = diverged(boxes)
    resolve(boxes, known["id"], "ignore")
    resolve(boxes, known["id"], "use_majority")
    assert diverged(boxes)["resolution"]["strategy"] == "use_majority"
    assert boxes.plan()["actions"][0]["action_type"] == "rename"


# --- what is refused -----------------------------------------------------------------------------


def test_a_tie_is_409_with_the_count(boxes: Boxes) -> None:
    told(boxes, offsite=("pool1:", "pool1/replica: 1"))
    known = diverged(boxes)
    assert "a tie, 1 to 1" in resolve(boxes, known["id"], "use_majority", status=409)["detail"]
    told(boxes, backup=("vault:", "vault/nas: 1", "vault/nas/a: a1 a2 a3X"))
    assert "same second" in resolve(boxes, diverged(boxes)["id"], "use_newest", status=409)["detail"]
    assert diverged(boxes)["status"] == "open"


def test_evidence_that_changed_meanwhile_is_409(boxes: Boxes) -> None:
    known = diverged(boxes)
    boxes.client.call("POST", f"/sync/{boxes.group}/check")
    told(boxes, backup=("vault:", "vault/nas: 1", "vault/nas/a: a1 a2 a4X a5X"))
    assert "changed meanwhile" in resolve(boxes, known["id"], "use_newest", status=409)["detail"]
    resolve(boxes, NOBODY, "use_newest", status=404)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"strategy": "manual"}, "resolution_data.system_id"),
        ({"strategy": "manual", "resolution_data": {"system_id": NOBODY}}, "resolution_data.system_id"),
        ({"strategy": "manual", "resolution_data": {"system_id": "nas"}}, "resolution_data.system_id"),
        ({"strategy": "manual", "resolution_data": {"discard": "yes"}}, "resolution_data.discard"),
        ({"strategy": "manual", "resolution_data": {"force": True}}, "resolution_data.force"),
        ({"strategy": "use_force"}, "strategy"),
        ({"resolution_data": {}}, "strategy"),
    ],
)
def test_a_decision_that_cannot_be_is_422(boxes: Boxes, body: Any, loc: str) -> None:
    path = f"/conflicts/{diverged(boxes)['id']}/resolve"
    refused = boxes.client.call("POST", path, body, status=422)
    assert refused.json["errors"][0]["loc"] == loc
    boxes.client.call("POST", f"{path}?dry_run=perhaps", {"strategy": "ignore"}, status=422)


def test_only_an_admin_decides(boxes: Boxes) -> None:
    path = f"/conflicts/{diverged(boxes)['id']}/resolve"
    for by in (boxes.nas, boxes.client.with_role("viewer"), boxes.client.with_role("enroll")):
        by.call("POST", path, {"strategy": "ignore"}, status=403)


# --- without a person ----------------------------------------------------------------------------


@pytest.fixture
def automatic(make_witness: Any) -> Boxes:
    return told(empty_boxes(make_witness, MEDIA + "    on_conflict: use_majority\n"))


def test_on_conflict_decides_and_the_decision_is_recorded_when_it_starts(automatic: Boxes) -> None:
    boxes = automatic
    records = group_records(boxes.group)
    rename = boxes.plan()["actions"][0]
    assert rename["action_type"] == "rename"
    assert len(boxes.client.witness.store.read(records).decisions) == 0
    start(boxes.nas, rename, status=403)
    assert len(boxes.client.witness.store.read(records).decisions) == 0
    known = diverged(boxes)
    assert follow(boxes) == ["rename vault/nas/a", "sync vault/nas/a", "promote vault/nas/a"]
    decided = boxes.client.witness.store.read(records).decisions.get(known["id"])
    assert (decided.strategy, decided.winner, decided.decided_by) == ("use_majority", boxes.nas.id, "on_conflict")


def test_on_conflict_touches_no_hub(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness, MEDIA + "    on_conflict: use_newest\n"))
    assert diverged(boxes)["options"][0]["winner_system_id"] == boxes.backup.id
    assert boxes.plan()["actions"] == []
    assert diverged(boxes)["status"] == "open"


def test_on_conflict_touches_nothing_that_can_be_written_to(automatic: Boxes) -> None:
    automatic.backup.report(listing(*BACKUP).replace("\ton\tyes", "\toff\tyes"), COLUMNS)
    assert automatic.plan()["actions"] == []
    assert diverged(automatic)["status"] == "open"


def test_what_on_conflict_may_no_more_touch_is_a_new_conflict(automatic: Boxes) -> None:
    """Not one that waits for ever beside it."""
    rename = automatic.plan()["actions"][0]
    finish(automatic.backup, rename, start(automatic.backup, rename).json["lease_token"], exit_status=1)
    in_use = [part if part != BACKUP[-1] else f"{part} b9X" for part in BACKUP]
    automatic.backup.report(listing(*in_use).replace("\ton\tyes", "\toff\tyes"), COLUMNS)
    automatic.client.call("POST", f"/sync/{automatic.group}/check")
    assert [each["status"] for each in conflicts(automatic) if each["type"] == "diverged"] == ["open"]
    decided = automatic.client.witness.store.read(group_records(automatic.group)).decisions.all()
    assert [each.strategy for each in decided if each.path == "a"] == [""]


def by_hand_in(boxes: Boxes) -> Boxes:
    """The boxes in a group that the API may change."""
    members = {
        boxes.nas.id: {"root": "tank"},
        boxes.backup.id: {"root": "vault/nas"},
        boxes.offsite.id: {"root": "pool1/replica"},
    }
    body = {"name": "by hand", "members": members, "hub_system_id": boxes.nas.id}
    return told(replace(boxes, group=boxes.client.call("POST", "/sync-groups", body).json["id"]))


def test_a_member_that_leaves_while_a_decision_waits_breaks_nothing(make_witness: Any) -> None:
    boxes = empty_boxes(make_witness)
    by_hand = by_hand_in(boxes)
    resolve(by_hand, diverged(by_hand)["id"], "manual", system_id=boxes.nas.id)
    boxes.client.call("DELETE", f"/sync-groups/{by_hand.group}/systems/{boxes.backup.id}", status=204)
    for path in (f"/conflicts/{by_hand.group}", f"/sync/{by_hand.group}/status", f"/sync/{by_hand.group}/prunable"):
        boxes.client.call("GET", path, status=200)
    boxes.client.call("DELETE", f"/systems/{boxes.offsite.id}", status=204)
    assert by_hand.plan()["actions"] == []
    boxes.client.call("POST", f"/sync/{by_hand.group}/check", status=200)
    boxes.nas.report(listing(*NAS), COLUMNS)


def test_what_was_decided_before_the_evidence_changed_is_forgotten_when_it_is_decided_again(boxes: Boxes) -> None:
    first = diverged(boxes)
    resolve(boxes, first["id"], "manual", system_id=boxes.backup.id)
    boxes.nas.report(listing(NAS[0], "tank/a: a1 a2 a3 a5X"), COLUMNS)
    boxes.backup.report(listing(*BACKUP[:2], "vault/nas/a: a1 a2 a4X a6X"), COLUMNS)
    shown = {each["id"]: each["status"] for each in conflicts(boxes) if each["type"] == "diverged"}
    (again,) = shown.keys() - {first["id"]}
    assert shown == {first["id"]: "pending", again: "open"}
    resolve(boxes, again, "manual", system_id=boxes.nas.id)
    kept = boxes.client.witness.store.read(group_records(boxes.group)).decisions.all()
    assert [each.id for each in kept if each.strategy] == [again]


def test_what_a_group_has_left_behind_is_no_longer_decided(make_witness: Any) -> None:
    boxes = by_hand_in(empty_boxes(make_witness))
    resolve(boxes, diverged(boxes)["id"], "manual", system_id=boxes.nas.id)
    boxes.client.call("PUT", f"/sync-groups/{boxes.group}", {"datasets": {"exclude": ["a"]}})
    assert "no longer chooses" in str(boxes.plan()["skipped"])
    boxes.backup.report(listing(*BACKUP), COLUMNS)
    assert "no longer chooses" not in str(boxes.plan()["skipped"])
    boxes.client.call("PUT", f"/sync-groups/{boxes.group}", {"datasets": {"exclude": []}})
    assert diverged(boxes)["status"] == "open"


CHAIN = """\
  - name: media
    hub: nas
    systems: {nas: {root: tank}, backup: {root: vault/nas}}
  - name: next
    hub: backup
    systems: {backup: {root: vault/nas}, offsite: {root: pool1/replica}}
"""


def test_what_is_ignored_stays_so_while_the_hub_is_half_way_in_another_group(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness, CHAIN), offsite=(*OFFSITE[:2], "pool1/replica/a: a1 a2 a7X"))
    groups = {group["name"]: replace(boxes, group=group["id"]) for group in boxes.client.get("/sync-groups")}
    media, following = groups["media"], groups["next"]
    ignored = diverged(following)["id"]
    resolve(following, ignored, "ignore")
    resolve(media, diverged(media)["id"], "manual", system_id=boxes.nas.id)
    rename = media.plan()["actions"][0]
    finish(boxes.backup, rename, start(boxes.backup, rename).json["lease_token"])
    boxes.client.call("POST", f"/sync/{following.group}/check", {}, status=200)
    assert "waits until what the group media decided about it has been done" in str(following.plan()["skipped"])
    assert {each["id"]: each["status"] for each in conflicts(following)} == {ignored: "ignored"}
    follow(media)
    assert {each["id"]: each["status"] for each in conflicts(following)} == {ignored: "ignored"}
