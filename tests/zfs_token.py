"""Resume tokens as OpenZFS writes them: 1-CHECKSUM-LENGTH-HEX of a zlib-compressed nvlist.

The nvlist is in the packing machine's native encoding (module/zfs/dsl_dataset.c, get_receive_resume_token_impl, which
calls fnvlist_pack); here as a little-endian machine packs it.
"""

import struct
import zlib
from collections.abc import Sequence

BOOLEAN, UINT64, STRING = 1, 8, 9


def encode_token(
    to_name: str,
    to_guid: str,
    from_guid: str | None,
    *,
    bytes_done: int,
    offset: int,
    object_: int = 1,
    flags: Sequence[str] = (),
) -> str:
    """A receive_resume_token, byte for byte what OpenZFS prints for these values."""
    numbers = [("object", object_), ("offset", offset), ("bytes", bytes_done), ("toguid", int(to_guid))]
    if from_guid:
        numbers.insert(0, ("fromguid", int(from_guid)))
    packed = struct.pack("<BBxxiI", 0, 1, 0, 1)
    packed += b"".join(_nvpair(name, UINT64, struct.pack("<Q", number)) for name, number in numbers)
    packed += _nvpair("toname", STRING, to_name.encode() + b"\0")
    packed += b"".join(_nvpair(flag, BOOLEAN, b"") for flag in flags) + bytes(4)
    squeezed = zlib.compress(packed, 6)
    words = len(squeezed) // 4
    checksum = sum(struct.unpack(f"<{words}I", squeezed[: words * 4]))  # the first word of fletcher4
    return f"1-{checksum:x}-{len(packed):x}-{squeezed.hex()}"


def _nvpair(name: str, kind: int, value: bytes) -> bytes:
    spelled = name.encode() + b"\0"
    spelled += bytes(-(16 + len(spelled)) % 8)
    value += bytes(-len(value) % 8)
    length = 16 + len(spelled) + len(value)
    return struct.pack("<ihhii", length, len(name) + 1, 0, int(kind != BOOLEAN), kind) + spelled + value


def decode_token(token: str) -> dict[str, str | bool]:
    """What a token says, numbers in decimal. Raises ValueError."""
    try:
        packed = zlib.decompress(bytes.fromhex(token.split("-")[3]))
    except (IndexError, ValueError, zlib.error):
        raise ValueError("resume token is corrupt") from None
    said: dict[str, str | bool] = {}
    at = 12
    while length := struct.unpack_from("<i", packed, at)[0]:
        _, name_length, _, _, kind = struct.unpack_from("<ihhii", packed, at)
        name = packed[at + 16 : at + 16 + name_length - 1].decode()
        value = packed[at + 16 + name_length + -(16 + name_length) % 8 : at + length]
        said[name] = True
        if kind == UINT64:
            said[name] = str(struct.unpack("<Q", value)[0])
        elif kind == STRING:
            said[name] = value.rstrip(b"\0").decode()
        at += length
    return said
