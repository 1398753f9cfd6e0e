"""Instructions in their three forms, their signature, and where everything stands."""

import base64
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from handlers.instructions import LINE_FIELDS
from tests.boxes import COLUMNS, MEDIA, Boxes, empty_boxes, guid_of, listing, real_boxes, tsv
from tests.tokens import encode_resume_token
from tests.witness import NOBODY, TSV, Client

SCRIPT = "text/x-shellscript"


@pytest.fixture
def boxes(make_witness: Any) -> Boxes:
    return real_boxes(make_witness)


@pytest.fixture
def small(make_witness: Any) -> Boxes:
    """tank and tank/a: the backup lacks s3 of both, the offsite box s2 and s3 of tank and all of tank/a."""
    boxes = empty_boxes(make_witness)
    boxes.nas.report(listing("tank: 1 2 3", "tank/a: a1 a2 a3"), COLUMNS)
    boxes.backup.report(listing("vault:", "vault/nas: 1 2", "vault/nas/a: a1 a2"), COLUMNS)
    boxes.offsite.report(listing("pool1:", "pool1/replica: 1"), COLUMNS)
    return boxes


def test_what_another_group_with_one_common_member_goes_on_with_is_not_dropped(make_witness: Any) -> None:
    boxes = empty_boxes(make_witness, MEDIA + "    datasets: {include: ['*']}\n")
    boxes.nas.report(listing("tank: 9", "tank/a: 1 3"), COLUMNS)
    token = encode_resume_token("ssd/a@s2", "2", "1", 100)
    boxes.backup.report(
        listing("vault:", "vault/nas: 9", "vault/nas/a: 1").replace(
            "off\t-\t-\ton\tyes\t/vault/nas/a", f"off\t{token}\t-\ton\tyes\t/vault/nas/a"
        ),
        COLUMNS,
    )
    boxes.offsite.report(listing("far: 9"), COLUMNS)
    assert boxes.action("vault/nas/a")["action_type"] == "abort_receive"
    other = boxes.client.register("laptop")
    other.report(listing("ssd: 9", "ssd/a: 1 2"), COLUMNS)
    members = {other.id: {"root": "ssd"}, boxes.backup.id: {"root": "vault/nas"}}
    boxes.client.call("POST", "/sync-groups", {"name": "second", "members": members, "hub_system_id": other.id})
    skipped = {skip["dataset"]: skip["reason"] for skip in boxes.plan()["skipped"]}
    assert skipped["vault/nas/a"] == "vault/nas/a waits for a transfer of the group second"


# --- who gets which actions ----------------------------------------------------------------------


def test_each_agent_gets_what_it_runs_and_others_all(boxes: Boxes) -> None:
    everything = boxes.plan()
    viewer = boxes.client.with_role("viewer")
    assert boxes.plan(viewer) == everything
    executors = {action["executor_system_id"] for action in everything["actions"]}
    assert boxes.nas.id in executors
    for agent in (boxes.nas, boxes.backup, boxes.offsite):
        own = [action for action in everything["actions"] if action["executor_system_id"] == agent.id]
        plan = boxes.plan(agent)
        assert (plan["actions"], plan["action_count"], plan["system_id"]) == (own, len(own), agent.id)
        assert boxes.plan(agent, system_id=agent.id) == plan
        assert boxes.plan(viewer, system_id=agent.id) == plan
        over_all_groups = agent.get("/sync/instructions")
        assert (
            over_all_groups
            == viewer.get(f"/sync/instructions/{agent.id}")
            == agent.get(f"/sync/instructions/{agent.id}")
        )
        assert over_all_groups["actions"] == own


def test_an_agent_gets_nobody_elses(boxes: Boxes) -> None:
    for other in (boxes.backup.id, NOBODY):
        for path in (f"/sync/{boxes.group}/instructions?system_id={other}", f"/sync/instructions?system_id={other}"):
            assert boxes.nas.call("GET", path, status=403).json["detail"] == "this key's system has no part in that"
        boxes.nas.call("GET", f"/sync/instructions/{other}", status=403)
    for path in (f"/sync/{boxes.group}/instructions?system_id={NOBODY}", f"/sync/instructions?system_id={NOBODY}"):
        boxes.client.call("GET", path, status=404)


def test_nothing_is_left_out_silently(boxes: Boxes) -> None:
    skipped = boxes.plan()["skipped"]
    assert skipped
    for skip in skipped:
        assert {"dataset", "target_system_id", "reason"} <= set(skip)
        assert skip["reason"]


def test_a_disabled_group_plans_nothing_and_says_so(make_witness: Any) -> None:
    boxes = real_boxes(make_witness, MEDIA + "    enabled: false\n")
    plan = boxes.plan()
    assert plan["actions"] == []
    assert "disabled" in plan["skipped"][0]["reason"]


def test_a_system_that_never_reported_is_named(make_witness: Any) -> None:
    boxes = empty_boxes(make_witness)
    boxes.nas.report(listing("tank: 1"), COLUMNS)
    plan = boxes.plan()
    assert plan["actions"] == []
    assert {skip["target_system_id"] for skip in plan["skipped"]} >= {boxes.backup.id, boxes.offsite.id}


# --- the three forms -----------------------------------------------------------------------------


def test_every_field_of_an_action_is_always_there(boxes: Boxes) -> None:
    actions = boxes.plan()["actions"]
    assert {action["action_type"] for action in actions} >= {"create", "sync", "resume"}
    assert all(set(action) == {*LINE_FIELDS, "sync_command", "commands"} for action in actions)
    increment = next(action for action in actions if action["target_dataset"] == "vault/nas/media")
    assert increment["pool"] == "tank"
    assert increment["target_pool"] == "vault"
    assert increment["dataset"] == "tank/media"
    assert (increment["incremental_base"], increment["is_incremental"]) == ("daily-2026-11-02", True)
    assert (increment["source_ssh_hostname"], increment["target_ssh_user"], increment["target_ssh_port"]) == (
        "nas",
        "root",
        22,
    )
    sent = boxes.client.get(f"/snapshots/{increment['snapshot_id']}")
    assert (sent["name"], sent["guid"]) == (increment["snapshot_name"], increment["snapshot_guid"])


def as_text(value: Any) -> str:
    """A JSON value as a tab-separated line has it."""
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={each}" for name, each in value.items())
    return str(value)


def test_the_tab_separated_form_says_the_same_and_has_no_empty_field(boxes: Boxes) -> None:
    answer = tsv(boxes.client, f"/sync/{boxes.group}/instructions")
    assert answer.content_type == TSV
    header, *lines = answer.text.splitlines()
    assert header.split("\t") == list(LINE_FIELDS)
    actions = boxes.plan()["actions"]
    expected = [[as_text(action[name]) for name in LINE_FIELDS] for action in actions]
    assert [line.split("\t") for line in lines] == expected
    assert all(field and field == " ".join(field.split()) for line in lines for field in line.split("\t"))


def test_the_order_of_the_tab_separated_fields_never_changes() -> None:
    assert " ".join(LINE_FIELDS).startswith(
        "action_id action_type sync_group_id executor_system_id source_system_id target_system_id pool dataset "
        "target_pool target_dataset snapshot_name snapshot_id snapshot_guid incremental_base incremental_base_guid "
        "base_is_bookmark origin is_incremental snapshot_count estimated_size source_ssh_hostname source_ssh_user "
        "source_ssh_port target_ssh_hostname target_ssh_user target_ssh_port priority reason destructive depends_on "
        "lease kind raw intermediates embedded resume_token new_name expected_guids expected_written properties "
        "rate_limit"
    )


def test_the_script_is_for_one_system_and_parses(boxes: Boxes, tmp_path: Path) -> None:
    path = f"/sync/{boxes.group}/instructions"
    wanted = {"Accept": SCRIPT}
    for several in (path, "/sync/instructions"):
        boxes.client.call("GET", several, headers=wanted, status=400)
    script = boxes.nas.call("GET", path, headers=wanted)
    assert script.content_type == SCRIPT
    again = boxes.client.call("GET", f"{path}?system_id={boxes.nas.id}", headers=wanted)
    assert again.body == script.body
    assert boxes.nas.call("GET", "/sync/instructions", headers=wanted).body == script.body
    file = tmp_path / "plan.sh"
    file.write_bytes(script.body)
    subprocess.run(["dash", "-n", file], check=True)
    for action in boxes.plan(boxes.nas)["actions"]:
        assert action["target_dataset"] in script.text
        assert action["snapshot_guid"] in script.text


def test_each_form_has_its_own_etag_and_says_that_it_varies(boxes: Boxes) -> None:
    path = f"/sync/{boxes.group}/instructions?system_id={boxes.nas.id}"
    forms = [boxes.client.call("GET", path, headers={"Accept": kind}) for kind in ("application/json", TSV, SCRIPT)]
    assert len({form.headers["ETag"] for form in forms}) == 3
    assert {form.headers["Vary"] for form in forms} == {"Accept"}
    anything = boxes.client.call("GET", path, headers={"Accept": "*/*"})
    assert anything.content_type == "application/json"


# --- equal plans, equal bytes --------------------------------------------------------------------


def test_equal_plans_are_equal_bytes(small: Boxes) -> None:
    paths = [f"/sync/{small.group}/instructions", "/sync/instructions", f"/sync/instructions/{small.nas.id}"]
    first = [small.client.call("GET", path) for path in paths]
    time.sleep(0.01)
    small.backup.report(listing("vault:", "vault/nas: 1 2", "vault/nas/a: a1 a2"), COLUMNS)
    small.nas.call("POST", f"/systems/{small.nas.id}/heartbeat")
    again = [small.client.call("GET", path) for path in paths]
    assert [each.body for each in again] == [each.body for each in first]
    assert [each.headers["ETag"] for each in again] == [each.headers["ETag"] for each in first]


def test_another_plan_has_another_time_and_digest(small: Boxes) -> None:
    before = {agent.id: small.plan(agent) for agent in (small.nas, small.backup)}
    small.backup.report(listing("vault:", "vault/nas: 1 2 3", "vault/nas/a: a1 a2 a3"), COLUMNS)
    after = {agent.id: small.plan(agent) for agent in (small.nas, small.backup)}
    nas = small.nas.id
    assert after[nas]["timestamp"] > before[nas]["timestamp"]
    assert after[nas]["plan_digest"] != before[nas]["plan_digest"]
    assert after[small.backup.id] == before[small.backup.id]  # it still has nothing to do


def test_a_report_in_another_order_gives_the_same_plan(small: Boxes) -> None:
    before = small.plan()
    lines = listing("tank: 1 2 3", "tank/a: a1 a2 a3").splitlines(keepends=True)
    small.nas.report("".join(reversed(lines)), COLUMNS)
    assert small.plan() == before


# --- the signature -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/json", TSV, SCRIPT])
def test_the_signature_verifies(boxes: Boxes, kind: str, tmp_path: Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    answer = boxes.nas.call("GET", "/sync/instructions", headers={"Accept": kind})
    expires = answer.headers["X-Plan-Expires"]
    assert expires.isdecimal()
    assert time.time() < int(expires) < time.time() + 86400
    signed, signature = answer.body + expires.encode(), base64.b64decode(answer.headers["X-Plan-Signature"])
    pem = boxes.client.with_key(None).call("GET", "/public-key").body
    key = load_pem_public_key(pem)
    assert isinstance(key, Ed25519PublicKey)
    key.verify(signature, signed)
    for forged in (signed + b"0", signed.replace(b"tank", b"sank"), answer.body + str(int(expires) + 1).encode()):
        with pytest.raises(InvalidSignature):
            key.verify(signature, forged)
    for name, content in (("key.pem", pem), ("signed", signed), ("signature", signature)):
        (tmp_path / name).write_bytes(content)
    argv = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem", "-in", "signed", "-sigfile"]
    verified = subprocess.run([*argv, "signature"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr


def test_a_304_renews_the_signature(boxes: Boxes) -> None:
    first = tsv(boxes.nas, "/sync/instructions")
    known = {"Accept": TSV, "If-None-Match": first.headers["ETag"]}
    again = boxes.nas.call("GET", "/sync/instructions", headers=known)
    assert (again.status_code, again.body) == (304, b"")
    assert {"X-Plan-Expires", "X-Plan-Signature"} <= set(again.headers)


def test_the_key_stays_the_same_over_restarts_and_follows_the_secret(make_witness: Any) -> None:
    from tests.witness import client_of

    def pem(**settings: Any) -> bytes:
        body: bytes = client_of(make_witness(**settings)).call("GET", "/public-key").body
        return body

    assert pem() == pem()
    assert pem(secret_key="one-secret-of-many") != pem()


# --- where everything stands ---------------------------------------------------------------------


def cells(boxes: Boxes) -> dict[tuple[str, str], Any]:
    """The status matrix by dataset and hostname."""
    status = boxes.client.get(f"/sync/{boxes.group}/status")
    hosts = {each["system_id"]: each["hostname"] for each in status["systems"]}
    return {(row["dataset"], hosts[each]): cell for row in status["datasets"] for each, cell in row["systems"].items()}


def test_the_status_is_a_matrix_of_datasets_and_systems(small: Boxes) -> None:
    matrix = cells(small)
    assert {place: cell["status"] for place, cell in matrix.items()} == {
        ("", "nas"): "in_sync",
        ("", "backup"): "out_of_sync",
        ("", "offsite"): "out_of_sync",
        ("a", "nas"): "in_sync",
        ("a", "backup"): "out_of_sync",
        ("a", "offsite"): "out_of_sync",
    }
    late = matrix["", "backup"]
    assert late["newest_common"]["name"] == "s2"
    assert late["newest_common_at"] == "2023-11-15T00:13:20Z"
    assert late["lag_snapshots"] == 1
    assert late["lag_s"] == pytest.approx(time.time() - (1700000000 + 3 * 3600), abs=60)
    assert late["late"] is True
    assert late["why"]
    assert matrix["", "nas"]["is_source"] is True
    assert matrix["a", "offsite"]["lag_snapshots"] == 3


def test_a_dataset_in_sync_has_no_lag(small: Boxes) -> None:
    small.backup.report(listing("vault:", "vault/nas: 1 2 3", "vault/nas/a: a1 a2 a3"), COLUMNS)
    cell = cells(small)["a", "backup"]
    assert (cell["status"], cell["lag_s"], cell["lag_snapshots"], cell["why"]) == ("in_sync", 0, 0, "")


def test_the_matrix_shows_each_report_at_once(small: Boxes) -> None:
    before = cells(small)
    small.backup.report(listing("vault:", "vault/nas: 1 2 3", "vault/nas/a: a1 a2 a3"), COLUMNS)
    after = cells(small)
    assert (before["a", "backup"]["status"], after["a", "backup"]["status"]) == ("out_of_sync", "in_sync")
    assert after["a", "offsite"]["status"] == before["a", "offsite"]["status"]


def test_the_summary_counts(small: Boxes) -> None:
    summary = small.client.get(f"/sync/{small.group}/status")["summary"]
    assert (summary["in_sync"], summary["out_of_sync"]) == (2, 4)
    assert summary["actions"] == small.plan()["action_count"]


def without_lags(datasets: Any) -> Any:
    """The rows of a matrix without what grows from second to second."""
    return [
        {**row, "systems": {name: {**cell, "lag_s": None} for name, cell in row["systems"].items()}} for row in datasets
    ]


def test_a_check_records_states_and_answers_the_status(small: Boxes) -> None:
    never = small.client.get("/sync/states")
    assert {state["last_check"] for state in never} == {None}
    before = small.client.get(f"/sync/{small.group}/status")
    assert before["checked_at"] is None
    shown = small.nas.call("POST", f"/sync/{small.group}/check").json
    assert without_lags(shown["datasets"]) == without_lags(before["datasets"])
    states = small.client.get("/sync/states")
    assert {state["last_check"] for state in states} == {shown["checked_at"]}
    again = small.client.get(f"/sync/{small.group}/status")
    assert again["checked_at"] == shown["checked_at"]
    assert without_lags(again["datasets"]) == without_lags(shown["datasets"])
    found = [event["what"] for event in small.client.get("/events?what=conflict.detected")]
    assert len(found) == small.client.get(f"/conflicts/{small.group}")["count"]
    small.nas.call("POST", f"/sync/{small.group}/check")
    assert len(small.client.get("/events?what=conflict.detected")) == len(found)


def test_states_one_per_group_dataset_and_system(small: Boxes) -> None:
    states = small.client.get("/sync/states")
    assert len(states) == len({state["id"] for state in states}) == 6
    backup = next(s for s in states if s["dataset"] == "vault/nas/a")
    newest = {"name": "s2", "guid": str(guid_of("a2")), "identity": "guid", "timestamp": "2023-11-15T00:13:20Z"}
    assert backup == {
        "id": backup["id"],
        "sync_group_id": small.group,
        "system_id": small.backup.id,
        "dataset": "vault/nas/a",
        "path": "a",
        "status": "out_of_sync",
        "last_sync": None,
        "last_check": None,
        "newest_common_snapshot": newest,
        "snapshot_id": backup["snapshot_id"],
        "missing_count": 1,
        "error_message": None,
    }
    assert small.client.get(f"/sync/states/{backup['id']}") == backup
    assert small.client.get(f"/snapshots/{backup['snapshot_id']}")["name"] == "s2"


def test_states_can_be_narrowed(small: Boxes) -> None:
    def found(query: str, by: Client | None = None) -> list[str]:
        return [state["dataset"] for state in (by or small.client).get(f"/sync/states?{query}")]

    assert sorted(found(f"system_id={small.backup.id}")) == ["vault/nas", "vault/nas/a"]
    assert sorted(found("status=in_sync")) == ["tank", "tank/a"]
    assert found("dataset=vault/nas/a") == ["vault/nas/a"]
    assert sorted(found("dataset=a")) == ["pool1/replica/a", "tank/a", "vault/nas/a"]
    assert len(found(f"sync_group_id={small.group}")) == 6
    assert len(found(f"sync_group_id={small.group}", small.nas)) == 6
    assert len(found("limit=2")) == 2
    small.client.call("GET", f"/sync/states?sync_group_id={NOBODY}", status=404)
    small.nas.call("GET", f"/sync/states?sync_group_id={NOBODY}", status=403)
    assert small.client.register("lonely").get("/sync/states") == []


def test_states_per_snapshot(small: Boxes) -> None:
    states = small.client.get(f"/sync/states?per=snapshot&system_id={small.backup.id}")
    assert {(s["path"], s["snapshot_name"]): s["status"] for s in states} == {
        ("", "s1"): "in_sync",
        ("", "s2"): "in_sync",
        ("", "s3"): "out_of_sync",
        ("a", "s1"): "in_sync",
        ("a", "s2"): "in_sync",
        ("a", "s3"): "out_of_sync",
    }
    assert len({state["id"] for state in states}) == 6
    one = next(state for state in states if state["snapshot_name"] == "s1")
    assert small.client.get(f"/sync/states?per=snapshot&snapshot_id={one['snapshot_id']}") == [one]


def test_a_snapshot_that_nobody_else_has_is_not_in_sync(small: Boxes) -> None:
    small.backup.report(listing("vault:", "vault/nas: 1 2 3", "vault/nas/a: a1 a2 a4X"), COLUMNS)
    states = small.client.get(f"/sync/states?per=snapshot&system_id={small.backup.id}&dataset=a")
    assert {s["snapshot_name"]: s["status"] for s in states} == {
        "s1": "in_sync",
        "s2": "in_sync",
        "s3": "conflict",
        "s4": "conflict",
    }


# --- what may go ---------------------------------------------------------------------------------


def test_prunable_says_what_may_go_and_for_whom_the_rest_is_kept(small: Boxes) -> None:
    for agent, text in (
        (small.nas, listing("tank: 1 2 3")),
        (small.backup, listing("vault:", "vault/nas: 1 2 3")),
        (small.offsite, listing("pool1:", "pool1/replica: 1 2")),
    ):
        agent.report(text, COLUMNS)
    answer = small.nas.get(f"/sync/{small.group}/prunable")
    assert answer["sync_group_id"] == small.group
    backup = next(each for each in answer["systems"] if each["system_id"] == small.backup.id)
    assert [entry["name"] for entry in backup["prunable"]] == ["s1"]
    kept = {entry["name"]: entry for entry in backup["keep"]}
    assert set(kept) == {"s2", "s3"}
    assert small.offsite.id in kept["s2"]["needed_by"]
    nas = next(each for each in answer["systems"] if each["system_id"] == small.nas.id)
    assert nas["prunable"] == []  # the hub keeps what lets others go
    assert all(
        entry["reason"] and entry["guid"] for each in answer["systems"] for entry in each["prunable"] + each["keep"]
    )


def test_prunable_keeps_what_another_group_needs(small: Boxes) -> None:
    small.nas.report(listing("tank: 1 2 3"), COLUMNS)
    small.backup.report(listing("vault:", "vault/nas: 1 2 3"), COLUMNS)
    other = small.client.register("other")
    members = {small.backup.id: {"root": "vault/nas"}, other.id: {"root": "pool"}}
    small.client.call("POST", "/sync-groups", {"name": "second", "members": members, "hub_system_id": other.id})

    def kept() -> tuple[list[str], dict[str, dict[str, Any]]]:
        answer = small.nas.get(f"/sync/{small.group}/prunable")
        (backup,) = [each for each in answer["systems"] if each["system_id"] == small.backup.id]
        return [entry["name"] for entry in backup["prunable"]], {entry["name"]: entry for entry in backup["keep"]}

    other.report(listing("pool: 1"), COLUMNS)
    free, needed = kept()
    assert free == []
    assert "it is the newest snapshot shared with other, in the group second" in needed["s1"]["reason"]
    assert other.id in needed["s1"]["needed_by"]
    assert "no other system keeps a copy, in the group second" in needed["s2"]["reason"]
    other.report(listing("pool: 1 2 3"), COLUMNS)
    free, needed = kept()
    assert free == ["s2"]
