"""Settings as a file has them, still unchecked, each with the line where it stands."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from config.kinds import Place

PREFIX = "ZFS_SYNC_"
MOST_KEYS = 100_000  # in a YAML file, each counted as often as an alias stands for it


class ConfigError(Exception):
    """A setting that cannot be used. The message says where it stands and what was expected."""


@dataclass(frozen=True, slots=True)
class Source:
    """Settings as a file or the environment has them, before they are checked."""

    file: Path | None  # None: the environment
    values: dict[Any, Any]
    lines: dict[Place, int]  # where in the file each key stands

    def refuse(self, place: Place, problem: str) -> NoReturn:
        """Raise ConfigError for a key, with its line or that of the nearest thing around it."""
        if self.file is None:
            raise ConfigError(f"{PREFIX}{spell(place).upper()}: {problem}")
        line = next((self.lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in self.lines), 1)
        raise ConfigError(f"{self.file}:{line}: {spell(place)}: {problem}")


def spell(place: Place) -> str:
    """A place as one reads it: groups[0].datasets.include."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def read_file(file: Path) -> Source:
    """A file's settings, each with its line. Raises ConfigError for what cannot be read or is neither YAML nor TOML."""
    try:
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: expected UTF-8 text, got byte {error.object[error.start]:#x}") from error
    values, lines = (_parse_toml if file.suffix == ".toml" else _parse_yaml)(file, text)
    if not isinstance(values, dict | None):
        raise ConfigError(f"{file}: expected settings as `key: value`")
    return Source(file, values or {}, lines)


def _parse_toml(file: Path, text: str) -> tuple[Any, dict[Place, int]]:
    """What a TOML file holds, and the lines of its tables and keys, which tomllib does not tell."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: {error}") from error
    lines: dict[Place, int] = {}
    table: Place = ()
    group = -1
    for number, line in enumerate(text.splitlines(), 1):
        keys = [key.strip("\"'") for key in re.findall(r""""[^"]*"|'[^']*'|[\w-]+""", line)]
        if line.lstrip().startswith("["):
            group += line.lstrip().startswith("[[")
            table = ("groups", group, *keys[1:]) if keys[:1] == ["groups"] else tuple(keys)
            lines[table] = number
        elif keys:
            lines[*table, keys[0]] = number
    return values, lines


def _parse_yaml(file: Path, text: str) -> tuple[Any, dict[Place, int]]:
    """What a YAML file holds, and the lines of its keys. `on` and `off` are words, as in YAML 1.2 and in zfs get."""
    import yaml

    lines: dict[Place, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        loader.yaml_implicit_resolvers = {
            first: [pair for pair in pairs if first in tuple("tTfF") or not pair[0].endswith((":bool", ":timestamp"))]
            for first, pairs in loader.yaml_implicit_resolvers.items()
        }
        node = loader.get_single_node()
        if node:
            _mark(file, node, (), lines)
        return node and loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = "; put a value that begins with * in quotes" if "alias" in f"{error.context} {error.problem}" else ""
        raise ConfigError(f"{file}{line}: {error.problem}{hint}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply") from error
    except (ValueError, LookupError, AttributeError) as error:  # from a value that is none of its tag's: !!int x
        raise ConfigError(f"{file}: a value cannot be read: {error}") from error


def _mark(file: Path, node: Any, place: Place, lines: dict[Place, int]) -> None:
    """Note the line of everything below a node. Raises ConfigError for a key that stands there twice."""
    if len(place) > 20:
        raise ConfigError(f"{file}:{node.start_mark.line + 1}: nested too deeply")
    if len(lines) > MOST_KEYS:
        raise ConfigError(f"{file}: over {MOST_KEYS} keys, with what aliases stand for")
    if node.id == "sequence":
        for index, item in enumerate(node.value):
            lines[*place, index] = item.start_mark.line + 1
            _mark(file, item, (*place, index), lines)
    if node.id == "mapping":
        for key, value in node.value:
            below = (*place, str(key.value))
            line = key.start_mark.line + 1
            if below in lines:
                raise ConfigError(f"{file}:{line}: {spell(below)}: stands here twice, first in line {lines[below]}")
            lines[below] = line
            _mark(file, value, below, lines)
