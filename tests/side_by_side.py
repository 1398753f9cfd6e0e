"""The agent beside syncoid and bzfs, on the same real pools: seconds, and processes started on the machine.

    python -m tests.side_by_side [--vm COMMAND] [--bzfs WHEEL] [DATASETS ...]

It makes two pools in files, and sends from one to the other through ssh to the same machine. With --vm, everything
but the witness is done in the virtual machine that COMMAND controls: it must know `run COMMAND`, `push FROM TO` and
`expose PORT`. Without, it needs root, OpenZFS, and an ssh to root@localhost without a password here.
A tool that is not there is left out. Each phase is run by one tool after the other, so that all share the hour; each
has a source of its own with the same in it, since bzfs puts bookmarks on its source.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab import AGENT, ENROLL, Lab

HERE = "/root/side-by-side"
TOOLS = ("agent", "syncoid", "bzfs")
GROUP = """
groups:
  - name: side-by-side
    hub: source
    systems:
      source: {{root: sidesource/agent{number}}}
      target: {{root: sidetarget/agent{number}}}
"""
MEASURE = """
read -r begin _ </proc/uptime; before=$(sed -n 's/^processes //p' /proc/stat)
{ COMMAND
} >/tmp/side-by-side.log 2>&1 || { tail -n 20 /tmp/side-by-side.log >&2; exit 1; }
read -r end _ </proc/uptime; after=$(sed -n 's/^processes //p' /proc/stat)
echo "$begin $end $before $after"
"""
POOLS = """
for pool in sidesource sidetarget; do
    zpool destroy -f $pool 2>/dev/null
    rm -f /var/tmp/$pool.img; truncate -s 1G /var/tmp/$pool.img
    zpool create -O atime=off -O mountpoint=none $pool /var/tmp/$pool.img || exit 1
done
"""


class Machine:
    """Where the pools are: this machine, or one that a command controls."""

    def __init__(self, vm: str | None) -> None:
        self.vm = vm

    def run(self, command: str) -> str:
        """What a shell command prints. Raises CalledProcessError."""
        argv = [self.vm, "run", command] if self.vm else ["sh", "-c", command]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL).stdout

    def push(self, source: Path, target: str) -> None:
        """Copy a file to it."""
        argv = [self.vm, "push", str(source), target] if self.vm else ["cp", str(source), target]
        subprocess.run(argv, check=True)

    def has(self, program: str) -> bool:
        return self.run(f"command -v {program} || true").strip() != ""

    def measure(self, command: str) -> tuple[float, int]:
        """Seconds, and processes that were started on the whole machine meanwhile."""
        begin, end, before, after = self.run(MEASURE.replace("COMMAND", command)).split()
        return float(end) - float(begin), int(after) - int(before) - 1  # the sed


def tools(machine: Machine, number: int, bzfs: Path | None) -> dict[str, str]:
    """What brings sidetarget up to date, by tool."""
    found = {"this agent, both hosts": "; ".join(agent(name) for name in ("source", "target"))}
    if machine.has("syncoid"):
        places = f"sidesource/syncoid{number} root@localhost:sidetarget/syncoid{number}"
        found["syncoid"] = f"syncoid --quiet --no-sync-snap --recursive {places}"
    if bzfs is not None:
        program = "from bzfs_main.bzfs import main; main()"
        places = f"sidesource/bzfs{number} root@localhost:sidetarget/bzfs{number}"
        found["bzfs"] = f"PYTHONPATH={HERE}/bzfs python3 -c '{program}' {places} --recursive"
    return found


def agent(name: str, command: str = "run") -> str:
    return f"{HERE}/zfs-sync-agent --config {HERE}/{name}.conf {command}"


def set_up(machine: Machine, port: int, bzfs: Path | None) -> None:
    """Pools, both agents registered, bzfs unpacked."""
    machine.run(f"rm -rf {HERE}; mkdir -p {HERE}; {POOLS}")
    machine.push(AGENT, f"{HERE}/zfs-sync-agent")
    if bzfs is not None:
        machine.push(bzfs, f"{HERE}/bzfs.whl")
        machine.run(f"python3 -m zipfile -e {HERE}/bzfs.whl {HERE}/bzfs")
    if machine.vm:
        subprocess.run([machine.vm, "expose", str(port)], check=True)
    for name in ("source", "target"):
        lines = (
            f"witness = http://127.0.0.1:{port}",
            f"hostname = {name}",
            "ssh_hostname = localhost",
            "ssh_user = root",
            f"enroll_key = {ENROLL}",
            f"state_dir = {HERE}/{name}",
        )
        machine.run("umask 077; printf '%s\\n' " + " ".join(f"'{line}'" for line in lines) + f" >{HERE}/{name}.conf")
        machine.run(agent(name, "register"))


def compare(machine: Machine, lab: Lab, number: int, bzfs: Path | None) -> dict[str, dict[str, tuple[float, int]]]:
    """By phase and tool: seconds and processes."""
    lab.config.write_text(f"port: {lab.port}\n" + GROUP.format(number=number))
    for tool in TOOLS:
        machine.run(
            f"zfs create sidesource/{tool}{number}; "
            f"for i in $(seq {number}); do zfs create sidesource/{tool}{number}/d$i; done; "
            f"for s in 1 2 3; do zfs snapshot -r sidesource/{tool}{number}@day$s; done"
        )
    for name in ("source", "target"):  # on one machine, each would list what belongs to the other, too
        machine.run(f"sed -i '/^roots/d' {HERE}/{name}.conf; echo roots=side{name}/agent{number} >>{HERE}/{name}.conf")
    machine.run(agent("target", "report"))
    phases = {"first sync, 3 snapshots each": "true", "one new snapshot each": "day4", "nothing new": "true"}
    results: dict[str, dict[str, tuple[float, int]]] = {}
    for phase, snapshot in phases.items():
        if snapshot != "true":
            machine.run("; ".join(f"zfs snapshot -r sidesource/{tool}{number}@{snapshot}" for tool in TOOLS))
        results[phase] = {}
        for tool, command in tools(machine, number, bzfs).items():
            results[phase][tool] = machine.measure(command)
            seconds, processes = results[phase][tool]
            print(f"{number} datasets, {phase}: {tool}: {seconds:.1f} s, {processes} processes", flush=True)
    return results


def has_all(machine: Machine, number: int) -> bool:
    """Whether the agent's replicas have the very snapshots of the source."""
    guids = "zfs list -Hr -t snapshot -o guid sidesource/agent{0} | sort >/tmp/side.1; "
    guids += "zfs list -Hr -t snapshot -o guid sidetarget/agent{0} | sort >/tmp/side.2; "
    return machine.run(guids.format(number) + "cmp /tmp/side.1 /tmp/side.2 && echo same || true").strip() == "same"


def table(number: int, results: dict[str, dict[str, tuple[float, int]]]) -> str:
    """Markdown; each tool's figures, and how many times ours they are."""
    names = list(next(iter(results.values())))
    lines = [f"| {number} datasets | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for phase, by_tool in results.items():
        ours = by_tool[names[0]]
        cells = []
        for name in names:
            seconds, processes = by_tool[name]
            ratios = "" if name == names[0] else f" ({seconds / ours[0]:.1f}x, {processes / ours[1]:.1f}x)"
            cells.append(f"{seconds:.0f} s, {processes} processes{ratios}")
        lines.append(f"| {phase} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--vm")
    parser.add_argument("--bzfs", type=Path)
    parser.add_argument("datasets", nargs="*", type=int, default=[20])
    asked = parser.parse_args()
    machine = Machine(asked.vm)
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder) / "lab", "")
        try:
            set_up(machine, lab.port, asked.bzfs)
            for number in asked.datasets:
                results = compare(machine, lab, number, asked.bzfs)
                print(f"\n{table(number, results)}\n", flush=True)
                if not has_all(machine, number):
                    print("the agent's replicas lack something", file=sys.stderr)
                    return 1
        finally:
            lab.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
