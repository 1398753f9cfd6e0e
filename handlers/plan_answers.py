"""What callers receive of plans, states and conflicts, as TypedDicts; handlers.answers has the rest."""

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from handlers.answers import Count, Identity
from handlers.bodies import Dataset, Guid, Hostname, Root, SnapshotName, Uuid, When

CellStatus = Literal["in_sync", "out_of_sync", "syncing", "conflict", "error"]
ActionId = Uuid


# --- what should run -----------------------------------------------------------------------------


class ActionLease(TypedDict):
    """Who runs an action now."""

    system_id: Uuid
    expires_at: When


class Action(TypedDict):
    """One step of a plan; every field is always there."""

    action_id: ActionId
    action_type: Annotated[str, Meta(examples=["sync"])]
    sync_group_id: Uuid
    executor_system_id: Uuid
    source_system_id: Uuid | None
    target_system_id: Uuid
    pool: str | None
    dataset: Dataset | None
    target_pool: str | None
    target_dataset: Dataset
    snapshot_name: SnapshotName | None
    snapshot_id: Uuid | None
    snapshot_guid: Guid | None
    incremental_base: SnapshotName | None
    incremental_base_guid: Guid | None
    base_is_bookmark: bool
    origin: str | None
    is_incremental: bool
    snapshot_count: Count
    estimated_size: int | None
    source_ssh_hostname: str | None
    source_ssh_user: str | None
    source_ssh_port: int | None
    target_ssh_hostname: str | None
    target_ssh_user: str | None
    target_ssh_port: int | None
    priority: int
    reason: str
    destructive: bool
    depends_on: list[ActionId]
    lease: ActionLease | None
    sync_command: Annotated[str, Meta(description="one line of shell, ready to run")]
    commands: Annotated[list[list[str]], Meta(description="the argv lists that it was made of")]
    kind: str | None
    raw: bool
    intermediates: bool
    embedded: bool
    resume_token: str | None
    new_name: str | None
    expected_guids: list[Guid]
    expected_written: int | None
    properties: dict[str, str]
    rate_limit: int | None


class Skipped(TypedDict):
    """What is not planned, and why."""

    dataset: Annotated[str, Meta(description="the target's, in full")]
    target_system_id: Uuid
    reason: str
    path: Annotated[str, Meta(description="below the roots")]


class Instructions(TypedDict):
    """A plan. Equal plans are equal bytes; `timestamp` is when it last changed."""

    system_id: Annotated[Uuid | None, Meta(description="whose steps these are; None: all members'")]
    timestamp: When
    action_count: Count
    actions: list[Action]
    skipped: list[Skipped]
    plan_digest: str
    sync_group_id: NotRequired[Uuid]


class LeasedAction(Action):
    """An action that the caller may run until its lease ends."""

    lease_token: str
    lease_expires_at: When


class Progress(TypedDict):
    """A lease, renewed."""

    action_id: ActionId
    lease_expires_at: When


class FinishedAction(TypedDict):
    """How an action ended: done, at finished_at; or failed, for the how manieth time, why, and when it is due again."""

    action_id: ActionId
    status: Literal["done", "failed"]
    finished_at: NotRequired[When]
    failures: NotRequired[int]
    message: NotRequired[str]
    retry_at: NotRequired[When]


# --- where everything stands ---------------------------------------------------------------------


class NamedSnapshot(TypedDict):
    """A snapshot as states and cells name it."""

    name: SnapshotName
    guid: Guid | None
    identity: Identity
    timestamp: When | None


class StatusCell(TypedDict):
    """One dataset on one system."""

    dataset: Dataset
    status: CellStatus
    is_source: bool
    newest: NamedSnapshot | None
    newest_common: NamedSnapshot | None
    newest_common_at: When | None
    lag_s: Annotated[int, Meta(description="age of the oldest wanted snapshot that is missing; 0 if none")]
    lag_snapshots: Count
    late: bool
    bytes_to_send: int | None
    why: Annotated[str, Meta(description="in words; empty when all is well")]


class StatusRow(TypedDict):
    """One dataset, by system id."""

    dataset: Annotated[str, Meta(description="below the roots")]
    systems: dict[Uuid, StatusCell]


class StatusSystem(TypedDict):
    """A column of the matrix."""

    system_id: Uuid
    hostname: Hostname
    root: Root | None
    is_hub: bool
    expected: Annotated[bool, Meta(description="named by the file, and not registered yet")]


class StatusCounts(TypedDict, total=False):
    """How many cells are in each state that any is in."""

    in_sync: int
    out_of_sync: int
    syncing: int
    conflict: int
    error: int


class StatusSummary(StatusCounts):
    """How many cells are in each state, and the worst of them."""

    conflicts: int
    actions: int
    skipped: int
    max_lag_s: int
    late: int


class GroupStatus(TypedDict):
    """The dataset by system matrix."""

    sync_group_id: Uuid
    name: str
    enabled: bool
    checked_at: When | None
    systems: list[StatusSystem]
    datasets: list[StatusRow]
    summary: StatusSummary


class State(TypedDict):
    """A dataset's state on one system; with `?per=snapshot`, a snapshot's."""

    id: Uuid
    sync_group_id: Uuid
    system_id: Uuid
    dataset: Dataset
    path: str
    status: CellStatus
    last_sync: When | None
    last_check: When | None
    newest_common_snapshot: NamedSnapshot | None
    snapshot_id: Uuid | None
    missing_count: Count
    error_message: str | None
    snapshot_name: NotRequired[SnapshotName]
    snapshot_guid: NotRequired[Guid]


class PrunableSnapshot(TypedDict):
    """A snapshot or bookmark, and why it may go or must be kept."""

    dataset: Dataset
    name: SnapshotName
    guid: Guid | None
    reason: str
    needed_by: list[str]


class PrunableSystem(TypedDict):
    """A system's lists."""

    system_id: Uuid
    prunable: list[PrunableSnapshot]
    keep: list[PrunableSnapshot]
    prunable_bookmarks: list[PrunableSnapshot]
    keep_bookmarks: list[PrunableSnapshot]


class Prunable(TypedDict):
    """What no peer needs any more, and what must be kept."""

    sync_group_id: Uuid
    systems: list[PrunableSystem]


# --- conflicts -----------------------------------------------------------------------------------


class Evidence(NamedSnapshot):
    """A snapshot that a conflict is about."""

    size: int | None
    written: int | None


class ConflictSide(TypedDict):
    """What one system has."""

    hostname: Hostname
    dataset: Dataset
    head: Evidence | None
    newest_common: Evidence | None
    only_here: list[Evidence]
    written_bytes: int | None


class Option(TypedDict):
    """A way out: who wins, what would run, and what would be lost."""

    strategy: Literal["use_newest", "use_largest", "use_majority", "manual", "ignore"]
    winner_system_id: Uuid | None
    discard: bool
    actions: list[Action]
    lost: list[Evidence]
    lost_bytes: int | None
    send_bytes: int | None
    cost: Annotated[str, Meta(description="in words")]
    refused: Annotated[str | None, Meta(description="why this strategy cannot decide")]


class Resolution(TypedDict):
    """What was decided, by whom, when, and when the inventories proved it."""

    strategy: str | None
    winner_system_id: Uuid | None
    discard: bool
    decided_by: str | None
    decided_at: When | None
    resolved_at: When | None


class Conflict(TypedDict):
    """Histories that do not go together. The id stays the same while the evidence does."""

    id: Uuid
    type: Literal["diverged", "orphaned", "missing"]
    snapshot_name: SnapshotName | None
    snapshot_names: list[SnapshotName]
    pool: str | None
    dataset: Annotated[str, Meta(description="below the roots")]
    sync_group_id: Uuid
    systems: dict[Uuid, ConflictSide]
    severity: Literal["low", "medium", "high"]
    status: Literal["open", "pending", "resolved", "ignored"]
    detected_at: When | None
    resolution: Resolution | None
    reason: str
    options: list[Option]


class Conflicts(TypedDict):
    """The conflicts of a sync group, or (sync_group_id is None) of all that the caller may see."""

    conflicts: list[Conflict]
    count: Count
    sync_group_id: Uuid | None


class Decided(Option):
    """What was decided, or with dry_run would be."""

    id: Uuid
    sync_group_id: Uuid
    dry_run: bool
    status: Literal["open", "pending", "ignored"]
