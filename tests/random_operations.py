"""Random operations on two hosts' pools: mostly what replication does, and now and then what it must not."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.zfs_model import Dataset, Pools

Random = random.Random
Hosts = Mapping[str, Pools]  # by the pool's name
PLACES = ("a", "a", "a", "a/k", "a/k", "b", "b", "e", "e", "e", "e/k", "e/k", "v", "v", "v/k", "a.aside", "a.aside")
SNAPSHOTS = ("s1", "s2", "s3", "s4", "s5")
SIZES = (3000, 40_000, 300_000)


@dataclass(frozen=True)
class Change:
    """One verb on one dataset."""

    verb: str
    name: str
    words: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = [f"{name}={value}" for name, value in self.options.items()]
        return " ".join(map(str, [self.verb, self.name, *self.words, *options]))

    @property
    def what(self) -> str:
        """Its kind, for counting."""
        return self.verb


@dataclass(frozen=True)
class Transfer:
    """A send and the receive of what it wrote."""

    name: str  # the source dataset
    target: str
    end: str = ""
    base: str | None = None
    how: dict[str, bool] = field(default_factory=dict)
    origin: str | None = None
    resumable: bool = False
    resume: bool = False  # send what the target's token names instead
    cut: tuple[int, float] | None = None  # in which part, after which share of it

    def __str__(self) -> str:
        given = ["resume"] if self.resume else [f"{self.name}@{self.end}", f"base={self.base}", *self.how]
        given += [f"origin={self.origin}"] * bool(self.origin)
        given += ["resumable"] * self.resumable + [f"cut={self.cut}"] * bool(self.cut)
        return f"{' '.join(given)} => {self.target}"

    @property
    def what(self) -> str:
        """Its kind, for counting."""
        kind = "full" if self.base is None else "-I" if self.how.get("intermediates") else "-i"
        words = ["resume" if self.resume else kind]
        words += ["from a bookmark"] if self.base and "#" in self.base else []
        words += ["onto an origin"] if self.origin else []
        words += ["raw"] if self.how.get("raw") else []
        words += ["cut"] if self.cut else []
        return "transfer " + " ".join(words)


Operation = Change | Transfer


def host_of(hosts: Hosts, name: str) -> Pools:
    """The host that has a dataset's pool."""
    return hosts[name.partition("/")[0].partition("@")[0]]


def beginning(rng: Random) -> list[Operation]:
    """A replica that is in sync, and a snapshot that it lacks yet."""
    place = rng.choice(("a", "e", "v", "b"))
    source, target = rng.choice((("modela", "modelb"), ("modelb", "modela")))
    name, copy = f"{source}/{place}", f"{target}/{place}"
    how = {"raw": True} if place == "e" and rng.random() < 0.6 else {}
    options = {"encryption": "aes-256-gcm"} if place == "e" else {}
    written = [Change("write", name, (size,), {"logged": True}) for size in SIZES]
    snapshots = [Change("snapshot", name, (snap,)) for snap in ("m1", "m2", "m3")]
    return [
        Change("create", name, ("volume",) if place == "v" else (), options),
        *(operation for pair in zip(written, snapshots, strict=True) for operation in pair),
        Transfer(name, copy, "m1", None, how),
        Change("bookmark", name, ("m1", "m1")),
        Transfer(name, copy, "m2", "m1", how),
    ]


def choose(rng: Random, hosts: Hosts) -> Operation:
    """The next operation; it depends on nothing but the model and the seed."""
    all_ = [dataset for pools in hosts.values() for dataset in pools.datasets.values() if "/" in dataset.name]
    if len(all_) < 2:
        return _create(rng, hosts)
    while True:
        (choice,) = rng.choices(list(CHOICES), list(CHOICES.values()))
        operation = choice(rng, hosts, rng.choice(all_))
        if operation:
            return operation


def _create(rng: Random, hosts: Hosts, near: Dataset | None = None) -> Operation:
    place = rng.choice(PLACES)
    name = f"{rng.choice(list(hosts))}/{place}"
    if place == "v":
        return Change("create", name, ("volume",))
    if place == "e":
        return Change("create", name, (), {"encryption": "aes-256-gcm"})
    return Change("create", name, (), {"properties": {"canmount": "off"}} if rng.random() < 0.1 else {})


def _write(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    if not near.key_loaded or near.newborn:
        return None
    return Change("write", near.name, (rng.choice(SIZES),), {"logged": True})


def _snapshot(rng: Random, hosts: Hosts, near: Dataset) -> Operation:
    name = near.name.partition("/")[0] if rng.random() < 0.05 else near.name
    fresh = f"n{host_of(hosts, name).txg}-{name[5]}"
    snap = rng.choice(SNAPSHOTS) if rng.random() < 0.3 else fresh
    return Change("snapshot", name, (snap,), {"recursive": True} if rng.random() < 0.2 else {})


def _some_snapshot(rng: Random, near: Dataset) -> str | None:
    if rng.random() < 0.05:
        return rng.choice(SNAPSHOTS)
    return rng.choice(near.snapshots).name if near.snapshots else None


def _bookmark(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    snap = _some_snapshot(rng, near)
    return Change("bookmark", near.name, (snap, rng.choice((snap, snap, "b1", "b2")))) if snap else None


def _hold(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    snap = _some_snapshot(rng, near)
    verb = rng.choice(("hold", "release"))
    return Change(verb, near.name, (snap, rng.choice(("keep", "keep", "other")))) if snap else None


def _rename_snapshot(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    snap = _some_snapshot(rng, near)
    return Change("rename_snapshot", near.name, (snap, rng.choice(SNAPSHOTS))) if snap else None


def _destroy_snapshots(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    snaps = {snap for snap in (_some_snapshot(rng, near), _some_snapshot(rng, near)) if snap}
    return Change("destroy_snapshots", near.name, (sorted(snaps)[: rng.choice((1, 2))],)) if snaps else None


def _destroy_bookmark(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    return Change("destroy_bookmark", near.name, (rng.choice(near.bookmarks).name,)) if near.bookmarks else None


def _destroy(rng: Random, hosts: Hosts, near: Dataset) -> Operation:
    return Change("destroy", near.name, (), {"recursive": True} if rng.random() < 0.6 else {})


def _rollback(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    snap = _some_snapshot(rng, near)
    newest = near.snapshots[-1].name if near.snapshots and rng.random() < 0.5 else snap
    return Change("rollback", near.name, (newest,), {"recursive": True} if rng.random() < 0.6 else {}) if snap else None


def _rename(rng: Random, hosts: Hosts, near: Dataset) -> Operation:
    return Change("rename", near.name, (_place(rng, hosts, near),))


def _place(rng: Random, hosts: Hosts, near: Dataset) -> str:
    if rng.random() < 0.05:
        return f"{rng.choice(list(hosts))}/a"  # perhaps another pool, where only the parent is looked at before that
    return f"{near.name.partition('/')[0]}/{rng.choice(PLACES)}"


def _promote(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    clones = [kept for pools in hosts.values() for kept in pools.datasets.values() if kept.origin]
    clones = [kept for kept in clones if not kept.newborn]  # what is written then is not looked into
    if clones and rng.random() < 0.7:
        clone = rng.choice(clones)
        origin = host_of(hosts, clone.name).dataset((clone.origin or "").partition("@")[0])
        if {mark.name for mark in clone.bookmarks} & {mark.name for mark in origin.bookmarks}:
            return None  # the kernel panics: "VERIFY3(0 == zap_add(mos, hds->ds_bookmarks_obj, ...)) failed"
        return Change("promote", clone.name)
    return Change("promote", near.name) if rng.random() < 0.1 and not near.origin else None


def _load_key(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    locked = [kept for pools in hosts.values() for kept in pools.datasets.values() if not kept.key_loaded]
    return Change("load_key", rng.choice(locked).name) if locked else None


def _abort(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    partial = [kept for pools in hosts.values() for kept in pools.datasets.values() if kept.partial]
    if partial:
        return Change("abort", rng.choice(partial).name)
    return Change("abort", near.name) if rng.random() < 0.1 else None


def _resume(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    partial = [kept for pools in hosts.values() for kept in pools.datasets.values() if kept.partial]
    if not partial:
        return None
    cut = (0, rng.random()) if rng.random() < 0.2 else None
    return Transfer("", rng.choice(partial).name, resume=True, resumable=rng.random() < 0.8, cut=cut)


def _transfer(rng: Random, hosts: Hosts, near: Dataset) -> Operation | None:
    if not near.snapshots:
        return None
    pool, _, path = near.name.partition("/")
    other = next(name for name in hosts if name != pool)
    target = f"{other}/{path}" if rng.random() < 0.8 else f"{rng.choice(list(hosts))}/{rng.choice(PLACES)}"
    there = host_of(hosts, target).datasets.get(target)
    ends = _ends(rng, near, there)
    if not ends:
        return None
    base, end = ends
    raw = rng.random() < (0.6 if near.encryption != "off" else 0.08)
    how = {"raw": raw, "embedded": rng.random() < 0.15, "intermediates": base is not None and rng.random() < 0.35}
    if how["intermediates"] and there and _has_some_of(there, near) and not _each_has_data(near, end, base):
        return None  # how zfs reads past an empty part that is there depends on what follows; nothing changes
    cut = (0 if rng.random() < 0.7 else 1, rng.random()) if rng.random() < 0.2 else None
    if cut and not _each_has_data(near, end, base):
        cut = None  # so short a stream breaks off in its head, and nothing is begun
    chosen = {key: True for key, on in how.items() if on}
    origin = _origin(rng, hosts, near, target, base) if not there or rng.random() < 0.05 else None
    if base and "/" in base and not origin and len(_holders(hosts, near, base, target)) > 1:
        return None  # which of them zfs takes is nobody's business
    if origin and raw and near.encryption != "off" and _encryption(hosts, origin) == "off":
        return None  # the kernel panics: "unencrypted block in encrypted object set"
    return Transfer(near.name, target, end, base, chosen, origin, resumable=rng.random() < 0.6, cut=cut)


def _encryption(hosts: Hosts, snapshot: str) -> str:
    return host_of(hosts, snapshot).dataset(snapshot.partition("@")[0]).encryption


def _holders(hosts: Hosts, near: Dataset, base: str, target: str) -> list[str]:
    """Where a target's pool has the snapshot that a clone's stream starts from."""
    guid = host_of(hosts, near.name).find(base).guid
    kept = host_of(hosts, target).datasets.values()
    return [dataset.name for dataset in kept for snap in dataset.snapshots if snap.guid == guid]


def _has_some_of(there: Dataset, near: Dataset) -> bool:
    names = {snap.name for snap in there.snapshots}
    return any(snap.name in names for snap in near.snapshots)


def _each_has_data(near: Dataset, end: str, base: str | None) -> bool:
    """Whether something was written before each snapshot of a stream."""
    names = [snap.name for snap in near.snapshots]
    contents = [snap.blocks for snap in near.snapshots[: names.index(end) + 1]] if end in names else []
    between = contents[names.index(base) :] if base in names else contents
    return bool(between) and all(one != next_ for one, next_ in pairwise(between)) and len(between) > (base is not None)


def _ends(rng: Random, near: Dataset, there: Dataset | None) -> tuple[str | None, str] | None:
    """A base and an end: mostly what would go on top of the target."""
    known = {snap.guid for snap in there.snapshots} if there else set()
    common = [at for at, snap in enumerate(near.snapshots) if snap.guid in known]
    end = rng.randrange(len(near.snapshots))
    if rng.random() < 0.05:
        return rng.choice(SNAPSHOTS), near.snapshots[end].name
    if rng.random() < 0.9 and (there and (not common or common[-1] + 1 == len(near.snapshots))):
        return None  # nothing that could go there
    if not common and (rng.random() < 0.7 or there):
        return (near.origin if near.origin and rng.random() < 0.6 else None), near.snapshots[end].name
    at = common[-1] if common and rng.random() < 0.8 else rng.randrange(len(near.snapshots))
    if at + 1 == len(near.snapshots) and rng.random() < 0.8:
        at = max(0, at - 1)
    marks = [mark.name for mark in near.bookmarks if not common or mark.guid in known]
    if at + 1 < len(near.snapshots) and rng.random() < 0.95:
        end = rng.randrange(at + 1, len(near.snapshots))
    if marks and rng.random() < 0.35:
        return "#" + rng.choice(marks), near.snapshots[end].name
    return near.snapshots[at].name, near.snapshots[end].name


def _origin(rng: Random, hosts: Hosts, near: Dataset, target: str, base: str | None) -> str | None:
    kept = [(dataset, snap) for dataset in host_of(hosts, target).datasets.values() for snap in dataset.snapshots]
    if not base:
        return None
    wanted = [snap.guid for snap in [*near.snapshots, *near.bookmarks] if snap.name == base.lstrip("#@")]
    if fit := [pair for pair in kept if pair[1].guid in wanted]:
        kept = fit if rng.random() < 0.9 else kept
    elif rng.random() < 0.9:
        return None
    if not kept or rng.random() < 0.2:
        return None
    dataset, snap = rng.choice(kept)
    return f"{dataset.name}@{snap.name}"


CHOICES: dict[Callable[[Random, Hosts, Dataset], Operation | None], float] = {
    _create: 2,
    _write: 8,
    _snapshot: 10,
    _bookmark: 3,
    _hold: 2,
    _rename_snapshot: 1.5,
    _destroy_snapshots: 4,
    _destroy_bookmark: 0.5,
    _destroy: 1,
    _rollback: 3,
    _rename: 2.5,
    _promote: 3,
    _load_key: 1,
    _abort: 1.5,
    _resume: 4,
    _transfer: 40,
}
