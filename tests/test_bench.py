"""The benchmark measures what it says: the fleets that it makes up are in sync, or as far behind as they should be."""

from pathlib import Path

from tests.bench.fleet import asker_at, fill
from tests.bench.group_rows import HEADS, measure
from tests.bench.measuring import at_most, table


def test_a_fleet_is_behind_in_as_many_datasets_as_it_should_be(tmp_path: Path) -> None:
    for behind, expected in ((0, 0), (25, 2)):
        folder = tmp_path / str(behind)
        folder.mkdir()
        asker = asker_at(folder)
        group, _ = fill(asker, 2, 8, 3, behind)
        plan = asker.json("GET", f"/sync/{group}/instructions")
        assert len(plan["actions"]) == expected
        assert {action["action_type"] for action in plan["actions"]} <= {"sync"}
        status = asker.json("GET", f"/sync/{group}/status")
        cells = [cell for row in status["datasets"] for cell in row["systems"].values()]
        assert len(cells) == 16
        assert [cell["status"] for cell in cells].count("in_sync") == 16 - expected


def test_a_size_fills_a_line_of_the_table(tmp_path: Path) -> None:
    cells = measure(tmp_path, (2, 2, 3), 0).cells
    assert cells[:2] == ("2 x 2 x 3", "0 %")
    assert len(cells) == len(HEADS)
    assert table(HEADS, [cells]).count("\n") == 3
    assert at_most("w", 2, 1.5, "x").cells == ("w", "2 x", "<= 1.5 x", "**no**")
