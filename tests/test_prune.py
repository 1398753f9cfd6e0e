"""What may go, and what must stay and for whom."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.model import (
    Bookmark,
    Credit,
    Decision,
    Gone,
    Guard,
    Lease,
    Listed,
    Loser,
    Member,
    Neighbour,
    Plan,
    Policy,
    Replica,
    Snapshot,
    Step,
    Verdict,
    Work,
)
from planner.prune import prunable
from tests.tokens import encode_resume_token

NOW = 1_800_000_000.0
POLICY = Policy("group", "media", order=("K", "A", "B", "C"), stale_after_s=86400)
NO_WORK, NO_PLAN = Work(), Plan()


def replica(line: str, dataset: str = "tank/data") -> Replica:
    """`1 2 #3 h4`: snapshots oldest first, # a bookmark, h held, ? holds unknown, ~ known by name only."""
    snapshots, bookmarks = [], []
    for txg, word in enumerate(line.split(), 1):
        guid = word.lstrip("#h?~")
        if word[0] == "#":
            bookmarks.append(Bookmark(guid, guid, txg))
        else:
            refs = {"h": 1, "?": None}.get(word[0], 0)
            named = word[0] == "~"
            snapshots.append(Snapshot(f"s{guid}", "" if named else guid, txg, userrefs=refs, by_name=named))
    return Replica(dataset, snapshots=tuple(snapshots), bookmarks=tuple(bookmarks), written=0)


def members(picture: str) -> list[Member]:
    """`A: 1 2  B: 1`: members of one dataset; `B-` has not reported for long, `B/` has no pool now."""
    found = []
    for part in picture.replace("  ", "\n").split("\n"):
        if not part.strip():
            continue
        name, _, line = part.strip().partition(":")
        held = {"tank/data": replica(line)}
        at = NOW - 10 * 86400 if name.endswith("-") else NOW
        shown = {"absent": held, "replicas": {}} if name.endswith("/") else {"replicas": held}
        found.append(Member(name[0], f"host{name[0]}", "tank", reported_at=at, **shown))  # type: ignore[arg-type]
    return found


def judge(those: list[Member], policy: Policy = POLICY, work: Work = NO_WORK, plan: Plan = NO_PLAN) -> list[Verdict]:
    return list(prunable(policy, those, work, plan, NOW))


def droppable(verdicts: list[Verdict]) -> str:
    """`A 1 2, B 1`: what may go."""
    lines: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.needed:
            lines.setdefault(verdict.system_id, []).append(verdict.snapshot.guid)
    return ", ".join(f"{system} {' '.join(guids)}" for system, guids in lines.items()) or "nothing"


def the(verdicts: list[Verdict], system: str, name: str) -> Verdict:
    return next(v for v in verdicts if v.system_id == system and v.snapshot.name == name)


@pytest.mark.parametrize(
    "picture",
    [
        "A: 1 2 3  B: 1 2 3             => B 1 2",  # of two copies, the first as configured keeps one
        "A: 1 2 3  B: 1 2               => B 1",  # 3 has one copy only
        "A: 1 2 3                       => nothing",
        "A: 1 2 3  B: 4 5               => nothing",
        "A: 1 2 3  B: 1 2 3  C: 1       => B 2",  # C's next increment starts from 1
        "A: 1 2 3  B: 1 2 3  C-: 1      => B 2",  # also when it is away
        "A: 1 2 3  B: 1 2 3  C/: 1      => B 2",  # or its pool is
        "A: 1 2 3  B-: 1 2 3            => B 1 2",  # a copy that may be gone is no second copy
        "A: 1 2 3  B/: 1 2 3            => nothing",
        "A: #2 3   B: 1 2               => nothing",  # B's 2 is a base, though A has only its bookmark
        "A: #2 3   B: 1 2 3             => nothing",
        "A: 1 2 3  B: 3 2 1             => B 2",  # orders that disagree: both ends are kept
        "A: h1 2 3  B: 1 2 3            => B 1 2",
        "A: 1 2 3  B: h1 2 3            => A 1, B 2",  # whoever must keep it anyway is enough
        "A: ?1 2 3  B: 1 2 3            => B 1 2",
        "A: ~1 2 3  B: 1 2 3            => B 2",
        "A: ~1 2  B: ~1 2               => nothing",
    ],
)
def test_picture(picture: str) -> None:
    shown, _, expected = picture.partition("=>")
    assert droppable(judge(members(shown))) == expected.strip()


def test_verdicts_say_why_and_for_whom() -> None:
    verdicts = judge(members("A: 1 h2 3  B: 1 2 3  C: 1"))
    assert the(verdicts, "A", "s1").reason == "it is the newest snapshot shared with hostC"
    assert the(verdicts, "A", "s1").needed_by == ("C",)
    assert (the(verdicts, "A", "s2").reason, the(verdicts, "A", "s2").needed_by) == ("it has holds", ("A",))
    assert the(verdicts, "B", "s2").reason == "no transfer needs it, and hostA keeps a copy"
    assert the(verdicts, "B", "s1").needed_by == ("C",)
    assert the(judge(members("A: ?1 2  B: 1 2")), "A", "s1").reason.endswith("report the column userrefs")
    everywhere = judge(members("A: 1 2  B: 1 2  C: 1 2"))
    assert the(everywhere, "C", "s1").reason == "no transfer needs it, and hostA keeps a copy"
    assert the(everywhere, "A", "s1").reason == "hostA keeps the copy that lets hostB and hostC let theirs go"


def test_order_is_the_configured_one_then_dataset_then_age() -> None:
    policy = replace(POLICY, order=("B", "A"))
    those = [replace(m, replicas={**m.replicas, "tank/a": replica("1 2", "tank/a")}) for m in members("A: 2 1  B: 2 1")]
    keys = [(v.system_id, v.dataset, v.snapshot.guid) for v in judge(those, policy)]
    a_data, b_data = ([(s, d, g) for d, gs in (("tank/a", "12"), ("tank/data", "21")) for g in gs] for s in "AB")
    assert keys == b_data + a_data
    assert judge(those[::-1], policy) == judge(those, policy)


def test_only_the_groups_datasets_are_judged() -> None:
    [one, other] = members("A: 1 2  B: 1 2")
    extra = {
        name: replica("7 8 9", name)
        for name in ("tank/secret", "pool/data", "tank/data/%recv", "tank/data.aside-0123abcd", "tank/data")
    }
    verdicts = judge([replace(one, replicas=extra), other], replace(POLICY, exclude=("secret",)))
    assert {v.dataset for v in verdicts} == {"tank/data"}


def test_raw_streams_need_the_same_iv_set() -> None:
    def with_iv_sets(member: Member, *ivs: str | None) -> Member:
        held = member.replicas["tank/data"]
        snapshots = tuple(replace(s, ivsetguid=iv) for s, iv in zip(held.snapshots, ivs, strict=True))
        return replace(member, replicas={"tank/data": replace(held, snapshots=snapshots)})

    [one, other] = members("A: 1 2 3  B: 1 2 3")
    mixed = [with_iv_sets(one, "i", "j", "k"), with_iv_sets(other, "i", "j", "x")]
    assert droppable(judge(mixed)) == "B 1"  # 3 for plain streams, 2 for raw ones
    assert droppable(judge([with_iv_sets(one, "i", "j", "k"), with_iv_sets(other, "i", "j", None)])) == "B 1"


# --- work that is planned, running or broken off -------------------------------------------------

FOUR = "K: 1 2 3 4  A: 1 2 3 4  B: 1 2 3 4"  # K, the first as configured, keeps what nothing else does


def step(type: str, **fields: Any) -> Step:
    defaults: dict[str, Any] = {"executor": "A", "source": "A", "target": "C", "target_dataset": "tank/data"}
    return Step("id", type, "data", reason="", **{**defaults, **fields})  # type: ignore[arg-type]


def test_planned_transfers_keep_what_they_send() -> None:
    delivers = (Snapshot("s2", "2"), Snapshot("s3", "3"))
    sync = step("sync", base=Snapshot("s1", "1"), end=delivers[-1], delivers=delivers)
    those = members(FOUR)
    assert droppable(judge(those)) == "A 1 2 3, B 1 2 3"
    assert droppable(judge(those, plan=Plan(steps=(sync,)))) == "B 1 2 3", "K still keeps all"
    assert droppable(judge(those, plan=Plan(steps=(replace(sync, delivers=()),)))) == "A 2, B 1 2 3"
    assert droppable(judge(those, plan=Plan(steps=(replace(sync, target="B"),)))) == "B 2 3"
    assert droppable(judge(those, plan=Plan(steps=(replace(sync, path="other"),)))) == "A 1 2 3, B 1 2 3"
    mark = step("bookmark", target="A", end=Snapshot("s2", "2"))
    assert droppable(judge(those, plan=Plan(steps=(mark,)))) == "A 1 3, B 1 2 3"


def test_leases_of_any_group_keep_their_base_and_end() -> None:
    lease = Lease("id", "another group", "A", "A", "B", "tank/data", "tank/data", "1", "3", NOW + 60)
    assert droppable(judge(members(FOUR), work=Work(leases=(lease,)))) == "K 1 3, A 2, B 2"
    elsewhere = replace(lease, source_dataset="tank/other", target_dataset="tank/other")
    assert droppable(judge(members(FOUR), work=Work(leases=(elsewhere,)))) == "A 1 2 3, B 1 2 3"


def with_token(those: list[Member], token: str) -> list[Member]:
    last = those[-1]
    held = {name: replace(r, resume_token=token) for name, r in last.replicas.items()}
    return [*those[:-1], replace(last, replicas=held)]


def test_a_broken_transfer_keeps_what_it_goes_on_with() -> None:
    token = encode_resume_token("tank/data@s3", 3, 1)
    assert droppable(judge(with_token(members(FOUR), token))) == "A 2, B 2"
    verdict = the(judge(with_token(members(FOUR), token)), "A", "s3")
    assert (verdict.reason, verdict.needed_by) == ("the transfer to hostB that broke off goes on with it", ("B",))


def test_an_unreadable_token_keeps_everything() -> None:
    verdicts = judge(with_token(members(FOUR), "1-junk"))
    assert droppable(verdicts) == "nothing"
    assert "token can't be read" in the(verdicts, "A", "s1").reason


def test_a_decision_keeps_what_it_starts_from() -> None:
    loser = Loser("B", "tank/data", "2", ("9",), 0, "tank/data.aside-01234567")
    decision = Decision("id", "data", "manual", "A", False, (loser,))
    assert droppable(judge(members(FOUR), work=Work(decisions=(decision,)))) == "A 1 3, B 1 3"
    assert droppable(judge(members(FOUR), work=Work(decisions=(replace(decision, path="x"),)))) == "A 1 2 3, B 1 2 3"


def test_clones_keep_their_origin() -> None:
    [keeper, one, other] = members(FOUR)
    clone = Replica("tank/clone", origin="tank/data@s2")
    cloned = replace(one, replicas={**one.replicas, "tank/clone": clone})
    assert droppable(judge([keeper, cloned, other])) == "K 2, A 1 3, B 1 2 3"
    assert the(judge([keeper, cloned, other]), "A", "s2").reason == "tank/clone is a clone of it"
    second = replace(clone, dataset="tank/clone2")
    for clones in ({"tank/clone": clone, "tank/clone2": second}, {"tank/clone2": second, "tank/clone": clone}):
        both = replace(one, replicas={**one.replicas, **clones})
        assert the(judge([keeper, both, other]), "A", "s2").reason == "tank/clone is a clone of it"
    away = replace(one, absent={"tank/clone": clone})
    assert droppable(judge([keeper, away, other])) == "K 2, A 1 3, B 1 2 3"


def test_what_arrived_since_the_last_report_counts() -> None:
    those = members("A: 1 2 3  B: 1")
    three = (Snapshot("s2", "2"), Snapshot("s3", "3"))
    sync = step("sync", target="B", base=Snapshot("s1", "1"), end=three[-1], delivers=three)
    assert droppable(judge(those, work=Work(credits=(Credit(sync, three, NOW + 1),)))) == "A 2, B 1"
    assert droppable(judge(those, work=Work(credits=(Credit(sync, three, NOW - 1),)))) == "nothing"


# --- what the group wants ------------------------------------------------------------------------

DIRECTIONAL = replace(POLICY, directional=True, hub="A", delete="mirror")
GONE = Work(gone=Listed((Gone("A", "tank/data", "1", hub_of=("group",)),)))


def test_what_the_hub_pruned_is_no_longer_wanted() -> None:
    those = members("A: 2 3  B: 1 2 3")
    assert droppable(judge(those, DIRECTIONAL, GONE)) == "B 1 2"
    assert the(judge(those, DIRECTIONAL, GONE), "B", "s1").reason == (
        "no transfer needs it, and the group does not want it"
    )
    assert droppable(judge(those, DIRECTIONAL)) == "B 2"  # perhaps the hub never had it
    assert droppable(judge(those, POLICY, GONE)) == "B 2"  # without a hub, nobody decides that alone
    assert droppable(judge(those, replace(DIRECTIONAL, delete="never"), GONE)) == "B 2"  # a replica may keep more
    hub_b = replace(DIRECTIONAL, hub="B")
    by_b = Work(gone=Listed((Gone("B", "tank/data", "1", hub_of=("group",)),)))
    assert droppable(judge(members("A: 1 2 3  B: 2 3"), hub_b, by_b)) == "A 1 2"
    by_another = Work(
        gone=Listed((Gone("B", "tank/data", "1", hub_of=("group",)), Gone("A", "tank/other", "1", hub_of=("group",))))
    )
    assert droppable(judge(those, DIRECTIONAL, by_another)) == "B 2"


def test_what_came_back_to_the_hub_is_wanted() -> None:
    assert droppable(judge(members("A: 1 2"), DIRECTIONAL, GONE)) == "nothing"


def test_a_dataset_that_the_hub_lost_was_not_pruned() -> None:
    everything = Work(gone=Listed(tuple(Gone("A", "tank/data", guid, hub_of=("group",)) for guid in "123")))
    assert droppable(judge(members("A:  B: 1 2 3"), DIRECTIONAL, everything)) == "nothing"
    assert droppable(judge(members("B: 1 2 3"), DIRECTIONAL, everything)) == "nothing"
    assert droppable(judge(members("A: ~9  B: 1 2 3"), DIRECTIONAL, everything)) == "nothing"


def test_what_the_filters_leave_out_needs_no_second_copy() -> None:
    policy = replace(POLICY, snapshot_exclude=("s1", "s3"))
    assert droppable(judge(members("A: 1 2 3  B: 2"), policy)) == "A 1 3"
    assert droppable(judge(members("A: 1 2 3  B: 2 3"), policy)) == "A 1, B 2"
    assert not the(judge(members("A: 1 2 3  B: 2"), policy), "A", "s3").needed


@pytest.mark.parametrize("flagged", ["A", "B"])
def test_an_unaccepted_mass_deletion_stops_every_delete(flagged: str) -> None:
    work = Work(guards=(Guard(flagged, "tank/data"),))
    verdicts = judge(members(FOUR), work=work)
    assert droppable(verdicts) == "nothing"
    assert f"host{flagged} lost many snapshots of tank/data at once" in verdicts[0].reason
    assert droppable(judge(members(FOUR), work=Work(guards=(Guard(flagged, "tank/other"),)))) == "A 1 2 3, B 1 2 3"
    assert droppable(judge(members(FOUR), work=Work(guards=(Guard("nobody", "tank/data"),)))) == "A 1 2 3, B 1 2 3"


def test_the_guard_holds_when_the_dataset_itself_is_gone() -> None:
    [one, *others] = members("A: 1  B: 1 2 3  C: 1 2 3")
    lost = replace(one, replicas={})
    assert droppable(judge([lost, *others])) == "C 1 2"
    assert droppable(judge([lost, *others], work=Work(guards=(Guard("A", "tank/data"),)))) == "nothing"


# --- properties ----------------------------------------------------------------------------------

lines = st.lists(st.sampled_from("12345678"), unique=True, max_size=6).map(lambda guids: " ".join(sorted(guids)))


def shared(one: Member, other: Member) -> str | None:
    guids = [[s.guid for s in m.replicas["tank/data"].snapshots] for m in (one, other)]
    return next((guid for guid in reversed(guids[0]) if guid in guids[1]), None)


def without(member: Member, verdicts: list[Verdict]) -> Member:
    gone = {v.snapshot.guid for v in verdicts if v.system_id == member.system_id and not v.needed}
    held = member.replicas["tank/data"]
    left = tuple(s for s in held.snapshots if s.guid not in gone)
    return replace(member, replicas={"tank/data": replace(held, snapshots=left)})


@settings(deadline=None)
@given(lines, lines, lines)
def test_every_pair_keeps_its_newest_common_snapshot_when_all_else_goes(a: str, b: str, c: str) -> None:
    those = members(f"A: {a}  B: {b}  C: {c}")
    verdicts = judge(those)
    left = [without(member, verdicts) for member in those]
    for one, one_left in zip(those, left, strict=True):
        for other, other_left in zip(those, left, strict=True):
            if one is not other:
                assert shared(one, other) == shared(one_left, other_left)


@settings(deadline=None)
@given(lines, lines, lines, st.sampled_from([None, "B"]))
def test_nothing_wanted_is_lost_when_all_drop_what_they_may_at_once(a: str, b: str, c: str, hub: str | None) -> None:
    those = members(f"A: {a}  B: {b}  C: {c}")
    verdicts = judge(those, replace(POLICY, hub=hub, directional=hub is not None))
    left = [without(m, verdicts) for m in those]
    before, after = ({s.guid for m in ms for s in m.replicas["tank/data"].snapshots} for ms in (those, left))
    assert before == after


def test_who_has_it_under_a_name_that_nobody_wants_keeps_it_for_nobody() -> None:
    one, other, third = members("A: 1 2  B: 1 2  C: 1 2")
    held = one.replicas["tank/data"]
    renamed = replace(held, snapshots=(replace(held.snapshots[0], name="x1"), *held.snapshots[1:]))
    policy = replace(POLICY, snapshot_include=("s*",))
    verdicts = judge([replace(one, replicas={"tank/data": renamed}), other, third], policy)
    assert droppable(verdicts) == "A 1, C 1"
    assert the(verdicts, "C", "s1").reason == "no transfer needs it, and hostB keeps a copy"


def test_who_has_not_reported_for_long_keeps_nothing_for_others() -> None:
    assert droppable(judge(members("A-: 1 2  B: 1 2"))) == "A 1"


def test_nothing_goes_before_a_system_that_has_called_has_reported() -> None:
    both, new = members("A: 1 2  B: 1 2"), Member("C", "hostC", "tank", last_seen_at=NOW)
    verdicts = judge([*both, new])
    assert droppable(verdicts) == "nothing"
    assert "what hostC has is not known yet" in the(verdicts, "A", "s1").reason
    beside = Work(neighbours=(Neighbour(replace(POLICY, group_id="other"), (both[1], new)),))
    assert droppable(judge(both, work=beside)) == "A 1"
    assert droppable(judge([*both, replace(new, last_seen_at=None)])) == "B 1", "it may never come"


def test_a_bookmark_keeps_what_it_is_a_base_for() -> None:
    assert droppable(judge(members("K: 1 2 3  A: 1 2 3  B: #2"))) == "A 1"


def test_the_hub_keeps_what_all_have() -> None:
    policy = replace(POLICY, hub="B", directional=True)
    verdicts = judge(members("A: 1 2  B: 1 2  C: 1 2"), policy)
    assert droppable(verdicts) == "A 1, C 1"
    assert the(verdicts, "B", "s1").reason == "the hub keeps the copy that lets hostA and hostC let theirs go"


def test_another_group_says_what_it_needs_and_for_whom() -> None:
    other = replace(POLICY, group_id="other", name="offsite")
    work = Work(neighbours=(Neighbour(other, tuple(members("B: 1 2 3  C: 1"))),))
    alone, beside = (judge(members("A: 1 2 3  B: 1 2 3"), work=each) for each in (NO_WORK, work))
    assert (droppable(alone), droppable(beside)) == ("B 1 2", "A 1")
    assert the(beside, "B", "s1").reason == "it is the newest snapshot shared with hostC, in the group offsite"
    assert the(beside, "B", "s1").needed_by == ("C",)


def test_what_arrived_in_another_group_since_the_last_report_counts() -> None:
    other = Neighbour(replace(POLICY, group_id="other", name="offsite"), tuple(members("B: 1 2 3  C: 1")))
    three = (Snapshot("s2", "2"), Snapshot("s3", "3"))
    sync = step("sync", target="C", base=Snapshot("s1", "1"), end=three[-1], delivers=three)
    work = Work(neighbours=(other,), credits=(Credit(sync, three, NOW + 1),))
    assert the(judge(members("A: 1 2 3  B: 1 2 3"), work=work), "B", "s3").needed_by == ("A", "C")


def test_what_another_group_has_only_one_copy_of_stays_until_there_is_another() -> None:
    def beside(picture: str, **fields: Any) -> str:
        other = replace(POLICY, group_id="other", name="offsite", **fields)
        work = Work(
            neighbours=(Neighbour(other, tuple(members(picture))),),
            gone=Listed((Gone("B", "tank/data", "2", hub_of=("other",)),)),
        )
        return droppable(judge(members("A: 1 2 3  B: 1 2 3"), work=work))

    assert beside("B: 1 2 3  C: 1 2 3") == "nothing", "B keeps it there, and A here"
    assert beside("B: 1 2 3  C: 1 2 3", hub="C", directional=True) == "B 1 2"
    assert beside("B: 1 2 3  C: 1 3", hub="C", directional=True) == "B 1"
    assert beside("B: 1 2 3  C-: 1 2 3", hub="C", directional=True) == "nothing", "C may have lost it"
    assert beside("B: 1 2 3  C: 1 3", snapshot_exclude=("s2",)) == "B 2"
    assert beside("B: 1 3  C: 2 3", hub="B", directional=True, delete="mirror") == "B 2", "its hub destroyed 2"
    assert beside("B: 1 2 3  C: 1 3", hub="B", directional=True, delete="mirror") == "nothing"


def test_what_another_group_of_the_same_systems_wants_stays_with_one_of_them() -> None:
    """This group does not choose it, and would let go of every copy."""
    both = tuple(members("A: 1 2 3  B: 1 2 3"))
    for hub, may_go in (("A", "B 1 2"), ("B", "A 1 2")):
        other = replace(POLICY, group_id="other", name="offsite", hub=hub)
        policy = replace(POLICY, snapshot_include=("s3",))
        verdicts = judge(both, policy, Work(neighbours=(Neighbour(other, both),)))
        assert droppable(verdicts) == may_go
        assert the(verdicts, hub, "s1").reason == "no other system keeps a copy, in the group offsite"


def test_what_another_group_lost_at_once_stays_everywhere_until_that_is_accepted() -> None:
    other = Neighbour(replace(POLICY, group_id="other", name="offsite"), tuple(members("C: 3  A: 1 2 3")))
    policy, there = replace(POLICY, snapshot_include=("s3",)), members("A: 1 2 3  B: 1 2 3")
    work = Work(neighbours=(other,), guards=(Guard("C", "tank/data"),))
    verdicts = judge(there, policy, work)
    assert droppable(verdicts) == "B 1 2", "B is not in the other group"
    why = "hostC lost many snapshots of tank/data at once: an admin must accept that first, in the group offsite"
    assert why in the(verdicts, "A", "s1").reason


def test_a_decision_of_another_group_keeps_what_it_starts_from() -> None:
    loser = Loser("B", "tank/data", "2", ("3",), 0, "tank/data.aside-0")
    other = Neighbour(
        POLICY, tuple(members("B: 1 2 3  C: 2 3")), (Decision("c", "data", "manual", "C", False, (loser,)),)
    )
    verdicts = judge(members("A: 1 2 3  B: 1 2 3"), work=Work(neighbours=(other,)))
    assert the(verdicts, "B", "s2").reason == "resolving a conflict starts from it, in the group media"
