"""Where a dataset stands: full names on a system, and paths below the root that a member has in its group."""

import re

from planner.model import Member

# a dataset that a resolved conflict set aside, or one below it: no longer part of the group
_SET_ASIDE = re.compile(r"\.aside-[0-9a-f]{8}(?=/|$)")


def path_of(member: Member, dataset: str) -> str | None:
    """The dataset's path below the member's root: "" for the root itself, None when it is not below it."""
    if member.root is None:
        return dataset
    if dataset == member.root:
        return ""
    return dataset[len(member.root) + 1 :] if dataset.startswith(f"{member.root}/") else None


def dataset_of(member: Member, path: str) -> str:
    """The full name that a path below the root has on this member."""
    if member.root is None:
        return path
    return f"{member.root}/{path}" if path else member.root


def is_below(path: str, above: str) -> bool:
    """Whether a path is another one, or lies below it; everything lies below the root."""
    return above == "" or f"{path}/".startswith(f"{above}/")


def pool_of(dataset: str) -> str:
    """The pool a dataset lies in."""
    return dataset.partition("/")[0]


def ancestors(name: str) -> tuple[str, ...]:
    """The names above this one, the outermost first: `a/b/c` has `a` and `a/b`."""
    parts = name.split("/")
    return tuple("/".join(parts[:depth]) for depth in range(1, len(parts)))


def longest_name(member: Member, dataset: str) -> int:
    """The length of the longest name of a dataset and all below it, snapshots and bookmarks included."""
    longest, below = 0, f"{dataset}/"
    for name, replica in member.replicas.items():
        if name == dataset or name.startswith(below):
            marks = [len(mark.name) + 1 for mark in replica.snapshots] + [len(m.name) + 1 for m in replica.bookmarks]
            longest = max(longest, len(name) + max(marks, default=0))
    return longest


def pool_imported(member: Member, dataset: str | None = None) -> bool:
    """Whether the pool of the member's root (or of a dataset) is in its last inventory.

    A pool that is missing there is unplugged, locked or still starting up. It was not emptied.
    """
    name = dataset if dataset is not None else member.root
    if name is None:
        return bool(member.replicas)
    pool = pool_of(name)
    return any(pool_of(reported) == pool for reported in member.replicas)


def is_set_aside(dataset: str) -> bool:
    """Whether a resolution put this dataset, or one above it, out of the way."""
    return _SET_ASIDE.search(dataset) is not None


def name_before(dataset: str) -> str:
    """The name that a dataset had before it, or one above it, was set aside."""
    return _SET_ASIDE.sub("", dataset)


def is_internal(dataset: str) -> bool:
    """Whether ZFS made this dataset for itself, like `tank/data/%recv` during a receive."""
    return "%" in dataset
