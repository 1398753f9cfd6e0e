"""A witness as a process of its own, and hosts with the real agent over the fake zfs and ssh: real HTTP, real files."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.programs import need
from tests.witness import ADMIN, ENROLL
from tests.zfs_model import Pools
from tests.zfs_state import pools_in

CHECKOUT = Path(__file__).parent.parent
AGENT = CHECKOUT / "deploy" / "zfs-sync-agent"
FAKES = CHECKOUT / "tests" / "fake"
PATH = f"{FAKES}:{Path(sys.executable).parent}:{os.environ['PATH']}"
SPACED = 3600  # seconds between the snapshots that `Host.snapshot` takes


class Lab:
    """A folder with a witness in it and the hosts that it coordinates."""

    def __init__(self, folder: Path, settings: str) -> None:
        need("curl")  # before anything is there to be ended
        self.folder = folder
        self.hosts_folder = folder / "hosts"
        self.hosts_folder.mkdir(parents=True)
        self.hosts: dict[str, Host] = {}
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"  # that all call
        self.ca_file = ""  # what vouches for it, if that is https
        self.script = AGENT  # that new hosts have
        self.config = folder / "zfs_sync.yaml"
        self.config.write_text(f"port: {self.port}\n{settings}")
        self.server: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Serve, as `python zfs_sync.py` does, and wait until it answers."""
        self.server = self.serve(CHECKOUT)
        self.wait()

    def serve(self, program: Path, **more: str) -> subprocess.Popen[bytes]:
        """Start the witness from a checkout, with more in its environment."""
        environ = {**os.environ, "ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL, **more}
        command = [sys.executable, program / "zfs_sync.py", "--config", self.config]
        with (self.folder / "witness.log").open("ab") as log:
            return subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it answers; an emulated machine may be slow."""
        for _ in range(1200):
            try:
                self.call("GET", "/health")
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "witness.log").read_text())

    def stop(self) -> int:
        """End the server as Ctrl-C does; its exit status."""
        assert self.server is not None
        self.server.terminate()
        return self.server.wait(30)

    def call(self, method: str, path: str, body: Any = None, key: str = ADMIN, accept: str = "application/json") -> Any:
        """One call with a key; the JSON, or the text, that it answers."""
        request = urllib.request.Request(
            f"{self.address}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": key, "Accept": accept, "Content-Type": "application/json"},
        )
        trust = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        with urllib.request.urlopen(request, timeout=60, context=trust) as response:
            text = response.read().decode()
        return json.loads(text) if accept == "application/json" and text else text

    def host(self, name: str, pool: str | None = None) -> "Host":
        """A new host, with a pool, known to the witness."""
        host = Host(self, name)
        self.hosts[name] = host
        if pool is not None:
            host.change(lambda pools: pools.create(pool))
        host.agent("register")
        return host

    def report_all(self) -> None:
        """Every host reports once."""
        for host in self.hosts.values():
            host.agent("report")

    def run_all(self) -> None:
        """Every host runs its agent once, in the order in which they were made."""
        for host in self.hosts.values():
            host.agent("run")

    def group(self, name: str) -> str:
        """A group's id."""
        return next(group["id"] for group in self.call("GET", "/sync-groups") if group["name"] == name)

    def status(self, name: str) -> Any:
        """A group's matrix."""
        return self.call("GET", f"/sync/{self.group(name)}/status")

    def not_in_sync(self, name: str) -> list[tuple[str, str, str, str]]:
        """What is not in sync or lags: (dataset, host, status, why)."""
        status = self.status(name)
        hostnames = {system["system_id"]: system["hostname"] for system in status["systems"]}
        return [
            (row["dataset"], hostnames[system_id], cell["status"], cell["why"])
            for row in status["datasets"]
            for system_id, cell in row["systems"].items()
            if cell["status"] != "in_sync" or cell["lag_s"] or cell["lag_snapshots"]
        ]

    def actions(self, name: str) -> Any:
        """All the actions that a group's plan has now."""
        return self.call("GET", f"/sync/{self.group(name)}/instructions")["actions"]


class Host:
    """A machine: a folder with its pools, and an agent configured for it."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.script = lab.script
        self.folder = lab.hosts_folder / name
        self.folder.mkdir()
        self.pools_start = int(time.time()) - 30 * 24 * 3600
        self.change(lambda pools: pools.random.seed(name))
        state = self.folder / "state"
        state.mkdir()
        self.conf = self.folder / "agent.conf"
        self.conf.write_text(
            f"witness={lab.address}\nhostname={name}\nssh_user=root\nenroll_key={ENROLL}\n"
            f"state_dir={state}\nremote_path={PATH}\nretry_s=1\n" + (f"ca_file={lab.ca_file}\n" if lab.ca_file else "")
        )
        self.conf.chmod(0o600)
        self.log = ""
        self.programs: Path | None = None  # a folder whose programs come first

    def change(self, do: Callable[[Pools], Any]) -> None:
        """Do something to the host's pools, as a person at its keyboard would."""
        with pools_in(self.folder) as pools:
            pools.now = max(pools.now, self.pools_start)
            pools.random.seed(f"{self.name} {pools.txg} {time.time_ns()}")
            do(pools)

    def snapshot(self, name: str, *datasets: str, write: int = 100_000) -> None:
        """Write to datasets and snapshot them, an hour after the last time."""

        def do(pools: Pools) -> None:
            pools.now += SPACED
            for dataset in datasets:
                if write:
                    pools.write(dataset, write)
                pools.snapshot(dataset, name)

        self.change(do)

    def look(self) -> Pools:
        """The host's pools as they are."""
        with pools_in(self.folder) as pools:
            return pools

    def agent(self, command: str, status: int | None = 0) -> str:
        """Run the agent; what it said."""
        environ = {
            **os.environ,
            "PATH": f"{self.programs}:{PATH}" if self.programs else PATH,
            "FAKE_ZFS": str(self.folder),
            "FAKE_HOSTS": str(self.lab.hosts_folder),
        }
        done = subprocess.run(
            ["sh", self.script, "--config", self.conf, command],
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.log = done.stdout + done.stderr
        assert status in (None, done.returncode), f"{self.name}: {command} ended with {done.returncode}\n{self.log}"
        return self.log

    def zfs_calls(self) -> list[list[str]]:
        """Every zfs command line that ran here, and none of them twice: the list starts anew."""
        file = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        file.unlink(missing_ok=True)
        return calls


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(port: int, log: Path) -> None:
    """Until a witness that listens there is ready; its log in the AssertionError if it never is."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())


def same_contents(one: Host, dataset: str, other: Host, copy: str) -> bool:
    """Whether two datasets hold the same (the copy may have older snapshots, too)."""
    left, right = one.look().dataset(dataset), other.look().dataset(copy)
    kept = {snap.guid: snap.blocks for snap in right.snapshots}
    return all(kept.get(snap.guid) == snap.blocks for snap in left.snapshots)
