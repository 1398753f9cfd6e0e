"""What went counts in every group, not only where deletions are mirrored."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handlers.past import StoredPast
from store import Store, inventory_of
from tests.boxes import COLUMNS, Boxes, empty_boxes, listing
from tests.test_actions import finish, start

PAIR = "  - name: media\n    hub: nas\n    systems: {nas: {root: tank}, backup: {root: vault}}\n"
MIRRORED = PAIR + "    delete: mirror\n"


def reported(make_witness: Any, group: str, *replica: str, hub: str = "1 2 3 4 5 6") -> Boxes:
    """The hub's snapshots, and what the replica has in one report after the other."""
    boxes = empty_boxes(make_witness, group)
    boxes.nas.report(listing("tank:", f"tank/a: {hub}"), COLUMNS)
    for snapshots in replica:
        boxes.backup.report(listing("vault:", f"vault/a: {snapshots}"), COLUMNS)
    return boxes


def conflicts(boxes: Boxes) -> list[tuple[str, str, list[str]]]:
    found = boxes.client.get(f"/conflicts/{boxes.group}")["conflicts"]
    return [(each["type"], each["severity"], each["snapshot_names"]) for each in found]


@pytest.mark.parametrize("group", [PAIR, MIRRORED], ids=["kept", "mirrored"])
def test_what_a_replica_let_go_is_not_missing(make_witness: Any, group: str) -> None:
    boxes = reported(make_witness, group, "1 2 3 4 5 6", "2 3 4 5 6")
    assert conflicts(boxes) == []
    boxes.backup.report(listing("vault:", "vault/a: 2 4 5 6"), COLUMNS)
    assert conflicts(boxes) == []


def test_what_it_never_had_is_missing(make_witness: Any) -> None:
    assert conflicts(reported(make_witness, PAIR, "2 3 4 5 6")) == [("missing", "low", ["s1"])]


@pytest.mark.parametrize("group", [PAIR, MIRRORED], ids=["kept", "mirrored"])
def test_last_copies_that_went_at_once_are_named(make_witness: Any, group: str) -> None:
    boxes = reported(make_witness, group, "1 2 3 4 5 6", "5 6", hub="5 6")
    assert conflicts(boxes) == [("missing", "high", ["s1", "s2", "s3", "s4"])]


def test_only_what_went_at_once_counts_as_lost_at_once(make_witness: Any) -> None:
    """Both let the oldest go one after the other before that."""
    boxes = empty_boxes(make_witness, PAIR)
    for first in range(1, 9):
        kept = " ".join(str(number) for number in range(first, first + 8))
        boxes.nas.report(listing("tank:", f"tank/a: {kept}"), COLUMNS)
        boxes.backup.report(listing("vault:", f"vault/a: {kept}"), COLUMNS)
    boxes.backup.report(listing("vault:", "vault/a: 14 15"), COLUMNS)
    assert [each for each in conflicts(boxes) if each[1] == "high"] == [], "the hub has them all"
    boxes.nas.report(listing("tank:", "tank/a: 9 14 15"), COLUMNS)
    assert [each for each in conflicts(boxes) if each[1] == "high"] == [
        ("missing", "high", ["s10", "s11", "s12", "s13", "s8"]),  # of the hub's own
        ("missing", "high", ["s10", "s11", "s12", "s13", "s8"]),
    ]


def test_a_past_that_cannot_be_read_is_no_plan(make_witness: Any) -> None:
    """Nor is one kept that was made without it."""
    boxes = reported(make_witness, PAIR, "1 2 3 4 5 6", "5 6", hub="5 6")
    store = boxes.client.witness.store
    (day,) = store.history_segments(boxes.backup.id)
    path = Path(store.where, f"{day.name}.json")
    kept = path.rename(path.with_suffix(".kept"))
    path.mkdir()  # as a disk that fails: it is there, and can't be read
    assert boxes.client.call("GET", f"/conflicts/{boxes.group}", expect_errors=True).status_int == 503
    path.rmdir()
    kept.rename(path)
    assert conflicts(boxes) == [("missing", "high", ["s1", "s2", "s3", "s4"])]


def test_who_reads_amid_a_report_sees_what_went_where_it_is_not_listed(
    make_witness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers take no lock, and come between any two files of a report."""
    boxes = reported(make_witness, PAIR, "1 2 3 4 5 6")
    reader = Store.open(Path(boxes.client.witness.store.where))
    seen, replace = set(), os.replace

    def read_on(source: str, target: str) -> None:
        listed = reader.read(inventory_of(boxes.backup.id)).datasets.get("vault/a").snapshots
        gone = list(StoredPast(reader).guids(boxes.backup.id, "vault/a"))
        seen.add((len(listed), len(gone)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", read_on)
    boxes.backup.report(listing("vault:", "vault/a: 2 3 4 5 6"), COLUMNS)
    monkeypatch.undo()
    assert (6, 0) in seen
    assert all(listed + gone >= 6 for listed, gone in seen)


def test_what_is_told_one_by_one_destroys_nothing_elsewhere(make_witness: Any) -> None:
    """zfs rename tank/a@s1 @old; zfs snapshot tank/a@s1: the new one is told first."""
    boxes = reported(make_witness, MIRRORED, "1 2 3", hub="1 2 3")
    told = {"dataset": "tank/a", "name": "s1", "guid": "99", "createtxg": "50", "timestamp": "2026-02-01T00:00:00Z"}
    boxes.nas.call("POST", "/snapshots", told)
    assert [each for each in boxes.plan()["actions"] if each["action_type"] == "delete"] == []


def test_a_bookmark_just_made_is_known_by_its_place(make_witness: Any) -> None:
    """Else an increment from it, once its snapshot is gone, would not be known to fit."""
    now = datetime.now(UTC)
    window = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    boxes = reported(make_witness, MIRRORED + f'    window: "{window}"\n', "2", hub="2 3")
    (action,) = boxes.plan()["actions"]
    finish(boxes.nas, action, start(boxes.nas, action).json["lease_token"])
    (gone,) = (each for each in boxes.client.get(f"/snapshots?system_id={boxes.nas.id}") if each["name"] == "s2")
    boxes.nas.call("DELETE", f"/snapshots/{gone['id']}")
    assert [each[0] for each in conflicts(boxes)] == ["missing"]


def test_a_damaged_history_is_as_none(make_witness: Any) -> None:
    boxes = reported(make_witness, MIRRORED, "1 2 3 4 5 6", "2 3 4 5 6")
    store = boxes.client.witness.store
    (day,) = store.history_segments(boxes.backup.id)
    Path(store.where, f"{day.name}.json").write_text("{")
    assert conflicts(boxes) == [("missing", "low", ["s1"])]
