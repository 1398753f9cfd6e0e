"""What a group should do next, drawn (see tests/pictures.py): who gets which stream from whom."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Member, Plan, Policy, Work
from tests.pictures import DAY, NOW, draw, hub_policy, member_with, members_of, peers_policy, reasons

NO_WORK = Work()


def plan(picture: str, policy: Policy | None = None, now: float = NOW) -> Plan:
    return plan_group(policy or hub_policy(), members_of(picture), NO_WORK, now)


def check(picture: str, policy: Policy | None = None, **fields: Any) -> None:
    drawing, _, answer = picture.partition("=>")
    made = plan_group(policy or hub_policy(), members_of(drawing, **fields), NO_WORK, NOW)
    assert draw(made) == " ".join(answer.split())


@pytest.mark.parametrize(
    "picture",
    [
        "A: 1 2 3   B: 1 2         => B 2-3",
        "A: 1 2 3   B: 1           => B 1..3",
        "A: 1 2 3   B: 1 2 3       => nothing",
        "A: 1 2     B:             => B full 1, B 1-2",
        "A: 1 2 3   B:             => B full 1, B 1..3",
        "A: 1       B:             => B full 1",
        "A: ()      B:             => nothing",
        "A: #1 2    B: 1           => B #1-2",
        "A: #1 2 3  B: 1           => B #1-2, B 2-3",
        "A: #1 2 3 4 B: 1          => B #1-2, B 2..4",  # -I can't start at a bookmark
        "A: 1 2 #3  B: 1 2 3       => nothing",
        "A: 1 2 3   B: 1 2@old     => B 2-3",
        "A: 1 2 3   B: 1 2 x       => B 2-3",  # x is B's own and empty: harmless
        "A: 1 2 3   B: 1 2 X       => B diverged",  # a capital has data
        "A: 1 2 3   B: 1 2 *       => B diverged",
        "A: 1 2     B: 1 2 X       => B diverged",  # also when there is nothing to send
        "A: 1 2 3   B: 1 2 ?       => nothing",  # not known is not zero
        "A: 1 2 3   B: ()          => nothing",
        "A: 1 ~2 3  B: 1           => B 1-3",  # known by name only: never sent, never carried along
        "A: 1 2     B: ~1          => B orphaned",  # nor common
        "A: 1 2     B: 1 ~9        => B diverged",  # without createtxg, the listing's order stands
        "A: 3 4     B: 1 2         => B orphaned",
        "A: none    B: 1           => B orphaned",
        "A: none    B: ()          => nothing",
        "A: 1 2     B: 1 C:        => C full 1, C 1-2, B 1-2",
    ],
)
def test_replicas_follow_their_hub(picture: str) -> None:
    check(picture)


@pytest.mark.parametrize(
    "picture",
    [
        "A: 1 2 3 4  B: 1 2 x@3    => B 2-4",  # stepped over
        "A: 1 2 3 4  B: x@3 1 2    => B 2-4",
        "A: 1 2 3 4  B: X@3 1 2    => B 2-4",  # whatever it holds, it lies before the base
        "A: 1 2 3    B: 1 2 x@3    => nothing",
        "A: 1 2 3 4  B: 1 2 X@3    => B diverged",
    ],
)
def test_a_name_that_is_taken_on_the_target_is_stepped_over(picture: str) -> None:
    check(picture)
    made = plan(picture.partition("=>")[0])
    missing = [conflict for conflict in made.conflicts if conflict.type == "missing"]
    if "diverged" not in picture:
        assert [(c.snapshot_names, c.severity) for c in missing] == [(("3",), "low")]
        assert "tank/data@3 on hostB is another snapshot of that name" in reasons(made, "B")


@pytest.mark.parametrize(
    "picture",
    [
        "A: 3 4    B: 1 2    C: 2 3     => B 2-3 via C, B 3-4, C 3-4",  # A has destroyed 2, C has not
        "A: 1 3    B: 1 2    C: 2 3     => B 2-3 via C",  # 2 holds data that A lacks, and C can go on
        "A: 4 5    B: 1      C: 1 2     => C orphaned, B orphaned",  # C has nothing of A's to bring
        "A-: 1 2 3 B: 1      C: 1 2 3   => B 1..3 via C",  # the hub is away
        "A/: 1 2 3 B: 1      C: 1 2 3   => B 1..3 via C",  # or its pool is
        "A-: 1 2 3 B: 1      C: 1 2     => B 1-2 via C",
        "A-: 1 2 3 B:        C: 2 3     => B full 2 via C, B 2-3 via C",
        "A: 1 3    B: 1      C: 1 2 3   => B 1-3",  # what the hub destroyed is not wanted
        "A-: 1 3   B: 1      C: 1 2 3   => B 1-3 via C",
        "A-: 2 3   B:        C: 1 2 3   => B full 2 via C, B 2-3 via C",
        "A-: 1 2   B:        C: 9 D: 1 2 => B full 1 via D, B 1-2 via D, C orphaned",
        "A-: 1 2 3 B: 1      C: 1 2 D: 1 2 => B 1-2 via C",  # of two alike, the first
        "A-: 1 2 3 4 B:      C: 1 2 D: 2 3 4 => B full 1 via C, B 1-2 via C, B 2..4 via D, C 2..4 via D",
    ],
)
def test_another_member_helps_where_the_hub_can_not(picture: str) -> None:
    drawing, _, answer = picture.partition("=>")
    made = plan(drawing)
    apart = [c.system_id for c in made.cells if c.status == "conflict"]
    if answer.endswith("C orphaned, B orphaned"):
        assert apart == ["B", "C"]
    else:
        assert draw(made) == " ".join(answer.split())


@pytest.mark.parametrize(
    "picture",
    [
        "A: 1 2     B: 1 2 3   C:      => C full 1 via B, C 1..3 via B, A 2-3 via B",
        "A: 1 2     B: 1 2     C: 1    => C 1-2",
        "A: 1 2 x   B: 1 2             => B 2-x",  # of two whom all can follow, the newest
        "A: 1 2 *   B: 1 2             => nothing",  # A is being written to, and all follow A
        "A: 1 2 3   B: 1 2 X           => A+B diverged",
        "A: 1 2 *   B: 1 2 *           => A+B diverged",
        "A: 1 3     B: 1 2             => A+B diverged",
        "A: 1       B: 2               => A+B orphaned",
        "A: 1 2     B: 3       C: 1    => C 1-2, B orphaned",
        "A: 1 2     B: 3       C: 1 D: => C 1-2, B orphaned",  # D gets nothing while that is open
        "A-: 1 2 3  B: 1 2     C: 1    => C 1-2 via B",  # who is away leads nobody
        "A-: 1 X    B: 1 2     C: 1    => C 1-2 via B, A diverged",  # nor does one that nobody can follow
        "A-: 1 X    B-: 1 Y            => A+B diverged",
        "A: 3 x     B: 9       C: 3 2  => A 3-2 via C, B orphaned",  # the newest is not one to follow
        "A: #1 2    B: 1       C: 9    => B #1-2, C orphaned",  # a bookmark makes them relatives
        "A: 5 x     B: #5 3    C: 9    => A #5-3 via B, C orphaned",
        "A: ()      B: ()              => nothing",
        # B can follow A once it has got from C what links the two
        "A: 2 X     B: 1       C: 1 2  => B 1-2 via C, B 2-X, C 2-X",
        "A: 2 X     B: 1 Y     C: 1 2  => A+B orphaned",
    ],
)
def test_without_a_hub_all_follow_whom_all_can_follow(picture: str) -> None:
    check(picture, peers_policy())


def test_of_several_that_can_lead_the_first_configured_is_taken() -> None:
    made = plan("A: 1 2 B: 1 2 C: 1", peers_policy())
    assert [step.source for step in made.steps] == ["A"]
    made = plan("A: 1 2 B: 1 2 C: 1", peers_policy(order=("B", "A", "C")))
    assert [step.source for step in made.steps] == ["B"]


def test_a_head_of_unknown_age_leads_last() -> None:
    members = members_of("A: 1 2 B: 1 2 C: 1")
    held = members[0].replicas["tank/data"]
    undated = replace(held, snapshots=tuple(replace(snapshot, creation=None) for snapshot in held.snapshots))
    members[0] = replace(members[0], replicas={**members[0].replicas, "tank/data": undated})
    made = plan_group(peers_policy(), members, NO_WORK, NOW)
    assert [cell.system_id for cell in made.cells if cell.is_source] == ["B"]
    held = members[2].replicas["tank/data"]
    early = replace(held, snapshots=tuple(replace(snapshot, creation=-10) for snapshot in held.snapshots))
    members[2] = replace(members[2], replicas={**members[2].replicas, "tank/data": early})
    made = plan_group(peers_policy(), [members[0], members[2]], NO_WORK, NOW)
    assert [cell.system_id for cell in made.cells if cell.is_source] == ["A"], "the other can't lead"


def test_who_has_nothing_of_a_contested_dataset_waits() -> None:
    made = plan("A: 1 2 B: 3 C: 1 D:", peers_policy())
    assert reasons(made, "D").startswith("tank/data on hostB, tank/data on hostA, tank/data on hostC have histories")
    diverged = reasons(plan("A: 1 X B: 1 Y D:", peers_policy()), "D")
    assert diverged == "the histories of tank/data on the other members have diverged: see the conflict"
    assert reasons(plan("A: 1 B: 2 D: ()", peers_policy()), "D") == reasons(plan("A: 1 B: 2 D:", peers_policy()), "D")


def test_a_hub_that_is_no_member_or_does_not_list_a_dataset_is_named() -> None:
    assert reasons(plan("B: 1"), "B") == "the group's hub is not among its members: add it, or name another"
    members = [member_with("A", "", {"data/kid": "1"}), member_with("B", "", {"data": "1", "data/kid": "1"})]
    made = plan_group(hub_policy(), members, NO_WORK, NOW)
    assert reasons(made, "B") == "tank/data exists on hostA, but its inventory does not list it"
    assert made.conflicts == ()


# --- what is wanted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "fields"),
    [
        ("A: 1 2 3 4 B: 1 => B 1-2, B 2-4", {"snapshot_exclude": ("3",)}),
        ("A: 1 2 3 4 5 B: 1 => B 1-3, B 3-5", {"snapshot_include": ("1", "3", "5")}),
        ("A: 1 2 3 4 5 B: 1 => B 1-3, B 3..5", {"snapshot_exclude": ("2",)}),
        ("A: #1 2 3 4 B: 1 => B #1-3, B 3-4", {"snapshot_exclude": ("2",)}),
        ("A: 1 2 3 B: 1 2 => B 2-3", {"snapshot_exclude": ("2",)}),  # a filter hides no base
        ("A: 1 2 3 B: => B full 2, B 2-3", {"snapshot_exclude": ("1",)}),
        ("A: 1 2 3 B: => B full 3", {"initial": "newest"}),
        ("A: 1 2 3 B: 1 => B 1..3", {"initial": "newest"}),
        ("A: 3 4 B: 1 C: 1 3 => B 1-3 via C, B 3-4, C 3-4", {"initial": "newest"}),
        ("A: 1 2 3 B: 1 => B 1-2", {"min_age_s": int(NOW) - 2 * DAY}),
        ("A: 1 2 3 B: 1 2 => nothing", {"min_age_s": int(NOW) - 2 * DAY}),
        ("A: 1 2 3 4 B: 1 => B 1-2", {"min_age_s": int(NOW) - 2 * DAY}),
        ("A: 1 2 3 B: => nothing", {"include": ("other/**",)}),
        ("A: 1 2 3 B: => nothing", {"exclude": ("data",)}),
    ],
)
def test_filters_choose_what_is_sent(picture: str, fields: dict[str, Any]) -> None:
    check(picture, hub_policy(**fields))


def test_a_snapshot_of_unknown_age_is_not_old_enough() -> None:
    members = members_of("A: 1 2 B:")
    held = members[0].replicas["tank/data"]
    undated = tuple(replace(snapshot, creation=None) for snapshot in held.snapshots)
    replicas = {**members[0].replicas, "tank/data": replace(held, snapshots=undated)}
    members[0] = replace(members[0], replicas=replicas)
    assert draw(plan_group(hub_policy(), members, NO_WORK, NOW)) == "B full 1, B 1-2"
    assert draw(plan_group(hub_policy(min_age_s=1), members, NO_WORK, NOW)) == "nothing"


def test_a_snapshot_older_than_what_the_target_has_is_said_and_not_sent() -> None:
    made = plan("A: 1 2 3 4 B: 2 4")
    assert made.steps == ()
    (conflict,) = made.conflicts
    assert (conflict.type, conflict.severity, conflict.snapshot_names) == ("missing", "low", ("1", "3"))
    assert {cell.status for cell in made.cells} == {"in_sync"}
    assert plan("A: 1 2 3 4 B: 2 4", hub_policy(initial="newest")).conflicts == ()


def test_zfs_own_and_set_aside_datasets_are_left_alone() -> None:
    lines = {"data": "1", "data/%recv": "1", "data.aside-0123abcd": "1 X", "data.aside-0123abcd/kid": "1"}
    made = plan_group(hub_policy(), [member_with("A", "", lines), member_with("B", "", lines)], NO_WORK, NOW)
    assert {cell.path for cell in made.cells} == {"data"}


# --- what a step says ------------------------------------------------------------------------------


def test_a_step_says_all_that_an_agent_needs() -> None:
    policy = hub_policy(snapshot_exclude=("two",), properties=(("compression", "zstd"),))
    (step,) = plan("A: 1 2@two 3 B: 1 x", policy).steps
    assert (step.executor, step.source, step.target) == ("A", "A", "B")
    assert (step.source_dataset, step.target_dataset, step.path) == ("tank/data", "tank/data", "data")
    assert (step.end and step.end.name, step.base and step.base.name, step.intermediates) == ("3", "1", False)
    assert [snapshot.guid for snapshot in step.delivers] == ["3"]
    assert step.expected_guids == ("1", "x"), "what B has from the base on"
    assert step.expected_written == 0
    assert step.estimated_size_bytes == 2000, "2 is stepped over, and its data sent"
    assert (step.embedded, step.raw, step.kind) == (True, False, "filesystem")
    assert not step.destructive
    assert step.reason == "hostB has tank/data up to 1: hostA sends the newer 3"
    assert step.properties == (), "B has the dataset already"


def test_a_new_replica_is_a_chain() -> None:
    made = plan("A: 1 2 B:", hub_policy(properties=(("compression", "zstd"),)))
    first, second = made.steps
    assert (first.depends_on, first.expected_guids, first.expected_written) == ((), (), None)
    assert second.depends_on == (first.action_id,)
    assert (first.properties, second.properties) == ((("compression", "zstd"),), ())
    assert first.estimated_size_bytes == 1000, "what the snapshot refers to"
    assert second.expected_guids == ("1",)
    assert [step.priority for step in made.steps] == [0, 1]


def test_a_size_is_unknown_where_a_part_of_it_is() -> None:
    (step,) = plan("A: 1 2? 3 B: 1").steps
    assert step.estimated_size_bytes is None


def test_who_pulls_runs_the_step_itself() -> None:
    (step,) = plan("A: 1 2 B: 1", hub_policy(transfer="pull")).steps
    assert (step.executor, step.source, step.target) == ("B", "A", "B")


def test_an_id_stays_while_group_dataset_target_type_base_and_end_do() -> None:
    pushed, pulled = (plan("A: 1 2 B: 1", hub_policy(transfer=way)).steps[0] for way in ("push", "pull"))
    assert pushed.action_id == pulled.action_id == plan("A: 1 2 B: 1 x").steps[0].action_id
    others = [plan("A: 1 2 B:").steps[0], plan("A: 1 2 3 B: 1").steps[0], plan("A: 1 2 C: 1").steps[0]]
    others.append(plan("A: 1 2 B: 1", replace(hub_policy(), group_id="other")).steps[0])
    assert len({pushed.action_id, *(step.action_id for step in others)}) == 5


# --- order and sameness ----------------------------------------------------------------------------


def family(name: str, **lines: str) -> Member:
    return member_with(name, "", {path.replace("_", "/"): line for path, line in lines.items()})


def test_parents_come_first_then_the_largest_lag() -> None:
    hub = family("A", a="8 9", b="1 9", b_kid="8 9", c="5 6", c_kid="2 9")
    replica = family("B", a="8", b="1", b_kid="8", c="5", c_kid="2")
    made = plan_group(hub_policy(), [hub, replica], NO_WORK, NOW)
    # c is as urgent as c/kid, which lags by more than b does? all but c lack 9; c lacks 6
    assert [step.path for step in made.steps] == ["c", "a", "b", "b/kid", "c/kid"]


def test_a_parent_goes_with_the_most_urgent_below_it() -> None:
    hub = family("A", a="8 9", a_kid="1 2", b="3 4")
    replica = family("B", a="8", a_kid="1", b="3")
    made = plan_group(hub_policy(), [hub, replica], NO_WORK, NOW)
    assert [step.path for step in made.steps] == ["a", "a/kid", "b"]


def test_members_with_deeper_roots_wait_no_longer() -> None:
    deep = replace(family("B"), root="tank/in/here", replicas=family("B", in_here="()").replicas)
    made = plan_group(hub_policy(), [family("A", a="1", a_b="1"), deep, family("C")], NO_WORK, NOW)
    assert [(step.target, step.path) for step in made.steps] == [("B", "a"), ("C", "a"), ("B", "a/b"), ("C", "a/b")]


def test_without_roots_full_names_are_the_same_on_both() -> None:
    hub, replica = (replace(member, root=None) for member in members_of("A: 1 2 B: 1"))
    (step,) = plan_group(hub_policy(), [hub, replica], NO_WORK, NOW).steps
    assert (step.path, step.source_dataset, step.target_dataset) == ("tank/data", "tank/data", "tank/data")


def test_the_same_facts_give_the_same_plan_in_any_order() -> None:
    picture = "A: 1 2 #3 4 5 B: 1 2 x C: 3 D:"
    for policy in (hub_policy(), peers_policy()):
        made = plan(picture, policy)
        for members in itertools.permutations(members_of(picture)):
            jumbled = [_jumbled(member) for member in members]
            assert plan_group(policy, jumbled, NO_WORK, NOW) == made


def _jumbled(member: Member) -> Member:
    """The same member, with its datasets in another order."""
    return replace(member, replicas=dict(sorted(member.replicas.items(), reverse=True)))


def test_time_alone_changes_no_step() -> None:
    for picture in ("A: 1 2 3 B: 1 C:", "A: 1 2 3 B: 1 X C-: 1"):
        early, late = plan(picture), plan(picture, now=NOW + 3600)
        assert (early.steps, early.skips, early.conflicts) == (late.steps, late.skips, late.conflicts)
