"""Small cases which between them make the planner say every sentence it knows. Pictures: see pictures.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner import plan_group
from planner.model import (
    Bookmark,
    Decision,
    Failure,
    Gone,
    Guard,
    Listed,
    Member,
    Neighbour,
    Option,
    Plan,
    Policy,
    Replica,
    Work,
)
from planner.prune import prunable, prunable_bookmarks
from planner.resolutions import STRATEGIES, choose
from tests.pictures import NOW, history_of, hub_policy, lease_of, member_with, members_of, peers_policy
from tests.small_cases import decision_of
from tests.tokens import encode_resume_token

CIPHER = "aes-256-gcm"
TOKEN = encode_resume_token("tank/data@2", "2", "1", 400)
OTHER_TOKEN = encode_resume_token("elsewhere/data@7", "7", None, 300)


NO_WORK = Work()


@dataclass(frozen=True)
class Case:
    title: str
    members: Sequence[Member]
    policy: Policy
    work: Work = NO_WORK

    @property
    def plan(self) -> Plan:
        return plan_group(self.policy, self.members, self.work, NOW)


def drawn(picture: str, policy: Policy | None = None, work: Work | None = None, **fields: Any) -> Case:
    shown = " ".join(picture.split())
    title = ", ".join([shown, *(f"{name} {value}" for name, value in fields.items())])
    return Case(title, members_of(picture), policy or hub_policy(**fields), work or NO_WORK)


def changed(member: Member, dataset: str = "tank/data", **fields: Any) -> Member:
    """The member with some of its dataset reported otherwise."""
    return replace(member, replicas={**member.replicas, dataset: replace(member.replicas[dataset], **fields)})


def snapshots_changed(member: Member, **fields: Any) -> Member:
    held = member.replicas["tank/data"]
    return changed(member, snapshots=tuple(replace(snapshot, **fields) for snapshot in held.snapshots))


def cases() -> Iterator[Case]:
    yield from _ordinary()
    yield from _held_back()
    yield from _not_possible()
    yield from _encrypted()
    yield from _under_way()
    yield from _conflicts()
    yield from _resolutions()
    yield from _pruned()


def _ordinary() -> Iterator[Case]:
    yield drawn("A: 1 2 3 B: 1 C: none")
    yield drawn("A: 1 2   B: 1")
    yield drawn("A: 1 2 3 B: 3")
    yield drawn("A: 2 B: 2")  # the hub takes no new ones
    a = member_with("A", "", {"media/films": "1"})
    yield Case("a parent is needed", [a, member_with("B", "", {})], hub_policy())
    a, b = member_with("A", "", {"pictures": "1 2", "pictures/raw": "5"}), {"photos": "1", "photos/raw": "5"}
    yield Case("renamed on one side", [a, member_with("B", "", b)], hub_policy())
    yield drawn("A: 2 3 B: 2", hub_policy(delete="mirror"))


def _held_back() -> Iterator[Case]:
    for picture in ("A: 1 2 B-: 1", "A: 1 2 B/: 1", "A-: 1 2 B: 1", "A-: 1 2 B: 1 C: 1"):
        yield drawn(picture)
    yield drawn("A: 1 2 B: 1", enabled=False)
    yield drawn("A: 1 B: 1", enabled=False)
    yield drawn("A: 1 2 B: 1", paused_systems=frozenset("B"))
    yield drawn("A: 1 2 B: 1", paused_datasets=("data",))
    yield drawn("A: 1 2 B: 1", window_open=False)
    a, b = members_of("A: 1 2 B: 1")
    yield Case("B has never reported", [a, replace(b, replicas={}, reported_at=None)], hub_policy())
    yield Case("the hub is no member", [b], hub_policy())
    below = replace(a, replicas={"tank/data/kid": replace(a.replicas["tank/data"], dataset="tank/data/kid")})
    yield Case("the hub lists only what lies below", [below, b], hub_policy())
    yield Case("B lists only what lies below", [a, replace(below, system_id="B", hostname="hostB")], hub_policy())


def _not_possible() -> Iterator[Case]:
    yield drawn("A: 1 2 B: 1 ?")
    yield drawn("A: 1 B: ()")
    yield drawn("A: 1 2 3 B: 1 x@2")
    yield drawn("A: 1 2@- 3 B: 1")
    yield drawn("A: 1@- 2 B: 1")
    yield drawn("A-: 1 2 B: 1 C: 2")
    a, b = members_of("A: 1 2 B: 1")
    yield Case("no room", [a, changed(b, available=1)], hub_policy())
    long = "x" * 230
    a = member_with("A", "", {"data": f"1 2@{long}", long: "7"})
    deeper = replace(member_with("B", "", {}), root="tank/a/longer/root/than/A/has")
    yield Case("names too long", [a, deeper], hub_policy())
    unkept = changed(member_with("A", "", {"data": "()"}), written=2**21)
    yield Case("A has no snapshot of what it holds", [unkept, *members_of("B:")], hub_policy())
    token = encode_resume_token("tank/data@1", "1", None, 300)
    begun = changed(member_with("A", "", {"data": "()"}), resume_token=token)
    yield Case("A has only the beginning of it", [begun, *members_of("B:")], hub_policy())
    yield Case("A has only the beginning of what B has", [begun, *members_of("B: 2")], hub_policy())
    yield drawn("A: () B: 2")
    yield drawn("A: 1 B: 1 *")
    yield drawn("A: 1 3 B: 1 ~X")
    a, b = member_with("A", "", {"": "1 2"}), member_with("B", "", {})
    yield Case("a pool without a snapshot", [a, b], hub_policy(include=("**",)))
    yield drawn("A: 1 2 B:", min_age_s=10**9)
    a, b = member_with("A", "", {"a": "()", "a/b": "1 2"}), member_with("B", "", {})
    yield Case(
        "a volume in the way", [a, replace(b, replicas={"tank/a": Replica("tank/a", kind="volume")})], hub_policy()
    )
    made = replace(b, replicas={"tank/a": Replica("tank/a", written=0), "tank/a/b": Replica("tank/a/b", written=0)})
    yield Case(
        "a parent that was made only to hold what lies below", [member_with("A", "", {"a": "5"}), made], hub_policy()
    )
    yield Case("a parent that has to come by its own stream", [a, b], hub_policy(min_age_s=int(NOW)))
    above = Neighbour(replace(hub_policy(), group_id="h", name="other"), (member_with("A", "", {"a": "5"}), b))
    yield Case("a parent that another group brings", [a, b], hub_policy(include=("a/b",)), Work(neighbours=(above,)))
    a, b = member_with("A", "", {"a": f"1@{long}", "a/b": "1 2"}), deeper
    yield Case("a parent that can't come", [a, b], hub_policy())
    a, c = member_with("A", "", {"a": "5"}, kind="volume"), member_with("C", "", {"a": "()", "a/b": "1 2"})
    yield Case("a parent that comes as a volume", [a, member_with("B", "", {}), c], peers_policy())


def _encrypted() -> Iterator[Case]:
    def pair(here: str | None, there: str | None, iv: str | None, raw: str) -> Case:
        a, b = members_of("A: 1 2 B: 1")
        a = snapshots_changed(changed(a, encryption=here), ivsetguid="5")
        b = snapshots_changed(changed(b, encryption=there), ivsetguid=iv)
        return Case(f"{here} to {there}, IV set {iv}, raw {raw}", [a, b], hub_policy(raw=raw))

    yield pair(CIPHER, "off", None, "always")
    yield pair(CIPHER, CIPHER, "6", "always")
    yield pair(CIPHER, CIPHER, "5", "never")
    yield pair(CIPHER, CIPHER, None, "auto")
    yield pair(CIPHER, None, None, "auto")


def _under_way() -> Iterator[Case]:
    plain = drawn("A: 1 2 B: 1")
    (step,) = plain.plan.steps
    yield replace(plain, title="the step runs", work=Work(leases=(lease_of(step),)))
    yield replace(plain, title="an older step runs", work=Work(leases=(lease_of(step, action_id="x"),)))
    foreign = lease_of(step, action_id="x", group_id="y", executor="Z")
    yield replace(plain, title="another group's step runs", work=Work(leases=(foreign,)))
    failure = Failure(step.action_id, 1, NOW, NOW + 60, "dataset is busy", "A")
    yield replace(plain, title="it failed once", work=Work(failures=(failure,)))
    yield replace(plain, title="it failed again", work=Work(failures=(replace(failure, count=4),)))
    third = drawn("A: 1 2 3 B: 1 C: 1 2")
    failure = replace(failure, action_id=third.plan.steps[0].action_id)
    yield replace(third, title="it failed, and another has only a part of it", work=Work(failures=(failure,)))
    a, b = members_of("A: 1 2 B: 1")
    yield Case("a transfer broke off", [a, changed(b, resume_token=TOKEN)], hub_policy())
    yield Case("the rest of it without room", [a, changed(b, resume_token=TOKEN, available=1)], hub_policy())
    yield Case("one that nobody can continue", [a, changed(b, resume_token=OTHER_TOKEN)], hub_policy())
    kid = Replica("tank/data/kid")
    begun = changed(b, snapshots=(), resume_token=OTHER_TOKEN)
    begun = replace(begun, replicas={**begun.replicas, kid.dataset: kid})
    yield Case("the beginning of a full one, with a child", [a, begun], hub_policy())
    other = Neighbour(replace(hub_policy(), name="other", hub="C"), (b, *members_of("C: 1 2")))
    old = members_of("A: 1 3")[0]
    yield Case(
        "another group goes on with it", [old, changed(b, resume_token=TOKEN)], hub_policy(), Work(neighbours=(other,))
    )
    yield Case("its name is taken", [a, changed(members_of("B: 1 x@2")[0], resume_token=TOKEN)], hub_policy())
    silent = replace(members_of("C: none")[0], reported_at=None)
    yield Case("while one has said nothing", [old, changed(b, resume_token=TOKEN), silent], hub_policy())
    yield Case("one that can't be read", [a, changed(b, resume_token="1-x")], hub_policy())
    yield Case(
        "one that a paused member can continue",
        [a, changed(b, resume_token=TOKEN)],
        hub_policy(paused_systems=frozenset("A")),
    )
    a, b = members_of("A: 1 2 3 B: 1 3")
    yield Case("one into what changed since", [a, changed(b, resume_token=TOKEN)], hub_policy())


def _conflicts() -> Iterator[Case]:
    for picture in (
        "A: 1 2 3 B: 1 2 X",
        "A: 1 2 3 B: 1 2 *",
        "A: 1 B: 1 X",
        "A: 1 2 3 B: 1 ? C: 1 X",
        "A: 1 2 3 B: 1 2 X C: 1 Y",
    ):
        yield drawn(picture)
    for picture in ("A: 3 B: 1 2", "A: 1 2 B: 3", "A: 1 3 B: 2", "A: none B: 1"):
        yield drawn(picture)
    yield drawn("A: none B: 1", snapshot_include=("nothing",))
    yield drawn("A: 1 2 3 4 5 6 B: 6")
    yield drawn("A: ~1 B: ~1 C: none")
    for picture in ("A: 1 2 3 B: 1 2 X", "A: 1 B: 2 C: none", "A: 1 2 B: 1 X C: 1", "A: 1 X B: 1 Y C: 1 Y"):
        yield drawn(picture, peers_policy())
    yield drawn("A: 1@x-1 2@x-2 B: 1@y-1 C: none", peers_policy(snapshot_include=("y-*",)))
    a, b = members_of("A: 3 B: 2")
    gone = Listed((Gone("A", "tank/data", "2"),))
    yield Case("the last common one was destroyed", [a, b], hub_policy(), Work(gone=gone))
    lost = Work(gone=Listed((Gone("A", "tank/data", "1", "daily-1"),)), guards=(Guard("A", "tank/data"),))
    yield Case("a mass deletion", members_of("A: 2 B: 2"), hub_policy(), lost)


def _resolutions() -> Iterator[Case]:
    a, b = members_of("A: 1 2 3 B: 1 X")
    kid = history_of("5", "tank/data/kid")
    assert kid is not None
    b = replace(b, replicas={**b.replicas, "tank/data/kid": kid})
    b = changed(b, mounted=True, mountpoint="/srv/data", resume_token=TOKEN)
    yield Case("B is mounted, has a child and the beginning of a transfer", [a, b], hub_policy())
    conflict = drawn("A: 1 2 3 B: 1 X")
    yield from _decided(conflict)
    a, b = conflict.members
    yield drawn("A: 1 2 3 B: 1 X", min_age_s=int(NOW))
    yield drawn("A: 1 2 3 B: 1 X C/: 1 X")
    yield drawn("A: 1 2 3 B: 1 X", work=Work(gone=Listed((Gone("A", "tank/data", "X"),))))
    yield drawn("A: 1 2 B: X", min_age_s=int(NOW))
    yield Case("holds unknown", [a, snapshots_changed(b, userrefs=None)], conflict.policy)
    yield Case("held", [a, snapshots_changed(b, userrefs=1)], conflict.policy)
    clone = Replica("tank/clone", origin="tank/data@X")
    yield Case("cloned", [a, replace(b, replicas={**b.replicas, "tank/clone": clone})], conflict.policy)
    yield Case("no sizes", [a, snapshots_changed(b, written=None)], hub_policy())
    yield Case("no times", [a, snapshots_changed(b, creation=None)], hub_policy())
    mark = history_of("1 #2", "tank/data")
    assert mark is not None
    yield Case("bookmarked since", [a, changed(b, bookmarks=mark.bookmarks)], conflict.policy)
    yield Case("known by name", members_of("A: 1 2 B: 1 ~9 X"), conflict.policy)
    yield Case("how much was written is unknown", [a, changed(b, written=None)], conflict.policy)
    long = snapshots_changed(b)
    held = long.replicas["tank/data"].snapshots
    long = changed(long, snapshots=(*held[:-1], replace(held[-1], name="x" * 235)))
    yield Case("a name that is too long", [a, long], conflict.policy)
    yield from _not_offered()
    yield Case("nothing chosen", [a, b], hub_policy(snapshot_include=("nothing",)))
    secret = [snapshots_changed(changed(m, encryption="aes-256-gcm"), ivsetguid="5") for m in (a, b)]
    yield Case("encrypted", secret, conflict.policy)
    c = replace(b, system_id="C", hostname="hostC", root="tank/data")
    a, b = (replace(m, replicas={"tank": replace(m.replicas["tank/data"], dataset="tank")}) for m in (a, b))
    yield Case("the root is a pool", [a, b], hub_policy(include=("**",)))
    yield Case("one of the roots is a pool", [a, b, c], hub_policy(include=("**",)))


def _not_offered() -> Iterator[Case]:
    """What a pool would refuse where children, volumes or a hub that lacks the dataset are concerned."""
    a, b = members_of("A: 1 2 B: 9")
    kid = Replica("tank/data/kid", kind="filesystem", encryption="off")
    secret = replace(kid, encryption=CIPHER)
    yield Case(
        "a volume wins",
        [changed(a, kind="volume"), replace(b, replicas={**b.replicas, "tank/data/kid": kid})],
        hub_policy(),
    )
    inside = changed(b, encryption=CIPHER)
    yield Case(
        "an encrypted child", [a, replace(inside, replicas={**inside.replicas, "tank/data/kid": secret})], hub_policy()
    )
    a, b = members_of("A: none B: 1 2")
    yield Case("the hub lacks it", [a, b], hub_policy())
    nested = replace(
        b, replicas={"tank": b.replicas["tank"], "tank/a/b": replace(b.replicas["tank/data"], dataset="tank/a/b")}
    )
    yield Case("the hub lacks what is above it, too", [a, nested], hub_policy())


def _decided(case: Case) -> Iterator[Case]:
    """How a decision goes on, and what stops it."""
    (conflict,) = [found for found in case.plan.conflicts if found.type == "diverged"]
    a, b = case.members

    def way(discard: bool) -> Option:
        return choose(conflict, "manual", "A", discard, case.policy, case.members, Work(), NOW)

    keep, discard = decision_of(conflict, way(False)), decision_of(conflict, way(True))

    def after(title: str, members: Sequence[Member], decision: Decision = keep, **fields: Any) -> Case:
        policy = replace(case.policy, **fields)
        return Case(f"decided: {title}", members, policy, Work(decisions=(decision,)))

    yield after("set aside", [a, b])
    yield after("another dataset on it", [a, b], discard)
    yield after("discard, and more was written", [a, changed(b, written=77)], discard)
    yield after("discard, and the winner lost what was to come", [members_of("A: 1")[0], b], discard)
    yield after("discard, and nothing is common any more", [a, replace(members_of("B: 8 9")[0])], discard)
    yield after("the group is disabled", [a, b], enabled=False)
    yield after("the dataset is paused", [a, b], paused_datasets=("data",))
    yield after("the window is closed", [a, b], window_open=False)
    yield after("the dataset is excluded", [a, b], exclude=("data",))
    yield after("the root is another", [a, replace(b, root="tank/elsewhere")])
    yield after("the hub is another", [a, b, *members_of("C: 1 Y")], hub="C")
    yield after("the loser leads now, and has lost it", [a, replace(b, replicas={"tank": b.replicas["tank"]})], hub="B")
    yield after("the loser leads now", [a, changed(members_of("B: 1 X Y")[0])], hub="B")
    yield after("the pool is away", [a, replace(b, replicas={}, absent=b.replicas)])
    yield after("the winner lost it", [replace(a, replicas={"tank": a.replicas["tank"]}), b])
    yield after("the winner's pool is away", [replace(a, replicas={}, absent=a.replicas), b])
    first = replace(keep, conflict_id="0", losers=(replace(keep.losers[0], aside="tank/data.aside-00000000"),))
    yield replace(after("twice", [a, b]), work=Work(decisions=(first, keep)))
    lease = lease_of(case_step(), action_id="x", target="B", target_dataset="tank/data", group_id="y")
    yield replace(after("another step runs", [a, b]), work=Work(decisions=(keep,), leases=(lease,)))
    yield from _half_way(case, keep)


def _half_way(case: Case, keep: Decision) -> Iterator[Case]:
    """A loser that is set aside, and what may come of that."""
    a, b = case.members

    def after(title: str, members: Sequence[Member], **fields: Any) -> Case:
        return Case(f"decided: {title}", members, replace(case.policy, **fields), Work(decisions=(keep,)))

    aside = keep.losers[0].aside
    old = replace(b.replicas["tank/data"], dataset=aside)
    pool = b.replicas["tank"]
    empty = Replica("tank/data", kind="filesystem", written=0, encryption="off")
    kids = {f"{aside}/kid": Replica(f"{aside}/kid"), "tank/data/kid": Replica("tank/data/kid")}
    yield after("half way", [a, replace(b, replicas={"tank": pool, aside: old})])
    beside = Neighbour(case.policy, (a, replace(b, replicas={"tank": pool, aside: old})), (keep,))
    other = after("half way, seen by another group", [a, replace(b, replicas={"tank": pool, aside: old})])
    yield replace(other, work=Work(neighbours=(beside,)))
    later = replace(keep, conflict_id="0", losers=(replace(keep.losers[0], aside="tank/data.aside-00000000"),))
    yield replace(other, work=Work(decisions=(later,), neighbours=(beside,)))
    waits = Neighbour(replace(case.policy, group_id="another"), (a, b), (keep,))
    yield replace(after("not begun, seen by another group", [a, b]), work=Work(neighbours=(waits,)))
    yield after("half way, and the winner has left", [replace(b, replicas={"tank": pool, aside: old})], hub=None)
    yield after("made anew", [a, replace(b, replicas={"tank": pool, aside: old, "tank/data": empty})])
    begun = replace(empty, resume_token=encode_resume_token("tank/data@2", "2", "1", 40))
    yield after("broken off", [a, replace(b, replicas={"tank": pool, aside: old, "tank/data": begun})])
    lost = replace(empty, resume_token=OTHER_TOKEN)
    yield after("broken off for good", [a, replace(b, replicas={"tank": pool, aside: old, "tank/data": lost})])
    there = replace(a.replicas["tank/data"], origin=f"{aside}@1", snapshots=a.replicas["tank/data"].snapshots[1:])
    arrived = replace(b, replicas={"tank": pool, aside: old, "tank/data": there})
    yield after("arrived, and the winner has left", [arrived], hub=None)
    yield after(
        "broken off, and the winner has left", [replace(b, replicas={"tank": pool, aside: old, "tank/data": begun})]
    )
    yield after("a child twice", [a, replace(b, replicas={"tank": pool, aside: old, "tank/data": there, **kids})])
    below = replace(keep, path="data/kid", losers=(replace(keep.losers[0], dataset="tank/data/kid"),))
    with_kids = [
        replace(
            one, replicas={**one.replicas, "tank/data/kid": replace(one.replicas["tank/data"], dataset="tank/data/kid")}
        )
        for one in (a, b)
    ]
    yield replace(after("one above it", with_kids), work=Work(decisions=(keep, below)))
    apart = replace(with_kids[1].replicas["tank/data/kid"], dataset="tank/data/kid.aside-00000000")
    rows = {"tank": pool, "tank/data": with_kids[1].replicas["tank/data"], apart.dataset: apart}
    begun_below = replace(below, losers=(replace(below.losers[0], aside=apart.dataset),))
    one_below = after("one below it", [with_kids[0], replace(b, replicas=rows)])
    yield replace(one_below, work=Work(decisions=(keep, begun_below)))
    yield after("no room for what takes its place", [a, changed(b, available=1)])
    again = replace(there, snapshots=(*there.snapshots, replace(there.snapshots[-1], name="1", guid="77")))
    yield after("a name twice", [a, replace(b, replicas={"tank": pool, aside: old, "tank/data": again})])
    marked = [replace(held, bookmarks=(Bookmark("weekly", "1", 1),)) for held in (old, there)]
    yield after("a bookmark twice", [a, replace(b, replicas={"tank": pool, aside: marked[0], "tank/data": marked[1]})])


def case_step() -> Any:
    return drawn("A: 1 2 B: 1").plan.steps[0]


def _pruned() -> Iterator[Case]:
    a, b = members_of("A: 1 2 3 B: 1 2 3")
    gone = Listed((Gone("A", "tank/data", "1", hub_of=("g",)),))
    mirror = hub_policy(delete="mirror")
    pruned = members_of("A: 2 3 B: 1 2 3")
    yield Case("destroyed on the hub", pruned, mirror, Work(gone=gone))
    several = Work(gone=Listed((*gone.rows, Gone("A", "tank/data", "2", hub_of=("g",)))))
    yield Case("several", members_of("A: 3 B: 1 2 3"), mirror, several)
    yield Case("guarded", pruned, mirror, Work(gone=gone, guards=(Guard("B", "tank/data"),)))
    yield Case("written unknown", [pruned[0], changed(pruned[1], written=None)], mirror, Work(gone=gone))
    yield Case(
        "a lease",
        pruned,
        mirror,
        Work(gone=gone, leases=(lease_of(case_step(), action_id="x", base_guid=None, end_guid=None),)),
    )
    yield Case("three systems", [a, b, *members_of("C: 1 2 3")], hub_policy())
    yield Case("held", [a, snapshots_changed(b, userrefs=1)], hub_policy())
    yield Case("holds unknown", [a, snapshots_changed(b, userrefs=None)], hub_policy())
    clone = Replica("tank/clone", origin="tank/data@1")
    yield Case("cloned", [a, replace(b, replicas={**b.replicas, "tank/clone": clone})], hub_policy())
    yield drawn("A: #1@zfs-sync-1 #2@mine 3 4 B: 2 3 C: 3", mirror)
    waiting = lease_of(case_step(), action_id="x", target="A", target_dataset="tank/data", base_guid=None)
    yield drawn("A: #1@zfs-sync-1 3 B: 3", mirror, Work(leases=(waiting,)))
    a, b = members_of("A: #1@zfs-sync-1 3 B: 3")
    yield Case("bookmarks, and a member that never reported", [a, replace(b, replicas={}, reported_at=None)], mirror)
    yield drawn("A: #1@zfs-sync-1 3 B: 3", delete="mirror", paused_datasets=("data",))
    name = "x" * 240
    long = [member_with("A", "", {name: "2 3"}), member_with("B", "", {name: "2"})]
    yield Case("no room for a bookmark's name", long, mirror)
    elsewhere = Neighbour(peers_policy(), tuple(members_of("B: 1 2 3 C: 1")))
    yield Case("another group needs it", members_of("A: 1 2 3 B: 1 2 3"), hub_policy(), Work(neighbours=(elsewhere,)))
    yield Case("a token nobody can read", [a, changed(b, resume_token="1-x")], hub_policy())


# --- what is said --------------------------------------------------------------------------------


def said(case: Case) -> Iterator[tuple[str, str]]:
    """Every sentence about a case, and what it is about."""
    plan = case.plan
    for step in plan.steps:
        yield f"{step.type} on {step.target}", step.reason
    for skip in plan.skips:
        yield f"skipped on {skip.target}", skip.reason
    for cell in plan.cells:
        if cell.why:
            yield f"cell of {cell.system_id}", cell.why
    for conflict in plan.conflicts:
        yield f"conflict, {conflict.type}, {conflict.severity}", conflict.reason
        for option in _ways(case, plan):
            yield from _said_of(option)
    for verdict in prunable(case.policy, case.members, case.work, plan, NOW):
        where = "keep" if verdict.needed else "may go"
        yield f"{where} on {verdict.system_id}", verdict.reason
    for verdict in prunable_bookmarks(case.policy, case.members, case.work, plan, NOW):
        where = "keep" if verdict.needed else "may go"
        yield f"#{verdict.snapshot.name} {where} on {verdict.system_id}", verdict.reason


def _ways(case: Case, plan: Plan) -> Iterator[Option]:
    for conflict in plan.conflicts:
        for strategy in STRATEGIES:
            named = [None, *(member.system_id for member in case.members)] if strategy == "manual" else [None]
            for winner in named:
                for discard in (False, True):
                    yield choose(conflict, strategy, winner, discard, case.policy, case.members, case.work, NOW)


def _said_of(option: Option) -> Iterator[tuple[str, str]]:
    what = f"{option.strategy} {option.winner or ''}{' discard' if option.discard else ''}".strip()
    for step in option.steps:
        yield f"{what}: {step.type} on {step.target}", step.reason
    if option.cost:
        yield what, option.cost
    if option.refused:
        yield f"{what} is refused", option.refused
