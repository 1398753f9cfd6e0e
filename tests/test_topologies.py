"""The main job, whole: the real witness over HTTP, the real agent on each host, a zfs and an ssh that move state."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Host, Lab, same_contents

HUB = """
groups:
  - name: media
    hub: nas
    systems:
      nas: {root: tank}
      backup: {root: vault/nas}
      offsite: {root: pool1/replica}
"""
PAIR = """
groups:
  - name: pair
    systems:
      left: {root: tank}
      right: {root: vault}
"""


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A lab with the groups that the test names."""
    made = Lab(tmp_path / "lab", request.param)
    yield made
    made.stop()
    assert "Traceback" not in (made.folder / "witness.log").read_text()


def fill(host: Host, *datasets: str, snapshots: int = 3) -> None:
    """Datasets with an hour's snapshots each."""
    for dataset in datasets:
        host.change(lambda pools, dataset=dataset: pools.create(dataset))
    for number in range(1, snapshots + 1):
        host.snapshot(f"auto-{number}", *datasets)


def settle(lab: Lab, group: str) -> None:
    """Everybody reports, then everybody runs once: all is in sync, and a second run does and uploads nothing."""
    lab.report_all()
    lab.run_all()
    lab.report_all()
    assert lab.not_in_sync(group) == []
    assert lab.actions(group) == []
    for host in lab.hosts.values():
        host.zfs_calls()
        host.agent("run")
        calls = host.zfs_calls()
        assert {call[0] for call in calls} <= {"list", "version"}
        assert not any("written" in argument for call in calls for argument in call), "no full listing, so no upload"


@pytest.mark.parametrize("lab", [HUB], indirect=True)
def test_hub_with_an_empty_spoke_and_one_behind(lab: Lab) -> None:
    nas, backup, offsite = lab.host("nas", "tank"), lab.host("backup", "vault"), lab.host("offsite", "pool1")
    fill(nas, "tank/media", "tank/media/home videos", "tank/docs", snapshots=2)
    lab.report_all()
    nas.change(lambda pools: pools.create("tank/late"))
    lab.run_all()
    offsite.change(lambda pools: pools.destroy("pool1/replica", recursive=True))
    nas.snapshot("auto-3", "tank/media", "tank/media/home videos", "tank/docs", "tank/late")
    settle(lab, "media")
    for path in ("media", "media/home videos", "docs", "late"):
        assert same_contents(nas, f"tank/{path}", backup, f"vault/nas/{path}")
        assert same_contents(nas, f"tank/{path}", offsite, f"pool1/replica/{path}")
    replica = offsite.look().dataset("pool1/replica/media/home videos")
    assert replica.properties["readonly"] == "on"
    assert replica.properties["canmount"] == "noauto"


@pytest.mark.parametrize("lab", [HUB], indirect=True)
def test_two_spokes_that_are_both_behind_get_an_action_each(lab: Lab) -> None:
    nas, *_ = lab.host("nas", "tank"), lab.host("backup", "vault"), lab.host("offsite", "pool1")
    fill(nas, "tank/media")
    settle(lab, "media")
    nas.snapshot("auto-4", "tank/media")
    nas.agent("report")
    actions = lab.actions("media")
    assert [(action["action_type"], action["target_dataset"]) for action in actions] == [
        ("sync", "vault/nas/media"),
        ("sync", "pool1/replica/media"),
    ]
    assert len({action["action_id"] for action in actions}) == 2
    settle(lab, "media")


@pytest.mark.parametrize("lab", [HUB.replace("hub: nas", "hub: nas\n    transfer: pull")], indirect=True)
def test_spokes_that_pull(lab: Lab) -> None:
    nas, backup = lab.host("nas", "tank"), lab.host("backup", "vault")
    lab.host("offsite", "pool1")
    fill(nas, "tank/media", "tank/media/home videos")
    lab.report_all()
    assert {action["executor_system_id"] == action["target_system_id"] for action in lab.actions("media")} == {True}
    settle(lab, "media")
    assert same_contents(nas, "tank/media/home videos", backup, "vault/nas/media/home videos")


@pytest.mark.parametrize("lab", [PAIR], indirect=True)
def test_a_bidirectional_pair_goes_both_ways(lab: Lab) -> None:
    left, right = lab.host("left", "tank"), lab.host("right", "vault")
    fill(left, "tank/a")
    fill(right, "vault/b")
    settle(lab, "pair")
    assert same_contents(left, "tank/a", right, "vault/a")
    assert same_contents(right, "vault/b", left, "tank/b")
    right.snapshot("from-the-right", "vault/a")
    settle(lab, "pair")
    assert same_contents(right, "vault/a", left, "tank/a")


@pytest.mark.parametrize("lab", [HUB], indirect=True)
def test_a_spoke_relays_what_the_hub_no_longer_has_a_base_for(lab: Lab) -> None:
    """offsite missed so much that the hub has pruned its last common snapshot; backup still has it."""
    nas, backup, offsite = lab.host("nas", "tank"), lab.host("backup", "vault"), lab.host("offsite", "pool1")
    fill(nas, "tank/media", snapshots=1)
    settle(lab, "media")
    groups = lab.config.read_text()
    lab.config.write_text(groups + "    paused: {systems: [offsite]}\n")
    nas.snapshot("auto-2", "tank/media")
    nas.agent("run")
    backup.agent("report")
    nas.change(lambda pools: pools.destroy_snapshots("tank/media", ["auto-1"]))
    nas.agent("report")
    lab.config.write_text(groups)
    assert [(action["dataset"], action["action_type"]) for action in lab.actions("media")] == [
        ("vault/nas/media", "sync")
    ]
    settle(lab, "media")
    assert same_contents(nas, "tank/media", offsite, "pool1/replica/media")


@pytest.mark.parametrize("lab", ["heartbeat_timeout_s: 15" + HUB], indirect=True)
def test_a_spoke_passes_it_on_while_the_hub_is_away(lab: Lab) -> None:
    nas, backup = lab.host("nas", "tank"), lab.host("backup", "vault")
    fill(nas, "tank/media", "tank/media/home videos", snapshots=2)
    lab.report_all()
    lab.run_all()
    offsite = lab.host("offsite", "pool1")
    offsite.agent("report")
    time.sleep(16)  # the hub says nothing any more
    backup.agent("run")
    offsite.agent("report")
    assert lab.not_in_sync("media") == []
    assert same_contents(nas, "tank/media/home videos", offsite, "pool1/replica/media/home videos")


@pytest.mark.parametrize("lab", [HUB.replace("{root: tank}", "").replace("vault/nas", "vault/copy")], indirect=True)
def test_a_pool_root_dataset(lab: Lab) -> None:
    """Without a root the full name counts: the pool's own root dataset arrives below the spoke's root."""
    nas, backup = lab.host("nas", "tank"), lab.host("backup", "vault")
    lab.host("offsite", "pool1")
    nas.snapshot("auto-1", "tank")
    fill(nas, "tank/a", snapshots=1)
    settle(lab, "media")
    assert same_contents(nas, "tank", backup, "vault/copy/tank")
    assert same_contents(nas, "tank/a", backup, "vault/copy/tank/a")


@pytest.mark.parametrize("lab", [PAIR.replace("systems:", "hub: left\n    systems:")], indirect=True)
def test_150_datasets(lab: Lab) -> None:
    left, right = lab.host("left", "tank"), lab.host("right", "vault")
    right.change(lambda pools: pools.create("vault/x"))
    names = [f"tank/d{number:03}" for number in range(150)]

    def fill_all(pools: object) -> None:
        for name in names:
            pools.create(name)  # type: ignore[attr-defined]
            pools.snapshot(name, "auto-1")  # type: ignore[attr-defined]

    left.change(fill_all)
    settle(lab, "pair")
    assert all(same_contents(left, name, right, name.replace("tank", "vault")) for name in names)


@pytest.mark.parametrize("lab", [HUB], indirect=True)
def test_a_diverged_replica_is_set_aside_and_nothing_is_lost(lab: Lab) -> None:
    nas, backup = lab.host("nas", "tank"), lab.host("backup", "vault")
    lab.host("offsite", "pool1")
    fill(nas, "tank/www")
    settle(lab, "media")
    backup.snapshot("edited-here", "vault/nas/www")
    nas.snapshot("auto-4", "tank/www")
    lab.report_all()
    conflict = lab.call("GET", f"/conflicts/{lab.group('media')}")["conflicts"][0]
    assert (conflict["type"], conflict["dataset"], conflict["severity"]) == ("diverged", "www", "high")
    nas_id = next(each["id"] for each in lab.call("GET", "/systems") if each["hostname"] == "nas")
    wish = {"strategy": "manual", "resolution_data": {"system_id": nas_id}}
    lab.call("POST", f"/conflicts/{conflict['id']}/resolve", wish)
    for host in (backup, nas, backup, nas):
        host.agent("run")
    lab.report_all()
    assert lab.not_in_sync("media") == []
    assert lab.call("GET", f"/conflicts/{lab.group('media')}")["conflicts"] == []
    assert same_contents(nas, "tank/www", backup, "vault/nas/www")
    aside = [name for name in backup.look().datasets if ".aside-" in name]
    assert [snap.name for snap in backup.look().dataset(aside[0]).snapshots][-1] == "edited-here"
    settle(lab, "media")


@pytest.mark.parametrize(
    "lab", [PAIR.replace("systems:", "hub: left\n    delete: mirror\n    systems:")], indirect=True
)
def test_a_bookmark_keeps_a_pruned_base_and_goes_when_it_is_not_needed(lab: Lab) -> None:
    left, right = lab.host("left", "tank"), lab.host("right", "vault")
    fill(left, "tank/a")
    lab.report_all()
    lab.run_all()
    left.change(lambda pools: pools.destroy_snapshots("tank/a", ["auto-1", "auto-2"]))
    lab.report_all()
    left.agent("run")
    base = left.look().dataset("tank/a").snapshots[0].guid
    assert [mark.name for mark in left.look().dataset("tank/a").bookmarks] == [f"zfs-sync-{base}"]
    left.snapshot("auto-4", "tank/a")
    left.agent("report")  # it never loses all of its snapshots at once, which an admin would have to accept
    left.snapshot("auto-5", "tank/a")
    left.change(lambda pools: pools.destroy_snapshots("tank/a", ["auto-3"]))
    left.agent("report")
    assert _bookmarks(lab, "keep_bookmarks") == [f"zfs-sync-{base}"]
    left.change(lambda pools: pools.bookmark("tank/a", "auto-4", "mine"))
    left.agent("run")
    lab.report_all()
    assert _bookmarks(lab, "prunable_bookmarks") == ["mine"]
    assert [mark.name for mark in left.look().dataset("tank/a").bookmarks] == ["mine"]
    assert ["destroy", f"tank/a#zfs-sync-{base}"] in left.zfs_calls()
    assert same_contents(left, "tank/a", right, "vault/a")
    right.agent("run")
    settle(lab, "pair")


def _bookmarks(lab: Lab, kind: str) -> list[str]:
    answer = lab.call("GET", f"/sync/{lab.group('pair')}/prunable")
    return [mark["name"] for each in answer["systems"] for mark in each[kind]]
