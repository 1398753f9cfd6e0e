"""The planner's values: what is known of a sync group, and what should happen next.

Everything here is frozen. Times are Unix seconds (UTC), sizes are bytes, guids are decimal strings,
histories are oldest first. `None` means unknown, which is never the same as zero: nothing is deleted,
and nothing is judged to fit, on an unknown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol

StepType = Literal[
    "create",  # a full stream
    "sync",  # an increment
    "resume",  # the rest of a stream that broke off
    "delete",
    "abort_receive",
    "create_parent",
    "bookmark",
    "release",  # a bookmark that an earlier plan had made goes
    "rename",
    "promote",
    "rollback",
]
ConflictType = Literal["diverged", "orphaned", "missing"]
Severity = Literal["low", "medium", "high"]
Strategy = Literal["use_newest", "use_largest", "use_majority", "manual", "ignore"]
CellStatus = Literal["in_sync", "out_of_sync", "syncing", "conflict", "error"]


# --- what is known -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as its own pool lists it."""

    name: str  # what follows "@"
    guid: str  # uint64 in decimal; survives send and receive, so equal guids mean equal contents on any pool
    createtxg: int | None = None  # orders snapshots within one pool; means nothing across pools
    creation: int | None = None  # Unix seconds; survives send and receive
    used: int | None = None
    referenced: int | None = None
    written: int | None = None  # since the snapshot before it
    ivsetguid: str | None = None  # raw streams compare (guid, ivsetguid); None where not asked or not encrypted
    userrefs: int | None = None  # holds
    by_name: bool = False  # reported without a guid ("identity": "name"): good enough to show, never to act on


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A bookmark: it can be a base on the source, never on the target."""

    name: str  # what follows "#"
    guid: str
    createtxg: int | None = None
    creation: int | None = None
    ivsetguid: str | None = None


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of snapshots without looking at them: of some where each has a guid and a name that no other has,
    and a createtxg by which they are in order."""

    count: int
    digest: str  # by `outlines.digest_of`: equal ones, the same snapshots
    newest: Snapshot
    latest_creation: int | None  # of them all; None: of none is it known
    prefixes: dict[int, str] = field(default_factory=dict, repr=False, compare=False)  # digests of the first so many


class Source(Protocol):
    """Where the snapshots of an outlined replica are read from."""

    def snapshots(self) -> tuple[Snapshot, ...]:
        """All of them, oldest first."""

    def names(self) -> Mapping[str, str]:
        """Their names by guid, which takes a fraction of the time."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A dataset on one system, with its history."""

    dataset: str  # the full name on that system, pool included
    kind: Literal["filesystem", "volume"] | None = None
    guid: str | None = None  # of the dataset; a re-created one has another
    snapshots: tuple[Snapshot, ...] = ()  # oldest first, by createtxg
    bookmarks: tuple[Bookmark, ...] = ()
    written: int | None = None  # since its newest snapshot
    used: int | None = None
    referenced: int | None = None
    available: int | None = None  # what the pool still has room for here
    encryption: str | None = None  # "off" or a cipher
    resume_token: str | None = None
    origin: str | None = None  # "pool/ds@snap" it is a clone of
    readonly: bool | None = None
    mounted: bool | None = None
    mountpoint: str | None = None
    reported: bool = True  # False: only its snapshots were listed, not the dataset's own row
    # what finds snapshots and bookmarks, noted by `histories`: a replica is planned with again and again
    index: dict[str, int] | None = field(default=None, init=False, repr=False, compare=False)
    marks: dict[str, Bookmark] | None = field(default=None, init=False, repr=False, compare=False)
    # set by `unread`: a replica in sync with the leading one is planned by its outline, its snapshots never looked at
    outline: Outline | None = field(default=None, init=False, repr=False, compare=False)
    source: Source | None = field(default=None, init=False, repr=False, compare=False)
    names: Mapping[str, str] | None = field(default=None, init=False, repr=False, compare=False)  # by guid, once asked

    @property
    def newest(self) -> Snapshot | None:
        """Its last snapshot."""
        if self.outline is not None:
            return self.outline.newest
        return self.snapshots[-1] if self.snapshots else None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The snapshots of one that was left unread, once they are asked for."""
            if name != "snapshots" or self.source is None:
                raise AttributeError(name)
            object.__setattr__(self, name, self.source.snapshots())
            return self.snapshots


def unread(replica: Replica, outline: Outline, source: Source) -> Replica:
    """The replica itself, whose snapshots are read when somebody asks for them."""
    object.__setattr__(replica, "outline", outline)
    object.__setattr__(replica, "source", source)
    object.__delattr__(replica, "snapshots")
    return replica


@dataclass(frozen=True, slots=True)
class Member:
    """A system in a sync group, and all that it last reported."""

    system_id: str
    hostname: str
    root: str | None = None  # paths count below it; None: the full name counts, pool included
    replicas: Mapping[str, Replica] = field(default_factory=dict)  # every dataset reported, by full name
    absent: Mapping[str, Replica] = field(default_factory=dict)  # last known datasets of pools not imported now
    reported_at: float | None = None  # the last full inventory; None: never
    confirmed_at: float | None = None  # the last report or digest that said it still holds
    last_seen_at: float | None = None
    ssh_hostname: str | None = None  # None: the hostname
    ssh_user: str | None = None
    ssh_port: int = 22


@dataclass(frozen=True, slots=True)
class Policy:
    """What a sync group wants, with every default filled in."""

    group_id: str
    name: str
    enabled: bool = True
    directional: bool = False
    hub: str | None = None  # a system_id; set exactly when directional
    order: tuple[str, ...] = ()  # system_ids as configured; earlier is preferred
    include: tuple[str, ...] = ("**",)  # globs over dataset paths below the root
    exclude: tuple[str, ...] = ()
    snapshot_include: tuple[str, ...] = ("*",)
    snapshot_exclude: tuple[str, ...] = ()
    min_age_s: int = 0
    initial: Literal["all", "newest"] = "all"  # where a replica starts: the oldest wanted, or only the newest
    interval_s: int = 3600
    grace_s: int = 0
    stale_after_s: int = 86400
    heartbeat_timeout_s: int = 300
    transfer: Literal["push", "pull"] = "push"
    raw: Literal["auto", "always", "never"] = "auto"
    on_conflict: Strategy = "manual"
    delete: Literal["never", "mirror"] = "never"
    max_transfers: int = 2
    paused_systems: frozenset[str] = frozenset()
    paused_datasets: tuple[str, ...] = ()  # globs
    properties: tuple[tuple[str, str], ...] = ()  # for new datasets
    window_open: bool = True  # False: outside the group's transfer window


@dataclass(frozen=True, slots=True)
class Lease:
    """A step that an agent is carrying out now. Any group's: they share pools and datasets."""

    action_id: str
    group_id: str
    executor: str
    source: str | None
    target: str
    target_dataset: str
    source_dataset: str | None
    base_guid: str | None
    end_guid: str | None
    expires_at: float
    type: StepType | None = None
    new_name: str | None = None  # that a rename gives its target


@dataclass(frozen=True, slots=True)
class Credit:
    """A step that finished well on its target after that system's last full inventory.

    `step` is what was done; the planner sees the target as if its inventory already showed it.
    """

    step: "Step"
    delivered: tuple[Snapshot, ...]  # what the stream brought, oldest first
    finished_at: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed, and when it may be tried again."""

    action_id: str
    count: int
    failed_at: float
    retry_at: float
    message: str
    executor: str = ""  # whose attempt it was: another system may try at once; "" holds everybody back
    target: str = ""  # a system_id
    target_dataset: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """A dataset whose mass deletion no admin has accepted yet: nothing of it is deleted anywhere."""

    system_id: str
    dataset: str  # the full name there
    raised_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Loser:
    """One replica that gives way in a conflict, and the evidence it was judged by."""

    system_id: str
    dataset: str
    base_guid: str | None  # the common snapshot; None: nothing is common
    removable_guids: tuple[str, ...]  # its own snapshots after the base: all that a discard may remove
    written: int | None
    aside: str  # the dataset's new name under keep
    to_come_at: int | None = None  # creation of the newest that the winner had on top of the base; None: nothing


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person (or the group's on_conflict) decided about one conflict."""

    conflict_id: str
    path: str
    strategy: Strategy
    winner: str | None  # a system_id; None for ignore
    discard: bool
    losers: tuple[Loser, ...]
    automatic: bool = False  # by the group's on_conflict


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another group with some of the same systems: what it needs stays, and what it decided comes first."""

    policy: Policy
    members: tuple[Member, ...]
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """A snapshot that a system once reported and later did not."""

    system_id: str
    dataset: str
    guid: str
    name: str = ""  # what followed "@"
    hub_of: tuple[str, ...] = ()  # ids of the groups whose hub the system was then
    at: float = 0.0  # when it was found gone


class Past(Protocol):
    """What went, found by where it was. When something goes an inventory changes, too, so that no plan need be made
    anew for another past alone."""

    def guids(self, system_id: str, dataset: str, hub_of: str | None = None) -> Iterable[str]:
        """What a system once reported of a dataset and later did not; if asked so, while it was a group's hub."""

    def since(self, system_id: str, dataset: str, moment: float) -> Iterable[Gone]:
        """That which went at a moment or later."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A past that is all there."""

    rows: tuple[Gone, ...] = ()

    def guids(self, system_id: str, dataset: str, hub_of: str | None = None) -> Iterable[str]:
        """Those of one dataset."""
        return (row.guid for row in self.since(system_id, dataset, -inf) if hub_of in (None, *row.hub_of))

    def since(self, system_id: str, dataset: str, moment: float) -> Iterable[Gone]:
        """Those of one dataset."""
        return (r for r in self.rows if (r.system_id, r.dataset) == (system_id, dataset) and r.at >= moment)


@dataclass(frozen=True, slots=True)
class Work:
    """What is under way, done, failed and decided: the witness's own memory beside the inventories."""

    leases: tuple[Lease, ...] = ()
    credits: tuple[Credit, ...] = ()
    failures: tuple[Failure, ...] = ()
    guards: tuple[Guard, ...] = ()
    decisions: tuple[Decision, ...] = ()
    gone: Past = Listed()
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def neighbours_in_order(self) -> list[Neighbour]:
        """By their ids, since the first one found is named."""
        return sorted(self.neighbours, key=lambda each: each.policy.group_id)


# --- what should happen --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One thing for one agent to do. `action_id` is stable for the same group, path, target, type, base and end."""

    action_id: str
    type: StepType
    path: str  # the dataset's path below the members' roots; "" is the root itself
    executor: str  # a system_id: who runs it
    target: str  # a system_id: whose pool it changes
    target_dataset: str
    reason: str  # a sentence a homelab admin understands
    source: str | None = None  # a system_id
    source_dataset: str | None = None
    kind: Literal["filesystem", "volume"] | None = None
    end: Snapshot | None = None  # as the source names it
    base: Snapshot | Bookmark | None = None  # as the source names it
    intermediates: bool = False  # -I rather than -i
    delivers: tuple[Snapshot, ...] = ()  # what the target has afterwards that it lacked, oldest first, or as a bookmark
    raw: bool = False
    embedded: bool = False  # -e is allowed
    origin: str | None = None  # receive as a clone of this "dataset@snapshot" on the target
    resume_token: str | None = None
    new_name: str | None = None  # rename: the name the dataset gets; bookmark, release: "dataset#name"
    # the stated guids, and nothing else, may be removed: delete, rollback, release; for the other steps that change
    # a dataset, what its history must still be
    expected_guids: tuple[str, ...] = ()
    expected_written: int | None = None  # the `written` it was judged by
    properties: tuple[tuple[str, str], ...] = ()  # for a dataset that the step creates
    estimated_size_bytes: int | None = None
    priority: int = 0  # 0 goes first; its place in the plan
    destructive: bool = False
    depends_on: tuple[str, ...] = ()  # action_ids
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """A dataset on one target that gets no step, and why."""

    path: str
    dataset: str  # the target's name for it
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cell:
    """Where one dataset stands on one system of the group."""

    path: str
    system_id: str
    dataset: str
    status: CellStatus
    why: str  # "" when all is well
    is_source: bool = False
    newest: Snapshot | None = None  # what this system has last
    newest_common: Snapshot | None = None  # with the source
    missing: tuple[Snapshot, ...] = ()  # wanted ones it lacks, as the source names them, oldest first
    lag_s: int = 0  # age of the oldest wanted snapshot after the newest common one that it lacks
    late: bool = False
    bytes_to_send: int | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One system's part in a conflict."""

    system_id: str
    dataset: str
    head: Snapshot | None
    newest_common: Snapshot | None
    only_here: tuple[Snapshot, ...]
    written_bytes: int | None


@dataclass(frozen=True, slots=True)
class Option:
    """One way out of a conflict: who wins, what would run, and what it would cost."""

    strategy: Strategy
    winner: str | None
    discard: bool
    losers: tuple[Loser, ...]
    steps: tuple[Step, ...]
    lost: tuple[Snapshot, ...]  # what goes for good; empty under keep
    lost_bytes: int | None
    send_bytes: int | None
    cost: str  # in words: what is set aside, unmounted, sent again
    refused: str | None = None  # why this strategy cannot decide here (a tie, nothing common ...)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Histories that do not fit together. `id` is stable while its evidence is the same."""

    id: str
    type: ConflictType
    path: str
    severity: Severity
    sides: tuple[Side, ...]
    snapshot_names: tuple[str, ...]
    reason: str
    status: Literal["open", "pending", "ignored"] = "open"
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A group's next steps in order; what was left out and why; and where everything stands."""

    steps: tuple[Step, ...] = ()
    skips: tuple[Skip, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    cells: tuple[Cell, ...] = ()
    # what the group's on_conflict decided now; to be recorded before one of its steps starts, since the conflict
    # is no longer seen once the first of them is done
    decided: tuple[Decision, ...] = ()
    waiting: tuple[str, ...] = ()  # paths of which the hub's history is not known now, so that no conflict is seen
    # before then, time alone changes nothing in a plan of the same facts but the lags of its cells
    until: float = field(default=inf, compare=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one snapshot, or bookmark, on one system may go."""

    system_id: str
    dataset: str
    snapshot: Snapshot | Bookmark
    needed: bool
    reason: str
    needed_by: tuple[str, ...] = ()  # system_ids


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """What a receive_resume_token says of the stream it continues."""

    to_name: str  # "tank/data@snap", as the sender called it
    to_guid: str
    from_guid: str | None  # None: a full stream
    bytes_done: int
    raw: bool
    embedded: bool = False
    large_blocks: bool = False
    compressed: bool = False
