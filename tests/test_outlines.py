"""Plans made by outlines of replicas: the very plans that are made when every snapshot is read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import msgspec
import pytest

from handlers.inventories import put_dataset
from handlers.replicas import replica_of, replicas_of, row_of
from planner import plan_group
from planner.histories import history, newest_common
from planner.model import Bookmark, Gone, Guard, Listed, Member, Neighbour, Plan, Policy, Replica, Snapshot, Work
from planner.outlines import names_of
from planner.prune import prunable, prunable_bookmarks
from store import inventory_of
from store.documents import BookmarkRow, DatasetDoc, Summary
from store.shards import Inventory
from tests.pictures import DAY, NOW, draw, hub_policy, members_of, peers_policy, reasons
from tests.reason_cases import cases
from tests.test_inventories import listing
from tests.tokens import encode_resume_token
from tests.witness import Agent, Client

IN_SYNC = "A: 1 2 3  B: 1 2 3  C: 1 2 3"


class Store:
    """Stands for one that nothing was asked of yet."""


def stored(member: Member) -> Member:
    """The member as it is planned with after its datasets were kept."""
    view: Any = Inventory.of(None, "inventory").editable()
    for absent, replicas in ((True, member.absent), (False, member.replicas)):
        for replica in replicas.values():
            put_dataset(view, document_of(replica, absent))
    store: Any = Store()
    found = replicas_of(store, member.system_id, view)
    return replace(member, replicas=found.present, absent=found.absent)


def document_of(replica: Replica, absent: bool = False) -> DatasetDoc:
    names = set(DatasetDoc.__struct_fields__) & set(Replica.__slots__) - {"snapshots", "bookmarks"}
    marks = [BookmarkRow(b.name, b.guid, b.createtxg, b.creation, None, b.ivsetguid) for b in replica.bookmarks]
    return DatasetDoc(
        id=replica.dataset,
        type=replica.kind,
        receive_resume_token=replica.resume_token,
        snapshots=[row_of(snapshot) for snapshot in replica.snapshots],
        bookmarks=marks,
        absent=absent,
        **{name: getattr(replica, name) for name in names},
    )


def read(member: Member) -> Member:
    """The member with every document read, and no outline."""
    present, absent = (
        {name: replica_of(document_of(replica)) for name, replica in replicas.items()}
        for replicas in (member.replicas, member.absent)
    )
    return replace(member, replicas=present, absent=absent)


def is_read(replica: Replica) -> bool:
    try:
        object.__getattribute__(replica, "snapshots")
    except AttributeError:
        return False
    return True


def unread_in(members: Iterable[Member]) -> int:
    return sum(not is_read(replica) for member in members for replica in member.replicas.values())


def compare(policy: Policy, given: Sequence[Member], work: Work, now: float = NOW) -> tuple[Plan, int]:
    """The plan, which must be the same both ways, as what may go must; and how many replicas were left unread."""
    members, plain = list(map(stored, given)), list(map(read, given))
    near = [(replace(each, members=tuple(map(to, each.members))) for each in work.neighbours) for to in (stored, read)]
    work, known = (replace(work, neighbours=tuple(each)) for each in near)
    plan = plan_group(policy, members, work, now)
    unread = unread_in(members)
    marks = prunable_bookmarks(policy, members, work, plan, now)
    full = plan_group(policy, plain, known, now)
    assert (plan, plan.until) == (full, full.until)
    assert marks == prunable_bookmarks(policy, plain, known, full, now)
    assert prunable(policy, members, work, plan, now) == prunable(policy, plain, known, full, now)
    return plan, unread


# --- what is in sync is not read -----------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"delete": "mirror"}, {"min_age_s": DAY}, {"snapshot_exclude": ("1",)}], ids=repr
)
@pytest.mark.parametrize("policy", [hub_policy(), peers_policy()], ids=["hub", "peers"])
def test_what_is_in_sync_is_not_read(policy: Policy, settings: dict[str, Any]) -> None:
    plan, unread = compare(replace(policy, **settings), members_of(IN_SYNC), Work())
    assert draw(plan) == "nothing"
    assert unread == 3


def test_of_what_is_only_behind_the_leading_one_alone_is_read() -> None:
    plan, unread = compare(hub_policy(), members_of("A: 1 2 3  B: 1 2  C: 1 2 3"), Work())
    assert draw(plan) == "B 2-3"
    assert unread == 2


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("A: 3 4  B: 1 2 3 4", 2),  # kept for longer
        ("A: 1 2 3  B: 3", 1),  # let go there: names are enough
        ("A: 3 4 5  B: 1 2 3 4", 1),
        ("A: 1 2 3  B: 1 2@two", 1),
        ("A: 1 2 3  B: 1 2 x", 0),
        ("A: 1 2  B: 1 2 x", 1),  # the leading one is all that B began with
        ("A: 1 3  B: 1 2", 0),
    ],
)
def test_how_much_is_read_of_what_differs(picture: str, expected: int) -> None:
    assert compare(hub_policy(), members_of(picture), Work())[1] == expected


def test_a_changed_replica_is_no_longer_outlined() -> None:
    hub, _ = map(stored, members_of("A: 1 2 3  B: 1"))
    before = hub.replicas["tank/data"]
    after = replace(before, snapshots=before.snapshots[:1])
    assert before.outline is not None
    assert (after.outline, after.source, after.newest) == (None, None, after.snapshots[-1])
    assert [*names_of(before)] == ["1", "2", "3"]
    assert [*names_of(after)] == ["1"]


@pytest.mark.parametrize(
    ("picture", "fields", "expected"),
    [
        ("A: 1 2 3  B: 1 2 3 *", {}, "B diverged"),
        ("A: 1 2 3  B: 1 3", {}, "lacks 2, which the group wants"),
        ("A: 2 3 4  B: 1 2 4", {}, "lacks 3, which the group wants"),
        ("A: 1 2 3  B: 1 2 3", {"resume_token": encode_resume_token("tank/else@7", "7", None, 9)}, "abort_receive"),
    ],
    ids=["written to", "a hole", "a hole in what is kept for longer", "a broken transfer"],
)
def test_what_only_looks_in_sync(picture: str, fields: dict[str, Any], expected: str) -> None:
    hub, spoke = members_of(picture)
    data = replace(spoke.replicas["tank/data"], **fields)
    plan, _ = compare(hub_policy(), [hub, replace(spoke, replicas={**spoke.replicas, "tank/data": data})], Work())
    assert expected in "; ".join([draw(plan), reasons(plan), *(conflict.reason for conflict in plan.conflicts)])


# --- worlds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"on_conflict": "use_newest", "delete": "mirror", "min_age_s": 2 * DAY, "interval_s": 60}],
    ids=repr,
)
def test_every_sentence_of_the_planner_is_said_both_ways(settings: dict[str, Any]) -> None:
    for case in cases():
        compare(replace(case.policy, **settings), case.members, case.work)


def test_random_worlds_are_planned_the_same_both_ways() -> None:
    unread = 0
    for seed in range(500):
        try:
            unread += compare(*_world(Random(seed)))[1]
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert unread > 600


def test_what_is_common_is_found_the_same_both_ways() -> None:
    for seed in range(400):
        _, given, _ = _world(Random(seed))
        outlined, plain = (
            [history(held) for member in map(to, given) for name, held in member.replicas.items() if "/" in name]
            for to in (stored, read)
        )
        for (one, same), (other, likewise) in product(zip(outlined, plain, strict=True), repeat=2):
            for raw in (False, True):
                found, expected = newest_common(one, other, raw), newest_common(same, likewise, raw)
                assert found == expected, f"seed {seed}"


def _world(dice: Random) -> tuple[Policy, list[Member], Work]:
    past = tuple(_snapshot(str(number), number) for number in range(90, 90 + dice.randrange(1, 6)))
    members = [_member(dice, system, past) for system in "ABCD"[: dice.randrange(2, 5)]]
    gone = tuple(
        Gone(member.system_id, "tank/data", str(guid), hub_of=("g",))
        for member in members
        for guid in range(88, 96)
        if _seldom(dice)
    )
    guards = tuple(Guard(member.system_id, "tank/data") for member in members if _seldom(dice))
    near = replace(_policy(dice), group_id="other", name="other")
    neighbours = (Neighbour(near, tuple(members)),) if _seldom(dice) else ()
    return _policy(dice), members, Work(gone=Listed(gone), guards=guards, neighbours=neighbours)


def _policy(dice: Random) -> Policy:
    make = dice.choice([hub_policy, hub_policy, peers_policy])
    return make(
        min_age_s=dice.choice([0, 0, 0, DAY, 7 * DAY]),
        interval_s=dice.choice([60, 10 * DAY, 30 * DAY]),
        snapshot_exclude=dice.choice([(), (), ("9[0-9]",), ("94",), ("renamed",)]),
        raw=dice.choice(["auto", "auto", "always", "never"]),
        initial=dice.choice(["all", "newest"]),
        delete=dice.choice(["never", "mirror"]),
        on_conflict=dice.choice(["manual", "manual", "use_newest"]),
    )


def _member(dice: Random, system: str, past: Sequence[Snapshot]) -> Member:
    kept = past[dice.choice([0, 0, 0, 1, 2]) : len(past) - dice.choice([0, 0, 0, 1, 2])]
    rows = tuple(_changed(dice, kept or past)) if not dice.randrange(3) else kept
    if _seldom(dice):
        rows = tuple(replace(row, ivsetguid=dice.choice(["1", "2"])) for row in rows)
    marks = dice.choice([0, 0, 1, 2])
    bookmarks = tuple(
        Bookmark(dice.choice([f"zfs-sync-{s.guid}", s.name]), s.guid, s.createtxg, s.creation)
        for s in dice.sample(past, min(marks, len(past)))
    )
    replica = Replica(
        "tank/data",
        kind="filesystem",
        guid=f"dataset-{system}",
        snapshots=rows,
        bookmarks=bookmarks,
        written=dice.choice([0] * 12 + [5, None]),
        encryption=dice.choice(["off", "off", "aes-256-gcm"]) if _seldom(dice) else "off",
        resume_token=encode_resume_token("tank/data@94", "94", "93", 400) if not dice.randrange(20) else None,
        readonly=dice.choice([True, True, None]),
    )
    pool = Replica("tank", kind="filesystem", written=0, encryption="off")
    other = replace(replica, dataset="tank/other", guid=f"other-{system}", snapshots=tuple(past))
    held = {each.dataset: each for each in (pool, replica, other) if each is pool or not _seldom(dice)}
    if not dice.randrange(20):
        return Member(system, f"host{system}", "tank", {}, held, NOW, NOW, NOW)
    return Member(system, f"host{system}", "tank", held, {}, NOW, NOW, NOW)


def _changed(dice: Random, past: Sequence[Snapshot]) -> Iterator[Snapshot]:
    """A history that differs a little from the common one, sometimes in something that should make no difference."""
    rows = [snapshot for snapshot in past if not _seldom(dice)]
    if _seldom(dice):
        rows.append(_snapshot("own", dice.choice([94, 96]), written=dice.choice([0, 0, 7, None])))
    for row in rows:
        change = dice.randrange(16)
        changes: dict[int, dict[str, Any]] = {
            0: {"name": "renamed"},
            1: {"ivsetguid": dice.choice(["1", "2"])},
            2: {"createtxg": None},
            3: {"creation": dice.choice([None, int(NOW) - 3600])},
            4: {"guid": "", "by_name": True},
            5: {"guid": past[0].guid},
            6: {"userrefs": 1},
            7: {"createtxg": past[-1].createtxg},
            8: {"name": past[-1].name},
        }
        yield replace(row, **changes.get(change, {}))


def _snapshot(guid: str, day: int, written: int | None = 9) -> Snapshot:
    return Snapshot(guid, guid, day * 10, day * DAY, 0, 100, written)


def _seldom(dice: Random) -> bool:
    return not dice.randrange(8)


# --- whose word counts ---------------------------------------------------------------------------


def summaries(agent: Agent) -> dict[str, Summary]:
    return {summary.id: summary for summary in agent.witness.store.read(inventory_of(agent.id)).summaries}


def guids(agent: Agent, dataset: str = "tank/a") -> list[str]:
    store = agent.witness.store
    found = replicas_of(store, agent.id, store.read(inventory_of(agent.id))).present[dataset]
    return [snapshot.guid for snapshot in found.snapshots]


def test_a_document_that_others_changed_counts_and_not_its_summary(client: Client) -> None:
    nas = client.register("nas")
    nas.report(listing("tank/a: 1 2 3"))
    shard = inventory_of(nas.id)
    with nas.witness.store.transaction(shard) as tx:
        document = tx[shard].datasets.get("tank/a")
        tx[shard].datasets.put(msgspec.structs.replace(document, snapshots=document.snapshots[:1], written=5))
    store = nas.witness.store
    found = replicas_of(store, nas.id, store.read(shard)).present["tank/a"]
    assert (found.outline, found.written, [each.guid for each in found.snapshots]) == (None, 5, ["1"])
    nas.report(listing("tank/a: 1") + listing("tank/b: 4"))
    assert summaries(nas)["tank/a"].count == 1
    assert summaries(nas)["tank/a"].checksum == store.read(shard).datasets.checksum("tank/a")


def test_a_summary_of_an_older_version_is_passed_over_until_the_next_report(client: Client) -> None:
    nas = client.register("nas")
    nas.report(listing("tank/a: 1 2 3") + listing("tank/b: 4"))
    shard = inventory_of(nas.id)
    with nas.witness.store.transaction(shard) as tx:
        for summary in tx[shard].summaries.all():
            older = msgspec.structs.replace(summary, outline=None, checksum=None, latest_creation=None)
            tx[shard].summaries.put(older)
    assert guids(nas) == ["1", "2", "3"]
    nas.report(listing("tank/a: 1 2 3") + listing("tank/b: 4 5"))
    assert summaries(nas)["tank/a"].outline is not None
    assert guids(nas) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "changes",
    [{"guid": ""}, {"guid": "1"}, {"name": "1"}, {"createtxg": None}],
    ids=["without a guid", "with another's guid", "with another's name", "in no order"],
)
def test_nothing_is_outlined_that_is_not_known_well_enough(changes: dict[str, Any]) -> None:
    (member,) = members_of("A: 1 2 3")
    data = document_of(member.replicas["tank/data"])
    view: Any = Inventory.of(None, "inventory").editable()
    put_dataset(view, data)
    assert view.summaries.get("tank/data").outline is not None
    rows = [*data.snapshots[:2], msgspec.structs.replace(data.snapshots[2], **changes)]
    put_dataset(view, msgspec.structs.replace(data, snapshots=rows))
    assert view.summaries.get("tank/data").outline is None
