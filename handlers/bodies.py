"""What callers send, as msgspec Structs: validation reads them, and so does whoever documents the API.

msgspec's patterns are searched, so each is anchored with \\A and \\Z ("$" would let a newline through). Guids and
createtxgs may come as decimal strings or integers; sizes are bytes, moments RFC 3339 with an offset.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from config import GroupName, GroupOptions
from config.groups import MOST_SYSTEMS
from config.kinds import require_modest

Platform = Literal["linux", "freebsd", "illumos", "macos", "windows", "other"]


def _text(meaning: str, pattern: str, max_length: int | None = None, *, example: str) -> Meta:
    """What a text must match; whoever sends another is told the meaning."""
    return Meta(pattern=rf"\A{pattern}\Z", max_length=max_length, description=meaning, examples=[example])


Hostname = Annotated[str, _text("a hostname", r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", 253, example="nas")]
SshHostname = Annotated[
    str, _text("a hostname or an address", r"[A-Za-z0-9:]([A-Za-z0-9.:_-]*[A-Za-z0-9:])?", 253, example="192.0.2.7")
]
SshUser = Annotated[str, _text("the name of a user", r"[A-Za-z_][A-Za-z0-9._-]{0,31}", example="zfs")]
Port = Annotated[int, Meta(ge=1, le=65535)]
LONGEST_GRACE_S = 31_536_000
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
Uuid = Annotated[str, _text("a UUID in small letters", UUID, example="3f0c8f5e-7f0e-4e55-9d3b-2a4c1c9f6b10")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Dataset = Annotated[str, Meta(min_length=1, max_length=256, examples=["tank/media"])]  # planner.names has the rest
Root = Annotated[str, Meta(min_length=1, max_length=256, examples=["vault/nas"])]
SnapshotName = Annotated[str, Meta(min_length=1, max_length=256, examples=["daily-2026-11-22"])]  # what follows "@"
When = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-22T14:00:00Z"])]
Guid = Annotated[str, _text("a guid in decimal", "[0-9]{1,20}", example="9870432017463201123")]

# handlers.values checks the range of numbers, since it says more of what is wrong; a schema says it here
Digits = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9]{1,20}$", "examples": ["4096"]})]
Number = Digits | Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": 2**63 - 1})]
GuidNumber = Digits | Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 2**64 - 1})]
Moment = (
    Annotated[str, Meta(description="RFC 3339 with an offset, or Unix seconds as zfs list -p prints them")]
    | Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": 253402300799})]
)
Listing = Annotated[
    str, Meta(examples=["tank/media@daily-2026-11-22\tsnapshot\t987\t42\t1795351200\t0\t4096\t-\t-\t-\t-\n"])
]
Digest = Annotated[str, _text("SHA-256 in small hexadecimal digits", "[0-9a-f]{64}", example="0f" * 32)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Offset = Annotated[int, Meta(ge=0, le=2**31)]
Days = Annotated[int, Meta(ge=1, le=3650)]
ExitStatus = Annotated[int, Meta(ge=0, le=255, description="0: it went well", examples=[0])]


class SystemBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A system that registers itself."""

    hostname: Hostname
    platform: Platform = "linux"
    ssh_hostname: SshHostname | None = None
    ssh_user: SshUser | None = None
    ssh_port: Port = 22
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_modest(self.metadata)


class SystemChanges(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The fields of a system to change; the others stay. What GET shows beside is taken, and changes nothing."""

    hostname: Hostname | UnsetType = UNSET
    platform: Platform | UnsetType = UNSET
    ssh_hostname: SshHostname | UnsetType | None = UNSET
    ssh_user: SshUser | UnsetType | None = UNSET
    ssh_port: Port | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    id: Any = UNSET
    connectivity_status: Any = UNSET
    last_seen: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET

    def __post_init__(self) -> None:
        require_modest(self.metadata or {})


class HeartbeatBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What an agent says when it calls."""

    inventory_digest: Digest | None = None
    agent_version: Annotated[str, Meta(max_length=100)] | None = None
    zfs_version: Annotated[str, Meta(max_length=100)] | None = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        require_modest(self.metadata or {})


class SnapshotInList(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A snapshot within a dataset of a JSON inventory; `name` is what follows "@"."""

    name: SnapshotName
    guid: GuidNumber
    createtxg: GuidNumber | None = None
    creation: Moment | None = None
    used: Number | None = None
    referenced: Number | None = None
    written: Number | None = None
    userrefs: Number | None = None
    ivsetguid: GuidNumber | None = None


class BookmarkInList(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A bookmark within a dataset of a JSON inventory; `name` is what follows "#"."""

    name: SnapshotName
    guid: GuidNumber
    createtxg: GuidNumber | None = None
    creation: Moment | None = None
    referenced: Number | None = None
    ivsetguid: GuidNumber | None = None


class DatasetInList(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A dataset of a JSON inventory, with its full name."""

    name: Dataset
    type: Literal["filesystem", "volume"] | None = None
    guid: GuidNumber | None = None
    createtxg: GuidNumber | None = None
    creation: Moment | None = None
    used: Number | None = None
    referenced: Number | None = None
    available: Number | None = None
    written: Number | None = None
    encryption: Annotated[str, Meta(max_length=100)] | None = None
    receive_resume_token: Annotated[str, Meta(max_length=10000)] | None = None
    origin: Name | None = None
    readonly: bool | None = None
    mounted: bool | None = None
    mountpoint: Annotated[str, Meta(max_length=4096)] | None = None
    snapshots: list[SnapshotInList] = field(default_factory=list)
    bookmarks: list[BookmarkInList] = field(default_factory=list)


class InventoryBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The full truth about a host: what is not in it is gone."""

    datasets: list[DatasetInList]


class SnapshotBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One snapshot, added or updated by itself."""

    name: SnapshotName
    dataset: Dataset
    pool: Name | None = None
    timestamp: When | None = None
    guid: GuidNumber | None = None
    createtxg: GuidNumber | None = None
    size: Number | None = None
    used: Number | None = None
    referenced: Number | None = None
    written: Number | None = None
    system_id: Uuid | None = None  # may be left out with an agent's key
    metadata: dict[str, Any] | UnsetType = UNSET

    def __post_init__(self) -> None:
        require_modest(self.metadata or {})


class MemberBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A system in a group, and the dataset that its copies lie below."""

    root: Root | None = None


class GroupBody(GroupOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A sync group, whole: what is left out gets its default."""

    name: GroupName
    directional: bool | None = None  # None: true when there is a hub
    hub_system_id: Uuid | None = None
    system_ids: Annotated[list[Uuid], Meta(max_length=MOST_SYSTEMS)] = field(default_factory=list)
    members: Annotated[dict[Uuid, MemberBody], Meta(max_length=MOST_SYSTEMS)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_modest()


class GroupChanges(GroupBody, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The fields of a sync group to change; the others stay. What GET shows beside is taken, and changes nothing."""

    name: GroupName | UnsetType = UNSET  # type: ignore[assignment]  # all may be left out here
    id: Any = UNSET
    source: Any = UNSET
    expected: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET


class MembershipBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A system that joins a group."""

    system_id: Uuid
    root: Root | None = None


class ProgressBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How far a transfer is."""

    bytes_done: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    bytes_total: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class ResolutionData(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Who wins (for manual), and whether the losers' own snapshots may be destroyed."""

    system_id: Uuid | None = None
    discard: bool = False


class ResolveBody(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How a conflict is to be resolved."""

    strategy: Literal["use_newest", "use_largest", "use_majority", "manual", "ignore"]
    resolution_data: ResolutionData = field(default_factory=ResolutionData)


# --- what stands after the question mark ---------------------------------------------------------


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing may stand there."""


class Page(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A part of a list."""

    limit: Limit = 100
    offset: Offset = 0


class SnapshotQuery(Page, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which snapshots to list."""

    system_id: Uuid | None = None
    pool: Name | None = None
    dataset: Dataset | None = None
    name: SnapshotName | None = None
    guid: Guid | None = None
    since: When | None = None
    until: When | None = None


class HistoryQuery(Page, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which part of the history to show."""

    system_id: Uuid | None = None
    dataset: Dataset | None = None
    days: Days = 30


class StatisticsQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which datasets to count."""

    system_id: Uuid | None = None
    dataset: Dataset | None = None
    days: Days = 30


class ColumnsQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The columns of a raw listing, in order."""

    columns: str | None = None


class AcceptQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which dataset's deletions to accept; none named: all of the system's."""

    dataset: Dataset | None = None


class GraceQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How long the old key stays valid."""

    grace_s: Annotated[int, Meta(ge=0, le=LONGEST_GRACE_S)] | None = None


class OfSystem(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One system's part."""

    system_id: Uuid | None = None


class StateQuery(Page, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which sync states to list."""

    sync_group_id: Uuid | None = None
    system_id: Uuid | None = None
    dataset: Dataset | None = None
    snapshot_id: Uuid | None = None
    status: Literal["in_sync", "out_of_sync", "syncing", "conflict", "error"] | None = None
    per: Literal["dataset", "snapshot"] = "dataset"


class ConflictQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which conflicts to show."""

    status: Literal["open", "pending", "resolved", "ignored"] | None = None


class ResolveQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Whether to record the resolution or only to show it."""

    dry_run: bool = False


class EventQuery(Page, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which events to list."""

    what: Name | None = None
    who: Name | None = None
    system_id: Uuid | None = None
    sync_group_id: Uuid | None = None
    since: When | None = None
    until: When | None = None


# --- what stands in the headers ------------------------------------------------------------------


class LeaseHeaders(Struct, kw_only=True, frozen=True):
    """What shows that the caller holds the lease."""

    lease_token: Annotated[str, Meta(description="the lease_token that starting it answered")] = field(
        default="", name="X-Lease-Token"
    )


class FinishHeaders(LeaseHeaders, kw_only=True, frozen=True):
    """What shows that a transfer arrived, too."""

    received_guid: Annotated[str, Meta(description="after a transfer: the newest guid on the target")] = field(
        default="-", name="X-Received-Guid"
    )
