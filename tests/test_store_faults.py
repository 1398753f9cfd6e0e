"""What goes wrong around a store: writers of any table that are killed, copies made meanwhile, clocks, years."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

import pytest

from handlers.request import Witness
from handlers.tick import tick
from store import ALERTS, LEASES, REGISTRY, Store, group_records, heartbeat_of, history_of, inventory_of
from store.documents import GoneRow
from tests.store_samples import NOON, Place, event, row

DAY = "2026-11-22"
COPIES = 200

WRITER = """
import sys
from pathlib import PosixPath
from tests.test_store_faults import write_for_ever
write_for_ever(PLACE, NAME)
"""


def write_for_ever(place: Place, name: str) -> None:
    """Count up in a document of one's own in every kind of shard, and say each number when it is stored."""
    from store.documents import Tick, Total
    from tests.store_samples import dataset, heartbeat, state, system

    store = Store.open(place, lock_timeout_s=60)
    n = max(numbers(store, name))
    while True:
        n += 1
        shards = shards_of(name)
        with store.transaction(*shards) as tx:
            tx[REGISTRY].systems.put(system(name, metadata={"n": n}))
            tx[LEASES].totals.put(Total(id=name, group_id="g", target_system_id="nas", done=n))
            tx[heartbeat_of(name)].heartbeats.put(heartbeat(name, metadata={"n": n}))
            tx[inventory_of("nas")].datasets.put(dataset(name, n))
            tx[group_records("g")].states.put(state(name, status=str(n)))
            tx[history_of("nas", DAY)].gone.put(GoneRow(id=name, dataset=str(n), at=NOON, rows=[row("a@1", 1)]))
            tx[ALERTS].ticks.put(Tick(id=name, started_at=NOON, by=str(n)))
            store.add_event(event(f"{name}-{n}"))
        print(n, flush=True)


def shards_of(name: str) -> tuple:  # type: ignore[type-arg]
    days = history_of("nas", DAY)
    return REGISTRY, LEASES, heartbeat_of(name), inventory_of("nas"), group_records("g"), days, ALERTS


def numbers(store: Store, name: str) -> list[int]:
    """What a writer's number is in each kind of shard, and how many of its events there are."""
    registry, leases, beats, inventory, group, history, alerts = map(store.read, shards_of(name))
    return [
        registry.systems.get(name).metadata["n"] if name in registry.systems else 0,
        leases.totals.get(name).done if name in leases.totals else 0,
        beats.heartbeats.get(name).metadata["n"] if name in beats.heartbeats else 0,
        len(inventory.datasets.get(name).snapshots) if name in inventory.datasets else 0,
        int(group.states.get(name).status) if name in group.states else 0,
        int(history.gone.get(name).dataset) if name in history.gone else 0,
        int(alerts.ticks.get(name).by) if name in alerts.ticks else 0,
        sum(each.id.startswith(f"{name}-") for each in store.events()),
    ]


@contextmanager
def writers(place: Place, *names: str) -> Iterator[tuple[list[subprocess.Popen[str]], dict[str, str]]]:
    """Processes that write until the block ends, or somebody kills them; each has begun."""
    started = []
    try:
        for name in names:
            code = WRITER.replace("PLACE", repr(place)).replace("NAME", repr(name))
            started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        firsts = {name: stdout_of(writer).readline() for name, writer in zip(names, started, strict=True)}
        assert all(firsts.values())
        yield started, firsts
    finally:
        for writer in started:
            writer.kill()
            writer.wait()
            stdout_of(writer).close()


def stdout_of(writer: subprocess.Popen[str]) -> IO[str]:
    assert writer.stdout is not None
    return writer.stdout


def test_writers_of_every_table_are_killed_and_nothing_acknowledged_is_lost(place: Place) -> None:
    moments, names = random.Random(7), ("a", "b", "c")
    Store.open(place)
    for _ in range(4 if isinstance(place, Path) else 2):
        with writers(place, *names) as (running, firsts):
            said = {}
            for name, writer in zip(names, running, strict=True):
                time.sleep(moments.uniform(0, 0.05))
                writer.send_signal(signal.SIGKILL)
                said[name] = int([firsts[name], *stdout_of(writer).read().split()][-1])
        store = Store.open(place)
        assert store.problems() == []
        for name in names:
            found = numbers(store, name)
            assert len(set(found)) == 1, name  # all of a transaction is there, or nothing
            assert said[name] <= found[0] <= said[name] + 1, name


def test_the_lock_of_one_that_was_killed_is_free(place: Place) -> None:
    Store.open(place)
    code = (
        "import time; from pathlib import PosixPath; from store import Store, REGISTRY\n"
        f"with Store.open({place!r}).transaction(REGISTRY):\n    print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert stdout_of(holder).readline() == "held\n"
    holder.kill()
    holder.communicate()
    with Store.open(place, lock_timeout_s=20).transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.clear()


@pytest.mark.on_files
def test_copies_of_the_folder_under_load_open_and_are_whole(place: Path, tmp_path: Path) -> None:
    Store.open(place)
    copy = tmp_path / "copy"
    seen = set()
    with writers(place, "a", "b"):
        for _ in range(COPIES):
            # temporary files and journals may be gone by the time that it comes to them
            subprocess.run(["cp", "-a", place, copy], stderr=subprocess.DEVNULL, check=False)
            store = Store.open(copy)
            assert store.problems() == []
            assert [*copy.rglob("*.tmp"), *copy.glob("commits/*")] == []
            seen.add(tuple(numbers(store, "a")))
            assert len(list(store.events())) > 0
            shutil.rmtree(copy)
    assert len(seen) > 1


def test_a_clock_that_jumps_back_loses_nothing(place: Place) -> None:
    store = Store.open(place)
    for number, days in enumerate((0, -2, 0, -400, 1)):
        store.add_event(event(str(number), NOON + timedelta(days=days)))
    assert [each.id for each in store.events()] == ["4", "2", "0", "1", "3"]


def test_history_stays_within_the_size_that_the_readme_states(witness: Witness) -> None:
    """A year of 100 datasets, each losing a snapshot an hour, in small: 4 datasets and 18 days, each for twenty."""
    store, datasets, days, kept = witness.store, 4, 18, witness.config.history_days
    most = 0
    for day in range(days):
        now = NOON + timedelta(days=day * 20)
        shard = history_of("nas", f"{now:%Y-%m-%d}")
        for hour in range(24):
            with store.transaction(shard) as tx:
                for number in range(datasets):
                    rows = [row(f"tank/data/{number}@auto-{now:%Y-%m-%d}-{hour:02}00", hour)]
                    id = f"{day:032}-{hour}-tank/data/{number}"
                    tx[shard].gone.put(GoneRow(id=id, dataset=f"tank/data/{number}", at=now, rows=rows))
        store.add_event(event(f"e{day}", now))
        assert tick(witness, now)
        most = max(most, sum(len(store._engine.read(each.name).data or b"") for each in store.shards("history")))
        assert len(store.shards("history")) <= kept / 20 + 1
    assert most <= 400 * datasets * 24 * (kept / 20 + 1)
    assert len(store.event_segments()) == days
    tick(witness, now + timedelta(days=witness.config.event_days + 1))
    assert list(store.events()) == []
    assert store.shards("history") == []
