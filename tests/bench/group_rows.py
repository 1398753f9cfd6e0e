"""Groups of several sizes: reports, plans, status and conflicts; each size in a process of its own, for its memory."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from store import Store, inventory_of
from tests.bench.fleet import asker_at, fill, listing
from tests.bench.measuring import Work, cpu_s, resident_bytes

QUICK = ((3, 10, 100), (5, 50, 100), (10, 100, 100))
FULL = (*QUICK, (20, 500, 200))
HEADS = (
    "systems x datasets x snapshots",
    "behind",
    "report, ms",
    "unchanged",
    "plan, ms: first",
    "again",
    "one reported",
    "of decoding all",
    "status, ms: first",
    "again",
    "conflicts, ms: first",
    "again",
    "memory, MB",
    "store, MB",
)


@dataclass(slots=True)
class Sizes:
    """What a group of one size costs: CPU seconds of one process, and bytes."""

    name: str
    behind_percent: float
    report_s: float
    unchanged_s: float
    plan_s: tuple[float, float]
    changed_s: float  # the plan after one system has reported something new
    decode_s: float  # decoding every document of every inventory
    status_s: tuple[float, float]
    conflicts_s: tuple[float, float]
    memory_bytes: int
    store_bytes: int

    @property
    def cells(self) -> tuple[str, ...]:
        def ms(seconds: float) -> str:
            return f"{seconds * 1000:.3g}"

        return (
            self.name,
            f"{self.behind_percent:g} %",
            ms(self.report_s),
            ms(self.unchanged_s),
            *map(ms, self.plan_s),
            ms(self.changed_s),
            f"{self.plan_s[0] / self.decode_s:.1%}",
            *map(ms, self.status_s),
            *map(ms, self.conflicts_s),
            f"{self.memory_bytes / 2**20:.0f}",
            f"{self.store_bytes / 2**20:.1f}",
        )


def measured(sizes: Iterable[tuple[int, int, int]], behind_percents: Iterable[int] = (0, 5)) -> Iterator[Sizes]:
    """Every size, in sync and with 5 percent of the datasets behind."""
    for size in sizes:
        for behind in behind_percents:
            command = [sys.executable, "-m", "tests.bench.group_rows", *map(str, size), str(behind)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            yield msgspec.json.decode(done.stdout, type=Sizes)


def measure(folder: Path, size: tuple[int, int, int], behind: float) -> Sizes:
    """One size. What comes first is asked of a witness that has read nothing yet."""
    systems, datasets, snapshots = size
    filled = asker_at(folder)
    group, ids = fill(filled, systems, datasets, snapshots, behind)
    asker = asker_at(folder)
    paths = [f"/sync/{group}/instructions", f"/sync/{group}/status", f"/conflicts/{group}"]
    plan, status, conflicts = (_twice(lambda path=path: asker.ask("GET", path)) for path in paths)
    memory = resident_bytes()
    same, more = (listing(1, datasets, count, behind) for count in (snapshots, snapshots + 1))
    unchanged = cpu_s(lambda: asker.report(ids[1], same))
    report = cpu_s(lambda: asker.report(ids[1], more))
    found = Sizes(
        name=" x ".join(map(str, size)),
        behind_percent=behind,
        report_s=report,
        unchanged_s=unchanged,
        plan_s=plan,
        changed_s=cpu_s(lambda: asker.ask("GET", paths[0])),
        decode_s=_decoding(asker.witness.store, ids),
        status_s=status,
        conflicts_s=conflicts,
        memory_bytes=memory,
        store_bytes=asker.witness.store.size_bytes(),
    )
    for opened in (filled, asker):
        opened.witness.store.close()
    return found


def _twice(ask: Work) -> tuple[float, float]:
    return cpu_s(ask), cpu_s(ask)


def _decoding(store: Store, ids: list[str]) -> float:
    """What it takes to decode every document of every inventory, their bytes being there."""
    kept = [store.read(inventory_of(id)).datasets for id in ids]
    return cpu_s(lambda: [table.all() for table in kept])


def main() -> None:
    """Print one size's figures as JSON."""
    *size, behind = sys.argv[1:]
    systems, datasets, snapshots = map(int, size)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), (systems, datasets, snapshots), float(behind))
        sys.stdout.write(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
