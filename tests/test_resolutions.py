"""Whose history wins a conflict, and what each way out would cost."""

from dataclasses import replace

import pytest

from planner.model import (
    Credit,
    Member,
    Replica,
    Snapshot,
    Strategy,
    Work,
)
from planner.resolutions import choose, options
from tests.conflict_world import (
    ASIDE,
    CONFLICT,
    HUB_A,
    NO_WORK,
    NOW,
    POLICY,
    Hosts,
    a_host,
    diverged,
    members_of,
    pick,
    unrelated,
)


def cipher_of(member: Member, encryption: str) -> Member:
    """The member with its dataset encrypted."""
    held = replace(member.replicas["pool/root/data"], encryption=encryption)
    return replace(member, replicas={**member.replicas, "pool/root/data": held})


# --- who wins ------------------------------------------------------------------------------------


def heads(**creation_and_size: tuple[str, int | None, int | None]) -> list[Member]:
    """Members with a shared snapshot and a head each: guid, creation, referenced."""
    found = []
    for name, (guid, creation, size) in creation_and_size.items():
        head = Snapshot(f"s{guid}", guid, 2, creation, referenced=size, written=1)
        replica = Replica("pool/root/data", snapshots=(Snapshot("s0", "0", 1, 0, written=1), head), written=0)
        found.append(Member(name, f"host{name}", "pool/root", {"pool/root/data": replica}, reported_at=1))
    return found


@pytest.mark.parametrize(
    ("strategy", "members", "expected"),
    [
        ("use_newest", heads(A=("1", 10, 1), B=("2", 20, 1)), "B"),
        ("use_newest", heads(A=("1", 20, 1), B=("2", 20, 1)), "a tie: the newest snapshot of hostA and hostB was made"),
        ("use_newest", heads(B=("1", 20, 1), A=("1", 20, 1), C=("2", 10, 1)), "A"),  # the same head is no tie
        ("use_newest", heads(A=("1", None, 1), B=("2", 20, 1)), "hostA did not report"),
        ("use_largest", heads(A=("1", 10, 5), B=("2", 20, 1)), "A"),
        (
            "use_largest",
            heads(A=("1", 10, 5), B=("2", 20, 5)),
            "a tie: the newest snapshot of hostA and hostB is of the",
        ),
        ("use_largest", heads(A=("1", 10, 5), B=("2", 20, None)), "hostB did not report"),
        ("use_majority", heads(A=("1", 10, 1), B=("2", 20, 1), C=("2", 20, 1)), "B"),
        ("use_majority", heads(A=("1", 10, 1), B=("2", 20, 1)), "a tie, 1 to 1: hostA against hostB"),
        (
            "use_majority",
            heads(A=("1", 1, 1), B=("2", 2, 1), C=("1", 1, 1), D=("2", 2, 1), E=("3", 3, 1)),
            "a tie, 2 to 2: hostA and hostC against hostB and hostD",
        ),
        ("use_newest", [Member("A", "hostA", "pool/root")], "no member has a snapshot of it"),
    ],
)
def test_who_wins(strategy: Strategy, members: list[Member], expected: str) -> None:
    option = choose(CONFLICT, strategy, "A", False, POLICY, members, NO_WORK, NOW)
    if len(expected) == 1:
        assert option.winner == expected
    else:
        assert str(option.refused).startswith(expected)
        assert (option.winner, option.steps, option.losers) == (None, (), ())
    assert choose(CONFLICT, strategy, "A", False, POLICY, members[::-1], NO_WORK, NOW) == option


def test_the_hub_goes_before_the_configured_order() -> None:
    members = heads(A=("1", 20, 1), B=("1", 20, 1), C=("2", 10, 1))
    policy = replace(POLICY, directional=True, hub="B")
    assert choose(CONFLICT, "use_newest", None, False, policy, members, NO_WORK, NOW).winner == "B"


def test_a_head_known_by_name_only_wins_nothing() -> None:
    [one, other] = heads(A=("1", 10, 1), B=("2", 20, 1))
    held = other.replicas["pool/root/data"]
    named = replace(held, snapshots=(held.snapshots[0], replace(held.snapshots[1], guid="", by_name=True)))
    found = replace(other, replicas={"pool/root/data": named})
    assert choose(CONFLICT, "use_newest", None, False, POLICY, [one, found], NO_WORK, NOW).winner == "A"


def test_a_person_names_a_winner_that_can_win() -> None:
    hosts = diverged()
    assert pick(hosts, winner="A").winner == "A"
    refused = pick({**hosts, "C": a_host("C")}, winner="C")
    assert (refused.winner, refused.refused) == ("C", "hostC has no snapshot of it that could win")
    assert pick(hosts, winner="nobody").refused == "nobody has no snapshot of it that could win"


def test_a_spoke_that_wins_should_take_a_snapshot_first() -> None:
    warning = "What was written to pool/root/data on hostB since its newest snapshot is not sent: take one there first."
    assert pick(diverged(written=True), winner="B", policy=HUB_A).cost.endswith(warning)
    assert warning not in pick(diverged(written=False), winner="B", policy=HUB_A).cost
    assert warning not in pick(diverged(written=True), winner="B").cost
    hosts = diverged()
    hosts["A"].write("pool/root/data", 9)
    assert "not sent" not in pick(hosts, policy=HUB_A).cost


def test_what_is_sent_may_be_unknown() -> None:
    [one, other] = members_of(diverged())
    held = one.replicas["pool/root/data"]
    unknown = replace(held, snapshots=tuple(replace(s, written=None) for s in held.snapshots))
    found = replace(one, replicas={**one.replicas, "pool/root/data": unknown})
    option = choose(CONFLICT, "manual", "A", False, POLICY, [found, other], NO_WORK, NOW)
    assert (option.send_bytes, option.refused) == (None, None)
    assert "sends an unknown number of bytes" in option.cost


def test_what_arrived_since_the_last_report_counts() -> None:
    hosts = diverged()
    rename = pick(hosts).steps[0]
    work = Work(credits=(Credit(rename, (), 2000.0),))
    option = choose(CONFLICT, "manual", "A", False, POLICY, members_of(hosts), work, NOW)
    assert (option.losers, "nothing to resolve" in str(option.refused)) == ((), True)


def test_options_show_every_strategy_once() -> None:
    shown = options(CONFLICT, POLICY, members_of(diverged()), NO_WORK, NOW)
    assert [option.strategy for option in shown] == ["use_newest", "use_largest", "use_majority", "manual", "ignore"]
    manual, ignore = shown[3:]
    assert (manual.winner, manual.refused, manual.steps) == (None, None, ())
    assert manual.cost == "You say which system's history wins: hostA or hostB."
    assert (ignore.refused, ignore.steps, ignore.losers) == (None, (), ())
    assert not any(option.discard for option in shown)


def test_missing_snapshots_leave_nothing_to_choose() -> None:
    missing = replace(CONFLICT, type="missing")
    shown = options(missing, POLICY, members_of(diverged()), NO_WORK, NOW)
    assert [option.refused is None for option in shown] == [False, False, False, False, True]


def test_costs_are_said_in_words() -> None:
    hosts = diverged(own="X", written=True)
    assert pick(hosts).cost == (
        f"On hostB, pool/root/data is set aside as pool/root/data{ASIDE} with 1 snapshot and 150 bytes of its own; "
        "hostA sends 100 bytes on top of what both share. Nothing is destroyed."
    )
    assert pick(hosts, discard=True).cost == (
        "On hostB, pool/root/data goes back to the common snapshot: "
        "1 snapshot and 150 bytes of its own are lost for good (X)."
    )
    hosts["B"].bookmark("pool/root/data", "1", "early")
    hosts["B"].bookmark("pool/root/data", "2", "base")
    assert "ookmark" not in pick(hosts, discard=True).cost
    hosts["B"].bookmark("pool/root/data", "X", "late")
    assert pick(hosts, discard=True).cost.endswith("(X). Bookmarks made since then go too.")
    hosts["A"].write("pool/root/data", 3 * 1024**3)
    hosts["A"].snapshot("pool/root/data", "Z")
    assert "sends 3.0 GiB" in pick(hosts, policy=replace(POLICY, snapshot_exclude=("3",))).cost
    [one, other] = members_of(unrelated())
    held = replace(other.replicas["pool/root/data"], mounted=True, mountpoint="/srv/data")
    mounted = replace(other, replicas={**other.replicas, "pool/root/data": held})
    cost = choose(CONFLICT, "manual", "A", False, POLICY, [one, mounted], NO_WORK, NOW).cost
    assert "with all its 2 snapshots; nothing is shared, so hostA sends it anew" in cost
    assert cost.endswith("It is mounted at /srv/data: the new dataset is not, until you mount it.")
    key = "If it has a key of its own that is loaded now, load it again afterwards: zfs load-key pool/root/data."
    secret = [cipher_of(member, "aes-256-gcm") for member in members_of(diverged())]
    always = replace(POLICY, raw="always")
    assert choose(CONFLICT, "manual", "A", False, always, secret, NO_WORK, NOW).cost.endswith(key)
    assert key not in choose(CONFLICT, "manual", "A", True, always, secret, NO_WORK, NOW).cost
    apart = [cipher_of(member, "aes-256-gcm") for member in members_of(unrelated())]
    assert key not in choose(CONFLICT, "manual", "A", False, always, apart, NO_WORK, NOW).cost  # nothing is promoted


# --- min_age_s -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("hosts", "sent"), [(diverged("3"), "3"), (unrelated(), "1")], ids=["diverged", "unrelated"])
def test_what_wins_is_as_old_as_the_group_says_before_it_is_sent(hosts: Hosts, sent: str) -> None:
    policy, members = replace(POLICY, min_age_s=60), members_of(hosts)
    (made,) = {snapshot.creation for snapshot in members[0].replicas["pool/root/data"].snapshots}
    assert made is not None
    early = choose(CONFLICT, "manual", "A", False, policy, members, NO_WORK, made + 59)
    assert "wait until its snapshots are as old as the group's min_age_s says" in (early.refused or "")
    held = members[0].replicas["pool/root/data"]
    undated = tuple(replace(snapshot, creation=None) for snapshot in held.snapshots)
    unknown = replace(members[0], replicas={held.dataset: replace(held, snapshots=undated)})
    never = choose(CONFLICT, "manual", "A", False, policy, [unknown, *members[1:]], NO_WORK, made + 60)
    assert "wait until its snapshots are as old as the group's min_age_s says" in (never.refused or "")
    due = choose(CONFLICT, "manual", "A", False, policy, members, NO_WORK, made + 60)
    assert due.refused is None
    assert [step.end.name for step in due.steps if step.source and step.end] == [sent]


def test_a_hub_that_gives_way_gets_all_at_once() -> None:
    """Else the others could not follow it: what it still lacks would be their own."""
    hosts = diverged("3", own="X")
    policy, members = replace(HUB_A, min_age_s=10**9), members_of(hosts)
    option = choose(CONFLICT, "manual", "B", False, policy, members, NO_WORK, NOW)
    assert (option.refused, [step.type for step in option.steps]) == (None, ["rename", "sync", "promote"])


# --- what a person should know before ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "exclude", "since"),
    [
        ("XY", (), None),
        ("XY", ("X",), None),  # it goes with Y
        ("XY", ("Y",), "before Y, which the group does not choose,"),
        ("XYy", ("Y", "y"), "before Y, which the group does not choose,"),
        ("Xy", ("y",), None),
    ],
)
def test_what_a_winning_spoke_keeps_to_itself_is_said(own: str, exclude: tuple[str, ...], since: str | None) -> None:
    """The hub would lack it, and the winner be in conflict again at once."""
    cost = pick(diverged(own=own), winner="B", policy=replace(HUB_A, snapshot_exclude=exclude)).cost
    assert ("is not sent: take one there first" in cost) == (since is not None)
    assert since is None or f"What was written to pool/root/data on hostB {since} is not sent" in cost


def test_a_side_whose_pool_is_away_is_said_to_be() -> None:
    a, b = members_of(unrelated())
    b = replace(b, replicas={}, absent=b.replicas)
    for winner in "AB":
        option = choose(CONFLICT, "manual", winner, False, POLICY, [a, b], NO_WORK, NOW)
        assert option.refused == "the pool of pool/root/data is not in the inventory of hostB"


def test_what_is_known_by_name_only_is_not_moved() -> None:
    """The agent could not check it, and so would refuse again and again."""
    a, b = members_of(diverged())
    held = b.replicas["pool/root/data"]
    newest = replace(held.snapshots[-1], guid="", by_name=True)
    b = replace(b, replicas={**b.replicas, held.dataset: replace(held, snapshots=(*held.snapshots[:-1], newest))})
    option = choose(CONFLICT, "manual", "A", False, POLICY, [a, b], NO_WORK, NOW)
    assert option.refused == "pool/root/data@X was reported without its guid, so it can't be checked what is moved"
