"""Keys as an admin handles them: listed without their secrets, made, rotated and revoked."""

import secrets
from datetime import datetime, timedelta
from typing import Any

import msgspec

from handlers.auth import CONFIGURED, make_key
from handlers.bodies import LONGEST_GRACE_S
from handlers.errors import Conflicting, Invalid
from handlers.events import record
from handlers.request import Request
from handlers.signing import ids_of_keys, public_keys_pem
from store import REGISTRY
from store.documents import Key, Role, SigningKey


def list_keys(request: Request) -> list[dict[str, Any]]:
    """Every key without its secret, by role and age."""
    registry = request.store.read(REGISTRY)
    hostnames = {system.id: system.hostname for system in registry.systems.all()}
    return [
        {
            "id": key.id,
            "role": key.role,
            "hostname": hostnames.get(key.system_id or ""),
            "label": key.label,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
        }
        for key in sorted(registry.keys.all(), key=lambda key: (key.role, key.created_at))
    ]


def create_key(request: Request, role: Role, system_id: str | None = None, label: str = "") -> str:
    """Make a further key; its text, to be shown once. An agent's is bound to its system."""
    assert (role == "agent") == (system_id is not None)
    length = request.config.api_key_length
    made, text = make_key(request.store, role, request.now, length=length, system_id=system_id)
    key = msgspec.structs.replace(made, label=label)
    with request.store.transaction(REGISTRY) as tx:
        if system_id is not None:
            tx[REGISTRY].systems.get(system_id)
        tx[REGISTRY].keys.put(key)
        record(request, "key.created", subject=key.id, system_id=system_id, role_given=role)
    return text


def rotate_key(request: Request, key_id: str, grace_s: int | None = None) -> str:
    """Make a key like this one, which stays valid for the grace period; the new one's text, to be shown once."""
    config = request.config
    with request.store.transaction(REGISTRY) as tx:
        keys = tx[REGISTRY].keys
        old = _changeable(keys.get(key_id))
        made, text = make_key(
            request.store, old.role, request.now, length=config.api_key_length, system_id=old.system_id
        )
        end = request.now + timedelta(seconds=config.key_grace_s if grace_s is None else grace_s)
        if end <= request.now:
            keys.remove(old.id)
        else:
            keys.put(msgspec.structs.replace(old, expires_at=min(filter(None, (old.expires_at, end)))))
        keys.put(msgspec.structs.replace(made, label=old.label))
        record(request, "key.rotated", subject=key_id, system_id=old.system_id, key=made.id)
    return text


def rotate_signing_key(request: Request, grace_s: int | None = None) -> tuple[str, datetime]:
    """Make a new key that signs plans; the public keys as agents should have them until then, and when that is.

    Raises Conflicting while another one waits for its time, unless the new one is to sign at once.
    """
    grace = timedelta(seconds=request.config.key_grace_s if grace_s is None else grace_s)
    made = SigningKey(id=secrets.token_hex(16), made_at=request.now, signs_from=request.now + grace)
    with request.store.transaction(REGISTRY) as tx:
        known = tx[REGISTRY].signing_keys
        signing, *waiting = ids_of_keys(request.store, request.now)
        if waiting and grace:
            from_when = known.get(waiting[0]).signs_from
            raise Conflicting(f"the new signing key made before signs from {from_when:%Y-%m-%dT%H:%M:%SZ} on")
        for old in known.all():
            if old.id != signing or not grace:
                known.remove(old.id)
        known.put(made)
        record(request, "signing_key.rotated", subject=made.id, signs_from=made.signs_from)
    return public_keys_pem(request.store, request.now).decode(), made.signs_from


def require_grace(grace_s: int | None) -> None:
    """Raise Invalid for a grace period that no key can have."""
    if grace_s is not None and not 0 <= grace_s <= LONGEST_GRACE_S:
        raise Invalid.at("grace", f"expected seconds, 0 to {LONGEST_GRACE_S}")


def revoke_key(request: Request, key_id: str) -> None:
    """Make a key worthless at once. Raises NotFound."""
    with request.store.transaction(REGISTRY) as tx:
        old = _changeable(tx[REGISTRY].keys.get(key_id))
        tx[REGISTRY].keys.remove(key_id)
        record(request, "key.revoked", subject=key_id, system_id=old.system_id)


def _changeable(key: Key) -> Key:
    if key.label == CONFIGURED:
        raise Conflicting(f"the key '{key.id}' is set by {key.role}_key in the configuration: change it there")
    return key
