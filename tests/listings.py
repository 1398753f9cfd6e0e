"""What zfs list prints, read into the planner's values."""

from collections.abc import Sequence
from pathlib import Path

from planner.model import Bookmark, Member, Replica, Snapshot

DATA = Path(__file__).parent / "data"
COLUMNS = [
    "name",
    "type",
    "guid",
    "createtxg",
    "creation",
    "used",
    "referenced",
    "written",
    "encryption",
    "receive_resume_token",
    "origin",
]


def member_of(
    system_id: str, listing: str, root: str | None, now: float, columns: Sequence[str] = COLUMNS, **fields: object
) -> Member:
    """A member that reported this listing at this moment."""
    fields = {"reported_at": now, "confirmed_at": now, "last_seen_at": now, **fields}
    return Member(system_id, system_id, root, replicas_of(listing, columns), **fields)  # type: ignore[arg-type]


def replicas_of(listing: str, columns: Sequence[str] = COLUMNS) -> dict[str, Replica]:
    """Every dataset of a listing, by full name."""
    datasets: dict[str, dict[str, object]] = {}
    snapshots: dict[str, list[Snapshot]] = {}
    bookmarks: dict[str, list[Bookmark]] = {}
    for line in listing.splitlines():
        row = {column: value if value != "-" else None for column, value in zip(columns, line.split("\t"), strict=True)}
        name = row["name"] or ""
        if "@" in name:
            dataset, _, snap = name.partition("@")
            snapshots.setdefault(dataset, []).append(_snapshot(snap, row))
        elif "#" in name:
            dataset, _, mark = name.partition("#")
            bookmarks.setdefault(dataset, []).append(
                Bookmark(
                    mark, row["guid"] or "", _number(row, "createtxg"), _number(row, "creation"), row.get("ivsetguid")
                )
            )
        else:
            datasets[name] = {
                "kind": row.get("type"),
                "guid": row["guid"],
                "resume_token": row.get("receive_resume_token"),
                **{key: row.get(key) for key in ("encryption", "origin", "mountpoint")},
                **{key: _number(row, key) for key in ("written", "used", "referenced", "available")},
                "readonly": _switch(row.get("readonly"), "on"),
                "mounted": _switch(row.get("mounted"), "yes"),
            }
    return {
        name: Replica(
            name,
            snapshots=tuple(snapshots.get(name, ())),
            bookmarks=tuple(bookmarks.get(name, ())),
            reported=name in datasets,
            **datasets.get(name, {}),  # type: ignore[arg-type]
        )
        for name in (*datasets, *(name for name in snapshots if name not in datasets))
    }


def _snapshot(name: str, row: dict[str, str | None]) -> Snapshot:
    numbers = {key: _number(row, key) for key in ("createtxg", "creation", "used", "referenced", "written", "userrefs")}
    return Snapshot(name, row["guid"] or "", ivsetguid=row.get("ivsetguid"), **numbers)


def _number(row: dict[str, str | None], key: str) -> int | None:
    value = row.get(key)
    return int(value) if value is not None else None


def _switch(value: str | None, on: str) -> bool | None:
    return None if value is None else value == on
