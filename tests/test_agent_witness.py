"""Agents on three hosts and the real witness over HTTP: what they bring about together."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent_world import calls_of, make_host

ADMIN, ENROLL = "admin." + "a" * 32, "enroll." + "b" * 32
GROUP = """
groups:
  - name: everything
    hub: nas
    systems:
      nas: {root: tank}
      backup: {root: vault/nas}
      offsite: {root: pool1/replica}
"""
VIDEOS = "media/home videos"
ROOTS = {"nas": "tank", "backup": "vault/nas", "offsite": "pool1/replica"}


class Site:
    """Three hosts and their witness, its settings and groups as in zfs_sync.yaml."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        (folder / "zfs_sync.yaml").write_text(f"port: {self.address.rpartition(':')[2]}\nworkers: 1\n{settings}")
        now = int(time.time()) - 86400
        self.hosts = {name: make_host(name, folder, self.address, enroll_key=ENROLL) for name in ROOTS}
        for name, root in ROOTS.items():
            with self.hosts[name].pools() as pools:
                pools.now = now
                pools.create(root.split("/")[0])
                if "/" in root:
                    pools.create(root)
        with self.hosts["nas"].pools() as nas:
            for dataset in ("tank/docs", "tank/media", f"tank/{VIDEOS}"):
                nas.create(dataset)
        for _ in range(3):
            self.a_day_passes()

    def a_day_passes(self) -> None:
        """Write something into docs and the videos, and snapshot each dataset."""
        with self.hosts["nas"].pools() as nas:
            nas.now += 3600
            for dataset in ("tank/docs", f"tank/{VIDEOS}"):
                nas.write(dataset, 9000)
            for dataset in ("tank/docs", "tank/media"):
                nas.snapshot(dataset, f"auto-{nas.now}", recursive=True)

    def run(self, *names: str, status: int = 0) -> str:
        """Run these agents one after the other; what they said."""
        said = ""
        for name in names:
            run = self.hosts[name].agent("run")
            assert run.returncode == status, run.stderr
            said += run.stderr
        return said

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """An admin's request to the API."""
        headers = {"X-API-Key": ADMIN, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/api/v1{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def statuses(self) -> dict[tuple[str, str], str]:
        """By host and dataset: in_sync, out_of_sync ..."""
        hostnames = {system["id"]: system["hostname"] for system in self.ask("GET", "/systems")}
        cells = {}
        for state in self.ask("GET", "/sync/states"):
            hostname = hostnames[state["system_id"]]
            cells[hostname, state["dataset"]] = state["status"]
        return cells

    def guids(self, name: str, path: str) -> list[str]:
        return self.hosts[name].guids(f"{ROOTS[name]}/{path}")


@contextmanager
def running_site(folder: Path, settings: str = GROUP) -> Iterator[Site]:
    """A site whose witness serves, and whose hosts are registered."""
    site = Site(folder, settings)
    with (folder / "witness.log").open("wb") as log:
        witness = subprocess.Popen(
            [sys.executable, "zfs_sync.py", "serve", "--config", str(folder / "zfs_sync.yaml")],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(site, witness, folder / "witness.log")
        for host in site.hosts.values():
            run = host.agent("register")
            assert run.returncode == 0, run.stderr
        yield site
    finally:
        witness.terminate()
        witness.wait(timeout=30)


def wait_for(site: Site, witness: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        try:
            site.ask("GET", "/health/ready")
        except (urllib.error.URLError, ConnectionError):
            assert witness.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def test_one_run_on_each_host_brings_everything_everywhere(site: Site) -> None:
    site.run("backup", "offsite", "nas", "backup", "offsite")
    for path in ("docs", "media", VIDEOS):
        assert site.guids("backup", path) == site.guids("offsite", path) == site.guids("nas", path)
    assert set(site.statuses().values()) == {"in_sync"}
    with site.hosts["backup"].pools() as backup, site.hosts["nas"].pools() as nas:
        assert backup.dataset(f"vault/nas/{VIDEOS}").blocks == nas.dataset(f"tank/{VIDEOS}").blocks
        assert backup.dataset("vault/nas/docs").properties["readonly"] == "on"

    sent_before = len([call for call in calls_of(site.hosts["nas"]) if call[0] == "send"])
    site.run("nas")
    assert len([call for call in calls_of(site.hosts["nas"]) if call[0] == "send"]) == sent_before
    site.a_day_passes()
    site.run("nas", "backup", "offsite")
    assert site.guids("offsite", "docs") == site.guids("nas", "docs")


def test_pulling_brings_the_same(tmp_path: Path) -> None:
    with running_site(tmp_path, GROUP + "    transfer: pull\n") as site:
        site.run("nas", "backup", "offsite")
        assert site.guids("backup", VIDEOS) == site.guids("offsite", VIDEOS) == site.guids("nas", VIDEOS)
        assert not any(call[0] == "receive" for call in calls_of(site.hosts["nas"]))


def test_a_broken_transfer_is_resumed_once_it_may_be_tried_again(site: Site) -> None:
    site.run("backup", "offsite", "nas", "backup", "offsite")
    site.a_day_passes()
    site.hosts["nas"].fault('{"send": {"cut": 5000}}')
    site.run("nas", status=1)
    with site.hosts["backup"].pools() as backup:
        assert backup.token("vault/nas/docs")
    site.hosts["nas"].fault("{}")
    said = site.run("backup", "offsite", "nas")
    assert "start resume vault/nas/docs" in said
    assert site.guids("backup", "docs") == site.guids("nas", "docs")


def test_a_replica_that_was_written_to_waits_for_a_decision_and_keeps_what_it_has(site: Site) -> None:
    site.run("backup", "offsite", "nas", "backup", "offsite")
    with site.hosts["backup"].pools() as backup:
        backup.write("vault/nas/docs", 7777)
        mine = backup.snapshot("vault/nas/docs", "mine").guid
    site.a_day_passes()
    site.run("backup", "offsite", "nas", "offsite")
    assert site.guids("offsite", "docs") == site.guids("nas", "docs")
    assert site.guids("backup", "docs")[-1] == mine
    conflict = next(row for row in site.ask("GET", "/conflicts")["conflicts"] if row["type"] == "diverged")
    assert (conflict["dataset"], conflict["status"]) == ("docs", "open")
    assert site.statuses()["backup", "vault/nas/docs"] == "conflict"

    hub = next(row["id"] for row in site.ask("GET", "/systems") if row["hostname"] == "nas")
    choice = {"strategy": "manual", "resolution_data": {"system_id": hub, "discard": False}}
    site.ask("POST", f"/conflicts/{conflict['id']}/resolve", choice)
    site.run("backup", "nas", "backup", "offsite")
    site.run("nas", "backup", "offsite")
    assert site.guids("backup", "docs") == site.guids("nas", "docs")
    with site.hosts["backup"].pools() as backup:
        kept = [name for name in backup.datasets if mine in backup.guids(name)]
        assert len(kept) == 1
        assert kept != ["vault/nas/docs"]
    assert site.statuses()["backup", "vault/nas/docs"] == "in_sync"


def test_the_plan_is_the_witness_s_own(site: Site) -> None:
    pem = site.folder / "witness.pem"
    with urllib.request.urlopen(f"{site.address}/api/v1/public-key", timeout=30) as answer:
        pem.write_bytes(answer.read())
    for host in site.hosts.values():
        host.configure(public_key=pem)
    said = site.run("backup", "offsite", "nas")
    assert "refused" not in said
    assert site.guids("backup", "docs") == site.guids("nas", "docs")
    with site.hosts["nas"].config.open("a") as file:
        file.write(f"public_key = {other_key(site.folder)}\n")
    assert "signature" in site.run("nas", status=1)


def test_a_transfer_goes_on_to_its_end_when_its_window_closes(site: Site) -> None:
    site.run("backup", "offsite")
    nas = site.hosts["nas"]
    nas.configure(progress_s=1, parallel=1)
    nas.fault('{"send": {"hang": 4}}')
    agent = subprocess.Popen(nas.command("run"), env=nas.environment, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if any(call[0] == "send" for call in calls_of(nas)):
            break
        time.sleep(0.1)
    later = time.strftime("%H", time.gmtime(time.time() + 7200))
    with (site.folder / "zfs_sync.yaml").open("a") as file:
        file.write(f"    window: {later}:00-{later}:01\n")
    said = agent.communicate(timeout=100)[1]
    assert agent.returncode == 0, said
    assert said.count("zfs-sync-agent: start ") == said.count("zfs-sync-agent: done ") == 1
    assert "skipped create" in said  # what was to come after it
    group = site.ask("GET", "/sync-groups")[0]["id"]
    plan = site.ask("GET", f"/sync/{group}/instructions")
    assert [action for action in plan["actions"] if action["action_type"] == "create"] == []
    assert any("window of the group everything is closed" in skip["reason"] for skip in plan["skipped"])
    sent = [call for call in calls_of(nas) if call[0] == "send"]
    site.run("nas")
    assert [call for call in calls_of(nas) if call[0] == "send"] == sent


def other_key(folder: Path) -> Path:
    """Another witness's public key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = folder / "other.pem"
    public = Ed25519PrivateKey.generate().public_key()
    pem.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return pem
