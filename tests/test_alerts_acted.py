"""The guide's table of alerts, acted out: each is brought about on hosts, seen in force, and ended by what it says."""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import config
from handlers.alerts import alerts_in_force, look
from handlers.local import request_here
from planner.alerts import Kind
from store import LEASES, heartbeat_of, inventory_of
from tests.lab import Host, Lab
from tests.test_operations import change_groups, command, system_id
from tests.test_topologies import fill
from tests.witness import ADMIN, ENROLL
from zfs_sync import open_witness

SETTINGS = "workers: 1\ntick_s: 86400\npool_full_percent: 90\n"  # the test looks, and nobody else
GROUP = """
groups:
  - name: media
    hub: nas
    grace_s: 1
    systems:
      nas: {root: tank}
      backup: {root: vault/nas}
"""


class Site:
    """Two hosts in sync, and what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder / "lab", SETTINGS + GROUP)
        self.nas, self.backup = self.lab.host("nas", "tank"), self.lab.host("backup", "vault")
        fill(self.nas, "tank/media", snapshots=8)
        self.snapshot("today", hours_ago=0)
        self.lab.report_all()
        self.nas.agent("run")
        environ = {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}
        self.witness = open_witness(config.load(self.lab.config, environ))
        self.looked_at = datetime.now(UTC)

    def snapshot(self, name: str, *, hours_ago: float, at: Host | None = None, dataset: str = "tank/media") -> None:
        """A snapshot of so long ago."""

        def do(pools: Any) -> None:
            pools.now = int(time.time() - hours_ago * 3600)
            pools.write(dataset, 1000)
            pools.snapshot(dataset, name)

        (at or self.nas).change(do)

    def wrong(self) -> set[str]:
        """The kinds of the alerts in force after a look; the second one is after every grace."""
        self.looked_at = max(
            datetime.now(UTC), self.looked_at
        )  # of an earlier moment than the last a look tells nothing
        for _ in range(2):
            look(request_here(self.witness, now=self.looked_at))
            self.looked_at += timedelta(seconds=2)
        return {alert.kind for alert in alerts_in_force(self.witness.store)}

    def url(self, system: str) -> str:
        return f"/systems/{system_id(self.lab, system)}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Site(tmp_path_factory.mktemp("alerts"))
    assert made.wrong() == set()
    yield made
    made.lab.stop()


ACTS: dict[str, Callable[[Site], None]] = {}


def acts(kind: Kind) -> Callable[[Callable[[Site], None]], Callable[[Site], None]]:
    """An alert's act: it asserts that the alert is in force, and does what the guide says."""

    def keep(act: Callable[[Site], None]) -> Callable[[Site], None]:
        ACTS[kind] = act
        return act

    return keep


@acts("late")
def late(site: Site) -> None:
    site.snapshot("two-hours-ago", hours_ago=2)
    site.nas.agent("report")
    assert site.wrong() == {"late", "quiet"}
    site.nas.agent("run")
    assert site.wrong() == {"quiet"}
    site.snapshot("now", hours_ago=0)
    site.nas.agent("run")


@acts("quiet")
def quiet(site: Site) -> None:
    site.snapshot("the-last-for-long", hours_ago=3)
    site.nas.agent("run")
    assert site.wrong() == {"quiet"}
    site.snapshot("taken-again", hours_ago=0)
    site.nas.agent("run")


@acts("conflict")
def conflict(site: Site) -> None:
    site.snapshot("written-here", hours_ago=0, at=site.backup, dataset="vault/nas/media")
    site.snapshot("meanwhile", hours_ago=0)
    site.lab.report_all()
    assert "conflict" in site.wrong()
    (found,) = site.lab.call("GET", "/conflicts")["conflicts"]
    assert "diverged: media" in command(site.lab, "conflicts")
    command(site.lab, "resolve", found["id"], "manual", "--system", "nas")
    for host in (site.backup, site.nas, site.backup):  # what one does, another goes on from
        host.agent("run")
    aside = [
        name for name in site.backup.look().datasets if name.startswith("vault/nas/media") and name != "vault/nas/media"
    ]
    assert [site.backup.look().dataset(name).snapshots[-1].name for name in aside] == ["written-here"]
    for name in aside:  # looked at, and not needed
        site.backup.change(lambda pools, name=name: pools.destroy(name, recursive=True))
    site.backup.agent("report")
    accept(site, "backup")  # so many snapshots went at once


@acts("failing")
def failing(site: Site) -> None:
    site.snapshot("does-not-arrive", hours_ago=0)
    moved = site.backup.folder.rename(site.backup.folder.with_name("moved"))  # as if its name no longer resolved
    for _ in range(2):
        site.nas.agent("run", status=None)
        forget_backoff(site)
    assert "failing" in site.wrong()
    assert any("Could not resolve" in str(event["detail"]) for event in site.lab.call("GET", "/events?limit=200"))
    assert "backup" in site.nas.agent("doctor", status=1)
    moved.rename(site.backup.folder)
    site.nas.agent("run")


def forget_backoff(site: Site) -> None:
    """Let the time pass after which a failed step may be tried again."""
    with site.witness.store.transaction(LEASES) as tx:
        failures = tx[LEASES].failures
        for failure in failures.all():
            failures.put(msgspec.structs.replace(failure, retry_at=datetime.now(UTC)))


@acts("silent")
def silent(site: Site) -> None:
    grow_old(site, "backup", "last_seen_at", "confirmed_at", "reported_at", hours=2)
    assert site.wrong() == {"silent"}
    site.backup.agent("run")


@acts("stale")
def stale(site: Site) -> None:
    grow_old(site, "backup", "confirmed_at", "reported_at", hours=48)
    assert site.wrong() == {"stale"}
    site.backup.agent("report")


def grow_old(site: Site, hostname: str, *moments: str, hours: float) -> None:
    """Let so much time pass since a system did this."""
    beats, inventory = (of(system_id(site.lab, hostname)) for of in (heartbeat_of, inventory_of))
    with site.witness.store.transaction(beats, inventory) as tx:
        for table in (tx[beats].heartbeats, tx[inventory].reports):
            for found in table.all():
                at = {name: getattr(found, name, None) for name in moments}
                earlier = {name: moment - timedelta(hours=hours) for name, moment in at.items() if moment is not None}
                table.put(msgspec.structs.replace(found, **earlier))


@acts("clock")
def clock(site: Site) -> None:
    programs = site.backup.folder / "programs"
    programs.mkdir()
    (programs / "date").write_text(f'#!/bin/sh\nexec {shutil.which("date")} -d "+10 minutes" "$@"\n')
    (programs / "date").chmod(0o755)
    site.backup.programs = programs
    site.backup.agent("run", status=None)
    assert site.wrong() == {"clock"}
    site.backup.programs = None  # NTP
    site.backup.agent("run")


@acts("pool_missing")
def pool_missing(site: Site) -> None:
    pools = site.backup.folder / "pools"
    kept = pools.read_bytes()
    site.backup.change(lambda pools: pools.datasets.clear() or pools.create("another"))
    site.backup.agent("report")
    site.snapshot("while-it-is-away", hours_ago=0)
    site.nas.agent("run")
    assert "pool_missing" in site.wrong()
    assert [
        each for each in site.lab.actions("media") if each["target_system_id"] == system_id(site.lab, "backup")
    ] == []
    pools.write_bytes(kept)  # zpool import
    site.backup.agent("report")
    site.nas.agent("run")


@acts("pool_full")
def pool_full(site: Site) -> None:
    path = f"{site.url('backup')}/inventory"
    said = site.lab.call("GET", path)
    for row in said["datasets"]:
        if row["name"] == "vault":
            row |= {"used": "95", "available": "5"}
    report(site, "backup", said)
    assert "pool_full" in site.wrong()
    assert site.lab.call("GET", f"/sync/{site.lab.group('media')}/prunable")["systems"]
    site.backup.agent("report")  # something was pruned


def report(site: Site, hostname: str, said: Any) -> None:
    """What its agent would report, were the host so."""
    site.lab.call("PUT", f"{site.url(hostname)}/inventory", {"datasets": said["datasets"]})


@acts("guard")
def guard(site: Site) -> None:
    gone = [f"auto-{number}" for number in range(1, 6)]
    site.nas.change(lambda pools: pools.destroy_snapshots("tank/media", gone))
    site.nas.agent("report")
    assert "guard" in site.wrong()
    accept(site, "nas")


def accept(site: Site, hostname: str) -> None:
    """As the guide has it."""
    site.lab.call("POST", f"{site.url(hostname)}/inventory/accept")


@acts("settings")
def settings(site: Site) -> None:
    change_groups(site.lab, "hub: nas", "hub: nobody")
    assert site.wrong() == {"settings"}
    with pytest.raises(Exception, match="exit status 1"):
        command(site.lab, "check")
    change_groups(site.lab, "hub: nobody", "hub: nas")


@acts("store")
def store(site: Site) -> None:
    saved = site.lab.folder / "saved.tar.gz"
    command(site.lab, "backup", str(saved))
    (file,) = (site.lab.folder / "data" / "groups").glob("*.json")
    file.write_bytes(b"{")
    assert "store" in site.wrong()
    with pytest.raises(Exception, match="exit status 1"):
        command(site.lab, "check")
    command(site.lab, "restore", str(saved), ZFS_SYNC_DATA_DIR=str(site.lab.folder / "unpacked"))
    shutil.copy(site.lab.folder / "unpacked" / "groups" / file.name, file)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_an_alert_is_brought_about_and_ended_by_what_the_guide_says(site: Site, kind: str) -> None:
    ACTS[kind](site)
    assert site.wrong() == set()
