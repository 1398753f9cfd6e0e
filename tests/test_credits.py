"""Members as they stand after steps that finished since their last report, compared with what pools then list."""

from dataclasses import replace
from typing import Any

import pytest

from planner.credits import apply_credits
from planner.model import Credit, Member, Replica, Snapshot, Step, Work
from tests.conflict_world import HUB_A, Hosts, diverged, members_of, obey, pick
from tests.pictures import NOW, history_of, member_with

CIPHER = "aes-256-gcm"


def step(type: Any, dataset: str = "tank/data", **fields: Any) -> Step:
    return Step("id", type, "data", "B", "B", dataset, "because", **fields)


def snapshots(line: str) -> tuple[Snapshot, ...]:
    held = history_of(line)
    assert held is not None
    return held.snapshots


def after(member: Member, *steps: Step, at: float = NOW + 1, others: tuple[Member, ...] = ()) -> dict[str, Replica]:
    """The member's replicas once these steps finished, one after the other."""
    credits = tuple(Credit(done, done.delivers, at + number) for number, done in enumerate(steps))
    found = apply_credits([member, *others], Work(credits=credits))[0]
    return dict(found.replicas)


def member(line: str, **fields: Any) -> Member:
    return member_with("B", "", {"data": line}, **fields)


def guids(replica: Replica) -> list[str]:
    return [snapshot.guid for snapshot in replica.snapshots]


def test_a_step_counts_until_the_next_report() -> None:
    done = step("sync", delivers=snapshots("2 3"))
    assert guids(after(member("1"), done, at=NOW + 1)["tank/data"]) == ["1", "2", "3"]
    assert guids(after(member("1"), done, at=NOW)["tank/data"]) == ["1"], "the report saw it, or it is not so"
    never = replace(member("1"), reported_at=None)
    assert guids(after(never, done)["tank/data"]) == ["1", "2", "3"]


def test_steps_count_in_the_order_in_which_they_finished() -> None:
    early = Credit(step("sync", delivers=snapshots("2")), snapshots("2"), NOW + 1)
    late = Credit(step("sync", delivers=snapshots("3")), snapshots("3"), NOW + 2)
    (found,) = apply_credits([member("1")], Work(credits=(late, early)))
    assert guids(found.replicas["tank/data"]) == ["1", "2", "3"]


def test_only_the_target_changes() -> None:
    done = Credit(step("sync", delivers=snapshots("2")), snapshots("2"), NOW + 1)
    other = member_with("C", "", {"data": "1"})
    assert apply_credits([other], Work(credits=(done,))) == (other,)


def test_what_was_received_is_known_as_far_as_the_stream_says() -> None:
    sent = replace(snapshots("2")[0], ivsetguid="iv", userrefs=3, used=7)
    held = after(member("1 *", resume_token="token"), step("resume", delivers=(sent,)))["tank/data"]
    assert (held.written, held.resume_token) == (0, None)
    newest = held.snapshots[-1]
    assert (newest.guid, newest.creation, newest.referenced) == ("2", sent.creation, sent.referenced)
    assert (newest.createtxg, newest.written, newest.used, newest.userrefs) == (None, None, None, None)
    assert newest.ivsetguid is None, "only a raw stream keeps the IV set"
    raw = after(member("1"), step("sync", raw=True, delivers=(sent,)))["tank/data"]
    assert raw.snapshots[-1].ivsetguid == "iv"


def test_what_is_there_already_is_not_received_twice() -> None:
    assert guids(after(member("1 2"), step("sync", delivers=snapshots("2 3")))["tank/data"]) == ["1", "2", "3"]


def test_what_an_inventory_shows_already_is_as_it_says() -> None:
    """The agent was held up between the transfer and telling of it, and somebody wrote there meanwhile."""
    held = after(member("1 2 *"), step("sync", delivers=snapshots("2")))["tank/data"]
    assert (guids(held), held.written) == (["1", "2"], 1000)


def test_a_full_stream_makes_the_dataset() -> None:
    held = after(member(""), step("create", kind="volume", delivers=snapshots("1")))["tank/data"]
    assert (held.kind, held.readonly, held.mounted, held.written) == ("volume", True, False, 0)
    assert guids(held) == ["1"]
    assert held.encryption == "off", "like the dataset above it"


@pytest.mark.parametrize(("raw", "encryption"), [(True, CIPHER), (False, "off")])
def test_a_raw_stream_brings_its_encryption(raw: bool, encryption: str) -> None:
    source = member_with("A", "", {"data": "1"}, encryption=CIPHER)
    done = step("create", raw=raw, source="A", source_dataset="tank/data", delivers=snapshots("1"))
    assert after(member(""), done, others=(source,))["tank/data"].encryption == encryption


def test_a_parent_is_an_empty_dataset() -> None:
    made = after(member(""), step("create_parent", "tank/a"))["tank/a"]
    assert (made.snapshots, made.kind, made.readonly, made.mounted) == ((), "filesystem", True, False)
    kept = after(member("1"), step("create_parent"))
    assert guids(kept["tank/data"]) == ["1"], "one that is there stays as it is"


def test_what_was_deleted_is_gone_and_the_rest_is_as_it_was() -> None:
    held = after(member("1 2 3 *"), step("delete", expected_guids=("1", "2")))["tank/data"]
    assert (guids(held), held.written) == (["3"], 1000)
    back = after(member("1 2 3 *"), step("rollback", expected_guids=("2", "3")))["tank/data"]
    assert (guids(back), back.written) == (["1"], 0)


def test_dropping_a_broken_stream() -> None:
    assert after(member("1", resume_token="token"), step("abort_receive"))["tank/data"].resume_token is None
    assert "tank/data" not in after(member("()", resume_token="token"), step("abort_receive"))


def test_a_bookmark_is_known() -> None:
    (end,) = snapshots("2")
    held = after(member("1 2"), step("bookmark", end=end, new_name="tank/data#keep"))["tank/data"]
    assert [(mark.name, mark.guid, mark.createtxg) for mark in held.bookmarks] == [("keep", "2", end.createtxg)]


def test_a_bookmark_made_again_is_there_once() -> None:
    (end,) = snapshots("2")
    held = after(member("#9@keep #8@other 2"), step("bookmark", end=end, new_name="tank/data#keep"))["tank/data"]
    assert [(mark.name, mark.guid) for mark in held.bookmarks] == [("other", "8"), ("keep", "2")]


def test_encryption_is_unknown_where_its_source_or_parent_is() -> None:
    sent = {"raw": True, "source_dataset": "tank/data", "delivers": snapshots("1")}
    source = member_with("A", "", {"other": "1"}, encryption=CIPHER)
    for known in ((), (source,)):
        assert after(member(""), step("create", source="A", **sent), others=known)["tank/data"].encryption is None
    alone = replace(member(""), replicas={})
    assert after(alone, step("create", delivers=snapshots("1")))["tank/data"].encryption is None


def test_children_and_clones_follow_a_renamed_dataset() -> None:
    lines = {"data": "1", "data/kid": "2", "database": "3", "clone": "4", "other": "5"}
    whole = member_with("B", "", lines)
    replicas = {
        **whole.replicas,
        "tank/clone": replace(whole.replicas["tank/clone"], origin="tank/data@1"),
        "tank/other": replace(whole.replicas["tank/other"], origin="tank/database@3"),
    }
    found = after(replace(whole, replicas=replicas), step("rename", new_name="tank/data.aside"))
    assert sorted(found) == [
        "tank",
        "tank/clone",
        "tank/data.aside",
        "tank/data.aside/kid",
        "tank/database",
        "tank/other",
    ]
    assert all(name == replica.dataset for name, replica in found.items())
    assert (found["tank/clone"].origin, found["tank/other"].origin) == ("tank/data.aside@1", "tank/database@3")


def test_a_promoted_clone_takes_the_common_past() -> None:
    lines = {"aside": "1 2 X", "data": "3"}
    whole = member_with("B", "", lines)
    replicas = {**whole.replicas, "tank/data": replace(whole.replicas["tank/data"], origin="tank/aside@2")}
    found = after(replace(whole, replicas=replicas), step("promote"))
    assert (guids(found["tank/data"]), found["tank/data"].origin) == (["1", "2", "3"], None)
    assert (guids(found["tank/aside"]), found["tank/aside"].origin) == (["X"], "tank/data@2")


@pytest.mark.parametrize("origin", [None, "tank/nowhere@1", "tank/aside@gone"])
def test_a_promotion_that_can_not_be_followed_changes_nothing(origin: str | None) -> None:
    whole = member_with("B", "", {"aside": "1", "data": "3"})
    replicas = {**whole.replicas, "tank/data": replace(whole.replicas["tank/data"], origin=origin)}
    assert after(replace(whole, replicas=replicas), step("promote")) == replicas


@pytest.mark.parametrize("type", ["delete", "rollback", "bookmark", "abort_receive", "promote", "release"])
def test_a_step_on_a_dataset_that_is_gone_changes_nothing(type: str) -> None:
    before = member("")
    assert after(before, step(type, new_name="tank/data#x", end=snapshots("1")[0])) == dict(before.replicas)


def test_a_bookmark_that_was_released_is_gone() -> None:
    held = after(member("#1@zfs-sync-1 #1@mine 2"), step("release", new_name="tank/data#zfs-sync-1"))["tank/data"]
    assert ([mark.name for mark in held.bookmarks], guids(held)) == (["mine"], ["2"])


@pytest.mark.parametrize("discard", [False, True])
def test_credits_say_what_the_pools_then_list(discard: bool) -> None:
    """A resolution obeyed by model pools: after each step, credits and a new report agree."""
    hosts: Hosts = diverged(children=("kid",))
    hosts["A"].now += 60
    hosts["A"].snapshot("pool/root/data", "4")
    reported = members_of(hosts)
    credits: tuple[Credit, ...] = ()
    for number, done in enumerate(pick(hosts, discard=discard, policy=HUB_A).steps, 1):
        obey(done, hosts)
        credits += (Credit(done, done.delivers, 1000.0 + number),)
        for credited, listed in zip(apply_credits(reported, Work(credits=credits)), members_of(hosts), strict=True):
            assert facts(credited) == facts(listed)
    assert credits


def facts(member: Member) -> dict[str, Any]:
    return {
        name: (guids(replica), replica.origin, replica.written, replica.resume_token)
        for name, replica in member.replicas.items()
    }
