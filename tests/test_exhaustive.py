"""Every small case: two or three histories of one dataset, planned, obeyed by model pools, and judged.

EXHAUSTIVE=4 (or more) in the environment takes longer pasts than the usual run: that is for nights.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import pytest

from planner.model import Lease, Policy, Work
from tests.small_cases import (
    DATASET,
    DAY,
    HUB,
    NOW,
    PEERS,
    check,
    check_at_rest,
    check_resolution,
    check_unknown,
    drawn,
    kept_of,
    with_tail,
)

LONGEST = int(os.environ.get("EXHAUSTIVE", "3"))
TAILS = ("", "x", "X", "*", "x *", "x@3", "X@3")


def past_of(length: int) -> list[str]:
    return [str(number) for number in range(1, length + 1)]


def lines_of(length: int, tails: Iterable[str], marks: bool = False) -> Iterator[str]:
    """Every line of a host that kept some of a past, and has something of its own on top."""
    for kept, tail in product(kept_of(past_of(length), marks), tails):
        line = with_tail(kept, tail)
        if line is not None and not (f"{length}" in kept.split() and f"@{length}" in tail):
            yield line


def pictures(*hosts: Sequence[str]) -> Iterator[str]:
    for lines in product(*hosts):
        yield drawn(**dict(zip("ABC", lines, strict=False)))


def assess(pictures: Iterable[str], policy: Policy, check: Callable[[str, Policy], None] = check) -> None:
    for picture in pictures:
        try:
            check(picture, policy)
        except Exception as error:
            raise AssertionError(f"{picture}: {error}") from error


def test_every_replica_of_a_hub() -> None:
    hub, replica = lines_of(LONGEST, [""], marks=True), lines_of(LONGEST, TAILS)
    assess(pictures([*hub], [*replica]), HUB)


@pytest.mark.parametrize(
    "fields",
    [
        {"snapshot_exclude": ("2",)},
        {"snapshot_include": ("1", "3")},
        {"initial": "newest"},
        {"min_age_s": 87 * DAY},  # 2 is too young
    ],
)
def test_every_replica_of_a_hub_that_sends_some_only(fields: dict[str, object]) -> None:
    hub, replica = lines_of(LONGEST, [""], marks=True), lines_of(LONGEST, ["", "x@3"])
    assess(pictures([*hub], [*replica]), replace(HUB, **fields))


def test_every_replica_of_a_hub_that_steps_over_one_before_several() -> None:
    lines = [*lines_of(LONGEST + 1, [""])]
    assess(pictures(lines, lines), replace(HUB, snapshot_exclude=("2",)))


@pytest.mark.parametrize(
    "fields",
    [
        {"enabled": False},
        {"window_open": False},
        {"paused_systems": frozenset("A")},
        {"paused_systems": frozenset("B")},
        {"paused_datasets": ("da*",)},
    ],
)
def test_every_replica_of_a_hub_in_a_group_at_rest(fields: dict[str, object]) -> None:
    hub, replica = lines_of(LONGEST, [""], marks=True), lines_of(LONGEST, ["", "x", "X"])
    assess(pictures([*hub], [*replica]), replace(HUB, **fields), check_at_rest)


def test_every_replica_of_a_hub_that_lies_below_a_rename_under_way() -> None:
    hub, replica = lines_of(LONGEST, [""], marks=True), lines_of(LONGEST, [""])
    moves = Lease("other", "h", "B", None, "B", "pool/root", None, None, None, NOW + 600, "rename", "pool/old")
    assess(pictures([*hub], [*replica]), HUB, partial(check_at_rest, work=Work(leases=(moves,))))


def test_every_replica_of_a_hub_beside_a_lease_that_ended() -> None:
    hub, replica = lines_of(LONGEST, [""], marks=True), lines_of(LONGEST, [""])
    ended = Lease("other", "g", "A", "A", "B", DATASET, DATASET, None, "9", NOW)
    assess(pictures([*hub], [*replica]), HUB, partial(check, work=Work(leases=(ended,))))


def test_every_replica_of_a_hub_whose_writes_are_not_known() -> None:
    hub, replica = lines_of(LONGEST, [""], marks=True), lines_of(LONGEST, TAILS)
    assess(pictures([*hub], [*replica]), HUB, check_unknown)


def test_every_raw_replica_of_a_hub() -> None:
    replicas = [*lines_of(LONGEST, ["", "x", "X", "*"])]
    plain = [re.sub(r"\d", r"\g<0>'", line) for line in replicas]  # each is the one or the other
    hub = lines_of(LONGEST, [""], marks=True)
    assess(pictures([*hub], sorted({*replicas, *plain})), replace(HUB, raw="always"))


def test_every_third_member_that_can_help() -> None:
    lines = [*lines_of(LONGEST, [""])]
    assess(pictures(lines, lines, lines), HUB)
    marked = [*lines_of(LONGEST - 1, [""], marks=True)]
    assess(pictures(marked, [*lines_of(LONGEST - 1, ["", "X", "x"])], marked), HUB)


def test_every_third_member_that_can_help_a_hub_at_its_limit() -> None:
    lines = [*lines_of(LONGEST - 1, [""])]
    busy = Lease("other", "h", "A", "A", "D", "pool/other", "pool/other", None, "9", NOW + 600)
    one_each = partial(check, work=Work(leases=(busy,)))
    assess(pictures(lines, lines, lines), replace(HUB, max_transfers=1), one_each)


def test_every_two_peers() -> None:
    lines = [*lines_of(LONGEST - 1, TAILS[:5], marks=True)]
    own = [*lines_of(LONGEST - 1, ["", "y", "Y", "*", "Y@x"])]
    assess(pictures(lines, own), PEERS)


def test_every_three_peers() -> None:
    hosts = [[*lines_of(LONGEST - 1, ["", own])] for own in "XYz"]
    assess(pictures(*hosts), PEERS)


@pytest.mark.parametrize("discard", [False, True])
def test_every_way_out_of_a_conflict(discard: bool) -> None:
    hub, replica = lines_of(LONGEST, [""], marks=True), lines_of(LONGEST, ["X", "*", "x X"])
    assess(pictures([*hub], [*replica]), HUB, lambda picture, policy: check_resolution(picture, policy, discard))
