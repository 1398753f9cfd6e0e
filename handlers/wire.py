"""Bytes to values and back: bodies, queries, ETags. Knows nothing of what is said."""

import hashlib
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
import msgspec.inspect
import msgspec.structs

from handlers.errors import Invalid, Malformed, PreconditionFailed, Refused, TooLarge, UnsupportedMediaType
from handlers.request import Request

# --- reading -------------------------------------------------------------------------------------


def read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """The body as it was sent. Raises TooLarge past the limit, Malformed when it ends early."""
    length_text = str(environ.get("CONTENT_LENGTH") or "")
    stream = environ["wsgi.input"]
    if not length_text:
        # a server that says so has undone the chunked encoding and ends the stream itself
        if not environ.get("wsgi.input_terminated"):
            return b""
        return _bounded(_read(stream, limit + 1), limit)
    if not (length_text.isascii() and length_text.isdecimal()):
        raise Malformed(f"Content-Length: '{length_text[:50]}' is not a number")
    if len(length_text) > 15 or int(length_text) > limit:
        raise _too_large(limit)
    length = int(length_text)
    body = _read(stream, length)
    if len(body) < length:
        raise Malformed(f"the body ended after {len(body)} of {length} bytes")
    return body


def _read(stream: Any, size: int) -> bytes:
    """So many bytes, or what there is. Raises Malformed: every server has its own errors for chunks that are none."""
    try:
        return bytes(stream.read(size))
    except Refused:
        raise
    except TimeoutError:
        raise Malformed("the body did not arrive in time") from None
    except Exception as error:
        raise Malformed(f"the body cannot be read: {error}") from None


def _bounded(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit} bytes; max_inventory_bytes sets it for inventories")


def unzip_body(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding; no more than `limit` bytes are ever unpacked."""
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "x-gzip"):
        raise UnsupportedMediaType(f"Content-Encoding: '{encoding[:50]}' is not read here; send gzip or none")
    unzip = zlib.decompressobj(wbits=31)
    try:
        unzipped = unzip.decompress(body, limit + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not gzip: {error}") from None
    _bounded(unzipped, limit)
    if not unzip.eof or unzip.unused_data:
        raise Malformed("the gzip body is cut short, or something follows it")
    return unzipped


def require_json(content_type: str) -> None:
    """Raise UnsupportedMediaType unless the body is said to be JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType(f"Content-Type: '{kind[:100]}' is not read here; send application/json")


def prepare_kinds(of: type[msgspec.Struct] = msgspec.Struct) -> None:
    """Let msgspec work out each kind of document that has been defined, while there is no second thread.

    It does so when it first meets one, and hands what is half done to another thread that meets it meanwhile, which
    ends the process with SIGSEGV (seen with msgspec 0.22 when agents called at once after a start).
    """
    for kind in of.__subclasses__():
        msgspec.json.Decoder(kind)
        prepare_kinds(kind)


def decode_json(raw: bytes, kind: Any) -> Any:
    """`raw` as a msgspec type. Raises Malformed or Invalid, the latter naming the field."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), kind) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from None


def converted(value: Any, kind: Any) -> Any:
    """What was JSON as a msgspec type. Raises Invalid, naming the field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), kind) from None


def _invalid(message: str, kind: Any) -> Invalid:
    """msgspec's "Expected `int`, got `str` - at `$.snapshots[3].guid`" as an Invalid with that location."""
    what, _, where = message.partition(" - at `")
    loc = where.removeprefix("key` in `").rstrip("`").removeprefix("$").removeprefix(".")
    pattern = what.partition("matching regex ")[2]
    what = f"expected {_meanings(kind)[pattern]}" if pattern in _meanings(kind) else what
    if named := re.match(r"([\w.]+): ", what):  # a type's own check says it so
        loc = f"{loc}.{named[1]}".removeprefix(".")
        what = what[named.end() :]
    if "field `" in what:
        loc = f"{loc}.{what.partition('field `')[2].partition('`')[0]}".removeprefix(".")
    return Invalid.at(loc or "body", what)


@lru_cache(maxsize=64)
def _meanings(kind: Any) -> dict[str, str]:
    """What each pattern in a type stands for, by the pattern as msgspec prints it."""
    found: dict[str, str] = {}
    nodes: list[Any] = [msgspec.inspect.type_info(kind)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, msgspec.inspect.Metadata) and isinstance(node.type, msgspec.inspect.StrType):
            found[repr(node.type.pattern)] = str((node.extra_json_schema or {}).get("description"))
        for name in ("type", "fields", "types", "item_type", "key_type", "value_type"):
            below = getattr(node, name, ())
            nodes += below if isinstance(below, tuple) else (below,)
    return found


def decode_part(text: str, kind: Any, loc: str) -> Any:
    """A part of a path or query as a msgspec type. Raises Invalid."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    digits = text.removeprefix("-")
    if plain is int and not (digits.isascii() and digits.isdecimal()):  # msgspec takes 1e3 for a thousand
        raise Invalid.at(loc, "Expected `int` in decimal digits")
    try:
        return msgspec.convert(text, kind, strict=plain not in (int, bool))  # elsewhere lax is too lax: 0.5 as a time
    except msgspec.ValidationError as error:
        raise Invalid.at(loc, _invalid(str(error), kind).errors[0][1]) from None


def decode_headers(kind: type[msgspec.Struct], headers: Mapping[str, str]) -> Any:
    """The headers (by their names in lower case) that a Struct names. Raises Invalid."""
    names = [each.encode_name for each in msgspec.structs.fields(kind)]
    values = {name: headers[name.lower()] for name in names if name.lower() in headers}
    return converted(values, kind)


def decode_query(kind: type[msgspec.Struct], query_string: str) -> Any:
    """What stands after the question mark, as a Struct. Raises Malformed or Invalid."""
    try:
        pairs = parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise Malformed(f"the query cannot be read: {error}") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Malformed("a query parameter is given twice")
    types = _types_in_query(kind)
    for name in values:
        if name not in types:
            raise Invalid.at(name[:100] or "query", "there is no such parameter here")
    return kind(**{name: decode_part(text, types[name], name) for name, text in values.items()})


@lru_cache(maxsize=64)
def _types_in_query(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The type of each parameter where it is given: never None, which is for one that is left out."""
    types = {}
    for each in msgspec.structs.fields(kind):
        given = [part for part in get_args(each.type) if part is not NoneType]
        types[each.encode_name] = reduce(or_, given) if get_origin(each.type) in (Union, UnionType) else each.type
    return types


# --- answering -----------------------------------------------------------------------------------


def encode_json(value: Any) -> bytes:
    """JSON as every answer has it."""
    return msgspec.json.encode(value)


def etag_of(body: bytes) -> str:
    """The strong ETag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def require_match(request: Request, current: Any) -> None:
    """Raise PreconditionFailed when If-Match is given and does not name the current representation."""
    if not request.if_match or "*" in request.if_match:
        return
    body = current if isinstance(current, bytes) else encode_json(current)
    if etag_of(body) not in request.if_match:
        raise PreconditionFailed("it has changed since; get it again and repeat the change")


_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """Whether this is a UUID as we write them: lower case, with its hyphens."""
    return _UUID.fullmatch(text) is not None


def etags_in(header: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in header.split(",") if part.strip())
