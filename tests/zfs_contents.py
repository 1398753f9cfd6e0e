"""What the pools of the ZFS model hold, and how `zfs list` shows it. See zfs_model."""

import re
from collections.abc import Iterator, Sequence

from tests.tokens import encode_resume_token
from tests.zfs_values import LOG_FREED_BYTES, NEWBORN_BYTES, RAW_BYTES, Block, Dataset, Refused, Snapshot, beyond, size

PLENTY = 10**12  # bytes that a pool without a capacity has room for
TYPES = ("filesystem", "volume", "snapshot", "bookmark")
PLAIN = ("name", "type", "guid", "createtxg", "creation", "used", "referenced", "written", "encryption")
COLUMNS = (*PLAIN, "receive_resume_token", "origin")  # what an agent asks for at least
KNOWN = (*COLUMNS, "available", "userrefs", "readonly", "mounted", "mountpoint", "canmount", "ivsetguid", "compression")


class Contents:
    """The datasets of one host."""

    def __init__(self) -> None:
        self.datasets: dict[str, Dataset] = {}
        self.capacity: dict[str, int] = {}  # bytes, of each pool that can be full

    def dataset(self, name: str) -> Dataset:
        """A dataset by its full name. Raises Refused."""
        if name not in self.datasets:
            raise Refused(f"cannot open '{name}': dataset does not exist")
        return self.datasets[name]

    def find(self, name: str) -> Snapshot:
        """A snapshot ("ds@snap") or bookmark ("ds#mark") by its full name. Raises Refused."""
        dataset, last = re.split("[@#]", name)
        kept = self.dataset(dataset)
        for snap in kept.bookmarks if "#" in name else kept.snapshots:
            if snap.name == last:
                return snap
        raise Refused(f"cannot open '{name}': dataset does not exist")

    def guids(self, dataset: str) -> list[str]:
        """The guids of a dataset's snapshots, oldest first."""
        return [snap.guid for snap in self.dataset(dataset).snapshots]

    def written(self, dataset: str) -> int:
        """Bytes written to a dataset since its newest snapshot."""
        kept = self.dataset(dataset)
        if kept.newborn:
            return NEWBORN_BYTES
        freed = LOG_FREED_BYTES if kept.log_freed else 0
        return size(beyond(kept.blocks, self._before(kept, len(kept.snapshots)))) + freed

    def _before(self, dataset: Dataset, index: int) -> tuple[Block, ...]:
        """What the snapshot before the one at this index holds, or the origin."""
        if index > 0:
            return dataset.snapshots[index - 1].blocks
        return self.find(dataset.origin).blocks if dataset.origin else ()

    def available(self, name: str) -> int:
        """Bytes that a dataset's pool still has room for."""
        pool = name.partition("/")[0]
        return max(0, self.capacity[pool] - self.used(pool)) if pool in self.capacity else PLENTY

    def used(self, pool: str) -> int:
        """Bytes that a pool's datasets and snapshots hold, each block once."""
        blocks: set[Block] = set()
        for kept in self.datasets.values():
            if kept.name.partition("/")[0] == pool:
                for snap in kept.snapshots:
                    blocks.update(snap.blocks)
                blocks.update(kept.blocks, kept.partial.parts[0].blocks if kept.partial else ())
        return size(blocks)

    def below(self, name: str) -> list[Dataset]:
        """A dataset's descendants."""
        return [kept for kept in self.datasets.values() if kept.name.startswith(name + "/")]

    def inherited(self, name: str, prop: str, default: str) -> str:
        """A property's value: the dataset's own, or the nearest ancestor's."""
        while name:
            if name in self.datasets and prop in self.datasets[name].properties:
                return self.datasets[name].properties[prop]
            name = name.rpartition("/")[0]
        return default

    def encryption_root(self, name: str) -> str | None:
        """The dataset whose key encrypts a dataset, or one that is to be made; None where nothing is encrypted."""
        kept = self.datasets.get(name) or self.datasets[name.rpartition("/")[0]]
        return next((each.name for each in self.datasets.values() if each.guid == kept.key_of), None)

    def token(self, name: str) -> str | None:
        """The receive_resume_token of a dataset."""
        partial = self.dataset(name).partial
        if not partial:
            return None
        part = partial.parts[0]
        return encode_resume_token(
            part.to_name,
            part.to_guid,
            part.from_guid,
            size(part.blocks),
            raw=partial.raw,
            embedded=partial.embedded,
            compressed=True,
        )

    # --- listing ---------------------------------------------------------------------------------

    def rows(self, types: Sequence[str] = TYPES) -> Iterator[tuple[Dataset, Snapshot | None, str]]:
        """Every dataset, snapshot and bookmark in the order of `zfs list`: dataset, snapshot, type."""
        found: list[tuple[tuple[str, int, int], Dataset, Snapshot | None, str]] = []
        for dataset in self.datasets.values():
            found.append(((dataset.name, 0, 0), dataset, None, dataset.kind))
            for at, snap in enumerate(dataset.snapshots):
                found.append(((dataset.name, 1, at), dataset, snap, "snapshot"))
            for at, snap in enumerate(dataset.bookmarks):
                found.append(((f"{dataset.name}#{snap.name}", 0, at), dataset, snap, "bookmark"))
        found.sort(key=lambda row: row[0])
        return ((dataset, snap, kind) for _, dataset, snap, kind in found if kind in types)

    def listing(self, columns: Sequence[str] = COLUMNS, types: Sequence[str] = TYPES) -> str:
        """What `zfs list -Hp -t TYPES -o COLUMNS` prints."""
        return "".join("\t".join(self.values(columns, *row)) + "\n" for row in self.rows(types))

    def values(self, columns: Sequence[str], dataset: Dataset, snap: Snapshot | None, kind: str) -> list[str]:
        """Properties of a dataset, snapshot or bookmark, as -Hp prints them. Raises Refused for an unknown one."""
        self._know(columns)
        has = self._values(dataset, snap, kind)
        return [_value(column, dataset, has) for column in columns]

    def name(self, dataset: Dataset, snap: Snapshot | None, kind: str) -> str:
        """The full name of a dataset, snapshot or bookmark."""
        return dataset.name + ("#" if kind == "bookmark" else "@") + snap.name if snap else dataset.name

    def _know(self, columns: Sequence[str]) -> None:
        for column in columns:
            if ":" not in column and column not in KNOWN:
                raise Refused(f"bad property list: invalid property '{column}'")

    def _values(self, dataset: Dataset, snap: Snapshot | None, kind: str) -> dict[str, str]:
        """The properties of one row."""
        values = self._snapshot_values(dataset, snap, kind) if snap else self._dataset_values(dataset)
        encryption = "-" if kind == "bookmark" else dataset.encryption
        return values | {"name": self.name(dataset, snap, kind), "type": kind, "encryption": encryption}

    def _snapshot_values(self, dataset: Dataset, snap: Snapshot, kind: str) -> dict[str, str]:
        values = {
            "guid": snap.guid,
            "createtxg": str(snap.createtxg),
            "creation": str(snap.creation),
            "referenced": str(size(snap.blocks)),
            "ivsetguid": snap.ivsetguid or ("0" if kind == "bookmark" else "-"),
        }
        if kind == "snapshot":
            before = self._before(dataset, dataset.snapshots.index(snap))
            written = size(beyond(snap.blocks, before)) + LOG_FREED_BYTES * snap.log_freed + RAW_BYTES * snap.raw
            values |= {"used": "0", "written": str(written), "userrefs": str(len(snap.holds))}
        return values

    def _dataset_values(self, dataset: Dataset) -> dict[str, str]:
        partial = size(dataset.partial.parts[0].blocks) if dataset.partial else 0
        used = size(dataset.blocks) + partial + sum(size(kept.blocks) for kept in self.below(dataset.name))
        values = {
            "guid": dataset.guid,
            "createtxg": str(dataset.createtxg),
            "creation": str(dataset.creation),
            "used": str(used),
            "referenced": str(size(dataset.blocks)),
            "written": str(self.written(dataset.name)),
            "receive_resume_token": self.token(dataset.name) or "-",
            "origin": dataset.origin or "-",
            "available": str(self.available(dataset.name)),
            "readonly": self.inherited(dataset.name, "readonly", "off"),
            "compression": self.inherited(dataset.name, "compression", "off"),
        }
        if dataset.kind == "filesystem":
            values["mounted"] = "yes" if dataset.mounted else "no"
            values["mountpoint"] = dataset.properties.get("mountpoint", "/" + dataset.name)
            values["canmount"] = dataset.properties.get("canmount", "on")
        return values


def _value(column: str, dataset: Dataset, values: dict[str, str]) -> str:
    """One of a row's properties; a user's own has a colon in its name."""
    return dataset.properties.get(column, "-") if ":" in column else values.get(column, "-")
