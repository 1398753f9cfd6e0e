"""What the operations guide tells people to do, done: the real witness and agents, a zfs that moves state."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from planner.alerts import Kind
from tests.lab import PATH, Host, Lab
from tests.test_topologies import HUB, fill, settle

GUIDE = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Three hosts in sync, the first one the hub."""
    made = Lab(tmp_path / "lab", HUB)
    nas = made.host("nas", "tank")
    made.host("backup", "vault")
    made.host("offsite", "pool1")
    fill(nas, "tank/media", "tank/docs", snapshots=2)
    settle(made, "media")
    yield made
    made.stop()


def change_groups(lab: Lab, old: str, new: str) -> None:
    """Edit zfs_sync.yaml as an admin would, while the witness runs."""
    text = lab.config.read_text()
    assert old in text
    lab.config.write_text(text.replace(old, new))


def received(lab: Lab) -> list[str]:
    """The hosts on which something was received since the last look."""
    return [name for name, host in lab.hosts.items() if any(call[0] == "receive" for call in host.zfs_calls())]


def test_a_witness_is_restored_or_learns_all_again_and_nothing_is_sent_twice(lab: Lab) -> None:
    saved = str(lab.folder / "saved.tar.gz")
    command(lab, "backup", saved)
    lab.stop()
    shutil.rmtree(lab.folder / "data")
    command(lab, "restore", saved)
    lab.start()
    received(lab)
    settle(lab, "media")

    lab.stop()
    shutil.rmtree(lab.folder / "data")
    lab.start()
    for host in lab.hosts.values():
        host.agent("report", status=1)
        lines = [line for line in host.conf.read_text().splitlines() if not re.match(r"system_id|api_key", line)]
        host.conf.write_text("\n".join(lines) + "\n")
        host.agent("register")
    lab.report_all()
    assert lab.not_in_sync("media") == []
    assert received(lab) == []


def command(lab: Lab, *argv: str) -> None:
    """Run a command on the witness's machine."""
    program = ["python3", str(Path(__file__).parent.parent / "zfs_sync.py"), *argv, "--config", str(lab.config)]
    subprocess.run(program, env={**os.environ, "PATH": PATH}, check=True, capture_output=True, timeout=60)


def test_a_spoke_takes_over_and_an_old_hub_with_snapshots_of_its_own_waits_for_a_decision(lab: Lab) -> None:
    nas, backup = lab.hosts["nas"], lab.hosts["backup"]
    nas.snapshot("never-sent", "tank/media")
    change_groups(lab, "hub: nas", "hub: backup")
    backup.snapshot("after-the-fire", "vault/nas/media", "vault/nas/docs")
    lab.report_all()
    assert {action["source_system_id"] for action in lab.actions("media")} == {system_id(lab, "backup")}
    received(lab)
    lab.run_all()
    lab.report_all()
    assert set(received(lab)) == {"nas", "offsite"}
    assert [(path, host, status) for path, host, status, _ in lab.not_in_sync("media")] == [
        ("media", "nas", "conflict")
    ]
    assert names(nas, "tank/media")[-1] == "never-sent"
    assert names(nas, "tank/docs")[-1] == "after-the-fire"


def names(host: Host, dataset: str) -> list[str]:
    """The snapshots of a dataset, oldest first."""
    return [snap.name for snap in host.look().dataset(dataset).snapshots]


def test_a_box_seeded_from_a_disk_gets_increments_only(lab: Lab) -> None:
    nas, offsite = lab.hosts["nas"], lab.hosts["offsite"]
    offsite.change(lambda pools: pools.destroy("pool1/replica", recursive=True))
    offsite.change(lambda pools: pools.create("pool1/replica"))
    for name in ("media", "docs"):
        carry(nas, f"tank/{name}@auto-2", offsite, f"pool1/replica/{name}")
    nas.snapshot("auto-3", "tank/media", "tank/docs")
    lab.report_all()
    to_offsite = [action for action in lab.actions("media") if action["target_system_id"] == system_id(lab, "offsite")]
    assert {(action["dataset"], action["action_type"]) for action in to_offsite} == {
        ("tank/media", "sync"),
        ("tank/docs", "sync"),
    }


def carry(source: Host, snapshot: str, target: Host, dataset: str) -> None:
    """Send a snapshot in full by hand, as by way of a disk."""
    whole = subprocess.run(
        ["zfs", "send", snapshot], env=environ_of(source), check=True, capture_output=True, timeout=60
    ).stdout
    subprocess.run(["zfs", "receive", "-u", dataset], env=environ_of(target), input=whole, check=True, timeout=60)


def environ_of(host: Host) -> dict[str, str]:
    return {**os.environ, "PATH": PATH, "FAKE_ZFS": str(host.folder)}


def system_id(lab: Lab, hostname: str) -> str:
    """The id of a host."""
    (found,) = (system["id"] for system in lab.call("GET", "/systems") if system["hostname"] == hostname)
    return str(found)


def test_the_guide_says_what_each_alert_means() -> None:
    rows = re.findall(r"^\| (\w+) \|.*\|.*\|$", GUIDE.partition("## What each alert means")[2], re.M)
    assert sorted(rows) == sorted(["Alert", *get_args(Kind)])


def test_every_section_of_the_guide_is_in_its_contents() -> None:
    sections = re.findall(r"^## (.+)$", GUIDE, re.M)
    assert re.findall(r"^- \[(.+?)\]\(#(.+?)\)$", GUIDE, re.M) == [
        (section, re.sub(r"[^a-z -]", "", section.lower()).replace(" ", "-")) for section in sections
    ]
