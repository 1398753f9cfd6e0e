"""Bodies as a server hands them on: chunked, cut short, with a length that is none."""

import io
from typing import Any
from urllib.parse import quote

import pytest

from handlers import bodies as b
from handlers.errors import Invalid, Malformed, TooLarge
from handlers.wire import decode_query, etags_in, is_uuid, read_body


def environ(body: bytes, **more: Any) -> dict[str, Any]:
    return {"wsgi.input": io.BytesIO(body), **more}


def test_a_chunked_body_is_read_to_its_end_which_the_server_knows() -> None:
    assert read_body(environ(b"abc", **{"wsgi.input_terminated": True}), 3) == b"abc"
    with pytest.raises(TooLarge):
        read_body(environ(b"abcd", **{"wsgi.input_terminated": True}), 3)


def test_without_a_length_a_body_that_nobody_ends_is_not_waited_for() -> None:
    assert read_body(environ(b"abc"), 3) == b""


def test_no_more_is_read_than_the_length_says() -> None:
    assert read_body(environ(b"abcdef", CONTENT_LENGTH="3"), 10) == b"abc"


@pytest.mark.parametrize("length", ["-1", "x", "1.5", "0x3", "+3", " 3"])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(Malformed):
        read_body(environ(b"abc", CONTENT_LENGTH=length), 10)


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    stream = io.BytesIO(b"abcd")
    with pytest.raises(TooLarge):
        read_body({"wsgi.input": stream, "CONTENT_LENGTH": "4"}, 3)
    assert stream.tell() == 0


def test_a_body_that_ends_early_is_refused() -> None:
    with pytest.raises(Malformed, match="3 of 4"):
        read_body(environ(b"abc", CONTENT_LENGTH="4"), 10)


def test_etags_are_taken_apart() -> None:
    assert etags_in(' "a" , W/"b",, *') == ('"a"', 'W/"b"', "*")
    assert etags_in("") == ()


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("0b5c8f0e-0000-4000-8000-000000000000", True),
        ("0B5C8F0E-0000-4000-8000-000000000000", False),
        ("0b5c8f0e000040008000000000000000", False),
        ("{0b5c8f0e-0000-4000-8000-000000000000}", False),
        ("0b5c8f0e-0000-4000-8000-000000000000\n", False),
        ("", False),
        ("nas", False),
    ],
)
def test_a_uuid_is_written_in_one_way(text: str, is_one: bool) -> None:
    assert is_uuid(text) is is_one


def test_a_parameter_is_never_null() -> None:
    assert decode_query(b.SnapshotQuery, "dataset=null&name=null") == b.SnapshotQuery(dataset="null", name="null")
    for query in ("since=null", "guid=null", "system_id=null", "since=0.5", "limit=1.5", "limit=null"):
        with pytest.raises(Invalid):
            decode_query(b.SnapshotQuery, query)


@pytest.mark.parametrize("text", ["1e3", "1.0", "+5", " 5", "5 ", "\u0665", "0x5", "5_0", "", "-", "--5", "9" * 5000])
def test_a_number_in_a_query_is_decimal_digits(text: str) -> None:
    assert decode_query(b.Page, "limit=50&offset=0").limit == 50
    with pytest.raises(Invalid):
        decode_query(b.Page, f"limit={quote(text)}")
