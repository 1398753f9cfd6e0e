"""The path below which a proxy serves the witness (https://host/zfs/), which all that leads back to it begins with.

Inside, every path is as if there were none: it is put in front where an answer leaves.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from handlers.auth import is_from_proxy

PREFIX = "zfs_sync.prefix"  # an entry of the environ

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,10}")  # never "//", which would lead to another host
_IN_PAGE = re.compile(r'(\s(?:href|src|action|data-path)=")(?=/)')  # values have no quotes: templates escape them


def prefix_of(environ: Mapping[str, Any], trusted_proxies: tuple[str, ...]) -> str:
    """ "/zfs", or nothing: where a WSGI server has mounted us, and what a trusted proxy says in X-Forwarded-Prefix."""
    said = str(environ.get("HTTP_X_FORWARDED_PREFIX") or "")
    if said and not is_from_proxy(environ, trusted_proxies):  # seldom asked: addresses take their time to read
        said = ""
    prefix = said.rstrip("/") + str(environ.get("SCRIPT_NAME") or "").rstrip("/")
    return prefix if _PREFIX.fullmatch(prefix) else ""


def prefixed_headers(headers: Iterable[tuple[str, str]], prefix: str) -> list[tuple[str, str]]:
    """An answer's headers, as callers on the other side of the proxy need them."""
    if not prefix:
        return list(headers)
    return [(name, _header(name.lower(), value, prefix)) for name, value in headers]


def prefixed_page(html: str, prefix: str) -> str:
    """A page whose links, forms and scripts begin with the prefix."""
    return _IN_PAGE.sub(rf"\g<1>{prefix}", html) if prefix else html


def _header(name: str, value: str, prefix: str) -> str:
    if name == "location" and value.startswith("/"):
        return prefix + value
    if name == "link":
        return re.sub(r"(?:^|(?<=, ))</", f"<{prefix}/", value)
    if name == "set-cookie":
        return value.replace("; Path=/", f"; Path={prefix}/", 1)
    return value
