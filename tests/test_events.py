"""The audit trail: who did what, from where, when."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from tests.test_inventories import listing
from tests.witness import Client, client_of


def whats(client: Client, query: str = "") -> list[str]:
    return [event["what"] for event in client.get(f"/events{query}")]


def test_an_event_says_who_did_what_from_where_and_when(client: Client) -> None:
    made = client.call("POST", "/systems/register", {"hostname": "nas"}, extra_environ={"REMOTE_ADDR": "192.0.2.1"})
    (event,) = client.get("/events")
    assert abs(datetime.fromisoformat(event["at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert event == {
        "id": event["id"],
        "at": event["at"],
        "what": "system.registered",
        "who": "admin",
        "role": "admin",
        "address": "192.0.2.1",
        "system_id": made.json["id"],
        "sync_group_id": None,
        "subject": "nas",
        "detail": {},
        "request_id": made.headers["X-Request-ID"],
    }


def test_what_changes_something_is_recorded_newest_first(client: Client) -> None:
    nas = client.register("nas")
    nas.call("PUT", f"/systems/{nas.id}", {"ssh_port": 23})
    nas.report(listing("tank: 1 2"))
    group = client.call("POST", "/sync-groups", {"name": "g"}).json["id"]
    client.call("POST", f"/sync-groups/{group}/systems", {"system_id": nas.id})
    client.call("PUT", f"/sync-groups/{group}", {"enabled": False})
    client.call("DELETE", f"/sync-groups/{group}/systems/{nas.id}")
    client.call("DELETE", f"/sync-groups/{group}")
    nas.call("POST", "/snapshots", {"dataset": "tank", "name": "x", "guid": "77"})
    snapshot = client.get("/snapshots?name=x")[0]["id"]
    nas.call("DELETE", f"/snapshots/{snapshot}")
    nas.call("POST", f"/systems/{nas.id}/api-key/rotate")
    nas.report(listing("tank: "))
    client.call("POST", f"/systems/{nas.id}/inventory/accept")
    client.call("DELETE", f"/systems/{nas.id}/api-key")
    client.call("DELETE", f"/systems/{nas.id}")
    assert list(reversed(whats(client))) == [
        "system.registered",
        "system.changed",
        "inventory.reported",
        "group.created",
        "group.system_added",
        "group.changed",
        "group.system_removed",
        "group.deleted",
        "snapshots.reported",
        "snapshot.forgotten",
        "key.rotated",
        "inventory.reported",
        "guard.raised",
        "guard.accepted",
        "key.revoked",
        "system.deleted",
    ]


def test_what_changes_nothing_is_not_recorded(client: Client) -> None:
    nas = client.register("nas")
    nas.report(listing("tank: 1"))
    group = client.call("POST", "/sync-groups", {"name": "g"}).json["id"]
    before = whats(client)
    nas.report(listing("tank: 1"))
    nas.call("POST", f"/systems/{nas.id}/heartbeat")
    nas.call("PUT", f"/systems/{nas.id}", {"ssh_port": 22})
    client.call("PUT", f"/sync-groups/{group}", {"name": "g"})
    client.call("GET", f"/systems/{nas.id}")
    client.call("PUT", f"/systems/{nas.id}", {"ssh_port": 0}, status=422)
    assert whats(client) == before


def test_refused_attempts_are_recorded_but_not_calls_without_a_key(client: Client) -> None:
    nas = client.register("nas")
    client.with_key(None).call("GET", "/systems", status=401)
    assert whats(client, "?what=auth.refused") == []
    client.with_key("wrong.key").call("GET", "/systems", status=401)
    nas.call("DELETE", f"/systems/{nas.id}", status=403)
    by_role, by_key = client.get("/events?what=auth.refused")
    assert (by_key["who"], by_key["subject"], by_key["detail"]) == (None, "GET /api/v1/systems", {"status": 401})
    assert by_role["who"] == str(nas.key).partition(".")[0]
    assert (by_role["role"], by_role["system_id"]) == ("agent", nas.id)
    assert by_role["subject"] == f"DELETE /api/v1/systems/{nas.id}"


def test_events_are_filtered_and_in_parts(client: Client) -> None:
    nas, backup = client.register("nas"), client.register("backup")
    for port in (1, 2, 3):
        nas.call("PUT", f"/systems/{nas.id}", {"ssh_port": port})
    group = client.call("POST", "/sync-groups", {"name": "g"}).json["id"]
    everything = client.get("/events")
    assert len(everything) == 6
    nas_key = str(nas.key).partition(".")[0]
    narrowed: list[tuple[str, int]] = [
        ("what=system.changed", 3),
        ("who=admin", 3),
        (f"who={nas_key}", 3),
        (f"system_id={nas.id}", 4),
        (f"system_id={backup.id}", 1),
        (f"sync_group_id={group}", 1),
        (f"what=system.changed&system_id={backup.id}", 0),
        (f"since={quote(everything[2]['at'])}", 3),
        (f"until={quote(everything[2]['at'])}", 4),
    ]
    for query, count in narrowed:
        assert len(client.get(f"/events?{query}")) == count, query
    part = client.call("GET", "/events?limit=2&offset=3")
    assert part.json == everything[3:5]
    assert part.headers["X-Total-Count"] == "6"


def test_the_audit_trail_survives_a_restart(make_witness: Any) -> None:
    client_of(make_witness()).register("nas")
    again = client_of(make_witness())
    again.register("backup")
    assert [event["subject"] for event in again.get("/events")] == ["backup", "nas"]


def test_viewers_see_it_and_agents_do_not(client: Client) -> None:
    nas = client.register("nas")
    assert client.with_role("viewer").get("/events")
    nas.call("GET", "/events", status=403)


def test_what_a_handler_refuses_to_a_good_key_is_recorded_too(client: Client) -> None:
    nas, backup = client.register("nas"), client.register("backup")
    body = {"dataset": "tank", "name": "x", "guid": "77", "system_id": backup.id}
    nas.call("POST", "/snapshots", body, status=403)
    (refused,) = client.get("/events?what=auth.refused")
    assert (refused["system_id"], refused["subject"]) == (nas.id, "POST /api/v1/snapshots")
