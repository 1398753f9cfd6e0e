"""The store alone, on one inventory: replacing, changing and reading it, against FLOOR."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from handlers.inventories import put_dataset
from handlers.reports import DEFAULT_COLUMNS, read_listing
from store import Store, inventory_of
from store.documents import DatasetDoc
from store.shards import Inventory
from tests.bench.fleet import listing
from tests.bench.measuring import Row, at_most, each_s, ratios, resident_bytes

NAS = inventory_of("nas")
PER_DATASET = 1000
_typed = msgspec.json.Decoder(list[DatasetDoc])


def rows(folder: Path, snapshots: int, times: int) -> Iterator[Row]:
    """The rows of a store in a folder with one inventory of so many snapshots."""
    documents = list(
        read_listing(listing(0, snapshots // PER_DATASET, PER_DATASET), DEFAULT_COLUMNS, 1).datasets.values()
    )
    other = [_later(document) for document in documents]
    store = Store.open(folder / "data")
    versions = itertools.cycle((other, documents))
    _replace(store, documents)
    file = folder / "data/inventories/nas.json"
    plain = msgspec.json.encode(documents)

    def floor() -> None:
        _write(folder / "floor", msgspec.json.encode(_typed.decode(plain)))

    middle = list(map(_later, other[:1]))

    def change_one() -> None:
        with store.transaction(NAS) as tx:
            put_dataset(tx[NAS], middle[0])

    floor_s, found = ratios(
        floor,
        {
            "replace": lambda: _replace(store, next(versions)),
            "change": change_one,
            "skim": lambda: _read_anew(folder).summaries.all(),  # noqa: PLW0108  # opening is part of it
            "typed": lambda: _read_anew(folder).datasets.all(),  # noqa: PLW0108
        },
        times,
    )
    size = f"{snapshots // 1000}k snapshots"
    yield Row(f"FLOOR: decode, encode, write and fsync {size}, {len(plain) / 1e6:.1f} MB", f"{floor_s * 1000:.0f} ms")
    yield at_most("replace the inventory, digests included", found["replace"], 1.6, "x FLOOR")
    yield at_most("update one dataset of it", found["change"], 0.5, "x FLOOR")
    yield at_most("read it anew, summaries", found["skim"], 0.35, "x FLOOR")
    yield at_most("read it anew, every document", found["typed"], 1.0, "x FLOOR")
    yield from _hits(store, file)
    yield from _memory(folder, file)


def _hits(store: Store, file: Path) -> Iterator[Row]:
    stat_s = each_s(lambda: os.stat(file), 2000)
    store.read(NAS)

    def lock() -> None:
        with store._engine.locked([NAS.lock], 5):
            pass

    micro = f" ({stat_s * 1e6:.1f} us)"
    yield at_most("read it again, unchanged", each_s(lambda: store.read(NAS), 2000) / stat_s, 5, "x os.stat", micro)
    yield at_most("lock and unlock", each_s(lock, 2000) / stat_s, 10, "x os.stat", micro)


def _memory(folder: Path, file: Path) -> Iterator[Row]:
    """What a process grows by that reads the inventory and keeps it."""
    for what, limit in (("typed", 3.5), ("skimmed", 1.1)):
        command = [sys.executable, "-m", "tests.bench.store_rows", str(folder / "data"), what]
        grown = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        yield at_most(f"memory of it, {what}", grown / file.stat().st_size, limit, "x the file")


def _grown(folder: Path, what: str) -> int:
    store = Store.open(folder)
    before = resident_bytes()
    view = store.read(NAS)
    kept = view.datasets.all() if what == "typed" else view.summaries.all()
    return resident_bytes() - before if kept else 0


def _read_anew(folder: Path) -> Inventory:
    """The inventory as a process sees it that has read nothing yet."""
    return Store.open(folder / "data").read(NAS)


def _replace(store: Store, documents: list[DatasetDoc]) -> None:
    with store.transaction(NAS) as tx:
        for document in documents:
            put_dataset(tx[NAS], document)


def _later(document: DatasetDoc) -> DatasetDoc:
    """The same with other sizes, so that each of its rows differs."""
    rows = [msgspec.structs.replace(row, used=(row.used or 0) + 1) for row in document.snapshots]
    return msgspec.structs.replace(document, snapshots=rows)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    json.dump(_grown(Path(sys.argv[1]), sys.argv[2]), sys.stdout)
