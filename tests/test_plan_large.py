"""Large groups: planning takes time with the copies there are, not with the square of the systems."""

import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest

from planner import plan_group
from planner.model import Member, Plan, Policy, Replica, Snapshot, Work

NOW = 1_800_000_000.0
DATASETS = 12
SNAPSHOTS = 6


def member(place: int, systems: int, odd: bool) -> Member:
    """A system that lacks the newest of every other dataset; one of them was written to in every dataset."""
    replicas = {}
    for number in range(DATASETS):
        count = SNAPSHOTS - (place + number) % 2 if place else SNAPSHOTS
        snapshots = tuple(
            Snapshot(f"s{each}", str(1000 * number + each), each, int(NOW) - 9000 + each, 100, 100, 100)
            for each in range(1, count + 1)
        )
        name = f"tank/d{number}"
        written = 4096 if odd and place == systems - 1 else 0
        replicas[name] = Replica(name, "filesystem", str(number), snapshots, written=written)
    return Member(f"id{place:03}", f"host{place:03}", "tank", replicas, {}, NOW, NOW, NOW)


def planned(systems: int, directional: bool, odd: bool = False) -> tuple[Plan, int]:
    """The plan of a group of that many systems, and how many calls it took to make it."""
    members = [member(place, systems, odd) for place in range(systems)]
    order = tuple(each.system_id for each in members)
    policy = Policy("g", "large", directional=directional, hub=order[0] if directional else None, order=order)
    calls: Counter[str] = Counter()

    def count(_frame: FrameType, event: str, _arg: Any) -> None:
        calls[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        plan = plan_group(policy, members, Work(), NOW)
    finally:
        sys.setprofile(before)
    return plan, calls["call"]


@pytest.mark.parametrize("directional", [True, False], ids=["from a hub", "both ways"])
@pytest.mark.parametrize("odd", [False, True], ids=["all follow", "one was written to"])
def test_twice_the_systems_take_about_twice_the_work(directional: bool, odd: bool) -> None:
    one, few = planned(20, directional, odd)
    two, many = planned(40, directional, odd)
    assert len(two.cells) == 2 * len(one.cells) == 40 * DATASETS
    assert many < 2.3 * few
