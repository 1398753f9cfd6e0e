"""Endpoint row -> Bottle route: authenticate, parse, call, answer. The only user of Bottle's request and response."""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import bottle

from handlers import sync_groups
from handlers.auth import caller_of, client_address, may_come_without_key, require_allowed
from handlers.bodies import NoQuery
from handlers.cors import cors_headers, is_preflight, preflight_headers
from handlers.errors import Forbidden, Refused, error_body, refusal_of
from handlers.events import record_refusal
from handlers.limiting import count_attempt
from handlers.meter import meter, watch_locks
from handlers.prefix import PREFIX, prefix_of, prefixed_headers
from handlers.request import ADDRESS, CALLER, ENDPOINT, JSON, Answer, Caller, Endpoint, Request, Witness
from handlers.wire import (
    decode_headers,
    decode_json,
    decode_part,
    decode_query,
    encode_json,
    etag_of,
    etags_in,
    is_uuid,
    read_body,
    require_json,
    unzip_body,
)
from store import NotFound

log = logging.getLogger("zfs_sync")

METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
MAX_BODY_BYTES = 1 << 20  # for everything but inventories and batches
BASE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache", "Vary": "Accept"}


def build_app(witness: Witness, endpoints: Iterable[Endpoint], root_paths: Iterable[str] = ()) -> bottle.Bottle:
    """A WSGI app that answers each endpoint below the configured prefix, and `root_paths` at the root too."""
    watch_locks(witness.store)
    app = JsonBottle(witness.config.cors_origins, witness.config.trusted_proxies)
    at_root = frozenset(root_paths)
    methods: dict[str, set[str]] = {}
    for endpoint in endpoints:
        respond = _responder(witness, endpoint)
        paths = [witness.config.api_prefix + endpoint.path]
        if endpoint.path in at_root:
            paths.append(endpoint.path)
        for path in paths:
            app.route(path, endpoint.method, respond)
            methods.setdefault(path, set()).add(endpoint.method)
    for path, there in methods.items():
        if "<" not in path:
            app.route(path, sorted(METHODS - there), _only(there))
    return app


def add_pages(
    app: bottle.Bottle,
    pages: Iterable[Endpoint],
    answer: Callable[[Endpoint, dict[str, Any], str, Mapping[str, str]], tuple[int, dict[str, str], bytes]],
) -> None:
    """Routes for what people look at, at the root. `answer` gives status, headers and body, errors as pages too."""

    def responder(page: Endpoint) -> Callable[..., bytes]:
        def respond(**path_args: str) -> bytes:
            request_id = _new_request_id()
            bottle.response.set_header("X-Request-ID", request_id)
            status, headers, body = answer(page, bottle.request.environ, request_id, path_args)
            bottle.response.status = status
            for name, value in {**BASE_HEADERS, **headers}.items():
                bottle.response.set_header(name, value)
            return body

        return respond

    for page in pages:
        app.route(page.path, page.method, responder(page))


def _only(methods: Iterable[str]) -> Callable[[], None]:
    """Answers 405, where another method would be taken for one on a path with an id: DELETE /systems/health."""
    allowed = ",".join(sorted(methods))

    def respond() -> None:
        raise bottle.HTTPError(405, Allow=allowed)

    return respond


class JsonBottle(bottle.Bottle):  # type: ignore[misc]  # bottle has no types
    """A Bottle whose own errors (404, 405, 500) have the same JSON shape as ours."""

    def __init__(self, cors_origins: tuple[str, ...], trusted_proxies: tuple[str, ...]) -> None:
        super().__init__()
        self.config["json.enable"] = False
        self._cors_origins, self._trusted_proxies = cors_origins, trusted_proxies

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer a request, and log a line about it: nothing of its query, headers or body."""
        started = time.perf_counter()
        cors = cors_headers(environ, self._cors_origins)
        if cors and is_preflight(environ):
            start_response("204 No Content", preflight_headers(cors))
            return []

        environ["PATH_INFO"] = _path_of(environ)
        environ[PREFIX] = prefix = prefix_of(environ, self._trusted_proxies)

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*prefixed_headers(headers, prefix), *cors], *exc_info)

        body = super().wsgi(environ, start)
        _note_request(environ, time.perf_counter() - started)
        return body

    def default_error_handler(self, error: bottle.HTTPError) -> bytes:
        request_id = bottle.response.get_header("X-Request-ID") or _new_request_id()
        for name, value in {**BASE_HEADERS, "X-Request-ID": request_id}.items():
            bottle.response.set_header(name, value)
        bottle.response.content_type = JSON
        detail = str(error.body)
        if error.status_code == 404:
            detail = f"nothing is served at {bottle.request.path}"
        elif error.status_code == 405:
            detail = f"{bottle.request.method} is not possible here; Allow says what is"
        elif error.status_code >= 500:
            log.error("request %s failed", request_id, exc_info=error.exception)
            detail = f"the witness failed; its log has more under request {request_id}"
        return error_body(error.status_code, detail)


def _path_of(environ: Mapping[str, Any]) -> str:
    """The path, with a mark for each byte that is no UTF-8. Bottle would leave it out: /met%FFrics is no /metrics."""
    path = str(environ.get("PATH_INFO") or "")
    return path if path.isascii() else path.encode("latin-1").decode(errors="replace").encode().decode("latin-1")


def _note_request(environ: Mapping[str, Any], duration_s: float) -> None:
    """Log a request that was answered, and count it."""
    status = bottle.response.status_code
    counting = meter()
    if counting is not None:
        counting.answered(environ.get(ENDPOINT) or "other", status, duration_s)
    if not log.isEnabledFor(logging.INFO):
        return
    fields = {
        "method": quote(environ["REQUEST_METHOD"]),
        "path": quote(environ["PATH_INFO"]),
        "status": status,
        "duration_ms": round(duration_s * 1000, 1),
        "request_id": bottle.response.get_header("X-Request-ID", "-"),
        "caller": environ.get(CALLER) or "-",
        "address": environ.get(ADDRESS) or "-",
    }
    log.info(
        "%(method)s %(path)s %(status)d %(duration_ms).0f ms request %(request_id)s caller %(caller)s from %(address)s",
        fields,
        extra=fields,
    )


def _responder(witness: Witness, endpoint: Endpoint) -> Callable[..., Any]:
    """The function that Bottle calls for an endpoint."""

    def respond(**path_args: str) -> bytes:
        environ = bottle.request.environ
        environ[ENDPOINT] = endpoint.name
        request_id = _new_request_id()
        try:
            with witness.store.reading():
                answer = _answer(witness, endpoint, environ, request_id, path_args)
            status, headers, body = _encoded(endpoint, answer, environ)
        except Exception as error:
            refused = refusal_of(error)
            if refused is None:
                bottle.response.set_header("X-Request-ID", request_id)
                raise
            status, body = refused.status, error_body(refused.status, refused.detail, refused.errors)
            headers = {"Content-Type": JSON, **refused.headers}
        bottle.response.status = status
        for name, value in {**BASE_HEADERS, **headers, "X-Request-ID": request_id}.items():
            bottle.response.set_header(name, value)
        return body

    return respond


def _new_request_id() -> str:
    return secrets.token_hex(16)


def _answer(
    witness: Witness, endpoint: Endpoint, environ: dict[str, Any], request_id: str, path_args: Mapping[str, str]
) -> Answer[Any]:
    """Authenticate, parse and call. Raises Refused and what the store raises."""
    request = request_of(witness, environ, request_id)
    headers, caller = request.headers, request.caller
    try:
        if not may_come_without_key(witness.config, endpoint.callers, headers):
            caller = caller_of(witness.store, witness.config, headers, request.address, request.now)
            environ[CALLER] = caller.key_id
            request = replace(request, caller=caller)
            authorize(request, endpoint, path_args)
            if endpoint.heavy:
                rule = witness.config.rate_limits.heavy
                count_attempt(witness.store, "heavy", rule, caller.key_id or "", request.now)
    except Refused as refused:
        record_refusal(request, refused, f"{endpoint.method} {environ.get('PATH_INFO', '')}")
        raise
    arguments = path_arguments(endpoint, path_args)
    query = decode_query(endpoint.query or NoQuery, str(environ.get("QUERY_STRING") or ""))
    if endpoint.query is not None:
        arguments["query"] = query
    if endpoint.headers is not None:
        arguments["headers"] = decode_headers(endpoint.headers, headers)
    if endpoint.reads_body:
        limit = witness.config.max_inventory_bytes if endpoint.large else MAX_BODY_BYTES
        raw = unzip_body(read_body(environ, limit), headers.get("content-encoding", ""), limit)
        request = replace(request, raw=raw, if_match=etags_in(headers.get("if-match", "")))
        if endpoint.body is not None:
            arguments["body"] = _body(endpoint, raw, headers["content-type"])
    try:
        result = endpoint.handler(request, **arguments)
    except Forbidden as refused:
        record_refusal(request, refused, f"{endpoint.method} {environ.get('PATH_INFO', '')}")
        raise
    return result if isinstance(result, Answer) else Answer(result)


def request_of(witness: Witness, environ: dict[str, Any], request_id: str) -> Request:
    """A call as it came in, of nobody yet."""
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name[:5] == "HTTP_"}
    headers["content-type"] = str(environ.get("CONTENT_TYPE") or "")
    environ[ADDRESS] = address = client_address(environ, witness.config.trusted_proxies)
    now = datetime.now(UTC)
    return Request(
        witness=witness,
        caller=Caller(),
        now=now,
        id=request_id,
        address=address,
        headers=headers,
        prefix=environ.get(PREFIX, ""),
    )


def authorize(request: Request, endpoint: Endpoint, path_args: Mapping[str, str]) -> None:
    """Raise Forbidden unless the caller may have this endpoint with these path arguments."""
    member_of = None
    if request.caller.is_agent and endpoint.callers.agents == "member":
        member_of = sync_groups.is_member(request, path_args.get("group_id", ""))
    require_allowed(request, endpoint.callers, path_args, member_of)


def path_arguments(endpoint: Endpoint, path_args: Mapping[str, str]) -> dict[str, Any]:
    """The path's parts. Every id is a UUID in lower case; anything else names nothing."""
    for name, value in path_args.items():
        if name.endswith("_id") and not is_uuid(value):
            raise NotFound(f"no {name.removesuffix('_id').replace('_', ' ')} '{value[:100]}'")
    if all(name.endswith("_id") for name in path_args):
        return dict(path_args)
    others = {name: decode_part(path_args[name], kind, name) for name, kind in endpoint.path_types.items()}
    return {**path_args, **others}


def _body(endpoint: Endpoint, raw: bytes, content_type: str) -> Any:
    """The body as the endpoint's type. Raises Malformed for what is no JSON, Invalid for wrong JSON."""
    if not raw and endpoint.body_optional:
        return endpoint.body()
    require_json(content_type)
    return decode_json(raw, endpoint.body)


# --- answering -----------------------------------------------------------------------------------


def _encoded(endpoint: Endpoint, answer: Answer[Any], environ: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and bytes of an answer. A GET gets a strong ETag, and 304 where the caller has it already."""
    headers = dict(answer.headers)
    status = answer.status or endpoint.status
    if status == 204:
        return 204, headers, b""  # Bottle leaves the Content-Type out of a 204 and a 304
    body = answer.body if isinstance(answer.body, bytes) else encode_json(answer.body)
    headers["Content-Type"] = answer.content_type
    if endpoint.method == "GET" and status == 200:
        headers["ETag"] = etag_of(body)
        known = etags_in(str(environ.get("HTTP_IF_NONE_MATCH") or ""))
        if "*" in known or headers["ETag"] in {tag.removeprefix("W/") for tag in known}:
            return 304, headers, b""
    return status, headers, body
