"""/openapi.json: the API described from ENDPOINTS, the types in their rows, and the handlers' docstrings."""

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec

from handlers.answers import Error
from handlers.bodies import Uuid
from handlers.request import JSON, Answer, Endpoint, Request

Json = dict[str, Any]
SCHEMAS, RESPONSES = "#/components/schemas/", "#/components/responses/"

# Every header of an answer: what it holds, and its type.
HEADERS: dict[str, tuple[str, Any]] = {
    "X-Request-ID": ("The witness's log has it, too.", str),
    "ETag": ("Strong. Send it as If-None-Match, or to change only what you have seen, as If-Match.", str),
    "X-Total-Count": ("How many there are in all.", int),
    "Link": ("Where the next and the previous part are (RFC 8288).", str),
    "Location": ("Where the new thing is.", str),
    "Retry-After": ("Seconds to wait before the next try.", int),
    "WWW-Authenticate": ("How to send a key.", str),
    "X-Inventory": ("The inventory field of the body, for readers without JSON.", Literal["current", "stale"]),
    "X-Columns": ("The listing's columns, in order; only with the tab-separated form.", str),
    "X-Plan-Expires": ("Unix seconds after which this plan must not be run.", int),
    "X-Plan-Signature": ("Ed25519, base64, over the body's bytes followed by the value of X-Plan-Expires.", str),
    "X-Lease-Token": ("The lease_token field of the body.", str),
    "X-Lease-Seconds": ("How long the lease lasts.", int),
}
# What a refusal carries beside X-Request-ID.
REFUSED_WITH = {401: ("WWW-Authenticate",), 409: ("Retry-After",), 429: ("Retry-After",), 503: ("Retry-After",)}
SOMETIMES = {"Link", "X-Columns", "Retry-After"}  # not in every answer that may have it
MEANINGS = {
    200: "Done.",
    201: "Made, or brought up to date.",
    204: "Done; there is nothing to say.",
    304: "You have it already.",
    400: "The body or a parameter cannot be read.",
    401: "There is no key, or it is not a key of this witness.",
    403: "The key is good, and not for this. An agent gets it for all that is not its own, whether it exists or not.",
    404: "No such thing.",
    409: "It does not go with what is there; the detail says the way out.",
    410: "It was there; it is no longer.",
    412: "If-Match named another version than the one that is there.",
    413: "The body is over the limit.",
    415: "The body is of a kind that is not read here.",
    422: "Understood, and wrong: `errors` names each field, line or parameter.",
    429: "Too many wrong keys or registrations from this address, or of this call with one key.",
    500: "The witness failed; its log says why, under X-Request-ID.",
    503: "The store cannot be used now; try again.",
    507: "The witness's disk is full.",
}
ABOUT = """Coordinates ZFS snapshot replication: agents report what is there and fetch what to run.
Nothing here runs zfs.

Times are RFC 3339, sizes bytes. Guids are decimal strings, since many JSON readers round integers above 2^53.
Every request that has a body may send it with `Content-Encoding: gzip`. Errors all have one form."""


def show_openapi(request: Request) -> Answer[Json]:
    """Describe this API, as OpenAPI 3.1."""
    return Answer(description_of(request.prefix + request.config.api_prefix))


@lru_cache(maxsize=2)
def description_of(api_prefix: str) -> bytes:
    """The description's JSON. Made when it is first asked for: a cold start does without."""
    from handlers.routes import ENDPOINTS

    return msgspec.json.encode(describe(ENDPOINTS, api_prefix))


def describe(endpoints: Iterable[Endpoint], api_prefix: str) -> Json:
    """The OpenAPI document of these rows."""
    rows = list(endpoints)
    schemas = Schemas(rows)
    paths: dict[str, Json] = {}
    for row in rows:
        paths.setdefault(re.sub(r"<(\w+)>", r"{\1}", row.path), {})[row.method.lower()] = _operation(row, schemas)
    statuses = sorted({status for row in rows for status in statuses_of(row) if status >= 400})
    return {
        "openapi": "3.1.0",
        "info": {"title": "ZFS Sync witness", "version": "1", "description": ABOUT},
        "servers": [{"url": api_prefix}],
        "security": [{"ApiKey": []}, {"Bearer": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(map(_tag, rows))],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": {name: _header(name, schemas) for name in HEADERS},
            "responses": {f"Error{status}": _refusal(status, schemas) for status in statuses},
            "securitySchemes": {
                "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "Bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
            },
        },
    }


# --- one endpoint --------------------------------------------------------------------------------


def statuses_of(row: Endpoint) -> set[int]:
    """Every status that an endpoint may answer: its row's, and those of every endpoint of its kind."""
    found = {row.status, 400, 422, 500, *row.refuses}
    if row.method == "GET":
        found.add(304)
    else:
        found |= {503, 507}
    if not row.for_anyone:
        found |= {401, 403, 429, 503}
    if "_id>" in row.path or "system_id" in _fields(row.query) or "sync_group_id" in _fields(row.query):
        found.add(404)
    if row.reads_body:
        found |= {413, 415}
    if row.method == "PUT":
        found.add(412)
    return found


def headers_of(row: Endpoint) -> tuple[str, ...]:
    """The headers that tell something in an endpoint's good answer."""
    found = ["X-Request-ID", *row.sends]
    if row.method == "GET":
        found.append("ETag")
    if {"limit", "offset"} <= _fields(row.query):
        found += ["X-Total-Count", "Link"]
    return tuple(found)


def _operation(row: Endpoint, schemas: "Schemas") -> Json:
    summary, _, more = (inspect.getdoc(row.handler) or "").partition("\n")
    first, _, rest = summary.partition(". ")
    who = f"Who may call: {row.callers.everybody}."
    said = [rest, more.strip(), who]
    operation: Json = {
        "operationId": row.name,
        "summary": first.rstrip("."),
        "description": "\n\n".join(filter(None, said)),
        "tags": [_tag(row)],
        "parameters": [*_parameters(row, schemas)],
        "responses": {str(status): _response(row, status, schemas) for status in sorted(statuses_of(row))},
    }
    if row.reads_body:
        kinds = row.takes or {JSON: row.body}
        content = {kind: schemas.media(taken) for kind, taken in kinds.items()}
        operation["requestBody"] = {"content": content, "required": not (row.body_optional or "text/plain" in kinds)}
    if row.for_anyone:
        operation["security"] = []
    return operation


def _tag(row: Endpoint) -> str:
    return row.path.split("/")[1]


def _parameters(row: Endpoint, schemas: "Schemas") -> Iterable[Json]:
    for name in re.findall(r"<(\w+)>", row.path):
        schema = schemas.of(row.path_types.get(name, Uuid))
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for place, kind in (("query", row.query), ("header", row.headers)):
        for field in msgspec.structs.fields(kind) if kind is not None else ():
            yield {"name": field.encode_name, "in": place, "schema": schemas.parameter(field)}
    conditional = {"GET": "If-None-Match", "PUT": "If-Match"}.get(row.method)
    if conditional:
        known = {"type": "string", "examples": ['"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"']}
        yield {"name": conditional, "in": "header", "description": "ETags, or *", "schema": known}


def _response(row: Endpoint, status: int, schemas: "Schemas") -> Json:
    if status == 304:
        return {"description": MEANINGS[304], "headers": _header_refs(headers_of(row))}
    own = status == row.status or (status in row.refuses and status >= 500)
    if not own:
        return {"$ref": f"{RESPONSES}Error{status}"}
    names = headers_of(row) if status < 400 else ("X-Request-ID", "Retry-After")
    response: Json = {"description": MEANINGS[status], "headers": _header_refs(names)}
    if row.answer is not None:
        response["content"] = {kind: schemas.media(row.answer if kind == JSON else str) for kind in row.gives}
    return response


def _refusal(status: int, schemas: "Schemas") -> Json:
    names = ("X-Request-ID", *REFUSED_WITH.get(status, ()))
    example = {"detail": MEANINGS[status], "status_code": status}
    content = {JSON: {**schemas.media(Error), "example": example}}
    return {"description": MEANINGS[status], "headers": _header_refs(names), "content": content}


def _header(name: str, schemas: "Schemas") -> Json:
    meaning, kind = HEADERS[name]
    return {"description": meaning, "required": name not in SOMETIMES, "schema": schemas.of(kind)}


def _header_refs(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _fields(kind: type[msgspec.Struct] | None) -> set[str]:
    return set(kind.__struct_fields__) if kind is not None else set()


# --- types ---------------------------------------------------------------------------------------


class Schemas:
    """The JSON Schemas of all types that the rows name."""

    def __init__(self, rows: Iterable[Endpoint]) -> None:
        kinds: list[Any] = [Error]
        for row in rows:
            kinds += [row.body, row.answer, *row.takes.values()]
        _, found = msgspec.json.schema_components([kind for kind in kinds if kind], ref_template=f"{SCHEMAS}{{name}}")
        self.components: Json = _in_ecma(found)
        for each in self.components.values():
            if "description" in each:
                each["description"] = inspect.cleandoc(each["description"])  # as docstrings are from Python 3.13 on

    def of(self, kind: Any) -> Json:
        """A type's schema, by reference where it has a name."""
        (schema,), _ = msgspec.json.schema_components([kind], ref_template=f"{SCHEMAS}{{name}}")
        found: Json = _in_ecma(schema)
        return found

    def media(self, kind: Any) -> Json:
        """A media type's object: the schema, and an example that follows from it."""
        schema = self.of(kind)
        return {"schema": schema, "example": self.example(schema)}

    def parameter(self, field: msgspec.structs.FieldInfo) -> Json:
        """A parameter's schema. One that may be left out is never sent as null."""
        schema = self.of(field.type)
        kinds = [each for each in schema.pop("anyOf", []) if each.get("type") != "null"]
        schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        if field.default not in (None, msgspec.NODEFAULT, ""):
            schema["default"] = field.default
        return schema

    def example(self, schema: Json) -> Any:
        """A value that fits a schema, made of its parts' examples."""
        if "$ref" in schema:
            return self.example(self.components[schema["$ref"].removeprefix(SCHEMAS)])
        for name in ("examples", "enum"):
            if name in schema:
                return schema[name][0]
        if "const" in schema or "default" in schema:
            return schema.get("const", schema.get("default"))
        if "anyOf" in schema:
            return self.example(schema["anyOf"][0])
        match schema.get("type"):
            case "object":
                needed = schema.get("required", [])
                return {name: self.example(schema["properties"][name]) for name in needed}
            case "array":
                return [self.example(schema["items"])]
        return {"string": "text", "integer": 1, "number": 1.0, "boolean": False}.get(schema.get("type", ""))


def _in_ecma(schema: Any) -> Any:
    """A schema with its patterns as JSON Schema has them (ECMA-262): there, $ is the very end."""
    if isinstance(schema, Mapping):
        return {name: _pattern(each) if name == "pattern" else _in_ecma(each) for name, each in schema.items()}
    if isinstance(schema, list | tuple):
        return [_in_ecma(each) for each in schema]
    return schema


def _pattern(python: Any) -> Any:
    if not isinstance(python, str):
        return _in_ecma(python)  # a property of this name
    return python.replace(r"\A", "^").replace(r"\Z", "$").replace(r"$(?!\n)", "$")
