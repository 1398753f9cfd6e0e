"""Actions: taking a lease, saying how far it is, and how it ended."""

import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from handlers import actions
from store import LEASES, heartbeat_of
from tests.boxes import COLUMNS, MEDIA, Boxes, empty_boxes, guid_of, listing
from tests.witness import NOBODY, Agent, Client


@pytest.fixture
def boxes(make_witness: Any) -> Boxes:
    """The backup lacks s3 of tank and all of tank/a and tank/b; the offsite box is not used here."""
    return told(empty_boxes(make_witness))


def told(boxes: Boxes) -> Boxes:
    boxes.nas.report(listing("tank: 1 2 3", "tank/a: a1 a2", "tank/b: b1"), COLUMNS)
    boxes.backup.report(listing("vault:", "vault/nas: 1 2"), COLUMNS)
    return boxes


def start(agent: Client, action: Any, **options: Any) -> Any:
    return agent.call("POST", f"/sync/actions/{action['action_id']}/start", **options)


def progress(agent: Client, action: Any, token: str | None, body: Any = None, **options: Any) -> Any:
    headers = {"X-Lease-Token": token} if token else {}
    body = {"bytes_done": 1} if body is None else body
    return agent.call("POST", f"/sync/actions/{action['action_id']}/progress", body, headers=headers, **options)


def finish(
    agent: Client, action: Any, token: str, exit_status: int | str = 0, guid: Any = None, log: str = "", **options: Any
) -> Any:
    headers = {"X-Lease-Token": token, "X-Received-Guid": str(guid or action["snapshot_guid"])}
    path = f"/sync/actions/{action['action_id']}/finish/{exit_status}"
    return agent.call("POST", path, headers=headers, params=log, content_type="text/plain", **options)


def run_out(boxes: Boxes) -> None:
    """Let all leases end now, and everything in backoff be due."""
    with boxes.client.witness.store.transaction(LEASES) as tx:
        for lease in tx[LEASES].leases.all():
            tx[LEASES].leases.put(msgspec.structs.replace(lease, expires_at=lease.started_at))
        for failure in tx[LEASES].failures.all():
            tx[LEASES].failures.put(msgspec.structs.replace(failure, retry_at=failure.failed_at))


def planned(boxes: Boxes) -> set[str]:
    return {action["action_id"] for action in boxes.plan()["actions"]}


# --- start ---------------------------------------------------------------------------------------


def test_start_takes_the_lease(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    answer = start(boxes.nas, action)
    assert answer.status_code == 200
    assert answer.headers["X-Lease-Token"] == answer.json["lease_token"]
    assert answer.headers["X-Lease-Seconds"] == "600"
    lease = {"system_id": boxes.nas.id, "expires_at": answer.json["lease_expires_at"]}
    more = {"lease_token": answer.json["lease_token"], "lease_expires_at": answer.json["lease_expires_at"]}
    assert answer.json == {**action, "lease": lease, **more}
    assert boxes.action("vault/nas")["lease"] == lease
    assert boxes.client.get("/events")[0]["what"] == "action.started"
    matrix = boxes.client.get(f"/sync/{boxes.group}/status")["datasets"]
    assert matrix[0]["systems"][boxes.backup.id]["status"] == "syncing"


def test_a_script_leaves_out_what_an_agent_is_at(boxes: Boxes) -> None:
    def blocks() -> int:
        path = f"/sync/instructions?system_id={boxes.nas.id}"
        return str(boxes.client.call("GET", path, headers={"Accept": "text/x-shellscript"}).text).count("zfs send")

    before = blocks()
    action = boxes.plan(boxes.nas)["actions"][0]
    start(boxes.nas, action)
    assert blocks() == before - 1


def test_the_holder_asking_again_gets_the_same_token_extended(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    first, again = start(boxes.nas, action).json, start(boxes.nas, action).json
    assert again["lease_token"] == first["lease_token"]
    assert again["lease_expires_at"] > first["lease_expires_at"]
    run_out(boxes)
    assert start(boxes.nas, action).json["lease_token"] != first["lease_token"]


def test_another_system_than_the_executor_is_403(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    for _ in ("free", "taken"):
        for agent in (boxes.backup, boxes.offsite):
            start(agent, action, status=403)
        start(boxes.nas, action)


def test_who_is_in_no_group_learns_nothing(boxes: Boxes) -> None:
    action, lonely = boxes.action("vault/nas"), boxes.client.register("lonely")
    unknown = start(lonely, {"action_id": NOBODY}, status=410).body
    assert start(lonely, action, status=410).body == unknown
    start(boxes.nas, action)
    assert start(lonely, action, status=410).body == unknown


def test_what_the_plan_no_longer_contains_is_gone(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    boxes.backup.report(listing("vault:", "vault/nas: 1 2 3"), COLUMNS)
    assert "no longer" in start(boxes.nas, action, status=410).json["detail"]
    start(boxes.nas, {"action_id": NOBODY}, status=410)


def test_a_step_waits_for_those_it_depends_on(boxes: Boxes) -> None:
    first = boxes.action("vault/nas/a", "create")
    second = boxes.action("vault/nas/a", "sync")
    assert second["depends_on"] == [first["action_id"]]
    refused = start(boxes.nas, second, status=409)
    assert int(refused.headers["Retry-After"]) > 0
    token = start(boxes.nas, first).json["lease_token"]
    assert start(boxes.nas, second, expect_errors=True).status_code in (409, 410)
    finish(boxes.nas, first, token)
    assert start(boxes.nas, boxes.action("vault/nas/a", "sync")).status_code == 200


def test_a_system_at_its_max_transfers_is_409_until_one_ends(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness, MEDIA + "    max_transfers: 2\n"))
    first, second, third = (boxes.action(name) for name in ("vault/nas", "vault/nas/a", "vault/nas/b"))
    tokens = [start(boxes.nas, action).json["lease_token"] for action in (first, second)]
    refused = start(boxes.nas, third, status=409)
    assert "max_transfers (2)" in refused.json["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert third["action_id"] in planned(boxes)  # what is listed is not limited
    assert start(boxes.nas, second).json["lease_token"] == tokens[1]
    finish(boxes.nas, first, tokens[0])
    assert start(boxes.nas, third).status_code == 200


def test_leases_of_all_groups_count(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness, MEDIA + "    max_transfers: 1\n"))
    members = {boxes.nas.id: {"root": "tank/b"}, boxes.offsite.id: {"root": "pool1/b"}}
    body = {"name": "second", "members": members, "hub_system_id": boxes.nas.id, "max_transfers": 1}
    boxes.offsite.report(listing("pool1:"), COLUMNS)
    second = boxes.client.call("POST", "/sync-groups", body).json["id"]
    other = boxes.client.get(f"/sync/{second}/instructions")["actions"][0]
    start(boxes.nas, boxes.action("vault/nas"))
    assert "nas is at its max_transfers (1)" in start(boxes.nas, other, status=409).json["detail"]


def test_two_groups_never_change_one_dataset_at_a_time(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness))
    members = {boxes.nas.id: {"root": "tank"}, boxes.backup.id: {"root": "vault/nas"}}
    body = {"name": "second", "members": members, "hub_system_id": boxes.nas.id}
    second = boxes.client.call("POST", "/sync-groups", body).json["id"]
    plan = boxes.client.get(f"/sync/{second}/instructions")["actions"]
    other = next(action for action in plan if action["target_dataset"] == "vault/nas")
    start(boxes.nas, boxes.action("vault/nas"))
    assert start(boxes.nas, other, status="4*").status_code in (409, 410)


def test_an_admin_may_start_and_finish_for_a_system(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.client, action).json["lease_token"]
    assert finish(boxes.client, action, token).json["status"] == "done"


def test_a_finish_that_comes_while_a_start_is_on_its_way_counts(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease ran out, the plan has the action again, and then its end is told after all."""
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    run_out(boxes)
    after_planning = actions._require_dependencies

    def finish_meanwhile(*args: Any) -> None:
        other = threading.Thread(target=finish, args=(boxes.nas, action, token))
        other.start()
        other.join()
        after_planning(*args)

    monkeypatch.setattr(actions, "_require_dependencies", finish_meanwhile)
    start(boxes.nas, action, status=410)
    assert boxes.client.witness.store.read(LEASES).leases.ids() == []


def test_leases_that_ran_out_long_ago_are_forgotten(boxes: Boxes) -> None:
    old = boxes.action("vault/nas")
    start(boxes.nas, old)
    with boxes.client.witness.store.transaction(LEASES) as tx:
        lease = tx[LEASES].leases.get(old["action_id"])
        tx[LEASES].leases.put(msgspec.structs.replace(lease, expires_at=lease.expires_at - timedelta(days=2)))
    new = boxes.action("vault/nas/b")
    start(boxes.nas, new)
    assert boxes.client.witness.store.read(LEASES).leases.ids() == [new["action_id"]]


# --- progress ------------------------------------------------------------------------------------


def test_an_agent_that_is_busy_with_a_transfer_is_seen(boxes: Boxes) -> None:
    """Otherwise a transfer longer than heartbeat_timeout_s would make its own source rank last."""
    action = boxes.action("vault/nas")
    shard = heartbeat_of(boxes.nas.id)
    store = boxes.client.witness.store

    def silence() -> None:
        with store.transaction(shard) as tx:
            beat = tx[shard].heartbeats.get(boxes.nas.id)
            tx[shard].heartbeats.put(msgspec.structs.replace(beat, last_seen_at=beat.last_seen_at - timedelta(days=1)))
        assert boxes.client.get(f"/systems/{boxes.nas.id}")["connectivity_status"] == "offline"

    silence()
    token = start(boxes.nas, action).json["lease_token"]
    assert boxes.client.get(f"/systems/{boxes.nas.id}")["connectivity_status"] == "online"
    silence()
    progress(boxes.nas, action, token)
    assert boxes.client.get(f"/systems/{boxes.nas.id}")["connectivity_status"] == "online"
    silence()
    finish(boxes.nas, action, token, exit_status=1)
    assert boxes.client.get(f"/systems/{boxes.nas.id}")["connectivity_status"] == "online"


def test_progress_renews_the_lease(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness, lease_s=100))
    action = boxes.action("vault/nas")
    started = start(boxes.nas, action).json
    answer = progress(boxes.nas, action, started["lease_token"], {"bytes_done": 5, "bytes_total": 10})
    assert answer.json["lease_expires_at"] > started["lease_expires_at"]
    assert answer.headers["X-Lease-Seconds"] == "100"
    progress(boxes.nas, action, started["lease_token"], {"bytes_done": 7})
    lease = boxes.client.witness.store.read(LEASES).leases.get(action["action_id"])
    assert (lease.bytes_done, lease.bytes_total) == (7, 10)


@pytest.mark.parametrize(
    "body", [{"bytes_done": -1}, {"bytes_done": 2**63}, {"bytes_done": "5"}, {}, {"bytes_done": 1, "bytes_total": -1}]
)
def test_a_progress_that_cannot_be_is_422(boxes: Boxes, body: Any) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    progress(boxes.nas, action, token, body, status=422)


def test_only_the_holder_says_how_it_goes(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    progress(boxes.nas, action, "none", status=410)
    token = start(boxes.nas, action).json["lease_token"]
    for wrong in (None, "none", f"{token}x", "ü"):
        progress(boxes.nas, action, wrong, status=403)
    progress(boxes.backup, action, token, status=403)
    finish(boxes.nas, action, "none", status=403)
    finish(boxes.backup, action, token, status=403)
    progress(boxes.nas, action, token)


def test_a_lease_that_ran_out_counts_while_nobody_took_another(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    run_out(boxes)
    progress(boxes.nas, action, token)
    assert boxes.action("vault/nas")["lease"] is not None
    run_out(boxes)
    again = start(boxes.nas, action).json["lease_token"]
    progress(boxes.nas, action, token, status=403)
    finish(boxes.nas, action, token, status=403)
    assert finish(boxes.nas, action, again).json["status"] == "done"


def test_a_lease_that_ran_out_is_not_renewed_beside_another_on_its_dataset(boxes: Boxes) -> None:
    old = boxes.action("vault/nas")
    token = start(boxes.nas, old).json["lease_token"]
    run_out(boxes)
    boxes.nas.report(listing("tank: 1 2 3 4", "tank/a: a1 a2", "tank/b: b1"), COLUMNS)
    new = boxes.action("vault/nas")
    assert new["action_id"] != old["action_id"]
    start(boxes.nas, new)
    progress(boxes.nas, old, token, status=410)
    progress(boxes.nas, new, start(boxes.nas, new).json["lease_token"])


def test_a_lease_that_ran_out_is_renewed_only_where_it_could_be_given(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness, MEDIA + "    max_transfers: 1\n"))
    first, second = (boxes.action(name) for name in ("vault/nas", "vault/nas/a"))
    token = start(boxes.nas, first).json["lease_token"]
    run_out(boxes)
    progress(boxes.nas, first, token)
    start(boxes.nas, second, status=409)
    run_out(boxes)
    other = start(boxes.nas, second).json["lease_token"]
    assert "max_transfers is 1" in progress(boxes.nas, first, token, status=410).json["detail"]
    progress(boxes.nas, second, other)
    finish(boxes.nas, second, other)
    progress(boxes.nas, first, token)


def test_a_lease_that_ran_out_is_not_renewed_below_what_is_being_renamed(boxes: Boxes) -> None:
    below = boxes.action("vault/nas/a")
    token = start(boxes.nas, below).json["lease_token"]
    run_out(boxes)
    with boxes.client.witness.store.transaction(LEASES) as tx:
        lease = tx[LEASES].leases.get(below["action_id"])
        action = {**lease.action, "action_type": "rename", "new_name": "vault/old"}
        later = lease.expires_at + timedelta(days=1)
        rename = msgspec.structs.replace(
            lease, id="rename", action=action, target_dataset="vault/nas", source_system_id=None, expires_at=later
        )
        tx[LEASES].leases.put(rename)
    assert "another action" in progress(boxes.nas, below, token, status=410).json["detail"]


# --- finish --------------------------------------------------------------------------------------


def test_a_finished_transfer_is_credited_until_the_next_inventory(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    done = finish(boxes.nas, action, token).json
    assert (done["action_id"], done["status"]) == (action["action_id"], "done")
    assert action["action_id"] not in planned(boxes)
    state = next(s for s in boxes.client.get("/sync/states") if s["dataset"] == "vault/nas")
    assert (state["status"], state["last_sync"]) == ("in_sync", done["finished_at"])
    start(boxes.nas, action, status=410)
    boxes.backup.call("POST", f"/systems/{boxes.backup.id}/heartbeat")
    assert action["action_id"] not in planned(boxes)
    boxes.nas.report(listing("tank: 1 2 3", "tank/a: a1 a2", "tank/b: b1"), COLUMNS)
    assert action["action_id"] not in planned(boxes)
    boxes.backup.report(listing("vault:", "vault/nas: 1 2"), COLUMNS)  # the very same: it did not arrive after all
    assert action["action_id"] in planned(boxes)
    assert boxes.client.witness.store.read(LEASES).credits.ids() == []


def test_what_arrived_stays_done(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    finish(boxes.nas, action, start(boxes.nas, action).json["lease_token"])
    boxes.backup.report(listing("vault:", "vault/nas: 1 2 3"), COLUMNS)
    assert action["action_id"] not in planned(boxes)
    start(boxes.nas, action, status=410)


@pytest.mark.parametrize("exit_status", [0, 1])
def test_a_target_reports_in_full_after_a_transfer_into_it_ended(boxes: Boxes, exit_status: int) -> None:
    """What a failed receive left behind, a resume token or what it wrote, does not show in the digest."""
    beat = f"/systems/{boxes.backup.id}/heartbeat"
    digest = boxes.backup.report(listing("vault:", "vault/nas: 1 2"), COLUMNS)["digest"]
    assert boxes.backup.call("POST", beat, {"inventory_digest": digest}).json["inventory"] == "current"
    action = boxes.action("vault/nas")
    finish(boxes.nas, action, start(boxes.nas, action).json["lease_token"], exit_status)
    assert boxes.backup.call("POST", beat, {"inventory_digest": digest}).json["inventory"] == "stale"
    boxes.backup.report(listing("vault:", "vault/nas: 1 2"), COLUMNS)
    assert boxes.backup.call("POST", beat, {"inventory_digest": digest}).json["inventory"] == "current"


def test_a_repeated_finish_changes_nothing(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    first = finish(boxes.nas, action, token)
    before = boxes.client.witness.store.read(LEASES).generation
    assert finish(boxes.nas, action, token).body == first.body
    assert finish(boxes.nas, action, token, 1).body == first.body  # the first answer counts
    assert boxes.client.witness.store.read(LEASES).generation == before
    assert len(boxes.client.get("/events?what=action.finished")) == 1
    finish(boxes.nas, action, "other", status=410)


def test_a_transfer_that_ended_with_another_guid_is_a_409_and_a_failure(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    refused = finish(boxes.nas, action, token, guid=guid_of("2"), status=409)
    assert refused.json["detail"].startswith(f"the target's newest guid is {guid_of('2')}, and {guid_of('3')} was")
    assert finish(boxes.nas, action, token, guid=guid_of("2"), status=409).body == refused.body
    assert action["action_id"] not in planned(boxes)  # it backs off
    failed = boxes.client.get("/events?what=action.failed")
    assert len(failed) == 1
    assert str(guid_of("3")) in failed[0]["detail"]["message"]


def test_a_transfer_that_ended_well_says_which_guid_arrived(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    path = f"/sync/actions/{action['action_id']}/finish/0"
    refused = boxes.nas.call("POST", path, headers={"X-Lease-Token": token}, status=422)
    assert refused.json["errors"][0]["loc"] == "X-Received-Guid"
    assert finish(boxes.nas, action, token).status_code == 200  # the lease was kept


def test_a_failure_is_recorded_and_backs_off_twice_as_long_each_time(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    for count in (1, 2, 3):
        token = start(boxes.nas, action).json["lease_token"]
        failed = finish(boxes.nas, action, token, 1, log="cannot receive: pool is full\n")
        assert (
            failed.json.items()
            >= {
                "status": "failed",
                "failures": count,
                "message": "cannot receive: pool is full",
            }.items()
        )
        assert finish(boxes.nas, action, token, 1).body == failed.body
        failure = boxes.client.witness.store.read(LEASES).failures.get(action["action_id"])
        assert failure.retry_at - failure.failed_at == timedelta(seconds=60 * 2 ** (count - 1))
        assert action["action_id"] not in planned(boxes)
        skips = [skip["reason"] for skip in boxes.plan()["skipped"] if skip["dataset"] == "vault/nas"]
        assert any("pool is full" in reason for reason in skips)
        start(boxes.nas, action, status=410)
        run_out(boxes)
    token = start(boxes.nas, action).json["lease_token"]
    finish(boxes.nas, action, token)
    assert boxes.client.witness.store.read(LEASES).failures.ids() == []


def test_what_was_transferred_is_added_up(boxes: Boxes) -> None:
    assert boxes.client.witness.store.read(LEASES).totals.all() == []
    into, other = boxes.action("vault/nas"), boxes.action("vault/nas/a")
    token = start(boxes.nas, into).json["lease_token"]
    progress(boxes.nas, into, token, {"bytes_done": 5, "bytes_total": 900})
    finish(boxes.nas, into, token, 1)
    for _ in range(2):  # the second is a repetition
        finish(boxes.nas, into, token, 1)
    token = start(boxes.nas, other).json["lease_token"]
    progress(boxes.nas, other, token, {"bytes_done": 60, "bytes_total": 100})
    finish(boxes.nas, other, token)
    (total,) = boxes.client.witness.store.read(LEASES).totals.all()
    assert (total.group_id, total.target_system_id) == (boxes.group, boxes.backup.id)
    assert (total.bytes_done, total.done, total.failed) == (105, 1, 1)


def test_the_logs_tail_is_kept_and_can_be_shown(boxes: Boxes) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    log = "x" * 10_000 + "\x1b[31m\xff\x00 the end\n"
    message = finish(boxes.nas, action, token, 255, log=log).json["message"]
    assert len(message) <= 4000
    assert message.endswith(" the end")
    assert message.isprintable()


@pytest.mark.parametrize("status", ["256", "-1", "x", "1.5", "%D9%A3", "0x1"])
def test_an_exit_status_is_0_to_255(boxes: Boxes, status: str) -> None:
    action = boxes.action("vault/nas")
    token = start(boxes.nas, action).json["lease_token"]
    assert finish(boxes.nas, action, token, status, expect_errors=True).status_code == 422


def test_a_step_that_transfers_nothing_needs_no_guid(make_witness: Any) -> None:
    boxes = empty_boxes(make_witness)
    boxes.nas.report(listing("tank: 1", "tank/a:", "tank/a/b: b1"), COLUMNS)
    boxes.backup.report(listing("vault:", "vault/nas: 1"), COLUMNS)
    action = boxes.action("vault/nas/a", "create_parent")
    token = start(boxes.nas, action).json["lease_token"]
    path = f"/sync/actions/{action['action_id']}/finish/0"
    done = boxes.nas.call("POST", path, headers={"X-Lease-Token": token}).json
    assert done["status"] == "done"
    assert action["action_id"] not in planned(boxes)
    assert boxes.action("vault/nas/a/b", "create")["depends_on"] == []


def test_a_group_that_is_deleted_meanwhile_does_not_lose_the_end(boxes: Boxes) -> None:
    members = {boxes.nas.id: {"root": "tank/b"}, boxes.backup.id: {"root": "vault/b"}}
    body = {"name": "second", "members": members, "hub_system_id": boxes.nas.id}
    second = boxes.client.call("POST", "/sync-groups", body).json["id"]
    action = boxes.client.get(f"/sync/{second}/instructions")["actions"][0]
    token = start(boxes.nas, action).json["lease_token"]
    boxes.client.call("DELETE", f"/sync-groups/{second}", status=204)
    assert finish(boxes.nas, action, token).json["status"] == "done"


def test_a_pulling_group_is_carried_out_by_the_target(make_witness: Any) -> None:
    boxes = told(empty_boxes(make_witness, MEDIA + "    transfer: pull\n"))
    action = boxes.action("vault/nas")
    assert action["executor_system_id"] == boxes.backup.id
    start(boxes.nas, action, status=403)
    assert isinstance(boxes.backup, Agent)
    assert finish(boxes.backup, action, start(boxes.backup, action).json["lease_token"]).json["status"] == "done"
