"""What callers receive, as TypedDicts: mypy holds the handlers to them, and whoever documents the API reads them.

Sizes are bytes; guids and createtxgs are decimal strings, since many JSON readers round integers above 2^53. Unless
said otherwise None means that it is unknown or does not apply.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from config.groups import DatasetGlobs, Paused, SnapshotGlobs
from handlers.bodies import Dataset, Guid, Hostname, Root, SnapshotName, Uuid, When

Connectivity = Literal["online", "offline", "unknown"]
Identity = Literal["guid", "name"]  # what a snapshot is known by; nothing is destroyed by its name
Count = Annotated[int, Meta(ge=0, examples=[2])]


class FieldError(TypedDict):
    """What is wrong with one field, line or parameter."""

    loc: Annotated[str, Meta(examples=["snapshots[3].guid"])]
    msg: Annotated[str, Meta(examples=["0 is no guid"])]


class Error(TypedDict):
    """Why a request was refused."""

    detail: Annotated[str, Meta(examples=["what was asked for cannot be done, and the way out"])]
    status_code: int
    errors: NotRequired[list[FieldError]]


# --- the witness itself --------------------------------------------------------------------------


class Health(TypedDict):
    """The witness answers."""

    status: Literal["ok"]
    service: Literal["zfs-sync"]


class Liveness(TypedDict):
    """The process lives."""

    status: Literal["alive"]


class Readiness(TypedDict):
    """Whether the store can be read and written; `groups_error` is what is wrong with zfs_sync.yaml's groups.

    `warnings` say why nobody may hear of alerts.
    """

    status: Literal["ready", "not ready"]
    groups_error: str | None
    warnings: list[str]
    detail: NotRequired[str]
    status_code: NotRequired[int]


class Event(TypedDict):
    """Who did what, from where, when."""

    id: str
    at: When
    what: Annotated[str, Meta(examples=["system.registered"])]
    who: Annotated[str | None, Meta(description="the id of a key")]
    role: str | None
    address: str | None
    system_id: Uuid | None
    sync_group_id: Uuid | None
    subject: Annotated[str | None, Meta(description="what it was done to")]
    detail: dict[str, Any]
    request_id: str | None


# --- systems -------------------------------------------------------------------------------------


class System(TypedDict):
    """A machine with an agent."""

    id: Uuid
    hostname: Hostname
    platform: Annotated[str, Meta(examples=["linux"])]
    connectivity_status: Connectivity
    ssh_hostname: str | None
    ssh_user: str | None
    ssh_port: int
    last_seen: When | None
    created_at: When
    updated_at: When
    metadata: dict[str, Any]


class RegisteredSystem(System):
    """A system with its API key, which is shown this once."""

    api_key: str


class SystemHealth(TypedDict):
    """Whether a system is there, and how old what it reported is."""

    system_id: Uuid
    hostname: Hostname
    connectivity_status: Connectivity
    last_seen: When | None
    seconds_since_last_seen: int | None
    inventory_age_s: int | None
    snapshot_count: Count


class HeartbeatAnswer(TypedDict):
    """What a calling agent is told."""

    status: Connectivity
    last_seen: When
    inventory: Annotated[Literal["current", "stale"], Meta(description="stale: report it in full")]
    groups: list[Uuid]
    next_sync_in_s: int
    hostname: Hostname


class RotatedKey(TypedDict):
    """A system's new key, which is shown this once."""

    system_id: Uuid
    api_key: str
    old_key_valid_until: When


class InventoryCounts(TypedDict):
    """What a report changed."""

    added: Count
    removed: Count
    unchanged: Count
    datasets: Count
    snapshots: Count
    digest: Annotated[str | None, Meta(description="SHA-256 of the fast listing; None where a createtxg is missing")]
    guarded: Annotated[list[str], Meta(description="datasets whose deletions wait for an admin")]
    not_imported: Annotated[list[str], Meta(description="pools that are known, and not in this report")]


class AcceptedGuards(TypedDict):
    """The datasets whose mass-delete guard was lifted."""

    system_id: Uuid
    hostname: Hostname
    accepted: list[str]


class InventorySnapshot(TypedDict):
    """A snapshot of an inventory; `creation` is in Unix seconds."""

    name: SnapshotName
    guid: Guid | None
    createtxg: str | None
    creation: int | None
    used: int | None
    referenced: int | None
    written: int | None
    userrefs: int | None
    ivsetguid: str | None
    identity: NotRequired[Identity]


class InventoryBookmark(TypedDict):
    """A bookmark of an inventory."""

    name: SnapshotName
    guid: Guid | None
    createtxg: str | None
    creation: int | None
    referenced: int | None
    ivsetguid: str | None


class InventoryDataset(TypedDict):
    """A dataset of an inventory."""

    name: Dataset
    type: str | None
    guid: Guid | None
    createtxg: int | None
    creation: int | None
    used: int | None
    referenced: int | None
    available: int | None
    written: int | None
    encryption: str | None
    receive_resume_token: str | None
    origin: str | None
    readonly: bool | None
    mounted: bool | None
    mountpoint: str | None
    snapshots: list[InventorySnapshot]
    bookmarks: list[InventoryBookmark]


class Inventory(TypedDict):
    """The last report, as PUT takes it."""

    datasets: list[InventoryDataset]


# --- snapshots -----------------------------------------------------------------------------------


class Snapshot(TypedDict):
    """A snapshot on one system."""

    id: Uuid
    name: SnapshotName
    pool: str
    dataset: Dataset
    timestamp: Annotated[When | None, Meta(description="when ZFS created it")]
    guid: Guid | None
    createtxg: str | None
    size: int | None
    referenced: int | None
    written: int | None
    system_id: Uuid
    identity: Identity
    created_at: Annotated[When | None, Meta(description="when it was first reported")]
    updated_at: When | None
    metadata: dict[str, Any]


class HistoryEntry(TypedDict):
    """A snapshot that appeared or went."""

    event: Literal["appeared", "gone"]
    at: When
    system_id: Uuid
    pool: str
    dataset: Dataset
    name: SnapshotName
    guid: Guid | None
    identity: Identity
    timestamp: When | None


class Statistics(TypedDict):
    """Figures over a dataset's snapshots."""

    system_id: Uuid
    pool: str
    dataset: Dataset
    count: Count
    oldest: When | None
    newest: When | None
    total_size: int
    referenced: int | None
    used: int | None
    snapshots_per_day: float
    growth: Annotated[int | None, Meta(description="bytes, over the days asked for")]
    days: int


# --- sync groups ---------------------------------------------------------------------------------


class GroupMember(TypedDict):
    """Where a system's copies lie."""

    root: Root | None


class SyncGroup(TypedDict):
    """A sync group, every default filled in."""

    id: Uuid
    name: Annotated[str, Meta(examples=["media"])]
    description: str
    enabled: bool
    datasets: DatasetGlobs
    snapshots: SnapshotGlobs
    sync_interval_seconds: int
    stale_after_seconds: int
    transfer: Literal["push", "pull"]
    raw: Literal["auto", "always", "never"]
    on_conflict: Literal["manual", "use_newest", "use_largest", "use_majority", "ignore"]
    delete: Literal["never", "mirror"]
    max_transfers: int
    grace_s: int
    window: str | None
    rate_limit: int | None
    paused: Paused
    properties: dict[str, str]
    metadata: dict[str, Any]
    directional: bool
    hub_system_id: Uuid | None
    system_ids: list[Uuid]
    members: dict[Uuid, GroupMember]
    expected: Annotated[list[Hostname], Meta(description="named by the file, and not registered yet")]
    source: Literal["config", "api"]
    created_at: When | None
    updated_at: When | None
