"""Lists in parts: limit and offset, X-Total-Count and Link."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from handlers.bodies import Page
from handlers.request import Answer, Request

Shown = TypeVar("Shown")


def paginated(
    request: Request, path: str, query: Page, found: Sequence[Any], present: Callable[[Any], Shown]
) -> Answer[list[Shown]]:
    """The asked part of `found` as an Answer, each element as `present` shows it."""
    body = [present(element) for element in found[query.offset : query.offset + query.limit]]
    headers = {"X-Total-Count": str(len(found))}
    links = []
    if query.offset + query.limit < len(found):
        links.append(_link(request, path, query, query.offset + query.limit, "next"))
    if query.offset > 0:
        links.append(_link(request, path, query, max(0, query.offset - query.limit), "prev"))
    if links:
        headers["Link"] = ", ".join(links)
    return Answer(body, headers=headers)


def _link(request: Request, path: str, query: Page, offset: int, relation: str) -> str:
    given = {name: value for name, value in msgspec.to_builtins(query).items() if value is not None}
    return f'<{request.config.api_prefix}{path}?{urlencode({**given, "offset": offset})}>; rel="{relation}"'
