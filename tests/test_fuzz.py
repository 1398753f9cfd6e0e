"""Requests at random: whatever is sent, the answer is no 500, and the store stays readable."""

import gzip
import json
import random
import re
import string
from typing import Any
from urllib.parse import quote

import pytest
from webtest import TestApp

from handlers.request import Endpoint
from handlers.routes import ENDPOINTS, make_app
from tests.boxes import COLUMNS, MEDIA, Boxes, empty_boxes, listing
from tests.test_endpoints import BODIES
from tests.witness import BASE, NOBODY, TSV

CALLS = 500
WORDS = [
    "",
    "tank",
    "tank/a",
    "vault/nas",
    "s1",
    "a b",
    "..",
    "../../etc/passwd",
    "$(reboot)",
    "`id`",
    "\x00",
    "\n",
    "\t",
    "ü",
]
WORDS += ["\U0001f418", "\ud7ff", "null", "true", "-", "%", "%recv", "@", "tank@x", "#", "x" * 300, "1", "-1", "1e400"]
WORDS += [
    str(2**63),
    str(2**64),
    "2026-11-22T14:00:00Z",
    "2026-11-22T14:00:00",
    "0001-01-01T00:00:00+23:59",
    "use_newest",
]
NUMBERS = [0, 1, -1, 2, 22, 2**31, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**40, 0.5, -1e308]


class Chance:
    """What is sent, drawn from one seed: mostly nearly right, since nonsense is refused at the first check."""

    def __init__(self, seed: int, boxes: Boxes) -> None:
        self.random = random.Random(seed)
        self.boxes = boxes
        self.ids: dict[str, list[str]] = {}
        self.tokens = ["none"]
        self.keys = [str(boxes.client.key)] * 12 + [str(boxes.nas.key), str(boxes.backup.key)] * 3 + ["wrong.key", ""]
        self.look()

    def look(self) -> None:
        """Learn what is there: ids by the names that paths have for them."""
        get = self.boxes.client.get
        lists: dict[str, list[Any]] = {
            "system_id": get("/systems"),
            "group_id": get("/sync-groups"),
            "snapshot_id": get("/snapshots?limit=10"),
            "state_id": get("/sync/states?limit=10"),
            "conflict_id": get("/conflicts")["conflicts"],
            "action_id": get("/sync/instructions")["actions"],
        }
        self.ids = {name: [each.get("id") or each["action_id"] for each in found] for name, found in lists.items()}

    def rarely(self, share: float = 0.1) -> bool:
        return self.random.random() < share

    def one(self, choices: Any) -> Any:
        return self.random.choice(choices)

    def word(self) -> str:
        if self.rarely(0.2):
            return "".join(self.random.choices(string.printable, k=self.random.randrange(12)))
        return str(self.one([*WORDS, NOBODY, *self.one([*self.ids.values()])]))

    def value(self, depth: int = 0) -> Any:
        """Any JSON value."""
        kind = self.random.randrange(7 if depth < 3 else 4)
        if kind == 4:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind >= 5:
            return {self.word(): self.value(depth + 1) for _ in range(self.random.randrange(4))}
        return (self.word(), self.one(NUMBERS), None, self.rarely(0.5))[kind]

    def changed(self, value: Any) -> Any:
        """A value with something in it replaced, left out or added."""
        if isinstance(value, dict) and value and not self.rarely():
            key = self.one(sorted(value))
            changed = {**value, key: self.changed(value[key])}
            if self.rarely(0.3):
                del changed[key]
            if self.rarely(0.3):
                changed[self.word()] = self.value()
            return changed
        if isinstance(value, list) and value and not self.rarely():
            place = self.random.randrange(len(value))
            return [*value[:place], self.changed(value[place]), *value[place : place + self.random.randrange(2)]]
        return self.value()

    def id(self, name: str) -> str:
        """What stands in a path for `<name>`."""
        if name == "exit_status" and not self.rarely():
            return str(self.one([0, 0, 1, 255]))
        fitting = self.ids.get(name)
        return quote(self.word(), safe="") if self.rarely() or not fitting else str(self.one(fitting))

    def query(self, endpoint: Endpoint) -> str:
        """Parameters, of the endpoint's own most often."""
        if not self.rarely(0.25):
            return f"?columns={COLUMNS}" if endpoint.name == "replace_inventory" else ""
        known = list(endpoint.query.__struct_fields__) if endpoint.query is not None else []
        names = [self.one([*known, "limit"]) if not self.rarely() else self.word() for _ in range(self.one([1, 1, 2]))]
        return "?" + "&".join(f"{quote(name)}={quote(self.word())}" for name in names)

    def body(self, endpoint: Endpoint) -> tuple[bytes, str]:
        """A body and its Content-Type."""
        if endpoint.name == "replace_inventory" and not self.rarely(0.3):
            return self.listing(), TSV
        good = GOOD_BODIES.get(endpoint.name, {})
        if endpoint.name in ("report_snapshot", "add_group_system"):
            good = {**good, "system_id": self.one(self.ids["system_id"])}
        whole = json.dumps(good if self.rarely(0.4) else self.changed(good)).encode()
        if self.rarely(0.05):
            whole = whole[: self.random.randrange(len(whole) + 1)]
        return whole, "application/json" if not self.rarely(0.05) else self.one([TSV, "text/plain", ""])

    def listing(self) -> bytes:
        lines = listing("tank: 1 2 3", "tank/a: a1 a2X +5", "vault/nas: 1").splitlines(keepends=True)
        for _ in range(self.one([0, 0, 1, 2])):
            place = self.random.randrange(len(lines))
            fields = lines[place].split("\t")
            fields[self.random.randrange(len(fields))] = self.word()
            lines[place] = "\t".join(fields)
        if self.rarely(0.3):
            self.random.shuffle(lines)
        return "".join(lines[: self.random.randrange(len(lines) + 1)]).encode("utf-8", "replace")

    def headers(self) -> dict[str, str]:
        found = {"X-API-Key": self.one(self.keys)}
        for name, values in HEADERS.items():
            if self.rarely():
                found[name] = self.one(values)
        if self.rarely(0.5):
            found["X-Lease-Token"] = self.one(self.tokens)
            found["X-Received-Guid"] = self.one(
                ["1", "3", "97001", "97002", "-", self.word().encode("ascii", "ignore").decode().strip() or "-"]
            )
        return {name: "".join(each for each in value if each.isprintable()) for name, value in found.items()}


HEADERS = {
    "Accept": [TSV, "text/x-shellscript", "*/*", "nonsense", ""],
    "If-None-Match": ["*", '"x"', "W/", ","],
    "If-Match": ["*", '"x"', ",,"],
    "Content-Encoding": ["gzip", "br", "identity", "GZIP"],
    "X-Forwarded-For": ["1.2.3.4", "x", ",,"],
    "Authorization": ["Bearer x", "Basic", ""],
}
GOOD_BODIES: dict[str, Any] = {
    **BODIES,
    "change_system": {"hostname": "nas", "ssh_port": 22, "metadata": {"a": [1]}, "ssh_user": "root"},
    "report_heartbeat": {"inventory_digest": "0" * 64, "metadata": {}},
    "replace_inventory": {"datasets": [{"name": "tank", "guid": 1, "snapshots": [{"name": "s1", "guid": "1"}]}]},
    "report_snapshot": {**BODIES["report_snapshot"], "timestamp": "2026-11-22T14:00:00Z", "size": 5, "metadata": {}},
    "report_snapshots": [{"dataset": "tank", "name": f"b{number}", "guid": number} for number in range(50, 53)],
    "create_sync_group": {"name": "new", "members": {}, "datasets": {"include": ["**"]}, "window": "22:00-06:00"},
    "change_sync_group": {"description": "x", "system_ids": [], "paused": {"systems": []}, "properties": {"a": "b"}},
    "report_progress": {"bytes_done": 5, "bytes_total": 10},
    "resolve_conflict": {"strategy": "use_newest", "resolution_data": {"discard": True}},
}


def send(chance: Chance, app: TestApp) -> Any:
    """One request and its answer."""
    endpoint = chance.one([row for row in ENDPOINTS if row.name not in ("forget_system", "revoke_api_key")])
    path = re.sub(r"<(\w+)>", lambda match: chance.id(match[1]), endpoint.path)
    body, kind = chance.body(endpoint)
    headers = chance.headers()
    if headers.get("Content-Encoding", "").lower() == "gzip" and not chance.rarely(0.2):
        body = gzip.compress(body)
    method = (
        endpoint.method if not chance.rarely(0.05) else chance.one(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"])
    )
    if method in ("GET", "HEAD", "DELETE"):
        body = b""
    url = BASE + path + chance.query(endpoint)
    answer = app.request(url, method=method, body=body, headers={**headers, "Content-Type": kind}, expect_errors=True)
    assert answer.status_code not in (500, 507), f"{method} {url} {headers} {body[:2000]!r}: {answer.text}"
    return answer


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_is_sent_makes_it_fail(make_witness: Any, seed: int) -> None:
    limits = "{failed_auth: 900000/second}"
    boxes = empty_boxes(make_witness, MEDIA.replace("media", "fixed"), rate_limits=limits, max_inventory_bytes=100_000)
    boxes.nas.report(listing("tank: 1 2 3", "tank/a: a1 a2"), COLUMNS)
    boxes.backup.report(listing("vault:", "vault/nas: 1 2", "vault/nas/a: a1 a3X"), COLUMNS)
    app = TestApp(make_app(boxes.client.witness), lint=False)
    chance = Chance(seed, boxes)
    statuses: dict[int, int] = {}
    for call in range(CALLS):
        if call % 50 == 0:
            chance.look()
        answer = send(chance, app)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if answer.status_code >= 400 and answer.body:
            assert {"detail", "status_code"} <= set(answer.json)
        if token := answer.headers.get("X-Lease-Token"):
            chance.tokens = [*chance.tokens[-5:], token]
    assert {200, 201, 204, 400, 401, 403, 404, 422} <= set(statuses), statuses  # all of the API was reached
    assert_readable(boxes, make_witness)


def assert_readable(boxes: Boxes, make_witness: Any) -> None:
    """All that can be read is, by a witness that has just been started on the same store."""
    from tests.witness import client_of

    again = client_of(make_witness(MEDIA.replace("media", "fixed")))
    assert again.app.get("/health/ready").json["status"] == "ready"
    for path in (
        "/systems",
        "/snapshots",
        "/snapshots/statistics",
        "/sync/states?per=snapshot",
        "/conflicts",
        "/events",
    ):
        assert again.call("GET", path).status_code == 200
    for group in again.get("/sync-groups"):
        for part in ("instructions", "status", "prunable"):
            assert again.call("GET", f"/sync/{group['id']}/{part}").status_code == 200
    for system in again.get("/systems"):
        again.call("GET", f"/systems/{system['id']}/inventory", headers={"Accept": TSV}, status=200)
    again.with_key(str(boxes.client.key)).call("GET", "/snapshots/history", status=200)
