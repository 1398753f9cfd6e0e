"""What holds for every row of ENDPOINTS: who may call, what is refused and how, and what each answer carries."""

import errno
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from handlers.request import Endpoint
from handlers.routes import ENDPOINTS
from store import REGISTRY, Store
from tests.witness import BASE, NOBODY, TSV, Client, client_of, place_of

# Beside the admin, who may do everything. "self": the system of the path; "members": systems in the group of the
# path; "agents": any, who then see and do what is their own.
WHO = {
    "show_health": {"anyone"},
    "show_readiness": {"anyone"},
    "show_liveness": {"anyone"},
    "show_public_key": {"anyone"},
    "show_metrics": {"viewer"},
    "show_openapi": {"anyone"},
    "register_system": {"enroll"},
    "list_systems": {"viewer"},
    "list_system_health": {"viewer", "agents"},
    "show_system": {"viewer", "self"},
    "change_system": {"self"},
    "forget_system": set(),
    "show_system_health": {"viewer", "self"},
    "report_heartbeat": {"self"},
    "rotate_api_key": {"self"},
    "revoke_api_key": {"self"},
    "replace_inventory": {"self"},
    "show_inventory": {"viewer", "self"},
    "accept_inventory": set(),
    "report_snapshot": {"agents"},
    "report_snapshots": {"agents"},
    "list_snapshots": {"viewer", "agents"},
    "list_history": {"viewer", "agents"},
    "show_statistics": {"viewer", "agents"},
    "show_snapshot": {"viewer", "agents"},
    "forget_snapshot": {"agents"},
    "create_sync_group": set(),
    "list_sync_groups": {"viewer", "agents"},
    "show_sync_group": {"viewer", "members"},
    "change_sync_group": set(),
    "delete_sync_group": set(),
    "add_group_system": set(),
    "remove_group_system": set(),
    "show_own_instructions": {"viewer", "agents"},
    "show_system_instructions": {"viewer", "self"},
    "list_states": {"viewer", "agents"},
    "show_state": {"viewer", "agents"},
    "start_action": {"agents"},
    "report_progress": {"agents"},
    "finish_action": {"agents"},
    "show_instructions": {"viewer", "members"},
    "check_sync_group": {"members"},
    "show_status": {"viewer", "members"},
    "show_prunable": {"viewer", "members"},
    "list_conflicts": {"viewer", "agents"},
    "show_group_conflicts": {"viewer", "members"},
    "resolve_conflict": set(),
    "list_events": {"viewer"},
}
# A body that each endpoint takes, where it needs one.
BODIES: dict[str, Any] = {
    "register_system": {"hostname": "new"},
    "change_system": {},
    "report_heartbeat": {},
    "report_snapshot": {"dataset": "tank", "name": "new", "guid": "77"},
    "report_snapshots": [],
    "create_sync_group": {"name": "new"},
    "change_sync_group": {},
    "add_group_system": {"system_id": NOBODY},
    "report_progress": {"bytes_done": 1},
    "resolve_conflict": {"strategy": "ignore"},
}
UNKNOWN_IS_GONE = {"start_action", "report_progress", "finish_action"}  # 410: the plan has no such action (any more)

every_endpoint = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.name}"
)


def rows(chosen: Callable[[Endpoint], Any]) -> Any:
    """Parametrize with the rows that a condition chooses."""
    return pytest.mark.parametrize("endpoint", [*filter(chosen, ENDPOINTS)], ids=lambda endpoint: endpoint.name)


class Sent:
    """An endpoint called with good arguments, unless a test says otherwise. Answers any status."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.agent = client.register("nas")
        self.other = client.register("elsewhere")
        self.agent.report("tank\tfilesystem\t1\t1\t1700000000\t0\t0\t0\toff\t-\t-\n")
        group = client.call("POST", "/sync-groups", {"name": "all", "system_ids": [self.agent.id]}).json
        self.ids = {"system_id": self.agent.id, "group_id": group["id"], "exit_status": "0"}

    def path(self, endpoint: Endpoint, unknown: str | None = None) -> str:
        """The endpoint's path with ids filled in: those that are there, or `unknown`."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            return self.ids["exit_status"] if name == "exit_status" else unknown or self.ids.get(name, NOBODY)

        return re.sub(r"<(\w+)>", value, endpoint.path)

    def __call__(
        self, endpoint: Endpoint, by: Client | None = None, *, path: str | None = None, body: Any = None, **options: Any
    ) -> Any:
        by = by or self.client
        json = BODIES.get(endpoint.name) if body is None else body
        path = path or self.path(endpoint)
        if endpoint.name == "replace_inventory":
            options["headers"] = {"Content-Type": TSV, **options.get("headers", {})}
        if endpoint.callers.agents == "any" and isinstance(json, dict) and "dataset" in json and by is self.client:
            json = {**json, "system_id": self.agent.id}
        return by.call(endpoint.method, path, json, expect_errors=True, **options)


@pytest.fixture
def sent(client: Client) -> Sent:
    return Sent(client)


def assert_refused(response: Any, *statuses: int) -> None:
    """The answer is one of these errors, in the shape that all errors have."""
    assert response.status_code in statuses, response.text
    assert response.content_type == "application/json"
    said = response.json
    assert said["status_code"] == response.status_code
    assert said["detail"]
    assert set(said) <= {"detail", "status_code", "errors"}
    if response.status_code == 422:
        assert all(set(error) == {"loc", "msg"} and all(error.values()) for error in said["errors"])
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])


# --- who may call --------------------------------------------------------------------------------


def test_the_table_of_callers_has_every_endpoint() -> None:
    assert [endpoint.name for endpoint in ENDPOINTS] == list(WHO)


def keys_of_all_kinds(sent: Sent) -> dict[str, Client]:
    return {
        "nobody": sent.client.with_key(None),
        "viewer": sent.client.with_role("viewer"),
        "enroll": sent.client.with_role("enroll"),
        "self": sent.agent,
        "other": sent.other,
        "admin": sent.client,  # at last, since it may delete the others' keys
    }


def kinds_that_may(endpoint: Endpoint) -> set[str]:
    """Which of the keys above an endpoint is for. `self` is the system and the member of the paths that are called."""
    who = WHO[endpoint.name]
    if "anyone" in who:
        return {"nobody", "admin", "viewer", "enroll", "self", "other"}
    kinds = {"admin"} | who & {"viewer", "enroll", "self"}
    return kinds | ({"self"} if "members" in who else set()) | ({"self", "other"} if "agents" in who else set())


@every_endpoint
def test_only_those_may_call_whom_the_table_names(sent: Sent, endpoint: Endpoint) -> None:
    for kind, key in keys_of_all_kinds(sent).items():
        if kind == "nobody" and "nobody" not in kinds_that_may(endpoint):
            assert_refused(sent(endpoint, key), 401)
        elif kind not in kinds_that_may(endpoint):
            assert_refused(sent(endpoint, key), 403)
            assert "may not" in sent(endpoint, key).json["detail"] or "no part" in sent(endpoint, key).json["detail"]
        elif kind not in ("self", "other"):  # who revokes its own key is out
            answer = sent(endpoint, key)
            assert answer.status_code not in (401, 403, 500), answer.text


@rows(lambda endpoint: {"self", "members", "agents"} & WHO[endpoint.name])
def test_agents_may_call_what_is_theirs(sent: Sent, endpoint: Endpoint) -> None:
    if endpoint.name in ("show_snapshot", "forget_snapshot"):
        snapshot = sent.agent.call("POST", "/snapshots", BODIES["report_snapshot"]).json
        sent.ids["snapshot_id"] = snapshot["id"]
    if endpoint.name == "show_state":
        sent.ids["state_id"] = sent.agent.get("/sync/states")[0]["id"]
    answer = sent(endpoint, sent.agent)
    assert answer.status_code in ({410} if endpoint.name in UNKNOWN_IS_GONE else {200, 201, 204}), answer.text


@rows(lambda endpoint: "anyone" not in WHO[endpoint.name])
def test_a_wrong_key_is_401(sent: Sent, endpoint: Endpoint) -> None:
    for key in ("nonsense", "admin.wrong-secret", f"{sent.agent.key}x"):
        assert_refused(sent(endpoint, sent.client.with_key(key)), 401)
    assert sent(endpoint, sent.client.with_key("nonsense")).headers["WWW-Authenticate"] == "Bearer"


@rows(lambda endpoint: "<" in endpoint.path and WHO[endpoint.name] & {"self", "members"})
def test_an_agent_learns_nothing_of_what_is_not_its_own(sent: Sent, endpoint: Endpoint) -> None:
    """The same answer for another's id, for one that nothing has, and for one that nothing can have."""
    answers = [
        sent(endpoint, sent.other, path=sent.path(endpoint, unknown)) for unknown in (None, NOBODY, "no-such-id", "%00")
    ]
    for answer in answers:
        assert_refused(answer, 403)
    assert len({answer.body for answer in answers}) == 1


# --- what is refused -----------------------------------------------------------------------------


@rows(lambda endpoint: re.search(r"<(?!exit)", endpoint.path))
@pytest.mark.parametrize("unknown", [NOBODY, "no-such-id", NOBODY.upper(), "%F0%9F%90%98", "a b", "..", "-"])
def test_an_unknown_id_is_404(sent: Sent, endpoint: Endpoint, unknown: str) -> None:
    gone = endpoint.name in UNKNOWN_IS_GONE and unknown == NOBODY
    assert_refused(sent(endpoint, path=sent.path(endpoint, unknown)), 410 if gone else 404)


@every_endpoint
def test_an_unknown_query_parameter_is_422(sent: Sent, endpoint: Endpoint) -> None:
    for name in ("colour", ""):
        answer = sent(endpoint, path=f"{sent.path(endpoint)}?{name}=blue")
        assert_refused(answer, 422)
        assert answer.json["errors"][0]["loc"] == (name or "query")


@every_endpoint
def test_a_parameter_given_twice_or_not_in_utf_8_is_400(sent: Sent, endpoint: Endpoint) -> None:
    for query in ("limit=1&limit=2", "limit=%FF"):
        assert_refused(sent(endpoint, path=f"{sent.path(endpoint)}?{query}"), 400)


def raw(sent: Sent, endpoint: Endpoint, body: bytes, content_type: str = "application/json", **headers: str) -> Any:
    """An endpoint called with these very bytes."""
    call = getattr(sent.client.app, endpoint.method.lower())
    headers = {"X-API-Key": str(sent.client.key), **headers}
    return call(BASE + sent.path(endpoint), body, headers=headers, content_type=content_type, expect_errors=True)


@rows(lambda endpoint: endpoint.body is not None)
def test_a_body_that_is_not_json_is_400(sent: Sent, endpoint: Endpoint) -> None:
    for junk in (b"\xff\xfe", b"nonsense", b"'text'", b"\0", b"NaN"):
        assert_refused(raw(sent, endpoint, junk), 400)
    for later in (b"{", b"[", b"[" * 100_000, b'{"a": ' * 100_000, b'{"a": "\\ud800"}', b'{"a": NaN}', b"{}x"):
        assert_refused(raw(sent, endpoint, later), 400, 422)  # 422 where a wrong type shows before the end does


@rows(lambda endpoint: endpoint.body is not None)
def test_a_body_of_the_wrong_type_is_422(sent: Sent, endpoint: Endpoint) -> None:
    for junk in (b"3", b'"text"', b"null", b'{"no_such_field": 1}', b"[3]"):
        assert_refused(raw(sent, endpoint, junk), 422)


@rows(lambda endpoint: endpoint.body is not None and not endpoint.body_optional)
def test_a_missing_body_is_refused(sent: Sent, endpoint: Endpoint) -> None:
    assert_refused(raw(sent, endpoint, b""), 400)


@rows(lambda endpoint: endpoint.body is not None or endpoint.name == "replace_inventory")
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_a_body_of_another_kind_is_415(sent: Sent, endpoint: Endpoint, kind: str) -> None:
    assert_refused(raw(sent, endpoint, b"x", kind), 415)
    assert_refused(raw(sent, endpoint, b"x", **{"Content-Encoding": "br"}), 415)


@rows(lambda endpoint: endpoint.reads_body)
def test_a_body_over_the_limit_is_413(make_witness: Any, endpoint: Endpoint) -> None:
    limits = {"max_inventory_bytes": 3_000_000}
    sent = Sent(client_of(make_witness(**limits)))
    takes_much = endpoint.name in ("replace_inventory", "report_snapshots")
    limit = 3_000_000 if takes_much else 1 << 20
    kind = TSV if endpoint.name == "replace_inventory" else "application/json"
    assert raw(sent, endpoint, b" " * limit, kind).status_code != 413
    assert_refused(raw(sent, endpoint, b" " * (limit + 1), kind), 413)


# --- what each answer carries --------------------------------------------------------------------


@rows(lambda endpoint: endpoint.method == "GET")
def test_a_get_carries_a_strong_etag_and_honours_it(sent: Sent, endpoint: Endpoint) -> None:
    if endpoint.name in ("show_snapshot", "show_state"):
        sent.agent.call("POST", "/snapshots", BODIES["report_snapshot"])
        sent.ids["snapshot_id"] = sent.client.get("/snapshots")[0]["id"]
        sent.ids["state_id"] = sent.client.get("/sync/states")[0]["id"]
    first = sent(endpoint)
    assert first.status_code == 200
    etag = first.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = sent(endpoint, headers={"If-None-Match": known})
        assert again.status_code == 304, known
        assert again.body == b""
        assert again.headers["ETag"] == etag
        assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    other = sent(endpoint, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.body) == (200, first.body)


@pytest.mark.parametrize("path", ["/systems/{system_id}", "/systems/{system_id}/inventory", "/sync-groups/{group_id}"])
def test_a_put_honours_if_match(sent: Sent, path: str) -> None:
    path = path.format(**sent.ids)
    bodies = {"systems": {"ssh_port": 2222}, "inventory": {"datasets": []}, "sync-groups": {"name": "renamed"}}
    body = next(body for word, body in bodies.items() if word in path.rpartition("/")[0] or path.endswith(word))
    if path.endswith("inventory"):
        body = bodies["inventory"]
    before = sent.client.call("GET", path)
    stale = sent.client.call("PUT", path, body, headers={"If-Match": '"other"'}, expect_errors=True)
    assert_refused(stale, 412)
    assert sent.client.call("GET", path).body == before.body
    fresh = sent.client.call("PUT", path, body, headers={"If-Match": f'"other", {before.headers["ETag"]}'})
    assert fresh.status_code == 200
    again = sent.client.call("PUT", path, body, headers={"If-Match": before.headers["ETag"]}, expect_errors=True)
    assert_refused(again, 412)
    assert sent.client.call("PUT", path, body, headers={"If-Match": "*"}).status_code == 200


def test_what_is_served_nowhere_is_404(client: Client) -> None:
    for path in ("/nothing", "/api/v1/nothing", "/api/v1/systems/", "/api/v2/health", "/nothing%FF"):
        assert_refused(client.app.get(path, expect_errors=True), 404)


def test_another_method_is_405_and_says_which_are_allowed(client: Client) -> None:
    for path in {row.path for row in ENDPOINTS}:
        known = {row.method for row in ENDPOINTS if row.path == path}
        for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"} - known:
            answer = client.app.request(BASE + re.sub(r"<\w+>", NOBODY, path), method=method, expect_errors=True)
            assert_refused(answer, 405)
            assert set(answer.headers["Allow"].split(",")) == known


def test_health_and_the_description_answer_at_the_root_too_and_nothing_else_does(client: Client) -> None:
    for path in ("/health", "/health/ready", "/health/live", "/openapi.json"):
        assert client.app.get(path).json == client.app.get(BASE + path).json
    assert_refused(client.app.get("/systems", expect_errors=True), 404)


@pytest.mark.parametrize("path", ["/%ff", "/he%fealth", "/api/v1/heal%c3th", "/dashboard%ff", "/api/v1/systems%ff"])
def test_a_byte_that_is_no_utf_8_makes_another_path(sent: Sent, path: str) -> None:
    answer = sent.client.app.get(path, headers={"X-API-Key": sent.client.key}, expect_errors=True)
    assert answer.status_code == 404


def test_a_failure_of_our_own_is_a_500_that_tells_nothing_but_where_to_look(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("handlers.systems.present_system", broken)
    answer = sent.client.call("GET", f"/systems/{sent.agent.id}", expect_errors=True)
    assert_refused(answer, 500)
    assert "secret detail" not in answer.text
    assert answer.headers["X-Request-ID"] in answer.json["detail"]
    logged = next(line for line in caplog.records if answer.headers["X-Request-ID"] in line.getMessage())
    assert logged.exc_info is not None


@pytest.mark.on_both
def test_a_lock_that_is_held_too_long_is_503_with_retry_after(make_witness: Any) -> None:
    sent = Sent(client_of(make_witness(lock_timeout_s=0.05)))
    with Store.open(place_of(sent.client.witness)).transaction(REGISTRY):
        answer = sent.client.call("PUT", f"/systems/{sent.agent.id}", {"ssh_port": 23}, expect_errors=True)
        assert sent.client.get(f"/systems/{sent.agent.id}")["ssh_port"] == 22
    assert_refused(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.on_files
def test_a_damaged_file_is_503_that_names_it_and_the_others_still_work(sent: Sent) -> None:
    client, store = sent.client, sent.client.witness.config.data_dir
    file = store / "inventories" / f"{sent.agent.id}.json"
    sent.other.report("tank\tfilesystem\t1\t1\t1700000000\t0\t0\t0\toff\t-\t-\n")
    file.write_bytes(file.read_bytes()[:-20])
    damaged = client.call("GET", f"/systems/{sent.agent.id}/inventory", expect_errors=True)
    assert_refused(damaged, 503)
    assert str(file) in damaged.json["detail"]
    assert client.get(f"/systems/{sent.other.id}/inventory")["datasets"]
    assert len(client.get("/systems")) == 2


@pytest.mark.on_files
def test_a_full_disk_is_507_and_leaves_the_store_as_it_was(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/systems/{sent.agent.id}"
    before = sent.client.get(path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert_refused(sent.client.call("PUT", path, {"ssh_port": 23}, expect_errors=True), 507)
        ready = sent.client.app.get("/health/ready", expect_errors=True)
        assert (ready.status_code, "No space left" in ready.json["detail"]) == (503, True)
        assert sent.client.get(path) == before
    assert sent.client.call("PUT", path, {"ssh_port": 23}).json["ssh_port"] == 23


def test_created_things_say_where_they_are(sent: Sent) -> None:
    for path, body in (
        ("/systems/register", {"hostname": "third"}),
        ("/sync-groups", {"name": "second"}),
        ("/snapshots", {**BODIES["report_snapshot"], "system_id": sent.agent.id}),
    ):
        made = sent.client.call("POST", path, body)
        assert made.status_code == 201
        shown = sent.client.app.get(made.headers["Location"], headers={"X-API-Key": sent.client.key}).json
        assert shown == {name: value for name, value in made.json.items() if name != "api_key"}


def test_a_bearer_token_is_as_good_as_x_api_key(sent: Sent) -> None:
    by_token = {"Authorization": f"Bearer {sent.agent.key}"}
    shown = sent.client.with_key(None).call("GET", f"/systems/{sent.agent.id}", headers=by_token).json
    assert shown["hostname"] == "nas"
