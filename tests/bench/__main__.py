"""python -m tests.bench [--quick]: prints the tables that README has. The machine should be idle meanwhile."""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench import group_rows, http_rows, store_rows
from tests.bench.fleet import asker_at, fill, listing
from tests.bench.measuring import Row, cpu_s, table
from tests.lab import CHECKOUT
from tests.postgres_server import server

HEADS = ("What", "Measured", "Target", "Met")
OPEN = "import os; from zfs_sync import application; from pathlib import Path; application(Path(os.environ['FILE']))"
GROWN = {"system": (20, 40, 100), "dataset": (10, 80, 100), "snapshot": (10, 40, 200)}


def main() -> None:
    """Measure, and print as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, in about two minutes")
    quick = parser.parse_args().quick
    started = time.monotonic()
    with ExitStack() as stack:
        addresses = _postgresql(stack)
        _print("The store, in a folder", _in(lambda at: store_rows.rows(at, 100_000, 5 if quick else 15)))
        _print("Reports, CPU of the witness", _in(reports))
        requests = 1600 if quick else 8000
        _print("Requests, the store in a folder", _in(lambda at: http_rows.rows(at, requests, 200_000)))
        if addresses is not None:
            url = next(addresses)
            _print("Requests, the store in PostgreSQL", _in(lambda at: http_rows.rows(at, requests, 200_000, url)))
        sizes = group_rows.measured(group_rows.QUICK if quick else group_rows.FULL)
        _print("Groups, CPU of one process", (found.cells for found in sizes), group_rows.HEADS)
        _print("What one more costs", growth(), ("One more", "store", "memory", "first plan"))
        _print("Start-up", (row.cells for row in start_up(addresses)))
    print(f"({time.monotonic() - started:.0f} s)")


def reports(folder: Path) -> Iterator[Row]:
    """What taking reports costs the process that takes them."""
    asker = asker_at(folder)
    nas, small = asker.register("nas"), asker.register("small")
    listed, changed = listing(0, 250, 199), listing(0, 250, 200)
    for what, body in (("first", listed), ("unchanged", listed), ("one snapshot more in each dataset", changed)):
        taken = cpu_s(lambda body=body: asker.report(nas, body))  # type: ignore[misc]
        yield Row(f"50k snapshots in 250 datasets, {what}", f"{taken * 1000:.0f} ms", "")
    asker.report(small, listing(0, 10, 100))
    single = {"system_id": small, "dataset": "tank/data/00001", "name": "by-hand", "guid": "77"}
    yield Row(
        "a single snapshot, beside 1000", f"{cpu_s(lambda: asker.json('POST', '/snapshots', single)) * 1000:.1f} ms"
    )
    yield Row("a page of 100 of 51k snapshots", f"{cpu_s(lambda: asker.ask('GET', '/snapshots')) * 1000:.0f} ms")


def growth() -> Iterator[tuple[str, ...]]:
    """What a system (40 datasets), a dataset (on each of 10 systems) and a snapshot more (of 100, likewise) cost."""
    base, *_ = group_rows.measured(((10, 40, 100),), (0,))
    for name, size in GROWN.items():
        found, *_ = group_rows.measured((size,), (0,))
        more = {"system": 10, "dataset": 40, "snapshot": 100 * 40}[name]
        store, memory = found.store_bytes - base.store_bytes, found.memory_bytes - base.memory_bytes
        plan = (found.plan_s[0] - base.plan_s[0]) * 1e6
        words = {
            "system": "system, with 40 datasets of 100 snapshots",
            "dataset": "dataset of 100 snapshots, on each of 10 systems",
            "snapshot": "snapshot of a dataset, on each of 10 systems",
        }
        yield words[name], f"{store / more / 1000:.3g} kB", f"{memory / more / 1000:.3g} kB", f"{plan / more:.3g} us"


def start_up(address: Iterator[str] | None) -> Iterator[Row]:
    """What it takes until the app is there, with the store of 10 systems: CPU of a new process, over that of Python."""
    bare = _started("pass")
    for name in ("a folder", "PostgreSQL"):
        if name == "PostgreSQL" and address is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            url = next(address) if name == "PostgreSQL" and address else None
            fill(asker_at(Path(folder), url), 10, 100, 100)
            environ = {"FILE": f"{folder}/zfs_sync.yaml", **({"ZFS_SYNC_STORE_URL": url} if url else {})}
            yield Row(f"the app, its store in {name}", f"{(_started(OPEN, **environ) - bare) * 1000:.0f} ms")


def _started(code: str, **environ: str) -> float:
    """The median CPU seconds of a Python that runs this."""
    taken = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT, env={**os.environ, **environ})
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(taken)


def _postgresql(stack: ExitStack) -> Iterator[str] | None:
    """Addresses of empty stores; None where there is no PostgreSQL."""
    try:
        started = stack.enter_context(server())
    except pytest.skip.Exception as missing:
        print(f"(without PostgreSQL: {missing})\n")
        return None
    return (started.address(started.new_schema()) for _ in itertools.count())


def _in(measure: Callable[[Path], Iterator[Row]]) -> Iterator[tuple[str, ...]]:
    """What is measured in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(Path(folder)):
            yield row.cells


def _print(title: str, rows: Iterable[Sequence[str]], heads: Sequence[str] = HEADS) -> None:
    print(f"{title}:\n\n{table(heads, list(rows))}", flush=True)


if __name__ == "__main__":
    main()
