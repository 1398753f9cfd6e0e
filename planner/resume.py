"""What a receive_resume_token says (libzfs, zfs_send_resume_token_to_nvlist).

A token is `1-CHECKSUM-LENGTH-PAYLOAD`, each in hexadecimal: the payload is a zlib-compressed nvlist, and LENGTH
its length before that. Kernels pack it in native form (nvpair.c, nvs_native_nvlist) or as XDR. A token
comes from another machine, so nothing here trusts it: decompression is bounded, and whatever does not
fit is no token. Its checksum is for `zfs send -t` to judge; zlib's own catches damage.
"""

import re
import struct
import zlib
from typing import Literal

from planner.model import ResumeToken
from planner.names import name_problem

LONGEST_TOKEN = 131072  # characters; a real one has a few hundred
LONGEST_NVLIST = 262144  # bytes

_TOKEN = re.compile(r"1-[0-9a-fA-F]{1,16}-([0-9a-fA-F]{1,8})-((?:[0-9a-fA-F]{2})+)")
_BOOLEAN, _UINT64, _STRING = 1, 8, 9  # data_type_t

_Value = int | str | Literal[True]


def decode_resume_token(text: str) -> ResumeToken | None:
    """What stream a token continues; None for anything that is no whole token. Never raises."""
    found = _TOKEN.fullmatch(text) if len(text) <= LONGEST_TOKEN else None
    packed = _decompress(bytes.fromhex(found[2]), int(found[1], 16)) if found else None
    if packed is None:
        return None
    try:
        pairs = _unpack(packed)
    except (ValueError, struct.error):
        return None
    return _token_of(pairs)


def _decompress(payload: bytes, length: int) -> bytes | None:
    if length > LONGEST_NVLIST:
        return None
    decompressor = zlib.decompressobj()
    try:
        packed = decompressor.decompress(payload, length + 1)
    except zlib.error:
        return None
    whole = decompressor.eof and not decompressor.unused_data
    return packed if whole and len(packed) == length else None


def _token_of(pairs: dict[str, _Value]) -> ResumeToken | None:
    to_name, to_guid, from_guid = pairs.get("toname"), pairs.get("toguid"), pairs.get("fromguid", 0)
    bytes_done = pairs.get("bytes", 0)
    if not isinstance(to_name, str) or "@" not in to_name or name_problem(to_name):
        return None
    if not _is_uint64(to_guid) or not _is_uint64(from_guid) or not _is_uint64(bytes_done):
        return None
    return ResumeToken(
        to_name=to_name,
        to_guid=str(to_guid),
        from_guid=str(from_guid) if from_guid else None,
        bytes_done=int(bytes_done),
        raw="rawok" in pairs,
        embedded="embedok" in pairs,
        large_blocks="largeblockok" in pairs,
        compressed="compressok" in pairs,
    )


def _is_uint64(value: _Value | None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unpack(packed: bytes) -> dict[str, _Value]:
    """The booleans, numbers and strings of an nvlist by name. Raises ValueError or struct.error if it is none."""
    match packed[:2]:
        case b"\x01\x00" | b"\x01\x01":  # XDR, made on a big- or a little-endian machine: big-endian within
            return _unpack_xdr(packed)
        case b"\x00\x01":
            return _unpack_native(packed, "<")
        case b"\x00\x00":
            return _unpack_native(packed, ">")
    raise ValueError("no nvlist")


def _unpack_native(packed: bytes, order: str) -> dict[str, _Value]:
    """After a header of 12 bytes, each pair: its size, the name's with its NUL, 0, elements, type, name, value.

    Name and value each start at a multiple of 8 from the pair's start; a size of 0 ends the list.
    """
    pairs: dict[str, _Value] = {}
    at = 12
    while (size := struct.unpack_from(order + "i", packed, at)[0]) != 0:
        name_size, _, _, kind = struct.unpack_from(order + "hhii", packed, at + 4)
        value_at = 16 + (name_size + 7) // 8 * 8
        pair = packed[at : at + size]
        if name_size < 1 or size < value_at or len(pair) < size:
            raise ValueError("a pair is cut short")
        name, value = pair[16 : 16 + name_size], pair[value_at:]
        if kind == _BOOLEAN:
            pairs[_text(name)] = True
        elif kind == _UINT64:
            pairs[_text(name)] = struct.unpack_from(order + "Q", value)[0]
        elif kind == _STRING:
            pairs[_text(name)] = _text(value)
        at += size
    return pairs


def _unpack_xdr(packed: bytes) -> dict[str, _Value]:
    """After a header of 12 bytes, each pair: its size, its size in memory, the name, type, elements, value (RFC 4506).

    A string is its length and its bytes, filled up to a multiple of 4; two sizes of 0 end the list.
    """
    pairs: dict[str, _Value] = {}
    at = 12
    while (sizes := struct.unpack_from(">ii", packed, at)) != (0, 0):
        size = sizes[0]
        pair = packed[at : at + size]
        if size < 20 or len(pair) < size:
            raise ValueError("a pair is cut short")
        name, kind_at = _xdr_string(pair, 8)
        (kind,) = struct.unpack_from(">i", pair, kind_at)
        if kind == _BOOLEAN:
            pairs[name] = True
        elif kind == _UINT64:
            pairs[name] = struct.unpack_from(">Q", pair, kind_at + 8)[0]
        elif kind == _STRING:
            pairs[name], _ = _xdr_string(pair, kind_at + 8)
        at += size
    return pairs


def _xdr_string(pair: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", pair, at)
    value = pair[at + 4 : at + 4 + length]
    if len(value) < length:
        raise ValueError("a string is cut short")
    return _text(value), at + 4 + (length + 3) // 4 * 4


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("ascii")
