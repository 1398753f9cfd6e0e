"""A whole store in another's place: killed anywhere, it is the old one or the new one, with its own secret."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

from store import REGISTRY, Store, StoreFull, inventory_of
from store import files as store_files
from store.backup import copy_store, restore_backup, write_backup
from tests.store_samples import NOON, dataset, everything, put_systems

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from store import Store
from store.backup import copy_store, restore_backup

what, source, target, last = sys.argv[1:]
stores = [Store.open(Path(place)) for place in (source, target)]
left = int(last)

def then(call):
    def until(*arguments):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*arguments)
    return until

os.replace, os.unlink, os.fsync = then(os.replace), then(os.unlink), then(os.fsync)
if what == "copy":
    copy_store(*stores)
else:
    with open(f"{source}.tar.gz", "rb") as backup:
        restore_backup(stores[1], backup)
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Store]:
    """Make a store of these systems, each with an inventory, and a backup of it beside."""

    def made(name: str, *ids: str) -> Store:
        store = Store.open(tmp_path / name)
        for id in ids:
            put_systems(store, id)
            with store.transaction(inventory_of(id)) as tx:
                tx[inventory_of(id)].datasets.put(dataset("tank"))
        with open(tmp_path / f"{name}.tar.gz", "wb") as out:
            write_backup(store, out, NOON)
        return store

    return made


def copy_or_restore(what: str, source: Store, target: Store) -> None:
    with open(f"{source.where}.tar.gz", "rb") as backup:
        copy_store(source, target) if what == "copy" else restore_backup(target, backup)


def killed_at(step: int, what: str, source: Store, target: Store) -> bool:
    """Whether it was: it has fewer steps, if not."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT, what, source.where, target.where, str(step)], check=False, cwd=Path.cwd()
    )
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def at_each_step(what: str, make: Callable[..., Store], *before: str) -> list[tuple[list[str], str]]:
    """Whose systems and whose secret there are when it is killed at its first step, its second and so on, each once."""
    source, seen = make("source", "nas", "vps"), []
    for step in range(100):
        target = make(f"target{step}", *before)
        old = target.secret
        was_killed = killed_at(step, what, source, target)
        found = Store.open(Path(target.where))
        whose = {old: "old", source.secret: "new"}[found.secret]
        seen.append((sorted(found.read(REGISTRY).systems.ids()), whose))
        if what == "restore":
            copy_or_restore(what, source, found)
            assert everything(found) == everything(source)
            assert Store.open(Path(target.where)).secret == source.secret
        if not was_killed:
            return [each for each, _ in groupby(seen)]
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("what", "before"), [("restore", ["old"]), ("copy", [])])
def test_who_is_killed_leaves_the_old_store_or_the_new_one(
    make: Callable[..., Store], what: str, before: list[str]
) -> None:
    assert at_each_step(what, make, *before) == [(before, "old"), (["nas", "vps"], "new")]


@pytest.mark.parametrize("file", ["secret_key", "registry.json"])
@pytest.mark.parametrize("what", ["restore", "copy"])
def test_a_full_disk_changes_neither_keys_nor_secret(
    make: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, what: str, file: str
) -> None:
    source, target = make("source", "nas"), make("target", *(["old"] if what == "restore" else []))
    before, secret, write = everything(target), target.secret, store_files.write_beside

    def full(path: str, data: bytes) -> tuple[str, object]:
        if path.endswith(file):
            raise OSError(28, os.strerror(28))
        return write(path, data)

    monkeypatch.setattr(store_files, "write_beside", full)
    with pytest.raises(StoreFull):
        copy_or_restore(what, source, target)
    assert (everything(target), Store.open(Path(target.where)).secret) == (before, secret)
