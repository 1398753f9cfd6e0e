"""A page's row -> an answer: who is signed in, the form, the page in its frame, and a refusal as a page."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from handlers.auth import client_scheme
from handlers.binding import authorize, path_arguments, request_of
from handlers.dashboard import sessions
from handlers.dashboard.rendering import VERSION_MARK, Elsewhere, Page, Visit, render_page
from handlers.errors import Forbidden, Malformed, Refused, refusal_of
from handlers.events import record_refusal
from handlers.request import ANYONE, CALLER, ENDPOINT, Answer, Endpoint, Witness
from handlers.wire import decode_query, etag_of, etags_in, read_body

MAX_FORM_BYTES = 1 << 16
SIGN_IN = "/dashboard/sign-in"
PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",  # a time in words is only right when it is asked for
    "Vary": "Cookie",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}
TITLES = {403: "Not for this key", 404: "There is no such page", 409: "That does not go", 503: "Not just now"}

_TIMES = re.compile(rb"(<time [^>]*>)[^<]*")  # what a moment is called changes while nothing else does

Response = tuple[int, dict[str, str], bytes]
Shown = Page | Elsewhere | Answer[bytes]


def answer_page(
    witness: Witness, page: Endpoint, environ: dict[str, Any], request_id: str, path_args: Mapping[str, str]
) -> Response:
    """Status, headers and bytes for a browser. Our own mistakes are raised."""
    visit = _visit(witness, environ, request_id)
    environ[CALLER], environ[ENDPOINT] = visit.request.caller.key_id, page.name
    try:
        shown = _shown(visit, page, environ, path_args)
        return _response(visit, page, shown)
    except Exception as error:
        refused = refusal_of(error)
        if refused is None:
            raise
        record_refusal(visit.request, refused, f"{page.method} {environ.get('PATH_INFO', '')}")
        return _response(visit, page, refusal_page(refused))


def refusal_page(refused: Refused) -> Page:
    """A refusal as a page."""
    title = TITLES.get(refused.status, "That cannot be done")
    return Page("refused", title, {"detail": refused.detail}, status=refused.status, is_live=False)


def _visit(witness: Witness, environ: dict[str, Any], request_id: str) -> Visit:
    """Who comes, by their cookies."""
    request = request_of(witness, environ, request_id)
    cookies = sessions.cookies_in(request.headers.get("cookie", ""))
    cookie = cookies.get(sessions.SESSION, "")
    caller = sessions.caller_of_session(witness.store, cookie, request.now)
    if caller is None:
        cookie = sessions.form_cookie(cookies.get(sessions.FORM, ""))
    else:
        request = replace(request, caller=caller)
    scheme = client_scheme(environ, witness.config.trusted_proxies)
    path = quote(str(environ.get("PATH_INFO") or "/"))
    query = str(environ.get("QUERY_STRING") or "")
    return Visit(
        request=request,
        cookie=cookie,
        form_token=sessions.form_token(witness.store, cookie),
        address=f"{scheme}://{request.headers.get('host', '')}{request.prefix}",
        is_secure=scheme == "https",
        here=f"{path}?{query}" if query else path,
    )


def _shown(visit: Visit, page: Endpoint, environ: dict[str, Any], path_args: Mapping[str, str]) -> Shown:
    """What the page's function says. Raises Refused."""
    if page.callers is not ANYONE:
        if not visit.is_signed_in:
            return Elsewhere(f"{SIGN_IN}?{urlencode({'next': visit.here})}" if page.method == "GET" else SIGN_IN)
        authorize(visit.request, page, path_args)
    arguments = path_arguments(page, path_args)
    if page.query is not None:
        arguments["query"] = _decoded(page.query, str(environ.get("QUERY_STRING") or ""))
    if page.method == "POST":
        form = _form_in(read_body(environ, MAX_FORM_BYTES))
        _require_ours(visit, form.pop("form_token", ""))
        if page.body is not None:
            arguments["form"] = decode_query(page.body, urlencode(form))
    shown: Shown = page.handler(visit, **arguments)
    return shown


def _form_in(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=50))
    except ValueError as error:
        raise Malformed(f"the form cannot be read: {error}") from None


def _decoded(kind: Any, query: str) -> Any:
    """A query as the page's type. A browser also sends the fields of a form that were left empty."""
    return decode_query(kind, "&".join(part for part in query.split("&") if not part.endswith("=")))


def _require_ours(visit: Visit, token: str) -> None:
    """Raise Forbidden unless a form comes from a page that this browser got from us."""
    if not sessions.is_our_form(visit.request.store, visit.cookie, token):
        raise Forbidden("this form is not from a page of yours, or too old: open the page again and repeat it")


def _response(visit: Visit, page: Endpoint, shown: Shown) -> Response:
    cookie = {}
    if not visit.is_signed_in:
        value = sessions.set_cookie(sessions.FORM, visit.cookie, lasts_s=86400, secure=visit.is_secure)
        cookie = {"Set-Cookie": value}
    if isinstance(shown, Elsewhere):
        return 303, {**PAGE_HEADERS, **cookie, "Location": shown.path, **shown.headers}, b""
    if isinstance(shown, Answer):
        body, status = shown.body, 200
        headers = {**PAGE_HEADERS, "Cache-Control": "no-cache", "Content-Type": shown.content_type, **shown.headers}
        tag = etag_of(body)
    else:
        body, status = render_page(visit, shown), shown.status
        headers = {**PAGE_HEADERS, **cookie, **shown.headers}
        lasting = _TIMES.sub(rb"\1", body)
        tag = f'W/"{hashlib.sha256(lasting).hexdigest()[:32]}"'
        body = body.replace(VERSION_MARK.encode(), tag.replace('"', "&quot;").encode(), 1)
    if page.method == "GET" and status == 200:
        headers["ETag"] = tag
        if tag in etags_in(visit.request.headers.get("if-none-match", "")):
            return 304, headers, b""
    return status, headers, body
