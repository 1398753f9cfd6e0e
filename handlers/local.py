"""The API without HTTP, for whoever may read and write the data folder: that alone makes them an admin."""

import getpass
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from handlers.auth import ensure_first_keys
from handlers.request import Answer, Caller, Request, Witness
from handlers.routes import ENDPOINTS
from handlers.wire import decode_headers, encode_json
from store import REGISTRY, NotFound
from store.documents import Role

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
    if endpoint.headers is not None:
        arguments["headers"] = decode_headers(endpoint.headers, request.headers)
    if endpoint.body is not None:
        arguments["body"] = msgspec.convert(body or {}, endpoint.body)
    result = endpoint.handler(request, **arguments)
    answer: Answer[Any] = result if isinstance(result, Answer) else Answer(result)
    if answer.content_type != "application/json":
        return answer.body
    return msgspec.json.decode(answer.body if isinstance(answer.body, bytes) else encode_json(answer.body))


def first_keys(witness: Witness) -> Mapping[Role, str]:
    """Make sure that an admin and an enroll key exist; the new ones' texts, to be shown once."""
    return ensure_first_keys(witness.store, witness.config, datetime.now(UTC))


def system_named(request: Request, name: str) -> str:
    """The id of a system that somebody calls by its hostname or id. Raises NotFound."""
    for system in request.store.read(REGISTRY).systems.all():
        if name.lower() in (system.hostname.lower(), system.id):
            return system.id
    raise NotFound(f"no system '{name}'")
