"""An inventory as an agent sends it -> dataset documents. Raw `zfs list -Hp` output, or JSON.

A bad line is named by its number (from 1), a bad JSON element by its path; nothing of such a report is kept.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from handlers.bodies import BookmarkInList, DatasetInList, InventoryBody, SnapshotInList
from handlers.errors import Invalid, require_valid
from handlers.values import MAX_GUID, MAX_MOMENT, MAX_SIZE, guid, moment, number
from planner.names import name_problem
from store.documents import BookmarkRow, DatasetDoc, SnapshotRow

DEFAULT_COLUMNS = (
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
)
MAX_ERRORS = 20  # named in one answer
DATASET_COLUMNS = (
    "type",
    "guid",
    "createtxg",
    "creation",
    "used",
    "referenced",
    "available",
    "written",
    "encryption",
    "receive_resume_token",
    "origin",
    "readonly",
    "mounted",
    "mountpoint",
)


@dataclass(slots=True)
class ReportedInventory:
    """What one report said, still without what the store knows of earlier ones."""

    columns: list[str]
    datasets: dict[str, DatasetDoc] = field(default_factory=dict)  # by full name, in the order listed
    digest: str | None = None  # of the fast listing; None when a createtxg is missing


# --- one value of a raw listing ------------------------------------------------------------------


def _number(maximum: int) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        if text == "-":
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= 20):
            raise ValueError(f"'{text[:50]}' is not a decimal number")
        value = int(text)
        if value > maximum:
            raise ValueError(f"{text} is out of range: 0 to {maximum}")
        return value

    return read


def _guid(text: str) -> str | None:
    value = _number(MAX_GUID)(text)
    if value == 0:
        raise ValueError("0 is no guid")
    return None if value is None else str(value)


def _ivsetguid(text: str) -> str | None:
    """Of a bookmark of what is not encrypted, `zfs list` prints 0."""
    return None if text == "0" else _guid(text)


def _text(maximum: int) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        if len(text) > maximum or not text.isprintable():
            raise ValueError(f"'{text[:50]}' is too long or holds characters that cannot be printed")
        return None if text in ("-", "") else text

    return read


def _flag(text: str) -> bool | None:
    flags = {"on": True, "yes": True, "off": False, "no": False, "-": None}
    if text not in flags:
        raise ValueError(f"'{text[:50]}' is neither on, off, yes nor no")
    return flags[text]


def _type(text: str) -> str:
    if text not in ("filesystem", "volume", "snapshot", "bookmark"):
        raise ValueError(f"'{text[:50]}' is no type of dataset")
    return text


def _name(text: str) -> str:
    if problem := name_problem(text):
        raise ValueError(problem)
    return text


def _origin(text: str) -> str | None:
    return None if text in ("-", "") else _name(text)


READERS: dict[str, Callable[[str], Any]] = {
    "name": _name,
    "type": _type,
    "guid": _guid,
    "createtxg": _number(MAX_GUID),
    "creation": _number(MAX_MOMENT),
    "used": _number(MAX_SIZE),
    "referenced": _number(MAX_SIZE),
    "available": _number(MAX_SIZE),
    "written": _number(MAX_SIZE),
    "userrefs": _number(2**31),
    "ivsetguid": _ivsetguid,
    "encryption": _text(100),
    "receive_resume_token": _text(10_000),
    "origin": _origin,
    "readonly": _flag,
    "mounted": _flag,
    "mountpoint": _text(4096),
}


# --- a raw listing -------------------------------------------------------------------------------


def columns_of(text: str | None) -> list[str]:
    """The columns that `?columns=` names, in order. Raises Invalid for unknown or missing ones."""
    columns = list(DEFAULT_COLUMNS) if text is None else text.split(",")
    for column in columns:
        if column not in READERS:
            raise Invalid.at("columns", f"'{column[:50]}' is not read here; known are {', '.join(READERS)}")
    if len(set(columns)) < len(columns):
        raise Invalid.at("columns", "a column is named twice")
    for needed in ("name", "guid"):
        if needed not in columns:
            raise Invalid.at("columns", f"'{needed}' is missing, and name and guid are the least")
    return columns


def read_listing(raw: bytes, columns: list[str], now: int) -> ReportedInventory:
    """The datasets in raw `zfs list -Hp` output. Raises Invalid naming the lines that cannot be."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise Invalid.at(f"line {line}", "is not UTF-8") from None
    reading = _Reading(columns, now)
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    for position, text_line in enumerate(lines, 1):
        try:
            reading.add(text_line)
        except ValueError as error:
            reading.errors.append((f"line {position}", str(error)))
            if len(reading.errors) == MAX_ERRORS:
                break
    require_valid(reading.errors)
    return reading.finish()


class _Reading:
    """The lines of one listing, taken one after the other."""

    def __init__(self, columns: list[str], now: int) -> None:
        self.errors: list[tuple[str, str]] = []
        self._columns = columns
        self._readers = [READERS[column] for column in columns]
        self._now = now
        self._found = ReportedInventory(columns)
        self._seen: set[str] = set()
        self._digest = hashlib.sha256() if "createtxg" in columns else None

    def add(self, line: str) -> None:
        """Take one line. Raises ValueError with what is wrong with it."""
        texts = line.split("\t")
        if len(texts) != len(self._columns):
            raise ValueError(f"has {len(texts)} columns instead of {len(self._columns)}")
        row: dict[str, Any] = {}
        for column, reader, text in zip(self._columns, self._readers, texts, strict=True):
            try:
                row[column] = reader(text)
            except ValueError as error:
                raise ValueError(f"{column}: {error}") from None
        name = row["name"]
        if name in self._seen:
            raise ValueError(f"name: '{name}' is listed twice")
        self._seen.add(name)
        kind = _kind_of(name, row.get("type"))
        if kind in ("snapshot", "bookmark"):
            self._add_digest(texts)
        if "/%" in name:  # a receive in progress: no dataset of its own
            return
        if kind == "dataset":
            self._add_dataset(name, row)
        elif row["guid"] is None:
            raise ValueError("guid: is missing")
        elif kind == "snapshot":
            dataset, _, snapshot = name.partition("@")
            self._dataset(dataset, row).snapshots.append(_snapshot_row(snapshot, row, self._now))
        else:
            dataset, _, bookmark = name.partition("#")
            self._dataset(dataset, row).bookmarks.append(_bookmark_row(bookmark, row))

    def _add_digest(self, texts: list[str]) -> None:
        if self._digest is not None:
            fast = (texts[self._columns.index(column)] for column in ("name", "guid", "createtxg"))
            self._digest.update(("\t".join(fast) + "\n").encode("utf-8"))

    def _add_dataset(self, name: str, row: dict[str, Any]) -> None:
        known = self._found.datasets.get(name)
        fields: dict[str, Any] = {column: row.get(column) for column in DATASET_COLUMNS}
        self._found.datasets[name] = DatasetDoc(
            id=name,
            snapshots=known.snapshots if known else [],
            bookmarks=known.bookmarks if known else [],
            **fields,
        )

    def _dataset(self, name: str, row: dict[str, Any]) -> DatasetDoc:
        """The dataset of a snapshot or bookmark. Without a row of its own, all known of it is how it is encrypted."""
        if name not in self._found.datasets:
            self._found.datasets[name] = DatasetDoc(id=name, reported=False, encryption=row.get("encryption"))
        return self._found.datasets[name]

    def finish(self) -> ReportedInventory:
        """All that was read."""
        self._found.digest = self._digest.hexdigest() if self._digest is not None else None
        return self._found


def _kind_of(name: str, said: str | None) -> str:
    """snapshot, bookmark or dataset, by its name; raises ValueError when the type column says otherwise."""
    kind = "snapshot" if "@" in name else "bookmark" if "#" in name else "dataset"
    if said is not None and (said if said in ("snapshot", "bookmark") else "dataset") != kind:
        raise ValueError(f"type: '{name}' cannot be a {said}")
    return kind


def _snapshot_row(name: str, row: dict[str, Any], now: int) -> SnapshotRow:
    return SnapshotRow(
        name,
        row["guid"],
        row.get("createtxg"),
        row.get("creation"),
        row.get("used"),
        row.get("referenced"),
        row.get("written"),
        row.get("userrefs"),
        row.get("ivsetguid"),
        now,
        now,
    )


def _bookmark_row(name: str, row: dict[str, Any]) -> BookmarkRow:
    return BookmarkRow(
        name, row["guid"], row.get("createtxg"), row.get("creation"), row.get("referenced"), row.get("ivsetguid")
    )


# --- JSON ----------------------------------------------------------------------------------------


def read_json(body: InventoryBody, now: int) -> ReportedInventory:
    """The datasets in a JSON inventory. Raises Invalid naming the first element that cannot be."""
    found = ReportedInventory(_columns_in(body))
    errors: list[tuple[str, str]] = []
    for index, dataset in enumerate(body.datasets):
        loc = f"datasets[{index}]"
        try:
            if dataset.name in found.datasets:
                raise Invalid.at(f"{loc}.name", f"'{dataset.name}' is listed twice")
            document = _dataset_of(dataset, loc, now)
            if "/%" not in dataset.name:
                found.datasets[dataset.name] = document
        except Invalid as invalid:
            errors += invalid.errors
        if len(errors) >= MAX_ERRORS:
            break
    require_valid(errors)
    found.digest = listing_digest(found.datasets.values())
    return found


def _columns_in(body: InventoryBody) -> list[str]:
    """The usual columns, and those of the others that the report has values for."""
    elements = (each for dataset in body.datasets for each in (dataset, *dataset.snapshots, *dataset.bookmarks))
    used = {name for each in elements for name in each.__struct_fields__ if getattr(each, name) is not None}
    return [*DEFAULT_COLUMNS, *(name for name in READERS if name in used - set(DEFAULT_COLUMNS))]


def _dataset_of(dataset: DatasetInList, loc: str, now: int) -> DatasetDoc:
    _require_name(dataset.name, "dataset", f"{loc}.name")
    values = _checked(dataset, loc)
    fields: dict[str, Any] = {column: values.get(column) for column in DATASET_COLUMNS}
    snapshots = _rows_of(dataset.name, "@", dataset.snapshots, f"{loc}.snapshots")
    bookmarks = _rows_of(dataset.name, "#", dataset.bookmarks, f"{loc}.bookmarks")
    return DatasetDoc(
        id=dataset.name,
        reported=dataset.type is not None or dataset.guid is not None,
        snapshots=[_snapshot_row(row["name"], row, now) for row in snapshots],
        bookmarks=[_bookmark_row(row["name"], row) for row in bookmarks],
        **fields,
    )


def _rows_of(
    dataset: str, mark: str, elements: Iterable[SnapshotInList | BookmarkInList], loc: str
) -> list[dict[str, Any]]:
    rows = []
    seen = set()
    for index, element in enumerate(elements):
        full = f"{dataset}{mark}{element.name}"
        _require_name(full, "snapshot" if mark == "@" else "bookmark", f"{loc}[{index}].name")
        if element.name in seen:
            raise Invalid.at(f"{loc}[{index}].name", f"'{full}' is listed twice")
        seen.add(element.name)
        rows.append(_checked(element, f"{loc}[{index}]"))
    return rows


def _require_name(name: str, kind: str, loc: str) -> None:
    if problem := name_problem(name):
        raise Invalid.at(loc, problem)
    if _kind_of(name, None) != kind or name.count("@") + name.count("#") > 1:
        raise Invalid.at(loc, f"'{name}' is not the name of a {kind}")


def _checked(element: Any, loc: str) -> dict[str, Any]:
    """An element's scalar fields, with guids, sizes and times in range."""
    values = {name: value for name, value in msgspec.structs.asdict(element).items() if not isinstance(value, list)}
    for name in values:
        where = f"{loc}.{name}"
        if name in ("guid", "ivsetguid"):
            values[name] = guid(values[name], where)
        elif name == "createtxg":
            values[name] = number(values[name], where, MAX_GUID)
        elif name == "creation":
            values[name] = moment(values[name], where)
        elif name in ("used", "referenced", "available", "written", "userrefs"):
            values[name] = number(values[name], where)
        elif name in ("encryption", "receive_resume_token", "origin", "mountpoint"):
            values[name] = _as_listed(name, values[name], where)
    return values


def _as_listed(column: str, value: str | None, loc: str) -> str | None:
    """A text of the JSON form, held to what a listing could say. Raises Invalid."""
    try:
        text: str | None = READERS[column](value or "-")
    except ValueError as error:
        raise Invalid.at(loc, str(error)) from None
    return text


# --- both ----------------------------------------------------------------------------------------


def listing_digest(datasets: Iterable[DatasetDoc]) -> str | None:
    """SHA-256 of the fast listing `zfs list -Hp -t snapshot,bookmark -o name,guid,createtxg`; None where unknown."""
    digest = hashlib.sha256()
    for dataset in datasets:
        for mark, rows in (("@", dataset.snapshots), ("#", dataset.bookmarks)):
            for row in rows:
                if row.createtxg is None:
                    return None
                digest.update(f"{dataset.id}{mark}{row.name}\t{row.guid}\t{row.createtxg}\n".encode())
    return digest.hexdigest()


def listing_of(datasets: Iterable[DatasetDoc], columns: list[str]) -> str:
    """The inventory as `zfs list -Hp` would print it, with these columns."""
    lines = []
    for dataset in datasets:
        if dataset.reported:
            lines.append(_line(dataset.id, dataset, dataset.type or "filesystem", columns))
        lines += [
            _line(f"{dataset.id}@{row.name}", row, "snapshot", columns, dataset.encryption) for row in dataset.snapshots
        ]
        lines += [_line(f"{dataset.id}#{row.name}", row, "bookmark", columns) for row in dataset.bookmarks]
    return "".join(lines)


def _line(name: str, values: Any, kind: str, columns: list[str], encryption: str | None = None) -> str:
    texts = []
    for column in columns:
        if column in ("name", "type"):
            texts.append(name if column == "name" else kind)
            continue
        value = getattr(values, column, encryption if column == "encryption" else None)
        if isinstance(value, bool):
            yes, no = ("yes", "no") if column == "mounted" else ("on", "off")
            value = yes if value else no
        texts.append("-" if value is None or value == "" else str(value))
    return "\t".join(texts) + "\n"
