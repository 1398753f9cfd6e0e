"""Who is calling: API keys in constant time, wrong ones counted per address; and the first keys of a new store."""

import hmac
import ipaddress
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from config import Config
from handlers.errors import Forbidden, Unauthorized
from handlers.limiting import count_attempt
from handlers.request import ANYONE, ENROLL, METRICS, Caller, Callers, Request
from store import REGISTRY, Store, Table
from store.documents import Key, Role
from store.keys import hash_secret, key_matches, new_key, split_key

CONFIGURED = "configured"  # the label of keys that the configuration sets


def key_of(headers: Mapping[str, str]) -> str | None:
    """The API key that a request carries, in X-API-Key or as a bearer token; None without one."""
    if key := headers.get("x-api-key", "").strip():
        return key
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def caller_of(store: Store, config: Config, headers: Mapping[str, str], address: str, now: datetime) -> Caller:
    """Whose key this is. Raises Unauthorized, or TooMany once an address has tried too many wrong ones.

    A right key is never refused for what others at its address tried; no key at all is not an attempt.
    """
    text = key_of(headers)
    if text is None:
        raise Unauthorized("an API key is needed: send it as X-API-Key", headers={"WWW-Authenticate": "Bearer"})
    key = find_key(store, text, now)
    if key is None:
        count_attempt(store, "auth", config.rate_limits.failed_auth, address, now)
        raise _unknown()
    return Caller(role=key.role, key_id=key.id, system_id=key.system_id)


def require_still_known(request: Request, keys: Table[Key]) -> None:
    """Raise Unauthorized when an agent's key was revoked, or replaced without grace, since it was accepted."""
    if request.caller.is_agent and request.caller.key_id not in keys:
        raise _unknown()


def _unknown() -> Unauthorized:
    return Unauthorized("that API key is not known here", headers={"WWW-Authenticate": "Bearer"})


def may_come_without_key(config: Config, callers: Callers, headers: Mapping[str, str]) -> bool:
    """Whether this endpoint needs no key now: those for anyone, and what the configuration opens."""
    opened = (callers is ENROLL and config.registration == "open") or (callers is METRICS and config.metrics_public)
    return callers is ANYONE or (opened and key_of(headers) is None)


def find_key(store: Store, text: str, now: datetime) -> Key | None:
    """The stored key that this text is; None when it is unknown, wrong or past its grace."""
    parts = split_key(text)
    if parts is None:
        return None
    key_id, secret = parts
    keys = store.read(REGISTRY).keys
    if key_id not in keys:
        hmac.compare_digest(hash_secret(store.secret, secret), "0" * 64)  # as slow as a known id
        return None
    key = keys.get(key_id)
    if not key_matches(store.secret, key, secret) or (key.expires_at is not None and key.expires_at <= now):
        return None
    return key


def require_allowed(request: Request, callers: Callers, path_args: Mapping[str, Any], member_of: bool | None) -> None:
    """Raise Forbidden unless the caller may call this endpoint with these path arguments.

    An agent that names another system's id learns nothing of whether it exists.
    """
    caller = request.caller
    if caller.role in callers.roles:
        return
    if caller.role == "agent" and callers.agents != "none":
        if callers.agents == "self" and path_args.get("system_id") == caller.system_id:
            return
        if callers.agents == "member" and member_of:
            return
        if callers.agents == "any":
            return
        raise Forbidden("this key's system has no part in that")
    raise Forbidden(f"a key of the role '{caller.role}' may not do this; allowed: {callers.everybody}")


def make_key(store: Store, role: Role, now: datetime, *, length: int, system_id: str | None = None) -> tuple[Key, str]:
    """A new key's document, still to be stored, and the text `<id>.<secret>` to be shown once."""
    key_id, secret = new_key(length)
    document = Key(id=key_id, role=role, system_id=system_id, hash=hash_secret(store.secret, secret), created_at=now)
    return document, f"{key_id}.{secret}"


def ensure_first_keys(store: Store, config: Config, now: datetime) -> dict[Role, str]:
    """Make sure that an admin and an enroll key exist; the new ones' texts, to be printed once.

    A key that the configuration sets replaces the one it set before.
    """
    shown: dict[Role, str] = {}
    with store.transaction(REGISTRY) as tx:
        keys = tx[REGISTRY].keys
        configured: dict[Role, str | None] = {"admin": config.admin_key, "enroll": config.enroll_key}
        for role, text in configured.items():
            if text is not None:
                _put_configured(store, keys, role, text, now)
            elif not keys.find(role=role):
                document, shown[role] = make_key(store, role, now, length=config.api_key_length)
                keys.put(document)
    return shown


def _put_configured(store: Store, keys: Any, role: Role, text: str, now: datetime) -> None:
    parts = split_key(text)
    assert parts is not None, "config checks the form of configured keys"
    key_id, secret = parts
    wanted = Key(id=key_id, role=role, hash=hash_secret(store.secret, secret), label=CONFIGURED, created_at=now)
    for old in keys.find(role=role, label=CONFIGURED):
        if (old.id, old.hash) == (wanted.id, wanted.hash):
            return
        keys.remove(old.id)
    keys.put(wanted)


def client_address(environ: Mapping[str, Any], trusted_proxies: tuple[str, ...]) -> str:
    """The caller's address: the last one in X-Forwarded-For that is not a trusted proxy's, if the peer is one."""
    address = str(environ.get("REMOTE_ADDR") or "unknown")
    if "HTTP_X_FORWARDED_FOR" not in environ:
        return address
    networks = _networks(trusted_proxies)
    forwarded = str(environ["HTTP_X_FORWARDED_FOR"]).split(",")
    while forwarded and _within(address, networks):
        candidate = forwarded.pop().strip()
        if not _is_address(candidate):
            break
        address = candidate
    return address


def client_scheme(environ: Mapping[str, Any], trusted_proxies: tuple[str, ...]) -> str:
    """https or http, as the caller's browser sees it: a trusted proxy says it in X-Forwarded-Proto."""
    forwarded = str(environ.get("HTTP_X_FORWARDED_PROTO") or "").rpartition(",")[2].strip().lower()
    if forwarded in ("http", "https") and is_from_proxy(environ, trusted_proxies):
        return forwarded
    return str(environ.get("wsgi.url_scheme"))


def is_from_proxy(environ: Mapping[str, Any], trusted_proxies: tuple[str, ...]) -> bool:
    """Whether a request was handed on by a trusted proxy, whose word about it counts."""
    return _within(str(environ.get("REMOTE_ADDR")), _networks(trusted_proxies))


@lru_cache(maxsize=8)
def _networks(trusted_proxies: tuple[str, ...]) -> list[Any]:
    return [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _within(address: str, networks: list[Any]) -> bool:
    return _is_address(address) and any(ipaddress.ip_address(address) in network for network in networks)
