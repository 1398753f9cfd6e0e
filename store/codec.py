"""The bytes of a file: a TinyDB database in JSON, one document a line, its generation in front.

    {"_meta":{"1":{"gen":7,"nonce":"0f…","schema":1}},
    "systems":{
    "1":{"id":"…","hostname":"nas",…},
    "2":{"id":"…","hostname":"backup",…}}}

The only module that knows msgspec's JSON side, so that all its exceptions are dealt with here.
"""

import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from store.errors import Damaged, StoreError

T = TypeVar("T")

SCHEMA = 1
META = "_meta"
HEAD_BYTES = 96  # enough for the whole of `_meta`, so for all that makes a content unlike any other

RawTables = dict[str, dict[str, Raw]]
PlainTables = dict[str, dict[str, dict[str, Any]]]

_raw_tables = msgspec.json.Decoder(RawTables)
_plain_tables = msgspec.json.Decoder(PlainTables)
_encoder = msgspec.json.Encoder()
_SCHEMA_IN_HEAD = re.compile(rb'"schema": ?(\d+)')
_IDS = re.compile(rb'\{"id": ?"([^"\\]*)"')
_ID_IN_FRONT = re.compile(rb'\{"id":"([^"\\]*)"')


class Meta(Struct, frozen=True):
    """A content's generation: `gen` counts up, and `nonce` tells it from any other with the same count."""

    gen: int
    nonce: str
    schema: int

    @property
    def generation(self) -> str:
        return f"{self.gen}-{self.nonce}"


class _Id(Struct):
    id: str


NEVER_WRITTEN = Meta(gen=0, nonce="", schema=SCHEMA)


def next_meta(meta: Meta) -> Meta:
    """The generation of the content that follows `meta`'s. No two writers, nor one twice, get the same."""
    return Meta(gen=meta.gen + 1, nonce=secrets.token_hex(16), schema=SCHEMA)


def encode_document(document: object) -> Raw:
    """A document as it stands in the file."""
    return Raw(_encoder.encode(document))


def decode_document(raw: Raw, kind: type[T], file: str) -> T:
    """The document in `raw`. Raises StoreError naming the file if it is not one of this kind."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(file, error) from error


def convert_document(document: dict[str, Any], kind: type[T], file: str) -> T:
    """The same from a document that was already read as a dict."""
    try:
        return msgspec.convert(document, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise damaged(file, error) from error


def id_of(raw: Raw, file: str) -> str:
    """A document's id, without decoding the document: we write it in front; others may have rewritten the file."""
    found = _ID_IN_FRONT.match(raw)
    return found[1].decode("utf-8", "replace") if found else decode_document(raw, _Id, file).id


def checksum(held: Raw | bytes) -> int:
    """A number that changes with the bytes: not proof against malice, for which it would have to be a secret's."""
    return zlib.crc32(held)


def plain_document(document: object) -> dict[str, Any]:
    """A document as a dict of what JSON knows, as TinyDB wants it."""
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain


def decode_raw_tables(data: bytes, file: str) -> tuple[Meta, RawTables]:
    """A file's generation and its tables, each document still in bytes."""
    tables = _decode(_raw_tables, data, file)
    meta = decode_document(_meta_row(tables, file), Meta, file)
    _refuse_other_schemas(meta, file)
    return meta, tables


def decode_plain_tables(data: bytes, file: str, any_schema: bool = False) -> tuple[Meta, PlainTables]:
    """A file's generation and its tables, each document a dict."""
    tables = _decode(_plain_tables, data, file)
    meta = convert_document(_meta_row(tables, file), Meta, file)
    if not any_schema:
        _refuse_other_schemas(meta, file)
    return meta, tables


def schema_of(head: bytes) -> int | None:
    """The schema of a file by its first bytes; None where they don't show it."""
    found = _SCHEMA_IN_HEAD.search(head)
    return int(found[1]) if found else None


def encode_tables(meta: Meta, tables: Mapping[str, Sequence[tuple[int | str, Raw | bytes]]]) -> bytes:
    """A whole file."""
    parts: list[bytes | Raw] = [b'{"%b":{"1":%b}' % (META.encode(), _encoder.encode(meta))]
    for name, rows in tables.items():
        parts.append(b",\n%b:{" % _encoder.encode(name))
        start = b'\n"'
        for doc_id, row in rows:
            parts += (start, str(doc_id).encode(), b'":', row)
            start = b',\n"'
        parts.append(b"}")
    parts.append(b"}\n")
    return b"".join(parts)


def damaged(file: str, error: object) -> Damaged:
    return Damaged(f"{file} is damaged: {error}. Restore it from a backup, or move it away to start it afresh")


def ids_in(data: bytes) -> set[str]:
    """What ids of documents can still be found in a content, be it damaged or not."""
    return {found.decode("utf-8", "replace") for found in _IDS.findall(data)}


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, file: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(file, error) from error


def _meta_row(tables: dict[str, dict[str, T]], file: str) -> T:
    try:
        return tables.pop(META)["1"]
    except KeyError:
        raise damaged(file, f"it has no {META}") from None


def _refuse_other_schemas(meta: Meta, file: str) -> None:
    if meta.schema != SCHEMA:
        raise StoreError(f"{file} has schema {meta.schema}; this version of zfs-sync reads schema {SCHEMA}")
