"""The simulated world: a witness with a real store, hosts with model pools, and what people and faults do to them."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from config import Config, GroupsFile
from handlers import actions, conflicts, inventories, sync, sync_groups, systems
from handlers.bodies import (
    AcceptQuery,
    ColumnsQuery,
    FinishHeaders,
    GroupBody,
    GroupChanges,
    HeartbeatBody,
    LeaseHeaders,
    ProgressBody,
    ResolutionData,
    ResolveBody,
    ResolveQuery,
    SystemBody,
)
from handlers.errors import Conflicting, Forbidden, Gone
from handlers.errors import Refused as RefusedCall
from handlers.gathering import members_of, plan_of, policy_of, work_of
from handlers.request import Caller, Request, Witness
from planner.model import Member, Plan, Policy, Work
from store import NotFound, Store
from tests.memory_engine import MemoryEngine
from tests.simulated_hosts import COLUMNS_REPORTED, TRANSFERS, Action, Host, Run, Unreachable
from tests.zfs_model import Pools
from tests.zfs_values import Stream

START = 1_795_000_000
HOUR, DAY = 3600, 86400
PATHS = ("data", "data/kid", "www", "secret", "disk")
HTTP_ERRORS = (RefusedCall, NotFound)


@dataclass
class Group:
    """A sync group: its members, what it wants now, and what it has wanted at some time."""

    name: str
    hosts: dict[str, Host]
    options: dict[str, Any]
    id: str = ""
    automatic: bool = False  # conflicts were decided without a person
    mirrored: bool = False  # deletions were carried over

    def chooses(self, path: str) -> bool:
        """Whether the group has a dataset, by the globs that the simulation uses."""
        top = path.split("/")[0]
        chosen = {"**": True, "*/**": path != "", "data/**": top == "data", "secret/**": top == "secret"}
        datasets = self.options["datasets"]
        return any(chosen[glob] for glob in datasets["include"]) and not any(
            chosen[glob] for glob in datasets["exclude"]
        )


class World:
    """One seed's world. It is also the link of its agents: what is asked here may get lost while `faulty`."""

    def __init__(self, seed: int, store: Store | None = None) -> None:
        self.seed = seed
        self.dice = random.Random(f"world {seed}")
        self.now = float(START)
        self.count = 0  # makes names
        self.faulty = True
        settings = Config(log_level="ERROR")
        self.witness = Witness(settings, store or Store(MemoryEngine(), secret="s" * 32), GroupsFile(settings))
        self.hosts: dict[str, Host] = {}
        self.watcher: Callable[[Action, Callable[[], None]], None] = lambda action, change: change()
        self.fetched: Callable[[], object] = lambda: None
        self.leased: Callable[[], object] = lambda: None
        self.pruned: Callable[[list[Host], Callable[[], None]], None] = lambda hosts, change: change()
        self.tally: Counter[str] = Counter()  # what happened
        self.discards: set[str] = set()  # paths whose losers a person let go
        self.resolved: set[str] = set()  # paths whose conflict a person decided
        for number in range(self.dice.choice((2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 5, 8))):
            self._add_host(f"h{number}")
        self.groups = groups_of(self.dice, self.hosts)
        for group in self.groups:
            members = {each.system_id: {"root": each.root} for each in group.hosts.values()}
            body = msgspec.convert({"name": group.name, "members": members, **group.options}, GroupBody)
            group.id = self.ask(sync_groups.create_sync_group, body).body["id"]
            self.change_group(group)

    def _add_host(self, name: str) -> None:
        dice = self.dice
        pools = Pools(f"{self.seed} {name}", START)
        pools.create(f"p{name}")
        root = dice.choice(("root", "root", "root/deep", ""))
        host = Host(name, pools, f"p{name}/{root}".rstrip("/"), newest_first=(self.seed + len(self.hosts)) % 5 == 0)
        if dice.random() < 0.7:
            for depth in range(1, root.count("/") + 2 if root else 1):
                pools.create("/".join(host.root.split("/")[: depth + 1]), properties={"readonly": "on"})
        host.system_id = self.ask(systems.register_system, SystemBody(hostname=name)).body["id"]
        self.hosts[host.system_id] = host

    # --- asking the witness ----------------------------------------------------------------------

    def request(self, host: Host | None = None, raw: bytes = b"", headers: dict[str, str] | None = None) -> Request:
        """A call by an agent, or by the admin, as of now."""
        self.count += 1
        caller = Caller("agent", "agent", host.system_id) if host else Caller("admin", "admin")
        moment = datetime.fromtimestamp(self.now, UTC)
        return Request(self.witness, caller, moment, f"r{self.count}", "127.0.0.1", headers or {}, raw)

    def ask(self, handler: Callable[..., Any], *arguments: Any, host: Host | None = None, **parts: Any) -> Any:
        """What a handler answers."""
        self.now += 0.01
        with self.witness.store.reading():
            return handler(self.request(host, **parts), *arguments)

    def call(self, host: Host, handler: Callable[..., Any], *arguments: Any, **parts: Any) -> Any:
        """The same from an agent: a call may get lost, or its answer, or it comes twice."""
        luck = self.dice.random() if self.faulty else 1
        if host.up and luck < 0.12:
            self.note(f"a call {'lost' if luck < 0.03 else 'answered in vain' if luck < 0.06 else 'repeated'}")
        if not host.up or luck < 0.03:
            raise Unreachable
        answer = self.ask(handler, *arguments, host=host, **parts)
        if luck < 0.06:
            raise Unreachable
        if luck < 0.12:
            return self.ask(handler, *arguments, host=host, **parts)
        return answer

    def heartbeat(self, host: Host) -> str:
        """Whether the witness wants a full report."""
        body = HeartbeatBody(inventory_digest=host.digest())
        answer: str = self.call(host, systems.report_heartbeat, host.system_id, body).body["inventory"]
        return answer

    def report(self, host: Host) -> None:
        """Send the full report."""
        query = ColumnsQuery(columns=",".join(COLUMNS_REPORTED))
        headers = {"content-type": "text/tab-separated-values"}
        host.known_at = host.reported_at = -1
        self.call(host, inventories.replace_inventory, host.system_id, query, raw=host.listing(), headers=headers)
        host.known_at = host.reported_at = host.changes

    def fetch(self, host: Host) -> list[Action]:
        """The plan's lines for a host."""
        headers = {"accept": "text/tab-separated-values"}
        answer = self.call(host, sync.show_system_instructions, host.system_id, headers=headers)
        self.fetched()
        names, *lines = answer.body.decode().rstrip("\n").split("\n")
        return [dict(zip(names.split("\t"), line.split("\t"), strict=True)) for line in lines]

    def start(self, host: Host, action: Action) -> str | None:
        """The lease's token, if the witness gives it."""
        try:
            answer = self.call(host, actions.start_action, action["action_id"])
        except (Conflicting, Gone, Forbidden):  # forbidden: now another system should do it
            return None
        token: str = answer.body["lease_token"]
        self.leased()
        return token

    def renew(self, host: Host, action: Action, token: str) -> bool:
        """Whether the lease still holds, as far as the agent can tell."""
        proof = LeaseHeaders(lease_token=token)
        body = ProgressBody(bytes_done=1)
        try:
            self.call(host, actions.report_progress, action["action_id"], body, proof)
        except HTTP_ERRORS:
            return False
        except Unreachable:
            return host.up
        return True

    def finish(self, host: Host, action: Action, token: str, status: int, received: str, log: str) -> bool:
        """Whether the witness took the end of an action."""
        proof = FinishHeaders(lease_token=token, received_guid=received)
        finish = actions.finish_action
        try:
            self.call(host, finish, action["action_id"], status, proof, raw=log.encode())
        except HTTP_ERRORS:
            return False
        if status == 0 and action["action_type"] in TRANSFERS:
            self._note_source(action)
        return True

    def _note_source(self, action: Action) -> None:
        """Count what a spoke has sent, and what the hub could not have sent."""
        hub_id = next(group.options["hub_system_id"] for group in self.groups if group.id == action["sync_group_id"])
        if hub_id not in (None, action["source_system_id"]):
            self.note("passed on by a spoke")
            hub, source = self.hosts[hub_id], self.hosts[action["source_system_id"]]
            held = hub.pools.datasets.get(hub.dataset(source.path(action["dataset"]) or ""))
            marks = [mark.guid for mark in held.snapshots + held.bookmarks] if held else []
            if action["incremental_base_guid"] not in ("-", *marks):
                self.note("a relay")

    def cut(self, stream: Stream) -> Stream:
        """A stream that may break off."""
        if self.faulty and self.dice.random() < 0.15:
            self.note("a stream cut")
            return stream.cut(self.dice.randrange(4))
        return stream

    def watch(self, action: Action, change: Callable[[], None]) -> None:
        """Carry out an agent's change under the eyes of the watcher."""
        self.watcher(action, change)

    def note(self, what: str) -> None:
        """Count what happened."""
        self.tally[what] += 1

    # --- what the planner sees -------------------------------------------------------------------

    def inputs(self, group: Group) -> tuple[Policy, list[Member], Work, float]:
        """What the witness plans a group by now."""
        request = self.request()
        kept = sync_groups.get_group(request, group.id)
        return policy_of(request, kept), members_of(request.store, kept), work_of(request, kept), self.now

    def plan(self, group: Group) -> Plan:
        """A group's plan as of now."""
        request = self.request()
        return plan_of(request, sync_groups.get_group(request, group.id))

    def prunable(self, group: Group) -> dict[str, dict[str, list[str]]]:
        """The snapshots that may go, by system and dataset."""
        answer = self.ask(sync.show_prunable, group.id)
        free: dict[str, dict[str, list[str]]] = {}
        for system in answer["systems"]:
            datasets = free.setdefault(system["system_id"], {})
            for snap in system["prunable"]:
                datasets.setdefault(snap["dataset"], []).append(snap["name"])
        return free

    # --- what the admin does ---------------------------------------------------------------------

    def change_group(self, group: Group, **changes: Any) -> None:
        """Edit a group."""
        group.options |= changes
        group.automatic |= group.options["on_conflict"] != "manual"
        group.mirrored |= group.options["delete"] == "mirror"
        if changes:
            raw = json.dumps(changes).encode()
            self.ask(sync_groups.change_sync_group, group.id, msgspec.convert(changes, GroupChanges), raw=raw)

    def resolve(self, conflict_id: str, path: str, strategy: Any, winner: str | None, discard: bool) -> bool:
        """Decide a conflict; whether the witness took it."""
        body = ResolveBody(strategy=strategy, resolution_data=ResolutionData(system_id=winner, discard=discard))
        try:
            self.ask(conflicts.resolve_conflict, conflict_id, body, ResolveQuery())
        except HTTP_ERRORS:
            return False
        self.note(f"resolved by {strategy}{', discarding' if discard else ''}")
        self.resolved.add(path)
        if discard:
            self.discards.add(path)
        return True

    def accept(self) -> None:
        """Accept every mass deletion."""
        for each in self.hosts:
            self.ask(inventories.accept_inventory, each, AcceptQuery())

    # --- the hosts -------------------------------------------------------------------------------

    def start_run(self, host: Host) -> Run:
        """Let a host's agent begin a run, after the one it is at, if it is at one."""
        host.run = host.run or Run(self, host)
        return host.run

    def step_run(self, host: Host) -> None:
        """Let a host's agent get on by one step."""
        with suppress(StopIteration):
            next(self.start_run(host).at)
            return
        host.run = None

    def crash(self, host: Host) -> None:
        """End a run wherever it is."""
        if host.run is not None:
            self.note("an agent crashed")
            host.run.at.close()
            host.run = None

    def close(self) -> None:
        """End all runs."""
        for host in self.hosts.values():
            self.crash(host)

    def set_time(self, now: float) -> None:
        """Let time pass; every host's clock goes on, right or wrong."""
        passed = int(now) - int(self.now)
        self.now = now
        for host in self.hosts.values():
            host.pools.now += passed

    def replicas(self) -> Iterator[tuple[Host, str, str]]:
        """Every dataset of the group that can be used: its host, path and full name."""
        for host in self.hosts.values():
            for name, kept in host.pools.datasets.items():
                path = host.path(name)
                if path is not None and not kept.newborn:
                    yield host, path, name


def groups_of(dice: random.Random, hosts: dict[str, Host]) -> list[Group]:
    """One group of all hosts; or two that share some: where one ends the other begins, or both begin at one host."""
    ids = list(hosts)
    options = options_for(dice, dice.choice((ids[0], ids[0], None)))
    match dice.choice((None, None, None, "chain", "fan")):
        case "chain" if len(ids) > 2:
            near = ids[: dice.randrange(2, len(ids))]
            first, far = dice.choice(near[1:]), ids[len(near) :]
        case "fan" if options["hub_system_id"] is not None:
            near, first = ids, ids[0]
            far = dice.sample(ids[1:], dice.randrange(1, len(ids)))
        case _:
            return [Group("group", hosts, options)]
    second = {**options_for(dice, first), "raw": options["raw"]}  # of one replica there is one form
    return [
        Group("group", {each: hosts[each] for each in near}, options),
        Group("other", {each: hosts[each] for each in (first, *far)}, second),
    ]


def options_for(dice: random.Random, hub: str | None) -> dict[str, Any]:
    """What a group may want."""
    exclude = dice.choice(([], [], ["hourly-*"]))
    include = dice.choice((["*"], ["*"], ["auto-*"]))
    return {
        "hub_system_id": hub,
        "datasets": {"include": dice.choice((["**"], ["*/**"], ["data/**", "secret/**"])), "exclude": []},
        "snapshots": {
            "include": include,
            "exclude": exclude,
            "min_age_s": dice.choice((0, 0, 0, 2 * HOUR)),
            "initial": dice.choice(("all", "all", "newest")),
        },
        "transfer": dice.choice(("push", "pull")),
        "raw": dice.choice(("auto", "auto", "auto", "always", "never")),
        "on_conflict": dice.choice(("manual", "manual", "use_newest", "use_largest", "use_majority", "ignore")),
        "delete": dice.choice(("never", "mirror", "mirror")),
        "max_transfers": dice.choice((1, 2, 4)),
        "paused": {"systems": [], "datasets": []},
        "enabled": True,
        "window": None,
    }
