"""Systems: registration, changes, heartbeats, health, deletion."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handlers.request import Witness
from store import LEASES, REGISTRY, Store, events_of
from tests.store_samples import everything
from tests.witness import ENROLL, LISTINGS, NOBODY, Client, client_of, place_of

GROUP_OF_NAS = "  - {name: media, hub: nas, systems: {nas: {root: tank}, backup: {root: vault/nas}, offsite: }}\n"


# --- registration --------------------------------------------------------------------------------


def test_a_system_registers_and_gets_its_key_this_once(client: Client) -> None:
    made = client.with_key(ENROLL).call(
        "POST",
        "/systems/register",
        {"hostname": "nas", "platform": "freebsd", "ssh_user": "zfs", "ssh_port": 2222, "metadata": {"rack": 3}},
    )
    assert made.status_code == 201
    shown = made.json
    key = shown.pop("api_key")
    assert shown == {
        "id": shown["id"],
        "hostname": "nas",
        "platform": "freebsd",
        "connectivity_status": "unknown",
        "ssh_hostname": None,
        "ssh_user": "zfs",
        "ssh_port": 2222,
        "last_seen": None,
        "created_at": shown["created_at"],
        "updated_at": shown["created_at"],
        "metadata": {"rack": 3},
    }
    assert client.get("/systems") == [shown]
    assert client.with_key(key).get(f"/systems/{shown['id']}") == shown


def test_a_hostname_that_exists_is_a_conflict_that_names_the_way_out(client: Client) -> None:
    nas = client.register("nas")
    for same in ("nas", "NAS"):
        refused = client.call("POST", "/systems/register", {"hostname": same}, status=409)
        assert f"/systems/{nas.id}/api-key/rotate" in refused.json["detail"]
    assert len(client.get("/systems")) == 1


HOSTNAMES = [
    "",
    "a b",
    " nas",
    "-nas",
    "nas-",
    ".nas",
    "nas\n",
    "nas;reboot",
    "$(reboot)",
    "näs",
    "a/b",
    "x" * 254,
    3,
    None,
]


@pytest.mark.parametrize("hostname", HOSTNAMES, ids=repr)
def test_a_hostname_that_cannot_be_is_422(client: Client, hostname: Any) -> None:
    for field in ("hostname", "ssh_hostname"):
        if (field, hostname) == ("ssh_hostname", None):
            continue
        body = {"hostname": "fine", field: hostname}
        refused = client.call("POST", "/systems/register", body, status=422)
        assert refused.json["errors"][0]["loc"] == field
        if hostname == "a b":
            assert refused.json["errors"][0]["msg"] in ("expected a hostname", "expected a hostname or an address")
    assert client.get("/systems") == []


@pytest.mark.parametrize("ssh_hostname", ["nas.example.org", "10.0.0.1", "fd00::1", "::1", "nas_1"])
def test_an_ssh_hostname_may_be_an_address(client: Client, ssh_hostname: str) -> None:
    assert (
        client.get(f"/systems/{client.register('nas', ssh_hostname=ssh_hostname).id}")["ssh_hostname"] == ssh_hostname
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ssh_user", "-oProxyCommand=x"),
        ("ssh_user", "root;id"),
        ("ssh_user", ""),
        ("ssh_user", "a" * 33),
        ("ssh_port", 0),
        ("ssh_port", 65536),
        ("ssh_port", "22"),
        ("ssh_port", None),
        ("platform", "beos"),
        ("metadata", []),
        ("id", NOBODY),
        ("api_key", "mine"),
    ],
)
def test_other_fields_that_cannot_be_are_422(client: Client, field: str, value: Any) -> None:
    refused = client.call("POST", "/systems/register", {"hostname": "nas", field: value}, status=422)
    assert refused.json["errors"][0]["loc"] == field


def test_metadata_comes_back_as_it_was_given(client: Client) -> None:
    metadata = {"": None, "ü": [2**64, -(10**40), 1.5, "\u2028\x00\U0001f418", {"a": {"b": [[]]}}], "yes": True}
    nas = client.register("nas", metadata=metadata)
    assert client.get(f"/systems/{nas.id}")["metadata"] == metadata
    reopened = Store.open(place_of(client.witness))
    assert reopened.read(REGISTRY).systems.get(nas.id).metadata == metadata


def test_registration_can_be_open_or_closed(make_witness: Any) -> None:
    unkeyed = client_of(make_witness(registration="open")).with_key(None)
    assert unkeyed.call("POST", "/systems/register", {"hostname": "nas"}).status_code == 201
    unkeyed.with_key("wrong.key").call("POST", "/systems/register", {"hostname": "other"}, status=401)
    unkeyed.call("GET", "/systems", status=401)
    closed = client_of(make_witness(registration="closed"))
    closed.with_key(ENROLL).call("POST", "/systems/register", {"hostname": "late"}, status=403)
    closed.with_key(None).call("POST", "/systems/register", {"hostname": "late"}, status=401)
    assert closed.call("POST", "/systems/register", {"hostname": "late"}).status_code == 201


def test_a_registration_that_cannot_be_recorded_leaves_no_system_without_a_known_key(make_witness: Any) -> None:
    client = client_of(make_witness(lock_timeout_s=0.05))
    with Store.open(place_of(client.witness)).transaction(events_of("2026-01-01-0001")):
        client.call("POST", "/systems/register", {"hostname": "nas"}, status=503)
    assert client.get("/systems") == []
    client.register("nas")


# --- changes -------------------------------------------------------------------------------------


def test_put_changes_the_fields_given_and_leaves_the_others(client: Client) -> None:
    nas = client.register("nas", ssh_user="zfs", metadata={"rack": 3, "floor": 1})
    before = nas.get(f"/systems/{nas.id}")
    assert nas.call("PUT", f"/systems/{nas.id}", {}).json == before
    changed = nas.call("PUT", f"/systems/{nas.id}", {"ssh_port": 2222, "metadata": {"rack": 4}}).json
    assert changed == {**before, "ssh_port": 2222, "metadata": {"rack": 4}, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > before["updated_at"]
    assert nas.call("PUT", f"/systems/{nas.id}", {"ssh_user": None}).json["ssh_user"] is None


def test_what_get_shows_can_be_sent_back(client: Client) -> None:
    nas = client.register("nas")
    shown = nas.get(f"/systems/{nas.id}")
    assert nas.call("PUT", f"/systems/{nas.id}", {**shown, "platform": "freebsd"}).json["platform"] == "freebsd"
    assert nas.get(f"/systems/{nas.id}")["id"] == nas.id


def test_a_system_can_take_another_name_that_is_free(client: Client) -> None:
    nas, _ = client.register("nas"), client.register("backup")
    client.call("PUT", f"/systems/{nas.id}", {"hostname": "Backup"}, status=409)
    assert client.call("PUT", f"/systems/{nas.id}", {"hostname": "NAS"}).json["hostname"] == "NAS"
    client.call("PUT", f"/systems/{nas.id}", {"hostname": "a b"}, status=422)


# --- heartbeats and health -----------------------------------------------------------------------


def test_a_heartbeat_says_that_the_system_is_there(make_witness: Any) -> None:
    client = client_of(make_witness(GROUP_OF_NAS, heartbeat_timeout_s=300))
    nas, lonely = client.register("nas"), client.register("lonely")
    group = client.get("/sync-groups")[0]
    said = nas.call("POST", f"/systems/{nas.id}/heartbeat").json
    assert said.items() >= {"status": "online", "inventory": "stale", "groups": [group["id"]]}.items()
    assert said["next_sync_in_s"] == 3600
    assert lonely.call("POST", f"/systems/{lonely.id}/heartbeat").json["groups"] == []
    shown = nas.get(f"/systems/{nas.id}")
    assert (shown["connectivity_status"], shown["last_seen"]) == ("online", said["last_seen"])
    nas.grow_silent(seconds=299)
    assert nas.get(f"/systems/{nas.id}")["connectivity_status"] == "online"
    nas.grow_silent(seconds=2)
    assert nas.get(f"/systems/{nas.id}")["connectivity_status"] == "offline"


def test_the_pace_is_that_of_the_fastest_enabled_group(client: Client) -> None:
    nas = client.register("nas")
    for name, seconds, enabled in (("slow", 900, True), ("fast", 300, True), ("off", 60, False)):
        body = {"name": name, "system_ids": [nas.id], "sync_interval_seconds": seconds, "enabled": enabled}
        client.call("POST", "/sync-groups", body)
    assert nas.call("POST", f"/systems/{nas.id}/heartbeat", {}).json["next_sync_in_s"] == 300


def test_a_digest_confirms_the_inventory_and_another_asks_for_it(client: Client) -> None:
    nas = client.register("nas")
    digest = hashlib.sha256((LISTINGS / "nas.fast.tsv").read_bytes()).hexdigest()
    beat = f"/systems/{nas.id}/heartbeat"
    assert nas.call("POST", beat, {"inventory_digest": digest}).json["inventory"] == "stale"
    assert nas.report_file("nas")["digest"] == digest
    nas.grow_silent(hours=3)
    assert nas.get(f"/systems/{nas.id}/health")["inventory_age_s"] >= 3 * 3600
    answer = nas.call("POST", beat, {"inventory_digest": digest})
    assert (answer.json["inventory"], answer.headers["X-Inventory"]) == ("current", "current")
    assert nas.get(f"/systems/{nas.id}/health")["inventory_age_s"] < 60
    assert nas.call("POST", beat, {"inventory_digest": "0" * 64}).json["inventory"] == "stale"


def test_a_full_report_is_due_in_time_even_if_the_digest_fits(make_witness: Any) -> None:
    client = client_of(make_witness(full_report_s=3600))
    nas = client.register("nas")
    digest = nas.report_file("nas")["digest"]
    for body in ({"inventory_digest": digest}, {}):
        assert nas.call("POST", f"/systems/{nas.id}/heartbeat", body).json["inventory"] == "current"
    nas.grow_silent(seconds=3601)
    for body in ({"inventory_digest": digest}, {}):
        assert nas.call("POST", f"/systems/{nas.id}/heartbeat", body).json["inventory"] == "stale"
    nas.report_file("nas")  # the very same, and in full
    assert nas.call("POST", f"/systems/{nas.id}/heartbeat", {"inventory_digest": digest}).json["inventory"] == "current"


def test_a_digest_is_64_small_hex_digits(client: Client) -> None:
    nas = client.register("nas")
    for digest in ("", "A" * 64, "0" * 63, "0" * 64 + "\n", 7):
        nas.call("POST", f"/systems/{nas.id}/heartbeat", {"inventory_digest": digest}, status=422)


def test_health_of_each_and_of_all(client: Client) -> None:
    nas, backup = client.register("nas"), client.register("backup")
    nas.report_file("nas")
    well = client.get(f"/systems/{nas.id}/health")
    assert well == {
        "system_id": nas.id,
        "hostname": "nas",
        "connectivity_status": "online",
        "last_seen": well["last_seen"],
        "seconds_since_last_seen": well["seconds_since_last_seen"],
        "inventory_age_s": well["inventory_age_s"],
        "snapshot_count": (LISTINGS / "nas.tsv").read_text().count("\tsnapshot\t"),
    }
    never = client.get(f"/systems/{backup.id}/health")
    assert never["connectivity_status"] == "unknown"
    assert {never["last_seen"], never["seconds_since_last_seen"], never["inventory_age_s"]} == {None}
    assert [each["hostname"] for each in client.get("/systems/health")] == ["backup", "nas"]
    own = nas.call("GET", "/systems/health")
    assert ([each["hostname"] for each in own.json], own.headers["X-Total-Count"]) == (["nas"], "1")


def test_systems_are_listed_by_hostname_in_parts(client: Client) -> None:
    for name in ("c", "a", "e", "b", "d"):
        client.register(name)
    first = client.call("GET", "/systems?limit=2")
    assert [each["hostname"] for each in first.json] == ["a", "b"]
    assert first.headers["X-Total-Count"] == "5"
    assert first.headers["Link"] == '</api/v1/systems?limit=2&offset=2>; rel="next"'
    middle = client.call("GET", "/systems?limit=2&offset=2")
    assert 'offset=4>; rel="next"' in middle.headers["Link"]
    assert 'offset=0>; rel="prev"' in middle.headers["Link"]
    last = client.call("GET", "/systems?limit=2&offset=4")
    assert [each["hostname"] for each in last.json] == ["e"]
    assert 'rel="next"' not in last.headers["Link"]
    assert "Link" not in client.call("GET", "/systems").headers
    for wrong in ("limit=0", "limit=1001", "limit=x", "offset=-1", "limit="):
        client.call("GET", f"/systems?{wrong}", status=422)


# --- deletion ------------------------------------------------------------------------------------


def files_with(witness: Witness, text: str) -> list[str]:
    """The store's files that have a text in their content or in their path."""
    return [name for name, content in everything(witness.store).items() if text in name + content.decode()]


def test_deletion_leaves_nothing_but_the_audit_trail(client: Client) -> None:
    nas, backup = client.register("nas"), client.register("backup")
    nas.report_file("nas")
    nas.report("tank\tfilesystem\t1\t1\t1700000000\t0\t0\t0\toff\t-\t-\n")  # the rest becomes history
    paused = {"systems": [nas.id]}
    body = {"name": "both", "system_ids": [nas.id, backup.id], "hub_system_id": backup.id, "paused": paused}
    group = client.call("POST", "/sync-groups", body).json
    assert client.call("DELETE", f"/systems/{nas.id}", status=204).body == b""
    client.call("GET", f"/systems/{nas.id}", status=404)
    nas.call("GET", f"/systems/{nas.id}", status=401)
    left = client.get(f"/sync-groups/{group['id']}")
    assert (left["system_ids"], left["paused"]["systems"]) == ([backup.id], [])
    client.call("PUT", f"/sync-groups/{group['id']}", {"enabled": False})
    assert all(file.startswith("events/") for file in files_with(client.witness, nas.id))
    client.call("DELETE", f"/systems/{nas.id}", status=404)
    assert client.register("nas").id != nas.id


def test_a_hub_is_not_deleted(make_witness: Any) -> None:
    client = client_of(make_witness(GROUP_OF_NAS))
    nas, backup = client.register("nas"), client.register("backup")
    assert "name another first" in client.call("DELETE", f"/systems/{nas.id}", status=409).json["detail"]
    body = {"name": "by hand", "system_ids": [nas.id, backup.id], "hub_system_id": backup.id}
    client.call("POST", "/sync-groups", body)
    assert "'by hand'" in client.call("DELETE", f"/systems/{backup.id}", status=409).json["detail"]
    assert len(client.get("/systems")) == 2


def test_a_deleted_system_leaves_no_lease_in_others_way(client: Client) -> None:
    nas, backup = client.register("nas"), client.register("backup")
    nas.report_file("nas")
    backup.report("vault\tfilesystem\t1\t1\t1700000000\t0\t0\t0\toff\t-\t-\n")
    members = {nas.id: {"root": "tank"}, backup.id: {"root": "vault/nas"}}
    group = client.call("POST", "/sync-groups", {"name": "g", "hub_system_id": nas.id, "members": members}).json
    action = nas.get(f"/sync/{group['id']}/instructions")["actions"][0]
    nas.call("POST", f"/sync/actions/{action['action_id']}/start")
    client.call("DELETE", f"/systems/{backup.id}", status=204)
    assert client.witness.store.read(LEASES).leases.ids() == []
    assert client.get(f"/sync/{group['id']}/instructions")["actions"] == []


def test_expected_systems_are_shown_until_they_register(make_witness: Any) -> None:
    client = client_of(make_witness(GROUP_OF_NAS))
    nas = client.register("NAS")  # hostnames do not care for case
    group = client.get("/sync-groups")[0]
    assert group["system_ids"] == [nas.id]
    assert group["expected"] == ["backup", "offsite"]
    assert group["hub_system_id"] == nas.id
    status = client.get(f"/sync/{group['id']}/status")
    assert {each["hostname"]: each["expected"] for each in status["systems"]} == {
        "NAS": False,
        "backup": True,
        "offsite": True,
    }
    backup = client.register("backup")
    assert client.get("/sync-groups")[0]["expected"] == ["offsite"]
    assert backup.get("/sync-groups")[0]["system_ids"] == [nas.id, backup.id]


def test_moments_are_rfc_3339_in_utc(client: Client) -> None:
    shown = client.get(f"/systems/{client.register('nas').id}")["created_at"]
    assert shown.endswith("Z")
    assert abs(datetime.fromisoformat(shown) - datetime.now(UTC)) < timedelta(minutes=1)


def test_no_key_is_stored_in_the_clear(client: Client) -> None:
    nas = client.register("nas")
    secret = str(nas.key).partition(".")[2]
    nas.call("POST", f"/systems/{nas.id}/heartbeat")
    assert files_with(client.witness, secret) == []
    assert client.witness.store.read(REGISTRY).keys.find(system_id=nas.id)[0].hash != secret
