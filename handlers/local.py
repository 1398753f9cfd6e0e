"""The API without HTTP, for whoever may read and write the data folder: that alone makes them an admin."""

import getpass
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from handlers.auth import CONFIGURED, ensure_first_keys, make_key
from handlers.errors import Conflicting
from handlers.events import record
from handlers.request import Answer, Caller, Request, Witness
from handlers.routes import ENDPOINTS
from handlers.wire import encode_json
from store import REGISTRY, NotFound
from store.documents import Key, Role

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}


def request_here(
    witness: Witness,
    *,
    now: datetime | None = None,
    caller: Caller | None = None,
    headers: Mapping[str, str] | None = None,
    raw: bytes = b"",
) -> Request:
    """A request that came over no network, from the person at this machine unless `caller` says who."""
    return Request(
        witness=witness,
        caller=caller or Caller("admin", f"local:{_who()}"),
        now=now or datetime.now(UTC),
        id=uuid.uuid4().hex,
        address="local",
        headers=headers or {},
        raw=raw,
    )


def user_name(uid: int) -> str:
    """What a user of this machine is called; a container's may have no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _who() -> str:
    return user_name(os.geteuid()) if hasattr(os, "geteuid") else getpass.getuser()


def ask(request: Request, endpoint_name: str, query: Any = None, body: Any = None, **path_args: str) -> Any:
    """What the API answers, as the values that its JSON has; bytes where it answers something else.

    `endpoint_name` is the handler's. Raises what the handler refuses.
    """
    endpoint = BY_NAME[endpoint_name]
    arguments: dict[str, Any] = dict(path_args)
    if endpoint.query is not None:
        arguments["query"] = msgspec.convert(query or {}, endpoint.query)
    if endpoint.body is not None:
        arguments["body"] = msgspec.convert(body or {}, endpoint.body)
    result = endpoint.handler(request, **arguments)
    answer = result if isinstance(result, Answer) else Answer(result)
    if answer.content_type != "application/json":
        return answer.body
    return msgspec.json.decode(answer.body if isinstance(answer.body, bytes) else encode_json(answer.body))


# --- keys ----------------------------------------------------------------------------------------


def first_keys(witness: Witness) -> Mapping[Role, str]:
    """Make sure that an admin and an enroll key exist; the new ones' texts, to be shown once."""
    return ensure_first_keys(witness.store, witness.config, datetime.now(UTC))


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


def system_named(request: Request, name: str) -> str:
    """The id of a system that somebody calls by its hostname or id. Raises NotFound."""
    for system in request.store.read(REGISTRY).systems.all():
        if name.lower() in (system.hostname.lower(), system.id):
            return system.id
    raise NotFound(f"no system '{name}'")
