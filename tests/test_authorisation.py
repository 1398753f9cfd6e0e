"""Who may do what: every endpoint by every kind of caller, as tests/golden/authorisation.txt shows it; and what an
agent can learn of groups, hosts and datasets that it does not share: nothing.

`pytest tests/test_authorisation.py --rewrite-golden` writes the table anew; its diff is then read.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from handlers.request import Endpoint
from handlers.routes import ENDPOINTS
from tests.test_endpoints import BODIES
from tests.test_inventories import listing
from tests.witness import ADMIN, ENROLL, NOBODY, TSV, Agent, Client, client_of

GOLDEN = Path(__file__).parent / "golden" / "authorisation.txt"


class World:
    """Two groups that share nothing, a system in none, and a key of every kind. `member` is the system of the paths."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.member, self.peer = client.register("member"), client.register("peer")
        self.secluded, self.hidden = client.register("secluded"), client.register("hidden")
        self.loner = client.register("loner")
        self.member.report(listing("tank/shared: 111101 111102", "tank/shared"))
        self.peer.report(listing("tank/shared: 111101", "tank/shared"))
        self.hidden.report(listing("secretpool/private: 555501 555502", "secretpool/private"))
        self.secluded.report(listing("secretpool/private: 555501", "secretpool/private"))
        self.loner.report(listing("secretpool/alone: 555508", "secretpool/alone"))
        self.group = self._group("ours", self.member, self.peer)
        self.other_group = self._group("theirs", self.hidden, self.secluded)
        self.ids = self.ids_of(self.member, self.group)
        self.ids["action_id"] = client.get(f"/sync/{self.group}/instructions")["actions"][0]["action_id"]
        self.keys = {
            "none": None,
            "wrong": f"{self.member.key}x",
            "revoked": self._revoked(),
            **self._rotated(),
            "enroll": ENROLL,
            "viewer": client.with_role("viewer").key,
            "other": self.hidden.key,
            "loner": self.loner.key,
            "peer": self.peer.key,
            "self": self.member.key,
            "admin": ADMIN,
        }

    def _group(self, name: str, hub: Agent, spoke: Agent) -> str:
        body = {"name": name, "system_ids": [hub.id, spoke.id], "hub_system_id": hub.id}
        group: str = self.client.call("POST", "/sync-groups", body).json["id"]
        self.client.call("POST", f"/sync/{group}/check")
        return group

    def ids_of(self, system: Agent, group: str) -> dict[str, str]:
        """An id of each kind that belongs to a system and a group."""
        conflicts = self.client.get(f"/conflicts/{group}")["conflicts"]
        return {
            "system_id": system.id,
            "group_id": group,
            "snapshot_id": self.client.get(f"/snapshots?system_id={system.id}")[0]["id"],
            "state_id": self.client.get(f"/sync/states?sync_group_id={group}")[0]["id"],
            "conflict_id": conflicts[0]["id"] if conflicts else NOBODY,
            "exit_status": "1",
        }

    def _revoked(self) -> str | None:
        old = self.client.register("revoked")
        self.client.call("DELETE", f"/systems/{old.id}/api-key")
        return old.key

    def _rotated(self) -> dict[str, str | None]:
        """Old keys of the system in the paths: one within its grace, one after."""
        path = f"/systems/{self.member.id}/api-key/rotate"
        ended = self.member.key
        within = self.client.call("POST", f"{path}?grace_s=0").json["api_key"]
        self.member.key = self.client.call("POST", f"{path}?grace_s=3600").json["api_key"]
        return {"rotated, after": ended, "rotated, within": within}

    def ask(self, row: Endpoint, key: str | None, ids: dict[str, str] | None = None, **options: Any) -> Any:
        """Call an endpoint with a good body; any answer."""
        ids = ids or self.ids
        path = re.sub(r"<(\w+)>", lambda found: ids[found[1]], row.path)
        body = BODIES.get(row.name)
        if row.name == "report_snapshot":
            body = {**body, "system_id": self.member.id}
        if row.name == "add_group_system":
            body = {"system_id": self.loner.id}
        headers = options.pop("headers", {})
        if row.name == "replace_inventory":
            headers = {"Content-Type": TSV, **headers}
        client = self.client.with_key(key)
        return client.call(row.method, path, body, headers=headers, expect_errors=True, **options)


def test_every_endpoint_by_every_kind_of_caller(make_witness: Any, request: pytest.FixtureRequest) -> None:
    world = World(client_of(make_witness(rate_limits="{failed_auth: 10000/second, registration: 10000/second}")))
    data = world.client.witness.config.data_dir
    kept = data.with_name("kept")
    shutil.copytree(data, kept)
    kinds = list(world.keys)
    lines = [f"{'':<60}" + "  ".join(kinds)]
    for row in ENDPOINTS:
        cells = []
        for kind in kinds:
            status = world.ask(row, world.keys[kind]).status_code
            cells.append(f"{status:<{len(kind)}}")
            if row.method != "GET" and status < 300:  # it changed something: back to what was
                shutil.rmtree(data)
                shutil.copytree(kept, data)
                world.client = client_of(make_witness(rate_limits="{failed_auth: 10000/second}"))
        lines.append(f"{row.method:<7}{row.path:<53}" + "  ".join(cells).rstrip())
    table = "\n".join(lines) + "\n"
    print(table)
    if request.config.getoption("--rewrite-golden"):
        GOLDEN.write_text(table)
    assert table == GOLDEN.read_text()


# --- what an agent can learn ---------------------------------------------------------------------


@pytest.fixture
def world(client: Client) -> World:
    return World(client)


def words_of_others(world: World) -> set[str]:
    """What only the other group's members may know: names, ids, guids, addresses."""
    client = world.client
    systems = (world.hidden, world.secluded, world.loner)
    words = {"theirs", world.other_group, "secretpool", *(each.hostname for each in systems)}
    words |= {each.id for each in systems}
    for system in systems:
        found = client.get(f"/snapshots?system_id={system.id}")
        words |= {each[name] for each in found for name in ("id", "guid")}
    words |= {each["id"] for each in client.get(f"/conflicts/{world.other_group}")["conflicts"]}
    words |= {each["id"] for each in client.get(f"/sync/states?sync_group_id={world.other_group}")}
    return words | {each["action_id"] for each in client.get(f"/sync/{world.other_group}/instructions")["actions"]}


def other_ids(world: World) -> dict[str, str]:
    """The ids of the other group and of its hub."""
    ids = world.ids_of(world.hidden, world.other_group)
    return {**ids, "action_id": world.client.get(f"/sync/{world.other_group}/instructions")["actions"][0]["action_id"]}


@pytest.mark.parametrize(
    "row", [row for row in ENDPOINTS if row.name not in ("revoke_api_key", "show_openapi")], ids=lambda row: row.name
)
def test_no_answer_to_an_agent_names_what_it_does_not_share(world: World, row: Endpoint) -> None:
    words = words_of_others(world)
    assert {"theirs", "hidden", world.hidden.id} < words
    theirs = other_ids(world)
    for ids in (world.ids, theirs):
        for accept in ("application/json", TSV, "text/x-shellscript"):
            answer = world.ask(row, world.member.key, ids, headers={"Accept": accept})
            said = answer.text + str(answer.headers)
            asked = set(theirs.values()) if ids is theirs else set()
            assert not {word for word in words - asked if word in said}, said


@pytest.mark.parametrize("row", [row for row in ENDPOINTS if "_id>" in row.path], ids=lambda row: row.name)
def test_an_agent_cannot_tell_what_is_there_from_what_is_not(world: World, row: Endpoint) -> None:
    theirs = other_ids(world)
    world.hidden.call("POST", f"/sync/actions/{theirs['action_id']}/start")
    nothing = {name: NOBODY if name.endswith("_id") else value for name, value in theirs.items()}
    there, not_there = (world.ask(row, world.member.key, ids) for ids in (theirs, nothing))
    assert there.status_code >= 400
    assert there.status_code == not_there.status_code
    blank = [re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", each.text) for each in (there, not_there)]
    assert blank[0] == blank[1]


@pytest.mark.parametrize(
    "path",
    [
        "/snapshots?system_id={}",
        "/snapshots/history?system_id={}",
        "/snapshots/statistics?system_id={}",
        "/sync/instructions?system_id={}",
        "/sync/states?system_id={}",
        "/sync/states?sync_group_id={}",
    ],
)
def test_nor_by_asking_for_it_in_a_query(world: World, path: str) -> None:
    there = world.other_group if "group" in path else world.hidden.id
    answers = [world.member.call("GET", path.format(each), expect_errors=True) for each in (there, NOBODY)]
    due = 200 if path.startswith("/sync/states?system_id") else 403  # there are peers, of whom it may see
    assert [answer.status_code for answer in answers] == [due] * 2
    assert answers[0].text == answers[1].text


def test_an_agent_does_not_rename_its_system(world: World) -> None:
    """zfs_sync.yaml names systems by hostname: another name may be in another group."""
    path = f"/systems/{world.member.id}"
    for name in ("hidden", "nobody-has-this"):
        refused = world.member.call("PUT", path, {"hostname": name}, status=403)
        assert "admin" in refused.json["detail"]
    assert world.member.call("PUT", path, {"hostname": "member", "ssh_port": 23}).json["ssh_port"] == 23
    assert world.client.call("PUT", path, {"hostname": "renamed"}).json["hostname"] == "renamed"
