"""Resume tokens, real ones and hostile ones."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.model import ResumeToken
from planner.resume import LONGEST_NVLIST, LONGEST_TOKEN, decode_resume_token
from tests.tokens import encode_resume_token, fletcher_4, pack, token_of

# from OpenZFS 2.1.11: the receive of an increment, cut
REAL = (
    "1-10bbc51458-f8-789c636064000310a501c49c50360710a715e5e7a69766a63040c1dc35d70dff8a6e3fa80064b323a9cb4fca4a4d2e"
    "61606882aac3904f4b2b4e2d01c9ec81cbb321c9275596a41603e988c9fbb0ea2fc987b8e285dd1569c959cbfd1d90e439c1f27989b9a9"
    "403a312f5b3f37352533513f233f3755a12c332535bfd821253133a752d7c8c0c84cd7d050d7c0046c0700a0f42928"
)
# from a pool of another project's tests: a full stream
REAL_FULL = (
    "1-badbdec4c-c0-789c636064000310a500c4ec50360710e72765a52697303028439460caa7a515a79630c001489e0d493ea9b224b51848"
    "6fd0c2aebf243fbd343305a86edbd65e4f45a6650648f29c60f9bcc4dc54209d5b509556ec50945a9093a96b646064a06b60aa6b60063613"
    "00c1bf18b7"
)
FORMS = ("little", "big", "xdr")
uint64 = st.integers(1, 2**64 - 1)


def test_a_real_token() -> None:
    token = decode_resume_token(REAL)
    assert token == ResumeToken(
        to_name="tank/media/home videos@daily-2026-11-04",
        to_guid="5739725682738740968",
        from_guid="13958649747265268893",
        bytes_done=12489560,
        raw=False,
    )


def test_a_real_token_of_a_full_stream() -> None:
    token = decode_resume_token(REAL_FULL)
    assert token is not None
    assert (token.to_name, token.to_guid) == ("tmpzfs@repli-2020-05-06", str(0xA60221498DB5B662))
    assert (token.from_guid, token.bytes_done) == (None, 0x2AB0)


def test_the_test_encoder_packs_as_a_pool_does() -> None:
    payload = bytes.fromhex(REAL.split("-")[3])
    assert fletcher_4(payload) == int(REAL.split("-")[1], 16)
    pairs = {"fromguid": 13958649747265268893, "object": 0x82, "offset": 0xBC0000, "bytes": 12489560}
    pairs |= {"toguid": 5739725682738740968}
    assert pack({**pairs, "toname": "tank/media/home videos@daily-2026-11-04"}) == zlib.decompress(payload)


@settings(deadline=None)
@given(uint64, st.none() | uint64, st.integers(0, 2**64 - 1), st.tuples(*[st.booleans()] * 4), st.sampled_from(FORMS))
def test_round_trip(to_guid: int, from_guid: int | None, done: int, flags: tuple[bool, ...], form: str) -> None:
    raw, embedded, large_blocks, compressed = flags
    token = encode_resume_token(
        "tank/data@s 1",
        to_guid,
        from_guid,
        done,
        raw=raw,
        embedded=embedded,
        large_blocks=large_blocks,
        compressed=compressed,
        form=form,  # type: ignore[arg-type]
    )
    assert decode_resume_token(token) == ResumeToken(
        "tank/data@s 1", str(to_guid), None if from_guid is None else str(from_guid), done, *flags
    )


PAIRS = {"toname": "tank/data@s", "toguid": 7, "bytes": 9}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_token_must_name(form: str) -> None:
    assert decode_resume_token(token_of(pack(PAIRS, form)))
    for changed in (
        {"toname": 7},
        {"toname": "tank/data"},  # no snapshot
        {"toname": "tank/$(id)@s"},
        {"toguid": "7"},
        {"toguid": True},
        {"fromguid": "7"},
        {"bytes": "9"},
    ):
        assert decode_resume_token(token_of(pack({**PAIRS, **changed}, form))) is None, changed
    assert decode_resume_token(token_of(pack({"toname": "tank/data@s"}, form))) is None


def test_lengths_must_be_true() -> None:
    packed = pack(PAIRS)
    assert decode_resume_token(token_of(packed, len(packed) - 1)) is None
    assert decode_resume_token(token_of(packed, len(packed) + 1)) is None
    assert decode_resume_token(token_of(packed) + "00") is None  # something after the payload
    assert decode_resume_token(token_of(packed)[:-2]) is None  # cut


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_list_is_no_token(form: str) -> None:
    packed = pack(PAIRS, form)
    for end in range(len(packed)):
        assert decode_resume_token(token_of(packed[:end])) is None, end


@pytest.mark.parametrize("form", FORMS)
def test_sizes_that_lead_back_or_nowhere_end(form: str) -> None:
    packed = bytearray(pack(PAIRS, form))
    order = "<" if form == "little" else ">"
    second = 12 + struct.unpack_from(order + "i", packed, 12)[0]
    for size in (12 - second, -1, 1, 19, 2**31 - 1):
        struct.pack_into(order + "i", packed, second, size)
        assert decode_resume_token(token_of(bytes(packed))) is None, size


def test_a_bomb_is_not_unpacked() -> None:
    length = 1 << 26
    assert decode_resume_token(token_of(bytes(length))) is None  # its true length is too much
    packed = pack(PAIRS)
    bomb = token_of(packed + bytes(length), len(packed))
    assert decode_resume_token(bomb) is None  # and so is a false one
    assert decode_resume_token(token_of(packed + bytes(LONGEST_NVLIST))) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1-0-0-",
        "2" + REAL[1:],
        " " + REAL,
        REAL + "\n",
        REAL.replace("789c", "789d"),
        REAL[:-1],
        "1-0-ffffffff-00",
        "1-0-8-" + "0" * LONGEST_TOKEN,
        "\u0661-0-8-00",
    ],
)
def test_no_token(text: str) -> None:
    assert decode_resume_token(text) is None


@settings(deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=200).map(lambda junk: token_of(b"\x00\x01" + junk)))
def test_junk_never_raises(text: str) -> None:
    decode_resume_token(text)


@settings(deadline=None)
@given(st.sampled_from(FORMS), st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_byte_never_raises(form: str, at: int, flip: int) -> None:
    packed = bytearray(pack({**PAIRS, "fromguid": 5, "rawok": True}, form))
    packed[at % len(packed)] ^= flip
    decode_resume_token(token_of(bytes(packed)))
