"""A witness over a real store in a temporary folder, called through WebTest."""

from pathlib import Path
from typing import Any

import pytest

import config
from handlers.auth import limiter
from handlers.request import Witness
from tests.witness import ADMIN, ENROLL, Client, client_of
from zfs_sync import open_witness


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that writes tests/golden anew."""
    parser.addoption("--rewrite-golden", action="store_true", help="write the files of tests/golden anew")


@pytest.fixture
def make_witness(tmp_path: Path) -> Any:
    """A function that opens a witness; `groups` is what zfs_sync.yaml says under groups:, `settings` the rest."""

    def make(groups: str = "", **settings: Any) -> Witness:
        file = tmp_path / "zfs_sync.yaml"
        lines = [f"{name}: {value}" for name, value in settings.items()]
        file.write_text("\n".join(lines) + "\n" + (f"groups:\n{groups}" if groups else ""))
        environ = {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}
        return open_witness(config.load(file, environ))

    limiter.cache_clear()  # each test counts its own failures
    return make


@pytest.fixture
def witness(make_witness: Any) -> Witness:
    """A witness with the default settings."""
    opened: Witness = make_witness()
    return opened


@pytest.fixture
def client(witness: Witness) -> Client:
    """The witness's API with the admin's key."""
    return client_of(witness)
