"""The whole store at once: of how many systems, and as of which moment."""

import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store import Busy, Store, heartbeat_of
from store.backup import restore_backup, write_backup
from tests.store_samples import NOON, Place, everything, heartbeat

FEW = 100
NEW, OLD = heartbeat_of("new"), heartbeat_of("old")


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """A process that may have a few descriptors more than it has."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + FEW, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("few_descriptors")
def test_a_backup_of_more_systems_than_descriptors(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.transaction(heartbeat_of("0")) as tx:
        tx[heartbeat_of("0")].heartbeats.put(heartbeat("0"))
    sample = (tmp_path / "store/heartbeats/0.json").read_bytes()
    for number in range(1, 300):
        (tmp_path / f"store/heartbeats/{number}.json").write_bytes(sample)
    out = io.BytesIO()
    assert write_backup(store, out, NOON) == (301, [])
    out.seek(0)
    other = Store.open(tmp_path / "other")
    assert restore_backup(other, out) == (301, [])
    assert everything(other) == everything(store)


@pytest.mark.on_both
def test_what_is_made_while_the_locks_are_taken_is_of_that_moment_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system's first sign of life and another's last are saved together; then a lock more is waited for."""
    store, other = Store.open(place), Store.open(place)
    with store.transaction(OLD) as tx:
        tx[OLD].heartbeats.put(heartbeat("old"))
    take = store._wait_for

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(store, "_wait_for", take)
        with other.transaction(OLD, NEW) as tx:
            for shard in (OLD, NEW):
                tx[shard].heartbeats.put(heartbeat("new"))
        take(*arguments)

    monkeypatch.setattr(store, "_wait_for", meanwhile)
    with store.everything() as contents:
        assert sorted(contents) == [NEW.name, OLD.name]
        for shard in (OLD, NEW):
            with pytest.raises(Busy), other.transaction(shard, lock_timeout_s=0.02):
                raise RuntimeError("not reached")
        third = heartbeat_of("third")
        with other.transaction(third) as tx:
            tx[third].heartbeats.put(heartbeat("third"))
        assert sorted(contents) == [NEW.name, OLD.name]
