"""When somebody is told, drawn over time; and which troubles a group and a system have."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.alerts import CLOCK_OFF_S, Alert, Trouble, decide, troubles_of_group, troubles_of_system
from planner.model import Conflict, Failure, Guard, Member, Plan, Policy, Replica, Side, Work
from tests.pictures import DAY, NOW, hub_policy, members_of

HOUR = 3600


# --- when somebody is told -----------------------------------------------------------------------


def told(seen: str, grace_s: int = 0) -> str:
    """What is told at each look: "!" raised, "o" over, "-" nothing. `seen` has a letter for each look: "x" found, "."
    not; "Q" and "," the same in quiet hours."""
    answer = ""
    known: dict[str, Alert] = {}
    for now, letter in enumerate(seen):
        troubles = [Trouble("t", "late", "warning", f"{now}", grace_s=grace_s)] if letter in "xQ" else []
        decision = decide(troubles, known, now, quiet=letter in "Q,")
        known = {alert.trouble.id: alert for alert in decision.alerts}
        answer += "".join("!" if alert.recovered_at is None else "o" for alert in decision.tell) or "-"
    return answer


@pytest.mark.parametrize(
    ("seen", "answer"),
    [
        ("..xxx...", "--!--o--"),  # once each
        ("x.x.", "!o!o"),
        ("..QQQ...", "--------"),  # came and went in quiet hours
        ("..QQxx..", "----!-o-"),  # lasts longer than they do
        ("xxQ,,..", "!----o-"),  # is over in quiet hours
        ("xx,,QQx.", "!------o"),  # its end was never told, so it never ended
        ("xx,,QQ,.", "!------o"),
        ("Q", "-"),
    ],
)
def test_each_transition_is_told_once(seen: str, answer: str) -> None:
    assert told(seen) == answer


@pytest.mark.parametrize(
    ("seen", "answer"),
    [("xx.xx.", "------"), ("xxxxx.", "---!-o"), ("xx.xxxx", "------!"), ("QQQQx.", "----!o")],
)
def test_what_has_a_grace_must_last_for_it(seen: str, answer: str) -> None:
    assert told(seen, grace_s=3) == answer


def test_what_is_told_is_as_of_when_it_was_raised_and_since_when_it_was_found() -> None:
    first = decide([Trouble("t", "late", "warning", "young", grace_s=5)], {}, 100, quiet=False)
    assert (first.raised, first.tell) == ((), ())
    second = decide([Trouble("t", "late", "warning", "ripe", grace_s=5)], {"t": first.alerts[0]}, 105, quiet=False)
    assert [(each.trouble.text, each.since, each.raised_at) for each in second.tell] == [("ripe", 100, 105)]
    third = decide([], {"t": second.alerts[0]}, 110, quiet=False)
    assert [(each.trouble.text, each.recovered_at) for each in third.recovered] == [("ripe", 110)]
    assert third.alerts == ()


def test_quiet_hours_keep_nobody_from_seeing_what_changed() -> None:
    first = decide([Trouble("t", "late", "warning", "x")], {}, 1, quiet=True)
    assert [each.trouble.id for each in first.raised] == ["t"]
    second = decide([], {"t": first.alerts[0]}, 2, quiet=True)
    assert [each.trouble.id for each in second.recovered] == ["t"]


# --- a group's troubles --------------------------------------------------------------------------


def found(
    picture: str, policy: Policy | None = None, now: float = NOW, unheard: str = "", **work: Any
) -> list[Trouble]:
    policy = policy or hub_policy()
    members = members_of(picture)
    done = Work(**work)
    plan = plan_group(policy, members, done, now)
    return list(troubles_of_group(policy, members, plan, done, set(unheard)))


def kinds(troubles: list[Trouble]) -> list[tuple[str, str | None]]:
    return [(each.kind, each.system_id) for each in troubles]


DAILY = hub_policy(interval_s=DAY, grace_s=HOUR)


@pytest.mark.parametrize(
    ("picture", "answer"),
    [
        ("A: 1 99 100  B: 1 99 100", []),
        ("A: 1 99 100  B: 1 99", []),  # 100 was made just now
        ("A: 1 98 100  B: 1", [("late", "B")]),
        ("A: 1 98      B: 1 98", [("quiet", "A")]),
        ("A: 1 98      B: 1", [("late", "B"), ("quiet", "A")]),
        ("A: 1 98 100  B: 1 X", [("conflict", None)]),  # which says enough: no increment can arrive
    ],
)
def test_what_is_wrong_in_a_group(picture: str, answer: list[tuple[str, str | None]]) -> None:
    assert sorted(kinds(found(picture, DAILY)), key=str) == sorted(answer, key=str)


def test_a_late_replica_says_how_late_and_why() -> None:
    (late,) = found("A: 1 97 100 B: 1", DAILY)
    assert late.text.startswith("tank/data on hostB is late: 2 snapshots, 3 days behind. ")
    assert (late.group_id, late.system_id, late.dataset, late.grace_s) == ("g", "B", "data", 0)
    (quiet,) = found("A: 1 97 B: 1 97", DAILY)
    assert quiet.text == "hostA has taken no new snapshot of tank/data since 97"


def test_what_was_never_there_has_an_interval_to_come() -> None:
    (late,) = found("A: 1 97 100 B: none", DAILY)
    assert (late.kind, late.grace_s) == ("late", DAY + HOUR)


@pytest.mark.parametrize(
    "fields", [{"enabled": False}, {"paused_datasets": ("data",)}, {"paused_systems": frozenset("B")}]
)
def test_what_somebody_switched_off_is_no_trouble(fields: Any) -> None:
    assert found("A: 1 98 100 B: 1", replace(DAILY, **fields)) == []


def test_a_system_that_is_not_heard_of_has_one_trouble_for_all_its_datasets() -> None:
    assert found("A: 1 98 100 B: 1", DAILY, unheard="B") == []


def test_a_system_that_never_reported_is_expected_and_no_trouble() -> None:
    members = members_of("A: 1 98 100")
    policy = replace(DAILY, order=("A", "C"))
    both = [*members, Member("C", "C", "tank")]
    plan = plan_group(policy, both, Work(), NOW)
    assert {cell.system_id for cell in plan.cells if cell.late} == {"C"}
    assert list(troubles_of_group(policy, both, plan, Work(), ())) == []


def test_a_conflict_keeps_its_id_while_it_grows() -> None:
    one, more = (found(f"A: 1 {rest}", DAILY) for rest in ("100 B: 1 X", "99 100 B: 1 X Y"))
    assert one[0].severity == "critical"
    assert [each.id for each in one] == [each.id for each in more]


@pytest.mark.parametrize(
    ("kind", "severity", "state", "told"),
    [
        ("missing", "low", "open", False),
        ("missing", "medium", "open", False),
        ("missing", "high", "open", True),  # nobody has it any more
        ("orphaned", "medium", "open", True),
        ("diverged", "high", "pending", False),  # somebody decided
        ("diverged", "high", "ignored", False),
    ],
)
def test_which_conflicts_somebody_should_know(kind: Any, severity: Any, state: Any, told: bool) -> None:
    side = Side("B", "tank/data", None, None, (), None)
    plan = Plan(conflicts=(Conflict("1", kind, "data", severity, (side,), (), "Because.", status=state),))
    troubles = list(troubles_of_group(DAILY, members_of("A: 1 B: 1"), plan, Work(), ()))
    assert [each.text for each in troubles] == ([f"data is {kind}: Because."] if told else [])


@pytest.mark.parametrize(("count", "answer"), [(1, []), (2, ["failing"])])
def test_a_transfer_that_fails_again_is_a_trouble(count: int, answer: list[str]) -> None:
    failed = Failure("x", count, NOW - 10, NOW + 10, "sending\ncannot receive: out of space\n", "A", "B", "tank/data")
    other = replace(failed, action_id="y", target="C", count=9)
    troubles = found("A: 1 99 100 B: 1 99", DAILY, failures=(failed, other))
    assert [each.kind for each in troubles] == answer
    if troubles:
        assert troubles[0].text == "transfers into tank/data on hostB failed 2 times: cannot receive: out of space"
    assert found("A: 1 99 100 B: 1 99 100", DAILY, failures=(failed,)) == []  # it is there now


def test_failures_of_steps_that_were_planned_anew_add_up() -> None:
    tries = [Failure(f"{n}", 1, NOW - n, NOW, f"try {n}", "A", "B", "tank/data") for n in (5, 7)]
    (trouble,) = found("A: 1 99 100 B: 1 99", DAILY, failures=tuple(tries))
    assert trouble.text.endswith("failed 2 times: try 5")


# --- a system's troubles -------------------------------------------------------------------------


def seat(policy: Policy = DAILY, **fields: Any) -> tuple[Policy, Member]:
    settings: dict[str, Any] = {"reported_at": NOW - 60, "confirmed_at": NOW - 60, "last_seen_at": NOW - 60}
    return policy, Member("B", "backup", "vault/nas", **{**settings, **fields})


def of_system(
    *seats: tuple[Policy, Member], ahead_s: float | None = None, guards: tuple[Guard, ...] = (), in_force: str = ""
) -> list[Trouble]:
    return list(troubles_of_system(seats, ahead_s, guards, 90, {in_force}, NOW))


@pytest.mark.parametrize(
    ("ago_s", "policies", "silent"),
    [
        (DAY + HOUR, [DAILY], False),
        (DAY + HOUR + 1, [DAILY], True),
        (2 * HOUR, [DAILY, hub_policy(interval_s=HOUR, grace_s=600)], True),  # the shortest interval counts
        (2 * HOUR, [hub_policy(interval_s=60, grace_s=0, heartbeat_timeout_s=3 * HOUR)], False),
        (2 * HOUR, [replace(DAILY, interval_s=60, enabled=False), DAILY], False),
        (2 * HOUR, [replace(DAILY, interval_s=60, paused_systems=frozenset("B")), DAILY], False),
        (90 * DAY, [replace(DAILY, enabled=False)], False),
        (90 * DAY, [replace(DAILY, paused_systems=frozenset("B"))], False),
    ],
)
def test_a_system_owes_a_sign_of_life_once_an_interval(ago_s: int, policies: list[Policy], silent: bool) -> None:
    troubles = of_system(*(seat(policy, last_seen_at=NOW - ago_s) for policy in policies))
    assert [each.kind for each in troubles] == (["silent"] if silent else [])


def test_a_silent_system_says_since_when() -> None:
    (silent,) = of_system(seat(last_seen_at=NOW - 9 * DAY, confirmed_at=NOW - 9 * DAY, reported_at=NOW - 9 * DAY))
    assert (silent.id, silent.text) == ("silent:B", "backup was last heard from 9 days ago")


def test_one_that_calls_without_an_inventory_is_stale() -> None:
    policy = replace(DAILY, stale_after_s=DAY)
    (stale,) = of_system(seat(policy, confirmed_at=NOW - DAY - 1, reported_at=NOW - 5 * DAY))
    assert (stale.kind, "24 h old" in stale.text) == ("stale", True)
    assert of_system(seat(policy, confirmed_at=NOW - DAY, reported_at=NOW - 5 * DAY)) == []
    assert of_system(seat(policy, confirmed_at=None, reported_at=None)) == []


@pytest.mark.parametrize(
    ("ahead_s", "text"),
    [
        (CLOCK_OFF_S, None),
        (-CLOCK_OFF_S, None),
        (None, None),
        (-301, "the clock of backup is 5 min behind the witness's: lags are wrong by as much"),
        (7200, "the clock of backup is 2 h ahead of the witness's: lags are wrong by as much"),
    ],
)
def test_a_clock_that_is_off_is_a_trouble(ahead_s: float | None, text: str | None) -> None:
    assert [each.text for each in of_system(seat(), ahead_s=ahead_s)] == ([text] if text else [])


def test_a_snapshot_made_after_it_was_reported_shows_a_clock_that_is_ahead() -> None:
    (member,) = members_of("B: 1 2")
    newest = 2 * DAY
    for reported_at, answer in ((newest - CLOCK_OFF_S, []), (newest - CLOCK_OFF_S - 1, ["clock"])):
        there = replace(member, reported_at=reported_at, last_seen_at=NOW)
        assert [each.kind for each in of_system((DAILY, there))] == answer
    assert of_system((DAILY, there), ahead_s=0.0) == []  # what the agent says counts


def test_a_pool_of_the_group_that_is_not_imported_is_a_trouble_after_the_grace() -> None:
    absent = {name: Replica(name) for name in ("vault/nas", "vault/nas/a", "other/b")}
    (trouble,) = of_system(seat(absent=absent))
    assert (trouble.id, trouble.severity, trouble.grace_s) == ("pool_missing:B:vault", "critical", HOUR)
    assert trouble.text == "the pool vault of backup is not imported, or its key is not loaded"


@pytest.mark.parametrize(
    ("used", "in_force", "full"),
    [(899, "", False), (900, "", True), (885, "pool_full:B:vault", True), (879, "pool_full:B:vault", False)],
)
def test_a_pool_that_is_nearly_full_stays_so_until_it_is_clearly_emptier(used: int, in_force: str, full: bool) -> None:
    pool = Replica("vault", used=used, available=1000 - used)
    below = Replica("vault/nas", used=999, available=1)
    troubles = of_system(seat(replicas={"vault": pool, "vault/nas": below}), in_force=in_force)
    assert [each.kind for each in troubles] == (["pool_full"] if full else [])


def test_a_pool_of_unknown_size_is_not_full() -> None:
    for pool in (Replica("vault", used=5), Replica("vault", available=0), Replica("vault", used=0, available=0)):
        assert of_system(seat(replicas={"vault": pool})) == []


def test_a_guard_is_a_trouble_until_it_is_accepted() -> None:
    (trouble,) = of_system(seat(), guards=(Guard("B", "vault/nas/a"),))
    assert (trouble.id, trouble.severity) == ("guard:B:vault/nas/a", "critical")
