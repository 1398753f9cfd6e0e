"""Hundreds of simulated worlds, and broken rules that they notice."""

import pytest

from tests.simulation import simulate

SEEDS = 60
AT_ONCE = 20


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_worlds(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        simulate(seed)
