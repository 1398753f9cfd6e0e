"""Which names a pool accepts: `pool/data@snap` and `pool/data#mark` (OpenZFS, zfs_namecheck.c).

A name that passes holds no quote, `$`, `;`, `*`, backslash, tab or newline, and starts with a letter, so it
is never read as an option. It may hold spaces. `%` is the kernel's own (`pool/data/%recv`): it is listed,
and refused for anything made.
"""

import re
from collections.abc import Collection

LONGEST_NAME = 255  # bytes, with "@snap"
DEEPEST_NAME = 49  # slashes
OWN_BOOKMARK = "zfs-sync-"  # what bookmarks made by a plan start with; the guid follows

_POOL = r"(?!(?:mirror|spare|log|raidz[^/@#]*|draid[^/@#]*)(?:[/@#]|\Z))[A-Za-z][A-Za-z0-9_.: -]*"
_COMPONENT = r"(?!\.{1,2}(?:[/@#]|\Z))[A-Za-z0-9_.: %-]+"
_DATASET_NAME = re.compile(rf"{_POOL}(?:/{_COMPONENT})*")
_FULL_NAME = re.compile(rf"{_POOL}(?:/{_COMPONENT})*(?:[@#]{_COMPONENT})?")
_COMPONENT_NAME = re.compile(_COMPONENT)
_ILLEGAL = re.compile(r"[^A-Za-z0-9_.: %-]")


def name_problem(full_name: str) -> str | None:
    """What is wrong with the full name of a dataset, snapshot or bookmark as a listing shows it; None if nothing."""
    if _FULL_NAME.fullmatch(full_name) and _fits(full_name):
        return None
    return _explain(full_name)


def dataset_problem(dataset: str) -> str | None:
    """What is wrong with a dataset's full name; None if nothing."""
    if _DATASET_NAME.fullmatch(dataset) and _fits(dataset):
        return None
    if "@" in dataset or "#" in dataset:
        return f"{dataset!a} is not a dataset: it holds {'@' if '@' in dataset else '#'}"
    return _explain(dataset)


def component_problem(name: str) -> str | None:
    """What is wrong with what follows "@" or "#"; None if nothing. Its length counts with its dataset's."""
    if _COMPONENT_NAME.fullmatch(name) and len(name) < LONGEST_NAME:
        return None
    if len(name) >= LONGEST_NAME:
        return f"{name!a} is too long"
    return _component_problem(name)


def new_name_problem(full_name: str) -> str | None:
    """What would keep a pool from making something of this name; None if nothing."""
    if "%" in full_name:
        return f"{full_name!a} holds %, which only zfs itself may use"
    return name_problem(full_name)


def unreceivable(dataset: str, host: str, name: str, taken: Collection[str]) -> str | None:
    """Why a snapshot of some name can't be received as one of a dataset on a host; None if it can."""
    if name in taken:
        return f"{dataset}@{name} on {host} is another snapshot of that name"
    if name == "-":
        return f"a snapshot of {dataset} is named -, which stands for none: rename it"
    problem = name_problem(f"{dataset}@{name}")
    return f"{dataset}@{name} can't be a name on {host}: {problem}" if problem else None


def own_bookmark(guid: str) -> str:
    """The name of the bookmark that a plan makes of a snapshot. Nobody else's says its own guid so."""
    return f"{OWN_BOOKMARK}{guid}"


def _fits(full_name: str) -> bool:
    return len(full_name) <= LONGEST_NAME and full_name.count("/") <= DEEPEST_NAME


def _explain(full_name: str) -> str:
    """The first rule that a bad name breaks."""
    if len(full_name.encode(errors="surrogatepass")) > LONGEST_NAME:
        return f"{full_name!a} is longer than {LONGEST_NAME} bytes"
    if full_name.count("/") > DEEPEST_NAME:
        return f"{full_name!a} is nested deeper than {DEEPEST_NAME} levels"
    dataset, mark, last = _split(full_name)
    components = dataset.split("/")
    for component in [*components, last] if mark else components:
        if problem := _component_problem(component):
            return problem if component == full_name else f"{full_name!a}: {problem}"
    if not re.match("[A-Za-z]", dataset):
        return f"{full_name!a}: a pool's name starts with a letter"
    if "%" in components[0]:
        return f"{full_name!a}: '%' is not allowed in a pool's name"
    return f"{full_name!a}: {components[0]!a} is no name for a pool: zpool keeps it for itself"


def _split(full_name: str) -> tuple[str, str, str]:
    """Dataset, the first "@" or "#" ("" if none), and all that follows it."""
    found = re.search("[@#]", full_name)
    if found is None:
        return full_name, "", ""
    return full_name[: found.start()], found[0], full_name[found.end() :]


def _component_problem(component: str) -> str | None:
    if component == "":
        return "a component is empty"
    if component in (".", ".."):
        return f"{component!a} is no component"
    if found := _ILLEGAL.search(component):
        return f"{found[0]!a} is not allowed in {component!a}"
    return None
