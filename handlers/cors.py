"""Which pages of other sites may call the API from a browser: none, unless cors_origins names them.

Cookies are never sent along: such a page needs an API key of its own.
"""

from collections.abc import Collection, Mapping
from typing import Any

METHODS = "GET, POST, PUT, DELETE"
SENT = "Authorization, Content-Encoding, Content-Type, If-Match, X-API-Key, X-Lease-Token, X-Received-Guid"
SHOWN = (
    "ETag, Link, Location, Retry-After, X-Lease-Seconds, X-Lease-Token, X-Plan-Expires, X-Plan-Signature, "
    "X-Request-ID, X-Total-Count"
)
REMEMBER_S = 600

Headers = list[tuple[str, str]]


def cors_headers(environ: Mapping[str, Any], origins: Collection[str]) -> Headers:
    """What lets a page of the request's origin read the answer; nothing for an origin that may not."""
    origin = str(environ.get("HTTP_ORIGIN") or "")
    if not origin or not {"*", origin}.intersection(origins):
        return []
    allowed = "*" if "*" in origins else origin
    return [("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", SHOWN), ("Vary", "Origin")]


def is_preflight(environ: Mapping[str, Any]) -> bool:
    """Whether a browser asks if a page may send a request, before it sends it."""
    return environ.get("REQUEST_METHOD") == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ


def preflight_headers(allowed: Headers) -> Headers:
    """The answer to that question, for an origin that may."""
    return [
        *allowed,
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", SENT),
        ("Access-Control-Max-Age", str(REMEMBER_S)),
    ]
