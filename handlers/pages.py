"""Lists in parts: limit and offset, X-Total-Count and Link."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from handlers.bodies import Page
from handlers.request import Answer, Request

Shown = TypeVar("Shown")


def paginated(
    request: Request,
    path: str,
    query: Page,
    found: Sequence[Any],
    present: Callable[[Any], Shown],
    total: int | None = None,
) -> Answer[list[Shown]]:
    """The asked part of `found` as an Answer, each element as `present` shows it.

    `total` says how many there are, where `found` goes no further than the asked part.
    """
    total = len(found) if total is None else total
    body = [present(element) for element in found[query.offset : query.offset + query.limit]]
    headers = {"X-Total-Count": str(total)}
    links = []
    if query.offset + query.limit < total:
        links.append(_link(request, path, query, query.offset + query.limit, "next"))
    if query.offset > 0:
        links.append(_link(request, path, query, max(0, query.offset - query.limit), "prev"))
    if links:
        headers["Link"] = ", ".join(links)
    return Answer(body, headers=headers)


def _link(request: Request, path: str, query: Page, offset: int, relation: str) -> str:
    given = {name: value for name, value in msgspec.to_builtins(query).items() if value is not None}
    return f'<{request.config.api_prefix}{path}?{urlencode({**given, "offset": offset})}>; rel="{relation}"'
