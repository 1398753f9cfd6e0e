"""Hosts with model pools and an agent each, in one folder."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.programs import need
from tests.scripted_witness import ScriptedWitness, action
from tests.zfs_model import Pools
from tests.zfs_state import pools_in

FAKE = Path(__file__).parent / "fake"
AGENT = Path(__file__).parents[1] / "deploy" / "zfs-sync-agent"
VIDEOS = "tank/home videos"  # names may contain spaces
COPY = "vault/nas/home videos"
COLUMNS = (  # of a full report
    "name,type,guid,createtxg,creation,used,referenced,written,encryption,receive_resume_token,origin,"
    "available,userrefs,readonly,mounted,mountpoint"
)


def shells(*names: str) -> list[Any]:
    """A parameter for each, left out where it is not installed."""
    return [
        pytest.param(name, marks=pytest.mark.skipif(which(name.split()[0]) is None, reason=f"there is no {name} here"))
        for name in names
    ]


SHELLS = shells(
    "dash", "bash --posix", "busybox sh", "mksh", "ksh93", "yash"
)  # those of Debian that can be sh elsewhere


@dataclass
class Host:
    """A machine with pools and an agent."""

    name: str
    folder: Path
    config: Path
    environment: dict[str, str]

    @contextmanager
    def pools(self) -> Iterator[Pools]:
        """Its pools, to change or to look at."""
        with pools_in(self.folder) as pools:
            yield pools

    def guids(self, dataset: str) -> list[str]:
        """The guids of a dataset's snapshots, oldest first."""
        with self.pools() as pools:
            return pools.guids(dataset)

    def configure(self, **settings: object) -> None:
        """Add lines to the agent's configuration."""
        with self.config.open("a") as file:
            file.writelines(f"{key} = {value}\n" for key, value in settings.items())

    def fault(self, json: str) -> None:
        """Make its zfs misbehave (see fake/zfs)."""
        (self.folder / "faults.json").write_text(json)

    def wrap(self, program: str, script: str) -> None:
        """Put a script in the place of one of its programs."""
        folder = self.config.parent / f"{self.name}.wrapped"
        folder.mkdir(exist_ok=True)
        (folder / program).write_text(f"#!/bin/sh\n{script}\n")
        (folder / program).chmod(0o755)
        if not self.environment["PATH"].startswith(f"{folder}:"):
            self.environment["PATH"] = f"{folder}:{self.environment['PATH']}"

    def unwrap(self, program: str) -> None:
        """Take that script away again."""
        (self.config.parent / f"{self.name}.wrapped" / program).unlink()

    def command(self, *arguments: str, shell: Sequence[str] = ()) -> list[str]:
        return [*shell, str(AGENT), "--config", str(self.config), *arguments]

    def agent(self, *arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
        """Run its agent to the end, by a certain shell if named."""
        return subprocess.run(
            self.command(*arguments, shell=shlex.split(shell)),
            env=self.environment,
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )


def make_host(name: str, folder: Path, witness: str, **settings: object) -> Host:
    """A host with no pools yet, its agent configured for a witness."""
    need("curl")
    host = Host(
        name,
        folder / "hosts" / name,
        folder / f"{name}.conf",
        {
            **os.environ,
            "PATH": f"{FAKE}:/usr/bin:/bin",
            "FAKE_HOSTS": str(folder / "hosts"),
            "FAKE_ZFS": str(folder / "hosts" / name),
        },
    )
    host.folder.mkdir(parents=True)
    host.config.write_text("# an agent's configuration\n\n")
    host.configure(
        witness=witness,
        hostname=name,
        state_dir=folder / f"{name}.state",
        remote_path=f"{FAKE}:/usr/bin:/bin",
        retry_s=0,
        **settings,
    )
    return host


def calls_of(host: Host) -> list[list[str]]:
    """Every zfs command that ran on a host."""
    log = host.folder / "calls.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@dataclass
class World:
    """A witness, a source with VIDEOS' days 1 to 3, and a target with vault/nas."""

    witness: ScriptedWitness
    nas: Host
    backup: Host

    def transfer(self, end: int, base: int | None = None, **fields: str) -> dict[str, str]:
        """A push of VIDEOS up to a day, from a day."""
        guids = self.nas.guids(VIDEOS)
        row = action(
            action_id=f"a{end}",
            action_type="sync" if base else "create",
            executor_system_id="nas",
            source_system_id="nas",
            target_system_id="backup",
            dataset=VIDEOS,
            target_dataset=COPY,
            snapshot_name=f"day {end}",
            snapshot_guid=guids[end - 1],
            target_ssh_hostname="backup",
            target_ssh_user="root",
            target_ssh_port="2222",
            source_ssh_hostname="nas",
            kind="filesystem",
            reason="backup lacks it",
            estimated_size="3500",
        )
        if base:
            row |= {
                "incremental_base": f"day {base}",
                "incremental_base_guid": guids[base - 1],
                "intermediates": "true",
            }
        return row | fields

    def change(self, kind: str, **fields: str) -> dict[str, str]:
        """A step that changes COPY on backup, by its own agent."""
        row = action(
            action_id=f"c-{kind}",
            action_type=kind,
            executor_system_id="backup",
            target_system_id="backup",
            target_dataset=COPY,
            reason="decided",
        )
        return row | fields

    def copied(self) -> "World":
        """The same, where backup has received days 1 and 2."""
        with self.nas.pools() as nas, self.backup.pools() as backup:
            backup.receive(COPY, nas.send(VIDEOS, "day 1"))
            backup.receive(COPY, nas.send(VIDEOS, "day 2", "day 1"))
        return self


@contextmanager
def make_world(tmp_path: Path) -> Iterator[World]:
    """A scripted witness and both hosts, in a folder."""
    witness = ScriptedWitness()
    nas, backup = (
        make_host(name, tmp_path, witness.address, system_id=name, api_key=f"{name}.secret")
        for name in ("nas", "backup")
    )
    with nas.pools() as pools:
        pools.create("tank")
        pools.create(VIDEOS)
        for day in (1, 2, 3):
            pools.write(VIDEOS, 1000 * day)
            pools.write(VIDEOS, 500)
            pools.snapshot(VIDEOS, f"day {day}")
    with backup.pools() as pools:
        pools.create("vault")
        pools.create("vault/nas")
    for name in ("nas", "backup"):  # a full report is due only where a test wants it
        (tmp_path / f"{name}.state").mkdir()
        (tmp_path / f"{name}.state" / "reported").write_text("2000000000\n")
    yield World(witness, nas, backup)
    witness.shutdown()
    witness.server_close()
