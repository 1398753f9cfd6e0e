"""The key that signs plans is rotated, and no agent stops that got the next one in time."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import config
from handlers.errors import Conflicting
from handlers.keys import rotate_signing_key
from handlers.local import request_here
from tests.test_agent_witness import ADMIN, ENROLL, GROUP, Site, other_key, running_site
from tests.witness import Client, client_of
from zfs_sync import open_witness

END = "-----END PUBLIC KEY-----\n"


def public_keys(client: Client) -> list[str]:
    """What /public-key gives, a PEM each."""
    text: str = client.with_key(None).call("GET", "/public-key").text
    return [part + END for part in text.split(END)[:-1]]


def signs(client: Client, pem: str) -> bool:
    """Whether plans are signed with this key now."""
    answer = client.call("GET", "/sync/instructions")
    signature = base64.b64decode(answer.headers["X-Plan-Signature"])
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    try:
        key.verify(signature, answer.body + answer.headers["X-Plan-Expires"].encode())
    except InvalidSignature:
        return False
    return True


def rotate(client: Client, grace_s: int, ago_s: int = 0) -> None:
    rotate_signing_key(request_here(client.witness, now=datetime.now(UTC) - timedelta(seconds=ago_s)), grace_s)


def test_the_next_key_is_shown_first_and_signs_after_its_grace(client: Client) -> None:
    (first,) = public_keys(client)
    rotate(client, grace_s=100)
    assert public_keys(client)[0] == first
    (_, second) = public_keys(client)
    assert (signs(client, first), signs(client, second)) == (True, False)


@pytest.mark.parametrize(("grace_s", "ago_s"), [(100, 200), (0, 0)])
def test_after_the_grace_the_old_key_is_nobodys(client: Client, grace_s: int, ago_s: int) -> None:
    (first,) = public_keys(client)
    rotate(client, grace_s, ago_s)
    (second,) = public_keys(client)
    assert second != first
    assert (signs(client, first), signs(client, second)) == (False, True)


def test_keys_follow_one_another(client: Client) -> None:
    seen = public_keys(client)
    for round in range(3):
        rotate(client, grace_s=100, ago_s=1000 - 300 * round)
        seen += public_keys(client)
        assert signs(client, seen[-1])
    assert len(set(seen)) == 4
    rotate(client, grace_s=100)
    assert public_keys(client)[0] == seen[-1]
    assert signs(client, seen[-1])


def test_a_second_one_waits_for_the_first_unless_it_signs_at_once(client: Client) -> None:
    rotate(client, grace_s=100)
    announced = public_keys(client)
    with pytest.raises(Conflicting, match="signs from"):
        rotate(client, grace_s=100)
    assert public_keys(client) == announced
    rotate(client, grace_s=0)
    (now,) = public_keys(client)
    assert now not in announced
    assert signs(client, now)


@pytest.mark.on_both
def test_every_instance_on_the_store_has_the_same_keys(make_witness: Any) -> None:
    one, other = client_of(make_witness()), client_of(make_witness())
    before = public_keys(other)
    rotate(one, grace_s=0)
    assert public_keys(other) == public_keys(one) != before
    assert signs(other, public_keys(one)[0])


def test_the_rotation_is_in_the_audit_trail(client: Client) -> None:
    rotate(client, grace_s=100)
    (event,) = client.get("/events?what=signing_key.rotated")
    assert event["who"].startswith("local:")
    assert datetime.fromisoformat(event["detail"]["signs_from"]) > datetime.now(UTC)


# --- agents --------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path, GROUP) as made:
        yield made


def test_agents_take_plans_that_any_of_their_keys_signed(site: Site) -> None:
    environ = {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}
    client = client_of(open_witness(config.load(site.folder / "zfs_sync.yaml", environ))).with_key(ADMIN)
    pem = site.folder / "witness.pem"
    site.hosts["nas"].configure(public_key=pem)
    (old,) = public_keys(client)

    def accepted() -> list[str]:
        found = []
        for name, text in held.items():
            pem.write_text(text)
            run = site.hosts["nas"].agent("plan")
            assert run.returncode == 0 or "its signature is not the witness's" in run.stderr, run.stderr
            found += [name] * (run.returncode == 0)
        return found

    rotate(client, grace_s=100)
    (_, new) = public_keys(client)
    foreign = other_key(site.folder).read_text()
    held = {"old": old, "new": new, "both": old + new, "all": foreign + new + old, "foreign": foreign, "none": ""}
    assert accepted() == ["old", "both", "all"]
    rotate(client, grace_s=0)
    assert accepted() == []
    held["new"] = public_keys(client)[0]
    held["both"] = old + held["new"]
    held["all"] = foreign + held["both"]
    assert accepted() == ["new", "both", "all"]
