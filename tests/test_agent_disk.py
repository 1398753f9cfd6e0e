"""The disk that the agent works on is full, or becomes so in the middle: nothing is judged by half a listing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_world import FAKE, SHELLS, Host, World, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def list_as_zfs_does(host: Host) -> None:
    """Let its zfs end with 0 whatever it could write, as the real one does."""
    said = f'out=$({FAKE}/zfs "$@"); status=$?; [ -z "$out" ] || printf "%s\\n" "$out" 2>/dev/null || :; exit $status'
    host.wrap("zfs", said)


def fill(disk: Path) -> str:
    return f"dd if=/dev/zero of={disk}/fill bs=4096 >/dev/null 2>&1"


@pytest.mark.parametrize("full", [False, True])
def test_nothing_is_rolled_back_by_half_a_listing(world: World, small_disk: Path, full: bool) -> None:
    """zfs list ends with 0 though nothing could be written; what is cut off are the youngest, which would go."""
    host, big = world.backup, "vault/nas/big"
    host.configure(state_dir=small_disk, parallel=1)
    list_as_zfs_does(host)
    when_started = f'case "$*" in */r2/start*) {fill(small_disk) if full else ":"} ;; esac'
    host.wrap("curl", f'/usr/bin/curl "$@"; status=$?; {when_started}; exit $status')
    with host.pools() as pools:
        for dataset, count in (("vault/nas/small", 3), (big, 200)):
            pools.create(dataset)
            for number in range(count):
                pools.snapshot(dataset, f"daily-2026-{number:03}")
    rows = []
    for step, dataset, last in (("r1", "vault/nas/small", 3), ("r2", big, 190)):
        guids = host.guids(dataset)
        row = world.change("rollback", action_id=step, target_dataset=dataset, snapshot_guid=guids[0])
        rows.append(row | {"expected_written": "0", "expected_guids": ",".join(guids[1:last]), "destructive": "true"})
    world.witness.plan = rows
    assert host.agent("run").returncode == 1
    assert len(host.guids(big)) == 200


@pytest.mark.parametrize("shell", SHELLS)
def test_a_run_ends_though_no_worker_can_say_what_it_takes(world: World, small_disk: Path, shell: str) -> None:
    world.nas.configure(state_dir=small_disk)
    full = f'case "$*" in */2) {fill(small_disk)} ;; esac'
    world.nas.wrap("mkdir", f'/bin/mkdir "$@"; status=$?; {full}; exit $status')
    world.witness.plan = [world.transfer(1), world.transfer(3, base=1, depends_on="a1")]
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 1
    assert "cannot write in" in run.stderr
    assert not world.witness.bodies("/start")
    (small_disk / "fill").unlink()
    world.nas.unwrap("mkdir")
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr


def test_half_a_listing_is_not_reported(world: World, small_disk: Path) -> None:
    world.nas.configure(state_dir=small_disk)
    with world.nas.pools() as pools:
        for number in range(400):
            pools.snapshot("tank/home videos", f"daily-2026-{number:03}")
    list_as_zfs_does(world.nas)
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={small_disk}/fill", "bs=4096", "count=244"], capture_output=True, check=True
    )
    assert world.nas.agent("report").returncode == 1
    assert not world.witness.bodies("/inventory")
