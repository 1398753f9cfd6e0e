"""The kinds of values that settings have, and what to say of a value that is not of its kind."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

MAX_INT = 2**31 - 1

Place = tuple[str | int, ...]  # where in a document: ("groups", 0, "datasets", "include")

_MEANINGS: dict[str, str] = {}  # a pattern as msgspec prints it -> what it stands for


def _text(meaning: str, pattern: str, max_length: int = 255) -> Meta:
    """What a text must match as a whole. `$` alone would let a trailing newline pass."""
    whole = f"^(?:{pattern})$(?!\\n)"
    _MEANINGS[f"str matching regex {whole!r}"] = meaning
    return Meta(pattern=whole, max_length=max_length, description=meaning)


Seconds = Annotated[int, Meta(ge=0, le=MAX_INT)]
Period = Annotated[int, Meta(ge=1, le=MAX_INT)]  # seconds, too
Days = Annotated[int, Meta(ge=1, le=36500)]
Transfers = Annotated[int, Meta(ge=1, le=1000)]

NAME = r"[A-Za-z0-9_.: -]+"  # one component of a ZFS name
GLOB = r"[A-Za-z0-9_.: *?-]+"
DatasetGlob = Annotated[str, _text("a glob over dataset paths such as media/**", f"{GLOB}(?:/{GLOB})*")]
SnapshotGlob = Annotated[str, _text("a glob over snapshot names such as daily-*", GLOB)]
DatasetName = Annotated[str, _text("a dataset such as tank/data", f"(?=[A-Za-z]){NAME}(?:/{NAME})*")]
Hostname = Annotated[str, _text("a hostname", r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", 253)]
GroupName = Annotated[str, _text("a name without control characters", r"(?! )[^\x00-\x1f\x7f]+(?<! )")]
PropertyName = Annotated[str, _text("a ZFS property such as compression", r"[a-z][a-z0-9:._-]*")]
PropertyValue = Annotated[str, _text("a property's value, ASCII without , and =", r"(?:(?![,=])[ -~])+", 1024)]
TIME = r"(?:[01]\d|2[0-3]):[0-5]\d"
Window = Annotated[str, _text("a daily window in UTC such as 22:00-06:00", f"{TIME}-{TIME}")]
TimeOfDay = Annotated[str, _text("a time in UTC such as 07:30", TIME)]
ApiPrefix = Annotated[str, _text("a path such as /api/v1", r"(?:/[A-Za-z0-9._~-]+)+")]
KEY = r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_~-]{16,256}"
ChosenKey = Annotated[str, _text("<id>.<secret> with a secret of 16 characters or more", KEY, 400)]
RATE = r"[1-9]\d{0,5}/(?:[1-9]\d{0,3} )?(?:second|minute|hour|day)s?"
Rate = Annotated[str, _text("a rate such as 10/minute or 10/5 minutes", RATE)]
Origin = Annotated[str, _text("* or an origin such as https://nas.example", r"\*|https?://(?:(?![/,])[!-~])+")]
WebAddress = Annotated[str, _text("an http or https address", r"https?://(?!/)[!-~]+", 2048)]
NotifyAddress = Annotated[str, _text("an address such as ntfy://topic", r"[a-z][a-z0-9+.-]*://[!-~]+", 2048)]
StoreAddress = Annotated[str, _text("postgresql://user@host/database", r"postgres(?:ql)?://[!-~]+", 2048)]

MOST_BYTES, DEEPEST = 65536, 20  # of metadata as JSON, and how deep it may be nested


def require_modest(metadata: dict[str, Any]) -> None:
    """Raise ValueError for metadata that are too large, or nested so deep that readers elsewhere would give up."""
    below: list[Any] = [metadata]
    for _ in range(DEEPEST):
        below = [
            inner
            for outer in below
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if below:
        raise ValueError(f"metadata: expected at most {DEEPEST} levels")
    if metadata and len(msgspec.json.encode(metadata)) > MOST_BYTES:
        raise ValueError(f"metadata: expected at most {MOST_BYTES} bytes as JSON")


def in_words(message: str, expected: Any) -> tuple[Place, str]:
    """Where below a value msgspec stumbled, and over what, as an admin would put it."""
    problem, _, path = message.partition(" - at `")
    below: Place = tuple(name or int(index) for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path.split("[...]")[0]))
    for part in below:
        known = msgspec.structs.fields(expected) if hasattr(expected, "__struct_fields__") else ()
        expected = next((each.type for each in known if each.name == part), None)
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", problem, re.DOTALL):
        return (*below, match[1]), f"unknown key{suggestion(match[1], expected.__struct_fields__)}"
    if problem.startswith("Invalid enum value"):
        got = problem.removeprefix("Invalid enum value")
        return below, f"expected one of {', '.join(get_args(expected))}, got{got}"
    if match := re.fullmatch(r"([\w.]+): (.*)", problem):  # from a __post_init__: it names the key
        return (*below, *match[1].split(".")), match[2]
    problem = problem.replace("`", "").replace(" | null", "").replace("Object missing required field", "missing key")
    if re.fullmatch("Expected str, got (int|float|bool)", problem):
        problem += "; put it in quotes"
    for pattern, meaning in _MEANINGS.items():
        problem = problem.replace(pattern, meaning)
    words = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list"}
    words |= {"object": "keys with values", "Expected": "expected"}
    return below, re.sub(
        r"^Expected|(?<=^Expected )\w+|(?<=, got )\w+", lambda word: words.get(word[0], word[0]), problem
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """What was probably meant, for the end of a sentence."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"
