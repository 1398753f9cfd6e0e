"""Streams of the ZFS model: what `zfs send` writes, and what `zfs receive` does with it or why not. See zfs_model."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner.resume import decode_resume_token
from tests.zfs_contents import Contents
from tests.zfs_values import Block, Dataset, Part, Refused, Snapshot, Stream, beyond, check_name, size

EMBEDDED = "embedded data is not supported on encrypted datasets"


@dataclass(frozen=True)
class Receiving:
    """What a receive was asked for."""

    name: str
    stream: Stream
    origin: str | None
    resumable: bool
    properties: Mapping[str, str]


class Streams(Contents):
    """One host's pools, as far as streams go in and out. `seed` makes its guids; hosts need different ones."""

    def __init__(self, seed: object = None, now: int = 1_795_000_000) -> None:
        super().__init__()
        self.random = random.Random(None if seed is None else str(seed))
        self.now = now  # Unix seconds; a test moves it
        self.txg = 10

    def _guid(self) -> str:
        return str(self.random.getrandbits(64) | 1)

    def _block(self, bytes_: int) -> Block:
        return self.random.getrandbits(62), bytes_

    def _step(self) -> int:
        self.txg += 1
        return self.txg

    def send(
        self,
        name: str,
        end: str,
        base: str | None = None,
        *,
        intermediates: bool = False,
        raw: bool = False,
        embedded: bool = False,
    ) -> Stream:
        """The stream of dataset@end, full or from a base: "name", "@name", "#bookmark", or a clone's "origin@snap"."""
        dataset = self.dataset(name)
        last = self.find(f"{name}@{end}")
        if intermediates and (base is None or "#" in base):
            raise Refused("Error: multiple snapshots cannot be sent from a bookmark.")
        first: Snapshot | None = None
        if base is not None:
            full = base if "/" in base else name + (base if base[0] in "@#" else "@" + base)
            first = self.find(full)
        locked = dataset.encryption != "off" and not raw and not dataset.key_loaded
        unreadable = Refused(f"cannot send '{name}@{end}': dataset key must be loaded")
        if first is not None and locked and "#" in full:
            raise unreadable
        if first is not None and not self._is_earlier(full, first, name, last):
            raise Refused(f"cannot send '{name}@{end}': incremental source is not an earlier snapshot")
        if locked and not intermediates:
            raise unreadable
        ends = [last]
        if intermediates:
            known = dataset.snapshots
            ends = known[known.index(first) + 1 if first in known else 0 : known.index(last) + 1]
        if locked:
            ends = []  # zfs warns, sends a package with nothing in it, and exits 0
        embedded = (embedded or raw) and dataset.encryption == "off"  # -w implies -e; what is encrypted embeds nothing
        raw = raw and dataset.encryption != "off"
        parts = tuple(self._part(name, snap, before, raw) for snap, before in zip(ends, [first, *ends], strict=False))
        clone = base is not None and re.split("[@#]", full)[0] != name
        return Stream(dataset.kind, parts, dataset.encryption, raw, embedded, intermediates, clone)

    def _is_earlier(self, base_name: str, base: Snapshot, name: str, end: Snapshot) -> bool:
        """Whether a base lies before a snapshot: in the same dataset, or in one that it is a clone of."""
        owner = re.split("[@#]", base_name)[0]
        before = end.createtxg
        while name != owner:
            origin = self.dataset(name).origin
            if not origin:
                return False
            name, before = origin.partition("@")[0], self.find(origin).createtxg + 1
        return base.createtxg < before

    def _part(self, name: str, snap: Snapshot, base: Snapshot | None, raw: bool) -> Part:
        return Part(
            to_name=f"{name}@{snap.name}",
            to_guid=snap.guid,
            creation=snap.creation,
            from_guid=base.guid if base else None,
            blocks=beyond(snap.blocks, base.blocks if base else ()),
            ivsetguid=snap.ivsetguid if raw else None,
            from_ivsetguid=base.ivsetguid if base and raw else None,
        )

    def receive(
        self,
        name: str,
        stream: Stream,
        *,
        origin: str | None = None,
        resumable: bool = False,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Receive a stream into a dataset, unmounted. Raises Refused, having kept what was complete."""
        asked = Receiving(name, stream, origin, resumable, properties or {})
        for part in stream.parts:
            target = self._target(asked, part)
            if not target:
                continue
            had = target.partial.parts[0].blocks if stream.resumed and target.partial else ()
            fitting = self._fitting(name, part.blocks)
            got = replace(part, blocks=had + fitting)
            if len(fitting) < len(part.blocks):
                self._keep_part(asked, target, got)
                raise Refused(f"{self._cannot}out of space")
            if not part.complete:
                self._keep_part(asked, target, got)
                self._break_off(asked, target)
            self._complete(target, stream, got)

    def _fitting(self, name: str, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        """The first of some blocks, as far as the pool has room for them."""
        left = self.available(name)
        there = [at for at in range(len(blocks) + 1) if size(blocks[:at]) <= left]
        return blocks[: there[-1]]

    def _target(self, asked: Receiving, part: Part) -> Dataset | None:
        """The dataset that a stream goes into, made if it must be; None if it holds the snapshot already.

        Raises Refused for each reason zfs has.
        """
        name, stream = asked.name, asked.stream
        target = self.datasets.get(name)
        origin = None if stream.package else asked.origin  # of a package, each stream says itself what it goes on
        if stream.clone and not stream.resumed and part is stream.parts[0]:
            origin = origin or self._origin_of(name, part)
        onto_origin = origin is not None
        kind = "new filesystem" if part.from_guid is None or onto_origin else "incremental"
        self._cannot = cannot = f"cannot receive {'resume' if stream.resumed else kind} stream: "
        if stream.resumed:
            if not target or not target.partial:
                raise Refused(f"{cannot}destination '{name}' has no partially received state")
            if target.partial.parts[0].to_guid != part.to_guid:
                raise Refused(f"{cannot}kernel modules must be upgraded to receive this stream.")
        elif kind == "new filesystem" and target:
            raise Refused(f"{cannot}destination '{name}' exists\nmust specify -F to overwrite it")
        elif target and part.from_guid is not None and stream.raw and target.encryption == "off":
            raise Refused("cannot perform raw receive on top of existing unencrypted dataset")
        elif target and target.partial and not target.newborn:
            raise Refused(f'{cannot}destination {name} contains partially-complete state from "zfs receive -s".')
        if kind == "new filesystem" and not target:
            target = self._newborn(asked, part, origin)
        elif not target:
            raise Refused(f"{cannot}destination '{name}' does not exist")
        elif kind == "incremental" and self._has_key(target, stream) and self._is_there(target, part):
            return None  # zfs reads past it, and exits 0
        else:
            self._fits(asked, target, part)
        target.properties.update(asked.properties)
        return target

    def _origin_of(self, name: str, part: Part) -> str:
        """What a clone's stream goes on if nobody says: its base, wherever in the pool that is."""
        pool = name.partition("/")[0]
        for kept in self.datasets.values():
            for snap in kept.snapshots if kept.name.partition("/")[0] == pool else ():
                if snap.guid == part.from_guid:
                    return f"{kept.name}@{snap.name}"
        raise Refused(f"cannot receive: local origin for clone {name} does not exist")

    def _has_key(self, target: Dataset, stream: Stream) -> bool:
        """Whether a dataset can take what is not raw on top of what it has. Raises Refused if not."""
        if not stream.raw and target.encryption != "off" and not target.key_loaded:
            raise Refused(f"{self._cannot}inherited key must be loaded")
        return True

    def _is_there(self, target: Dataset, part: Part) -> bool:
        """Whether a dataset has a snapshot already. Raises Refused if it has another of that name."""
        name = part.to_name.partition("@")[2]
        if all(snap.name != name for snap in target.snapshots):
            return False
        if all(snap.guid != part.to_guid for snap in target.snapshots):
            raise Refused(f"{self._cannot}destination '{target.name}@{name}' already exists")
        if not part.complete or not part.blocks:  # of an empty increment, the end is read before that is noticed
            raise Refused("cannot receive: failed to read from stream")
        return True

    def _newborn(self, asked: Receiving, part: Part, origin: str | None) -> Dataset:
        """An empty dataset for a full stream, or a clone for an increment on its origin."""
        name, stream, cannot = asked.name, asked.stream, self._cannot
        parent = self.datasets.get(name.rpartition("/")[0])
        if not parent:
            raise Refused(f"{cannot}destination '{name}' does not exist")
        if parent.kind != "filesystem":
            raise Refused(f"{cannot}parent '{parent.name}' is not a filesystem")
        if origin and part.from_guid and self.find(origin).guid != part.from_guid:
            raise Refused(f"{cannot}most recent snapshot of {name} does not\nmatch incremental source")
        above = self.dataset(origin.partition("@")[0]) if origin else parent  # a clone has its origin's key
        if origin and part.from_guid and stream.raw and above.encryption == "off":
            raise Refused(f"{cannot}PANIC: unencrypted block in encrypted object set")  # and the pool hangs
        if not stream.raw and above.encryption != "off" and not above.key_loaded:
            raise Refused(f"{cannot}inherited key must be loaded")
        if stream.kind == "volume" and (wrong := {"canmount", "mountpoint"} & asked.properties.keys()):
            raise Refused(f"{cannot}property '{min(wrong)}' does not apply to datasets of this type")
        check_name(name)
        made = Dataset(name, stream.kind, self._guid(), self._step(), self.now, origin=origin)
        made.blocks = self.find(origin).blocks if origin and part.from_guid else ()
        made.encryption = stream.encryption if stream.raw else above.encryption
        made.key_loaded, made.key_of = not stream.raw, above.key_of
        if origin:
            made.key_loaded = above.key_loaded
        elif stream.raw:
            made.key_of = made.guid
        self._fits(asked, made, part)
        self.datasets[name] = made
        return made

    def _fits(self, asked: Receiving, target: Dataset, part: Part) -> None:
        """Raise Refused where the stream does not go on top of what the target has."""
        stream, cannot = asked.stream, self._cannot
        base = target.snapshots  # of a clone that is there, the origin is no base: it is another dataset's (dmu_recv.c)
        if target.name not in self.datasets and target.origin:
            base = [self.find(target.origin)]
        grows = part.from_guid is not None and not target.newborn
        if grows:
            self._has_key(target, stream)
        if stream.embedded and target.encryption != "off":
            raise Refused(f"{cannot}{EMBEDDED}")
        if not grows:
            return
        common = [snap for snap in base if snap.guid == part.from_guid]
        if not common:
            raise Refused(f"{cannot}most recent snapshot of {target.name} does not\nmatch incremental source")
        changed = target.blocks != common[-1].blocks and not (stream.resumed and not part.complete)
        if changed or (stream.raw and base[-1] != common[-1]):
            if stream.resumed and not asked.resumable:
                target.partial = None
            raise Refused(f"{cannot}destination {target.name} has been modified\nsince most recent snapshot")
        if stream.raw and common[-1].ivsetguid != part.from_ivsetguid:
            raise Refused(f"{cannot}IV set guid mismatch. See the 'zfs receive' man page")

    def _keep_part(self, asked: Receiving, target: Dataset, got: Part) -> None:
        """What came stays with -s. Without it nothing does, not what came before either, nor a dataset it began."""
        if asked.resumable:
            if target.partial is None:
                target.partial_of = target.snapshots[-1].guid if target.snapshots else None
            target.partial = replace(asked.stream, parts=(replace(got, complete=False),), resumed=False, package=False)
        elif target.snapshots:
            target.partial = None
        else:
            del self.datasets[target.name]

    def _break_off(self, asked: Receiving, target: Dataset) -> None:
        """Say what zfs says of a stream that broke off. Always raises Refused."""
        if not asked.resumable:
            raise Refused("cannot receive: checksum mismatch or incomplete stream")
        raise Refused(
            "cannot receive resume stream: checksum mismatch or incomplete stream.\n"
            "Partially received snapshot is saved.\nA resuming stream can be generated on the sending system"
            f" by running:\n    zfs send -t {self.token(target.name)}"
        )

    def _complete(self, target: Dataset, stream: Stream, part: Part) -> None:
        ivsetguid = part.ivsetguid
        if target.encryption != "off" and not stream.raw:
            ivsetguid = self._guid()
        below = self.find(target.origin) if target.origin and not target.snapshots else None
        bases = [at for at, snap in enumerate(target.snapshots) if snap.guid == part.from_guid]
        base = target.snapshots[bases[-1]] if bases else below
        later = target.snapshots[bases[-1] + 1 :] if bases else []
        log_freed = base is not None and base.log_used and not any(snap.log_freed for snap in later)
        target.blocks = target.blocks + part.blocks
        target.partial, target.log_used, target.log_freed = None, False, False
        name = part.to_name.partition("@")[2]
        made = Snapshot(name, part.to_guid, self._step(), part.creation, target.blocks, ivsetguid, log_freed=log_freed)
        target.snapshots.append(replace(made, raw=stream.raw and base is not None))

    def abort(self, name: str) -> None:
        """Drop the state of a stream that broke off (`zfs receive -A`)."""
        dataset = self.dataset(name)
        if not dataset.partial:
            raise Refused(f"'{name}' does not have any resumable receive state to abort")
        if dataset.newborn:
            if self.below(name):
                raise Refused(f"cannot destroy '{name}': dataset already exists")  # what it means are children
            del self.datasets[name]
        dataset.partial = None

    def search(self, name: str, guid: str, *, marks: bool) -> tuple[Dataset, Snapshot] | None:
        """Where zfs finds the guid of a token that names something: there and below, then below each one above."""
        above = name.partition("@")[0]
        while above:
            for dataset in [self.datasets[above], *self.below(above)] if above in self.datasets else ():
                for snap in dataset.snapshots + (dataset.bookmarks if marks and dataset.name == above else []):
                    if snap.guid == guid:
                        return dataset, snap
            above = above.rpartition("/")[0]
        return None

    def resume(self, token: str) -> Stream:
        """The rest of the stream that a token names (`zfs send -t`)."""
        said = decode_resume_token(token)
        if said is None:
            raise Refused("cannot resume send: resume token is corrupt")
        found = self.search(said.to_name, said.to_guid, marks=False)
        if found is None:
            raise Refused(f"cannot resume send: '{said.to_name}' used in the initial send no longer exists")
        dataset, last = found
        base = None
        if said.from_guid:
            start = self.search(said.to_name, said.from_guid, marks=True)
            if start is None:
                raise Refused(f"cannot resume send: incremental source {said.from_guid} no longer exists")
            base = start[1]
        part = self._part(dataset.name, last, base, said.raw)
        there = [at for at in range(len(part.blocks) + 1) if size(part.blocks[:at]) <= said.bytes_done]
        part = replace(part, blocks=part.blocks[there[-1] :])
        return Stream(dataset.kind, (part,), dataset.encryption, said.raw, said.embedded, resumed=True)
