"""Ordinary plans where two rules meet: what a pool would refuse, or would never end, is not planned."""

from dataclasses import replace

from planner import plan_group
from planner.model import Lease, Member, Neighbour, Policy, Replica, Work
from tests.pictures import NOW, draw, history_of, hub_policy, member_with, members_of, peers_policy, reasons, story
from tests.tokens import encode_resume_token

NO_WORK = Work()
TOKEN = encode_resume_token("tank/data@2", "2", "1", 400)


def with_token(member: Member, token: str) -> Member:
    held = replace(member.replicas["tank/data"], resume_token=token)
    return replace(member, replicas={**member.replicas, "tank/data": held})


def test_a_transfer_can_not_end_under_a_name_that_is_taken_meanwhile() -> None:
    a, b = members_of("A: 1 2 B: 1 x@2")
    made = plan_group(hub_policy(), [a, with_token(b, TOKEN)], NO_WORK, NOW)
    assert made.steps == ()
    assert "is another snapshot of that name, so the transfer that broke off can't end" in reasons(made, "B")


def test_nothing_is_dropped_before_all_have_said_what_they_have() -> None:
    a, b, c = *members_of("A: 1 3"), with_token(members_of("B: 1")[0], TOKEN), *members_of("C: none")
    silent = replace(c, reported_at=None)
    made = plan_group(hub_policy(), [a, b, silent], NO_WORK, NOW)
    assert "what hostC has is not known yet" in reasons(made, "B")
    beside = Work(neighbours=(Neighbour(replace(hub_policy(), group_id="g2", name="other", hub="C"), (b, silent)),))
    assert plan_group(hub_policy(), [a, b], beside, NOW).steps == ()
    assert "B abort_receive" in draw(plan_group(hub_policy(), [a, b, c], NO_WORK, NOW))


def test_what_follows_a_broken_transfer_has_the_room_that_its_rest_leaves() -> None:
    a, b = members_of("A: 1 2 3"), with_token(members_of("B: 1")[0], TOKEN)
    sized = [replace(snap, written=600) for snap in a[0].replicas["tank/data"].snapshots]
    hub = replace(a[0], replicas={"tank/data": replace(a[0].replicas["tank/data"], snapshots=tuple(sized))})
    for room, steps in ((700, "B rest of 2"), (900, "B rest of 2, B 2-3")):
        held = replace(b.replicas["tank/data"], available=room)
        there = replace(b, replicas={**b.replicas, "tank/data": held})
        assert draw(plan_group(hub_policy(), [hub, there], NO_WORK, NOW)) == steps


def test_among_peers_one_follows_over_a_third_though_an_old_snapshot_is_common() -> None:
    members = members_of("A: 1 3 4 B: 1 4 5 C: 1 3")
    assert draw(plan_group(peers_policy(), members, NO_WORK, NOW)) == "C 3-4, C 4-5 via B, A 4-5 via B"


def test_a_parent_that_another_group_brings_once_a_pool_is_back_is_not_made() -> None:
    a = member_with("A", "", {"data/kid": "1 2"})
    b = members_of("B: none")[0]
    c = members_of("C: 1 2")[0]
    other = replace(hub_policy(), group_id="g2", name="other", hub="C")
    for there in (c, replace(c, replicas={}, absent=c.replicas)):
        made = plan_group(hub_policy(), [a, b], Work(neighbours=(Neighbour(other, (there, b)),)), NOW)
        assert made.steps == ()
        assert "which the group other brings" in reasons(made, "B")


def test_what_a_diverged_one_shared_last_is_said_of_each() -> None:
    made = plan_group(hub_policy(), members_of("A: 1 2 3 4 B: 1 2 3 X C: 1 Y"), NO_WORK, NOW)
    (conflict,) = [each for each in made.conflicts if each.type == "diverged"]
    assert "changed after 3 and 1, the last snapshots in common with hostA" in conflict.reason


def test_what_is_there_in_part_is_not_made_as_a_parent() -> None:
    a = member_with("A", "", {"data": "5@skip", "data/kid": "1 2"})
    b = with_token(member_with("B", "", {"data": "()"}), "1-abc-def")
    made = plan_group(hub_policy(snapshot_exclude=("skip",)), [a, b], NO_WORK, NOW)
    assert made.steps == ()


def test_a_child_that_is_there_goes_on_though_its_parent_is_there_in_part() -> None:
    members = [
        member_with("A", "", {"data": "5", "data/kid": "1 2"}),
        member_with("B", "", {"data": "()", "data/kid": "1"}),
    ]
    made = plan_group(hub_policy(), [members[0], with_token(members[1], "1-abc-def")], NO_WORK, NOW)
    assert [(step.path, step.type) for step in made.steps] == [("data/kid", "sync")]


def test_nothing_is_planned_below_a_volume() -> None:
    a = member_with("A", "", {"data": "5"}, kind="volume")
    c = member_with("C", "", {"data": "()", "data/kid": "1 2"})
    made = plan_group(peers_policy(), [a, *members_of("B: none"), c], NO_WORK, NOW)
    assert {step.path for step in made.steps} == {"data"}
    assert any("comes as a volume, below which nothing can lie" in skip.reason for skip in made.skips)


def test_what_another_group_can_continue_is_not_dropped() -> None:
    a, b, c = *members_of("A: 1 3"), with_token(members_of("B: 1")[0], TOKEN), *members_of("C: 1 2")
    other = replace(hub_policy(), group_id="g2", name="other", hub="C")

    def beside(policy: Policy, *members: Member) -> Work:
        return Work(neighbours=(Neighbour(policy, members),))

    made = plan_group(hub_policy(), [a, b], beside(other, b, c), NOW)
    assert made.steps == ()
    assert "tank/data waits for a transfer of the group other" in reasons(made, "B")
    assert draw(plan_group(other, [b, c], beside(hub_policy(), a, b), NOW), usual="C") == "B rest of 2"
    assert draw(plan_group(hub_policy(), [a, b], beside(replace(other, enabled=False), b, c), NOW)) == "B abort_receive"


def test_nobody_is_told_to_rename_to_another_pool() -> None:
    """zfs rename: datasets must be within same pool."""
    empty = {name: Replica(name, kind="filesystem", written=0, encryption="off") for name in ("ssd", "tank")}
    a, b = (replace(each, root=None) for each in members_of("A: none B: none"))
    a = replace(a, replicas={**empty, "ssd/data": held("1 2", "ssd/data")})
    b = replace(b, replicas={**empty, "tank/data": held("1", "tank/data")})
    assert "zfs rename" not in reasons(plan_group(hub_policy(), [a, b], NO_WORK, NOW), "B")


def held(line: str, dataset: str) -> Replica:
    replica = history_of(line, dataset)
    assert replica is not None
    return replica


def test_what_follows_the_newest_alone_is_all_that_is_newer() -> None:
    policy = hub_policy(initial="newest")
    a = members_of("A: 1 2 3 4")[0]
    begun = with_token(members_of("B: ()")[0], encode_resume_token("tank/data@2", "2", None, 400))
    assert draw(plan_group(policy, [a, begun], NO_WORK, NOW)) == "B rest of 2, B 2..4"


def test_nothing_is_bookmarked_while_it_gets_another_name() -> None:
    lease = Lease("x", "other", "A", None, "A", "tank/data", None, None, None, NOW + 60, "rename", "tank/data2")
    policy, members = hub_policy(delete="mirror", window_open=False), members_of("A: 1 2 B: 1")
    assert story(plan_group(policy, members, NO_WORK, NOW)) == ["bookmark tank/data"]
    assert story(plan_group(policy, members, Work(leases=(lease,)), NOW)) == []


def test_a_parent_that_several_need_is_made_by_one_who_was_seen() -> None:
    hub = member_with("A", "", {"box/x": "1", "box/y": "1"})
    silent = replace(hub, last_seen_at=NOW - 10**6)
    members = [silent, member_with("C", "", {"box/y": "1"}), member_with("B", "", {})]
    for wanted in (("box/*",), ("box/y",), ("box/x",)):
        made = plan_group(replace(hub_policy(), include=wanted), members, NO_WORK, NOW)
        makers = [step.executor for step in made.steps if step.type == "create_parent" and step.target == "B"]
        assert makers == (["A"] if wanted == ("box/x",) else ["C"])


def test_the_beginning_of_what_nobody_has_any_more_is_dropped() -> None:
    """Else nothing could ever come below it."""
    b = with_token(members_of("B: ()")[0], encode_resume_token("tank/data@2", "2", None, 400))
    a, c = member_with("A", "", {}), member_with("C", "", {"data": "2"})
    for policy in (peers_policy(), hub_policy()):
        assert draw(plan_group(policy, [a, b], NO_WORK, NOW)) == "B abort_receive"
        assert plan_group(replace(policy, enabled=False), [a, b], NO_WORK, NOW).steps == ()
        assert plan_group(policy, [a, replace(b, confirmed_at=1.0, reported_at=1.0)], NO_WORK, NOW).steps == ()
        assert "abort_receive" not in draw(plan_group(policy, [a, b, c], NO_WORK, NOW)), "C can continue it"


def test_what_a_replica_has_is_named_as_it_is_there() -> None:
    made = plan_group(hub_policy(), members_of("A: #1@mark 2 B: 1@old"), Work(), NOW)
    assert [step.reason for step in made.steps] == ["hostB has tank/data up to old: hostA sends the newer 2"]


def test_nobody_is_told_to_rename_or_destroy_a_pool() -> None:
    a = member_with("A", "", {"data": "1 2"})
    b = Member("B", "hostB", "vault", {"vault": Replica("vault", written=0)}, {}, NOW, NOW, NOW)
    policy = hub_policy(include=("**",))
    made = plan_group(policy, [replace(a, root="tank/data"), b], NO_WORK, NOW)
    assert reasons(made, "B").endswith("it is a pool, so give the member a root inside it")
