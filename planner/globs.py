"""Globs over dataset paths and snapshot names.

`*` is any run of characters within one component, `?` one character, `**` zero or more whole components:
`media/**` includes media itself. Everything else stands for itself; no name on a pool holds a `*` or `?`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache


def matches(glob: str, path: str) -> bool:
    """Whether a glob matches a dataset's path below the root ("" is the root itself), or a snapshot's name."""
    return glob == path or _like(_components(glob), _components(path), "**", _component_like)


def selects(include: Iterable[str], exclude: Iterable[str], path: str) -> bool:
    """Whether some glob to include matches, and none to exclude."""
    return any(matches(glob, path) for glob in include) and not any(matches(glob, path) for glob in exclude)


@lru_cache(maxsize=4096)
def _components(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


@lru_cache(maxsize=65536)
def _component_like(pattern: str, component: str) -> bool:
    if pattern == "*" or pattern == component:
        return True
    if "*" not in pattern and "?" not in pattern:
        return False
    return _like(pattern, component, "*", _character_like)


def _character_like(pattern: str, character: str) -> bool:
    return pattern in ("?", character)


def _like(pattern: Sequence[str], text: Sequence[str], star: str, one_like: Callable[[str, str], bool]) -> bool:
    """Whether the text is an instance of the pattern, element by element, where a star is any run of elements.

    What follows a star is taken at its first fit: if the rest fits at all, it fits after that. So only the
    latest star is ever moved, and the time is at most the product of the two lengths.
    """
    at = here = 0
    star_at: int | None = None
    resume_at = 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == star:
            star_at, resume_at = at, here
            at += 1
        elif at < len(pattern) and one_like(pattern[at], text[here]):
            at += 1
            here += 1
        elif star_at is not None:
            resume_at += 1
            at, here = star_at + 1, resume_at
        else:
            return False
    return all(element == star for element in pattern[at:])
