"""Damaged files: a report replaces what it says again, and `check --repair` the rest that can be done without."""

import pytest

from store import heartbeat_of, inventory_of
from tests.store_samples import content, put_content
from tests.test_inventories import listing, names
from tests.witness import Agent, Client


@pytest.fixture
def nas(client: Client) -> Agent:
    return client.register("nas")


@pytest.mark.parametrize("damage", [b"", b'{"_meta":', b"\x00" * 500], ids=["empty", "cut off", "zeros"])
@pytest.mark.parametrize("kind", ["inventories", "heartbeats", "history"])
def test_a_report_heals_what_it_says_again(client: Client, nas: Agent, kind: str, damage: bytes) -> None:
    nas.report(listing("tank: 1 2") + listing("usb: 3"))
    nas.report(listing("tank: 2") + listing("usb: 3"))
    store = nas.witness.store
    (shard,) = store.shards(kind)
    put_content(store, shard.name, damage)
    assert nas.report(listing("tank: 2 4") + listing("usb: 3"))["snapshots"] == 3
    assert names(nas) == ["tank", "tank@s2", "tank@s4", "usb", "usb@s3"]
    assert store.problems() == []
    (healed,) = [event for event in client.get("/events") if event["what"] == "store.healed"]
    assert "is damaged" in healed["detail"]["problem"]


def test_what_a_damaged_inventory_named_is_guarded_until_an_admin_accepts(client: Client, nas: Agent) -> None:
    nas.report("".join(map(listing, ("tank: 1 2", "tank/a: 5", "usb: 3"))))
    nas.report("".join(map(listing, ("tank: 1 2", "tank/a: 5"))))  # usb is not imported any more
    store, shard = nas.witness.store, inventory_of(nas.id)
    whole = content(store, shard.name)
    assert whole is not None
    put_content(store, shard.name, whole[:-30])
    said = nas.report("".join(map(listing, ("tank: 1 2", "tank/a: 5", "tank/b: 6"))))
    assert said["guarded"] == ["tank", "tank/a", "tank/b", "usb"]
    client.call("POST", f"/systems/{nas.id}/inventory/accept")
    assert store.read(shard).guards.ids() == []


def test_an_agent_whose_inventory_is_damaged_is_asked_for_a_report(nas: Agent) -> None:
    digest = nas.report(listing("tank: 1"))["digest"]
    for damaged, expected in ((False, "current"), (True, "stale")):
        if damaged:
            put_content(nas.witness.store, inventory_of(nas.id).name, b"half")
        said = nas.call("POST", f"/systems/{nas.id}/heartbeat", {"inventory_digest": digest}).json
        assert said["inventory"] == expected


@pytest.mark.parametrize("damage", [b"half", b""])
def test_a_heartbeat_heals_its_own_file_and_nobody_waits_for_that(client: Client, damage: bytes) -> None:
    nas, backup = client.register("nas"), client.register("backup")
    for agent in (nas, backup):
        agent.report(listing("tank: 1"))
    group = client.call("POST", "/sync-groups", {"name": "all", "system_ids": [nas.id, backup.id]}).json["id"]
    store = client.witness.store
    put_content(store, heartbeat_of(nas.id).name, damage)
    for path in ("/systems", f"/systems/{nas.id}", "/systems/health", f"/sync/{group}/status", f"/conflicts/{group}"):
        client.get(path)
    assert "zfs_sync_snapshots{" in client.call("GET", "/metrics").text
    assert client.get(f"/systems/{nas.id}")["connectivity_status"] == "unknown"
    assert nas.call("POST", f"/systems/{nas.id}/heartbeat").json["inventory"] == "stale"
    assert client.get(f"/systems/{nas.id}")["connectivity_status"] == "online"
    assert store.problems() == []
    (healed,) = [event for event in client.get("/events") if event["what"] == "store.healed"]
    assert healed["system_id"] == nas.id


def test_a_call_of_a_busy_agent_heals_its_heartbeat_too(client: Client) -> None:
    nas, backup = client.register("nas"), client.register("backup")
    nas.report(listing("tank: 1"))
    backup.report(listing("pool: 7"))
    members = {nas.id: {"root": "tank"}, backup.id: {"root": "pool/tank"}}
    body = {"name": "all", "hub_system_id": nas.id, "directional": True, "members": members}
    group = client.call("POST", "/sync-groups", body).json["id"]
    action = nas.get(f"/sync/{group}/instructions")["actions"][0]["action_id"]
    put_content(client.witness.store, heartbeat_of(nas.id).name, b"half")
    nas.call("POST", f"/sync/actions/{action}/start")
    assert client.witness.store.problems() == []


@pytest.mark.on_files
def test_a_damaged_inventory_is_kept_beside_the_new_one(nas: Agent) -> None:
    nas.report(listing("tank: 1"))
    folder = nas.witness.config.data_dir / "inventories"
    (folder / f"{nas.id}.json").write_bytes(b"half of")
    nas.report(listing("tank: 1"))
    (kept,) = folder.glob("*.damaged-*")
    assert kept.read_bytes() == b"half of"


def test_an_inventory_of_a_later_version_is_not_replaced(nas: Agent) -> None:
    nas.report(listing("tank: 1"))
    store, name = nas.witness.store, inventory_of(nas.id).name
    later = (content(store, name) or b"").replace(b'"schema":1', b'"schema":9')
    put_content(store, name, later)
    nas.report(listing("tank: 1 2"), status=503)
    assert content(store, name) == later
