"""The whole store at once: of how many systems, and as of which moment."""

import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Store, heartbeat_of
from store.backup import restore_backup, write_backup
from tests.store_samples import NOON, everything, heartbeat

FEW = 100


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
