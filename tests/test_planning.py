"""What is remembered of plans: never another plan than the one that would be made now."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from handlers.planning import plan_for
from planner import plan_group
from planner.model import (
    Bookmark,
    Credit,
    Failure,
    Gone,
    Listed,
    Member,
    Neighbour,
    Plan,
    Policy,
    Replica,
    Snapshot,
    Work,
)
from tests.pictures import DAY, NOW, draw, hub_policy, lease_of, members_of, peers_policy
from tests.reason_cases import Case, cases

HOUR = 3600
PICTURE = "A: 97 98 99 B: 97 C: 97 98 99"


class Remembering:
    """Plans asked for one after the other, each compared with one that is made afresh."""

    def __init__(self) -> None:
        self.remembered = 0
        self._last: Plan | None = None

    def ask(self, policy: Policy, members: list[Member], work: Work, now: float) -> Plan:
        """The plan that is remembered or made."""
        store: Any = self
        plan, fresh = plan_for(store, policy, members, work, now), plan_group(policy, members, work, now)
        assert plan == fresh
        self.remembered += self._last is not None and plan.steps is self._last.steps and plan.until == self._last.until
        self._last = plan
        return plan


def moments(case: Case) -> Iterator[float]:
    """When something may change by time alone, and just before and after."""
    policy, work = case.policy, case.work
    ages = (0, policy.min_age_s, policy.interval_s + policy.grace_s, policy.heartbeat_timeout_s, policy.stale_after_s)
    known = {NOW, *(lease.expires_at for lease in work.leases), *(failure.retry_at for failure in work.failures)}
    for member in case.members:
        known |= {moment for moment in (member.last_seen_at, member.confirmed_at, member.reported_at) if moment}
        for replica in (*member.replicas.values(), *member.absent.values()):
            known |= {float(snapshot.creation) for snapshot in replica.snapshots[-3:] if snapshot.creation}
    exact = {moment + age for moment in known for age in ages}
    near = {moment + by for moment in exact for by in (-0.25, 0, 0.25, 1)}
    yield from sorted(moment for moment in near if moment > NOW - DAY)


@pytest.mark.parametrize(
    "settings",
    [
        {"heartbeat_timeout_s": 60, "on_conflict": "use_newest"},
        {"min_age_s": 5 * DAY, "interval_s": 60, "grace_s": 0, "stale_after_s": HOUR, "delete": "mirror"},
    ],
    ids=repr,
)
def test_time_alone_changes_nothing_before_it_was_said(settings: dict[str, Any]) -> None:
    asked = 0
    asking = Remembering()
    for each in cases():
        case = replace(each, policy=replace(each.policy, **settings))
        for now in moments(case):
            asking.ask(case.policy, list(case.members), case.work, now)
            asked += 1
    assert asking.remembered > asked / 3


def test_no_fact_is_overlooked() -> None:
    """Every field of every fact, changed by itself."""
    policy, members = hub_policy(delete="mirror"), members_of(PICTURE)
    (step, *_) = plan_group(policy, members, Work(), NOW).steps
    failure = Failure("x", 1, NOW, NOW + 60, "broken", target="B", target_dataset="tank/data")
    neighbour = Neighbour(replace(peers_policy(), group_id="other", name="other"), tuple(members_of("A: 97 D: 97")))
    work = Work(leases=(lease_of(step),), failures=(failure,), neighbours=(neighbour,))
    asking = Remembering()
    dice = Random(1)
    for _ in range(1500):
        members = [dice.choice([member, _changed(dice, member)]) for member in members]
        if not dice.randrange(6):
            policy = dice.choice([hub_policy(), peers_policy(), hub_policy(min_age_s=DAY), hub_policy(delete="mirror")])
        if not dice.randrange(4):
            near = replace(neighbour, members=tuple(_changed(dice, member) for member in neighbour.members))
            work = replace(work, leases=dice.choice([(), work.leases]), neighbours=dice.choice([(), (near,)]))
        asking.ask(policy, members, work, NOW + dice.choice([0, 0, 0, 5, 61, 400, 2 * DAY]))
    assert asking.remembered > 100


def _changed(dice: Random, member: Member) -> Member:
    """A member after something was heard of it."""
    at = NOW - dice.choice([0, 1, 200, 300, 301, 2 * DAY])
    held = dict(member.replicas)
    data = held.pop("tank/data", None) or Replica("tank/data", "filesystem")
    guid = str(dice.randrange(96, 101))
    marks = dice.choice([(), (Bookmark(guid, guid, 1, int(guid) * DAY),)])
    rows = {*(snapshot.guid for snapshot in data.snapshots), guid} - {str(dice.randrange(96, 101))}
    snapshots = tuple(Snapshot(each, each, int(each), int(each) * DAY, 0, 100, 0) for each in sorted(rows, key=int))
    other = replace(data, snapshots=snapshots, bookmarks=marks, written=dice.choice([0, 0, 0, 9, None]))
    return dice.choice(
        [
            member,
            replace(member, last_seen_at=at),
            replace(member, confirmed_at=at),
            replace(member, reported_at=at, confirmed_at=max(at, member.confirmed_at or 0)),
            replace(member, replicas={**held, "tank/data": other}),
            replace(member, replicas=held),
            replace(member, absent=member.replicas, replicas={}),
            replace(member, absent={}, replicas={**member.absent, **member.replicas}),
            replace(member, ssh_hostname=dice.choice([None, "other"])),
        ]
    )


def test_what_was_made_a_moment_ago_is_late_and_gone_quiet_in_time() -> None:
    """A has taken nothing since day 100; B lacks that, and has it from C, too, should A not be heard from."""
    for policy in (hub_policy(interval_s=3600), peers_policy(interval_s=3600), hub_policy(interval_s=60, min_age_s=90)):
        a, b, c = members_of("A: 97 99 100 B: 97 99 C: 97 99 100")
        members = [replace(a, last_seen_at=NOW - 200), b, c]
        asking = Remembering()
        plans = [asking.ask(policy, members, Work(), now) for now in moments(Case("", members, policy))]
        assert len({tuple((cell.late, cell.why) for cell in plan.cells) for plan in plans}) > 2


def test_what_neighbours_need_is_not_overlooked() -> None:
    """98 went from the hub, so from B, too, unless another group of B has nothing newer in common."""
    policy, members = hub_policy(delete="mirror"), members_of("A: 97 99 B: 97 98 99")
    asking = Remembering()
    deleted = []
    for passed, other in enumerate(("B: 97 98 99 D: 97 98", "B: 97 98 99 D: 97 98 99") * 2):
        near = Neighbour(replace(peers_policy(), group_id="other", name="other", hub="D"), tuple(members_of(other)))
        work = Work(gone=Listed((Gone("A", "tank/data", "98", hub_of=("g",)),)), neighbours=(near,))
        deleted.append(draw(asking.ask(policy, members, work, NOW + passed)))
    assert deleted == ["nothing", "B delete 98"] * 2


def test_time_makes_snapshots_of_neighbours_wanted() -> None:
    policy, members = hub_policy(), members_of("A: 97 B: 97")
    near = Neighbour(replace(peers_policy(min_age_s=2 * DAY), group_id="other"), tuple(members_of("B: 97 D: 99")))
    assert plan_group(policy, members, Work(neighbours=(near,)), NOW).until == NOW + DAY


def test_a_report_takes_the_place_of_a_credit() -> None:
    policy, members = hub_policy(), members_of("A: 97 98 B: 97")
    (step,) = plan_group(policy, members, Work(), NOW).steps
    work = Work(credits=(Credit(step, step.delivers, NOW + 1),))
    asking = Remembering()
    a, b = members
    assert not asking.ask(policy, members, work, NOW + 5).steps
    assert asking.ask(policy, [a, replace(b, reported_at=NOW + 2)], work, NOW + 5).steps


def test_a_sign_of_life_alone_plans_nothing_anew() -> None:
    policy, members = hub_policy(), members_of(PICTURE)
    asking = Remembering()
    asking.ask(policy, members, Work(), NOW)
    later = [replace(member, last_seen_at=NOW + 20, confirmed_at=NOW + 20) for member in members]
    plan = asking.ask(policy, later, Work(), NOW + 30)
    assert asking.remembered == 1
    assert max(cell.lag_s for cell in plan.cells) == 2 * DAY + 30


def test_a_clock_that_jumps_back_is_no_reason_to_believe_a_later_plan() -> None:
    policy, members = hub_policy(), members_of(PICTURE)
    asking = Remembering()
    for now in (NOW, NOW + 500, NOW, NOW - 10 * DAY, NOW):
        asking.ask(policy, members, Work(), now)
