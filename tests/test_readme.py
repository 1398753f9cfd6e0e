"""README.md as a newcomer follows it: every example is run, in order, on three machines that are folders here.

The blocks of shell run in one shell for each machine: on the witness's, unless the first line says `# on nas` or the
like. A text block is what the block before it prints, with `...` for anything.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from handlers.routes import AT_ROOT, ENDPOINTS
from tests.lab import CHECKOUT
from tests.programs import need
from tests.zfs_state import pools_in

README = (CHECKOUT / "README.md").read_text()
FAKES = CHECKOUT / "tests" / "fake"
HOSTS = ("nas", "backup")


@dataclass(frozen=True)
class Block:
    """A code block, and the line where it begins."""

    kind: str
    text: str
    line: int

    @property
    def hosts(self) -> tuple[str, ...]:
        found = re.match(r"# on (.+)", self.text)
        return tuple(host.removeprefix("on ") for host in found[1].split(", ")) if found else ("witness",)


def blocks() -> list[Block]:
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [Block(each[1], each[2], README.count("\n", 0, each.start()) + 1) for each in found]


def block_with(text: str) -> Block:
    (found,) = [block for block in blocks() if text in block.text]
    return found


class Shell:
    """A shell on one machine, kept open: what one block sets, the next one knows."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        need("curl")
        self.process = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, block: str) -> str:
        """What a block prints. A line that fails ends it, and the test."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"set -e\n{{\n{block}\n}} </dev/null\necho; echo the block is done\n")
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            if line == "the block is done\n":
                return said[:-1]
            said += line
        raise AssertionError(f"{block}\nended with {self.process.wait()} and said:\n{said}")

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()
        self.process.wait(10)


class Newcomer:
    """The witness's machine, `nas` and `backup`: folders with a shell each, and the server once it was started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "witness"
        self.shells: dict[str, Shell] = {}
        self.servers: list[subprocess.Popen[str]] = []
        self.port = free_port()
        self.keys: dict[str, str] = {}
        shutil.copytree(
            CHECKOUT, self.checkout, ignore=shutil.ignore_patterns(".*", "data", "tests", "__pycache__"), symlinks=True
        )
        python = self.checkout / ".venv" / "bin" / "python"  # as the first command would have installed it
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self._open("witness", self.checkout)
        for host in HOSTS:
            self._make_host(host)

    def _make_host(self, host: str) -> None:
        folder = self.folder / host
        commands = self.folder / f"{host}.bin"
        commands.mkdir(parents=True)
        (commands / "hostname").write_text(f"#!/bin/sh\necho {host}\n")
        (commands / "hostname").chmod(0o755)
        with pools_in(folder) as pools:
            pools.now = int(time.time()) - 3 * 3600  # which is late, as every hour is due
            pools.random.seed(host)
            if host == "backup":
                pools.create("vault")
            else:
                for dataset in ("tank", "tank/photos", "tank/home videos"):
                    pools.create(dataset)
                    pools.write(dataset, 100_000)
                pools.snapshot("tank", "before", recursive=True)
                pools.now = int(time.time()) - 600
                pools.snapshot("tank", "after", recursive=True)
        (folder / "deploy").symlink_to(CHECKOUT / "deploy")
        self._open(host, folder, FAKE_ZFS=str(folder), PATH=f"{commands}:{FAKES}:{os.environ['PATH']}")

    def _open(self, host: str, folder: Path, **environ: str) -> None:
        always = {"FAKE_HOSTS": str(self.folder), "ZFS_SYNC_PORT": str(self.port)}
        self.shells[host] = Shell(folder, {**os.environ, **always, **environ})

    def adapted(self, text: str) -> str:
        """A block with the keys that were printed, and with what is different on these machines."""
        for role, key in self.keys.items():
            text = text.replace(f"the {role} key", key)
        text = text.replace("localhost:8000", f"127.0.0.1:{self.port}")
        # the fake zfs is not where an agent looks for one on its peers
        return text.replace("state_dir =", f"remote_path = {FAKES}:{os.environ['PATH']}\nstate_dir =")

    def serve(self, command: str, until: str, *arguments: str) -> str:
        """Start a server from the witness's folder, and wait until it has said something; what it said."""
        log = self.folder / f"server-{len(self.servers)}.log"
        with log.open("w") as out:
            environ = {**os.environ, "ZFS_SYNC_PORT": str(self.port), "TMPDIR": str(self.folder)}
            argv = [*command.split(), *arguments]
            self.servers.append(
                subprocess.Popen(argv, cwd=self.checkout, env=environ, stdout=out, stderr=out, text=True)
            )
        for _ in range(1200):
            if until in log.read_text():
                return log.read_text()
            assert self.servers[-1].poll() is None, log.read_text()
            time.sleep(0.05)
        raise AssertionError(log.read_text())

    def stop(self) -> int:
        """End the server that was started last; its exit status."""
        server = self.servers.pop()
        server.terminate()
        return server.wait(40)

    def close(self) -> None:
        while self.servers:
            self.stop()
        for shell in self.shells.values():
            shell.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    made = Newcomer(tmp_path)
    yield made
    made.close()


def follow(newcomer: Newcomer, block: Block) -> list[str]:
    """Do what a block says; what it printed on each machine."""
    text = newcomer.adapted(block.text)
    if block.kind == "yaml":
        file = newcomer.checkout / "zfs_sync.yaml"
        assert file.read_text().count("\ngroups: []\n") == 1
        file.write_text(file.read_text().replace("\ngroups: []\n", f"\n{text}"))
        return []
    if "pytest" in text:
        return []  # this test is part of it
    if text.endswith("zfs_sync.py demo\n"):
        said = newcomer.serve(text.strip(), "Ctrl-C ends it", "--port", "0")
        assert newcomer.stop() == 0
        return [said]
    if text.endswith("zfs_sync.py\n"):
        *install, run = text.strip().split(" && ")
        assert install == ["python3 -m venv .venv", ".venv/bin/pip install -q -r requirements.txt"]
        said = newcomer.serve(run, "Next, in another terminal")
        newcomer.keys = dict(re.findall(r"(\w+) key +(\S+)", said))
        return [said]
    return [newcomer.shells[host].run(text) for host in block.hosts]


def matches(said: str, expected: str) -> bool:
    pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


def test_every_example_does_what_it_says(newcomer: Newcomer) -> None:
    said: list[str] = []
    for block in blocks():
        if block.kind == "text":
            for each in said:
                assert matches(each, block.text), f"line {block.line} says\n{block.text}\nbut this came:\n{each}"
        else:
            said = follow(newcomer, block)
        if "sh plan.sh" in block.text:
            report_again(newcomer)
    assert newcomer.stop() == 0
    with pools_in(newcomer.folder / "nas") as nas, pools_in(newcomer.folder / "backup") as backup:
        for dataset in ("photos", "home videos"):
            assert len(nas.guids(f"tank/{dataset}")) == 3
            assert nas.guids(f"tank/{dataset}") == backup.guids(f"vault/nas/{dataset}")


def report_again(newcomer: Newcomer) -> None:
    """README: "Then report again, as above, from both machines. The status becomes `OK`"."""
    follow(newcomer, block_with("--data-binary @-"))
    status = newcomer.shells["witness"].run(".venv/bin/python zfs_sync.py status")
    assert status.startswith("OK: everything: ")


def test_the_blocks_are_of_kinds_that_are_checked() -> None:
    assert {block.kind for block in blocks()} == {"sh", "text", "yaml"}
    assert README.count("```") == 2 * len(blocks())


def in_braces(path: str) -> str:
    """A path of ENDPOINTS as it is documented everywhere."""
    return path.replace("<", "{").replace(">", "}")


def test_the_endpoints_are_all_there_and_no_others() -> None:
    rows = re.findall(r"^\| (GET|POST|PUT|DELETE) \| `(\S+)` \| ([^|]+) \|", README, re.MULTILINE)
    assert rows == [(each.method, in_braces(each.path), each.callers.name) for each in ENDPOINTS]
    at_root = {path for _, path, _ in rows if path.startswith(("/health", "/openapi"))}
    assert {in_braces(path) for path in AT_ROOT} == at_root


def test_the_commands_are_all_there_and_no_others() -> None:
    shown = subprocess.run(
        [sys.executable, CHECKOUT / "zfs_sync.py", "-h"], capture_output=True, text=True, check=True
    ).stdout
    there = set(re.findall(r"^    ([\w-]+) ", shown, re.MULTILINE))
    section = README.partition("| Command | What it does |")[2].partition("\n\n")[0]
    first_cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    named = {word for cell in first_cells for word in re.findall(r"`([\w-]+)", cell)} - {"create", "rotate", "revoke"}
    assert named == there


def test_ci_runs_the_test_command_that_stands_here() -> None:
    script = (CHECKOUT / ".ci" / "run").read_text()
    (program,) = re.findall(r"awk '.*?' README\.md", script)
    taken = subprocess.run(program, shell=True, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
    assert taken == next(line for block in blocks() for line in block.text.splitlines() if "pytest" in line)
    assert taken.endswith(".venv/bin/python -m pytest -n auto")
    assert textwrap.shorten(taken, 60).startswith("python3 -m venv .venv && .venv/bin/pip install")
