"""Names are checked as a pool checks them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.names import component_problem, dataset_problem, name_problem, new_name_problem

GOOD = [
    "tank",
    "tank/media",
    "tank/home videos@daily-2026-11-04",
    "tank/a.b:c-d_e@auto_2026-11-04_00.00.00--1w",
    "tank@s",
    "tank/data#mark",
    "tank/data/%recv",
    "tank/.hidden/...",
    "tank/1",
    "tank/-x@-y",
    "tank/ @ ",
    "mirrored/data",
    "logs",
    "tank/mirror/log",
    "c0t0d0",
]
BAD = {
    "": "empty",
    "/tank": "empty",
    "tank/": "empty",
    "tank//data": "empty",
    "tank@": "empty",
    "@snap": "empty",
    "tank/@s": "empty",
    "tank/./data": "no component",
    "tank/..": "no component",
    "tank@..": "no component",
    "tank/data@a@b": "'@'",
    "tank/data@a#b": "'#'",
    "tank/data#a@b": "'@'",
    "tank/data@a/b": "'/'",
    "tank/data\n": "'\\n'",
    "tank/data@snap\n": "'\\n'",
    "tank/a\tb": "'\\t'",
    "tank/a+b": "'+'",
    "tank/a;b": "';'",
    "tank/$(id)": "'$'",
    "tank/a'b": '"\'"',
    "tank/caf\u00e9": "'\\xe9'",
    "tank/\ud800": "'\\ud800'",
    "tank/\u0661": "'\\u0661'",
    "1tank": "letter",
    "-tank": "letter",
    " tank": "letter",
    "%tank": "letter",
    "ta%nk/data": "pool",
    "mirror": "keeps it for itself",
    "mirror/data@s": "keeps it for itself",
    "raidz2/data": "keeps it for itself",
    "draid": "keeps it for itself",
    "spare": "keeps it for itself",
    "log@s": "keeps it for itself",
    "tank/" + "x" * 251: "255 bytes",
    "tank" + "/x" * 50: "nested",
}


@pytest.mark.parametrize("name", [*GOOD, "tank/" + "x" * 250, "tank" + "/x" * 49 + "@s"])
def test_legal(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", BAD)
def test_illegal(name: str) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert BAD[name] in problem
    assert problem.isascii()
    assert problem.isprintable()


def test_length_counts_the_snapshot() -> None:
    assert name_problem("tank/" + "x" * 200 + "@" + "y" * 49) is None
    assert "255 bytes" in str(name_problem("tank/" + "x" * 200 + "@" + "y" * 50))


def test_a_dataset_has_no_snapshot() -> None:
    assert dataset_problem("tank/data") is None
    assert "it holds @" in str(dataset_problem("tank/data@snap"))
    assert "it holds #" in str(dataset_problem("tank/data#mark"))
    assert "not allowed" in str(dataset_problem("tank/da*ta"))
    assert "nested" in str(dataset_problem("tank" + "/x" * 50))


def test_what_follows_the_at_sign() -> None:
    assert component_problem("daily-2026-11-04 00:00") is None
    assert component_problem("-") is None
    for name in ("", ".", "..", "a/b", "a@b", "a#b", "a+b", "a\n", "x" * 255):
        assert component_problem(name), name


def test_percent_is_listed_and_never_made() -> None:
    assert name_problem("tank/data/%recv") is None
    assert "only zfs itself" in str(new_name_problem("tank/data/%recv"))
    assert new_name_problem("tank/data") is None
    assert new_name_problem("tank/da$ta")


def plainly_legal(name: str) -> bool:
    """The rule once more, slowly."""
    dataset, *rest = name.replace("#", "@").split("@")
    parts = dataset.split("/")
    legal = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.: %")
    return (
        len(rest) <= 1
        and len(name.encode()) < 256
        and all(part not in ("", ".", "..") and set(part) <= legal for part in [*parts, *rest])
        and parts[0][:1].isalpha()
        and "%" not in parts[0]
        and parts[0] not in ("mirror", "spare", "log")
        and not parts[0].startswith(("raidz", "draid"))
        and len(parts) <= 50
    )


@settings(deadline=None)
@given(st.text("ta1-_.: %/@#+\n'é", max_size=12) | st.text(max_size=6))
def test_agrees_with_the_rule_said_plainly(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        assert name_problem(name)
        return
    problem = name_problem(name)
    assert (problem is None) is plainly_legal(name)
