"""What to send from one history so that another gets all that is wanted, in the fewest streams."""

from collections.abc import Collection
from dataclasses import dataclass

from planner.histories import History, Mark
from planner.model import Bookmark, Snapshot


@dataclass(frozen=True, slots=True)
class Stream:
    """One zfs send: full where there is no base."""

    base: Mark | None
    end: Snapshot
    intermediates: bool  # -I rather than -i
    delivers: tuple[Snapshot, ...]  # oldest first
    size_bytes: int | None  # about; None where the source did not report enough


def increments(source: History, base: Mark, sendable: Collection[str]) -> tuple[Stream, ...]:
    """The streams that bring every sendable guid after the base, and nothing else.

    `-I` brings all in between, so it is used where all of them are sendable; `-i` steps over those that are not.
    A bookmark is a base for `-i` only (zfs-send(8)).
    """
    ahead = source.after(base)
    assert ahead is not None, "a base is a mark whose place in the history is known"
    streams: list[Stream] = []
    at: Mark = base
    skipped: list[Snapshot] = []  # since `at`, not sendable
    run: list[Snapshot] = []  # sendable, without a gap, directly after `at`
    for snapshot in ahead:
        if snapshot.guid not in sendable:
            if run:
                streams.append(_increment(at, run, []))
                at, run = run[-1], []
            skipped.append(snapshot)
        elif skipped or isinstance(at, Bookmark):
            streams.append(_increment(at, [snapshot], skipped))
            at, skipped = snapshot, []
        else:
            run.append(snapshot)
    if run:
        streams.append(_increment(at, run, []))
    return tuple(streams)


def full(source: History, first: Snapshot, sendable: Collection[str]) -> tuple[Stream, ...]:
    """A full stream of one snapshot, and the increments from there on."""
    start = Stream(None, first, False, (first,), first.referenced)
    return (start, *increments(source, first, sendable))


def _increment(base: Mark, run: list[Snapshot], skipped: list[Snapshot]) -> Stream:
    """An increment's size is what was written from the base to its end, whatever it steps over."""
    sizes = [snapshot.written for snapshot in (*skipped, *run)]
    known = [size for size in sizes if size is not None]
    size = sum(known) if len(known) == len(sizes) else None
    return Stream(base, run[-1], len(run) > 1, tuple(run), size)
