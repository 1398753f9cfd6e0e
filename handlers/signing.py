"""Plans are signed with Ed25519, so that an agent can tell that nobody changed one on its way.

The signing key follows from the service's secret and, once it was rotated, from a random id in the store: there is no
further file to keep, and every instance has the same one.
"""

import base64
import hmac
from datetime import datetime
from functools import lru_cache
from typing import Any

from store import REGISTRY, Store


def sign_plan(store: Store, body: bytes, expires: str, now: datetime) -> str:
    """X-Plan-Signature: Ed25519 over the body followed by the value of X-Plan-Expires, in base64."""
    return _signature(store.secret, ids_of_keys(store, now)[0], body, expires)


@lru_cache(maxsize=32)  # agents ask again and again for what has not changed
def _signature(secret: bytes, id: str, body: bytes, expires: str) -> str:
    return base64.b64encode(_key(secret, id).sign(body + expires.encode("ascii"))).decode("ascii")


def public_keys_pem(store: Store, now: datetime) -> bytes:
    """The public half of the key that signs and, after it, of the one that will once its grace is over; as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = (_key(store.secret, id).public_key() for id in ids_of_keys(store, now))
    return b"".join(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in public)


def ids_of_keys(store: Store, now: datetime) -> list[str]:
    """The id of the key that signs and, after it, of the one that will. "" is the one that was never rotated."""
    known = sorted(store.read(REGISTRY).signing_keys, key=lambda key: key.signs_from)
    due = ["", *(key.id for key in known if key.signs_from <= now)]
    return [due[-1], *(key.id for key in known if key.signs_from > now)]


@lru_cache(maxsize=4)
def _key(secret: bytes, id: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(hmac.digest(secret, f"zfs-sync plan signing{id}".encode(), "sha256"))
