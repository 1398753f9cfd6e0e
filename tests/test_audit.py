"""Every write, done or refused, leaves an event: who, from where, what, on what; for every row that writes."""

import re
from typing import Any

import pytest

from handlers.request import Endpoint
from handlers.routes import ENDPOINTS
from tests.test_authorisation import World
from tests.test_inventories import listing
from tests.witness import ADMIN, TSV, Client

WRITES = [row for row in ENDPOINTS if row.method != "GET"]
SOMEWHERE = {"REMOTE_ADDR": "192.0.2.77"}
# What an executor tells while it works is its work, and a look at what is there changes nothing of it.
NO_EVENT = {"report_heartbeat", "check_sync_group", "report_progress"}
EVENTS = {
    "register_system": "system.registered",
    "change_system": "system.changed",
    "forget_system": "system.deleted",
    "rotate_api_key": "key.rotated",
    "revoke_api_key": "key.revoked",
    "replace_inventory": "inventory.reported",
    "accept_inventory": "guard.accepted",
    "report_snapshot": "snapshots.reported",
    "report_snapshots": "snapshots.reported",
    "forget_snapshot": "snapshot.forgotten",
    "create_sync_group": "group.created",
    "change_sync_group": "group.changed",
    "delete_sync_group": "group.deleted",
    "add_group_system": "group.system_added",
    "remove_group_system": "group.system_removed",
    "start_action": "action.started",
    "finish_action": "action.failed",
    "resolve_conflict": "conflict.resolved",
}
BODIES: dict[str, Any] = {
    "register_system": {"hostname": "new"},
    "change_system": {"ssh_port": 23},
    "report_heartbeat": {},
    "create_sync_group": {"name": "new"},
    "change_sync_group": {"grace_s": 5},
    "report_progress": {"bytes_done": 1},
    "resolve_conflict": {"strategy": "ignore"},
}


@pytest.fixture
def world(client: Client) -> World:
    return World(client)


def ask(world: World, row: Endpoint, key: str | None, **headers: str) -> Any:
    """Call an endpoint from somewhere, so that it changes something if it may."""
    path = re.sub(r"<(\w+)>", lambda found: world.ids[found[1]], row.path)
    body = BODIES.get(row.name)
    if row.name == "report_snapshot":
        body = {"dataset": "tank", "name": "new", "guid": "77", "system_id": world.member.id}
    if row.name == "report_snapshots":
        body = [{"dataset": "tank", "name": "new", "guid": "77", "system_id": world.member.id}]
    if row.name == "add_group_system":
        body = {"system_id": world.loner.id}
    if row.name == "replace_inventory":
        headers["Content-Type"] = TSV
    client = world.client.with_key(key)
    return client.call(row.method, path, body, headers=headers, expect_errors=True, extra_environ=SOMEWHERE)


def prepared(world: World, row: Endpoint) -> dict[str, str]:
    """Make what the row needs be there; the headers that it needs."""
    if row.name in ("forget_system", "remove_group_system", "accept_inventory"):
        world.ids["system_id"] = world.peer.id
    if row.name == "accept_inventory":
        world.peer.report(listing("tank/shared: ", "tank/shared"))
    if row.name in ("report_progress", "finish_action"):
        token = world.member.call("POST", f"/sync/actions/{world.ids['action_id']}/start").headers["X-Lease-Token"]
        return {"X-Lease-Token": token}
    return {}


def events_of(world: World, answer: Any) -> list[Any]:
    """What a request has left in the audit trail."""
    found = world.client.get("/events?limit=1000")
    return [event for event in found if event["request_id"] == answer.headers["X-Request-ID"]]


def test_each_write_has_its_event() -> None:
    assert {row.name for row in WRITES} == set(EVENTS) | NO_EVENT


@pytest.mark.parametrize("row", WRITES, ids=lambda row: row.name)
def test_what_is_done_is_recorded(world: World, row: Endpoint) -> None:
    answer = ask(world, row, ADMIN, **prepared(world, row))
    assert answer.status_code < 300, answer.text
    expected = EVENTS.get(row.name, "action.extended" if row.name == "report_progress" else None)
    found = [event for event in events_of(world, answer) if event["what"] == expected]
    if expected is None:
        assert events_of(world, answer) == []
        return
    assert found, events_of(world, answer)
    for event in found:
        assert (event["who"], event["role"], event["address"]) == ("admin", "admin", SOMEWHERE["REMOTE_ADDR"])
        ids = (event["system_id"], event["sync_group_id"])
        assert event["subject"] or event["detail"]
        assert any(ids), "it says of what"


@pytest.mark.parametrize("row", WRITES, ids=lambda row: row.name)
def test_what_is_refused_is_recorded(world: World, row: Endpoint) -> None:
    headers = prepared(world, row)
    before = len(world.client.get("/events?limit=1000"))
    viewer = str(world.keys["viewer"])
    for key, who, status in ((viewer, viewer.partition(".")[0], 403), (f"{world.member.key}x", None, 401)):
        answer = ask(world, row, key, **headers)
        assert answer.status_code == status
        (event,) = events_of(world, answer)
        assert (event["what"], event["who"]) == ("auth.refused", who)
        assert (event["address"], event["detail"]) == (SOMEWHERE["REMOTE_ADDR"], {"status": status})
        assert event["subject"].startswith(f"{row.method} /api/v1/")
    assert len(world.client.get("/events?limit=1000")) == before + 2


def test_somebody_else_who_extends_a_lease_is_recorded_and_the_executor_is_not(world: World) -> None:
    path = f"/sync/actions/{world.ids['action_id']}"
    token = {"X-Lease-Token": world.member.call("POST", f"{path}/start").headers["X-Lease-Token"]}
    for client in (world.member, world.client):
        client.call("POST", f"{path}/start")
        client.call("POST", f"{path}/progress", {"bytes_done": 5}, headers=token)
    found = world.client.get("/events?what=action.extended")
    assert [event["who"] for event in found] == ["admin", "admin"]
    assert all(event["detail"]["action_id"] == world.ids["action_id"] for event in found)
