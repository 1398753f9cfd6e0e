"""A primary that dies and the standby that takes its place: nothing that was acknowledged is lost, and work goes on."""

import threading
import time
from contextlib import suppress

from store import REGISTRY, Busy, Store, StoreError
from tests.postgres_server import server
from tests.store_samples import put_systems


def test_a_standby_takes_over_and_nothing_acknowledged_is_lost() -> None:
    """As README says: both in one address, and a standby that confirms each commit."""
    with server() as primary, server(primary) as standby:
        primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.run("SELECT pg_reload_conf()")
        while not primary.run("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            time.sleep(0.02)
        address = primary.address(host=f"{primary.folder},{standby.folder}")
        stores = [Store.open(address), Store.open(address)]
        acknowledged: list[str] = []
        enough = threading.Event()

        def write(store: Store, name: str) -> None:
            number = 0
            while not enough.is_set():
                number += 1
                with suppress(Busy, StoreError):  # while nobody takes writes, or the other came first
                    put_systems(store, f"{name}{number}")
                    acknowledged.append(f"{name}{number}")

        writers = [threading.Thread(target=write, args=(store, name)) for store, name in zip(stores, "ab", strict=True)]
        for writer in writers:
            writer.start()
        try:
            _wait_for(acknowledged, 40)
            primary.stop("immediate")
            before = len(acknowledged)
            standby.promote()
            _wait_for(acknowledged, before + 40)
        finally:
            enough.set()
            for writer in writers:
                writer.join()
        assert set(acknowledged) <= set(stores[0].read(REGISTRY).systems.ids())
        assert stores[0].read(REGISTRY).generation == stores[1].read(REGISTRY).generation
        for store in stores:
            store.close()


def _wait_for(acknowledged: list[str], count: int) -> None:
    for _ in range(3000):
        if len(acknowledged) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"only {len(acknowledged)} of {count} writes were acknowledged")
