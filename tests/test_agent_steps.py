"""The agent's steps that change a dataset without a stream, most of all those that destroy something."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.agent_world import COPY, VIDEOS, World, calls_of, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def test_delete_takes_what_was_stated_by_guid_and_nothing_else(world: World) -> None:
    guids = world.copied().backup.guids(COPY)
    with world.backup.pools() as backup:
        backup.rename_snapshot(COPY, "day 1", "first day")  # the plan knows the guid, whatever its name is now
    world.witness.plan = [world.change("delete", destructive="true", expected_guids=f"{guids[0]},12345")]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == guids[1:]
    assert [call for call in calls_of(world.backup) if call[0] == "destroy"] == [["destroy", f"{COPY}@first day"]]
    assert world.witness.finished["c-delete"][:2] == (0, "-")


def test_delete_takes_many_in_a_few_calls(world: World) -> None:
    with world.copied().backup.pools() as backup:
        for number in range(200):
            backup.snapshot(COPY, f"snapshot-with-a-longer-name-{number}")
    guids = world.backup.guids(COPY)
    world.witness.plan = [world.change("delete", expected_guids=",".join(guids[2:]))]
    assert world.backup.agent("run").returncode == 0
    assert world.backup.guids(COPY) == guids[:2]
    destroys = [call for call in calls_of(world.backup) if call[0] == "destroy"]
    assert len(destroys) == 2


@pytest.mark.parametrize("case", ["last", "held", "written", "elsewhere", "nothing stated", "configured"])
def test_delete_refuses(world: World, case: str) -> None:
    guids = world.copied().backup.guids(COPY)
    row = world.change("delete", destructive="true", expected_guids=guids[0])
    if case == "last":  # a replica without any snapshot could never be brought up to date again
        row["expected_guids"] = ",".join(guids)
    elif case == "held":
        with world.backup.pools() as backup:
            backup.hold(COPY, "day 1", "keep")
    elif case == "written":
        row["expected_written"] = "1"
    elif case == "elsewhere":
        row |= {"executor_system_id": "nas", "target_ssh_hostname": "backup"}
    elif case == "nothing stated":
        row["expected_guids"] = "-"
    else:
        world.backup.configure(destructive_steps="refuse")
    world.witness.plan = [row]
    agent = world.nas if case == "elsewhere" else world.backup
    run = agent.agent("run")
    assert run.returncode == 1, run.stderr
    assert world.backup.guids(COPY) == guids


def diverge(world: World) -> dict[str, str]:
    """Let backup write and snapshot after day 2; the rollback that a person would have decided on."""
    with world.copied().backup.pools() as backup:
        backup.write(COPY, 7)
        mine = backup.snapshot(COPY, "mine").guid
        backup.write(COPY, 9)
    guids = world.backup.guids(COPY)
    return world.change(
        "rollback", destructive="true", snapshot_guid=guids[1], expected_guids=mine, expected_written="9"
    )


def test_rollback_goes_back_when_all_is_as_it_was_judged(world: World) -> None:
    world.witness.plan = [diverge(world)]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert len(world.backup.guids(COPY)) == 2
    with world.backup.pools() as backup:
        assert backup.written(COPY) == 0


@pytest.mark.parametrize("case", ["snapshot", "bookmark", "written", "unknown written", "goal"])
def test_rollback_refuses(world: World, case: str) -> None:
    row = diverge(world)
    with world.backup.pools() as backup:
        if case == "snapshot":
            backup.snapshot(COPY, "another")
            row["expected_written"] = "0"
        elif case == "bookmark":  # zfs rollback -r would destroy it, too
            backup.snapshot(COPY, "another")
            backup.bookmark(COPY, "another", "mark")
            backup.destroy_snapshots(COPY, ["another"])
        elif case == "written":
            backup.write(COPY, 1)
        elif case == "unknown written":
            row["expected_written"] = "-"
        else:
            row["snapshot_guid"] = "12345"
    before = world.backup.guids(COPY)
    world.witness.plan = [row]
    assert world.backup.agent("run").returncode == 1
    assert world.backup.guids(COPY) == before
    assert not any(call[0] == "rollback" for call in calls_of(world.backup))


def test_a_diverged_replica_is_set_aside_cloned_and_promoted(world: World) -> None:
    diverge(world)
    with world.backup.pools() as backup:
        backup.create(f"{COPY}/kid")
        backup.dataset(COPY).properties.update({"compression": "lz4", "mountpoint": "/srv", "com.sun:auto": "a b"})
    guids = world.backup.guids(COPY)
    aside = f"{COPY}.aside"
    clone = world.transfer(3, base=2, origin=f"{aside}@day 2", depends_on="c-rename", intermediates="false")
    world.witness.plan = [
        world.change("rename", snapshot_guid=guids[-1], expected_written="9", new_name=aside),
        clone | {"executor_system_id": "backup"},
        world.change("promote", depends_on="a3"),
        world.change("rename", target_dataset=f"{aside}/kid", new_name=f"{COPY}/kid", action_id="kid"),
    ]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)
    assert world.backup.guids(aside) == guids[2:]
    with world.backup.pools() as backup:
        assert f"{COPY}/kid" in backup.datasets
        assert backup.dataset(COPY).properties == {
            "compression": "lz4",
            "com.sun:auto": "a b",
            "readonly": "on",
            "canmount": "noauto",
        }


@pytest.mark.parametrize(("mark", "refused"), [("day 1", True), ("day 2", True), ("after", False)])
def test_promote_refuses_what_the_kernel_would_panic_at(world: World, mark: str, refused: bool) -> None:
    """A bookmark that would come along, with a name that the clone's own has; younger ones stay where they are."""
    world.copied()
    with world.backup.pools() as backup:
        backup.snapshot(COPY, "after")
        backup.create("vault/nas/clone")
        backup.dataset("vault/nas/clone").origin = f"{COPY}@day 2"
        backup.snapshot("vault/nas/clone", "own")
        backup.bookmark("vault/nas/clone", "own", "twice")
        backup.bookmark(COPY, mark, "twice")
    world.witness.plan = [world.change("promote", target_dataset="vault/nas/clone")]
    run = world.backup.agent("run")
    assert run.returncode == int(refused), run.stderr
    assert any(call[0] == "promote" for call in calls_of(world.backup)) != refused
    assert not refused or "both have a bookmark named twice: not touched" in world.witness.finished["c-promote"][2]


def test_a_rename_that_was_done_already_is_done(world: World) -> None:
    guids = world.copied().backup.guids(COPY)
    row = world.change("rename", snapshot_guid=guids[-1], expected_written="0", new_name="vault/nas/aside")
    with world.backup.pools() as backup:
        backup.rename(COPY, "vault/nas/aside")
    world.witness.plan = [row]
    assert world.backup.agent("run").returncode == 0


def test_a_rename_counts_though_its_mount_failed(world: World) -> None:
    guids = world.copied().backup.guids(COPY)
    world.backup.fault('{"rename": {"complaint": "cannot mount: failed to create mountpoint: Read-only file system"}}')
    world.witness.plan = [
        world.change("rename", snapshot_guid=guids[-1], expected_written="0", new_name="vault/nas/aside")
    ]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert "Read-only file system" in world.witness.finished["c-rename"][2]
    assert world.backup.guids("vault/nas/aside") == guids


@pytest.mark.parametrize("case", ["newest", "written", "taken"])
def test_rename_refuses(world: World, case: str) -> None:
    guids = world.copied().backup.guids(COPY)
    row = world.change("rename", snapshot_guid=guids[-1], expected_written="0", new_name="vault/nas/aside")
    with world.backup.pools() as backup:
        if case == "newest":
            backup.snapshot(COPY, "newer")
        elif case == "written":
            backup.write(COPY, 1)
        else:
            backup.create("vault/nas/aside")
    world.witness.plan = [row]
    assert world.backup.agent("run").returncode == 1
    with world.backup.pools() as backup:
        assert COPY in backup.datasets


def test_a_bookmark_is_made_once(world: World) -> None:
    guids = world.copied().backup.guids(COPY)
    row = world.change("bookmark", snapshot_guid=guids[1], new_name=f"{COPY}#zfs-sync day 2")
    world.witness.plan = [row, row | {"action_id": "again", "depends_on": row["action_id"]}]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    with world.backup.pools() as backup:
        assert [mark.name for mark in backup.dataset(COPY).bookmarks] == ["zfs-sync day 2"]


def test_a_guid_is_never_taken_for_a_floating_point_number(world: World) -> None:
    with world.copied().backup.pools() as backup:
        known = backup.dataset(COPY).snapshots
        known[0] = replace(known[0], guid=str(int(known[1].guid) + 1))
        assert float(known[0].guid) == float(known[1].guid)
        guid = known[1].guid
    world.witness.plan = [world.change("bookmark", snapshot_guid=guid, new_name=f"{COPY}#mark")]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    with world.backup.pools() as backup:
        assert [mark.guid for mark in backup.dataset(COPY).bookmarks] == [guid]


@pytest.mark.parametrize("wrong", [{"new_name": "vault/nas#mark"}, {"snapshot_guid": "12345"}, {"new_name": COPY}])
def test_a_bookmark_of_anything_else_is_refused(world: World, wrong: dict[str, str]) -> None:
    guids = world.copied().backup.guids(COPY)
    world.witness.plan = [world.change("bookmark", snapshot_guid=guids[1], new_name=f"{COPY}#mark") | wrong]
    assert world.backup.agent("run").returncode == 1
    assert not any(call[0] == "bookmark" for call in calls_of(world.backup))


def release_of(world: World) -> dict[str, str]:
    """A bookmark of day 1 that a plan had made, and the step that lets it go."""
    guid = world.copied().backup.guids(COPY)[0]
    with world.backup.pools() as backup:
        backup.bookmark(COPY, "day 1", f"zfs-sync-{guid}")
        backup.bookmark(COPY, "day 1", "mine")
    return world.change("release", new_name=f"{COPY}#zfs-sync-{guid}", expected_guids=guid)


def bookmarks_of(world: World) -> list[str]:
    with world.backup.pools() as backup:
        return sorted(mark.name for mark in backup.dataset(COPY).bookmarks)


def test_a_bookmark_that_a_plan_made_is_destroyed_once_and_nothing_else(world: World) -> None:
    row = release_of(world)
    before = world.backup.guids(COPY)
    world.witness.plan = [row, row | {"action_id": "again"}]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert (bookmarks_of(world), world.backup.guids(COPY)) == (["mine"], before)
    assert [call for call in calls_of(world.backup) if call[0] == "destroy"] == [["destroy", row["new_name"]]]


@pytest.mark.parametrize(
    "case", ["mine", "dataset", "other guid", "below", "two", "nothing stated", "elsewhere", "moved"]
)
def test_no_other_bookmark_is_destroyed(world: World, case: str) -> None:
    row = release_of(world)
    guids = world.backup.guids(COPY)
    match case:
        case "mine":
            row["new_name"] = f"{COPY}#mine"
        case "dataset":
            row["new_name"] = COPY
        case "other guid":
            row["expected_guids"] = guids[1]
        case "below":
            row["target_dataset"] = "vault/nas"
        case "two":
            row["expected_guids"] = ",".join(guids)
        case "nothing stated":
            row["expected_guids"] = "-"
        case "elsewhere":
            row |= {"executor_system_id": "nas", "target_ssh_hostname": "backup"}
        case "moved":  # somebody gave that name to a bookmark of another snapshot
            with world.backup.pools() as backup:
                backup.destroy_bookmark(COPY, f"zfs-sync-{guids[0]}")
                backup.bookmark(COPY, "day 2", f"zfs-sync-{guids[0]}")
    before = bookmarks_of(world)
    world.witness.plan = [row]
    agent = world.nas if case == "elsewhere" else world.backup
    assert agent.agent("run").returncode == 1
    assert bookmarks_of(world) == before
    assert not any(call[0] == "destroy" for call in calls_of(world.backup))


def test_a_broken_receive_is_aborted_only_if_it_is_still_the_same(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.nas.fault('{"send": {"cut": 3800}}')
    world.nas.agent("run")
    with world.backup.pools() as backup:
        token = backup.token(COPY) or ""
    another = token[:-1] + ("1" if token.endswith("0") else "0")
    world.witness.plan = [world.change("abort_receive", resume_token=another)]
    assert world.backup.agent("run").returncode == 1
    world.witness.plan = [world.change("abort_receive")]
    assert world.backup.agent("run").returncode == 1
    with world.backup.pools() as backup:
        assert backup.token(COPY) == token
    world.witness.plan = [world.change("abort_receive", resume_token=token)]
    assert world.backup.agent("run").returncode == 0
    with world.backup.pools() as backup:
        assert backup.token(COPY) is None


@pytest.mark.parametrize("by", ["its own agent", "the source"])
def test_missing_parents_are_made_unmounted_and_readonly(world: World, by: str) -> None:
    row = world.change("create_parent", target_dataset="vault/nas/new", properties="compression=zstd")
    if by == "the source":
        row |= {"executor_system_id": "nas", "target_ssh_hostname": "backup"}
    world.witness.plan = [row, row | {"action_id": "again", "depends_on": row["action_id"]}]
    run = (world.nas if by == "the source" else world.backup).agent("run")
    assert run.returncode == 0, run.stderr
    with world.backup.pools() as backup:
        made = backup.dataset("vault/nas/new")
        assert made.properties == {"compression": "zstd", "readonly": "on", "canmount": "off"}
    assert len([call for call in calls_of(world.backup) if call[0] == "create"]) == 1


def test_a_parent_below_a_raw_replica_wants_its_key_or_a_person(world: World) -> None:
    row = world.change("create_parent", target_dataset="vault/nas/new", properties="canmount=off,readonly=on")
    world.witness.plan = [row]
    complaint = "cannot create 'vault/nas/new': encryption root's key is not loaded or provided"
    world.backup.fault(json.dumps({"create": {"complaint": complaint}}))
    assert world.backup.agent("run").returncode == 1
    told = world.witness.finished[row["action_id"]][2]
    assert "zfs create -o encryption=off -o canmount=off -o readonly=on 'vault/nas/new'" in told


def test_what_changes_a_dataset_goes_alone_and_in_order(world: World) -> None:
    names = [f"vault/n{number}" for number in range(5)]
    with world.backup.pools() as backup:
        backup.create(names[0])
    world.witness.plan = [
        world.change("rename", target_dataset=old, new_name=new) | {"action_id": old.replace("/", "-")}
        for old, new in pairwise(names)
    ]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    order = [path.split("/")[6] for _, path, _, _ in world.witness.calls if "/actions/" in path]
    assert order == ["start", "finish"] * 4
