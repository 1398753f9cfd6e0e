"""What comes from outside is read or refused, whatever it is; and four times as much takes four times the work."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import ConfigError, load
from config.files import read_file
from handlers.auth import client_address, client_scheme, key_of
from handlers.bodies import InventoryBody
from handlers.dashboard.sessions import cookies_in
from handlers.errors import PreconditionFailed, Refused
from handlers.reports import columns_of, read_json, read_listing
from handlers.routes import ENDPOINTS
from handlers.wire import decode_headers, decode_json, decode_query, etags_in, read_body, require_match, unzip_body
from planner.globs import matches
from planner.resume import decode_resume_token
from tests.boxes import COLUMNS, listing
from tests.steps import steps_of
from tests.tokens import pack, token_of

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BODIES = {row.name: kind for row in ENDPOINTS for kind in [row.body or row.takes.get("application/json")] if kind}
QUERIES = {row.name: row.query for row in ENDPOINTS if row.query is not None}
HEADERS = {row.name: row.headers for row in ENDPOINTS if row.headers is not None}


def refused(error: type[Exception], do: Callable[[], object]) -> object:
    """What it answers, or how it refuses; any other exception is a failure."""
    with suppress(error):
        return do()
    return None


# --- whatever it is ------------------------------------------------------------------------------

cells = st.sampled_from(
    ["tank", "tank/a", "tank/a@s", "tank#b", "-", "", "0", "1", "9" * 30, "9" * 5000, "-1", "\u0661", "1e9", "snapshot"]
) | st.text(max_size=5)
junk_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@quick
@given(
    st.lists(st.lists(cells, min_size=1, max_size=12).map("\t".join), max_size=6).map("\n".join), st.binary(max_size=9)
)
def test_listings(text: str, junk: bytes) -> None:
    for columns in (COLUMNS, "name,guid", "guid,name,createtxg,receive_resume_token"):
        for raw in (text.encode("utf-8", "surrogatepass"), text.encode("utf-8", "replace") + junk):
            refused(Refused, lambda raw=raw, columns=columns: read_listing(raw, columns_of(columns), 1_700_000_000))


@quick
@given(st.text(max_size=60))
def test_columns(text: str) -> None:
    refused(Refused, lambda: columns_of(text))


@cache
def fields_of(kind: Any) -> list[str]:
    inner = getattr(kind, "__args__", (kind,))[0]
    return list(inner.__struct_encode_fields__)


@quick
@given(st.data())
def test_bodies(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(BODIES)))
    known = st.sampled_from(fields_of(BODIES[name]) or ["none"])
    value = data.draw(st.dictionaries(known | st.text(max_size=5), junk_values, max_size=4) | junk_values)
    raw = json.dumps([value] if data.draw(st.booleans()) else value).encode()
    cut = data.draw(st.integers(0, len(raw)))
    for body in (raw, raw[:cut], raw[:cut] + data.draw(st.binary(max_size=4)) + raw[cut:]):
        refused(Refused, lambda body=body: decode_json(body, BODIES[name]))


@quick
@given(
    st.lists(
        st.fixed_dictionaries(
            {"name": cells},
            optional={
                "guid": cells | st.integers(),
                "type": cells,
                "used": cells | st.integers(),
                "snapshots": st.lists(st.fixed_dictionaries({"name": cells}, optional={"guid": cells}), max_size=2),
                "receive_resume_token": cells,
            },
        ),
        max_size=4,
    )
)
def test_inventories(datasets: list[Any]) -> None:
    raw = json.dumps({"datasets": datasets}).encode()
    refused(Refused, lambda: read_json(decode_json(raw, InventoryBody), 1_700_000_000))


PIECES = ["port", ": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<", "? ", "groups", "name", "'", '"', "|"]
PIECES += [">", "#", "%", "@", "\x00", "\t", "---\n", "9" * 5000, "0x", "1:60", "\ud800", "2001-99-99", "~", "."]
PIECES += [f"!!{tag} " for tag in ("int", "timestamp", "bool", "binary", "set", "omap", "pairs", "float", "null", "x")]
yaml_text = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@settings(quick, max_examples=300)
@given(yaml_text, st.sampled_from([".yaml", ".toml"]))
def test_configuration(tmp_path: Path, text: str, suffix: str) -> None:
    file = tmp_path / f"zfs_sync{suffix}"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(ConfigError, lambda: load(file, {}))


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 30_000,
        "{a: " * 30_000,
        "- " * 3000,
        "&a [*a]",
        "a: &a {b: *a}",
        "port: !!timestamp x",
        "port: !!bool x",
        "port: !!int x",
        f"port: {'9' * 5000}",
        "a: &a [x]\nb: &b {<<: *a}",
    ],
)
def test_configuration_that_breaks_readers(tmp_path: Path, text: str) -> None:
    for suffix in (".yaml", ".toml"):
        file = tmp_path / f"zfs_sync{suffix}"
        file.write_text(text.replace(": ", " = ", 1) if suffix == ".toml" else text)
        with pytest.raises(ConfigError, match=str(file)):
            load(file, {})


@quick
@given(
    st.dictionaries(
        st.sampled_from(["toname", "toguid", "fromguid", "bytes", "rawok", "x"]),
        st.text("tank@/%1", max_size=9) | st.integers(0, 2**64 - 1),
    ),
    st.sampled_from(["little", "big", "xdr"]),
    st.binary(max_size=4),
    st.integers(0, 100),
)
def test_resume_tokens(pairs: dict[str, Any], form: Any, junk: bytes, at: int) -> None:
    packed = pack(pairs, form)
    for bytes_ in (packed, packed[:at] + junk + packed[at:], packed[at:]):
        token = decode_resume_token(token_of(bytes_))
        assert token is None or "@" in token.to_name


@quick
@given(st.text(max_size=20), st.text(max_size=20))
def test_globs(glob: str, path: str) -> None:
    assert matches(glob, path) in (True, False)
    assert matches(glob, glob)


header = st.lists(
    st.sampled_from(
        ['"', "W/", "*", ",", ";", "=", " ", "a", "10.0.0.1", "::1", "%", ".", "Bearer ", "\xff", "[", "]", "/"]
    )
    | st.characters(max_codepoint=255).map(str),
    max_size=10,
).map("".join)


@quick
@given(header, header)
def test_headers(one: str, other: str) -> None:
    request: Any = SimpleNamespace(if_match=etags_in(one))
    refused(PreconditionFailed, lambda: require_match(request, {"a": other}))
    assert all(isinstance(value, str) for value in cookies_in(one).values())
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": one, "HTTP_X_FORWARDED_PROTO": other}
    client_address(environ, ("10.0.0.0/8", "::/0"))
    client_address({**environ, "REMOTE_ADDR": other}, ("0.0.0.0/0",))
    client_scheme({**environ, "wsgi.url_scheme": "http"}, ("10.0.0.0/8",))
    key_of({"x-api-key": one, "authorization": other})
    for kind in HEADERS.values():
        names = [name.lower() for name in fields_of(kind)]
        refused(Refused, lambda kind=kind, names=names: decode_headers(kind, dict.fromkeys(names, one)))
    for kind in QUERIES.values():
        names = [*fields_of(kind), "x"]
        text = "&".join(f"{name}={other}" for name in names)
        refused(Refused, lambda kind=kind, text=text: decode_query(kind, text))
    refused(Refused, lambda: unzip_body(one.encode(), other, 100))


@pytest.mark.parametrize("length", ["9" * 5000, "\u00b2", "\u0661", "0x1", "1_0", "\x00"])
def test_lengths(length: str) -> None:
    with pytest.raises(Refused):
        read_body({"CONTENT_LENGTH": length, "wsgi.input": None}, 10)


# --- how much of it there is ---------------------------------------------------------------------


def of_listing(size: int) -> Callable[[], object]:
    histories = [f"tank/d{number}: " + " ".join(map(str, range(1, 9))) for number in range(size)]
    raw = listing(*histories).encode()
    return lambda: read_listing(raw, columns_of(COLUMNS), 1_700_000_000)


def of_bad_listing(size: int) -> Callable[[], object]:
    raw = b"tank\tx\n" * size
    return lambda: read_listing(raw, ["name", "guid"], 1)


def of_inventory(size: int) -> Callable[[], object]:
    datasets = [{"name": f"tank/d{n}", "guid": n + 1, "snapshots": [{"name": "s", "guid": 9}]} for n in range(size)]
    raw = json.dumps({"datasets": datasets}).encode()
    return lambda: read_json(decode_json(raw, InventoryBody), 1_700_000_000)


def of_yaml(size: int) -> Callable[[], object]:
    return of_file(
        "groups:\n" + "".join(f"  - {{name: g{number}, systems: {{a{number}: }}}}\n" for number in range(size))
    )


def of_toml(size: int) -> Callable[[], object]:
    text = "".join(f'[[groups]]\nname = "g{number}"\n[groups.systems.a]\nroot = "tank"\n' for number in range(size))
    return of_file(text, ".toml")


def of_file(text: str, suffix: str = ".yaml") -> Callable[[], object]:
    file = FOLDER[0] / f"sized{suffix}"
    file.write_text(text)
    return lambda: load(file, {})


def of_token(size: int) -> Callable[[], object]:
    token = token_of(pack({**{f"n{number}": number for number in range(size)}, "toname": "tank@a", "toguid": 1}, "xdr"))
    return lambda: decode_resume_token(token)


FOLDER: list[Path] = [Path()]
SIZED: dict[str, tuple[Callable[[int], Callable[[], object]], int]] = {
    "listing": (of_listing, 40),
    "listing of errors": (of_bad_listing, 200),
    "inventory": (of_inventory, 100),
    "yaml": (of_yaml, 30),
    "toml": (of_toml, 30),
    "resume token": (of_token, 200),
    "glob": (lambda size: lambda: matches("*a" * 20 + "b", "a" * size), 60),
    "glob of components": (lambda size: lambda: matches("**/a/" * 5 + "b", "a/" * size), 60),
    "etags": (lambda size: lambda: etags_in('"a", ' * size), 200),
    "cookies": (lambda size: lambda: cookies_in("a=b; " * size), 200),
    "cookie with escapes": (lambda size: lambda: cookies_in('a="' + "\\1" * size + '"'), 200),
    "addresses": (
        lambda size: (
            lambda: client_address(
                {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "10.0.0.1," * size}, ("10.0.0.0/8",)
            )
        ),
        100,
    ),
    "query": (lambda size: lambda: decode_query(QUERIES["list_snapshots"], "name=" + "%61" * size), 200),
    "columns": (lambda size: lambda: columns_of("name," * size), 200),
}


@pytest.mark.parametrize("what", SIZED)
def test_four_times_as_much_takes_four_times_the_steps(tmp_path: Path, what: str) -> None:
    FOLDER[0] = tmp_path
    make, size = SIZED[what]
    steps_of(make(size + 1))  # what is only done once
    few, some, many = (steps_of(make(size * factor)) for factor in (1, 2, 4))
    print(few, some, many)
    assert many - some <= 2.2 * (some - few) + 20


def test_aliases_of_aliases_are_refused_before_they_grow(tmp_path: Path) -> None:
    for form in (
        "[{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]",
        "{{<<: [{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]}}",
    ):
        lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} " + form.format(f"*a{n - 1}") for n in range(1, 15)]
        file = tmp_path / "bomb.yaml"
        file.write_text("\n".join(lines))
        with pytest.raises(ConfigError, match="aliases"):
            read_file(file)


def test_an_alias_is_as_good_as_what_it_stands_for(tmp_path: Path) -> None:
    file = tmp_path / "aliases.yaml"
    file.write_text("groups:\n  - {name: a, systems: &both {nas: , backup: }}\n  - {name: b, systems: *both}\n")
    first, second = load(file, {}).groups
    assert first.systems == second.systems


def test_another_programs_cookie_takes_none_of_ours_along() -> None:
    assert cookies_in('x@y={"a": 1}; [b]; session=ours; c="')["session"] == "ours"
