"""Globs choose datasets and snapshots."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.globs import matches, selects


@pytest.mark.parametrize(
    "line",
    [
        "media        matches media",
        "media        misses  media/films  mediax  -",
        "media/*      matches media/films",
        "media/*      misses  media  media/films/old",
        "media/**     matches media  media/films  media/films/old",
        "media/**     misses  mediax  films/media  -",
        "**           matches -  media  media/films/old",
        "*            matches media",
        "*            misses  -  media/films",
        "**/cache     matches cache  media/cache  a/b/cache",
        "**/cache     misses  cache/x  mycache",
        "a/**/z       matches a/z  a/b/z  a/b/c/z  a/z/z",
        "a/**/z       misses  a  z  az  a/b/zz",
        "**/b/**      matches b  a/b  b/c  a/b/c",
        "**/b/*/**/c  matches b/x/c  a/b/x/y/c  b/b/b/c",
        "**/b/*/**/c  misses  b/c  b",
        "*-frequent   matches auto-frequent  -frequent",
        "*-frequent   misses  frequent  auto-frequently",
        "dail?-*      matches daily-1  dailx-",
        "dail?-*      misses  dail-1",
        "a*b*c        matches abc  aXbXc  abbcbc",
        "a*b*c        misses  ab  acb  abcd",
        "a**c         matches abc  ac",
        "[ab]         misses  a  b",
        "media/       matches media",
    ],
)
def test_glob(line: str) -> None:
    glob, verb, *paths = line.split()
    for path in paths:
        assert matches(glob, "" if path == "-" else path) is (verb == "matches"), path


def test_spaces_and_case_count() -> None:
    assert matches("home *", "home videos")
    assert not matches("Media", "media")


def test_selects_what_is_included_and_not_excluded() -> None:
    assert selects(["media/**", "photos"], ["**/cache"], "media/films")
    assert not selects(["media/**", "photos"], ["**/cache"], "media/cache")
    assert not selects(["media/**", "photos"], [], "mail")
    assert not selects([], [], "mail")


component = st.text("ab*?", max_size=6)
glob_text = st.lists(component | st.just("**"), max_size=5).map("/".join)
path_text = st.lists(st.text("ab", min_size=1, max_size=6), max_size=5).map("/".join)


def as_regex(glob: str) -> str:
    """The same glob as a backtracking regular expression over "/a/b/c", each component after its slash."""
    parts = [part for part in glob.split("/") if part]
    pattern = ""
    for part in parts:
        if part == "**":
            pattern += "(?:/[^/]+)*"
        else:
            pattern += "/" + "".join({"*": "[^/]*", "?": "[^/]"}.get(letter, letter) for letter in part)
    return pattern


@settings(deadline=None)
@given(glob_text, path_text)
def test_agrees_with_a_regular_expression(glob: str, path: str) -> None:
    expected = re.fullmatch(as_regex(glob), "".join("/" + part for part in path.split("/") if part)) is not None
    assert matches(glob, path) is expected


def test_many_stars_take_no_exponential_time() -> None:
    assert not matches("*a" * 60 + "b", "a" * 250)
    assert not matches("**/a/" * 40 + "b", "/".join("a" * 120))


def test_no_glob_takes_more_steps_than_the_product_of_the_lengths() -> None:
    glob, name = "*a" * 126 + "*b", "a" * 255
    steps = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal steps
        steps += event == "call"

    sys.setprofile(count)
    try:
        assert not matches(glob, name)
    finally:
        sys.setprofile(None)
    assert 255 < steps <= len(glob) * len(name)
