"""The values of the ZFS model: datasets, snapshots, streams. See zfs_model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

Block = tuple[int, int]  # its id, its size in bytes
NEW_DATASET_BYTES = 24576  # what an empty filesystem takes
LOG_FREED_BYTES = 1024  # what freeing a snapshot's intent log writes into a dataset that is rolled back to it
RAW_BYTES = 8192  # what a raw increment writes though it is empty: the list of blocks with its authentication code
NEWBORN_BYTES = 14336  # what the begin of a first stream has written at least


class Refused(Exception):
    """What zfs says when it does not do it."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot, or with "#" in place of "@" a bookmark (which keeps its blocks here only to compute increments)."""

    name: str
    guid: str
    createtxg: int
    creation: int
    blocks: tuple[Block, ...]
    ivsetguid: str | None = None
    holds: tuple[str, ...] = ()
    log_used: bool = False  # it was taken while the dataset had an intent log
    log_freed: bool = False  # see Dataset
    raw: bool = False  # received so, on top of another


@dataclass(frozen=True)
class Part:
    """The stream of one snapshot: what it adds to its base, or all of it."""

    to_name: str  # "tank/data@snap", as the sender called it
    to_guid: str
    creation: int
    from_guid: str | None
    blocks: tuple[Block, ...]
    ivsetguid: str | None = None
    from_ivsetguid: str | None = None
    complete: bool = True  # False: it broke off after these blocks


@dataclass(frozen=True)
class Stream:
    """What `zfs send` writes."""

    kind: str
    parts: tuple[Part, ...]
    encryption: str = "off"
    raw: bool = False  # encrypted blocks, as they are
    embedded: bool = False
    package: bool = False  # made by -I
    clone: bool = False  # its base is another dataset's: it is received as a clone of that
    resumed: bool = False

    def cut(self, blocks: int) -> "Stream":
        """The same stream, broken off after so many blocks."""
        kept: list[Part] = []
        for part in self.parts:
            whole = blocks > len(part.blocks)  # the end record comes after the last block
            kept.append(replace(part, blocks=part.blocks[:blocks], complete=whole and part.complete))
            blocks -= len(part.blocks)
            if not whole:
                break
        return replace(self, parts=tuple(kept))


@dataclass
class Dataset:
    """A filesystem or volume. Its snapshots and bookmarks are oldest first."""

    name: str
    kind: str
    guid: str
    createtxg: int
    creation: int
    blocks: tuple[Block, ...] = ()
    snapshots: list[Snapshot] = field(default_factory=list)
    bookmarks: list[Snapshot] = field(default_factory=list)
    encryption: str = "off"
    key_loaded: bool = True
    key_of: str = ""  # the guid of its encryption root; "" where nothing is encrypted
    log_used: bool = False  # it has an intent log
    log_freed: bool = False  # rolled back to a snapshot that had one: written says so, though nothing is modified
    origin: str | None = None  # "pool/ds@snap"
    properties: dict[str, str] = field(default_factory=dict)  # the local ones
    mounted: bool = False
    partial: Stream | None = None  # what `receive -s` keeps of a stream that broke off
    partial_of: str | None = None  # the guid of the snapshot that was the newest when that began: it is a clone of it

    @property
    def newborn(self) -> bool:
        """Whether it is nothing yet but the begin of a stream."""
        return self.partial is not None and not self.snapshots


def size(blocks: Iterable[Block]) -> int:
    """Bytes in these blocks."""
    return sum(block[1] for block in blocks)


def beyond(blocks: tuple[Block, ...], base: tuple[Block, ...]) -> tuple[Block, ...]:
    """The blocks that the base has not."""
    known = set(base)
    return tuple(block for block in blocks if block not in known)


def check_name(name: str) -> None:
    """Refuse what zfs does not accept as a dataset, snapshot or bookmark name (module/zcommon/zfs_namecheck.c)."""
    dataset, *last = re.split("[@#]", name)
    for part in [*dataset.split("/"), *last]:
        if not re.fullmatch(r"[A-Za-z0-9_.: -]+", part) or part in (".", ".."):
            raise Refused(f"cannot create '{name}': invalid name")
    if len(last) > 1 or len(name.encode()) > 255 or dataset.count("/") >= 50 or not dataset[0].isalpha():
        raise Refused(f"cannot create '{name}': invalid name")
