"""The picture of a dataset's snapshots: what it shows, and that it stays small."""

import re
from xml.etree import ElementTree

from handlers.dashboard.timeline import Lane, draw_timeline
from planner.model import Snapshot


def history(*numbers: int) -> list[Snapshot]:
    """A snapshot for each number, which is its guid and its hour."""
    return [Snapshot(f"s{number}", str(number), number, number * 3600) for number in numbers]


def drawn(*lanes: Lane, width: int = 1000) -> ElementTree.Element:
    return ElementTree.fromstring(draw_timeline(lanes, 3600, 10 * 3600, width))


def marks(picture: ElementTree.Element, kind: str) -> int:
    """How many marks of a kind there are."""
    return sum(len(re.findall("M", each.get("d", "M"))) for each in picture if each.get("class") == kind)


def test_what_is_shared_missing_and_of_ones_own_has_its_mark() -> None:
    source = Lane("nas", history(1, 2, 3, 4), True, "4", ())
    target = Lane("backup", history(1, 2, 9), False, "2", history(3, 4))
    picture = drawn(source, target)
    assert marks(picture, "tick shared") == 4
    assert marks(picture, "tick source-only") == 2
    assert marks(picture, "only-here") == 1
    assert marks(picture, "missing") == 2
    assert marks(picture, "base") == 1
    assert marks(picture, "gap") == 1
    assert (marks(picture, "join"), marks(picture, "join broken")) == (2, 0)
    assert "backup: 3 snapshots, 2 missing" in (picture.get("aria-label") or "")


def test_a_line_past_somebody_who_lacks_it_is_broken() -> None:
    lanes = [
        Lane("a", history(1), True, None, ()),
        Lane("b", [], False, None, ()),
        Lane("c", history(1), False, None, ()),
    ]
    picture = drawn(*lanes)
    assert (marks(picture, "join"), marks(picture, "join broken")) == (0, 1)


def test_thousands_of_snapshots_stay_a_small_picture() -> None:
    many = [Snapshot(f"s{number}", str(number + 1), number, 3600 + number * 16) for number in range(2000)]
    lanes = [Lane(name, many, name == "a", "2000", ()) for name in "abc"]
    assert len(draw_timeline(lanes, 3600, 10 * 3600, 1080)) < 60_000


def test_a_hostile_name_stays_text() -> None:
    lane = Lane("<script>", [Snapshot("</svg><img>", "1", 1, 7200)], False, "1", (), note="<b>")
    texts = "".join(drawn(lane).itertext())
    assert "<script>" in texts
    assert "<b>" in texts
    assert "</svg><img>" in texts
