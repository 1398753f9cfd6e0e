"""From the version before to this one, an instance at a time, while agents write: nothing acknowledged is lost."""

import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.archives import unpack
from tests.front import Nginx
from tests.lab import CHECKOUT, Lab, free_port, wait_until_ready
from tests.store_samples import Place
from tests.test_topologies import fill
from tests.witness import ENROLL

OLDER = Path(__file__).parent / "data" / "older"
CALLERS = 2
PAUSE_S = 0.1  # between two writes of a caller
GROUP = """
groups:
  - {name: media, hub: nas, systems: {nas: {root: tank}, backup: {root: vault}}}
"""


class Site(Lab):
    """Two instances over one store, at first of the version before, and nginx in front of them."""

    def __init__(self, folder: Path, older: Path, store_url: str) -> None:
        self.older, self.store_url = older, store_url
        self.ports = [free_port(), free_port()]
        self.servers: list[subprocess.Popen[bytes]] = []
        (folder / "nginx").mkdir(parents=True)
        self.nginx = Nginx(folder / "nginx", self.ports)
        super().__init__(folder / "lab", f"workers: 1\n{GROUP}")

    def start(self) -> None:
        """Both instances."""
        self.address, self.ca_file = f"https://127.0.0.1:{self.nginx.port}", str(self.nginx.certificate)
        self.servers = [self.one(number, self.older) for number in range(2)]
        for number in range(2):
            self.wait_for(number)

    def one(self, number: int, program: Path) -> subprocess.Popen[bytes]:
        """Start an instance."""
        more = {"ZFS_SYNC_STORE_URL": self.store_url} if self.store_url else {}
        limits = '{"registration": "1000/second"}'
        return self.serve(program, ZFS_SYNC_PORT=str(self.ports[number]), ZFS_SYNC_RATE_LIMITS=limits, **more)

    def wait_for(self, number: int) -> None:
        """Until an instance is ready."""
        wait_until_ready(self.ports[number], self.folder / "witness.log")

    def upgrade(self, number: int) -> None:
        """An instance ends, and one of this version takes its place."""
        self.servers[number].terminate()
        assert self.servers[number].wait(30) == 0
        self.servers[number] = self.one(number, CHECKOUT)
        self.wait_for(number)

    def stop(self) -> int:
        for server in self.servers:
            server.terminate()
        statuses = [server.wait(30) for server in self.servers]
        self.nginx.stop()
        return max(statuses)


class Caller(threading.Thread):
    """Registers systems and reports snapshots for them; what nginx cannot have answered by either instance fails."""

    def __init__(self, number: int, site: Site) -> None:
        super().__init__()
        self.number, self.site = number, site
        self.ends = threading.Event()
        self.failed: list[BaseException] = []
        self.acknowledged: dict[str, set[str]] = {}  # the names of snapshots by hostname

    def run(self) -> None:
        try:
            while not self.ends.is_set():
                self.live(f"host-{self.number}-{len(self.acknowledged)}")
        except BaseException as error:
            self.failed.append(error)

    def live(self, hostname: str) -> None:
        made = self.ask("POST", "/systems/register", {"hostname": hostname}, ENROLL)
        names = self.acknowledged[hostname] = set[str]()
        for name in ("1", "2", "3") if made else ():
            body = {"system_id": made["id"], "dataset": "tank/data", "name": name, "guid": name}
            self.ask("POST", "/snapshots", body, made["api_key"])
            names.add(name)
            self.ends.wait(PAUSE_S)

    def ask(self, method: str, path: str, body: Any, key: str) -> Any:
        """The answer; None for a system that is there already, since nginx had to ask twice."""
        try:
            return self.site.call(method, path, body, key)
        except urllib.error.HTTPError as error:
            if error.code == 409:
                return None
            raise


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The program of the version before."""
    unpack(OLDER / "program-0.1.0.tar.xz", tmp_path / "older")
    version = [sys.executable, tmp_path / "older" / "zfs_sync.py", "--version"]
    assert subprocess.run(version, capture_output=True, check=True).stdout == b"ZFS Sync 0.1.0\n"
    return tmp_path / "older"


@pytest.fixture
def site(tmp_path: Path, older: Path, place: Place) -> Iterator[Site]:
    """Two instances of the version before, and two hosts with its agent."""
    made = Site(tmp_path / "site", older, place if isinstance(place, str) else "")
    yield made
    made.stop()


@pytest.mark.on_both
def test_instances_are_upgraded_one_by_one_while_agents_of_the_older_version_write(site: Site) -> None:
    site.script = OLDER / "zfs-sync-agent-0.1.0"
    nas = site.host("nas", "tank")
    backup = site.host("backup", "vault")
    fill(nas, "tank/media", snapshots=2)
    callers = [Caller(number, site) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    backup.agent("report")
    for number in range(2):
        upgrading = threading.Thread(target=site.upgrade, args=(number,))
        upgrading.start()
        nas.snapshot(f"during-{number}", "tank/media")
        nas.agent("run")
        upgrading.join()
    for caller in callers:
        caller.ends.set()
        caller.join()
    assert [caller.failed for caller in callers] == [[]] * CALLERS
    site.report_all()
    assert site.not_in_sync("media") == []
    assert [snap.name for snap in backup.look().dataset("vault/media").snapshots][-1] == "during-1"
    acknowledged = {hostname: names for caller in callers for hostname, names in caller.acknowledged.items()}
    assert len(acknowledged) > 3 * CALLERS
    assert acknowledged.items() <= written(site).items()


def written(site: Site) -> dict[str, set[str]]:
    """The snapshots of tank/data that the witness knows, by hostname."""
    names = {system["id"]: system["hostname"] for system in site.call("GET", "/systems?limit=1000")}
    found: dict[str, set[str]] = {hostname: set() for hostname in names.values()}
    for snap in site.call("GET", "/snapshots?dataset=tank/data&limit=1000"):
        found[names[snap["system_id"]]].add(snap["name"])
    return found
