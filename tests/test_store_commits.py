"""Transactions over several files are there as a whole, whatever ends their writer, or nothing of them is."""

import io
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from store import REGISTRY, Store, StoreError, StoreFull, heartbeat_of, history_of, inventory_of
from store.backup import restore_backup, write_backup
from store.documents import GoneRow
from tests.store_samples import NOON, dataset, heartbeat, row, system

NAS, BEAT, GONE = inventory_of("nas"), heartbeat_of("nas"), history_of("nas", "2026-11-22")
FILES = 4  # that a transaction writes here, one of which was not there before
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store's folder in which everything says 1, and no history is there yet."""
    store = Store.open(tmp_path / "data")
    with store.transaction(REGISTRY, BEAT, NAS) as tx:
        tx[REGISTRY].systems.put(system("nas", metadata={"n": 1}))
        tx[BEAT].heartbeats.put(heartbeat("nas", metadata={"n": 1}))
        tx[NAS].datasets.put(dataset("tank", 1))
    return tmp_path / "data"


def write(store: Store, n: int) -> None:
    """Let everything say so, in one transaction."""
    with store.transaction(REGISTRY, BEAT, NAS, GONE) as tx:
        tx[REGISTRY].systems.put(system("nas", metadata={"n": n}))
        tx[BEAT].heartbeats.put(heartbeat("nas", metadata={"n": n}))
        tx[NAS].datasets.put(dataset("tank", n))
        tx[GONE].gone.put(GoneRow(id="1", dataset=str(n), at=NOON, rows=[row("tank@1", 1)]))


def said(store: Store) -> list[int]:
    """What everything says, in the order in which the files take their places."""
    gone = store.read(GONE).gone
    return [
        int(gone.get("1").dataset) if "1" in gone else 1,
        len(store.read(NAS).datasets.get("tank").snapshots),
        store.read(BEAT).heartbeats.get("nas").metadata["n"],
        store.read(REGISTRY).systems.get("nas").metadata["n"],
    ]


def journals(folder: Path) -> list[Path]:
    return list((folder / "commits").iterdir())


def left_over(folder: Path) -> list[Path]:
    return [*folder.rglob("*.tmp"), *journals(folder)]


# --- what ends a writer --------------------------------------------------------------------------


def write_and(folder: Path, renames: int, happens: Callable[[], None]) -> None:
    """Write 2; something happens after so many files have taken their places, or before the journal is there (-1)."""
    store, real, left = Store.open(folder), os.replace, renames
    if renames < 0:
        os.fsync = lambda descriptor: happens() if "/.registry.json." in path_of(descriptor) else None

    def replace(source: str, target: str) -> None:
        nonlocal left
        if left == 0:
            happens()
        left -= 1
        real(source, target)

    os.replace = replace
    write(store, 2)
    if left == 0:
        happens()


def path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def fail() -> None:
    raise OSError(5, "Input/output error")


def cut_off(folder: Path, renames: int) -> None:
    """A process that writes 2 is killed."""
    writer = spawn.Process(target=write_and, args=(folder, renames, die))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("renames", range(-1, FILES))
def test_a_writer_that_was_killed_leaves_all_or_nothing_to_the_next_start(folder: Path, renames: int) -> None:
    cut_off(folder, renames)
    store = Store.open(folder)
    assert said(store) == [1 if renames < 0 else 2] * FILES
    assert left_over(folder) == []
    assert store.problems() == []
    write(store, 3)
    assert said(Store.open(folder)) == [3] * FILES


@pytest.mark.parametrize("shard", [REGISTRY, BEAT, NAS, GONE], ids=lambda shard: shard.name)
@pytest.mark.parametrize("renames", range(FILES))
def test_whoever_locks_one_of_its_files_next_completes_it(folder: Path, renames: int, shard: object) -> None:
    store = Store.open(folder)
    cut_off(folder, renames)
    assert said(store) == [2] * renames + [1] * (FILES - renames)  # readers take no lock
    with store.transaction(shard):  # type: ignore[arg-type]
        assert said(store) == [2] * FILES
    assert left_over(folder) == []


def test_what_others_have_locked_they_complete_themselves(folder: Path) -> None:
    store, other = Store.open(folder), Store.open(folder)
    with store.transaction(heartbeat_of("x")):
        cut_off(folder, 1)
    with other._engine._locks.hold([NAS.lock], 1):  # type: ignore[attr-defined]
        with store.transaction(BEAT):
            assert said(store) == [2, 1, 2, 2]
        Store.open(folder)  # its start leaves what is needed, too
        assert said(store) == [2, 1, 2, 2]
        assert len(journals(folder)) == 1
    with other.transaction(NAS):
        assert said(other) == [2] * FILES
    assert left_over(folder) == []


def test_a_living_writer_is_left_alone(folder: Path) -> None:
    """It stops when two files have taken their places, and goes on when others have started and written meanwhile."""
    writer = spawn.Process(target=write_and, args=(folder, 2, stop))
    writer.start()
    assert writer.pid is not None
    _, status = os.waitpid(writer.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    store = Store.open(folder)
    with store.transaction(heartbeat_of("other")) as tx:
        tx[heartbeat_of("other")].heartbeats.put(heartbeat("other"))
    assert said(Store.open(folder)) == [2, 2, 1, 1]
    assert len(journals(folder)) == 1
    os.kill(writer.pid, signal.SIGCONT)
    writer.join(60)
    assert writer.exitcode == 0
    assert said(store) == [2] * FILES
    assert left_over(folder) == []


@pytest.mark.parametrize("renames", range(FILES))
def test_a_write_that_fails_before_its_first_file_is_in_place_is_not_done_and_else_it_is(
    folder: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", os.replace)  # undo puts back what is set in there
    with pytest.raises(StoreError, match="Input/output error"):
        write_and(folder, renames, fail)
    monkeypatch.undo()
    assert len(left_over(folder)) == (0 if renames == 0 else FILES - renames + 1)
    store = Store.open(folder, lock_timeout_s=0)
    assert said(store) == [1 if renames == 0 else 2] * FILES
    assert left_over(folder) == []


def test_a_full_disk_has_no_room_for_a_journal_either(small_disk: Path) -> None:
    store = Store.open(small_disk / "data")
    write(store, 1)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    for room in range(20):
        os.truncate(filler, filler.stat().st_size - 4096 * (room > 0))
        if room_was_enough(store):
            break
        assert said(store) == [1] * FILES
        assert left_over(small_disk / "data") == []
    assert said(store) == [2] * FILES
    assert room == FILES + 1


def room_was_enough(store: Store) -> bool:
    try:
        write(store, 2)
    except StoreFull:
        return False
    return True


# --- what a journal may be -----------------------------------------------------------------------


def test_what_was_written_since_stays(folder: Path) -> None:
    """An older version of the program, or a person, does not look for journals."""
    cut_off(folder, 1)
    beat, nas = folder / f"{BEAT.name}.json", folder / f"{NAS.name}.json"
    beat.write_text(beat.read_text().replace('"n":1', '"n":7').replace('"gen":1', '"gen":9'))
    nas.unlink()
    store = Store.open(folder)
    assert store.read(BEAT).heartbeats.get("nas").metadata == {"n": 7}
    assert store.read(NAS).datasets.all() == []
    assert left_over(folder) == []


@pytest.mark.parametrize("size", [0, 50])
def test_a_copy_in_which_a_file_was_cut_off_has_what_there_was_before(folder: Path, tmp_path: Path, size: int) -> None:
    cut_off(folder, 1)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (waiting,) = (copy / "inventories").glob(".*.tmp")
    os.truncate(waiting, size)
    store = Store.open(copy)
    assert said(store) == [2, 1, 2, 2]
    assert store.problems() == left_over(copy) == []
    assert said(Store.open(folder)) == [2] * FILES


@pytest.mark.parametrize("content", [b"", b'{"registry":{"tempor', b"[]"])
@pytest.mark.parametrize("name", ["registry", "inventories__nas", "history__a__b"])
def test_a_journal_that_cannot_be_read_is_removed_at_the_start(folder: Path, name: str, content: bytes) -> None:
    cut_off(folder, 0)
    (journal,) = journals(folder)
    journal.unlink()
    journal.with_name(f"{name}.0123456789abcdef.json").write_bytes(content)
    store = Store.open(folder)
    assert said(store) == [1] * FILES
    assert left_over(folder) == []


@pytest.mark.parametrize(("name", "temporary"), [("../x", "outside"), ("heartbeats/x", "../../outside")])
def test_a_journal_moves_nothing_from_outside(folder: Path, name: str, temporary: str) -> None:
    outside = folder.with_name("outside")
    outside.write_bytes(b"1234")
    journal = folder / "commits/registry.0123456789abcdef.json"
    journal.write_text(f'{{"{name}":{{"temporary":"{temporary}","size_bytes":4,"head":null}}}}')
    Store.open(folder)
    assert outside.read_bytes() == b"1234"
    assert not journal.exists()


def test_one_that_is_being_written_is_not(folder: Path) -> None:
    store = Store.open(folder)
    journal = folder / "commits/inventories__nas.0123456789abcdef.json"
    with store.transaction(NAS):
        journal.write_bytes(b'{"inventories/nas":')
        with Store.open(folder).transaction(REGISTRY) as tx:
            tx[REGISTRY].systems.put(system("a"))
        assert journal.exists()
    Store.open(folder)
    assert not journal.exists()


def test_what_others_leave_beside_journals_is_theirs(folder: Path) -> None:
    (folder / "commits/notes.txt").write_text("")
    store = Store.open(folder)
    write(store, 2)
    assert [path.name for path in left_over(folder)] == ["notes.txt"]
    assert len(store._engine.names()) == FILES


def test_a_folder_of_journals_that_somebody_removed_is_made_again(folder: Path) -> None:
    store = Store.open(folder)
    (folder / "commits").rmdir()
    write(store, 2)
    assert said(store) == [2] * FILES
    assert (folder / "commits").stat().st_mode & 0o777 == 0o700


# --- what it costs, and what is kept of it -------------------------------------------------------


def test_one_file_needs_no_journal(folder: Path) -> None:
    store = Store.open(folder)
    os.utime(folder / "commits", ns=(0, 0))
    with store.transaction(BEAT, NAS) as tx:
        tx[BEAT].heartbeats.put(heartbeat("nas", metadata={"n": 2}))
    assert (folder / "commits").stat().st_mtime_ns == 0
    write(store, 2)
    assert (folder / "commits").stat().st_mtime_ns > 0


@pytest.mark.parametrize("renames", range(FILES))
def test_a_backup_has_what_was_begun(folder: Path, tmp_path: Path, renames: int) -> None:
    """The history of which there was no file yet, too."""
    store, out = Store.open(folder), io.BytesIO()
    cut_off(folder, renames)
    write_backup(store, out, NOON)
    out.seek(0)
    copy = Store.open(tmp_path / "copy")
    restore_backup(copy, out)
    assert said(copy) == said(store) == [2] * FILES
    assert left_over(tmp_path / "copy") == left_over(folder) == []
