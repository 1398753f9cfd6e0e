"""Hosts with model pools and an agent each, in one folder."""

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.zfs_model import Pools
from tests.zfs_state import pools_in

FAKE = Path(__file__).parent / "fake"
AGENT = Path(__file__).parents[1] / "deploy" / "zfs-sync-agent"


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

    def command(self, *arguments: str, shell: Sequence[str] = ()) -> list[str]:
        return [*shell, str(AGENT), "--config", str(self.config), *arguments]

    def agent(self, *arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
        """Run its agent to the end, by a certain shell if named."""
        return subprocess.run(
            self.command(*arguments, shell=shlex.split(shell)),
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )


def make_host(name: str, folder: Path, witness: str, **settings: object) -> Host:
    """A host with no pools yet, its agent configured for a witness."""
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
