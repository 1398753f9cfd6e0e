"""Simulated worlds from many seeds, and broken rules that they notice."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planner.histories
from planner.histories import Diverged, FastForward
from tests.simulated_mishaps import DEEDS, abort, lose_bookmark
from tests.simulation import simulate

SEEDS = 210
AT_ONCE = 10
OFTEN = (  # in one world of fifty at least, or else they prove little
    "two groups, a chain",
    "two groups, a fan",
    "abort_receive done",
    "create_parent done",
    "release done",
    "rollback done",
    "promote done",
    "resume .*done",
    "sync (raw )?from a bookmark .*done",
    "resolved by use_newest|decided by use_newest",
    "resolved by use_largest|decided by use_largest",
    "resolved by use_majority|decided by use_majority",
    "passed on by a spoke",
    "a relay",
    "a rename proposed",
    "renamed as told",
    "a mass deletion guarded",
    "a host away for months",
    "a dataset made anew",
    "an agent crashed",
    "another hub",
    "a stream cut",
    *(
        f"people: {name}$"
        for name in ("lie", "replace_disk", "export", "roll_back", "rename", "destroy", "fill", "lose_end")
    ),
)
HAPPENS = (  # at least once
    "create done",
    "create volume done",
    "create raw done",
    "sync done",
    "sync raw done",
    "sync from a bookmark done",
    "sync (raw )?onto an origin done",
    "resume .*done",
    "create_parent done",
    "bookmark done",
    "delete done",
    "rename done",
    "promote done",
    "rollback done",
    "resolved by manual",
    "resolved by manual, discarding",
    "conflict: diverged, high, open",
    "conflict: diverged, medium, open",
    "conflict: diverged, .*, pending",
    "conflict: orphaned, high, open",
    "conflict: orphaned, medium, open",
    "conflict: missing, low",
    "conflict: missing, medium",
    "conflict: missing, high",
    "conflict: .*, ignored",
    "a call lost",
    "a call answered in vain",
    "a call repeated",
    "a stream cut",
    "an agent crashed",
    "another hub",
    "people: what is free destroyed",
    *(f"people: {deed.__name__}" for deed in DEEDS if deed not in (abort, lose_bookmark)),
)


@pytest.fixture(scope="session")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "tallies"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_worlds(first: int, tallies: Path) -> None:
    """Nothing happens that must not; and, told by the last worker to be done, all that should be tried was."""
    tally = Counter[str]()  # in how many worlds each thing happened
    for seed in range(first, first + AT_ONCE):
        tally.update(simulate(seed).keys())
    (tallies / f"{first}.new").write_text(json.dumps(tally))
    (tallies / f"{first}.new").rename(tallies / f"{first}.json")
    done = [*tallies.glob("*.json")]
    if len(done) == SEEDS // AT_ONCE:
        seen = Counter[str]()
        for file in done:
            seen += Counter(json.loads(file.read_text()))
        assert [what for what in HAPPENS if not any(re.match(what, each) for each in seen)] == []
        assert {what: most(seen, what) for what in OFTEN if most(seen, what) < SEEDS / 50} == {}


def most(seen: Counter[str], what: str) -> int:
    """In how many worlds something happened; of several ways, the most frequent one."""
    return max((count for each, count in seen.items() if re.match(what, each)), default=0)


def fail_within(seeds: int) -> None:
    for seed in range(seeds):
        simulate(seed)


def test_a_planner_that_overlooks_what_was_written_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    relate: Callable[..., Any] = planner.histories.relate

    def blind(*histories: Any) -> Any:
        found = relate(*histories)
        return FastForward(found.common) if isinstance(found, Diverged) else found

    for module in ("encryption", "sources", "leaders"):
        monkeypatch.setattr(f"planner.{module}.relate", blind)
    with pytest.raises(AssertionError, match=r"refused after fresh reports|nothing is said of"):
        fail_within(20)


def test_a_planner_that_leaves_out_its_reasons_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.plan._skips", lambda strands: ())
    with pytest.raises(AssertionError, match="nothing is said of"):
        fail_within(20)


def test_a_planner_that_goes_by_the_order_of_its_facts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.sites.sorted", lambda items, **by: list(items), raising=False)
    with pytest.raises(AssertionError, match="in another order, or all of it read, another plan"):
        fail_within(20)


def test_a_planner_that_lets_bases_go_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.prune._need_common", lambda needs, copy, other: None)
    with pytest.raises(AssertionError, match="a pair has lost its base"):
        fail_within(20)
