"""The two ways to ask a witness: its store on this machine, or its API over HTTP, with a key."""

import argparse
import json
import os
import re
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from cli.terminal import OpenWitness, Refusal, open_here
from handlers.local import BY_NAME, ask, request_here
from handlers.request import JSON, Request
from store import NotFound

URL, KEY = "ZFS_SYNC_URL", "ZFS_SYNC_KEY"
TIMEOUT_S = 60
API_PREFIX = "/api/v1"  # unless the address has a path


class Door(Protocol):
    """Whom to ask."""

    def ask(self, endpoint: str, query: Any = None, body: Any = None, accept: str = JSON, **path_args: str) -> Any:
        """What an endpoint (a handler's name) answers: the values of its JSON, or bytes. Raises what is refused."""

    @property
    def now(self) -> datetime: ...


class Here:
    """The store of this machine, without HTTP."""

    def __init__(self, request: Request) -> None:
        self._request = request

    @property
    def now(self) -> datetime:
        return self._request.now

    def ask(self, endpoint: str, query: Any = None, body: Any = None, accept: str = JSON, **path_args: str) -> Any:
        request = request_here(self._request.witness, headers={"accept": accept})
        return ask(request, endpoint, query, body, **path_args)


class There:
    """A witness elsewhere."""

    def __init__(self, address: str, key: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refusal(f"--url: expected an address such as https://witness.example:8000, got '{address}'")
        self._base = address.rstrip("/") + ("" if parts.path.strip("/") else API_PREFIX)
        self._key = key
        self.now = datetime.now(UTC)

    def ask(self, endpoint: str, query: Any = None, body: Any = None, accept: str = JSON, **path_args: str) -> Any:
        self.now = datetime.now(UTC)
        row = BY_NAME[endpoint]
        path = re.sub(r"<(\w+)>", lambda part: quote(path_args[part[1]], safe=""), row.path)
        given = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in (query or {}).items()
        }
        url = self._base + path + (f"?{urlencode(given)}" if given else "")
        raw = None if row.body is None else json.dumps(body or {}).encode()
        headers = {"X-API-Key": self._key, "Accept": accept, "User-Agent": "zfs-sync"}
        if raw is not None:
            headers["Content-Type"] = JSON
        request = urllib.request.Request(url, data=raw, headers=headers, method=row.method)  # noqa: S310  # http(s) only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                said, kind = answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from None
        except (OSError, HTTPException) as error:
            raise Refusal(f"{self._base} cannot be reached: {getattr(error, 'reason', error)}") from None
        return json.loads(said) if kind == JSON and said else said


def _refusal(error: urllib.error.HTTPError) -> Exception:
    try:
        detail = str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"it answered {error.code}, and not as a witness does: is the address right?"
    return NotFound(detail) if error.code == 404 else Refusal(detail)


def open_door(options: argparse.Namespace, open_witness: OpenWitness) -> Door:
    """The witness that --url or ZFS_SYNC_URL names, else the one of this machine."""
    address = options.url or os.environ.get(URL)
    if not address:
        return Here(open_here(options, open_witness))
    try:
        key = options.key_file.read_text().strip() if options.key_file else os.environ.get(KEY, "")
    except OSError as error:
        raise Refusal(f"{options.key_file}: {error.strerror}") from None
    if not key.isascii() or not key.isprintable() or not key:
        raise Refusal(f"a key is needed: put it into {KEY}, or into a file that --key-file names")
    return There(address, key)


def systems_of(door: Door) -> list[dict[str, Any]]:
    """Every system."""
    found: list[dict[str, Any]] = []
    while len(part := door.ask("list_systems", {"limit": 1000, "offset": len(found)})) == 1000:
        found += part
    return [*found, *part]


def system_named(door: Door, name: str) -> str:
    """The id of a system that somebody calls by its hostname or id. Raises NotFound."""
    for system in systems_of(door):
        if name.lower() in (system["hostname"].lower(), system["id"]):
            return str(system["id"])
    raise NotFound(f"no system '{name}'")
