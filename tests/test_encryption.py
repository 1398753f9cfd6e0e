"""Raw or not: decided once for a source and its replica, and never changed by a plan."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Credit, Member, Plan, Replica, Snapshot, Work
from tests.pictures import NOW, draw, hub_policy, member_with, reasons
from tests.tokens import encode_resume_token

CIPHER = "aes-256-gcm"


def member(name: str, line: str, encryption: str | None, iv_set: str | None, pool: str | None = "off") -> Member:
    """A member with one dataset; its snapshots have IV sets of the given kind."""
    made = member_with(name, "", {"data": line}, encryption=encryption)
    replicas = dict(made.replicas)
    replicas["tank"] = replace(replicas["tank"], encryption=pool)
    if "tank/data" in replicas:
        replicas["tank/data"] = marked(replicas["tank/data"], iv_set)
    return replace(made, replicas=replicas)


def marked(held: Replica, iv_set: str | None) -> Replica:
    def mark(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, ivsetguid=f"{iv_set}{snapshot.guid}" if iv_set else None)

    return replace(held, snapshots=tuple(mark(snapshot) for snapshot in held.snapshots))


def plan(hub: Member, replica: Member, **fields: Any) -> Plan:
    return plan_group(hub_policy(**fields), [hub, replica], Work(), NOW)


def forms(plan: Plan) -> list[str]:
    assert not any(step.raw and step.embedded for step in plan.steps)
    return ["raw" if step.raw else "embedded" if step.embedded else "plain" for step in plan.steps]


@pytest.mark.parametrize(
    ("source", "parent", "mode", "form"),
    [
        ("off", "off", "auto", "embedded"),
        ("off", CIPHER, "auto", "plain"),  # -e is refused where the target encrypts
        ("off", None, "auto", "plain"),
        (None, "off", "auto", "plain"),
        (CIPHER, "off", "auto", "raw"),
        (CIPHER, CIPHER, "auto", "raw"),
        (CIPHER, "off", "never", "plain"),
        ("off", "off", "always", "embedded"),
        ("off", CIPHER, "always", "plain"),  # -w would imply -e
        (CIPHER, "off", "always", "raw"),
        (None, "off", "always", "raw"),
    ],
)
def test_a_new_replica(source: str | None, parent: str | None, mode: str, form: str) -> None:
    made = plan(member("A", "1 2", source, None), member("B", "", None, None, parent), raw=mode)
    assert draw(made) == "B full 1, B 1-2"
    assert forms(made) == [form, form]


COLUMN_ENCRYPTION = "report the column encryption"
COLUMN_IV_SET = "both agents must report the column ivsetguid"


@pytest.mark.parametrize(
    ("source", "target", "mode", "answer"),
    [
        (("off", None), ("off", None), "auto", "embedded"),
        (("off", None), ("off", None), "always", "embedded"),
        ((None, None), ("off", None), "auto", "plain"),
        (("off", None), (None, None), "auto", "plain"),
        (("off", None), (CIPHER, "b"), "auto", "plain"),  # the target encrypts for itself
        (("off", None), (CIPHER, "b"), "always", "plain"),  # zfs send -w of it would be the same
        ((CIPHER, "a"), ("off", None), "auto", "plain"),  # it was sent so, and goes on so
        ((CIPHER, "a"), ("off", None), "never", "plain"),
        ((CIPHER, "a"), ("off", None), "always", "received unencrypted, so no raw stream can go on top"),
        ((CIPHER, "a"), (CIPHER, "a"), "auto", "raw"),
        ((CIPHER, "a"), (CIPHER, "a"), "always", "raw"),
        ((CIPHER, "a"), (CIPHER, "a"), "never", "received raw, so only raw streams can go on top of it"),
        ((CIPHER, "a"), (CIPHER, "b"), "auto", "plain"),
        ((CIPHER, "a"), (CIPHER, "b"), "never", "plain"),
        ((CIPHER, "a"), (CIPHER, "b"), "always", "its IV sets differ"),
        ((CIPHER, "a"), (CIPHER, None), "auto", COLUMN_IV_SET),
        ((CIPHER, None), (CIPHER, "a"), "auto", COLUMN_IV_SET),
        ((CIPHER, None), (CIPHER, None), "always", "raw"),  # somebody knows, and said so
        ((CIPHER, None), (CIPHER, None), "never", "plain"),
        ((CIPHER, "a"), (None, None), "auto", COLUMN_ENCRYPTION),
        ((None, None), (CIPHER, "a"), "auto", COLUMN_ENCRYPTION),
        ((CIPHER, "a"), (None, None), "always", "raw"),
        ((CIPHER, "a"), (None, None), "never", "plain"),
    ],
)
def test_a_replica_goes_on_as_it_began(
    source: tuple[str | None, str | None], target: tuple[str | None, str | None], mode: str, answer: str
) -> None:
    made = plan(member("A", "1 2", *source), member("B", "1", *target), raw=mode)
    if answer in ("raw", "embedded", "plain"):
        assert (draw(made), forms(made)) == ("B 1-2", [answer])
    else:
        assert made.steps == ()
        assert answer in reasons(made, "B")


def test_a_raw_replica_with_a_snapshot_of_its_own_has_diverged() -> None:
    hub = member("A", "1 2", CIPHER, "a")
    made = plan(hub, member("B", "1 x", CIPHER, "a"))
    assert draw(made) == "B diverged"
    assert [c.severity for c in made.conflicts] == ["medium"], "nothing of its own would be lost"
    assert draw(plan(hub, member("B", "1 x", CIPHER, "b"))) == "B 1-2", "one that is not raw takes it"


@pytest.mark.parametrize(
    ("target", "mode", "answer"),
    [
        ((CIPHER, None), "always", "B diverged"),  # raw by what somebody said
        ((CIPHER, None), "never", "B 1-2"),
        ((None, None), "always", "B diverged"),
        ((None, None), "never", "B 1-2"),
    ],
)
def test_a_replica_counts_as_raw_where_the_group_says_so(
    target: tuple[str | None, str | None], mode: str, answer: str
) -> None:
    assert draw(plan(member("A", "1 2", CIPHER, None), member("B", "1 x", *target), raw=mode)) == answer


def test_encrypted_histories_with_nothing_in_common_are_orphans() -> None:
    for mode in ("auto", "always", "never"):
        made = plan(member("A", "1 2", CIPHER, "a"), member("B", "3", CIPHER, "a"), raw=mode)
        assert draw(made) == "B orphaned"


def test_a_raw_stream_goes_on_where_iv_sets_agree() -> None:
    """2 was received from another sender, not raw: nothing raw goes on top of it."""
    hub, replica = member("A", "1 2 3", CIPHER, "a"), member("B", "1 2", CIPHER, "a")
    held = replica.replicas["tank/data"]
    strange = replace(held.snapshots[1], ivsetguid="other")
    replicas = {**replica.replicas, "tank/data": replace(held, snapshots=(held.snapshots[0], strange))}
    made = plan(hub, replace(replica, replicas=replicas), raw="always")
    assert made.steps == ()
    assert "its IV sets differ" in reasons(made, "B")


@pytest.mark.parametrize(("raw", "parent", "mode"), [(True, "off", "auto"), (False, CIPHER, "never")])
def test_what_follows_a_broken_stream_keeps_its_form(raw: bool, parent: str, mode: str) -> None:
    token = encode_resume_token("tank/data@1", "1", None, 0, raw=raw)
    begun = replace(Replica("tank/data"), resume_token=token, encryption=None if raw else parent)
    replica = member("B", "", None, None, parent)
    replica = replace(replica, replicas={**replica.replicas, "tank/data": begun})
    made = plan(member("A", "1 2", CIPHER, "a"), replica, raw=mode)
    assert draw(made) == "B rest of 1, B 1-2"
    assert {step.raw for step in made.steps} == {raw}


def test_a_plain_replica_goes_on_plain_before_its_next_report() -> None:
    """Its new snapshot has an IV set of its own, whichever that is."""
    hub, replica = member("A", "1 2 3@skip 4", CIPHER, "a"), member("B", "1", CIPHER, "b")
    policy = hub_policy(snapshot_exclude=("skip",))
    first, _ = plan_group(policy, [hub, replica], Work(), NOW).steps
    done = Work(credits=(Credit(first, first.delivers, NOW + 1),))
    made = plan_group(policy, [hub, replica], done, NOW + 2)
    assert (draw(made), forms(made)) == ("B 2-4", ["plain"])
    begun = replace(replica.replicas["tank/data"], resume_token=encode_resume_token("tank/data@2", "2", "1", 0))
    resumed = plan_group(
        policy, [hub, replace(replica, replicas={**replica.replicas, "tank/data": begun})], Work(), NOW
    )
    assert (draw(resumed), forms(resumed)) == ("B rest of 2, B 2-4", ["plain", "plain"])


def test_what_is_sent_on_raw_before_its_iv_set_was_reported_is_not_taken_for_plain() -> None:
    """B gets it plain from A, and C has it raw from B, in another group: B reports, and then C."""
    from_b = replace(hub_policy(hub="B"), group_id="two", order=("B", "C"))
    hub, b, c = member("A", "1 2", CIPHER, "a"), member("B", "1", CIPHER, "b"), member("C", "1", CIPHER, "b")
    (to_b,) = plan_group(replace(hub_policy(), order=("A", "B")), [hub, b], Work(), NOW).steps
    credits = (Credit(to_b, to_b.delivers, NOW + 1),)
    (to_c,) = plan_group(from_b, [b, c], Work(credits=credits), NOW + 2).steps
    assert (to_b.raw, to_c.raw) == (False, True)
    credits += (Credit(to_c, to_c.delivers, NOW + 3),)
    reported = replace(member("B", "1 2 3", CIPHER, "b"), reported_at=NOW + 4)
    made = plan_group(from_b, [reported, c], Work(credits=credits), NOW + 5)
    assert made.steps == ()
    assert "whether tank/data was received raw is not known" in reasons(made, "C")


@pytest.mark.parametrize(
    ("encryption", "parent", "mode", "form"),
    [
        (CIPHER, "off", "auto", "raw"),
        (CIPHER, CIPHER, "never", "plain"),
        (CIPHER, "off", "never", "plain"),
        ("off", "off", "auto", "embedded"),
        ("off", CIPHER, "auto", "plain"),
    ],
)
def test_the_rest_of_a_chain_keeps_the_form_of_its_beginning(
    encryption: str, parent: str, mode: str, form: str
) -> None:
    """The hub is away, and no other member has all: B gets the beginning from C, the rest from D."""
    iv_set = "a" if encryption == CIPHER else None
    hub, early, late = (
        member(name, line, encryption, iv_set) for name, line in (("A", "1 2 3"), ("C", "1 2"), ("D", "2 3"))
    )
    away = replace(hub, reported_at=0.0, confirmed_at=0.0)
    members = [away, member("B", "", None, None, parent), early, late]
    steps = [step for step in plan_group(hub_policy(raw=mode), members, Work(), NOW).steps if step.target == "B"]
    assert [(step.type, step.source) for step in steps] == [("create", "C"), ("sync", "C"), ("sync", "D")]
    assert {"raw" if step.raw else "embedded" if step.embedded else "plain" for step in steps} == {form}


def test_what_came_raw_goes_on_raw_or_not_at_all() -> None:
    """A pool with the key would take an increment that is not raw on top of an empty snapshot of its own."""
    made = plan(member("A", "1 2 3", CIPHER, "5"), member("B", "1 2 x", CIPHER, "5"))
    assert draw(made) == "B diverged"
    made = plan(member("A", "1 2 3", CIPHER, "5"), member("B", "1 2 x", CIPHER, "6"))
    assert (draw(made), forms(made)) == ("B 2-3", ["plain"])
