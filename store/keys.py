"""API keys: `<id>.<secret>`. The id finds the key, and of the secret only a keyed hash is stored.

A slow hash protects secrets that people choose; these are random, and it would cost every request half a second.
"""

import hashlib
import hmac
import re
import secrets
import string

from store.documents import Key

ALPHABET = string.ascii_letters + string.digits
ID_LENGTH = 12

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET = re.compile(r"[!-~]{1,256}")  # printable ASCII without the space: what a header can carry


def new_key(length: int = 32) -> tuple[str, str]:
    """A new key's id, and its secret of that many letters and digits."""
    return _random(ID_LENGTH), _random(length)


def split_key(key: str) -> tuple[str, str] | None:
    """The id and the secret of a key as a caller sends it; None if it can't be one."""
    id, dot, secret = key.partition(".")
    if dot and _ID.fullmatch(id) and _SECRET.fullmatch(secret):
        return id, secret
    return None


def hash_secret(store_secret: bytes, secret: str) -> str:
    """What is stored of a key's secret: HMAC-SHA-256, hex. Without the store's own secret it can't even be tested."""
    return hmac.new(store_secret, secret.encode(), hashlib.sha256).hexdigest()


def key_matches(store_secret: bytes, key: Key, secret: str) -> bool:
    """Whether this is the key's secret, in a time that doesn't tell how much of it is right."""
    return hmac.compare_digest(key.hash, hash_secret(store_secret, secret))


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
