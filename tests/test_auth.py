"""Keys: rotated, revoked, configured; wrong ones counted per address; and whose address that is."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import config
from handlers.auth import client_address, ensure_first_keys
from store import REGISTRY
from tests.store_samples import everything
from tests.witness import ADMIN, BASE, ENROLL, Agent, Client, client_of
from zfs_sync import open_witness


@pytest.fixture
def nas(client: Client) -> Agent:
    return client.register("nas")


def may(client: Client, key: str | None, path: str) -> bool:
    return bool(client.with_key(key).call("GET", path, expect_errors=True).status_code == 200)


# --- rotation and revocation ---------------------------------------------------------------------


def rotate(by: Client, agent: Agent, query: str = "") -> Any:
    return by.call("POST", f"/systems/{agent.id}/api-key/rotate{query}").json


def test_after_a_rotation_both_keys_are_good_for_the_grace_period(client: Client, nas: Agent) -> None:
    own = f"/systems/{nas.id}"
    shown = rotate(nas, nas)
    assert set(shown) == {"system_id", "api_key", "old_key_valid_until"}
    until = datetime.fromisoformat(shown["old_key_valid_until"])
    assert timedelta(hours=23, minutes=59) < until - datetime.now(UTC) <= timedelta(hours=24)
    assert may(client, nas.key, own)
    assert may(client, shown["api_key"], own)
    let_grace_end(client)
    assert not may(client, nas.key, own)
    assert may(client, shown["api_key"], own)


def let_grace_end(client: Client) -> None:
    with client.witness.store.transaction(REGISTRY) as tx:
        for key in tx[REGISTRY].keys.all():
            if key.expires_at is not None:
                tx[REGISTRY].keys.put(msgspec.structs.replace(key, expires_at=datetime.now(UTC)))


def test_the_grace_period_is_a_setting_and_can_be_named(make_witness: Any) -> None:
    client = client_of(make_witness(key_grace_s=10))
    nas = client.register("nas")
    for query, seconds in (("", 10), ("?grace_s=5", 5)):
        until = datetime.fromisoformat(rotate(client, nas, query)["old_key_valid_until"])
        assert until - datetime.now(UTC) == pytest.approx(timedelta(seconds=seconds), abs=timedelta(seconds=2))
    for wrong in ("-1", "x", "1.5", str(2**63)):
        client.call("POST", f"/systems/{nas.id}/api-key/rotate?grace_s={wrong}", status=422)


def test_no_grace_ends_the_old_key_at_once(client: Client, nas: Agent) -> None:
    new = rotate(client, nas, "?grace_s=0")["api_key"]
    assert not may(client, nas.key, f"/systems/{nas.id}")
    assert may(client, new, f"/systems/{nas.id}")


def test_another_rotation_does_not_prolong_an_old_keys_grace(client: Client, nas: Agent) -> None:
    second = rotate(client, nas, "?grace_s=5")["api_key"]
    rotate(client, nas, "?grace_s=1000")
    keys = client.witness.store.read(REGISTRY).keys
    ends = {key.id: key.expires_at for key in keys.find(system_id=nas.id)}
    assert ends[str(nas.key).partition(".")[0]] < datetime.now(UTC) + timedelta(seconds=6)
    assert ends[second.partition(".")[0]] > datetime.now(UTC) + timedelta(seconds=900)


def test_a_revoked_key_is_refused_and_an_admin_can_make_another(client: Client, nas: Agent) -> None:
    second = rotate(nas, nas)["api_key"]
    assert nas.call("DELETE", f"/systems/{nas.id}/api-key", status=204).body == b""
    for key in (nas.key, second):
        client.with_key(key).call("GET", f"/systems/{nas.id}", status=401)
    assert may(client, rotate(client, nas)["api_key"], f"/systems/{nas.id}")


def test_an_agents_key_is_for_its_own_system(client: Client, nas: Agent) -> None:
    other = client.register("other")
    for method, path in (("POST", "api-key/rotate"), ("DELETE", "api-key")):
        other.call(method, f"/systems/{nas.id}/{path}", status=403)
    assert may(client, nas.key, f"/systems/{nas.id}")


def test_keys_are_as_long_as_configured(make_witness: Any) -> None:
    client = client_of(make_witness(api_key_length=50))
    nas = client.register("nas")
    for key in (str(nas.key), rotate(client, nas)["api_key"]):
        assert len(key.partition(".")[2]) == 50
    assert len(str(client_of(make_witness()).register("other").key).partition(".")[2]) == 32


# --- the first keys, and those of the configuration ----------------------------------------------


def opened(folder: Path, **environ: str) -> Any:
    folder.mkdir(exist_ok=True)
    return open_witness(config.load(None, {"ZFS_SYNC_DATA_DIR": str(folder), **environ}))


def test_a_new_store_gets_an_admin_and_an_enroll_key_shown_once(tmp_path: Path) -> None:
    witness = opened(tmp_path / "data")
    shown = ensure_first_keys(witness.store, witness.config, datetime.now(UTC))
    assert set(shown) == {"admin", "enroll"}
    assert ensure_first_keys(witness.store, witness.config, datetime.now(UTC)) == {}
    client = client_of(witness)
    assert may(client, shown["admin"], "/events")
    assert not may(client, shown["enroll"], "/events")
    assert client.with_key(shown["enroll"]).register("nas").id


def test_a_changed_admin_key_replaces_the_old_one(tmp_path: Path) -> None:
    second = "admin.ffffffffffffffffffffffffffffffff"
    other_id = "root.ffffffffffffffffffffffffffffffff"
    folder = tmp_path / "data"
    for key, refused in ((ADMIN, second), (second, ADMIN), (other_id, second), (ADMIN, other_id)):
        client = client_of(opened(folder, ZFS_SYNC_ADMIN_KEY=key, ZFS_SYNC_ENROLL_KEY=ENROLL))
        assert may(client, key, "/events")
        assert not may(client, refused, "/events")
    assert len(client.witness.store.read(REGISTRY).keys.find(role="admin")) == 1


def test_keys_are_good_for_one_secret_only(tmp_path: Path) -> None:
    first = client_of(opened(tmp_path / "data", ZFS_SYNC_SECRET_KEY="one-secret-of-many", ZFS_SYNC_ADMIN_KEY=ADMIN))
    nas = first.register("nas")
    other = client_of(opened(tmp_path / "data", ZFS_SYNC_SECRET_KEY="another-secret-here", ZFS_SYNC_ADMIN_KEY=ADMIN))
    assert may(other, ADMIN, "/events")
    assert not may(other, nas.key, f"/systems/{nas.id}")


# --- wrong keys ----------------------------------------------------------------------------------


@pytest.fixture
def strict(make_witness: Any) -> Client:
    """Three wrong keys a minute, ten registrations; behind a proxy at 10.0.0.1."""
    limits = "{failed_auth: 3/minute, registration: 2/minute}"
    return client_of(make_witness(rate_limits=limits, trusted_proxies="[10.0.0.0/30, '::1']"))


def get(client: Client, key: str | None, address: str = "192.0.2.1", forwarded: str | None = None) -> Any:
    headers = {**({"X-API-Key": key} if key else {}), **({"X-Forwarded-For": forwarded} if forwarded else {})}
    where = {"REMOTE_ADDR": address}
    return client.app.get(f"{BASE}/systems", headers=headers, extra_environ=where, expect_errors=True)


def test_wrong_keys_are_limited_per_address(strict: Client) -> None:
    for _ in range(3):
        assert get(strict, "wrong").status_code == 401
    refused = get(strict, "wrong.again")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.json["status_code"] == 429
    assert get(strict, "wrong", address="192.0.2.2").status_code == 401


def test_a_right_key_is_never_refused_for_its_addresss_failures(strict: Client) -> None:
    for _ in range(5):
        get(strict, "wrong")
    assert get(strict, ADMIN).status_code == 200
    assert get(strict, "wrong").status_code == 429


def test_no_key_is_not_an_attempt(strict: Client) -> None:
    for _ in range(10):
        assert get(strict, None).status_code == 401
    assert get(strict, "wrong").status_code == 401
    for _ in range(5):
        get(strict, "wrong")
    assert get(strict, None).status_code == 401


def test_a_key_without_the_right_is_not_an_attempt(strict: Client) -> None:
    for _ in range(6):
        assert get(strict, ENROLL).status_code == 403
    assert get(strict, "wrong").status_code == 401


def test_registrations_are_limited_per_address_but_not_an_admins(strict: Client) -> None:
    enroll = strict.with_key(ENROLL)
    for name in ("a", "b"):
        enroll.call("POST", "/systems/register", {"hostname": name}, status=201)
    refused = enroll.call("POST", "/systems/register", {"hostname": "c"}, status=429)
    assert int(refused.headers["Retry-After"]) >= 1
    for name in ("d", "e", "f"):
        strict.register(name)


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # not a proxy of ours: what it says does not count
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),  # the first is what the caller made up
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("::1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.5", "198.51.100.7", "10.0.0.5"),
        ("", "198.51.100.7", "unknown"),
    ],
)
def test_the_callers_address(peer: str, forwarded: str | None, counted: str) -> None:
    environ = {"REMOTE_ADDR": peer, **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
    assert client_address(environ, ("10.0.0.0/30", "::1")) == counted


def test_behind_a_proxy_the_forwarded_address_is_limited(strict: Client) -> None:
    for _ in range(4):
        get(strict, "wrong", "10.0.0.1", "198.51.100.7")
    assert get(strict, "wrong", "10.0.0.1", "198.51.100.7").status_code == 429
    assert get(strict, "wrong", "10.0.0.1", "198.51.100.8").status_code == 401
    assert strict.get("/events")[0]["address"] == "198.51.100.8"


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "admin",
        "admin.",
        ".secret",
        "admin.x",
        f"{ADMIN}.",
        "ä.ö",
        "a b.c",
        "x" * 5000,
        "../registry.x",
    ],
)
def test_what_is_no_key_is_401(client: Client, key: str) -> None:
    client.with_key(None).call("GET", "/systems", headers={"X-API-Key": key}, status=401)
    client.with_key(None).call("GET", "/systems", headers={"Authorization": f"Bearer {key}"}, status=401)


@pytest.mark.parametrize("header", ["Basic YWRtaW46eA==", "Bearer", "Bearer ", "bearerish x"])
def test_another_authorization_is_no_key(client: Client, header: str) -> None:
    refused = client.with_key(None).call("GET", "/systems", headers={"Authorization": header}, status=401)
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_a_wrong_secret_and_an_unknown_id_are_told_apart_by_nobody(client: Client) -> None:
    answers = [client.with_key(key).call("GET", "/systems", status=401) for key in ("admin.wrong", "nobody.wrong")]
    assert answers[0].body == answers[1].body


def test_no_log_line_and_no_error_holds_a_key(client: Client, nas: Agent, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = f"{str(nas.key)[:-4]}zzzz"
    answers = [
        nas.call("GET", f"/systems/{nas.id}"),
        client.with_key(wrong).call("GET", "/systems", status=401),
        nas.call("GET", "/systems", status=403),
        nas.call("PUT", f"/systems/{nas.id}", {"nonsense": nas.key}, status=422),
    ]
    new = rotate(client, nas)["api_key"]
    said = "\n".join(record.getMessage() for record in caplog.records) + "".join(each.text for each in answers)
    said += b"".join(everything(client.witness.store).values()).decode()
    for key in (str(nas.key), wrong, new, ADMIN):
        assert key.partition(".")[2] not in said
