"""Several threads and processes on one store: nothing is lost, torn or waited for without end."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store import REGISTRY, Busy, Store, group_records, heartbeat_of, inventory_of
from tests.store_samples import Place, event, heartbeat, state, system

RECORDS = group_records("g")
NAS = inventory_of("nas")
fork = multiprocessing.get_context("fork")
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def used(place: Place) -> Place:
    """A store that was there before: no first start is tested by the way."""
    Store.open(place)
    return place


def run_together(context: Any, count: int, target: Callable[..., None], *args: object) -> None:
    workers = [context.Process(target=target, args=(n, *args)) for n in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * count


# --- processes -----------------------------------------------------------------------------------


def count_up(number: int, used: Place, times: int) -> None:
    """Each adds documents of its own, and counts in one that all share."""
    store = Store.open(used, lock_timeout_s=30)
    for n in range(times):
        with store.transaction(RECORDS) as tx:
            states = tx[RECORDS].states
            count = int(states.get("count").status) if "count" in states else 0
            states.put(state("count", status=str(count + 1)))
            states.put(state(f"{number}-{n}"))


def test_writers_in_several_processes_lose_nothing(used: Place) -> None:
    run_together(spawn, 4, count_up, used, 50)
    states = Store.open(used).read(RECORDS).states
    assert states.get("count").status == "200"
    assert sorted(states.ids()) == sorted(["count", *(f"{w}-{n}" for w in range(4) for n in range(50))])


def write_pairs(number: int, used: Place, times: int) -> None:
    store = Store.open(used, lock_timeout_s=30)
    for _ in range(times):
        with store.transaction(RECORDS) as tx:
            now = int(tx[RECORDS].states.get("left").status) + 1
            for side in ("left", "right"):
                tx[RECORDS].states.put(state(side, status=str(now)))


def read_pairs(number: int, used: Place, end: int) -> None:
    """What is read is whole, and never older than what was read before."""
    store = Store.open(used)
    seen = 0
    while seen < end:
        states = store.read(RECORDS).states
        left, right = int(states.get("left").status), int(states.get("right").status)
        assert left == right >= seen
        seen = left


def test_readers_see_whole_contents_in_order(used: Place) -> None:
    with Store.open(used).transaction(RECORDS) as tx:
        for side in ("left", "right"):
            tx[RECORDS].states.put(state(side, status="0"))
    readers = [spawn.Process(target=read_pairs, args=(n, used, 240)) for n in range(2)]
    for reader in readers:
        reader.start()
    run_together(spawn, 3, write_pairs, used, 80)
    for reader in readers:
        reader.join(60)
    assert [reader.exitcode for reader in readers] == [0, 0]


def add_events(number: int, used: Place, times: int) -> None:
    store = Store.open(used, lock_timeout_s=30)
    for n in range(times):
        store.add_event(event(f"{number}-{n}"))


def test_events_of_several_processes_all_arrive(used: Place) -> None:
    run_together(spawn, 3, add_events, used, 100)
    store = Store.open(used)
    assert len({found.id for found in store.events()}) == 300
    assert len(store.event_segments()) == 2


def take_in_any_order(number: int, used: Place, times: int) -> None:
    store = Store.open(used, lock_timeout_s=30)
    shards = [REGISTRY, RECORDS, heartbeat_of("a"), inventory_of("a")]
    for n in range(times):
        random.Random(f"{number} {n}").shuffle(shards)
        with store.transaction(*shards[:3], RECORDS) as tx:
            tx[RECORDS].states.put(state(f"{number}-{n}"))


def test_shards_named_in_any_order_never_lock_in_a_ring(used: Place) -> None:
    run_together(spawn, 3, take_in_any_order, used, 60)
    assert len(Store.open(used).read(RECORDS).states) == 180


def test_the_first_start_of_several_workers_makes_one_secret(place: Place) -> None:
    code = f"import store; from pathlib import PosixPath; print(store.Store.open({place!r}).secret.hex())"
    command = [sys.executable, "-c", code]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({worker.communicate()[0] for worker in workers}) == 1
    assert [worker.returncode for worker in workers] == [0] * 4


# --- fork ----------------------------------------------------------------------------------------


def use_inherited(number: int, store: Store) -> None:
    for n in range(40):
        with store.transaction(RECORDS, lock_timeout_s=30) as tx:
            tx[RECORDS].states.put(state(f"{number}-{n}"))


def test_a_store_opened_before_fork_works_in_every_child(used: Place) -> None:
    """A lock whose descriptor is shared with the parent excludes nobody, so the children need their own."""
    store = Store.open(used)
    with store.transaction(RECORDS) as tx:  # opens the descriptor, fills the cache
        tx[RECORDS].states.put(state("parent"))
    run_together(fork, 4, use_inherited, store)
    assert len(store.read(RECORDS).states) == 161


def test_a_fork_while_a_thread_holds_lock_and_cache_does_not_hang_the_child(used: Place) -> None:
    store = Store.open(used)
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction(RECORDS), store._cache._lock:
            holding.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    child = fork.Process(target=use_inherited, args=(0, store))
    child.start()
    time.sleep(0.05)
    assert child.is_alive()  # it waits for the lock like any other process
    done.set()
    holder.join()
    child.join(30)
    assert child.exitcode == 0
    assert len(store.read(RECORDS).states) == 40


# --- threads -------------------------------------------------------------------------------------


def run_threads(count: int, target: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            target(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_writers_in_several_threads_lose_nothing(used: Place) -> None:
    store = Store.open(used, lock_timeout_s=30)

    def add(number: int) -> None:
        for n in range(40):
            with store.transaction(RECORDS) as tx:
                tx[RECORDS].states.put(state(f"{number}-{n}"))
            assert f"{number}-{n}" in store.read(RECORDS).states

    run_threads(6, add)
    assert len(Store.open(used).read(RECORDS).states) == 240


@pytest.mark.on_files
def test_more_shards_than_descriptors_are_kept_open(used: Place) -> None:
    store = Store.open(used, lock_timeout_s=30)

    def beat(number: int) -> None:
        for n in range(300):
            shard = heartbeat_of(f"{n}")
            with store.transaction(shard) as tx:
                tx[shard].heartbeats.put(heartbeat(f"{number}"))

    before = len(os.listdir("/proc/self/fd"))
    run_threads(2, beat)
    assert len(os.listdir("/proc/self/fd")) - before <= 257
    assert all(len(store.read(heartbeat_of(f"{n}")).heartbeats) == 2 for n in range(300))


# --- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["thread", "process"])
def test_a_lock_that_is_not_free_in_time_is_busy(used: Place, who: str) -> None:
    store = Store.open(used)
    other = store if who == "thread" else Store.open(used)  # another descriptor stands for another process
    refused: list[str] = []

    def attempt(number: int) -> None:
        with pytest.raises(Busy) as busy, other.transaction(RECORDS, REGISTRY, lock_timeout_s=0.05):
            raise RuntimeError("not reached")
        refused.append(str(busy.value))

    with store.transaction(RECORDS) as tx:
        tx[RECORDS].states.put(state("s"))
        run_threads(1, attempt)
    assert refused == ["groups/g is being written by others; it was not free within 0.05 s"]
    with other.transaction(RECORDS, REGISTRY, lock_timeout_s=0) as tx:  # what was had before the refusal is free again
        tx[REGISTRY].systems.put(system("a"))
    assert store.read(RECORDS).states.ids() == ["s"]


@pytest.mark.on_files
def test_a_lock_file_that_was_deleted_is_noticed(used: Place) -> None:
    """Whoever comes later locks a new file: one who has the old one open must not think itself alone."""
    early = Store.open(used)
    with early.transaction(RECORDS) as tx:
        tx[RECORDS].states.put(state("s"))
    (Path(used) / "locks/groups__g.lock").unlink()
    late = Store.open(used)
    with late.transaction(RECORDS), pytest.raises(Busy), early.transaction(RECORDS, lock_timeout_s=0.02):
        raise RuntimeError("not reached")
    with early.transaction(RECORDS), pytest.raises(Busy), late.transaction(RECORDS, lock_timeout_s=0.02):
        raise RuntimeError("not reached")


# --- kill -9 -------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import PosixPath
from store import Store, REGISTRY, inventory_of
from tests.store_samples import dataset, system
store = Store.open(PLACE)
nas = inventory_of("nas")
n = int(store.read(REGISTRY).systems.get("a").hostname)
while True:
    n += 1
    with store.transaction(REGISTRY, nas) as tx:
        tx[REGISTRY].systems.put(system("a", str(n)))
        for name in range(20):
            tx[nas].datasets.put(dataset(f"tank/{name}", n))
    print(n, flush=True)
"""


def test_kill_9_at_any_point_leaves_the_old_content_or_the_new(used: Place) -> None:
    with Store.open(used).transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("a", "0"))
    moments = random.Random(9)
    code = WRITER.replace("PLACE", repr(used))
    for _ in range(40 if isinstance(used, Path) else 8):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        first = int(writer.stdout.readline())
        time.sleep(moments.uniform(0, 0.015))
        writer.send_signal(signal.SIGKILL)
        acknowledged = [first, *map(int, writer.stdout.read().split())][-1]
        writer.wait()
        writer.stdout.close()

        store = Store.open(used)
        assert not isinstance(used, Path) or [*used.rglob("*.tmp"), *used.glob("commits/*")] == []
        registry = int(store.read(REGISTRY).systems.get("a").hostname)
        (inventory,) = {len(found.snapshots) for found in store.read(NAS).datasets}
        assert acknowledged <= inventory == registry <= acknowledged + 1
