"""Plans are signed with Ed25519, so that an agent can tell that nobody changed one on its way."""

import base64
import hmac
from functools import lru_cache
from typing import Any


def sign_plan(secret: bytes, body: bytes, expires: str) -> str:
    """X-Plan-Signature: Ed25519 over the body followed by the value of X-Plan-Expires, in base64."""
    return base64.b64encode(_signing_key(secret).sign(body + expires.encode("ascii"))).decode("ascii")


def public_key_pem(secret: bytes) -> bytes:
    """The public half of the signing key, as PEM."""
    from cryptography.hazmat.primitives import serialization

    pem: bytes = (
        _signing_key(secret)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem


@lru_cache(maxsize=4)
def _signing_key(secret: bytes) -> Any:
    """The signing key. It follows from the service's secret, so that there is no further file to keep."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(hmac.digest(secret, b"zfs-sync plan signing", "sha256"))
