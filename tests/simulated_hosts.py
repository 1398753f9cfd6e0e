"""Hosts of the simulation: model pools, and an agent that does with them what deploy/zfs-sync-agent does.

An agent's run is a generator: between two of its steps the world may change, and whoever drops it has crashed it.
"""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Protocol

from tests.zfs_model import COLUMNS, TYPES, Pools, Refused
from tests.zfs_values import Dataset, Snapshot, Stream

COLUMNS_REPORTED = (*COLUMNS, "available", "userrefs", "readonly", "mounted", "mountpoint", "ivsetguid")
TRANSFERS = ("create", "sync", "resume")
NEW = {"readonly": "on", "canmount": "noauto"}
PLANS_A_RUN = 20
Action = dict[str, str]  # a line of the plan: "-" is none


class Unreachable(Exception):
    """The witness did not answer, or its answer was lost."""


class Failed(Exception):
    """What the agent notes when it does not do a step."""


class Broken(Failed):
    """A connection that was lost: nobody's fault."""


@dataclass
class Host:
    """A machine with its pools; `known_at` says which of its changes the witness has heard of last."""

    name: str
    pools: Pools
    root: str
    newest_first: bool = False  # how its agent lists
    system_id: str = ""
    up: bool = True
    off_at: float = 0.0
    shelf: dict[str, Dataset] = field(default_factory=dict)  # the datasets of a pool that is not imported now
    changes: int = 0
    known_at: int = -1
    reported_at: int = -1  # the same for full reports alone
    run: "Run | None" = None

    @property
    def known(self) -> bool:
        """Whether the witness's idea of it, report and credits together, is right."""
        return self.known_at == self.changes

    @property
    def pool(self) -> str:
        """The pool that its root lies in."""
        return self.root.partition("/")[0]

    def dataset(self, path: str) -> str:
        """The full name of a path of the group."""
        return f"{self.root}/{path}" if path else self.root

    def path(self, dataset: str) -> str | None:
        """The path of the group that a full name stands for."""
        return (dataset + "/")[len(self.root) + 1 : -1] if (dataset + "/").startswith(self.root + "/") else None

    def listing(self) -> bytes:
        """The full report."""
        return self._listing(COLUMNS_REPORTED, TYPES)

    def digest(self) -> str:
        """Of the fast listing."""
        rows = self._listing(("name", "guid", "createtxg"), ("snapshot", "bookmark"))
        return hashlib.sha256(rows).hexdigest()

    def _listing(self, columns: tuple[str, ...], types: tuple[str, ...]) -> bytes:
        rows = self.pools.listing(columns, types).splitlines(keepends=True)
        return "".join(reversed(rows) if self.newest_first else rows).encode()


class Link(Protocol):
    """What an agent can reach: the witness, as far as it answers, and the other hosts. All but hosts may raise
    Unreachable."""

    hosts: dict[str, Host]

    def heartbeat(self, host: Host) -> str: ...
    def report(self, host: Host) -> None: ...
    def fetch(self, host: Host) -> list[Action]: ...
    def start(self, host: Host, action: Action) -> str | None: ...
    def renew(self, host: Host, action: Action, token: str) -> bool: ...
    def finish(self, host: Host, action: Action, token: str, status: int, received: str, log: str) -> bool: ...
    def cut(self, stream: Stream) -> Stream: ...
    def watch(self, action: Action, change: Callable[[], None]) -> None: ...
    def note(self, what: str) -> None: ...


class Run:
    """One run of an agent; `at` is a generator that gets on by one step."""

    def __init__(self, link: Link, host: Host) -> None:
        self.link, self.host = link, host
        self.stamps: dict[str, int] = {}  # the hosts that the witness knew well when it made the plan, at which change
        self.attempted = 0
        self.at = self._steps()

    def finish(self) -> int:
        """Run to the end; how many actions were tried."""
        for _ in self.at:
            pass
        return self.attempted

    def _steps(self) -> Generator[None, None, None]:
        try:
            if self.link.heartbeat(self.host) == "stale":
                yield
                self.link.report(self.host)
            for _ in range(PLANS_A_RUN):
                yield
                attempted, succeeded = yield from self._plan()
                self.attempted += attempted
                if attempted:
                    self.link.report(self.host)
                if not succeeded:
                    return
        except Unreachable:
            return

    def _plan(self) -> Generator[None, None, tuple[int, int]]:
        """Fetch the plan and carry it out: how many actions were tried, and how many done."""
        actions = self.link.fetch(self.host)
        self.stamps = {each.system_id: each.changes for each in self.link.hosts.values() if each.known}
        attempted = succeeded = 0
        undone: set[str] = set()
        for action in actions:
            yield
            token = None
            if undone.isdisjoint(action["depends_on"].split(",")):
                token = self._start(action)
            if token is not None:
                yield
                attempted += 1
                done = yield from Doing(self, action, token).perform()
                succeeded += done
                if done:
                    continue
            undone.add(action["action_id"])
        return attempted, succeeded

    def _start(self, action: Action) -> str | None:
        try:
            return self.link.start(self.host, action)
        except Unreachable:
            return None


class Doing:
    """One action that an agent carries out."""

    def __init__(self, run: Run, action: Action, token: str) -> None:
        self.run, self.link, self.action, self.token = run, run.link, action, token
        self.target = self.link.hosts[action["target_system_id"]]
        self.source = self.link.hosts.get(action["source_system_id"], self.target)
        self.name = action["target_dataset"]
        self.begun = {side.system_id: side.changes for side in (self.source, self.target)}
        self.planned_well = all(run.stamps.get(each) == changes for each, changes in self.begun.items())
        self.planned_at = self.target.changes
        self.own = 0  # changes that this action made
        self.was_known = False

    def perform(self) -> Generator[None, None, bool]:
        """Do it and tell the witness. A refusal of what was planned on fresh reports is a bug of the planner."""
        status, log, received = 0, "", "-"
        try:
            if not all(side.up for side in (self.source, self.target)):
                raise Broken("no route to host")
            if self.action["action_type"] in TRANSFERS:
                received = yield from self._transfer()
            else:
                yield
                self._change()
        except Broken as broken:
            status, log = 1, str(broken)
        except (Failed, Refused) as refused:
            status, log = 1, str(refused)
            assert not self._must_fit() or self._excused(log), f"refused after fresh reports: {log}\n{self.action}"
        self.link.note(f"{self._kind} {'failed' if status else 'done'}")
        try:
            taken = self.link.finish(self.run.host, self.action, self.token, status, received, log)
        except Unreachable:
            return False
        if taken and status == 0 and self.was_known and self._alone():
            self.target.known_at = self.target.changes
            if self.planned_well:
                self.run.stamps[self.target.system_id] = self.target.changes
        return taken and status == 0

    @property
    def _kind(self) -> str:
        """What the action is, for counting."""
        action = self.action
        words = [action["action_type"]]
        words += ["raw"] * (action["raw"] == "true") + ["from a bookmark"] * (action["base_is_bookmark"] == "true")
        words += ["onto an origin"] * (action["origin"] != "-") + ["volume"] * (action["kind"] == "volume")
        return " ".join(words)

    def _excused(self, log: str) -> bool:
        """Whether a refusal has a cause that no report shows: a key that is not loaded, or too little room for what has
        no size, or after what has come since the report."""
        came = self.target.reported_at != self.planned_at or self.action["action_type"] not in TRANSFERS
        return "key must be loaded" in log or ("out of space" in log and came)

    def _alone(self) -> bool:
        """Whether nobody else changed what this is about."""
        now = {side.system_id: side.changes for side in (self.source, self.target)}
        return now == {**self.begun, self.target.system_id: self.begun[self.target.system_id] + self.own}

    def _must_fit(self) -> bool:
        return self.planned_well and self._alone()

    def _obey(self, change: Callable[[], None]) -> None:
        """Change the target, watched by whoever keeps the rules."""
        self.was_known = self.target.known
        try:
            self.link.watch(self.action, change)
        finally:
            self.own += 1
            self.target.changes += 1

    # --- transfers -------------------------------------------------------------------------------

    def _transfer(self) -> Generator[None, None, str]:
        """Send and receive; the newest guid on the target afterwards."""
        action, pools = self.action, self.target.pools
        end = self._by_guid(self.source, action["dataset"], action["snapshot_guid"], "@")
        there = self.name in pools.datasets
        if not there or action["snapshot_guid"] not in pools.guids(self.name):
            self._fits_target(there)
            stream = self.link.cut(self._send(end))
            yield
            if not self.link.renew(self.run.host, action, self.token):
                stream = stream.cut(0)
            whole = all(part.complete for part in stream.parts)
            try:
                self._obey(lambda: self._receive(stream))
            except Refused as refused:
                if "incomplete stream" in str(refused) and not whole:
                    raise Broken(str(refused)) from None
                raise
        yield
        received = pools.guids(self.name)[-1] if self.name in pools.datasets and pools.guids(self.name) else "-"
        if received != action["snapshot_guid"]:
            raise Failed(f"{self.name} ends with guid {received}")
        return received

    @property
    def _makes_dataset(self) -> bool:
        return self.action["origin"] != "-" or self.action["incremental_base_guid"] == "-"

    def _fits_target(self, there: bool) -> None:
        action = self.action
        token = self.target.pools.token(self.name) if there else None
        if action["action_type"] == "resume":
            if token != action["resume_token"]:
                raise Failed("another resume token than the one that was planned with")
        elif token is not None:
            raise Failed("a receive that broke off must be resumed or aborted first")
        elif there == self._makes_dataset:
            raise Failed(f"{self.name} exists already, or does not")
        elif there and action["incremental_base_guid"] not in self.target.pools.guids(self.name):
            raise Failed("the target does not have the base")

    def _send(self, end: Snapshot) -> Stream:
        action, pools = self.action, self.source.pools
        if action["action_type"] == "resume":
            stream = pools.resume(action["resume_token"])
            if (stream.parts[0].to_guid, stream.raw) != (end.guid, action["raw"] == "true"):
                raise Failed("the resume token is for another stream than the one planned")
            return stream
        base = None
        if action["incremental_base_guid"] != "-":
            mark = "#" if action["base_is_bookmark"] == "true" else "@"
            found = self._by_guid(self.source, action["dataset"], action["incremental_base_guid"], mark)
            base = mark + found.name
        flags = {name: action[name] == "true" for name in ("intermediates", "raw", "embedded")}
        return pools.send(action["dataset"], end.name, base, **flags)

    def _receive(self, stream: Stream) -> None:
        action = self.action
        origin = None if action["origin"] == "-" else action["origin"]
        properties = {**NEW, **_properties(action)} if self._makes_dataset else {}
        if action["kind"] == "volume":
            properties.pop("canmount", None)
        self.target.pools.receive(self.name, stream, origin=origin, resumable=True, properties=properties)

    def _by_guid(self, host: Host, dataset: str, guid: str, mark: str) -> Snapshot:
        kept = host.pools.dataset(dataset)
        found = [each for each in (kept.bookmarks if mark == "#" else kept.snapshots) if each.guid == guid]
        if not found:
            raise Failed(f"{dataset} has no {mark} with guid {guid} any more")
        return found[0]

    # --- the other steps -------------------------------------------------------------------------

    def _change(self) -> None:
        action, pools, name = self.action, self.target.pools, self.name
        match action["action_type"]:
            case "delete":
                self._as_planned()
                doomed = [s.name for s in pools.dataset(name).snapshots if s.guid in self._expected()]
                if doomed and len(doomed) == len(pools.guids(name)):
                    raise Failed(f"{name} would keep no snapshot")
                self._obey(lambda: pools.destroy_snapshots(name, doomed))
            case "rollback":
                self._as_planned()
                goal = self._by_guid(self.target, name, action["snapshot_guid"], "@")
                kept = pools.dataset(name)
                later = [each.guid for each in kept.snapshots + kept.bookmarks if each.createtxg > goal.createtxg]
                if not set(later) <= self._expected():
                    raise Failed(f"{name} has younger snapshots or bookmarks than those that may go")
                self._obey(lambda: pools.rollback(name, goal.name, recursive=True))
            case "rename":
                self._rename()
            case "promote":
                if pools.dataset(name).origin:
                    self._obey(lambda: pools.promote(name))
            case "bookmark":
                if not any(mark.guid == action["snapshot_guid"] for mark in pools.dataset(name).bookmarks):
                    end = self._by_guid(self.target, name, action["snapshot_guid"], "@")
                    self._obey(lambda: pools.bookmark(name, end.name, action["new_name"].partition("#")[2]))
            case "release":
                mark = action["new_name"].partition("#")[2]
                found = [each.guid for each in pools.dataset(name).bookmarks if each.name == mark]
                if mark != f"zfs-sync-{action['expected_guids']}" or not set(found) <= self._expected():
                    raise Failed(f"{action['new_name']} was not made by a plan")
                if found:
                    self._obey(lambda: pools.destroy_bookmark(name, mark))
            case "abort_receive":
                if pools.token(name) not in (None, action["resume_token"]):
                    raise Failed("another resume token")
                if pools.token(name):
                    self._obey(lambda: pools.abort(name))
            case "create_parent":
                if name not in pools.datasets:
                    self._obey(lambda: _create(pools, name, {**NEW, **_properties(action)}))
            case unknown:
                raise AssertionError(f"this agent does not know {unknown}")

    def _rename(self) -> None:
        pools, name, new = self.target.pools, self.name, self.action["new_name"]
        expected = [] if self.action["snapshot_guid"] == "-" else [self.action["snapshot_guid"]]
        if name not in pools.datasets and pools.guids(new)[-1:] == expected:
            return
        if pools.guids(name)[-1:] != expected:
            raise Failed(f"{name} has another newest snapshot")
        self._as_planned()
        self._obey(lambda: pools.rename(name, new))

    def _as_planned(self) -> None:
        expected = self.action["expected_written"]
        if expected != "-" and self.target.pools.written(self.name) != int(expected):
            raise Failed(f"{self.name} was written to")

    def _expected(self) -> set[str]:
        return set(self.action["expected_guids"].split(","))


def _create(pools: Pools, name: str, properties: dict[str, str]) -> None:
    pools.create(name, properties=properties)


def _properties(action: Action) -> dict[str, str]:
    pairs = [] if action["properties"] == "-" else action["properties"].split(",")
    return dict(pair.split("=", 1) for pair in pairs)
