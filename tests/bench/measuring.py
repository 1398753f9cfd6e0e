"""Measuring: CPU time, memory, and what is printed of them."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what was measured, what it was, and what it should be at most (or at least)."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        return self.what, self.measured, self.target, {None: "", True: "yes", False: "**no**"}[self.met]


def at_most(what: str, value: float, limit: float, unit: str, more: str = "") -> Row:
    """A row with an upper bound."""
    return Row(what, f"{value:.3g} {unit}{more}", f"<= {limit:g} {unit}", value <= limit)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def cpu_s(work: Work) -> float:
    """The CPU time, of this process, that something takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def ratios(floor: Work, works: dict[str, Work], times: int) -> tuple[float, dict[str, float]]:
    """The median CPU seconds of a floor, and the medians of others as multiples of it; all take turns."""
    taken: dict[str, list[float]] = {name: [] for name in ("", *works)}
    for _ in range(times):
        for name, work in (("", floor), *works.items()):
            taken[name].append(cpu_s(work))
    medians = {name: statistics.median(found) for name, found in taken.items()}
    of_floor = medians.pop("")
    return of_floor, {name: found / of_floor for name, found in medians.items()}


def each_s(work: Work, times: int) -> float:
    """The CPU seconds of something so short that it has to be done many times over."""

    def many() -> None:
        for _ in range(times):
            work()

    return min(cpu_s(many) for _ in range(5)) / times


def resident_bytes() -> int:
    """The memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def group_cpu_s(leader: int) -> float:
    """The CPU time so far of a process and all its descendants."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,cputimes="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent, _ in map(str.split, listed.splitlines())}
    total = 0
    for pid in parents:
        above = pid
        while above not in (leader, 0, 1) and above in parents:
            above = parents[above]
        if above == leader:
            total += _ticks(pid)
    return total / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0  # it ended meanwhile
    return int(fields[11]) + int(fields[12])
