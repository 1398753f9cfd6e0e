"""What is refused for want of room or of a lock is not done, and no event tells of it: what is done, one does."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from handlers import keys
from handlers.errors import refusal_of
from handlers.local import request_here
from store import Store, events_of, group_records, heartbeat_of, inventory_of
from tests.boxes import COLUMNS, empty_boxes, listing
from tests.store_samples import everything, put_content
from tests.test_actions import finish, start
from tests.test_resolving import diverged, told
from tests.witness import BASE, TSV, Agent, place_of


class World:
    """Boxes in conflict, with steps to be done and one under way, and a system and a group that may be deleted."""

    def __init__(self, make_witness: Any, **settings: Any) -> None:
        boxes = told(
            empty_boxes(make_witness, **settings),
            nas=("tank: 1", "tank/a: a1 a2 a3", "tank/b: b1 b2", "tank/c: c1 c2"),
            offsite=("pool1:", "pool1/replica: 1", "pool1/replica/b: b1", "pool1/replica/c: c1"),
        )
        self.boxes, self.client, self.store = boxes, boxes.client, boxes.client.witness.store
        self.spare = self.client.register("spare")
        for marks in ("1 2 3 4 5", ""):  # which raises a guard, and leaves a history
            self.spare.report(listing(f"usb: {marks}", "usb/a: a1"), COLUMNS)
        other = {"name": "other", "system_ids": [self.spare.id, boxes.nas.id], "hub_system_id": boxes.nas.id}
        self.group = self.client.call("POST", "/sync-groups", other).json["id"]
        self.under_way, self.planned = (boxes.action(f"pool1/replica/{name}") for name in "bc")
        self.token = start(self.agent(self.under_way), self.under_way).json["lease_token"]
        self.key = keys.create_key(request_here(self.client.witness), "viewer").partition(".")[0]
        self.sick = self.client.register("sick")
        put_content(self.store, heartbeat_of(self.sick.id).name, b"{")
        self.told = {each.id for each in self.store.events()}
        self.before = kept(self.store)

    def agent(self, action: Any) -> Agent:
        return self.boxes.agent_of(action["executor_system_id"])

    def ask(self, method: str, path: str, body: Any = None) -> int:
        """The status of what an admin is answered."""
        status: int = self.client.call(method, path, body, expect_errors=True).status_int
        return status

    def here(self, do: Callable[..., object], *arguments: Any) -> int:
        """The same of what an admin does on the machine itself."""
        try:
            do(request_here(self.client.witness), *arguments)
        except Exception as error:
            refused = refusal_of(error)
            assert refused is not None
            return refused.status
        return 200


def kept(store: Store) -> dict[str, bytes]:
    """The bytes of every shard, but for how often somebody tried."""
    return {name: data for name, data in everything(store).items() if name != "limits"}


def report(world: World) -> int:
    spare, listed = world.spare, listing("usb: 7", "usb/a: a1")
    headers = {"X-API-Key": spare.key, "Content-Type": TSV}
    path = f"{BASE}/systems/{spare.id}/inventory?columns={COLUMNS}"
    status: int = world.client.app.put(path, listed, headers=headers, expect_errors=True).status_int
    return status


def forget_snapshot(world: World) -> int:
    (snapshot,) = world.client.get(f"/snapshots?system_id={world.spare.id}")
    return world.ask("DELETE", f"/snapshots/{snapshot['id']}")


def finish_action(world: World) -> int:
    action = world.under_way
    status: int = finish(world.agent(action), action, world.token, expect_errors=True).status_int
    return status


CHANGES: dict[str, Callable[[World], int]] = {
    "system.registered": lambda w: w.ask("POST", "/systems/register", {"hostname": "new"}),
    "system.changed": lambda w: w.ask("PUT", f"/systems/{w.spare.id}", {"ssh_port": 2222}),
    "system.deleted": lambda w: w.ask("DELETE", f"/systems/{w.spare.id}"),
    "key.rotated": lambda w: w.ask("POST", f"/systems/{w.spare.id}/api-key/rotate?grace_s=0"),
    "key.revoked": lambda w: w.ask("DELETE", f"/systems/{w.spare.id}/api-key"),
    "group.created": lambda w: w.ask("POST", "/sync-groups", {"name": "new"}),
    "group.changed": lambda w: w.ask("PUT", f"/sync-groups/{w.group}", {"enabled": False}),
    "group.deleted": lambda w: w.ask("DELETE", f"/sync-groups/{w.group}"),
    "group.system_added": lambda w: w.ask(
        "POST", f"/sync-groups/{w.group}/systems", {"system_id": w.boxes.backup.id, "root": "vault/x"}
    ),
    "group.system_removed": lambda w: w.ask("DELETE", f"/sync-groups/{w.group}/systems/{w.spare.id}"),
    "inventory.reported": report,
    "guard.accepted": lambda w: w.ask("POST", f"/systems/{w.spare.id}/inventory/accept"),
    "snapshots.reported": lambda w: w.ask(
        "POST", "/snapshots", {"system_id": w.spare.id, "dataset": "usb", "name": "x", "guid": "77"}
    ),
    "snapshot.forgotten": forget_snapshot,
    "store.healed": lambda w: w.ask("POST", f"/systems/{w.sick.id}/heartbeat", {}),
    "conflict.detected": lambda w: w.ask("POST", f"/sync/{w.boxes.group}/check"),
    "conflict.resolved": lambda w: w.ask(
        "POST", f"/conflicts/{diverged(w.boxes)['id']}/resolve", {"strategy": "ignore"}
    ),
    "action.started": lambda w: start(w.agent(w.planned), w.planned, expect_errors=True).status_int,
    "action.extended": lambda w: start(w.client, w.under_way, expect_errors=True).status_int,
    "action.finished": finish_action,
    "key.created": lambda w: w.here(keys.create_key, "viewer"),
    "key.rotated here": lambda w: w.here(keys.rotate_key, w.key, 0),
    "key.revoked here": lambda w: w.here(keys.revoke_key, w.key),
    "signing_key.rotated": lambda w: w.here(keys.rotate_signing_key, 0),
}


def require_done(world: World, status: int, what: str) -> None:
    """It was done, and is told of."""
    assert status < 300
    assert {each.what for each in world.store.events() if each.id not in world.told} == {what.removesuffix(" here")}
    assert kept(world.store) != world.before


@pytest.mark.on_both
@pytest.mark.parametrize("what", CHANGES)
def test_what_finds_the_audit_trail_locked_is_not_done(make_witness: Any, what: str) -> None:
    world = World(make_witness, lock_timeout_s=0.2)
    other = Store.open(place_of(world.client.witness))
    with other.transaction(events_of(f"{datetime.now(UTC):%Y-%m-%d}")):
        assert CHANGES[what](world) == 503
    assert kept(world.store) == world.before
    require_done(world, CHANGES[what](world), what)
    other.close()


@pytest.mark.on_both
@pytest.mark.parametrize("what", ["system.deleted", "group.deleted"])
def test_what_is_being_written_is_not_deleted_in_part(make_witness: Any, what: str) -> None:
    world = World(make_witness, lock_timeout_s=0.2)
    other = Store.open(place_of(world.client.witness))
    with other.transaction(inventory_of(world.spare.id), group_records(world.group)):
        assert CHANGES[what](world) == 503
    assert kept(world.store) == world.before
    require_done(world, CHANGES[what](world), what)
    left = world.spare.id if what == "system.deleted" else world.group
    assert [name for name in kept(world.store) if left in name] == []
    other.close()


# Healing leaves the damaged content aside, at each attempt.
@pytest.mark.parametrize("what", [what for what in CHANGES if what != "store.healed"])
def test_what_finds_room_for_a_part_is_not_done(make_witness: Any, small_disk: Path, what: str) -> None:
    world = World(make_witness, data_dir=small_disk / "data")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    refusals = 0
    while (status := CHANGES[what](world)) == 507:
        assert kept(world.store) == world.before
        os.truncate(filler, filler.stat().st_size - 4096)
        refusals += 1
    assert refusals > 1
    require_done(world, status, what)
