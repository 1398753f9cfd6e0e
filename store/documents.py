"""What is kept: one msgspec Struct per kind of document, as it stands in the JSON files.

Every document has an `id` by which its table finds it. Moments are aware datetimes in UTC, RFC 3339 in the file;
snapshot rows keep Unix seconds, as `zfs list -p` prints them. Guids and createtxgs are decimal strings where they
leave this process, since many JSON readers round integers above 2^53; createtxg is an integer in a row.
"""

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

Role = Literal["admin", "agent", "viewer", "enroll"]


class System(Struct, kw_only=True, frozen=True):
    """A machine with an agent."""

    id: str
    hostname: str
    platform: str = "linux"
    ssh_hostname: str | None = None
    ssh_user: str | None = None
    ssh_port: int = 22
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any] = field(default_factory=dict)


class Key(Struct, kw_only=True, frozen=True):
    """An API key: what is needed to know it again, and no more."""

    id: str  # the part before the dot
    role: Role
    system_id: str | None = None  # for an agent's
    label: str = ""
    hash: str  # HMAC-SHA-256 of the secret, hex
    created_at: datetime
    expires_at: datetime | None = None  # the end of its grace, once rotated


class SigningKey(Struct, kw_only=True, frozen=True):
    """What makes a key that signs plans, together with the service's secret: on its own it is worth nothing."""

    id: str  # random
    made_at: datetime
    signs_from: datetime


class Group(Struct, kw_only=True, frozen=True):
    """A sync group that was made over the API. Those of zfs_sync.yaml are never stored."""

    id: str
    name: str
    spec: dict[str, Any]  # the other fields, as the API takes them
    created_at: datetime
    updated_at: datetime


class Heartbeat(Struct, kw_only=True, frozen=True):
    """What changes with each call of an agent."""

    id: str  # the system's
    last_seen_at: datetime
    confirmed_at: datetime | None = None  # when a report or a digest last said that the inventory still holds
    reported_at: datetime | None = None  # when the last full report came, also one that said nothing new
    agent_version: str | None = None
    zfs_version: str | None = None
    clock_ahead_s: int | None = None  # the system's clock against ours, by its last heartbeat's Date header
    metadata: dict[str, Any] = field(default_factory=dict)


class SnapshotRow(Struct, array_like=True, frozen=True, gc=False):
    """A snapshot in an inventory. `-` columns and columns not asked for are None."""

    name: str  # after "@"
    guid: str  # "" for one known by name only
    createtxg: int | None
    creation: int | None
    used: int | None
    referenced: int | None
    written: int | None
    userrefs: int | None
    ivsetguid: str | None
    first_seen: int  # Unix seconds: the report it first stood in
    changed: int  # Unix seconds: the report that last changed this row


class BookmarkRow(Struct, array_like=True, frozen=True, gc=False):
    """A bookmark in an inventory."""

    name: str  # after "#"
    guid: str
    createtxg: int | None
    creation: int | None
    referenced: int | None
    ivsetguid: str | None


class DatasetDoc(Struct, kw_only=True, frozen=True):
    """A dataset of one system with its snapshots and bookmarks, in the order they were listed."""

    id: str  # the full name
    reported: bool = True  # False: only its snapshots were listed, not its own row
    type: str | None = None  # filesystem or volume
    guid: str | None = None
    createtxg: int | None = None
    creation: int | None = None
    used: int | None = None
    referenced: int | None = None
    available: int | None = None
    written: int | None = None
    encryption: str | None = None
    receive_resume_token: str | None = None
    origin: str | None = None
    readonly: bool | None = None
    mounted: bool | None = None
    mountpoint: str | None = None
    snapshots: list[SnapshotRow] = field(default_factory=list)
    bookmarks: list[BookmarkRow] = field(default_factory=list)
    snapshot_metadata: dict[str, dict[str, Any]] | UnsetType = UNSET  # by guid, or "@name" for one without
    absent: bool = False  # its pool was missing from the last report: kept, since what it holds is still needed


class NamesRow(Struct, array_like=True, frozen=True, gc=False):
    """What a snapshot in an inventory goes by."""

    name: str
    guid: str


class DatasetNames(Struct, frozen=True):
    """Of a dataset's document, what its snapshots go by: the rest is passed over."""

    snapshots: list[NamesRow]


class Summary(Struct, kw_only=True, frozen=True):
    """What comparing two replicas of a dataset needs at first: equal digests, equal histories."""

    id: str  # the dataset's full name
    count: int  # snapshots
    guids_digest: str  # SHA-256 over the snapshots' guids, ivsetguids and names, oldest first
    newest: str | None  # guid of the newest snapshot
    newest_creation: int | None
    written: int | None
    receive_resume_token: str | None
    latest_creation: int | None = None  # of any snapshot
    # The dataset with its newest snapshot alone, where each has a guid and a name that no other has, and a createtxg;
    # and the checksum of the document that this was taken from. Where that is another by now, somebody changed it.
    outline: DatasetDoc | None = None
    checksum: int | None = None


class Report(Struct, kw_only=True, frozen=True):
    """A system's last full report, apart from its datasets. The table has one document, `current`."""

    id: str  # "current"
    reported_at: datetime
    changed_at: datetime  # the last report that changed anything
    columns: list[str]  # what was asked of zfs list, in order
    digest: str | None  # of the fast listing; None once single snapshots came or went
    snapshot_count: int
    dataset_count: int
    body_digest: str | None = None  # SHA-256 of the report as it was sent: the same again needs no reading
    led: list[str] | None = None  # ids of the groups whose hub the system was; None: an older version did not say


class GuardFlag(Struct, kw_only=True, frozen=True):
    """A dataset that lost most of its snapshots at once: nothing of it is deleted until an admin accepts."""

    id: str  # the dataset's full name
    raised_at: datetime
    lost: int
    had: int


class Lease(Struct, kw_only=True, frozen=True):
    """A step that an agent is carrying out."""

    id: str  # the action's
    token: str
    group_id: str
    action: dict[str, Any]  # as the agent got it
    executor_system_id: str
    source_system_id: str | None
    target_system_id: str
    source_dataset: str | None
    target_dataset: str
    base_guid: str | None
    end_guid: str | None
    delivers: list[SnapshotRow]
    started_at: datetime
    expires_at: datetime
    bytes_done: int | None = None
    bytes_total: int | None = None


class Credit(Struct, kw_only=True, frozen=True):
    """A step that finished well: its target counts as changed until its next inventory."""

    id: str  # the action's
    token: str
    group_id: str
    action: dict[str, Any]
    target_system_id: str
    delivers: list[SnapshotRow]
    finished_at: datetime


class Failure(Struct, kw_only=True, frozen=True):
    """A step that failed."""

    id: str  # the action's
    token: str
    group_id: str
    target_system_id: str
    target_dataset: str
    count: int
    exit_status: int
    message: str
    failed_at: datetime
    retry_at: datetime
    executor_system_id: str = ""  # whose attempt it was


class Total(Struct, kw_only=True, frozen=True):
    """What was transferred into one system in one sync group, since the store was made."""

    id: str  # "<group's id> <target system's id>"
    group_id: str
    target_system_id: str
    bytes_done: int = 0  # of transfers that ended well or badly, as far as their agents told
    done: int = 0
    failed: int = 0


class SyncState(Struct, kw_only=True, frozen=True):
    """When a dataset on a system was last checked and last brought up to date."""

    id: str
    last_check: datetime | None = None
    last_sync: datetime | None = None
    since: datetime | None = None  # when its status became what it is
    status: str = ""


class Decision(Struct, kw_only=True, frozen=True):
    """What was decided about a conflict, or only when it was first seen (strategy "")."""

    id: str  # the conflict's
    detected_at: datetime
    path: str = ""
    strategy: str = ""
    winner: str | None = None
    discard: bool = False
    losers: list[dict[str, Any]] = field(default_factory=list)
    decided_by: str | None = None  # a key's id
    decided_at: datetime | None = None
    resolved_at: datetime | None = None
    conflict: dict[str, Any] = field(default_factory=dict)  # as it was shown when it was decided


class PlanStamp(Struct, kw_only=True, frozen=True):
    """When a system's plan in a group became what it is: equal plans carry equal times."""

    id: str  # the system's
    digest: str
    changed_at: datetime


class GoneRow(Struct, kw_only=True, frozen=True):
    """Snapshots of one dataset that one report no longer listed."""

    id: str
    dataset: str
    at: datetime
    rows: list[SnapshotRow]
    hub_of: list[str] = field(default_factory=list)  # ids of the groups whose hub the system was then


class Alert(Struct, kw_only=True, frozen=True):
    """Something that somebody should know: waiting out its grace, in force, or over and still to be told."""

    id: str  # what it is about: the same trouble, the same id
    kind: str
    severity: str  # warning or critical
    text: str
    group_id: str | None = None
    system_id: str | None = None
    dataset: str | None = None  # its path in the group, or the full name on the system
    since: datetime  # when it was first found
    raised_at: datetime | None = None  # None: it has not lasted long enough yet
    recovered_at: datetime | None = None
    told: bool = False  # that it was raised


class Message(Struct, kw_only=True, frozen=True):
    """A message that is still to be delivered over one channel."""

    id: str
    channel: str
    body: dict[str, Any]
    made_at: datetime
    attempts: int = 0
    next_at: datetime
    error: str = ""  # of the last attempt


class Tick(Struct, kw_only=True, frozen=True):
    """When some process last looked at what is late. The table has one document, `last`."""

    id: str  # "last"
    started_at: datetime
    by: str  # which process of which machine
    looked_at: datetime | None = None  # the moment as of which the alerts are
    digest_on: str | None = None  # the day of the last digest
    tidied_on: str | None = None  # the day when old events and history were last dropped


class Attempts(Struct, frozen=True):
    """How often somebody tried something of which there may be too much, in this period and in the one before."""

    id: str  # "<what> <address or key's id>"
    started_at: datetime
    ends_at: datetime  # from then on it does not count
    count: int
    earlier: int


class Event(Struct, kw_only=True, frozen=True):
    """Who did what, from where, when."""

    id: str  # sorts by time
    at: datetime
    what: str  # e.g. "system.registered", "conflict.resolved", "auth.refused"
    who: str | None = None  # a key's id
    role: str | None = None
    address: str | None = None
    system_id: str | None = None
    sync_group_id: str | None = None
    subject: str | None = None  # what it was done to
    detail: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None
