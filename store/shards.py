"""The shards: which documents are kept together, in one file under one lock."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, get_args

from store.codec import NEVER_WRITTEN, Meta, next_meta
from store.documents import (
    Alert,
    Attempts,
    Credit,
    DatasetDoc,
    Decision,
    Event,
    Failure,
    GoneRow,
    Group,
    GuardFlag,
    Heartbeat,
    Key,
    Lease,
    Message,
    PlanStamp,
    Report,
    SigningKey,
    Summary,
    SyncState,
    System,
    Tick,
    Total,
)
from store.errors import NotFound
from store.tables import Content, RawContent, Table, TinyContent

NOUNS: dict[type, str] = {
    System: "system",
    Group: "sync group",
    Key: "key",
    SigningKey: "signing key",
    Lease: "lease",
    Credit: "finished action",
    Failure: "failed action",
    Heartbeat: "heartbeat",
    Report: "report",
    GuardFlag: "mass-delete guard",
    Summary: "dataset",
    DatasetDoc: "dataset",
    SyncState: "sync state",
    Decision: "conflict",
    PlanStamp: "plan",
    GoneRow: "history entry",
    Total: "total",
    Alert: "alert",
    Message: "message",
    Tick: "tick",
    Attempts: "count of attempts",
    Event: "event",
}

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(
    rf"registry|leases|alerts|limits|(heartbeats|inventories|groups|events)/{_ID.pattern}|history/{_ID.pattern}/{_ID.pattern}"
)


class View:
    """A shard's tables at one moment. A subclass names them, with the type of their documents."""

    in_bytes: ClassVar[bool] = False  # documents stay undecoded until they are asked for: many, or written very often
    unique: ClassVar[dict[str, str]] = {}  # table: the field that no two of its documents share
    kinds: ClassVar[dict[str, Any]] = {}  # table: the type of its documents

    def __init_subclass__(cls) -> None:
        cls.kinds = {name: get_args(hint)[0] for name, hint in cls.__annotations__.items()}

    def __init__(self, meta: Meta, content: Content, tables: dict[str, Table[Any]]) -> None:
        self.meta = meta
        self.content = content
        self.tables = tables
        self.__dict__.update(tables)

    @classmethod
    def of(cls, data: bytes | None, file: str) -> "View":
        """The tables in a file's bytes; empty ones where there is no file yet."""
        form = RawContent if cls.in_bytes else TinyContent
        meta, content = (NEVER_WRITTEN, form({}, file)) if data is None else form.decode(data, file)
        tables = {
            name: Table(name, kind, NOUNS[kind], content, cls.unique.get(name)) for name, kind in cls.kinds.items()
        }
        return cls(meta, content, tables)

    @property
    def changed(self) -> bool:
        return any(table.changed for table in self.tables.values())

    @property
    def generation(self) -> str:
        """Different for each content that was ever written."""
        return self.meta.generation

    def editable(self) -> "View":
        """A copy whose tables can be changed."""
        content = self.content.copy()
        return type(self)(self.meta, content, {name: table.editable(content) for name, table in self.tables.items()})

    def decode_all(self) -> None:
        """Raise StoreError unless every document can be decoded."""
        for table in self.tables.values():
            table.all()

    def save(self) -> bytes:
        """The file with the changes made, of the next generation, which this view then shows."""
        for table in self.tables.values():
            table.save()
        self.meta = next_meta(self.meta)
        return self.content.encode(self.meta)

    def close(self) -> None:
        """Take no more changes."""
        for table in self.tables.values():
            table.close()


class Registry(View):
    """Systems, the sync groups made over the API, and keys, those that sign plans too: changed by people, seldom."""

    systems: Table[System]
    groups: Table[Group]
    keys: Table[Key]
    signing_keys: Table[SigningKey]
    unique = {"systems": "hostname", "groups": "name"}  # noqa: RUF012


class Leases(View):
    """The steps under way, done and failed: changed often, and few at a time."""

    leases: Table[Lease]
    credits: Table[Credit]
    failures: Table[Failure]
    totals: Table[Total]


class Heartbeats(View):
    """One system's sign of life."""

    heartbeats: Table[Heartbeat]
    in_bytes = True


class Inventory(View):
    """One system's datasets, as it last reported them."""

    reports: Table[Report]
    guards: Table[GuardFlag]
    summaries: Table[Summary]
    datasets: Table[DatasetDoc]
    in_bytes = True


class GroupRecords(View):
    """What happened in one sync group."""

    states: Table[SyncState]
    decisions: Table[Decision]
    stamps: Table[PlanStamp]


class History(View):
    """What one system's reports of one day no longer listed."""

    gone: Table[GoneRow]
    in_bytes = True


class Alerts(View):
    """What somebody should know, and what is still to be told."""

    alerts: Table[Alert]
    messages: Table[Message]
    ticks: Table[Tick]


class Limits(View):
    """How often callers tried what is limited."""

    attempts: Table[Attempts]


class Events(View):
    """A piece of the audit trail."""

    events: Table[Event]
    in_bytes = True


# In the order in which locks are taken. What is written last, or on its own, comes last.
KINDS: dict[str, type[View]] = {
    "registry": Registry,
    "leases": Leases,
    "heartbeats": Heartbeats,
    "inventories": Inventory,
    "groups": GroupRecords,
    "history": History,
    "alerts": Alerts,
    "limits": Limits,
    "events": Events,
}

V = TypeVar("V", bound=View, covariant=True)


@dataclass(frozen=True, slots=True)
class Shard(Generic[V]):
    """The name of a shard, and the class of its views."""

    name: str
    view: type[V]

    @property
    def lock(self) -> str:
        return lock_of(self.name)

    @property
    def order(self) -> tuple[int, str]:
        """Its place in the one order in which locks are taken: two writers never wait for each other in a ring."""
        return list(KINDS).index(self.name.partition("/")[0]), self.name


def lock_of(name: str) -> str:
    """The lock for a shard. The segments of one history, and those of the events, share one."""
    kind, _, rest = name.partition("/")
    if kind == "events":
        return kind
    if kind == "history":
        return f"{kind}/{rest.partition('/')[0]}"
    return name


def is_shard_name(name: str) -> bool:
    """Whether a file of this name is ours: people leave copies and notes beside the real ones."""
    return _NAME.fullmatch(name) is not None


def shard_named(name: str) -> Shard[View]:
    """The shard of this name."""
    assert is_shard_name(name), name
    return Shard(name, KINDS[name.partition("/")[0]])


REGISTRY = Shard("registry", Registry)
LEASES = Shard("leases", Leases)
ALERTS = Shard("alerts", Alerts)
LIMITS = Shard("limits", Limits)


def heartbeat_of(system_id: str) -> Shard[Heartbeats]:
    return Shard(f"heartbeats/{_file_name(system_id, 'system')}", Heartbeats)


def inventory_of(system_id: str) -> Shard[Inventory]:
    return Shard(f"inventories/{_file_name(system_id, 'system')}", Inventory)


def group_records(group_id: str) -> Shard[GroupRecords]:
    return Shard(f"groups/{_file_name(group_id, 'sync group')}", GroupRecords)


def history_of(system_id: str, day: str) -> Shard[History]:
    """What went on a day, `2026-11-22`."""
    return Shard(f"history/{_file_name(system_id, 'system')}/{_file_name(day, 'day')}", History)


def events_of(segment: str) -> Shard[Events]:
    return Shard(f"events/{_file_name(segment, 'segment of events')}", Events)


def _file_name(id: str, noun: str) -> str:
    """An id that may be a file's name. Raises NotFound for any other, since nothing is kept under it."""
    if not _ID.fullmatch(id):
        raise NotFound(f"no {noun} {id!r}")
    return id
