"""What the agent asks zfs for: each row costs zfs time, so it lists no more than it needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_world import COLUMNS, COPY, SHELLS, VIDEOS, Host, World, calls_of, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def lists(host: Host) -> list[list[str]]:
    return [call for call in calls_of(host) if call[0] == "list"]


def marks(listing: str) -> list[str]:
    """The rows of snapshots and bookmarks, in their order."""
    return [line for line in listing.splitlines() if "@" in line or "#" in line]


def reported_again(world: World, shell: str = "dash") -> str:
    """What nas, whose inventory is stale, reports in a run; it is what a listing of everything has."""
    world.witness.inventory = "stale"
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    said = world.witness.bodies("/inventory")[-1].decode()
    with world.nas.pools() as pools:
        listing = pools.listing(COLUMNS.split(","))
    assert sorted(said.splitlines()) == sorted(listing.splitlines())
    assert marks(said) == marks(listing)  # the order counts for the digest
    return said


@pytest.mark.parametrize("shell", SHELLS)
def test_a_first_run_says_nothing_but_what_it_did(world: World, shell: str) -> None:
    world.witness.inventory = "stale"
    said = world.nas.agent("run", shell=shell).stderr.splitlines()
    assert len(said) == 1
    assert " zfs-sync-agent: reported: " in said[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_report_lists_what_is_new_and_what_stood_beside_what_is_gone(world: World, shell: str) -> None:
    with world.nas.pools() as pools:
        pools.create("tank/b")
        for name in "123456789":
            pools.write("tank/b", 1000)
            pools.snapshot("tank/b", name)
    assert world.nas.agent("report", shell=shell).returncode == 0
    with world.nas.pools() as pools:
        pools.destroy_snapshots("tank/b", ["3"])  # what 4 says was written since the one before includes it now
        pools.write("tank/b", 77)
        pools.snapshot("tank/b", "new")
        pools.bookmark("tank/b", "2", "kept")
        pools.rename_snapshot(VIDEOS, "day 3", "third day")
    before = len(lists(world.nas))
    reported_again(world, shell)
    fast, datasets, named = lists(world.nas)[before:]
    assert "snapshot,bookmark" in fast
    assert datasets[2:4] == ["-t", "filesystem,volume"]
    asked = [word for word in named if "@" in word or "#" in word]
    beside = [f"{VIDEOS}@day 2", "tank/b@2", "tank/b@4"]
    assert sorted(asked) == sorted([f"{VIDEOS}@third day", "tank/b#kept", "tank/b@new", *beside])


def test_a_report_is_of_everything_where_little_is_known(world: World) -> None:
    """At first, when most is new, when the one before is old, and when something is encrypted from now on."""

    def listed_all() -> bool:
        before = len(lists(world.nas))
        reported_again(world)
        return any("filesystem,volume,snapshot,bookmark" in call for call in lists(world.nas)[before:])

    state = world.nas.config.parent / "nas.state"
    assert listed_all()
    assert not listed_all()
    with world.nas.pools() as pools:
        for number in range(9):
            pools.snapshot("tank", f"{number}")
    assert listed_all()
    assert not listed_all()
    (state / "reported").write_text("1000000000\n")
    assert listed_all()
    (state / "rows").write_text("name,guid\nnot what it was\n")
    assert listed_all()
    with world.nas.pools() as pools:
        pools.create("tank/secret", encryption="aes-256-gcm")
    world.nas.agent("run")
    assert world.witness.paths("mountpoint,ivsetguid") != []


def test_after_a_failure_everything_is_reported(world: World) -> None:
    world.copied()
    assert world.nas.agent("report").returncode == 0
    world.witness.plan = [world.transfer(3, base=2)]
    world.backup.fault('{"receive": {"exit": 1}}')
    assert world.nas.agent("run").returncode == 1
    assert len(world.witness.bodies("/inventory")) == 2
    assert "filesystem,volume,snapshot,bookmark" in lists(world.nas)[-1]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_peer_is_asked_by_name_and_of_all_where_a_guid_is_elsewhere(world: World, renamed: bool) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    if renamed:
        with world.backup.pools() as backup:
            backup.rename_snapshot(COPY, "day 2", "second day")
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    asked = [call for call in lists(world.backup) if "name,guid,type,receive_resume_token,compression" in call]
    assert asked[0][-3:] == [COPY, f"{COPY}@day 3", f"{COPY}@day 2"]
    assert ["-d" in call for call in asked] == [False, True][: 1 + renamed]
    # what the heartbeat listed here is known, unless that is not what the plan speaks of
    assert len(lists(world.nas)) == 1 + renamed
    assert world.backup.guids(COPY)[-1] == world.nas.guids(VIDEOS)[-1]


@pytest.mark.parametrize(("step_s", "listed"), [(0, (1, 1)), (290, (2, 1)), (310, (3, 2))])
def test_what_was_listed_minutes_ago_is_listed_anew(
    world: World, tmp_path: Path, step_s: int, listed: tuple[int, int]
) -> None:
    """Where so many seconds go by from one look at the clock to the next."""
    clock = tmp_path / "bin" / "date"
    clock.parent.mkdir()
    clock.write_text(
        f'#!/bin/sh\necho >>$0.looks\nexec /bin/date -d @$((1795392522 + {step_s} * $(wc -l <$0.looks))) "$@"\n'
    )
    clock.chmod(0o755)
    world.nas.environment["PATH"] = f"{clock.parent}:{world.nas.environment['PATH']}"
    world.witness.expires = 1795392522 + 10**6
    world.copied().witness.plan = [world.transfer(3, base=2)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    looked = [call for call in lists(world.backup) if "name,guid,type,receive_resume_token,compression" in call]
    assert (len(lists(world.nas)), len(looked)) == listed


@pytest.mark.parametrize("command", ["report", "run"])
def test_roots_limit_what_is_reported(world: World, command: str) -> None:
    """Of the datasets above a root, only that they exist, and how much room they have; a root may not exist yet."""
    with world.nas.pools() as pools:
        for name in ("tank/private", "tank/a", "tank/a/b", "tank/a/b/c", "tank/a/other"):
            pools.create(name)
            pools.snapshot(name, "one")
        expected = [
            line
            for line in pools.listing(COLUMNS.split(",")).splitlines()
            if line.startswith((VIDEOS, "tank\t", "tank/a\t", "tank/a/b\t", "tank/a/b@", "tank/a/b/"))
        ]
    world.nas.configure(roots=f"tank/a/b,{VIDEOS},tank/a/b/c,tank/later,usb/later")
    world.witness.inventory = "stale"
    for _ in range(2):
        run = world.nas.agent(command)
        assert run.returncode == 0, run.stderr
        said = world.witness.bodies("/inventory")[-1].decode()
        assert sorted(said.splitlines()) == sorted(expected)


def test_after_a_rename_the_target_is_looked_at_anew(world: World) -> None:
    """What was asked before it is true no more."""
    guid = world.copied().backup.guids(COPY)[-1]
    moved = world.change("rename", snapshot_guid=guid, expected_written="0", new_name=f"{COPY}.aside")
    world.witness.plan = [moved, world.transfer(2, depends_on="c-rename", executor_system_id="backup")]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)[1:2]


def test_what_came_before_brings_only_what_it_brought(world: World) -> None:
    world.witness.plan = [world.transfer(1), world.transfer(3, base=2, depends_on="a1")]
    assert world.nas.agent("run").returncode == 1
    assert "does not have the base" in world.witness.finished["a3"][2]
    assert len([call for call in calls_of(world.nas) if call[0] == "send"]) == 1
