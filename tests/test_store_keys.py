"""API keys: made, hashed, split and compared."""

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.documents import Key
from store.keys import hash_secret, key_matches, new_key, split_key
from tests.store_samples import NOON

SECRET = b"s" * 32


def key_with(secret: str) -> Key:
    return Key(id="k", role="admin", hash=hash_secret(SECRET, secret), created_at=NOON)


def test_a_new_key_is_random_long_enough_and_fit_for_a_header() -> None:
    keys = [new_key() for _ in range(50)]
    assert len({id for id, _ in keys}) == len({secret for _, secret in keys}) == 50
    assert all(len(secret) == 32 for _, secret in keys)
    assert len(new_key(48)[1]) == 48
    for id, secret in keys:
        assert split_key(f"{id}.{secret}") == (id, secret)
        assert f"{id}{secret}".isascii()
        assert f"{id}{secret}".isalnum()


def test_only_the_keyed_hash_is_kept() -> None:
    assert hash_secret(SECRET, "abc") == hmac.new(SECRET, b"abc", hashlib.sha256).hexdigest()
    assert hash_secret(SECRET, "abc") != hash_secret(b"t" * 32, "abc")


def test_a_key_matches_its_own_secret_and_store_only() -> None:
    assert key_matches(SECRET, key_with("right"), "right")
    assert not key_matches(SECRET, key_with("right"), "wrong")
    assert not key_matches(SECRET, key_with("right"), "")
    assert not key_matches(b"t" * 32, key_with("right"), "right")


@pytest.mark.parametrize(
    "text",
    ["", ".", "a", "a.", ".b", "a b.c", "a.b c", "ä.b", "a.ä", "a.b\n", "a\n.b", "x" * 65 + ".b", "a." + "x" * 257],
)
def test_what_is_no_key_is_not_split(text: str) -> None:
    assert split_key(text) is None


def test_a_freely_chosen_key_is_split_at_its_first_dot() -> None:
    assert split_key("home-admin_1.correct.horse/battery=+") == ("home-admin_1", "correct.horse/battery=+")


@settings(deadline=None)
@given(st.text())
def test_splitting_never_fails(text: str) -> None:
    found = split_key(text)
    assert found is None or ".".join(found) == text
    if found:
        assert key_matches(SECRET, key_with(found[1]), found[1])
