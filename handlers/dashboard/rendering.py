"""A page's values -> HTML: templates, and the few pieces that all of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import bottle

from handlers.dashboard.standing import STATES, WORDS
from handlers.prefix import prefixed_page
from handlers.request import Request
from handlers.words import size, span

TEMPLATES = Path(__file__).parent / "templates"
VERSION_MARK = "@@version@@"  # takes the digest of all the rest


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser's call: the request, and what a page and its forms need to know of it."""

    request: Request
    cookie: str  # the session's, or the one that ties the forms of somebody who is not signed in
    form_token: str
    address: str  # of the witness, as the browser knows it
    is_secure: bool
    here: str  # path and query

    @property
    def is_signed_in(self) -> bool:
        """Whether a cookie named a key that is good."""
        return self.request.caller.role is not None

    @property
    def is_admin(self) -> bool:
        """Whether what is shown may be decided here, too."""
        return self.request.caller.role == "admin"


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows: a template and its values."""

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    is_live: bool = True  # it refreshes itself, where JavaScript runs
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Go on at another page."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


def render_page(visit: Visit, page: Page) -> bytes:
    """The page in its frame, as UTF-8."""
    request = visit.request
    request.witness.groups_file.current()
    values = {
        **page.values,
        "ui": Pieces(request.now),
        "visit": visit,
        "title": page.title,
        "is_live": page.is_live,
        "groups_error": request.witness.groups_file.error if request.caller.role in ("admin", "viewer") else None,
        "version_mark": VERSION_MARK,
        "states": STATES,
        "words_of": WORDS,
    }
    text: str = _template(page.template).render(**values)
    return prefixed_page(text, request.prefix).encode()


@lru_cache(maxsize=64)
def _template(name: str) -> Any:
    return bottle.SimpleTemplate(name=f"{name}.tpl", lookup=[str(TEMPLATES)])


def link(path: str, /, **query: object) -> str:
    """A path of the dashboard with a query; None is left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{quote(path)}?{urlencode(given)}" if given else quote(path)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Small pieces of HTML, already escaped, for templates to insert with {{!...}}; and words, for {{...}}."""

    now: datetime

    def ago(self, moment: datetime | None, never: str = "never") -> str:
        """How long ago something was. The page's JavaScript keeps it right."""
        return self._time(moment, "ago") if moment is not None else escape(never)

    def lasting(self, moment: datetime | None) -> str:
        """How long something has been so."""
        return self._time(moment, "span") if moment is not None else "-"

    def at(self, moment: datetime | None) -> str:
        """When something was, to the minute, in UTC."""
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment is not None else "-"

    def _time(self, moment: datetime, form: str) -> str:
        at = moment.astimezone(UTC)
        words = span(max(0.0, (self.now - at).total_seconds()))
        words = f"{words} ago" if form == "ago" else words
        return f'<time class="{form}" datetime="{at:%Y-%m-%dT%H:%M:%SZ}" title="{at:%Y-%m-%d %H:%M} UTC">{words}</time>'

    def size(self, number: int | None) -> str:
        """Bytes in words."""
        return size(number)

    def span(self, seconds: float) -> str:
        """A time in words."""
        return span(seconds)

    def link(self, path: str, /, **query: object) -> str:
        """A path of the dashboard with a query."""
        return link(path, **query)

    def state(self, state: str, word: str) -> str:
        """A state: its shape, its colour, and its word."""
        return f'<span class="state {escape(state)}">{escape(word)}</span>'

    def dataset(self, path: str) -> str:
        """What a dataset's path below the root is called."""
        return path or "(root)"

    def plural(self, count: int, one: str, many: str | None = None) -> str:
        """A count with its noun."""
        return f"{count:,} {one if count == 1 else many or one + 's'}".replace(",", "\u202f")
