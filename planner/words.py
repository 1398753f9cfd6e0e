"""Numbers as a person says them."""


def span(seconds: float) -> str:
    """A time in words: 45 s, 12 min, 5 h, 3 days."""
    for unit, length, until in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)):
        if seconds < until:
            return f"{int(seconds) // length} {unit}"
    return f"{int(seconds) // 86400} days"
