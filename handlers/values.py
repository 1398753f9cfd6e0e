"""Single values from outside, checked: numbers with their ranges, names, moments."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from handlers.errors import Invalid
from planner.names import dataset_problem, name_problem, new_name_problem

MAX_GUID = 2**64 - 1
MAX_SIZE = 2**63 - 1
MAX_MOMENT = 253402300799  # the last second of the year 9999


def number(value: object, loc: str, maximum: int = MAX_SIZE) -> int | None:
    """A count of bytes or the like, from an integer or a decimal string; None stays None. Raises Invalid."""
    if value is None:
        return None
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal() and len(value) <= 20):
            raise Invalid.at(loc, f"'{value[:50]}' is not a decimal number")
        value = int(value)
    assert isinstance(value, int)
    if not 0 <= value <= maximum:
        raise Invalid.at(loc, f"{value} is out of range: 0 to {maximum}")
    return value


def guid(value: object, loc: str) -> str | None:
    """A guid as a decimal string; None stays None. Raises Invalid for 0 and above 2^64-1."""
    parsed = number(value, loc, MAX_GUID)
    if parsed == 0:
        raise Invalid.at(loc, "0 is no guid")
    return None if parsed is None else str(parsed)


def identity(snapshot_guid: str | None) -> Literal["guid", "name"]:
    """What a snapshot is known by: its guid, or only its name and creation time. Nothing is destroyed by the latter."""
    return "guid" if snapshot_guid else "name"


def moment(value: object, loc: str) -> int | None:
    """A creation time as Unix seconds, from those or from RFC 3339 with an offset. Raises Invalid."""
    if isinstance(value, str) and not value.isdecimal():
        try:
            at = msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            raise Invalid.at(loc, f"'{value[:50]}' is neither Unix seconds nor a time in RFC 3339") from None
        value = int(with_offset(at, loc).timestamp())
    return number(value, loc, MAX_MOMENT)


def with_offset(value: datetime, loc: str) -> datetime:
    """A moment in UTC. Raises Invalid for one that does not say its offset."""
    if value.tzinfo is None:
        raise Invalid.at(loc, "the time has no offset; write it like 2026-11-22T14:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise Invalid.at(loc, "the time is before the year 1 or after the year 9999 in UTC") from None


def legal_name(name: str, loc: str) -> str:
    """A full ZFS name, unchanged. Raises Invalid with what is wrong with it."""
    if problem := name_problem(name):
        raise Invalid.at(loc, problem)
    return name


def legal_root(name: str, loc: str) -> str:
    """The name of a dataset that others can be made below, unchanged. Raises Invalid with what is wrong with it."""
    if problem := dataset_problem(name) or new_name_problem(name):
        raise Invalid.at(loc, problem)
    return name


def unix(moment_at: datetime | None) -> float | None:
    """A document's moment as the planner counts it."""
    return None if moment_at is None else moment_at.timestamp()


def from_unix(seconds: float | None) -> datetime | None:
    """The planner's time as a moment in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
