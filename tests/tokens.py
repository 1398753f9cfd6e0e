"""Resume tokens as a pool would show them, for tests."""

import struct
import zlib
from typing import Literal

Value = int | str | Literal[True]


def encode_resume_token(
    to_name: str,
    to_guid: int | str,
    from_guid: int | str | None = None,
    bytes_done: int = 0,
    *,
    raw: bool = False,
    embedded: bool = False,
    large_blocks: bool = False,
    compressed: bool = False,
    form: Literal["little", "big", "xdr"] = "little",
) -> str:
    """The receive_resume_token of a receive that broke off after so many bytes.

    `form`: packed by a little-endian kernel, by a big-endian one, or as XDR.
    """
    pairs: dict[str, Value] = {"object": 1, "offset": 0, "bytes": bytes_done, "toguid": int(to_guid), "toname": to_name}
    if from_guid is not None:
        pairs["fromguid"] = int(from_guid)
    flags = {"rawok": raw, "embedok": embedded, "largeblockok": large_blocks, "compressok": compressed}
    for name, flag in flags.items():
        if flag:
            pairs[name] = True
    return token_of(pack(pairs, form))


def token_of(packed: bytes, length: int | None = None) -> str:
    """A token around an nvlist; `length` for one that lies about it."""
    payload = zlib.compress(packed)
    return f"1-{fletcher_4(payload):x}-{len(packed) if length is None else length:x}-{payload.hex()}"


def fletcher_4(payload: bytes) -> int:
    """The first of the four sums: of the whole 32-bit words."""
    words = len(payload) // 4
    return sum(struct.unpack_from(f"<{words}I", payload)) & 0xFFFFFFFFFFFFFFFF


def pack(pairs: dict[str, Value], form: Literal["little", "big", "xdr"] = "little") -> bytes:
    """An nvlist of booleans, 64-bit numbers and strings, as nvlist_pack() makes it."""
    if form == "xdr":
        head, pair_of, end = struct.pack(">BBHiI", 1, 1, 0, 0, 1), _xdr_pair, bytes(8)
        return head + b"".join(pair_of(name, value) for name, value in pairs.items()) + end
    order = "<" if form == "little" else ">"
    head = struct.pack(order + "BBHiI", 0, form == "little", 0, 0, 1)
    return head + b"".join(_native_pair(name, value, order) for name, value in pairs.items()) + bytes(4)


def _native_pair(name: str, value: Value, order: str) -> bytes:
    name_bytes = name.encode() + b"\0"
    if value is True:
        kind, elements, packed = 1, 0, b""
    elif isinstance(value, int):
        kind, elements, packed = 8, 1, struct.pack(order + "Q", value)
    else:
        kind, elements, packed = 9, 1, _filled(value.encode() + b"\0", 8)
    padded = _filled(name_bytes, 8)
    return (
        struct.pack(order + "ihhii", 16 + len(padded) + len(packed), len(name_bytes), 0, elements, kind)
        + padded
        + packed
    )


def _xdr_pair(name: str, value: Value) -> bytes:
    if value is True:
        kind, elements, packed = 1, 0, b""
    elif isinstance(value, int):
        kind, elements, packed = 8, 1, struct.pack(">Q", value)
    else:
        kind, elements, packed = 9, 1, _xdr_text(value)
    body = _xdr_text(name) + struct.pack(">ii", kind, elements) + packed
    return struct.pack(">ii", 8 + len(body), 64) + body


def _xdr_text(text: str) -> bytes:
    return struct.pack(">I", len(text)) + _filled(text.encode(), 4)


def _filled(text: bytes, multiple: int) -> bytes:
    return text + bytes(-len(text) % multiple)
