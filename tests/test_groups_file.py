"""The file's groups while the service runs: edits are followed, broken ones are reported and change nothing."""

import logging
import threading
import time
from pathlib import Path

import pytest

import config
from config import GroupSettings, GroupsFile, load


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "zfs_sync.yaml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def names(groups: tuple[GroupSettings, ...]) -> list[str]:
    return [group.name for group in groups]


def one_group(name: str) -> str:
    return f"groups: [{{name: {name}, systems: {{nas: }}}}]\n"


def test_groups_follow_the_file() -> None:
    file = written(one_group("a"))
    groups = GroupsFile(load(file, {}))
    assert names(groups.current()) == ["a"]
    written(one_group("longer"))
    assert names(groups.current()) == ["longer"]
    written("")
    assert groups.current() == ()
    written(one_group("replaced"), "beside.yaml").replace(file)
    assert names(groups.current()) == ["replaced"]


def test_a_file_behind_links_is_followed_when_a_link_is_replaced() -> None:
    """As Kubernetes updates a ConfigMap: zfs_sync.yaml -> ..data/zfs_sync.yaml, ..data -> a new folder."""
    for name in ("one", "two"):
        Path(name).mkdir()
        written(one_group(name), f"{name}/zfs_sync.yaml")
    Path("..data").symlink_to("one")
    Path("zfs_sync.yaml").symlink_to("..data/zfs_sync.yaml")
    groups = GroupsFile(load(environ={}))
    assert names(groups.current()) == ["one"]
    Path("new").symlink_to("two")
    Path("new").replace("..data")
    assert names(groups.current()) == ["two"]


@pytest.mark.parametrize("newer", [0, 1], ids=["written now", "an old file moved here now"])
def test_edits_within_one_tick_of_the_file_systems_clock_are_seen(newer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [time.time_ns() - 3600 * 10**9] * 2
    times[newer] = time.time_ns()
    monkeypatch.setattr(config, "_stamp", lambda file: (*times, 50, 1))
    groups = GroupsFile(load(written(one_group("a")), {}))
    for name in ("b", "c"):
        written(one_group(name))
        assert names(groups.current()) == [name]


def test_a_file_that_stays_the_same_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = GroupsFile(load(written(one_group("a")), {}))
    soon = time.time_ns() + 10_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: soon)
    assert groups.current() is groups.current()


def test_a_broken_edit_keeps_the_last_good_groups_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    file = written(one_group("good"))
    groups = GroupsFile(load(file, {}))
    assert groups.error is None
    written("groups: [{name: bad, systems: {nas: }, hub: elsewhere}]\n")
    with caplog.at_level(logging.WARNING):
        assert [names(groups.current()) for _ in range(3)] == [["good"]] * 3
    message = f"{file.absolute()}:1: groups[0].hub: 'elsewhere' is not among the group's systems; there are nas"
    assert groups.error == message
    assert [record.getMessage() for record in caplog.records] == [f"keeping the last good sync groups: {message}"]
    written(one_group("mended"))
    assert groups.error is None
    assert names(groups.current()) == ["mended"]


def test_error_is_known_without_asking_for_the_groups() -> None:
    groups = GroupsFile(load(written(one_group("good")), {}))
    written("groups: 3\n")
    assert groups.error is not None


def test_a_broken_edit_before_the_first_look_keeps_the_groups_of_the_start() -> None:
    settings = load(written(one_group("good")), {})
    written("groups: {\n")
    assert names(GroupsFile(settings).current()) == ["good"]


def test_a_deleted_file_keeps_the_last_good_groups() -> None:
    file = written(one_group("good"))
    groups = GroupsFile(load(file, {}))
    file.unlink()
    assert names(groups.current()) == ["good"]
    assert groups.error == f"{file.absolute()}: No such file or directory"
    written(one_group("back"))
    assert names(groups.current()) == ["back"]
    assert groups.error is None


def test_a_setting_elsewhere_in_the_file_that_would_stop_the_next_start_counts_as_broken() -> None:
    groups = GroupsFile(load(written(one_group("good")), {}))
    written(one_group("new") + "prot: 1\n")
    assert names(groups.current()) == ["good"]
    assert "prot" in str(groups.error)


def test_without_a_file_there_are_no_groups() -> None:
    groups = GroupsFile(load(environ={}))
    assert groups.current() == ()
    assert groups.error is None


def test_groups_of_the_environment_do_not_follow_the_file() -> None:
    file = written(one_group("a"))
    groups = GroupsFile(load(file, {"ZFS_SYNC_GROUPS": '[{"name": "fixed", "systems": {"nas": null}}]'}))
    written("groups: 3\n")
    assert names(groups.current()) == ["fixed"]
    assert groups.error is None


def test_threads_always_see_whole_groups_while_the_file_changes() -> None:
    file = written(one_group("n0"))
    groups = GroupsFile(load(file, {}))
    seen: list[list[str]] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(names(groups.current()))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        written(one_group(f"n{number}"), "beside.yaml").replace(file)
    done.set()
    for thread in threads:
        thread.join()
    assert groups.error is None
    assert names(groups.current()) == ["n49"]
    assert {len(each) for each in seen} == {1}
