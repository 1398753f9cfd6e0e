"""Simulated worlds from many seeds, and broken rules that they notice."""

from collections.abc import Callable
from typing import Any

import pytest

import planner.histories
from planner.histories import Diverged, FastForward
from tests.simulation import simulate

SEEDS = 100
AT_ONCE = 10


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_worlds(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        simulate(seed)


def fail_within(seeds: int) -> None:
    for seed in range(seeds):
        simulate(seed)


def test_a_planner_that_overlooks_what_was_written_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    relate: Callable[..., Any] = planner.histories.relate

    def blind(*histories: Any) -> Any:
        found = relate(*histories)
        return FastForward(found.common) if isinstance(found, Diverged) else found

    for module in ("targets", "sources", "leaders"):
        monkeypatch.setattr(f"planner.{module}.relate", blind)
    with pytest.raises(AssertionError, match="refused after fresh reports"):
        fail_within(20)


def test_a_planner_that_leaves_out_its_reasons_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.plan._skips", lambda strands: ())
    with pytest.raises(AssertionError, match="nothing is said of"):
        fail_within(20)
