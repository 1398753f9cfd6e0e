"""Documents for tests of the store."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from store import REGISTRY, Store
from store.documents import DatasetDoc, Event, Heartbeat, SnapshotRow, SyncState, System
from store.shards import lock_of

Place = Path | str  # of a store: a folder, or the address of a database
NewPlace = Callable[[str], Place]

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def system(id: str, hostname: str = "", **fields: Any) -> System:
    return System(id=id, hostname=hostname or f"host-{id}", created_at=NOON, updated_at=NOON, **fields)


def heartbeat(id: str, **fields: Any) -> Heartbeat:
    return Heartbeat(id=id, last_seen_at=NOON, **fields)


def state(id: str, **fields: Any) -> SyncState:
    return SyncState(id=id, **fields)


def event(id: str, at: datetime = NOON, **fields: Any) -> Event:
    return Event(id=id, at=at, what="system.registered", **fields)


def dataset(name: str, snapshots: int = 3) -> DatasetDoc:
    return DatasetDoc(id=name, type="filesystem", snapshots=[row(f"{name}@{n}", n) for n in range(snapshots)])


def row(name: str, n: int) -> SnapshotRow:
    return SnapshotRow(
        name=name.partition("@")[2],
        guid=str(17_000_000_000_000_000_000 + hash(name) % 10**17 + n),
        createtxg=1_000 + n,
        creation=1_763_800_000 + 3600 * n,
        used=4096 * n,
        referenced=1_048_576 + n,
        written=4096,
        userrefs=0,
        ivsetguid=None,
        first_seen=1_763_900_000,
        changed=1_763_900_000,
    )


def put_systems(store: Store, *ids: str) -> None:
    with store.transaction(REGISTRY) as tx:
        for id in ids:
            tx[REGISTRY].systems.put(system(id))


def content(store: Store, name: str) -> bytes | None:
    """The bytes of a shard, whatever keeps them."""
    held = store._engine.read(name)
    return None if held is None else held.data


def put_content(store: Store, name: str, data: bytes) -> None:
    """Put any bytes in a shard's place."""
    with store._engine.locked([lock_of(name)], 5):
        store._engine.replace({name: data})


def everything(store: Store) -> dict[str, bytes]:
    """The bytes of every shard."""
    with store.everything() as contents:
        return dict(contents)
