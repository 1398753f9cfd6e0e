"""Two histories of one dataset, drawn (see tests/pictures.py)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.histories import (
    Ahead,
    Common,
    Diverged,
    FastForward,
    History,
    Unclear,
    history,
    newest_common,
    relate,
)
from planner.model import Bookmark, Replica, Snapshot
from tests.pictures import DAY, history_of


def read(line: str) -> History:
    return history(history_of(line) or Replica("tank/data", written=0))


def two(picture: str) -> tuple[History, History, str]:
    """`A: 1 2   B: 1   => answer`: the two histories and the answer."""
    histories, _, answer = picture.partition("=>")
    source, _, target = histories.partition("B:")
    return read(source.replace("A:", "")), read(target), " ".join(answer.split())


def draw(source: History, target: History, raw: bool = False) -> str:
    relation = relate(source, target, raw)
    if not isinstance(relation, FastForward | Ahead | Diverged | Unclear):
        return type(relation).__name__
    common = relation.common
    mark = "#" if isinstance(common.at_source, Bookmark) else ""
    ahead = " ".join(snapshot.name for snapshot in common.ahead) or "nothing"
    return f"{type(relation).__name__} on {mark}{common.at_source.guid}: {ahead}"


@pytest.mark.parametrize(
    "picture",
    [
        "A: 1 2 3     B: 1 2       => FastForward on 2: 3",
        "A: 1 2 3     B: 1 2 3     => FastForward on 3: nothing",
        "A: 1 2       B:           => Empty",
        "A: 1 2       B: 3 4       => Unrelated",
        "A: #1 2      B: 1         => FastForward on #1: 2",
        "A: 1 #2 3    B: 1 2       => FastForward on #2: 3",
        "A: 1 #2      B: 1 2       => FastForward on #2: nothing",
        "A: 1 #1@k 2  B: 1         => FastForward on 1: 2",  # the snapshot goes before its bookmark
        "A: 1 2       B: #1 3      => Unrelated",  # a bookmark on the target is no base
        "A: 1 2@old 3 B: 1 2@new   => FastForward on 2: 3",  # renamed: guids decide
        "A: 1@x 2     B: 7@x       => Unrelated",  # names don't
        "A: 1 2 3     B: 1 2 x     => FastForward on 2: 3",  # empty: harmless
        "A: 1 2 3     B: 1 x 2 y   => FastForward on 2: 3",
        "A: 1 2 3     B: 1 2 X     => Diverged on 2: 3",
        "A: 1 2 3     B: 1 2 X y   => Diverged on 2: 3",  # the newest is empty, the one before is not
        "A: 1 2 3     B: 1 2 *     => Diverged on 2: 3",
        "A: 1 2 3     B: 1 2 x *   => Diverged on 2: 3",
        "A: 1 2       B: 1 2 X     => Ahead on 2: nothing",
        "A: 1 2       B: 1 2 *     => Ahead on 2: nothing",
        "A: 1 2 3     B: 1 2 ?     => Unclear on 2: 3",
        "A: 1 2 3     B: 1 2 x?    => Unclear on 2: 3",
        "A: 1 2 3     B: 1 2 x? *  => Diverged on 2: 3",  # one write is enough
        "A: 1 2 3     B: X 1       => FastForward on 1: 2 3",  # before the base nothing matters
        "A: 1 2 3     B: 1 ~2      => Diverged on 1: 2 3",  # what is known by name only is never common
        "A: 1 ~2 3    B: 1         => FastForward on 1: 2 3",
    ],
)
def test_one_history_follows_another(picture: str) -> None:
    source, target, answer = two(picture)
    assert draw(source, target) == answer


@pytest.mark.parametrize(
    "picture",
    [
        "A: 1 2 3  B: 1 2    => FastForward on 2: 3",
        "A: 1 2 3  B: 1 2 x  => Diverged on 2: 3",  # even an empty one is refused
        "A: 1 2    B: 1 2 x  => Ahead on 2: nothing",
    ],
)
def test_a_raw_replica_needs_the_base_as_its_newest(picture: str) -> None:
    source, target, answer = two(picture)
    assert draw(source, target, raw=True) == answer


def with_iv_sets(held: History, iv_sets: str) -> History:
    snapshots = zip(held.snapshots, iv_sets, strict=True)
    marked = tuple(replace(s, ivsetguid=None if iv == "?" else iv) for s, iv in snapshots)
    return history(replace(held.replica, snapshots=marked))


@pytest.mark.parametrize(
    ("ours", "theirs", "base"),
    [("aa", "aa", "2"), ("aa", "ab", "1"), ("aa", "bb", None), ("a?", "ab", "2"), ("aa", "a?", "2")],
)
def test_raw_streams_compare_iv_sets_where_both_are_known(ours: str, theirs: str, base: str | None) -> None:
    source, target = with_iv_sets(read("1 2"), ours), with_iv_sets(read("1 2"), theirs)
    common = newest_common(source, target, raw=True)
    assert (common.at_target.guid if common else None) == base
    plain = newest_common(source, target)
    assert plain is not None
    assert plain.at_target.guid == "2", "other streams compare guids alone"


@pytest.mark.parametrize(
    ("mark", "later"),
    [
        (Bookmark("mark", "9", createtxg=2, creation=10**12), ["3", "4"]),  # createtxg orders a pool's snapshots
        (Bookmark("mark", "9", createtxg=3), ["4"]),
        (Bookmark("mark", "9", creation=3 * DAY), ["4"]),
        (Bookmark("mark", "9", createtxg=99), []),
        (Bookmark("mark", "9"), None),
    ],
)
def test_a_bookmark_is_placed_by_createtxg_then_by_creation(mark: Bookmark, later: list[str] | None) -> None:
    found = read("1 2 3 4").after(mark)
    assert (None if found is None else [snapshot.guid for snapshot in found]) == later


def test_a_bookmark_among_snapshots_without_createtxg_is_placed_by_creation() -> None:
    held = read("1 2 3")
    plain = history(replace(held.replica, snapshots=tuple(replace(s, createtxg=None) for s in held.snapshots)))
    found = plain.after(Bookmark("mark", "9", createtxg=2, creation=2 * DAY))
    assert [snapshot.guid for snapshot in found or ()] == ["3"]
    undated = history(replace(held.replica, snapshots=tuple(replace(s, creation=None) for s in held.snapshots)))
    assert undated.after(Bookmark("mark", "9", creation=2 * DAY)) is None


def test_a_snapshot_has_its_place_whatever_is_known_of_it() -> None:
    bare = tuple(Snapshot(guid, guid) for guid in "123")
    held = history(Replica("tank/data", snapshots=bare))
    assert held.after(bare[1]) == (bare[2],)


@pytest.mark.parametrize(
    "vague", [Snapshot("1", ""), Snapshot("1", "1", by_name=True), Snapshot("1", "", by_name=True)]
)
def test_what_is_known_by_name_only_is_not_in_the_index(vague: Snapshot) -> None:
    held = history(Replica("tank/data", snapshots=(vague,), bookmarks=(Bookmark("mark", ""),), written=0))
    assert (held.places, held.marks) == ({}, {})
    assert draw(held, held) == draw(read("1"), held) == draw(held, read("1")) == "Unrelated"


def test_a_bookmark_that_has_no_place_is_no_base() -> None:
    source = history(replace(read("1 2").replica, bookmarks=(Bookmark("mark", "7"),)))
    assert draw(source, read("7")) == "Unrelated"
    assert draw(source, read("1 7")) == "Diverged on 1: 2"


# --- every small history, against a search that tries everything -----------------------------------

WORDS = ["1", "2", "3", "4", "#1", "#2", "#3", "x", "X", "y"]
lines = st.lists(st.sampled_from(WORDS), max_size=6, unique_by=lambda word: word.strip("#")).map(
    lambda words: " ".join(sorted(words, key=lambda word: (word.strip("#").isalpha(), word.strip("#"))))
)


@settings(deadline=None)
@given(lines, lines, st.sampled_from(["", " *", " ?"]))
def test_the_base_is_the_newest_that_both_have(ours: str, theirs: str, end: str) -> None:
    source, target = read(ours), read(theirs + end if theirs else "")
    known = {s.guid for s in source.snapshots} | {b.guid for b in source.replica.bookmarks}
    shared = [snapshot for snapshot in target.snapshots if snapshot.guid in known]
    common = newest_common(source, target)
    assert (common.at_target if common else None) == (shared[-1] if shared else None)
    if common is not None:
        assert _is_split(target.snapshots, common.at_target, common.own)
        assert [s for s in source.snapshots if _txg(s) > _txg(common.at_source)] == list(common.ahead)


@settings(deadline=None)
@given(lines, lines, st.sampled_from(["", " *", " ?"]))
def test_a_fast_forward_is_judged_by_what_was_written(ours: str, theirs: str, end: str) -> None:
    source, target = read(ours), read(theirs + end if theirs else "")
    relation = relate(source, target)
    if isinstance(relation, FastForward | Ahead | Diverged | Unclear):
        written = [s.written for s in relation.common.own] + [target.replica.written]
        clean, dirty = all(w == 0 for w in written), any(w is not None and w > 0 for w in written)
        assert isinstance(relation, FastForward) == clean
        assert isinstance(relation, Ahead | Diverged) == dirty


def _txg(mark: Snapshot | Bookmark) -> int:
    assert mark.createtxg is not None
    return mark.createtxg


def _is_split(snapshots: tuple[Snapshot, ...], at: Snapshot, later: tuple[Snapshot, ...]) -> bool:
    place = snapshots.index(at)
    return snapshots[place + 1 :] == later


def test_common_names_both_sides() -> None:
    common = newest_common(read("1 2@here 3"), read("1 2@there x"))
    assert isinstance(common, Common)
    assert (common.at_source.name, common.at_target.name) == ("here", "there")
    assert [snapshot.name for snapshot in common.own] == ["x"]


def test_of_two_bookmarks_of_one_snapshot_the_first_by_name_counts() -> None:
    marks = (Bookmark("b", "1", 1), Bookmark("a", "1", 1), Bookmark("c", "1", 1))
    for order in (marks, marks[::-1]):
        assert history(Replica("tank/data", bookmarks=order)).marks["1"].name == "a"
