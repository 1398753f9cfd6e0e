"""Two requests that meet: whichever comes in the midst of the other, one wins, the other is told, nothing is lost.

Some of each kind run on PostgreSQL, too; `--engine postgresql` runs all of them there.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from handlers import inventories
from store import LEASES, REGISTRY, Store, heartbeat_of
from tests.boxes import COLUMNS, listing
from tests.interleaving import Answered, Call, Meeting, meeting
from tests.witness import ADMIN, ENROLL, TSV, Agent, client_of


class World:
    """nas, the hub, and backup in a group that was made over the API; two datasets are to be sent, one at a time."""

    def __init__(self, met: Meeting) -> None:
        self.met, self.client = met, client_of(met.witness)
        self.nas, self.backup = self.client.register("nas"), self.client.register("backup")
        members = {self.nas.id: {"root": "tank"}, self.backup.id: {"root": "vault/nas"}}
        body = {"name": "media", "members": members, "hub_system_id": self.nas.id, "max_transfers": 1}
        self.group = self.client.call("POST", "/sync-groups", body).json["id"]
        self.nas.report(listing("tank: 1 2", "tank/a: a1 a2", "tank/b: b1"), COLUMNS)
        self.backup.report(listing("vault:", "vault/nas: 1 2"), COLUMNS)
        planned = self.client.get("/sync/instructions")["actions"]
        self.actions = [action["action_id"] for action in planned if action["action_type"] == "create"]
        assert len(self.actions) == 2

    def action(self, verb: str, number: int = 0, by: str | None = None, **options: Any) -> Call:
        """A request about one of the two actions."""
        path = f"/sync/actions/{self.actions[number]}/{verb}"
        return Call("POST", path, by or self.nas.key, **options)

    def under(self, verb: str, *, guid: str = "-", body: Any = b"") -> Call:
        """The same, by the holder of the lease."""
        token = self.client.witness.store.read(LEASES).leases.get(self.actions[0]).token
        headers = {"X-Lease-Token": token, "X-Received-Guid": guid, "Content-Type": "text/plain"}
        if isinstance(body, dict):
            headers["Content-Type"] = "application/json"
        return self.action(verb, headers=headers, body=body)

    def events(self, what: str) -> int:
        return len(self.client.get(f"/events?what={what}&limit=1000"))


@pytest.fixture
def world(make_witness: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    witness = make_witness(rate_limits="{heavy: 100000/second, failed_auth: 100000/second}")
    with meeting(witness, monkeypatch) as met:
        yield World(met)


def meet(world: World, first: Call, second: Call) -> Iterator[tuple[Answered, Answered]]:
    """The answers to both, in whatever way they meet; the store is as they left it until the next is asked for."""
    yield from world.met.pairs(first, second)
    for other, one in world.met.pairs(second, first):
        yield one, other


def statuses(*answers: Answered) -> list[int]:
    return sorted(answer.status for answer in answers)


# --- If-Match ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["systems", "sync-groups"])
def test_of_two_changes_to_one_version_one_is_made(world: World, kind: str) -> None:
    path = f"/systems/{world.nas.id}" if kind == "systems" else f"/sync-groups/{world.group}"
    etag = world.client.call("GET", path).headers["ETag"]
    changes = [{"ssh_port": 2201}, {"ssh_port": 2202}] if kind == "systems" else [{"grace_s": 1}, {"grace_s": 2}]
    calls = [Call("PUT", path, ADMIN, change, {"If-Match": etag}) for change in changes]
    for answers in meet(world, *calls):
        assert statuses(*answers) == [200, 412]
        won = next(change for change, answer in zip(changes, answers, strict=True) if answer.status == 200)
        assert won.items() <= world.client.get(path).items()


def test_of_two_changes_to_different_fields_none_is_lost(world: World) -> None:
    path = f"/systems/{world.nas.id}"
    calls = [Call("PUT", path, ADMIN, change) for change in ({"ssh_port": 2201}, {"ssh_user": "a"})]
    for answers in meet(world, *calls):
        assert statuses(*answers) == [200, 200]
        now = world.client.get(path)
        assert (now["ssh_port"], now["ssh_user"]) == (2201, "a")


@pytest.mark.on_both
def test_of_two_reports_over_one_version_one_is_kept(world: World) -> None:
    path = f"/systems/{world.nas.id}/inventory"
    etag = world.client.call("GET", path).headers["ETag"]
    texts = [listing("tank: 1 2 3"), listing("tank: 1 2 4")]
    calls = [
        Call("PUT", f"{path}?columns={COLUMNS}", world.nas.key, text.encode(), {"If-Match": etag, "Content-Type": TSV})
        for text in texts
    ]
    for answers in meet(world, *calls):
        assert statuses(*answers) == [200, 412]
        won = texts[[answer.status for answer in answers].index(200)]
        names = {each["name"] for each in world.client.get(f"/snapshots?system_id={world.nas.id}")}
        assert names == {"s1", "s2", "s3" if won is texts[0] else "s4"}


# --- actions -------------------------------------------------------------------------------------


def test_an_action_started_twice_has_one_lease(world: World) -> None:
    for answers in meet(world, world.action("start"), world.action("start")):
        assert statuses(*answers) == [200, 200]
        assert len({answer.json["lease_token"] for answer in answers}) == 1
        assert world.events("action.started") == 1


def test_of_two_transfers_where_one_may_run_one_starts(world: World) -> None:
    for answers in meet(world, world.action("start", 0), world.action("start", 1)):
        assert statuses(*answers) == [200, 409]
        leases = world.client.witness.store.read(LEASES).leases
        won = world.actions[[answer.status for answer in answers].index(200)]
        assert list(leases.ids()) == [won]


@pytest.mark.on_both
def test_an_action_ends_once_and_the_first_end_counts(world: World) -> None:
    start(world)
    well, ill = world.under("finish/0", guid=expected(world)), world.under("finish/1")
    for answers in meet(world, well, ill):
        assert statuses(*answers) == [200, 200]
        assert answers[0].body == answers[1].body
        assert world.events("action.finished") + world.events("action.failed") == 1
        assert not world.client.witness.store.read(LEASES).leases.ids()
    for answers in meet(world, well, well):
        assert statuses(*answers) == [200, 200]
        assert answers[0].body == answers[1].body
        (total,) = world.client.witness.store.read(LEASES).totals.all()
        assert (total.done, total.failed) == (1, 0)


def test_progress_does_not_bring_back_what_has_ended(world: World) -> None:
    start(world)
    ended, told = world.under("finish/0", guid=expected(world)), world.under("progress", body={"bytes_done": 5})
    for end, progress in meet(world, ended, told):
        assert end.status == 200
        assert progress.status in (200, 410)
        assert not world.client.witness.store.read(LEASES).leases.ids()


def test_an_action_that_ends_is_not_started_anew_by_who_planned_before(world: World) -> None:
    start(world)
    for end, again in meet(world, world.under("finish/0", guid=expected(world)), world.action("start")):
        assert end.status == 200
        assert again.status in (200, 410)
        assert not world.client.witness.store.read(LEASES).leases.ids()


def start(world: World) -> None:
    world.nas.call("POST", f"/sync/actions/{world.actions[0]}/start")


def expected(world: World) -> str:
    return str(world.client.witness.store.read(LEASES).leases.get(world.actions[0]).end_guid)


# --- keys ----------------------------------------------------------------------------------------


def works(world: World, key: str | None) -> bool:
    answer = world.client.with_key(key).call("GET", f"/systems/{world.nas.id}", expect_errors=True)
    return bool(answer.status_code == 200)


@pytest.mark.on_both
def test_of_two_rotations_with_one_key_without_grace_one_is_made(world: World) -> None:
    rotate = Call("POST", f"/systems/{world.nas.id}/api-key/rotate?grace_s=0", world.nas.key)
    for answers in meet(world, rotate, rotate):
        assert statuses(*answers) == [200, 401]
        assert not works(world, world.nas.key)
        assert works(world, next(answer.json["api_key"] for answer in answers if answer.status == 200))


def test_a_revoked_key_makes_no_new_one_on_its_way_out(world: World) -> None:
    path = f"/systems/{world.nas.id}/api-key"
    for rotated, revoked in meet(world, Call("POST", f"{path}/rotate", world.nas.key), Call("DELETE", path, ADMIN)):
        assert revoked.status == 204
        assert rotated.status in (200, 401)
        assert not works(world, world.nas.key)
        assert rotated.status == 401 or not works(world, rotated.json["api_key"])


def test_what_is_asked_with_a_key_that_is_being_rotated_is_done_or_refused(world: World) -> None:
    rotate = Call("POST", f"/systems/{world.nas.id}/api-key/rotate?grace_s=0", ADMIN)
    for rotated, started in meet(world, rotate, world.action("start")):
        assert rotated.status == 200
        assert started.status in (200, 401)
        assert bool(world.client.witness.store.read(LEASES).leases.ids()) == (started.status == 200)


# --- systems and groups --------------------------------------------------------------------------


@pytest.mark.on_both
def test_a_hostname_is_registered_once(world: World) -> None:
    call = Call("POST", "/systems/register", ENROLL, {"hostname": "laptop"})
    for answers in meet(world, call, call):
        assert statuses(*answers) == [201, 409]
        registry = world.client.witness.store.read(REGISTRY)
        assert len(registry.systems.find(hostname="laptop")) == 1
        assert len(registry.keys.find(role="agent")) == 3


def test_an_agent_does_not_undo_its_renaming(world: World) -> None:
    path = f"/systems/{world.backup.id}"
    stale = Call("PUT", path, world.backup.key, {"hostname": "backup", "ssh_port": 23})
    for renamed, changed in meet(world, Call("PUT", path, ADMIN, {"hostname": "vault"}), stale):
        assert renamed.status == 200
        assert changed.status in (200, 403)
        assert world.client.get(path)["hostname"] == "vault"


AT_BACKUP = {
    "report": lambda agent: Call(
        "PUT",
        f"/systems/{agent.id}/inventory?columns={COLUMNS}",
        agent.key,
        listing("vault:", "vault/nas: 1").encode(),
        {"Content-Type": TSV},
    ),
    "heartbeat": lambda agent: Call("POST", f"/systems/{agent.id}/heartbeat", agent.key),
    "snapshot": lambda agent: Call("POST", "/snapshots", agent.key, {"dataset": "vault/nas", "name": "x", "guid": "9"}),
    "rotate": lambda agent: Call("POST", f"/systems/{agent.id}/api-key/rotate", agent.key),
    "change": lambda agent: Call("PUT", f"/systems/{agent.id}", agent.key, {"ssh_port": 23}),
}


@pytest.mark.parametrize("what", AT_BACKUP)
def test_nothing_is_left_of_a_system_that_is_deleted_while_it_reports(world: World, what: str) -> None:
    agent = world.backup
    for deleted, reported in meet(world, Call("DELETE", f"/systems/{agent.id}", ADMIN), AT_BACKUP[what](agent)):
        assert deleted.status == 204
        assert reported.status in (200, 201, 401, 404, 422)
        assert left_of(world, agent) == []


def test_nor_while_its_files_are_being_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last report again, from an agent whose key was still good when the request came."""
    agent, unchanged, remove = world.backup, inventories._unchanged, Store.remove
    report: list[Any] = []
    monkeypatch.setattr(inventories, "_unchanged", lambda *arguments: report.extend(arguments))
    agent.report(listing("vault:", "vault/nas: 1 2"), COLUMNS)

    late = threading.Thread(target=lambda: unchanged(*report))

    def remove_meanwhile(store: Store, shard: Any) -> None:
        remove(store, shard)
        if shard == heartbeat_of(agent.id):
            late.start()

    monkeypatch.setattr(Store, "remove", remove_meanwhile)
    world.client.call("DELETE", f"/systems/{agent.id}", status=204)
    late.join()
    assert left_of(world, agent) == []


def left_of(world: World, agent: Agent) -> list[str]:
    """What there is of a system in the store."""
    store = world.client.witness.store
    found = [shard.name for kind in ("heartbeats", "inventories", "history") for shard in store.shards(kind)]
    found += [f"key {key.id}" for key in store.read(REGISTRY).keys.find(system_id=agent.id)]
    leases = store.read(LEASES)
    found += [lease.id for lease in leases.leases if agent.id in (lease.source_system_id, lease.target_system_id)]
    found += [f"member {group.name}" for group in store.read(REGISTRY).groups if agent.id in group.spec["members"]]
    return [name for name in found if agent.id in name or "/" not in name]


def test_no_lease_is_given_on_a_system_that_is_deleted_meanwhile(world: World) -> None:
    for deleted, started in meet(world, Call("DELETE", f"/systems/{world.backup.id}", ADMIN), world.action("start")):
        assert deleted.status == 204
        assert started.status in (200, 404, 410)
        assert left_of(world, world.backup) == []


def test_nor_in_a_group_that_is(world: World) -> None:
    start = world.action("start")
    for deleted, started in meet(world, Call("DELETE", f"/sync-groups/{world.group}", ADMIN), start):
        assert deleted.status == 204
        assert started.status in (200, 410)


@pytest.mark.parametrize("what", ["check", "change", "add", "finish", "resolve"])
def test_nothing_is_left_of_a_group_that_is_deleted_in_use(world: World, what: str) -> None:
    start(world)
    world.backup.report(listing("vault:", "vault/nas: 1 9X"), COLUMNS)
    loner = world.client.register("loner")
    calls = {
        "check": Call("POST", f"/sync/{world.group}/check", ADMIN),
        "change": Call("PUT", f"/sync-groups/{world.group}", ADMIN, {"grace_s": 5}),
        "add": Call("POST", f"/sync-groups/{world.group}/systems", ADMIN, {"system_id": loner.id}),
        "finish": world.under("finish/0", guid=expected(world)),
        "resolve": Call("POST", f"/conflicts/{diverged(world)}/resolve", ADMIN, {"strategy": "ignore"}),
    }
    for deleted, other in meet(world, Call("DELETE", f"/sync-groups/{world.group}", ADMIN), calls[what]):
        assert deleted.status == 204
        assert other.status in (200, 404)
        assert world.client.get("/sync-groups") == []
        assert world.client.witness.store.shards("groups") == []


@pytest.mark.on_both
def test_a_hub_is_a_member(world: World) -> None:
    path = f"/sync-groups/{world.group}"
    change = Call("PUT", path, ADMIN, {"hub_system_id": world.backup.id})
    for changed, removed in meet(world, change, Call("DELETE", f"{path}/systems/{world.backup.id}", ADMIN)):
        assert (changed.status, removed.status) in ((200, 409), (422, 204))
        group = world.client.get(path)
        assert group["hub_system_id"] in group["system_ids"]


def test_a_conflict_is_decided_once_at_a_time(world: World) -> None:
    world.nas.report(listing("tank: 1 2", "tank/a: a1 a2", "tank/b: b1"), COLUMNS)
    world.backup.report(listing("vault:", "vault/nas: 1 2", "vault/nas/a: a1 a9X"), COLUMNS)
    conflict = diverged(world)
    calls = [
        Call("POST", f"/conflicts/{conflict}/resolve", ADMIN, {"strategy": "manual", "resolution_data": data})
        for data in ({"system_id": world.nas.id}, {"system_id": world.backup.id})
    ]
    for answers in meet(world, *calls):
        assert {answer.status for answer in answers} <= {200, 409}
        decided = [answer.json["winner_system_id"] for answer in answers if answer.status == 200]
        (now,) = (each for each in world.client.get("/conflicts")["conflicts"] if each["id"] == conflict)
        assert now["resolution"]["winner_system_id"] in decided


def diverged(world: World) -> str:
    """The conflict to be decided."""
    conflicts = world.client.get("/conflicts")["conflicts"]
    return str(next(each["id"] for each in conflicts if each["type"] == "diverged"))
