"""A small model of ZFS: what pools hold, accept and refuse, so that a test can obey a plan and look at the result.

One `Pools` is one host with its pools. Contents are tuples of blocks, so "equal guids, equal contents" is a thing to
check instead of to believe. Nothing is ever overwritten: writing appends a block. Refusals are `Refused`, worded as
zfs words them (OpenZFS 2.1). A receive never has -F, since no plan of ours does.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.zfs_contents import COLUMNS, KNOWN, TYPES, Contents
from tests.zfs_values import (
    NEW_DATASET_BYTES,
    Block,
    Dataset,
    Part,
    Refused,
    Snapshot,
    Stream,
    beyond,
    check_name,
    size,
)

__all__ = ["COLUMNS", "KNOWN", "TYPES", "Dataset", "Pools", "Refused", "Snapshot", "Stream"]


class Pools(Contents):
    """One host's pools. `seed` makes its guids; hosts need different ones."""

    def __init__(self, seed: object = None, now: int = 1_795_000_000) -> None:
        super().__init__()
        self.random = random.Random(None if seed is None else str(seed))
        self.now = now  # Unix seconds; a test moves it
        self.txg = 10

    # --- changing --------------------------------------------------------------------------------

    def _guid(self) -> str:
        return str(self.random.getrandbits(64) | 1)

    def _block(self, bytes_: int) -> Block:
        return self.random.getrandbits(62), bytes_

    def _step(self) -> int:
        self.txg += 1
        return self.txg

    def _vacant(self, name: str, verb: str = "create") -> None:
        check_name(name)
        if "@" in name or "#" in name:
            raise Refused(f"cannot {verb} '{name}': invalid name")
        if name in self.datasets:
            raise Refused(f"cannot {verb} '{name}': dataset already exists")
        if "/" in name and name.rpartition("/")[0] not in self.datasets:
            raise Refused(f"cannot {verb} '{name}': parent does not exist")

    def _unclaimed(self, dataset: Dataset, snaps: Sequence[Snapshot], verb: str) -> None:
        """Refuse to lose snapshots that something needs."""
        clones = {kept.origin for kept in self.datasets.values()}
        for snap in snaps:
            full = f"{dataset.name}@{snap.name}"
            if snap.holds:
                raise Refused(f"cannot destroy snapshot {full}: dataset is busy")
            if full in clones:
                raise Refused(f"cannot {verb} '{full}': snapshot has dependent clones")
            if dataset.partial and dataset.partial.parts[0].from_guid == snap.guid:
                raise Refused(f"cannot {verb} '{full}': dataset is busy")

    def create(
        self,
        name: str,
        kind: str = "filesystem",
        *,
        encryption: str | None = None,
        properties: dict[str, str] | None = None,
    ) -> Dataset:
        """Make a dataset; a name without "/" makes a pool."""
        self._vacant(name)
        parent = self.datasets.get(name.rpartition("/")[0])
        if not encryption and parent and not parent.key_loaded:
            raise Refused(f"cannot create '{name}': encryption root's key is not loaded or provided")
        made = Dataset(
            name=name,
            kind=kind,
            guid=self._guid(),
            createtxg=self._step(),
            creation=self.now,
            blocks=(self._block(NEW_DATASET_BYTES),),
            encryption=encryption or (parent.encryption if parent else "off"),
            key_loaded=parent.key_loaded if parent and not encryption else True,
            own_key=encryption not in (None, "off"),
            properties=dict(properties or {}),
        )
        made.mounted = kind == "filesystem" and made.properties.get("canmount", "on") == "on"
        self.datasets[name] = made
        return made

    def write(self, name: str, bytes_: int, *, logged: bool = False) -> None:
        """Write to a dataset; through its intent log if something asked for that (fsync, unmounting)."""
        dataset = self.dataset(name)
        dataset.blocks = (*dataset.blocks, self._block(bytes_))
        dataset.log_used = dataset.log_used or logged
        self._step()

    def snapshot(self, name: str, snap: str, *, recursive: bool = False) -> Snapshot:
        """Snapshot a dataset, its descendants too if asked (in one txg). Answers the dataset's own."""
        self._step()
        chosen = [self.dataset(name)]
        if recursive:
            chosen += self.below(name)
        for dataset in chosen:
            check_name(f"{dataset.name}@{snap}")
            if any(known.name == snap for known in dataset.snapshots):
                raise Refused(f"cannot create snapshot '{dataset.name}@{snap}': dataset already exists")
            if dataset.newborn:
                raise Refused(f"cannot create snapshot '{dataset.name}@{snap}': dataset is busy")
        for dataset in chosen:
            made = Snapshot(snap, self._guid(), self.txg, self.now, dataset.blocks, log_used=dataset.log_used)
            made, dataset.log_freed = replace(made, log_freed=dataset.log_freed), False
            if dataset.encryption != "off":
                made = replace(made, ivsetguid=self._guid())
            dataset.snapshots.append(made)
        return chosen[0].snapshots[-1]

    def bookmark(self, name: str, mark: str, bookmark: str) -> None:
        """Bookmark dataset@mark as dataset#bookmark."""
        check_name(f"{name}#{bookmark}")
        dataset = self.dataset(name)
        if any(known.name == bookmark for known in dataset.bookmarks):
            raise Refused(f"cannot create bookmark '{name}#{bookmark}': bookmark exists")
        dataset.bookmarks.append(replace(self.find(f"{name}@{mark}"), name=bookmark, holds=()))
        dataset.bookmarks.sort(key=lambda known: known.createtxg)

    def hold(self, name: str, snap: str, tag: str) -> None:
        """Put a hold on a snapshot."""
        self._change(name, snap, lambda kept: replace(kept, holds=(*kept.holds, tag)))

    def release(self, name: str, snap: str, tag: str) -> None:
        """Take a hold off a snapshot."""
        if tag not in self.find(f"{name}@{snap}").holds:
            raise Refused(f"cannot release hold from snapshot '{name}@{snap}': no such tag on this dataset")
        self._change(name, snap, lambda kept: replace(kept, holds=tuple(held for held in kept.holds if held != tag)))

    def rename_snapshot(self, name: str, snap: str, new: str) -> None:
        """Give a snapshot another name; its guid stays."""
        check_name(f"{name}@{new}")
        if new != snap and any(known.name == new for known in self.dataset(name).snapshots):
            raise Refused(f"cannot rename to '{name}@{new}': dataset already exists")
        self._change(name, snap, lambda kept: replace(kept, name=new))
        self._follow({f"{name}@{snap}": f"{name}@{new}"})

    def _change(self, name: str, snap: str, change: Callable[[Snapshot], Snapshot]) -> None:
        self.find(f"{name}@{snap}")
        dataset = self.dataset(name)
        dataset.snapshots = [change(kept) if kept.name == snap else kept for kept in dataset.snapshots]

    def _follow(self, moved: dict[str, str]) -> None:
        """Let clones know their origins' new names."""
        for dataset in self.datasets.values():
            dataset.origin = moved.get(dataset.origin or "", dataset.origin)

    def destroy_snapshots(self, name: str, snaps: Sequence[str]) -> None:
        """Destroy those of these snapshots that there are, or, where something needs one, none of them."""
        dataset = self.dataset(name)
        going = [snap for snap in dataset.snapshots if snap.name in snaps]
        if not going:
            raise Refused("could not find any snapshots to destroy; check snapshot names.")
        self._unclaimed(dataset, going, "destroy")
        dataset.snapshots = [snap for snap in dataset.snapshots if snap not in going]

    def destroy_bookmark(self, name: str, bookmark: str) -> None:
        """Destroy a bookmark."""
        gone = self.find(f"{name}#{bookmark}")
        self.dataset(name).bookmarks.remove(gone)

    def destroy(self, name: str, *, recursive: bool = False) -> None:
        """Destroy a dataset; with its snapshots and descendants only if asked."""
        dataset = self.dataset(name)
        going = [*self.below(name), dataset]
        if not recursive and (len(going) > 1 or dataset.snapshots):
            raise Refused(f"cannot destroy '{name}': filesystem has children\nuse '-r' to destroy the following")
        inside = {kept.name for kept in going}
        for kept in self.datasets.values():
            if kept.name not in inside and kept.origin and kept.origin.partition("@")[0] in inside:
                raise Refused(f"cannot destroy '{name}': filesystem has dependent clones")
        if any(snap.holds for kept in going for snap in kept.snapshots):
            raise Refused(f"cannot destroy '{name}': dataset is busy")
        for kept in going:
            del self.datasets[kept.name]

    def rollback(self, name: str, snap: str, *, recursive: bool = False) -> None:
        """Go back to a snapshot; what is younger, bookmarks too, is destroyed only if asked."""
        dataset = self.dataset(name)
        goal = self.find(f"{name}@{snap}")
        if dataset.partial:
            raise Refused(f"cannot rollback '{name}': dataset is busy")
        younger = [known for known in dataset.snapshots if known.createtxg > goal.createtxg]
        if younger and not recursive:
            raise Refused(f"cannot rollback to '{name}@{snap}': more recent snapshots or bookmarks exist")
        self._unclaimed(dataset, younger, "rollback")
        dataset.snapshots = [known for known in dataset.snapshots if known not in younger]
        dataset.bookmarks = [known for known in dataset.bookmarks if known.createtxg <= goal.createtxg]
        dataset.blocks = goal.blocks
        dataset.log_used, dataset.log_freed = False, goal.log_used

    def rename(self, name: str, new: str) -> None:
        """Give a dataset another name in its pool; its descendants move along."""
        self.dataset(name)
        if new == name:
            return
        if new.split("/")[0] != name.split("/")[0]:
            raise Refused(f"cannot rename to '{new}': datasets must be within same pool")
        self._vacant(new, "rename to")
        if (new + "/").startswith(name + "/"):
            raise Refused(f"cannot rename to '{new}': New dataset name cannot be a descendant of current dataset name")
        if (root := self.encryption_root(name)) not in (None, name) and self.encryption_root(new) != root:
            raise Refused(f"cannot rename '{name}': cannot move encrypted child outside of its encryption root")
        moved = {}
        for dataset in [self.dataset(name), *self.below(name)]:
            del self.datasets[dataset.name]
            old, dataset.name = dataset.name, new + dataset.name[len(name) :]
            self.datasets[dataset.name] = dataset
            moved.update({f"{old}@{snap.name}": f"{dataset.name}@{snap.name}" for snap in dataset.snapshots})
        self._follow(moved)

    def promote(self, name: str) -> None:
        """Let a clone own the snapshots up to its origin."""
        clone = self.dataset(name)
        if not clone.origin:
            raise Refused(f"cannot promote '{name}': not a cloned filesystem")
        parent_name, _, snap = clone.origin.partition("@")
        parent = self.dataset(parent_name)
        at = [known.name for known in parent.snapshots].index(snap) + 1
        moving = parent.snapshots[:at]
        if taken := {known.name for known in moving} & {known.name for known in clone.snapshots}:
            raise Refused(f"cannot promote '{name}': snapshot name '{min(taken)}' from origin conflicts")
        clone.snapshots, parent.snapshots = moving + clone.snapshots, parent.snapshots[at:]
        clone.origin, parent.origin = parent.origin, clone.origin
        self._follow({f"{parent_name}@{known.name}": f"{name}@{known.name}" for known in moving})

    # --- streams ---------------------------------------------------------------------------------

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
            if not self._is_earlier(full, first, name, last):
                raise Refused(f"cannot send '{name}@{end}': incremental source is not an earlier snapshot")
        locked = dataset.encryption != "off" and not raw and not dataset.key_loaded
        if locked and not intermediates:
            raise Refused(f"cannot send '{name}@{end}': dataset key must be loaded")
        ends = [last]
        if intermediates:
            known = dataset.snapshots
            ends = known[known.index(first) + 1 if first in known else 0 : known.index(last) + 1]
        if locked:
            ends = []  # zfs warns, sends a package with nothing in it, and exits 0
        raw = raw and dataset.encryption != "off"
        parts = tuple(self._part(name, snap, before, raw) for snap, before in zip(ends, [first, *ends], strict=False))
        return Stream(dataset.kind, parts, dataset.encryption, raw, embedded and not raw, intermediates)

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
        for part in stream.parts:
            target = self._target(name, stream, part, origin, properties or {})
            if not target:
                continue
            had = target.partial.parts[0].blocks if stream.resumed and target.partial else ()
            if not part.complete:
                kept = replace(part, blocks=had + part.blocks)
                self._break_off(target, replace(stream, parts=(kept,)), resumable)
            self._complete(target, stream, replace(part, blocks=had + part.blocks))

    def _target(
        self, name: str, stream: Stream, part: Part, origin: str | None, properties: dict[str, str]
    ) -> Dataset | None:
        """The dataset that a stream goes into, made if it must be; None if it holds the snapshot already.

        Raises Refused for each reason zfs has.
        """
        target = self.datasets.get(name)
        onto_origin = origin and not (stream.package and target)
        kind = "new filesystem" if part.from_guid is None or onto_origin else "incremental"
        self._cannot = cannot = f"cannot receive {'resume' if stream.resumed else kind} stream: "
        if stream.resumed:
            if not target or not target.partial:
                raise Refused(f"{cannot}destination '{name}' has no partially received state")
            if target.partial.parts[0].to_guid != part.to_guid:
                raise Refused(f"{cannot}kernel modules must be upgraded to receive this stream.")
        elif target and target.partial and not target.newborn:
            raise Refused(f'{cannot}destination {name} contains partially-complete state from "zfs receive -s".')
        if kind == "new filesystem":
            if target and not stream.resumed:
                raise Refused(f"{cannot}destination '{name}' exists\nmust specify -F to overwrite it")
            target = target or self._newborn(name, stream, part, origin)
        elif not target:
            raise Refused(f"{cannot}destination '{name}' does not exist")
        elif self._is_there(target, part):
            return None  # zfs reads past it, and exits 0
        self._fits(target, stream, part)
        target.properties.update(properties)
        return target

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

    def _newborn(self, name: str, stream: Stream, part: Part, origin: str | None) -> Dataset:
        """An empty dataset for a full stream, or a clone for an increment on its origin."""
        cannot = self._cannot
        parent = self.datasets.get(name.rpartition("/")[0])
        if not parent:
            raise Refused(f"{cannot}destination '{name}' does not exist")
        if origin and part.from_guid and self.find(origin).guid != part.from_guid:
            raise Refused(f"{cannot}most recent snapshot of {name} does not\nmatch incremental source")
        if not stream.raw and parent.encryption != "off" and not parent.key_loaded:
            raise Refused(f"{cannot}inherited key must be loaded")
        check_name(name)
        made = Dataset(name, stream.kind, self._guid(), self._step(), self.now, origin=origin)
        made.blocks = self.find(origin).blocks if origin and part.from_guid else ()
        made.encryption = stream.encryption if stream.raw else parent.encryption
        made.key_loaded, made.own_key = not stream.raw, stream.raw
        if origin and stream.raw:  # a clone has its origin's key
            made.key_loaded, made.own_key = self.dataset(origin.partition("@")[0]).key_loaded, False
        self._fits(made, stream, part)
        self.datasets[name] = made
        return made

    def _fits(self, target: Dataset, stream: Stream, part: Part) -> None:
        """Raise Refused where the stream does not go on top of what the target has."""
        cannot = self._cannot
        if stream.embedded and target.encryption != "off":
            raise Refused(f"{cannot}embedded data is not supported on encrypted datasets")
        base = target.snapshots
        if part.from_guid is not None and not base and target.origin:
            base = [self.find(target.origin)]
        if part.from_guid is not None and not target.newborn:
            if stream.raw and target.encryption == "off":
                raise Refused("cannot perform raw receive on top of existing unencrypted dataset")
            common = [snap for snap in base if snap.guid == part.from_guid]
            if not common:
                raise Refused(f"{cannot}most recent snapshot of {target.name} does not\nmatch incremental source")
            if not stream.raw and target.encryption != "off" and not target.key_loaded:
                raise Refused(f"{cannot}inherited key must be loaded")
            if target.blocks != common[-1].blocks or (stream.raw and base[-1] != common[-1]):
                raise Refused(f"{cannot}destination {target.name} has been modified\nsince most recent snapshot")
            if stream.raw and common[-1].ivsetguid != part.from_ivsetguid:
                raise Refused(f"{cannot}IV set guid mismatch. See the 'zfs receive' man page")

    def _break_off(self, target: Dataset, stream: Stream, resumable: bool) -> None:
        """Keep what came if it can be resumed, and say so as zfs does. Always raises Refused."""
        cannot = "cannot receive resume stream: " if stream.resumed else "cannot receive: "
        if resumable or stream.resumed:
            target.partial = replace(stream, resumed=False, package=False)
            raise Refused(
                "cannot receive resume stream: checksum mismatch or incomplete stream.\n"
                "Partially received snapshot is saved.\nA resuming stream can be generated on the sending system"
                f" by running:\n    zfs send -t {self.token(target.name)}"
            )
        if not target.snapshots:
            del self.datasets[target.name]
        raise Refused(f"{cannot}checksum mismatch or incomplete stream")

    def _complete(self, target: Dataset, stream: Stream, part: Part) -> None:
        ivsetguid = part.ivsetguid
        if target.encryption != "off" and not stream.raw:
            ivsetguid = self._guid()
        below = self.find(target.origin) if target.origin and not target.snapshots else None
        bases = [snap for snap in [*target.snapshots, below] if snap and snap.guid == part.from_guid]
        log_freed = bool(bases) and bases[-1].log_used
        target.blocks = target.blocks + part.blocks
        target.partial, target.log_used, target.log_freed = None, False, False
        name = part.to_name.partition("@")[2]
        made = Snapshot(name, part.to_guid, self._step(), part.creation, target.blocks, ivsetguid, log_freed=log_freed)
        target.snapshots.append(made)

    def abort(self, name: str) -> None:
        """Drop the state of a stream that broke off (`zfs receive -A`)."""
        dataset = self.dataset(name)
        if not dataset.partial:
            raise Refused(f"'{name}' does not have any resumable receive state to abort")
        if dataset.newborn:
            del self.datasets[name]
        dataset.partial = None

    def resume(self, token: str) -> Stream:
        """The rest of the stream that a token names (`zfs send -t`)."""
        from planner.resume import decode_resume_token  # here: a zfs command that needs none starts twice as fast

        said = decode_resume_token(token)
        if said is None:
            raise Refused("cannot resume send: resume token is corrupt")
        name, _, snap = said.to_name.partition("@")
        dataset = self.dataset(name)
        last = self.find(f"{name}@{snap}")
        if last.guid != said.to_guid:
            raise Refused(f"cannot resume send: '{name}@{snap}' is no longer the same snapshot")
        base = None
        if said.from_guid:
            bases = [known for known in dataset.snapshots + dataset.bookmarks if known.guid == said.from_guid]
            if not bases:
                raise Refused(f"cannot resume send: incremental source {said.from_guid} no longer exists")
            base = bases[0]
        part = self._part(name, last, base, said.raw)
        there = [at for at in range(len(part.blocks) + 1) if size(part.blocks[:at]) <= said.bytes_done]
        part = replace(part, blocks=part.blocks[there[-1] :])
        return Stream(dataset.kind, (part,), dataset.encryption, said.raw, said.embedded, resumed=True)
