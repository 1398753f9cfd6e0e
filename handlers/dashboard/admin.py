"""Signing in and out; keys; and the audit trail."""

from dataclasses import replace
from typing import Annotated, Literal

from msgspec import Meta, Struct

from handlers import keys
from handlers.auth import find_key
from handlers.bodies import EventQuery, Offset, Uuid
from handlers.dashboard import sessions
from handlers.dashboard.matrix import pages
from handlers.dashboard.rendering import Elsewhere, Page, Visit
from handlers.errors import Conflicting, Forbidden, Invalid, TooMany, Unauthorized
from handlers.events import list_events, record, record_refusal
from handlers.limiting import count_attempt
from handlers.request import Caller
from handlers.sync_groups import visible_groups
from store import REGISTRY

HOME = "/dashboard"
EVENTS = 50
ROLES = {
    "viewer": "sees everything, changes nothing",
    "admin": "sees and decides everything",
    "agent": "belongs to one system, and reports and acts for it",
    "enroll": "may only register a new system",
}


class SignInQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Where to go on afterwards."""

    next: Annotated[str, Meta(max_length=2000)] = HOME


class SignInForm(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A key, and where to go on."""

    key: Annotated[str, Meta(max_length=500)] = ""
    next: Annotated[str, Meta(max_length=2000)] = HOME


class NewKeyForm(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A key to make."""

    role: Literal["admin", "agent", "viewer", "enroll"]
    label: Annotated[str, Meta(max_length=200)] = ""
    system_id: Uuid | None = None


class RotateForm(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How long the old key still counts."""

    key: Annotated[str, Meta(max_length=64)]
    grace_s: Annotated[int, Meta(ge=0, le=31_536_000)]


class RevokeForm(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A key to end now."""

    key: Annotated[str, Meta(max_length=64)]
    sure: Literal["yes"] | None = None


class EventsQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which part of the audit trail to show."""

    what: Annotated[str, Meta(max_length=100)] | None = None
    system_id: Uuid | None = None
    offset: Offset = 0


# --- signing in ----------------------------------------------------------------------------------


def go_home(visit: Visit) -> Elsewhere:
    """Lead to the dashboard."""
    return Elsewhere(HOME)


def show_sign_in(visit: Visit, query: SignInQuery) -> Page | Elsewhere:
    """Ask for a key."""
    if visit.is_signed_in:
        return Elsewhere(_own_page(query.next))
    return Page("sign_in", "Sign in", {"next": _own_page(query.next), "refused": None}, is_live=False)


def sign_in(visit: Visit, form: SignInForm) -> Page | Elsewhere:
    """Take a key, and begin a session."""
    request = visit.request
    key = find_key(request.store, form.key.strip(), request.now)
    if key is None:
        wrong = Unauthorized("that API key is not known here")
        record_refusal(request, wrong, "POST /dashboard/sign-in")
        try:
            rule = request.config.rate_limits.failed_auth
            count_attempt(request.store, "auth", rule, request.address, request.now)
        except TooMany as refused:
            return _asked_again(form, refused.detail, refused)
        return _asked_again(form, "That key is not known here, or it is past its end.", wrong)
    if key.role == "enroll":
        return _asked_again(form, "An enroll key may only register systems.", Forbidden(""))
    session = sessions.new_session(request.store, key, request.now)
    cookie = sessions.set_cookie(sessions.SESSION, session, lasts_s=sessions.LASTS_S, secure=visit.is_secure)
    caller = Caller(role=key.role, key_id=key.id, system_id=key.system_id)
    record(replace(request, caller=caller), "dashboard.signed_in")
    return Elsewhere(_own_page(form.next), {"Set-Cookie": cookie})


def _asked_again(form: SignInForm, why: str, refused: Unauthorized | Forbidden | TooMany) -> Page:
    headers = {name: value for name, value in refused.headers.items() if name == "Retry-After"}
    values = {"next": _own_page(form.next), "refused": why}
    return Page("sign_in", "Sign in", values, status=refused.status, is_live=False, headers=headers)


def sign_out(visit: Visit) -> Elsewhere:
    """Forget the cookie."""
    cookie = sessions.set_cookie(sessions.SESSION, "", lasts_s=0, secure=visit.is_secure)
    return Elsewhere("/dashboard/sign-in", {"Set-Cookie": cookie})


def _own_page(path: str) -> str:
    """Where to go on: a page of ours, and no other site's."""
    is_ours = path == HOME or path.startswith((f"{HOME}/", f"{HOME}?"))
    return path if is_ours and path.isascii() and path.isprintable() and "\\" not in path else HOME


# --- keys ----------------------------------------------------------------------------------------


def show_keys(visit: Visit) -> Page:
    """Show every key without its secret."""
    return _keys(visit)


def create_key(visit: Visit, form: NewKeyForm) -> Page:
    """Make a key, and show it this once."""
    if (form.role == "agent") != (form.system_id is not None):
        raise Invalid.at("system_id", "an agent's key is for one system; the other roles have none")
    return _keys(visit, keys.create_key(visit.request, form.role, form.system_id, form.label))


def rotate_key(visit: Visit, form: RotateForm) -> Page:
    """Make a key in place of another, and show it this once."""
    return _keys(visit, keys.rotate_key(visit.request, form.key, form.grace_s))


def revoke_key(visit: Visit, form: RevokeForm) -> Page | Elsewhere:
    """End a key now. One's own would lock oneself out."""
    if form.key == visit.request.caller.key_id:
        raise Conflicting("this is the key you are signed in with: sign in with another one to revoke it")
    if form.sure is None:
        raise Invalid.at("sure", "tick the box to revoke a key")
    keys.revoke_key(visit.request, form.key)
    return Elsewhere("/dashboard/keys")


def _keys(visit: Visit, made: str | None = None) -> Page:
    systems = sorted(visit.request.store.read(REGISTRY).systems.all(), key=lambda system: system.hostname)
    values = {"keys": keys.list_keys(visit.request), "made": made, "systems": systems, "roles": ROLES}
    return Page("keys", "Keys", {**values, "grace_s": visit.request.config.key_grace_s}, is_live=False)


# --- events --------------------------------------------------------------------------------------


def show_events(visit: Visit, query: EventsQuery) -> Page:
    """Show who did what, from where and when, newest first."""
    request = visit.request
    asked = EventQuery(what=query.what, system_id=query.system_id, limit=EVENTS, offset=query.offset)
    answer = list_events(request, asked)
    systems = {system.id: system.hostname for system in request.store.read(REGISTRY).systems.all()}
    values = {
        "events": answer.body,
        "event_pages": pages(visit, query, "offset", int(answer.headers["X-Total-Count"]), EVENTS),
        "query": query,
        "hostnames": systems,
        "groups": {group.id: group.name for group in visible_groups(request)},
    }
    return Page("events", "Events", values)
