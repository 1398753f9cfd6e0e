"""A group that mirrors deletions: what goes on replicas, what never does, and the bookmarks that come before."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import (
    Bookmark,
    Credit,
    Failure,
    Gone,
    Guard,
    Lease,
    Listed,
    Member,
    Neighbour,
    Plan,
    Replica,
    Step,
    Work,
)
from planner.prune import is_own
from tests.pictures import DAY, NOW, draw, hub_policy, member_with, members_of, peers_policy, reasons

PATIENT = 200 * DAY  # nobody is late


def gone(*guids: str, system: str = "A", dataset: str = "tank/data") -> Listed:
    return Listed(tuple(Gone(system, dataset, guid, hub_of=("g",)) for guid in guids))


def mirrored(picture: str, *guids: str, work: Work | None = None, **fields: Any) -> Plan:
    policy = hub_policy(**{"delete": "mirror", "interval_s": PATIENT, **fields})
    return plan_group(policy, members_of(picture), work or Work(gone=gone(*guids)), NOW)


@pytest.mark.parametrize(
    ("picture", "guids", "steps"),
    [
        ("A: 2 3 B: 1 2 3", "1", "B delete 1"),
        ("A: 3 4 B: 1 2 3 4", "12", "B delete 1 2"),
        ("A: 3 4 B: 1 2 3 4 C: 1 3 4", "12", "B delete 1 2, C delete 1"),
        ("A: 2 3 4 B: 1 2 3", "1", "B 3-4, B delete 1"),
        ("A: 2 3 B: 1 2 3", "", "nothing"),  # it never was on the hub
        ("A: 2 3 B: 1 2 3 C: 1 2 3", "", "nothing"),  # nor that another has a copy makes it the hub's to destroy
        ("A: 1 2 3 B: 1 2 3", "1", "nothing"),  # it is there again
        ("A: 2 3 B: ~1 2 3", "1", "nothing"),  # known by name only
        ("A: 2 3 B: x 2 3", "1", "nothing"),  # the replica's own
        ("A: 2 3 B-: 1 2 3", "1", "nothing"),
        ("A-: 2 3 B: 1 2 3", "1", "nothing"),
        ("A/: 2 3 B: 1 2 3", "1", "nothing"),
        ("A: none B: 1 2 3", "123", "B orphaned"),  # a dataset that is gone takes no replica along
        ("A: () B: 1 2 3", "123", "B orphaned"),
        ("A: 2 3 B: 1 2 3 X", "1", "B diverged"),
    ],
)
def test_what_the_hub_destroyed_goes_from_replicas(picture: str, guids: str, steps: str) -> None:
    made = mirrored(picture, *guids)
    assert _without_bookmarks(draw(made)) == steps


def _without_bookmarks(drawn: str) -> str:
    return ", ".join(part for part in drawn.split(", ") if "bookmark" not in part) or "nothing"


def test_nothing_is_deleted_unless_the_group_says_so() -> None:
    assert draw(mirrored("A: 2 3 B: 1 2 3", "1", delete="never")) == "nothing"
    assert draw(mirrored("A: 2 3 B: 1 2 3", "1", directional=False, hub=None)) == "nothing"
    assert draw(mirrored("A: 2 3 B: 1 2 3", "1", enabled=False)) == "nothing"
    assert draw(mirrored("A: 2 3 B: 1 2 3", "1", paused_datasets=("data",))) == "nothing"
    assert draw(mirrored("A: 2 3 B: 1 2 3", "1", paused_systems=frozenset("B"))) == "nothing"
    assert draw(mirrored("A: 2 3 B: 1 2 3", "1", snapshot_exclude=("1",))) == "nothing", "others look after those"


def test_a_deletion_names_all_that_it_may_remove() -> None:
    (step,) = mirrored("A: 3 4 B: 1 2 3 4", "1", "2").steps
    assert (step.type, step.executor, step.target, step.source) == ("delete", "B", "B", None)
    assert (step.target_dataset, step.expected_guids, step.expected_written) == ("tank/data", ("1", "2"), 0)
    assert step.destructive
    assert step.reason == "hostA has destroyed 2 snapshots of tank/data, and no member needs them"
    (other,) = mirrored("A: 3 4 B: 1 2 3 4", "2").steps
    assert other.action_id != step.action_id


def test_what_a_member_still_needs_stays() -> None:
    assert draw(mirrored("A: 3 B: 1 2 3 C-: 2", "1", "2")) == "A bookmark tank/data#zfs-sync-3, B delete 1"


@pytest.mark.parametrize("guard", [Guard("A", "tank/data"), Guard("B", "tank/data"), Guard("C", "tank/data")])
def test_a_mass_deletion_that_nobody_accepted_deletes_nothing(guard: Guard) -> None:
    made = mirrored("A: 2 3 B: 1 2 3 C: 3", work=Work(gone=gone("1"), guards=(guard,)))
    assert not any(step.type == "delete" for step in made.steps)
    lost = f"tank/data on host{guard.system_id} lost most of its snapshots at once"
    assert f"nothing is deleted: {lost}, and an admin must accept that first" in reasons(made)


def test_nothing_is_deleted_while_a_transfer_is_under_way() -> None:
    lease = Lease("x", "other", "A", "A", "B", "tank/data", "tank/data", None, None, NOW + 60)
    made = mirrored("A: 2 3 B: 1 2 3", work=Work(gone=gone("1"), leases=(lease,)))
    assert made.steps == ()
    assert "while a transfer into it is under way" in reasons(made, "B")


@pytest.mark.parametrize("picture", ["A: 2 3 B: 1 2 3", "A: 2 3 B-: 2"])
def test_what_failed_waits_and_what_is_under_way_has_its_lease(picture: str) -> None:
    step = mirrored(picture, "1").steps[-1]
    assert step.type in ("delete", "bookmark")
    failed = Failure(step.action_id, 1, NOW, NOW + 60, "dataset is busy")
    made = mirrored(picture, work=Work(gone=gone("1"), failures=(failed,)))
    assert step not in made.steps
    assert "dataset is busy" in reasons(made, step.target)
    lease = Lease(step.action_id, "g", step.target, None, step.target, "tank/data", None, None, None, NOW + 60)
    made = mirrored(picture, work=Work(gone=gone("1"), leases=(lease,)))
    assert replace(step, lease=lease) in made.steps


def test_nothing_is_deleted_on_an_unknown() -> None:
    made = mirrored("A: 2 3 B: 1 2 3 ?", "1")
    assert made.steps == ()
    assert "must report the column written" in reasons(made, "B")


def test_deletions_come_last() -> None:
    hub = member_with("A", "", {"a": "2 3", "b": "1 2"})
    replica = member_with("B", "", {"a": "1 2 3", "b": "1"})
    work = Work(gone=gone("1", dataset="tank/a"))
    made = plan_group(hub_policy(delete="mirror", interval_s=PATIENT), [hub, replica], work, NOW)
    assert [step.type for step in made.steps if step.type != "bookmark"] == ["sync", "delete"]
    assert [step.priority for step in made.steps] == list(range(len(made.steps)))


# --- bookmarks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "fields", "bookmark"),
    [
        ("A: 1 2 3 B: 1 2", {}, "nothing"),  # the increment comes now
        ("A: 1 2 3 B: 1 2 3", {}, "nothing"),
        ("A: 1 2 3 B-: 1 2", {}, "A bookmark tank/data#zfs-sync-2"),  # B is away, and A may prune
        ("A: 1 2 3 B: 1 2", {"window_open": False}, "A bookmark tank/data#zfs-sync-2"),
        ("A: 1 2 3 B: 1 2", {"interval_s": DAY}, "A bookmark tank/data#zfs-sync-2"),  # B is late
        ("A: 2 3 B: 2", {}, "A bookmark tank/data#zfs-sync-2"),  # 2 is the next to go
        ("A: 2 #2 3 B: 2", {}, "nothing"),  # there is one
        ("A: #2@mark 2 3 B: 2", {}, "nothing"),  # of another name
        ("A: #9@2 2 3 B: 2", {}, "A bookmark tank/data#zfs-sync-2"),  # whatever others are called
        ("A: #2 3 B: 2", {}, "nothing"),  # all that is left is one
        ("A: 2@old 3 B: 2", {}, "A bookmark tank/data#zfs-sync-2"),
        ("A-: 2 3 B: 2", {}, "nothing"),
        ("A: 2 3 B: 2 C: 2", {}, "A bookmark tank/data#zfs-sync-2"),  # one is enough for both
        (
            "A: 2 3 4 B: 2 C: 3",
            {"window_open": False},
            "A bookmark tank/data#zfs-sync-2, A bookmark tank/data#zfs-sync-3",
        ),
        ("A: 2 3 B: 2", {"delete": "never"}, "nothing"),
        ("A: 2 3 B: 2", {"directional": False, "hub": None}, "nothing"),
        ("A: 2 3 B: 2", {"paused_datasets": ("*",)}, "nothing"),
    ],
)
def test_a_base_that_may_go_gets_a_bookmark(picture: str, fields: dict[str, Any], bookmark: str) -> None:
    drawn = draw(mirrored(picture, **fields))
    assert (", ".join(part for part in drawn.split(", ") if "bookmark" in part) or "nothing") == bookmark


def test_bookmarks_without_a_place_are_not_made_and_released_for_ever() -> None:
    """An agent of one's own may report neither createtxg nor creation: no increment starts at its bookmarks."""
    hub, replica = members_of("A: 2 4 B: 2 #4 5")

    def with_mark(guid: str) -> Member:
        marks = (Bookmark(f"zfs-sync-{guid}", guid),)
        return replace(hub, replicas={**hub.replicas, "tank/data": replace(hub.replicas["tank/data"], bookmarks=marks)})

    policy, now, done = hub_policy(delete="mirror"), NOW, Work()
    while steps := plan_group(policy, [with_mark("5"), replica], done, now).steps:
        now += 1
        done = replace(done, credits=(*done.credits, *(Credit(step, step.delivers, now) for step in steps)))
        assert now < NOW + 3, f"{draw(Plan(steps=steps))} again and again"
    assert plan_group(policy, [with_mark("2"), replica], Work(), NOW).steps == ()
    (hub,) = members_of("A: 5 6")
    assert plan_group(policy, [with_mark("2"), *members_of("B: 2")], Work(), NOW).steps == (), "it may be the only base"


def test_a_bookmark_is_made_on_the_hub_by_the_hub() -> None:
    (step,) = [step for step in mirrored("A: 2 3 B: 2").steps if step.type == "bookmark"]
    assert (step.executor, step.target, step.source, step.target_dataset) == ("A", "A", None, "tank/data")
    assert (step.end and step.end.guid, step.new_name, step.expected_guids) == ("2", "tank/data#zfs-sync-2", ("2",))
    assert not step.destructive


def test_a_bookmark_that_can_have_no_name_is_told() -> None:
    path = "x" * 240
    a, b = member_with("A", "", {path: "2 3"}), member_with("B", "", {path: "2"})
    made = plan_group(hub_policy(delete="mirror"), [a, b], Work(), NOW)
    assert [step.type for step in made.steps] == ["sync"]
    assert f"no bookmark can keep what tank/{path} shares" in reasons(made, "A")


def test_months_of_pruning_never_lose_a_base() -> None:
    """The hub takes a snapshot a day and keeps three, while B is away; A obeys its bookmark steps."""
    hub, replica = members_of("A: 1 2 3 B-: 1 2 3")
    held = hub.replicas["tank/data"]
    for day in range(4, 40):
        policy = hub_policy(delete="mirror", interval_s=DAY)
        for step in plan_group(policy, [hub, replica], Work(), NOW).steps:
            assert step.type == "bookmark"
            held = _bookmarked(held, step)
        snapshot = replace(held.snapshots[-1], name=str(day), guid=str(day), createtxg=day, creation=day * DAY)
        held = replace(held, snapshots=(*held.snapshots[-2:], snapshot))
        hub = _with(hub, held)
    assert [mark.guid for mark in held.bookmarks] == ["3"], "one bookmark is enough for all that time"
    back = replace(replica, confirmed_at=NOW)
    assert draw(plan_group(hub_policy(), [hub, back], Work(), NOW)) == "B #3-37, B 37..39"


def _bookmarked(held: Replica, step: Step) -> Replica:
    snapshot = step.end
    assert snapshot is not None
    mark = Bookmark((step.new_name or "").partition("#")[2], snapshot.guid, snapshot.createtxg, snapshot.creation)
    return replace(held, bookmarks=(*held.bookmarks, mark))


def _with(member: Member, held: Replica) -> Member:
    return replace(member, replicas={**member.replicas, held.dataset: held})


# --- and when they go ------------------------------------------------------------------------------


def released(picture: str, work: Work | None = None, **fields: Any) -> str:
    return (
        ", ".join(part for part in draw(mirrored(picture, work=work, **fields)).split(", ") if "release" in part)
        or "nothing"
    )


@pytest.mark.parametrize(
    ("picture", "fields", "steps"),
    [
        ("A: #1@zfs-sync-1 2 3 B: 1 2 3", {}, "A release tank/data#zfs-sync-1"),
        ("A: #1@zfs-sync-1 2 3 B: 2 3 C: 1 3", {}, "A release tank/data#zfs-sync-1"),
        ("A: #1@zfs-sync-1 2 3 B: 1", {}, "nothing"),  # the next increment starts from it
        ("A: #1@zfs-sync-1 1 2 B-: 1", {}, "nothing"),  # it may have to, when 1 goes
        ("A: #1@zfs-sync-1 2 3 B: 2 3 C-: 1", {}, "nothing"),  # C is away
        ("A: #1@zfs-sync-1 2 3 B: 2 3 C/: 1", {}, "nothing"),  # C's pool is
        ("A: #1@zfs-sync-1 3 B: 1 2 X", {}, "nothing"),  # a conflict is resolved from it
        ("A: #1 2 3 B: 1 2 3", {}, "nothing"),  # another tool's
        ("A: #1@zfs-sync-2 2 3 B: 1 2 3", {}, "nothing"),  # a name that only looks like ours
        ("A: #1@zfs-sync-1 #1@mine 2 3 B: 2 3", {}, "A release tank/data#zfs-sync-1"),
        ("A: 2 3 B: #1@zfs-sync-1 2 3", {}, "B release tank/data#zfs-sync-1"),  # it was the hub once
        ("A-: #1@zfs-sync-1 2 3 B: 2 3", {}, "nothing"),
        ("A/: #1@zfs-sync-1 2 3 B: 2 3", {}, "nothing"),
        ("A: #1@zfs-sync-1 2 3 B: 2 3", {"delete": "never"}, "nothing"),
        ("A: #1@zfs-sync-1 2 3 B: 2 3", {"enabled": False}, "nothing"),
        ("A: #1@zfs-sync-1 2 3 B: 2 3", {"paused_systems": frozenset("A")}, "nothing"),
        ("A: #1@zfs-sync-1 2 3 B: 2 3", {"paused_datasets": ("*",)}, "nothing"),
    ],
)
def test_a_bookmark_that_a_plan_made_goes_when_nobody_needs_it(
    picture: str, fields: dict[str, Any], steps: str
) -> None:
    assert released(picture, **fields) == steps


def test_no_bookmark_goes_before_every_member_has_said_what_it_has() -> None:
    """A store that was lost knows nothing of B, which may need it: B has not reported again."""
    a, b = members_of("A: #1@zfs-sync-1 2 3 B: 2 3")
    unheard = replace(b, replicas={}, reported_at=None, confirmed_at=None)
    made = plan_group(hub_policy(delete="mirror"), [a, unheard], Work(), NOW)
    assert [step.type for step in made.steps] == []


def test_a_release_names_the_one_bookmark_that_may_go() -> None:
    (step,) = mirrored("A: #1@zfs-sync-1 2 3 B: 2 3").steps
    assert (step.type, step.executor, step.target, step.target_dataset) == ("release", "A", "A", "tank/data")
    assert (step.new_name, step.expected_guids, step.destructive) == ("tank/data#zfs-sync-1", ("1",), False)
    assert step.reason == "tank/data#zfs-sync-1 on hostA kept a base, from which no transfer starts now"


def test_a_release_waits_for_what_changes_the_dataset() -> None:
    lease = Lease("x", "other", "A", "B", "A", "tank/data", "tank/data", None, None, NOW + 60)
    made = mirrored("A: #1@zfs-sync-1 2 3 B: 2 3", work=Work(leases=(lease,)))
    assert made.steps == ()
    assert "stays while another step is changing tank/data" in reasons(made, "A")


def test_a_release_that_failed_waits() -> None:
    (step,) = mirrored("A: #1@zfs-sync-1 2 3 B: 2 3").steps
    failed = Failure(step.action_id, 1, NOW, NOW + 60, "permission denied")
    made = mirrored("A: #1@zfs-sync-1 2 3 B: 2 3", work=Work(failures=(failed,)))
    assert (made.steps, "permission denied" in reasons(made, "A")) == ((), True)


def test_no_bookmark_goes_while_a_mass_deletion_is_not_accepted() -> None:
    """What B lost may come back by a rollback, and then goes on from it."""
    assert released("A: #1@zfs-sync-1 2 3 B: 2 3", work=Work(guards=(Guard("B", "tank/data"),))) == "nothing"


def test_a_bookmark_reported_without_its_guid_is_nobodys() -> None:
    assert is_own(Bookmark("zfs-sync-7", "7"))
    assert not is_own(Bookmark("zfs-sync-", ""))


def test_a_transfer_under_way_keeps_the_bookmark_that_it_started_from() -> None:
    lease = Lease("x", "g", "A", "A", "B", "tank/data", "tank/data", "1", "3", NOW + 60)
    assert mirrored("A: #1@zfs-sync-1 2 3 B: 2 3", work=Work(leases=(lease,))).steps == ()


# --- other groups ----------------------------------------------------------------------------------


def beside(picture: str, hub: str | None = None) -> Work:
    """What a group of the same datasets adds, and that A has destroyed 1."""
    members = tuple(members_of(picture))
    policy = replace(peers_policy(), group_id="h", name="other", hub=hub)
    return Work(gone=gone("1"), neighbours=(Neighbour(policy, members),))


def test_what_another_group_goes_on_from_is_neither_deleted_nor_released() -> None:
    assert draw(mirrored("A: 2 3 B: 1 2 3", work=beside("B: 1 2 3 C: 1 2 3", hub="C"))) == "B delete 1"
    assert draw(mirrored("A: 2 3 B: 1 2 3", work=beside("B: 1 2 3 C: 1 2 3"))) == "nothing", "B keeps it for C"
    assert draw(mirrored("A: 2 3 B: 1 2 3", work=beside("B: 1 2 3 C: 1"))) == "nothing"
    assert draw(mirrored("A: 2 3 B: 1 2 3", work=beside("B: 1 2 3 C-: 1"))) == "nothing"
    assert released("A: #1@zfs-sync-1 2 3 B: 2 3", work=beside("A: #1@zfs-sync-1 2 3 C: 1")) == "nothing"
    assert "release" in released("A: #1@zfs-sync-1 2 3 B: 2 3", work=beside("A: #1@zfs-sync-1 2 3 C: 2"))


def test_no_bookmark_goes_before_the_members_of_other_groups_have_said_what_they_have() -> None:
    work = beside("A: #1@zfs-sync-1 2 3 C: 3")
    (other,) = work.neighbours
    unheard = replace(other.members[1], replicas={}, reported_at=None, confirmed_at=None)
    other = replace(other, members=(other.members[0], unheard))
    assert released("A: #1@zfs-sync-1 2 3 B: 2 3", work=replace(work, neighbours=(other,))) == "nothing"
