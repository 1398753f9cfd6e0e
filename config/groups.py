"""What a sync group may say, in zfs_sync.yaml and, but for its members, over the API."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from config.kinds import (
    DatasetGlob,
    DatasetName,
    GroupName,
    Hostname,
    Period,
    PropertyName,
    PropertyValue,
    Seconds,
    SnapshotGlob,
    Transfers,
    Window,
    require_modest,
    suggestion,
)

MOST_GLOBS, MOST_SYSTEMS, MOST_PROPERTIES = 1000, 1000, 100  # of one group, in each list
MOST_GROUPS = 1000


class DatasetGlobs(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which datasets a group is about, by their path below the root."""

    include: Annotated[tuple[DatasetGlob, ...], Meta(min_length=1)] = ("**",)
    exclude: tuple[DatasetGlob, ...] = ()


class SnapshotGlobs(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which snapshots are sent. These never hide a base."""

    include: Annotated[tuple[SnapshotGlob, ...], Meta(min_length=1)] = ("*",)
    exclude: tuple[SnapshotGlob, ...] = ()
    min_age_s: Seconds = 0
    initial: Literal["all", "newest"] = "all"  # where a replica starts: the oldest wanted, or only the newest


class Paused(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What takes no part for now."""

    systems: tuple[Hostname, ...] = ()  # hostnames in the file, system ids over the API
    datasets: tuple[DatasetGlob, ...] = ()


class GroupOptions(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a sync group wants, the same in the file and over the API. None: the setting of the whole service."""

    description: Annotated[str, Meta(max_length=4096)] = ""
    enabled: bool = True
    datasets: DatasetGlobs = DatasetGlobs()
    snapshots: SnapshotGlobs = SnapshotGlobs()
    sync_interval_seconds: Period | None = None  # default_sync_interval_s
    stale_after_seconds: Period | None = None  # stale_after_s
    transfer: Literal["push", "pull"] = "push"
    raw: Literal["auto", "always", "never"] = "auto"
    on_conflict: Literal["manual", "use_newest", "use_largest", "use_majority", "ignore"] = "manual"
    delete: Literal["never", "mirror"] = "never"
    max_transfers: Transfers | None = None  # max_transfers
    grace_s: Seconds = 600
    window: Window | None = None  # None: at any time
    rate_limit: Annotated[int, Meta(ge=1, le=2**53)] | None = None  # bytes a second
    paused: Paused = Paused()
    properties: dict[PropertyName, PropertyValue] = msgspec.field(default_factory=dict)  # for datasets that are created
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.window is not None and self.window[:5] == self.window[6:]:
            raise ValueError("window: begins and ends at the same time; leave it out for any time")

    def require_modest(self) -> None:
        """Raise ValueError for more than a group may have. What was stored before there were limits is still read."""
        for place, what, most in (
            ("datasets.include", self.datasets.include, MOST_GLOBS),
            ("datasets.exclude", self.datasets.exclude, MOST_GLOBS),
            ("snapshots.include", self.snapshots.include, MOST_GLOBS),
            ("snapshots.exclude", self.snapshots.exclude, MOST_GLOBS),
            ("paused.datasets", self.paused.datasets, MOST_GLOBS),
            ("paused.systems", self.paused.systems, MOST_SYSTEMS),
            ("properties", self.properties, MOST_PROPERTIES),
        ):
            if len(what) > most:
                raise ValueError(f"{place}: expected at most {most}, got {len(what)}")
        require_modest(self.metadata)


class MemberSettings(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A member of a group in the file."""

    root: DatasetName | None = None  # paths count below it; None: the full name counts, pool included


class GroupSettings(GroupOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A sync group of the file. With a hub it is directional. Systems are in the order of preference."""

    name: GroupName
    hub: Hostname | None = None
    systems: Annotated[dict[Hostname, MemberSettings | None], Meta(min_length=1, max_length=MOST_SYSTEMS)]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_modest()
        if self.hub is not None and self.hub not in self.systems:
            raise ValueError(f"hub: {self.hub!r} is not among the group's systems{suggestion(self.hub, self.systems)}")
        for system in self.paused.systems:
            if system not in self.systems:
                raise ValueError(f"paused: {system!r} is not among the group's systems")
