"""What the operations guide tells people to do, done: the real witness and agents, a zfs that moves state."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from planner.alerts import Kind
from tests.lab import CHECKOUT, PATH, Host, Lab
from tests.postgres_server import Server
from tests.test_topologies import HUB, fill

GUIDE = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Path]:
    """Three hosts in sync, the first one the hub, and a copy of all that they and the witness have."""
    folder = tmp_path_factory.mktemp("operations")
    made = Lab(folder / "lab", HUB)
    nas = made.host("nas", "tank")
    made.host("backup", "vault")
    made.host("offsite", "pool1")
    fill(nas, "tank/media", "tank/docs", snapshots=2)
    made.report_all()
    made.run_all()
    made.report_all()
    assert made.not_in_sync("media") == []
    made.stop()
    return made, Path(shutil.copytree(made.folder, folder / "copy"))


@pytest.fixture
def lab(settled: tuple[Lab, Path]) -> Iterator[Lab]:
    """The same site for each test."""
    made, copy = settled
    shutil.rmtree(made.folder)
    shutil.copytree(copy, made.folder)
    made.start()
    received(made)
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
    drill = {"ZFS_SYNC_DATA_DIR": str(lab.folder / "drill")}
    command(lab, "restore", saved, **drill)
    command(lab, "check", **drill)
    assert all(name in command(lab, "systems", **drill) for name in lab.hosts)
    lab.stop()
    shutil.rmtree(lab.folder / "data")
    command(lab, "restore", saved)
    lab.start()
    lab.run_all()
    assert (lab.not_in_sync("media"), lab.actions("media"), received(lab)) == ([], [], [])

    lab.stop()
    shutil.rmtree(lab.folder / "data")
    lab.start()
    for host in lab.hosts.values():
        host.agent("report", status=1)
        set_in_conf(host, system_id="", api_key="")
        host.agent("register")
    lab.report_all()
    assert lab.not_in_sync("media") == []
    assert received(lab) == []


def command(lab: Lab, *argv: str, **environ: str) -> str:
    """Run a command on the witness's machine; what it printed."""
    program = [sys.executable, str(CHECKOUT / "zfs_sync.py"), *argv, "--config", str(lab.config)]
    done = subprocess.run(
        program, env={**os.environ, "PATH": PATH, **environ}, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def test_keys_are_rotated_and_the_store_moves_to_postgresql_and_agents_go_on(lab: Lab, postgresql: Server) -> None:
    nas, backup = lab.hosts["nas"], lab.hosts["backup"]
    new = command(lab, "keys", "rotate", "nas").strip()
    nas.agent("report")  # the old one works for a day
    set_in_conf(nas, api_key=new)
    nas.agent("report")
    command(lab, "keys", "revoke", "backup")
    assert "401" in backup.agent("report", status=1)
    set_in_conf(backup, api_key=command(lab, "keys", "create", "agent", "--system", "backup").strip())
    backup.agent("report")

    lab.stop()
    address = postgresql.address(postgresql.new_schema())
    command(lab, "backup", str(lab.folder / "before-postgresql.tar.gz"))
    command(lab, "copy-store", str(lab.folder / "data"), address)
    lab.config.write_text(f"store_url: {address}\n{lab.config.read_text()}")
    (lab.folder / "data").rename(lab.folder / "not-used-any-more")
    lab.start()
    nas.snapshot("after-the-move", "tank/media", "tank/docs")
    lab.run_all()
    lab.report_all()
    assert lab.not_in_sync("media") == []
    assert names(backup, "vault/nas/media")[-1] == "after-the-move"


def set_in_conf(host: Host, **values: str) -> None:
    """Change lines of a host's agent.conf."""
    lines = [line for line in host.conf.read_text().splitlines() if line.split("=")[0].strip() not in values]
    host.conf.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in values.items())]) + "\n")


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

    (conflict,) = (each for each in lab.call("GET", "/conflicts")["conflicts"] if each["type"] == "diverged")
    choice = {"strategy": "manual", "resolution_data": {"system_id": system_id(lab, "backup")}}
    lab.call("POST", f"/conflicts/{conflict['id']}/resolve", choice)
    for _ in range(2):  # what one host does, another goes on from
        lab.run_all()
    lab.report_all()
    assert lab.not_in_sync("media") == []
    aside = [name for name in nas.look().datasets if name.startswith("tank/media") and name != "tank/media"]
    assert [names(nas, name)[-1] for name in aside] == ["never-sent"]  # nothing of the old hub's own is lost
    change_groups(lab, "hub: backup", "hub: nas")
    nas.snapshot("back-again", "tank/media", "tank/docs")
    lab.run_all()
    lab.report_all()
    assert lab.not_in_sync("media") == []
    assert names(backup, "vault/nas/media")[-2:] == ["after-the-fire", "back-again"]


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


def test_a_new_nas_gets_the_datasets_back_and_goes_on_where_the_old_one_stopped(lab: Lab) -> None:
    nas, backup = lab.hosts["nas"], lab.hosts["backup"]
    change_groups(lab, "hub: nas", "enabled: false\n    hub: nas")
    empty(nas)
    nas.conf.write_text(f"witness={lab.address}\nhostname=nas\nssh_user=root\nstate_dir={nas.folder}/new\n")
    nas.conf.chmod(0o600)
    (nas.folder / "new").mkdir()
    key = command(lab, "keys", "rotate", "nas").strip()
    set_in_conf(nas, system_id=system_id(lab, "nas"), api_key=key, remote_path=PATH)
    nas.agent("report")
    assert lab.actions("media") == []
    for name in ("media", "docs"):
        carry(backup, f"vault/nas/{name}@auto-1", nas, f"tank/{name}-restored")
        carry(backup, f"vault/nas/{name}@auto-2", nas, f"tank/{name}-restored", "-I", "@auto-1")
        nas.change(lambda pools, name=name: pools.rename(f"tank/{name}-restored", f"tank/{name}"))
    nas.agent("report")
    change_groups(lab, "enabled: false\n    ", "")
    assert (lab.actions("media"), lab.not_in_sync("media")) == ([], [])
    nas.snapshot("on-the-new-one", "tank/media", "tank/docs")
    received(lab)
    lab.run_all()
    lab.report_all()
    assert lab.not_in_sync("media") == []
    assert set(received(lab)) == {"backup", "offsite"}


def test_an_empty_nas_makes_no_replica_follow_it(lab: Lab) -> None:
    """If one forgets all of it."""
    empty(lab.hosts["nas"])
    before = {name: names(lab.hosts["backup"], f"vault/nas/{name}") for name in ("media", "docs")}
    lab.report_all()
    lab.run_all()
    assert {name: names(lab.hosts["backup"], f"vault/nas/{name}") for name in before} == before
    assert received(lab) == []


def empty(host: Host) -> None:
    """New disks."""
    for name in ("tank/media", "tank/docs"):
        host.change(lambda pools, name=name: pools.destroy(name, recursive=True))


def carry(source: Host, snapshot: str, target: Host, dataset: str, *base: str) -> None:
    """Send a snapshot by hand, in full if no base is named, as by way of a disk."""
    whole = subprocess.run(
        ["zfs", "send", *base, snapshot], env=environ_of(source), check=True, capture_output=True, timeout=60
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
