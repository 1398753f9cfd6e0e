"""copy-store: everything goes from a folder into a database and back, byte for byte, or nothing does."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from store import REGISTRY, Store, heartbeat_of, history_of, inventory_of
from store.documents import GoneRow
from tests.store_samples import (
    NOON,
    NewPlace,
    Place,
    dataset,
    event,
    everything,
    heartbeat,
    put_content,
    row,
    system,
)
from zfs_sync import open_witness

pytestmark = pytest.mark.on_both


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store."""
    store = Store.open(tmp_path / "full")
    day = history_of("nas", "2026-11-22")
    with store.transaction(REGISTRY, inventory_of("nas"), heartbeat_of("nas"), day) as tx:
        tx[REGISTRY].systems.put(system("nas", metadata={"ü": 2**70}))
        tx[inventory_of("nas")].datasets.put(dataset("tank", 500))
        tx[heartbeat_of("nas")].heartbeats.put(heartbeat("nas"))
        tx[day].gone.put(GoneRow(id="1", dataset="tank", at=NOON, rows=[row("tank@1", 1)]))
    store.add_event(event("1"))
    return tmp_path / "full"


@pytest.fixture
def configured(new_place: NewPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """Where the configuration says that the store is: an empty place, of either kind."""
    place = new_place("configured")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZFS_SYNC_DATA_DIR", str(tmp_path / "configured"))
    if isinstance(place, str):
        monkeypatch.setenv("ZFS_SYNC_STORE_URL", place)
    return place


def copy(source: Any, target: Any) -> int:
    return cli.main(["copy-store", str(source), str(target)], open_witness)


def word_for(place: Place) -> str:
    return "store_url" if isinstance(place, str) else "data_dir"


def test_there_and_back_everything_is_as_it_was(
    folder: Path, configured: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(folder, word_for(configured)) == 0
    assert f"5 files copied from {folder} to " in capsys.readouterr().out
    assert copy(word_for(configured), tmp_path / "back") == 0
    stores = [Store.open(place) for place in (folder, configured, tmp_path / "back")]
    assert everything(stores[0]) == everything(stores[1]) == everything(stores[2]) != {}
    assert len({store.secret for store in stores}) == 1
    assert stores[1].read(REGISTRY).systems.get("nas").metadata == {"ü": 2**70}


def test_a_place_that_has_something_is_refused(
    folder: Path, configured: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.open(configured)
    with store.transaction(REGISTRY) as tx:
        tx[REGISTRY].systems.put(system("here"))
    before, secret = everything(store), store.secret
    assert copy(folder, word_for(configured)) == 1
    assert "is not empty: it has 1 files, the first is registry" in capsys.readouterr().err
    assert (everything(store), Store.open(configured).secret) == (before, secret)


def test_nothing_is_copied_of_a_store_that_is_not_all_good(
    folder: Path, configured: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    put_content(Store.open(folder), "inventories/nas", b"{")
    assert copy(folder, word_for(configured)) == 1
    assert "nothing was copied: " in capsys.readouterr().err
    assert everything(Store.open(configured)) == {}


def test_a_secret_of_the_configuration_stays_there(
    folder: Path, configured: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "secret_key").unlink()
    monkeypatch.setenv("ZFS_SYNC_SECRET_KEY", "s" * 40)
    assert copy(folder, word_for(configured)) == 0
    assert Store.open(configured, secret="s" * 40).kept_secret is None


@pytest.mark.on_files
@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("nowhere", "data_dir", "nowhere: there is no store in it"),
        ("full", "store_url", "store_url is not set"),
        ("full", "postgresql://user:s3cret@localhost/db", "shown to every user of this machine"),
        ("full", "postgresql://user@localhost/db?password=s3cret", "shown to every user of this machine"),
        ("full", "postgresql://user:s3cret@[::1/db", "shown to every user of this machine"),
    ],
)
@pytest.mark.usefixtures("folder", "configured")
def test_what_cannot_be_copied_is_said(
    source: str, target: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(source, target) == 1
    said = capsys.readouterr().err
    assert says in said
    assert "s3cret" not in said
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.on_files
def test_without_psycopg_the_way_out_is_said(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('no psycopg here')")
    command = [sys.executable, "zfs_sync.py", "check"]
    environ = {"PYTHONPATH": str(tmp_path), "ZFS_SYNC_STORE_URL": "postgresql://user:s3cret@localhost/db"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'psycopg[binary,pool]'" in done.stderr
    assert "s3cret" not in done.stderr
