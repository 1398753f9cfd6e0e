"""From the version before: its data folder opens with nothing lost, its agent works on, and the versions agree."""

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import config
from cli import VERSION
from tests.archives import unpack
from tests.lab import AGENT, CHECKOUT, Lab
from tests.test_topologies import HUB, fill, settle
from tests.witness import ADMIN, ENROLL, client_of
from zfs_sync import open_witness

OLDER = Path(__file__).parent / "data" / "older"


def test_the_data_folder_of_the_version_before_opens_with_all_that_it_has(tmp_path: Path) -> None:
    """As recorded from version 0.1.0, which answered what stands beside."""
    unpack(OLDER / "witness-0.1.0.tar.gz", tmp_path)
    environ = {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}
    witness = open_witness(config.load(tmp_path / "zfs_sync.yaml", environ))
    assert witness.store.check() is None
    client = client_of(witness)
    answered = {
        "systems": sorted([system["id"], system["hostname"]] for system in client.get("/systems")),
        "groups": sorted([group["id"], group["name"]] for group in client.get("/sync-groups")),
        "snapshots": len(client.get("/snapshots?limit=1000")),
        "events": sorted(event["what"] for event in client.get("/events?limit=1000")),
        "conflicts": sorted(
            [conflict["type"], conflict["dataset"]] for conflict in client.get("/conflicts")["conflicts"]
        ),
    }
    assert answered == json.loads((OLDER / "witness-0.1.0.json").read_text())
    group = answered["groups"][0][0]
    client.call("POST", f"/sync/{group}/check")
    assert client.get(f"/sync/{group}/status")["checked_at"]


def test_an_agent_of_the_version_before_works_on(tmp_path: Path) -> None:
    """The old script on the hub and one spoke, today's on the other."""
    lab = Lab(tmp_path / "lab", HUB)
    nas, backup = lab.host("nas", "tank"), lab.host("backup", "vault")
    lab.host("offsite", "pool1")
    for host in (nas, backup):
        assert host.script == AGENT
        host.script = OLDER / "zfs-sync-agent-0.1.0"
    fill(nas, "tank/media", "tank/home videos", snapshots=2)
    settle(lab, "media")
    lab.stop()


def test_the_version_is_the_same_wherever_it_stands() -> None:
    agent = subprocess.run(["sh", AGENT, "--version"], capture_output=True, text=True, check=True).stdout
    changes = re.search(r"^## (?!Unreleased)(\S+)", (CHECKOUT / "CHANGELOG.md").read_text(), re.M)
    images = [
        tag
        for file in (CHECKOUT / "deploy" / "kubernetes").iterdir()
        for tag in re.findall(r"image: zfs-sync:(\S+)", file.read_text())
    ]
    assert agent == f"zfs-sync-agent {VERSION}\n"
    assert changes
    assert {changes[1], *images} == {VERSION}


def test_each_version_says_how_to_upgrade_from_the_one_before() -> None:
    sections = re.findall(r"^## (\S+)\n\n(.*?)(?=^## |\Z)", (CHECKOUT / "CHANGELOG.md").read_text(), re.M | re.S)
    assert len(sections) >= 2
    for (version, said), (before, _) in pairwise([*sections, ("0.1.0", "")]):
        assert said.startswith(f"**Upgrading from {before}**: "), version
