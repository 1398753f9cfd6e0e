"""A small model of ZFS: what pools hold, accept and refuse, so that a test can obey a plan and look at the result.

One `Pools` is one host with its pools. Contents are tuples of blocks, so "equal guids, equal contents" is a thing to
check instead of to believe. Nothing is ever overwritten: writing appends a block. Refusals are `Refused`, worded as
zfs words them (OpenZFS 2.1). A receive never has -F, since no plan of ours does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.zfs_contents import COLUMNS, KNOWN, TYPES
from tests.zfs_streams import Streams
from tests.zfs_values import NEW_DATASET_BYTES, Dataset, Refused, Snapshot, Stream, check_name

__all__ = ["COLUMNS", "KNOWN", "TYPES", "Dataset", "Pools", "Refused", "Snapshot", "Stream"]


class Pools(Streams):
    """One host's pools. `seed` makes its guids; hosts need different ones."""

    # --- changing --------------------------------------------------------------------------------

    def _vacant(self, name: str, verb: str = "create") -> None:
        check_name(name)
        if "@" in name or "#" in name:
            raise Refused(f"cannot {verb} '{name}': invalid name")
        if name in self.datasets:
            raise Refused(f"cannot {verb} '{name}': dataset already exists")
        self._has_parent(name)

    def _has_parent(self, name: str) -> None:
        if "/" in name:
            parent = self.datasets.get(name.rpartition("/")[0])
            if not parent:
                raise Refused(f"cannot create '{name}': parent does not exist")
            if parent.kind != "filesystem":
                raise Refused(f"cannot create '{name}': parent is not a filesystem")

    def _roomy(self, name: str, what: str) -> None:
        if not self.available(name):
            raise Refused(f"cannot create {what}: out of space")

    def _unclaimed(self, dataset: Dataset, snaps: Sequence[Snapshot], verb: str) -> None:
        """Refuse to lose snapshots that something needs."""
        clones = {kept.origin for kept in self.datasets.values()}
        for snap in snaps:
            full = f"{dataset.name}@{snap.name}"
            if snap.holds:
                raise Refused(f"cannot destroy snapshot {full}: dataset is busy")
            if full in clones:
                raise Refused(f"cannot {verb} '{full}': snapshot has dependent clones")
            if dataset.partial and dataset.partial_of == snap.guid:
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
        self._roomy(name, f"'{name}'")
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
            key_of=parent.key_of if parent and not encryption else "",
            properties=dict(properties or {}),
        )
        if encryption not in (None, "off"):
            made.key_of = made.guid
        made.mounted = kind == "filesystem" and made.properties.get("canmount", "on") == "on"
        self.datasets[name] = made
        return made

    def write(self, name: str, bytes_: int, *, logged: bool = False) -> None:
        """Write to a dataset; through its intent log if something asked for that (fsync, unmounting)."""
        dataset = self.dataset(name)
        if bytes_ > self.available(name):
            raise Refused("No space left on device")
        dataset.blocks = (*dataset.blocks, self._block(bytes_))
        dataset.log_used = dataset.log_used or logged
        self._step()

    def snapshot(self, name: str, snap: str, *, recursive: bool = False) -> Snapshot | None:
        """Snapshot a dataset, or with its descendants (in one txg) all that is whole. Answers the dataset's own."""
        self._step()
        chosen = [self.dataset(name)]
        if recursive:
            chosen = [kept for kept in (*chosen, *self.below(name)) if not kept.newborn]
        for dataset in chosen:
            check_name(f"{dataset.name}@{snap}")
            if any(known.name == snap for known in dataset.snapshots):
                raise Refused(f"cannot create snapshot '{dataset.name}@{snap}': dataset already exists")
            if dataset.newborn:
                raise Refused(f"cannot create snapshot '{dataset.name}@{snap}': dataset is busy")
        self._roomy(name, "snapshots")
        for dataset in chosen:
            made = Snapshot(snap, self._guid(), self.txg, self.now, dataset.blocks, log_used=dataset.log_used)
            made, dataset.log_freed = replace(made, log_freed=dataset.log_freed), False
            if dataset.encryption != "off":
                made = replace(made, ivsetguid=self._guid())
            dataset.snapshots.append(made)
        own = self.dataset(name).snapshots
        return own[-1] if own else None

    def bookmark(self, name: str, mark: str, bookmark: str) -> None:
        """Bookmark dataset@mark as dataset#bookmark."""
        check_name(f"{name}#{bookmark}")
        dataset = self.dataset(name)
        if any(known.name == bookmark for known in dataset.bookmarks):
            raise Refused(f"cannot create bookmark '{name}#{bookmark}': bookmark exists")
        marked = self.find(f"{name}@{mark}")
        self._roomy(name, f"bookmark '{name}#{bookmark}'")
        dataset.bookmarks.append(replace(marked, name=bookmark, holds=()))
        dataset.bookmarks.sort(key=lambda known: known.createtxg)

    def hold(self, name: str, snap: str, tag: str) -> None:
        """Put a hold on a snapshot."""
        if tag in self.find(f"{name}@{snap}").holds:
            raise Refused(f"cannot hold snapshot '{name}@{snap}': tag already exists on this dataset")
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
        if "/" not in name:
            raise Refused(f"cannot destroy '{name}': operation does not apply to pools")
        going = [*self.below(name), dataset]
        if not recursive and (len(going) > 1 or dataset.snapshots):
            raise Refused(f"cannot destroy '{name}': filesystem has children\nuse '-r' to destroy the following")
        inside = {kept.name for kept in going}
        for kept in self.datasets.values():
            if kept.name not in inside and kept.origin and kept.origin.partition("@")[0] in inside:
                raise Refused(f"cannot destroy '{name}': filesystem has dependent clones")
        for kept in sorted(going, key=lambda kept: kept.name.split("/"), reverse=True):  # what lies below goes first
            if any(snap.holds for snap in kept.snapshots):
                raise Refused(f"cannot destroy '{name}': dataset is busy")
            del self.datasets[kept.name]

    def rollback(self, name: str, snap: str, *, recursive: bool = False) -> None:
        """Go back to a snapshot; what is younger, bookmarks too, is destroyed only if asked."""
        dataset = self.dataset(name)
        goal = self.find(f"{name}@{snap}")
        younger = [known for known in dataset.snapshots if known.createtxg > goal.createtxg]
        if younger and not recursive:
            raise Refused(f"cannot rollback to '{name}@{snap}': more recent snapshots or bookmarks exist")
        held = [known for known in younger if known.holds]
        self._unclaimed(dataset, [known for known in younger if not known.holds], "rollback")
        dataset.snapshots = [known for known in dataset.snapshots if known not in younger or known in held]
        dataset.bookmarks = [known for known in dataset.bookmarks if known.createtxg <= goal.createtxg]
        self._unclaimed(dataset, held, "rollback")  # zfs destroys all that it can, and then gives up
        dataset.blocks = goal.blocks
        dataset.log_used, dataset.log_freed = False, goal.log_used

    def rename(self, name: str, new: str) -> None:
        """Give a dataset another name in its pool; its descendants move along."""
        self.dataset(name)
        if new == name:
            return
        if new.split("/")[0] == name.split("/")[0]:
            self._has_parent(new)
        else:
            raise Refused(f"cannot rename to '{new}': datasets must be within same pool")
        if (new + "/").startswith(name + "/"):
            raise Refused(f"cannot rename to '{new}': New dataset name cannot be a descendant of current dataset name")
        self._vacant(new, "rename to")
        stays = name.rpartition("/")[0] == new.rpartition("/")[0]
        if not stays and self.encryption_root(name) not in (None, name, self.encryption_root(new)):
            raise Refused(f"cannot rename '{name}': cannot move encrypted child outside of its encryption root")
        moved = {}
        for dataset in [self.dataset(name), *self.below(name)]:
            del self.datasets[dataset.name]
            old, dataset.name = dataset.name, new + dataset.name[len(name) :]
            self.datasets[dataset.name] = dataset
            moved.update({f"{old}@{snap.name}": f"{dataset.name}@{snap.name}" for snap in dataset.snapshots})
        self._follow(moved)

    def promote(self, name: str) -> None:
        """Let a clone own the snapshots and bookmarks up to its origin."""
        clone = self.dataset(name)
        if not clone.origin:
            raise Refused(f"cannot promote '{name}': not a cloned filesystem")
        parent_name, _, snap = clone.origin.partition("@")
        parent = self.dataset(parent_name)
        at = [known.name for known in parent.snapshots].index(snap) + 1
        moving = parent.snapshots[:at]
        if taken := {known.name for known in moving} & {known.name for known in clone.snapshots}:
            raise Refused(f"cannot promote '{name}': snapshot name '{min(taken)}' from origin conflicts")
        marks = [mark for mark in parent.bookmarks if mark.createtxg <= moving[-1].createtxg]
        if {mark.name for mark in marks} & {mark.name for mark in clone.bookmarks}:
            raise Refused(f"cannot promote '{name}': PANIC: a bookmark of that name exists")  # and the pool hangs
        clone.bookmarks = sorted(marks + clone.bookmarks, key=lambda mark: mark.createtxg)
        parent.bookmarks = [mark for mark in parent.bookmarks if mark not in marks]
        clone.snapshots, parent.snapshots = moving + clone.snapshots, parent.snapshots[at:]
        clone.origin, parent.origin = parent.origin, clone.origin
        self._follow({f"{parent_name}@{known.name}": f"{name}@{known.name}" for known in moving})
        if parent.key_of == parent.guid:  # the clone is the encryption root now, and its key is not loaded
            for kept in (each for each in self.datasets.values() if each.key_of == parent.guid):
                kept.key_of, kept.key_loaded = clone.guid, False

    def load_key(self, name: str) -> None:
        """Load the key of an encryption root, for all that it encrypts."""
        root = self.encryption_root(name)
        if root != name:
            raise Refused(f"Key load error: Keys must be loaded for encryption root of '{name}' ({root}).")
        for kept in self.datasets.values():
            kept.key_loaded = kept.key_loaded or kept.key_of == self.dataset(name).guid
