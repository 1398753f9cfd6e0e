"""Times and sizes in words, as a terminal and a page show them."""

from datetime import UTC, datetime

from planner.words import span

__all__ = ["ago", "size", "span"]


def ago(moment: str | None, now: datetime) -> str:
    """How long ago a moment of the API's was."""
    if moment is None:
        return "never"
    seconds = (now - datetime.fromisoformat(moment).astimezone(UTC)).total_seconds()
    return f"{span(max(0, seconds))} ago"


def size(number: int | None) -> str:
    """Bytes in words: 640 GB."""
    if number is None:
        return "unknown"
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = next((power for power in range(len(units)) if number < 1000 ** (power + 1)), len(units) - 1)
    amount = number / 1000**power
    return f"{amount:.0f} {units[power]}" if power == 0 or amount >= 10 else f"{amount:.1f} {units[power]}"
