"""A dataset's snapshots on every system, on one axis of time: an SVG picture, drawn as text.

Marks of one kind on one line are one path, so that thousands of snapshots stay small. Nothing of what people named
comes into the picture but hostnames and the snapshots' names in titles, all of it escaped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape

from planner.model import Snapshot

LANE, TOP, BOTTOM, LEFT, RIGHT = 58, 12, 26, 10, 16  # pixels
HALF = 9  # of a mark's height


@dataclass(frozen=True, slots=True)
class Lane:
    """One system's line in the picture."""

    title: str
    snapshots: Sequence[Snapshot]  # oldest first
    is_source: bool
    base_guid: str | None  # the newest snapshot it shares with the source
    missing: Sequence[Snapshot]  # wanted, and not here
    note: str = ""


def draw_timeline(lanes: Sequence[Lane], start: float, end: float, width: int) -> str:
    """The picture from `start` to `end` (Unix seconds), for screens about this wide."""
    picture = _Picture(lanes, start, end, width)
    height = TOP + LANE * len(lanes) + BOTTOM
    parts = [
        f'<svg class="timeline" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(_said(lanes))}">',
        *picture.axis(TOP + LANE * len(lanes)),
        *picture.joins(),
    ]
    for place, lane in enumerate(lanes):
        parts += picture.lane(lane, _middle(place))
    return "".join([*parts, "</svg>"])


def _middle(place: int) -> int:
    return TOP + place * LANE + 36


def _said(lanes: Sequence[Lane]) -> str:
    """The picture in words."""
    said = [f"{lane.title}: {len(lane.snapshots)} snapshots, {len(lane.missing)} missing" for lane in lanes]
    return "Snapshots over time. " + "; ".join(said)


class _Picture:
    def __init__(self, lanes: Sequence[Lane], start: float, end: float, width: int) -> None:
        self.lanes, self.start, self.end, self.width = lanes, start, max(end, start + 1), width
        self.holders: dict[str, list[int]] = {}  # by guid: the lanes that have it
        for place, lane in enumerate(lanes):
            for snapshot in lane.snapshots:
                if snapshot.guid:
                    self.holders.setdefault(snapshot.guid, []).append(place)

    def x(self, creation: float) -> float:
        inner = self.width - LEFT - RIGHT
        return round(LEFT + (creation - self.start) / (self.end - self.start) * inner, 1)

    def within(self, snapshots: Iterable[Snapshot]) -> list[tuple[float, Snapshot]]:
        """Those in the picture, with their places."""
        return [
            (self.x(snapshot.creation), snapshot)
            for snapshot in snapshots
            if snapshot.creation is not None and self.start <= snapshot.creation <= self.end
        ]

    def joins(self) -> list[str]:
        """Lines between neighbours that hold the same snapshot; interrupted where one between them lacks it."""
        between: dict[tuple[int, int], list[float]] = {}
        for place, lane in enumerate(self.lanes):
            for x, snapshot in self.within(lane.snapshots):
                later = [each for each in self.holders.get(snapshot.guid, ()) if each > place]
                if later:
                    between.setdefault((place, later[0]), []).append(x)
        return [
            f'<path class="{"join" if below == above + 1 else "join broken"}" '
            f'd="{"".join(f"M{x:g} {_middle(above)}V{_middle(below)}" for x in _spread(places))}"/>'
            for (above, below), places in between.items()
        ]

    def lane(self, lane: Lane, y: int) -> list[str]:
        """A system's name, its line, and its marks."""
        note = f' <tspan class="note">{escape(lane.note)}</tspan>' if lane.note else ""
        parts = [
            f'<text class="host" x="{LEFT}" y="{y - 18}">{escape(lane.title)}{note}</text>',
            f'<path class="line" d="M{LEFT} {y}H{self.width - RIGHT}"/>',
            *self._gap(lane, y),
        ]
        shared: list[float] = []
        alone: list[float] = []
        for x, snapshot in self.within(lane.snapshots):
            (shared if len(self.holders.get(snapshot.guid, ())) > 1 else alone).append(x)
        parts += _ticks("shared", shared, y)
        parts += _ticks("source-only", alone, y) if lane.is_source else _diamonds("only-here", alone, y)
        for x, snapshot in self.within(lane.snapshots):
            if snapshot.guid and snapshot.guid == lane.base_guid and not lane.is_source:
                title = f"newest in common: {snapshot.name}"
                parts.append(f'<circle class="base" cx="{x:g}" cy="{y}" r="7"><title>{escape(title)}</title></circle>')
        return parts

    def _gap(self, lane: Lane, y: int) -> list[str]:
        """What it lacks: a band from the first to the last, and a ring for each."""
        lacking = [x for x, _ in self.within(lane.missing)]
        if not lacking:
            return []
        left, width = min(lacking) - 4, max(lacking) - min(lacking) + 8
        title = f"{len(lane.missing)} missing on {lane.title}"
        return [
            f'<rect class="gap" x="{left:g}" y="{y - 12}" width="{width:g}" height="24" rx="4">'
            f"<title>{escape(title)}</title></rect>",
            *_rings(lacking, y),
        ]

    def axis(self, y: int) -> list[str]:
        """Dates below, with fine lines up."""
        parts = []
        for at, words in _dates(self.start, self.end, self.width):
            x = self.x(at)
            anchor = "start" if x < 40 else "end" if x > self.width - 40 else "middle"
            parts.append(f'<path class="grid" d="M{x:g} {TOP}V{y}"/>')
            parts.append(f'<text class="date" x="{x:g}" y="{y + 16}" text-anchor="{anchor}">{words}</text>')
        return parts


def _spread(places: Iterable[float], apart: float = 1.5) -> list[float]:
    """Places with those dropped that would lie on the one before: the eye can't tell them apart."""
    kept: list[float] = []
    for x in sorted(places):
        if not kept or x - kept[-1] >= apart:
            kept.append(x)
    return kept


def _ticks(kind: str, places: Iterable[float], y: int) -> list[str]:
    kept = _spread(places)
    marks = "".join(f"M{x:g} {y - HALF}v{2 * HALF}" for x in kept)
    return [f'<path class="tick {kind}" d="{marks}"/>'] if kept else []


def _diamonds(kind: str, places: Iterable[float], y: int) -> list[str]:
    kept = _spread(places, 4)
    marks = "".join(f"M{x:g} {y - 7}l6 7l-6 7l-6 -7z" for x in kept)
    return [f'<path class="{kind}" d="{marks}"/>'] if kept else []


def _rings(places: Iterable[float], y: int) -> list[str]:
    kept = _spread(places, 5)
    marks = "".join(f"M{x - 3:g} {y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0" for x in kept)
    return [f'<path class="missing" d="{marks}"/>']


def _dates(start: float, end: float, width: int) -> list[tuple[float, str]]:
    """Round moments between start and end, as many as fit, and what they are called."""
    steps = (3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 28 * 86400, 91 * 86400)
    most = max(2, width // 90)
    step = next((each for each in steps if (end - start) / each <= most), 364 * 86400)
    form = "%H:%M" if step < 86400 else "%d %b" if end - start < 300 * 86400 else "%b %Y"
    first = int(start // step + 1) * step
    moments = range(first, int(end) + 1, step)
    return [(at, (datetime.fromtimestamp(0, UTC) + timedelta(seconds=at)).strftime(form)) for at in moments]
