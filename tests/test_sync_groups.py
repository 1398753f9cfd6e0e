"""Sync groups: made, changed and deleted over the API, and those that zfs_sync.yaml holds."""

import re
from pathlib import Path
from typing import Any

import pytest

from store import group_records
from tests.witness import NOBODY, Agent, Client, client_of

IN_THE_FILE = """\
  - name: media
    description: films and photos
    hub: nas
    systems: {nas: {root: tank}, backup: {root: vault/nas}, offsite: }
    datasets: {include: ["media/**", photos], exclude: ["**/cache"]}
    snapshots: {exclude: ["*-frequent"], min_age_s: 60}
    paused: {systems: [backup], datasets: [photos]}
    window: 22:00-06:00
"""
DEFAULTS = {
    "description": "",
    "enabled": True,
    "directional": False,
    "hub_system_id": None,
    "datasets": {"include": ["**"], "exclude": []},
    "snapshots": {"include": ["*"], "exclude": [], "min_age_s": 0, "initial": "all"},
    "sync_interval_seconds": 3600,
    "stale_after_seconds": 86400,
    "transfer": "push",
    "raw": "auto",
    "on_conflict": "manual",
    "delete": "never",
    "max_transfers": 2,
    "grace_s": 600,
    "window": None,
    "rate_limit": None,
    "paused": {"systems": [], "datasets": []},
    "properties": {},
    "metadata": {},
    "source": "api",
    "expected": [],
}


@pytest.fixture
def nas(client: Client) -> Agent:
    return client.register("nas")


@pytest.fixture
def backup(client: Client) -> Agent:
    return client.register("backup")


def make(client: Client, status: int = 201, **body: Any) -> Any:
    return client.call("POST", "/sync-groups", {"name": "g", **body}, status=status).json


# --- made ----------------------------------------------------------------------------------------


def test_a_group_is_made_with_every_default(client: Client, nas: Agent, backup: Agent) -> None:
    group = make(client, system_ids=[nas.id, backup.id])
    assert group == {
        **DEFAULTS,
        "id": group["id"],
        "name": "g",
        "system_ids": [nas.id, backup.id],
        "members": {nas.id: {"root": None}, backup.id: {"root": None}},
        "created_at": group["created_at"],
        "updated_at": group["created_at"],
    }
    assert client.get(f"/sync-groups/{group['id']}") == group
    assert client.get("/sync-groups") == [group]


EVERY_OPTION: dict[str, Any] = {
    "description": "all of it",
    "enabled": False,
    "datasets": {"include": ["media/**"], "exclude": ["**/cache"]},
    "snapshots": {"include": ["daily-*"], "exclude": ["*-x"], "min_age_s": 5, "initial": "newest"},
    "sync_interval_seconds": 60,
    "stale_after_seconds": 120,
    "transfer": "pull",
    "raw": "always",
    "on_conflict": "use_newest",
    "delete": "mirror",
    "max_transfers": 9,
    "grace_s": 0,
    "window": "23:30-01:15",
    "rate_limit": 10**6,
    "properties": {"compression": "zstd"},
    "metadata": {"owner": {"team": 7}},
}


def test_a_group_takes_every_option(client: Client, nas: Agent, backup: Agent) -> None:
    group = make(client, **EVERY_OPTION, members={nas.id: {"root": "tank"}, backup.id: {}}, hub_system_id=nas.id)
    assert {name: group[name] for name in EVERY_OPTION} == EVERY_OPTION
    assert (group["directional"], group["hub_system_id"]) == (True, nas.id)
    assert group["members"] == {nas.id: {"root": "tank"}, backup.id: {"root": None}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a\nb"),
        ("name", " a"),
        ("name", None),
        ("datasets", {"include": ["tank/$(reboot)"]}),
        ("datasets", {"include": ["a//b"]}),
        ("datasets", {"include": []}),
        ("datasets", {"includes": ["a"]}),
        ("snapshots", {"include": ["a/b"]}),
        ("snapshots", {"min_age_s": -1}),
        ("snapshots", {"initial": "oldest"}),
        ("sync_interval_seconds", 0),
        ("sync_interval_seconds", 2**63),
        ("stale_after_seconds", "86400"),
        ("transfer", "both"),
        ("raw", True),
        ("on_conflict", "use_force"),
        ("delete", "always"),
        ("max_transfers", 0),
        ("grace_s", -1),
        ("window", "22:00"),
        ("window", "25:00-26:00"),
        ("window", "22:00-22:00"),
        ("rate_limit", 0),
        ("rate_limit", 2**63),
        ("paused", {"systems": [NOBODY]}),
        ("properties", {"compression": "zstd;reboot\n"}),
        ("properties", {"Compression": "zstd"}),
        ("properties", {"a": "b,c=d"}),
        ("metadata", []),
        ("members", {NOBODY: {}}),
        ("members", {"nas": {}}),
        ("system_ids", [NOBODY]),
        ("system_ids", ["nas"]),
        ("hub_system_id", NOBODY),
        ("directional", True),
        ("colour", "blue"),
    ],
    ids=repr,
)
def test_what_cannot_be_is_422_and_stores_nothing(client: Client, field: str, value: Any) -> None:
    errors = make(client, 422, **{field: value})["errors"]
    assert re.split(r"[.\[]", errors[0]["loc"])[0] in (field, "hub_system_id", "members"), errors
    assert "regex" not in errors[0]["msg"]
    assert client.get("/sync-groups") == []


@pytest.mark.parametrize("root", ["tank@x", "-tank", "tank/", "tank/$(reboot)", "tank/%recv", "tank#b", ""])
def test_a_root_is_the_name_of_a_dataset(client: Client, nas: Agent, root: str) -> None:
    assert "root" in make(client, 422, members={nas.id: {"root": root}})["detail"]
    group = make(client)
    body = {"system_id": nas.id, "root": root}
    refused = client.call("POST", f"/sync-groups/{group['id']}/systems", body, status=422)
    assert refused.json["errors"][0]["loc"] == "root"


def test_names_are_unique_also_with_the_file(make_witness: Any) -> None:
    client = client_of(make_witness(IN_THE_FILE))
    make(client, 409, name="media")
    group = make(client, name="mine")
    make(client, 409, name="mine")
    client.call("PUT", f"/sync-groups/{group['id']}", {"name": "media"}, status=409)
    assert client.call("PUT", f"/sync-groups/{group['id']}", {"name": "mine"}).status_code == 200


# --- changed -------------------------------------------------------------------------------------


def test_put_changes_the_fields_given_and_leaves_the_others(client: Client, nas: Agent, backup: Agent) -> None:
    members = {nas.id: {"root": "tank"}, backup.id: {"root": "vault/nas"}}
    before = make(client, **EVERY_OPTION, members=members, hub_system_id=nas.id, paused={"systems": [backup.id]})
    path = f"/sync-groups/{before['id']}"
    assert client.call("PUT", path, {}).json == before
    changed = client.call("PUT", path, {"enabled": True, "metadata": {}}).json
    assert changed == {**before, "enabled": True, "metadata": {}, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > before["updated_at"]
    reset = client.call("PUT", path, {"rate_limit": None, "window": None, "max_transfers": None}).json
    assert (reset["rate_limit"], reset["window"], reset["max_transfers"]) == (None, None, 2)
    assert client.get(path) == reset


def test_what_get_shows_can_be_sent_back(client: Client, nas: Agent) -> None:
    group = make(client, members={nas.id: {"root": "tank"}}, hub_system_id=nas.id)
    sent = {**group, "description": "new"}
    back = client.call("PUT", f"/sync-groups/{group['id']}", sent).json
    assert back == {**sent, "updated_at": back["updated_at"]}


def test_members_and_hub_can_be_changed(client: Client, nas: Agent, backup: Agent) -> None:
    group = make(client, members={nas.id: {"root": "tank"}, backup.id: {"root": "vault"}}, hub_system_id=nas.id)
    path = f"/sync-groups/{group['id']}"
    client.call("PUT", path, {"members": {backup.id: {}}}, status=422)  # the hub would be no member
    both = client.call("PUT", path, {"hub_system_id": None}).json
    assert (both["directional"], both["members"]) == (False, group["members"])
    fewer = client.call("PUT", path, {"system_ids": [backup.id]}).json
    assert fewer["members"] == {backup.id: {"root": "vault"}}
    assert client.call("PUT", path, {"members": {nas.id: {}}}).json["system_ids"] == [nas.id]
    client.call("PUT", path, {"directional": True}, status=422)
    assert client.call("PUT", path, {"directional": True, "hub_system_id": nas.id}).json["directional"] is True
    client.call("PUT", path, {"directional": False}, status=422)


def test_systems_join_and_leave(client: Client, nas: Agent, backup: Agent) -> None:
    group = make(client, system_ids=[nas.id], hub_system_id=nas.id)
    path = f"/sync-groups/{group['id']}/systems"
    joined = client.call("POST", path, {"system_id": backup.id, "root": "vault/nas"})
    assert joined.status_code == 200
    assert joined.json["members"][backup.id] == {"root": "vault/nas"}
    assert joined.json == client.get(f"/sync-groups/{group['id']}")
    moved = client.call("POST", path, {"system_id": backup.id, "root": "vault"}).json
    assert moved["members"][backup.id] == {"root": "vault"}
    client.call("PUT", f"/sync-groups/{group['id']}", {"paused": {"systems": [backup.id]}})
    client.call("POST", path, {"system_id": NOBODY}, status=422)
    assert "name another first" in client.call("DELETE", f"{path}/{nas.id}", status=409).json["detail"]
    assert client.call("DELETE", f"{path}/{backup.id}", status=204).body == b""
    client.call("DELETE", f"{path}/{backup.id}", status=404)
    left = client.get(f"/sync-groups/{group['id']}")
    assert (left["system_ids"], left["paused"]["systems"]) == ([nas.id], [])


def test_a_deleted_group_leaves_no_records(client: Client, nas: Agent) -> None:
    nas.report_file("nas")
    group = make(client, system_ids=[nas.id])
    client.call("POST", f"/sync/{group['id']}/check")
    records = client.witness.store.read(group_records(group["id"]))
    assert len(records.states) > 0
    assert client.call("DELETE", f"/sync-groups/{group['id']}", status=204).body == b""
    client.call("DELETE", f"/sync-groups/{group['id']}", status=404)
    assert client.get("/sync-groups") == []
    assert len(client.witness.store.read(group_records(group["id"])).states) == 0
    events = [event["what"] for event in client.get(f"/events?sync_group_id={group['id']}")]
    assert events[0] == "group.deleted"


# --- from the file -------------------------------------------------------------------------------


def test_a_group_of_the_file_is_shown_with_ids(make_witness: Any) -> None:
    client = client_of(make_witness(IN_THE_FILE, default_sync_interval_s=900, max_transfers=5))
    nas, backup = client.register("nas"), client.register("backup")
    group = client.get("/sync-groups")[0]
    assert group == {
        **DEFAULTS,
        "id": group["id"],
        "name": "media",
        "description": "films and photos",
        "directional": True,
        "hub_system_id": nas.id,
        "system_ids": [nas.id, backup.id],
        "members": {nas.id: {"root": "tank"}, backup.id: {"root": "vault/nas"}},
        "expected": ["offsite"],
        "datasets": {"include": ["media/**", "photos"], "exclude": ["**/cache"]},
        "snapshots": {**DEFAULTS["snapshots"], "exclude": ["*-frequent"], "min_age_s": 60},  # type: ignore[dict-item]
        "paused": {"systems": [backup.id], "datasets": ["photos"]},
        "window": "22:00-06:00",
        "sync_interval_seconds": 900,
        "max_transfers": 5,
        "source": "config",
        "created_at": None,
        "updated_at": None,
    }


def test_a_group_of_the_file_is_changed_in_the_file(make_witness: Any) -> None:
    client = client_of(make_witness(IN_THE_FILE))
    nas = client.register("nas")
    path = f"/sync-groups/{client.get('/sync-groups')[0]['id']}"
    for refused in (
        client.call("PUT", path, {"enabled": False}, status=409),
        client.call("DELETE", path, status=409),
        client.call("POST", f"{path}/systems", {"system_id": nas.id}, status=409),
        client.call("DELETE", f"{path}/systems/{nas.id}", status=409),
    ):
        assert str(client.witness.config.file) in refused.json["detail"]


def test_the_file_is_read_again_when_it_changes_and_a_broken_edit_changes_nothing(make_witness: Any) -> None:
    client = client_of(make_witness(IN_THE_FILE))
    file = client.witness.config.file
    assert isinstance(file, Path)
    before = client.get("/sync-groups")
    assert client.app.get("/health/ready").json["groups_error"] is None
    file.write_text("groups:\n" + IN_THE_FILE.replace("hub: nas", "hub: elsewhere"))
    assert client.get("/sync-groups") == before
    ready = client.app.get("/health/ready", status=200).json
    assert "elsewhere" in ready["groups_error"]
    assert f"{file}:" in ready["groups_error"]
    file.write_text("groups:\n" + IN_THE_FILE.replace("films and photos", "films"))
    assert client.get("/sync-groups")[0]["description"] == "films"
    assert client.get("/sync-groups")[0]["id"] == before[0]["id"]
    assert client.app.get("/health/ready").json["groups_error"] is None


def test_agents_see_their_own_groups(make_witness: Any) -> None:
    client = client_of(make_witness(IN_THE_FILE))
    nas, backup, other = (client.register(name) for name in ("nas", "backup", "other"))
    make(client, name="ours", system_ids=[nas.id])
    assert [group["name"] for group in nas.get("/sync-groups")] == ["media", "ours"]
    assert [group["name"] for group in backup.get("/sync-groups")] == ["media"]
    assert other.get("/sync-groups") == []
    listed = client.call("GET", "/sync-groups?limit=1&offset=1")
    assert ([group["name"] for group in listed.json], listed.headers["X-Total-Count"]) == (["ours"], "2")
