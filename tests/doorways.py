"""Ways by which a request can reach the witness other than straight from its server.

`pytest --through NAME` sends what the tests ask by way of it: the same tests, the same answers.
"""

import importlib
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

from handlers.request import Witness
from handlers.routes import make_app
from zfs_sync import open_witness

App = Callable[[dict[str, Any], Any], Iterable[bytes]]
Event = dict[str, Any]

chosen = "none"


def front(witness: Witness) -> App:
    """A witness's app, behind the doorway that was chosen."""
    if chosen == "three":
        return spread_over([witness, *(open_witness(witness.config) for _ in range(2))])
    return make_app(witness) if chosen == "none" else function_front(make_app(witness), EVENTS[chosen])


def spread_over(witnesses: list[Witness]) -> App:
    """Instances that share nothing but their store; each request comes to any of them."""
    apps = [make_app(witness) for witness in witnesses]
    spread = random.Random(len(apps))

    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer: Iterable[bytes] = spread.choice(apps)(environ, start_response)
        return answer

    return call


def function_front(app: App, event_of: Callable[[dict[str, Any], bytes], Event]) -> App:
    """The app as a function that gets events; each way and back as AWS documents it."""
    handle = importlib.import_module("deploy.function.aws_lambda").handler_of(app)

    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        answer = handle(event_of(environ, body), None)
        headers = [(name, str(value)) for name, value in answer.get("headers", {}).items()]
        headers += [(name, value) for name, values in answer.get("multiValueHeaders", {}).items() for value in values]
        headers += [("Set-Cookie", cookie) for cookie in answer.get("cookies", ())]
        content = b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
        status = HTTPStatus(answer["statusCode"])
        start_response(f"{status.value} {status.phrase}", headers)
        return [content]

    return call


def rest_event(environ: dict[str, Any], body: bytes) -> Event:
    """Payload format 1.0: what a REST API's proxy integration sends."""
    headers, address = _headers(environ), environ.get("REMOTE_ADDR", "127.0.0.1")
    headers["X-Forwarded-For"] = _forwarded(headers, address)
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    return {
        "resource": "/{proxy+}",
        "path": _path(environ),
        "httpMethod": environ["REQUEST_METHOD"],
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "requestContext": {"stage": "prod", "identity": {"sourceIp": address}},
        **_body(body),
    }


def http_event(environ: dict[str, Any], body: bytes) -> Event:
    """Payload format 2.0: what an HTTP API and a function URL send."""
    headers, address = _headers(environ), environ.get("REMOTE_ADDR", "127.0.0.1")
    headers = {name.lower(): value for name, value in headers.items()}
    cookies = headers.pop("cookie", "")
    headers["x-forwarded-for"] = _forwarded(headers, address)
    http = {"method": environ["REQUEST_METHOD"], "sourceIp": address, "protocol": "HTTP/1.1", "path": _path(environ)}
    return {
        "version": "2.0",
        "rawPath": _path(environ),
        "rawQueryString": environ.get("QUERY_STRING", ""),
        "cookies": [cookie for cookie in cookies.split("; ") if cookie],
        "headers": headers,
        "requestContext": {"stage": "$default", "http": http},
        **_body(body),
    }


def balancer_event(environ: dict[str, Any], body: bytes) -> Event:
    """What an Application Load Balancer sends with multi-value headers: query values stay encoded."""
    headers, address = _headers(environ), environ.get("REMOTE_ADDR", "127.0.0.1")
    headers = {name.lower(): value for name, value in headers.items()}
    headers["x-forwarded-for"] = _forwarded(headers, address)
    query: dict[str, list[str]] = {}
    for pair in filter(None, environ.get("QUERY_STRING", "").split("&")):
        name, _, value = pair.partition("=")
        query.setdefault(name, []).append(value)
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/w/1"}},
        "httpMethod": environ["REQUEST_METHOD"],
        "path": _path(environ),
        "multiValueQueryStringParameters": query,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        **_body(body),
    }


EVENTS = {"rest": rest_event, "http": http_event, "balancer": balancer_event}
WAYS = ("none", "three", *EVENTS)


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    found = {
        name[5:].replace("_", "-").title(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") and value
    }
    if environ.get("CONTENT_TYPE"):
        found["Content-Type"] = environ["CONTENT_TYPE"]
    return found


def _forwarded(headers: dict[str, str], address: str) -> str:
    """A gateway appends the address that it sees to what the caller claims."""
    claimed = headers.get("X-Forwarded-For") or headers.get("x-forwarded-for")
    return f"{claimed}, {address}" if claimed else address


def _path(environ: dict[str, Any]) -> str:
    path: str = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    return unquote(path)


def _body(body: bytes) -> Event:
    return {"body": b64encode(body).decode() if body else None, "isBase64Encoded": bool(body)}
