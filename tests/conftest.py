"""A witness over a real store in a temporary folder, or in a database, called through WebTest."""

import subprocess
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import config
from handlers.request import Witness
from tests import doorways
from tests.fake_zfs import zfs_server
from tests.postgres_server import Server, server
from tests.store_samples import NewPlace, Place
from tests.witness import ADMIN, ENROLL, Client, client_of
from zfs_sync import open_witness

ENGINES = ("files", "postgresql")

# Each test of these runs on both engines; of others, those that are marked on_both.
ON_BOTH = (
    "actions",
    "alerts",
    "auth",
    "conflicts",
    "events",
    "healing",
    "inventories",
    "resolving",
    "store",
    "store_backup",
    "store_faults",
    "store_migrations",
    "store_processes",
    "sync",
    "sync_groups",
    "systems",
    "tick",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its engines."""
    if "engine" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("on_files"):
        return
    module = metafunc.module.__name__.removeprefix("tests.test_")
    chosen = metafunc.config.getoption("--engine")
    if chosen:
        metafunc.parametrize("engine", [chosen], indirect=True)
    elif module in ON_BOTH or metafunc.definition.get_closest_marker("on_both"):
        metafunc.parametrize("engine", ENGINES, indirect=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that writes tests/golden anew, and those that choose an engine and a way in."""
    parser.addoption("--rewrite-golden", action="store_true", help="write the files of tests/golden anew")
    what = "run every test of a store or a witness on this engine (default: some on both)"
    parser.addoption("--engine", choices=ENGINES, help=what)
    parser.addoption("--through", choices=doorways.WAYS, default="none", help="how requests come in")


def pytest_configure(config: pytest.Config) -> None:
    doorways.chosen = config.getoption("--through")


@pytest.fixture(scope="session", autouse=True)
def fake_zfs() -> Iterator[None]:
    """What fake/zfs asks to do its work."""
    with zfs_server():
        yield


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """What keeps the store."""
    return str(getattr(request, "param", "files"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with server() as started:
        yield started


@pytest.fixture
def new_place(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> NewPlace:
    """A function that says where a new store can be: a folder that is not there yet, or the address of a schema."""

    def make(name: str) -> Place:
        if engine == "files":
            return tmp_path / name
        started: Server = request.getfixturevalue("postgresql")
        return started.address(started.new_schema())

    return make


@pytest.fixture
def place(new_place: NewPlace) -> Place:
    """Where a new store can be."""
    return new_place("data")


@pytest.fixture
def make_witness(tmp_path: Path, place: Place) -> Iterator[Any]:
    """A function that opens a witness; `groups` is what zfs_sync.yaml says under groups:, `settings` the rest."""
    opened: list[weakref.ref[Any]] = []

    def make(groups: str = "", **settings: Any) -> Witness:
        file = tmp_path / "zfs_sync.yaml"
        lines = [f"{name}: {value}" for name, value in settings.items()]
        file.write_text("\n".join(lines) + "\n" + (f"groups:\n{groups}" if groups else ""))
        environ = {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}
        if isinstance(place, str):
            environ["ZFS_SYNC_STORE_URL"] = place
        witness = open_witness(config.load(file, environ))
        opened.append(weakref.ref(witness.store))
        return witness

    yield make
    for reference in opened:
        store = reference()
        if store is not None:
            store.close()


@pytest.fixture
def witness(make_witness: Any) -> Witness:
    """A witness with the default settings."""
    opened: Witness = make_witness()
    return opened


@pytest.fixture
def client(witness: Witness) -> Client:
    """The witness's API with the admin's key."""
    return client_of(witness)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount the small file system that this test fills")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
