"""Every answer that a test gets is held against /openapi.json: status, headers, media type and body.

So what is documented is what handlers do, in all that the tests make them do; and a handler that starts to answer
something else fails the tests that see it.
"""

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import jsonschema_rs

from handlers.openapi import describe
from handlers.request import JSON, Endpoint
from handlers.routes import ENDPOINTS

BASE = "/api/v1"
OF_ALL = {"content-type", "content-length", "cache-control", "vary", "x-content-type-options"}


@cache
def document() -> dict[str, Any]:
    """The API's description, with objects that hold nothing but what it says."""
    described: dict[str, Any] = copy.deepcopy(json.loads(json.dumps(describe(ENDPOINTS, BASE), default=str)))
    for schema in described["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return described


@cache
def patterns() -> list[tuple[str, re.Pattern[str], Endpoint]]:
    """Method, path and row of each endpoint; those without an id in the path first, as Bottle has them."""
    rows = sorted(ENDPOINTS, key=lambda row: row.path.count("<"))
    return [(row.method, re.compile(BASE + re.sub(r"<\w+>", "[^/]+", row.path)), row) for row in rows]


def row_of(method: str, path: str) -> Endpoint | None:
    """The row that answers a request; None where none does."""
    literal = path.removeprefix(BASE) in {row.path for row in ENDPOINTS}
    for known, pattern, row in patterns():
        if known == method and pattern.fullmatch(path) and not (literal and "<" in row.path):
            return row
    return None


@cache
def validator(operation: str, status: str) -> Any:
    """What checks the JSON of one status of an operation."""
    found = response_of(operation, status)
    schema = {**found["content"][JSON]["schema"], "components": document()["components"]}
    return jsonschema_rs.validator_for(schema)


@cache
def operations() -> dict[str, dict[str, Any]]:
    """Each operation by its id."""
    return {each["operationId"]: each for path in document()["paths"].values() for each in path.values()}


def response_of(operation: str, status: str) -> dict[str, Any]:
    """What is documented of one status of an operation."""
    found: dict[str, Any] = operations()[operation]["responses"][status]
    if "$ref" in found:
        return document()["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found


def hold_to_contract(row: Endpoint, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    """Assert that an answer is one that the API's description has."""
    said = operations()[row.name]["responses"]
    assert str(status) in said, f"{row.name} answers {status}, which it does not document; {sorted(said)}: {body!r}"
    found = response_of(row.name, str(status))
    sent = {name.lower(): value for name, value in headers}
    told = {name for name in sent if not name.startswith("access-control-")} - OF_ALL
    known = {name.lower(): document()["components"]["headers"][name] for name in found["headers"]}
    assert told <= set(known), f"{row.name} answers {status} with {told - set(known)}, not documented"
    for name, header in known.items():
        assert name in told or not header["required"], f"{row.name} answers {status} without {name}"
        if name in told and header["schema"].get("type") == "integer":
            assert re.fullmatch(r"\d+", sent[name]), f"{name}: {sent[name]}"
    kind = sent.get("content-type", "").partition(";")[0]
    assert body or "content" not in found or kind != JSON, f"{row.name} answers {status} with nothing"
    assert not body or "content" in found, f"{row.name} answers {status} with {body[:80]!r}"
    if "content" in found:
        assert kind in found["content"], f"{row.name} answers {status} as {kind}"
    if "content" in found and kind == JSON:
        for error in validator(row.name, str(status)).iter_errors(json.loads(body)):
            raise AssertionError(f"{row.name} answers {status}: {error.instance_path}: {error.message}")


def checked(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI app that holds the answers of another to the API's description."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        begun: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            begun[:] = [int(status[:3]), headers]
            return start_response(status, headers, *exc_info)

        body = b"".join(app(environ, start))
        row = row_of(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if row is not None:
            hold_to_contract(row, begun[0], begun[1], body)
        return iter([body])

    return call
