"""Settings: `ZFS_SYNC_*` variables over zfs_sync.yaml (or .toml) over defaults, checked once into a frozen Config.

`load` answers a Config or raises ConfigError, which names the file, the line, the key and what was expected.
The file's sync groups are the one part that may change while the service runs: GroupsFile reads them again.
"""

import difflib
import ipaddress
import logging
import os
import re
import threading
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

PREFIX = "ZFS_SYNC_"
FILES = ("zfs_sync.yaml", "config/zfs_sync.yaml", "zfs_sync.toml", "config/zfs_sync.toml")
MAX_INT = 2**31 - 1

Place = tuple[str | int, ...]  # where in a document: ("groups", 0, "datasets", "include")

_MEANINGS: dict[str, str] = {}  # a pattern as msgspec prints it -> what it stands for

log = logging.getLogger("zfs_sync.config")


class ConfigError(Exception):
    """A setting that cannot be used. The message says where it stands and what was expected."""


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
ApiPrefix = Annotated[str, _text("a path such as /api/v1", r"(?:/[A-Za-z0-9._~-]+)+")]
KEY = r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_~-]{16,256}"
ChosenKey = Annotated[str, _text("<id>.<secret> with a secret of 16 characters or more", KEY, 400)]
RATE = r"[1-9]\d{0,5}/(?:[1-9]\d{0,3} )?(?:second|minute|hour|day)s?"
Rate = Annotated[str, _text("a rate such as 10/minute or 10/5 minutes", RATE)]
Origin = Annotated[str, _text("* or an origin such as https://nas.example", r"\*|https?://(?:(?![/,])[!-~])+")]
WebAddress = Annotated[str, _text("an http or https address", r"https?://(?!/)[!-~]+", 2048)]
NotifyAddress = Annotated[str, _text("an address such as ntfy://topic", r"[a-z][a-z0-9+.-]*://[!-~]+", 2048)]
StoreAddress = Annotated[str, _text("postgresql://user@host/database", r"postgres(?:ql)?://[!-~]+", 2048)]


class DatasetGlobs(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which datasets a group is about, by their path below the root."""

    include: Annotated[tuple[DatasetGlob, ...], Meta(min_length=1)] = ("**",)
    exclude: tuple[DatasetGlob, ...] = ()


class SnapshotGlobs(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which snapshots are sent. These never hide a base."""

    include: Annotated[tuple[SnapshotGlob, ...], Meta(min_length=1)] = ("*",)
    exclude: tuple[SnapshotGlob, ...] = ()
    min_age_s: Seconds = 0
    initial: Literal["all", "newest"] = "all"  # where a replica starts: the oldest wanted, or only the newest


class Paused(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What takes no part for now."""

    systems: tuple[Hostname, ...] = ()  # hostnames in the file, system ids over the API
    datasets: tuple[DatasetGlob, ...] = ()


class GroupOptions(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a sync group wants, the same in the file and over the API. None: the setting of the whole service."""

    description: Annotated[str, Meta(max_length=4096)] = ""
    enabled: bool = True
    datasets: DatasetGlobs = DatasetGlobs()
    snapshots: SnapshotGlobs = SnapshotGlobs()
    sync_interval_seconds: Period | None = None  # default_sync_interval_s
    stale_after_seconds: Period | None = None  # stale_after_s
    transfer: Literal["push", "pull"] = "push"
    raw: Literal["auto", "always", "never"] = "auto"
    on_conflict: Literal["manual", "use_newest", "use_largest", "use_majority", "ignore"] = "manual"
    delete: Literal["never", "mirror"] = "never"
    max_transfers: Transfers | None = None  # max_transfers
    grace_s: Seconds = 600
    window: Window | None = None  # None: at any time
    rate_limit: Annotated[int, Meta(ge=1, le=2**53)] | None = None  # bytes a second
    paused: Paused = Paused()
    properties: dict[PropertyName, PropertyValue] = msgspec.field(default_factory=dict)  # for datasets that are created
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.window is not None and self.window[:5] == self.window[6:]:
            raise ValueError("window: begins and ends at the same time; leave it out for any time")


class MemberSettings(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A member of a group in the file."""

    root: DatasetName | None = None  # paths count below it; None: the full name counts, pool included


class GroupSettings(GroupOptions, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A sync group of the file. With a hub it is directional. Systems are in the order of preference."""

    name: GroupName
    hub: Hostname | None = None
    systems: Annotated[dict[Hostname, MemberSettings | None], Meta(min_length=1)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hub is not None and self.hub not in self.systems:
            raise ValueError(f"hub: {self.hub!r} is not among the group's systems{_suggestion(self.hub, self.systems)}")
        for system in self.paused.systems:
            if system not in self.systems:
                raise ValueError(f"paused: {system!r} is not among the group's systems")


class RateLimits(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How often one address may try."""

    failed_auth: Rate = "10/minute"
    registration: Rate = "20/hour"


def default_data_dir() -> Path:
    """The platform's folder for data: the system's for root (/var/lib/zfs-sync), else the user's own."""
    import platformdirs

    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return platformdirs.site_state_path("zfs-sync", appauthor=False)
    return platformdirs.user_data_path("zfs-sync", appauthor=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, under the name it has in the file. What may hold a secret is left out of repr."""

    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    workers: Annotated[int, Meta(ge=1, le=256)] = 2
    threads: Annotated[int, Meta(ge=1, le=1024)] = 8
    data_dir: Path = field(default_factory=default_data_dir)
    store_url: StoreAddress | None = field(default=None, repr=False)
    api_prefix: ApiPrefix = "/api/v1"
    secret_key: Annotated[str, Meta(min_length=16, max_length=1024)] | None = field(default=None, repr=False)
    admin_key: ChosenKey | None = field(default=None, repr=False)
    enroll_key: ChosenKey | None = field(default=None, repr=False)
    registration: Literal["key", "open", "closed"] = "key"
    api_key_length: Annotated[int, Meta(ge=16, le=256)] = 32
    heartbeat_timeout_s: Period = 300
    default_sync_interval_s: Period = 3600
    stale_after_s: Period = 86400
    lease_s: Annotated[int, Meta(ge=10, le=MAX_INT)] = 600
    lock_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 5.0
    max_transfers: Transfers = 2
    key_grace_s: Seconds = 86400
    full_report_s: Period = 21600
    tick_s: Period = 60
    history_days: Days = 90
    event_days: Days = 365
    rate_limits: RateLimits = field(default_factory=RateLimits)
    delete_guard_percent: Annotated[int, Meta(ge=0, le=100)] = 30
    max_inventory_bytes: Annotated[int, Meta(ge=1024, le=MAX_INT)] = 64 * 2**20
    cors_origins: tuple[Origin, ...] = ()
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks: 10.0.0.1, 10.0.0.0/8, ::1
    metrics_public: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    log_file: Path | None = None
    notify: tuple[NotifyAddress, ...] = field(default=(), repr=False)
    ping_url: WebAddress | None = field(default=None, repr=False)
    groups: tuple[GroupSettings, ...] = ()  # as they were at the start; GroupsFile has them as they are now
    file: Path | None = None  # the file that was read; not a setting
    groups_fixed: bool = False  # ZFS_SYNC_GROUPS was set, so the file's groups do not count; not a setting


ALIASES = {"database_url": "store_url"}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings that hold: environment, then file, then defaults. Raises ConfigError.

    The file is `path`, else ZFS_SYNC_CONFIG, else the first of FILES that exists here, else none.
    """
    file = _find_file(path, environ)
    document = _read(file) if file else _Source(None, {}, {})
    environment = _read_environment(environ)
    settings: dict[str, Any] = {"data_dir": file.parent / "data"} if file else {}
    settings |= _check(document) | _check(environment)
    config = Config(**settings, file=file, groups_fixed="groups" in environment.values)
    for key, problem in _impossible(config):
        (environment if key in environment.values else document).refuse((key,), problem)
    return config


def _impossible(config: Config) -> Iterable[tuple[str, str]]:
    """Settings that are well formed but do not go together: the key to look at, and why."""
    if bool(config.tls_cert) != bool(config.tls_key):
        yield "tls_cert" if config.tls_cert else "tls_key", "tls_cert and tls_key go together"
    if config.admin_key and config.enroll_key and config.admin_key.split(".")[0] == config.enroll_key.split(".")[0]:
        yield "enroll_key", "has the same id as admin_key; an id stands for one key"
    for network in config.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield "trusted_proxies", f"expected addresses or networks such as 10.0.0.0/8, got {network!r}"


@dataclass(frozen=True, slots=True)
class _Source:
    """Settings as a file or the environment has them, before they are checked."""

    file: Path | None  # None: the environment
    values: dict[Any, Any]
    lines: dict[Place, int]  # where in the file each key stands

    def refuse(self, place: Place, problem: str) -> NoReturn:
        """Raise ConfigError for a key, with its line or that of the nearest thing around it."""
        if self.file is None:
            raise ConfigError(f"{PREFIX}{_spell(place).upper()}: {problem}")
        line = next((self.lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in self.lines), 1)
        raise ConfigError(f"{self.file}:{line}: {_spell(place)}: {problem}")


def _spell(place: Place) -> str:
    """A place as one reads it: groups[0].datasets.include."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _find_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or environ.get(PREFIX + "CONFIG") or next((name for name in FILES if Path(name).is_file()), None)
    return Path(named).absolute() if named else None  # symlinks stay: Kubernetes replaces what they point to


def _read(file: Path) -> _Source:
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
    return _Source(file, values or {}, lines)


def _parse_toml(file: Path, text: str) -> tuple[Any, dict[Place, int]]:
    """What a TOML file holds, and the lines of its tables and keys, which tomllib does not tell."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
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


def _mark(file: Path, node: Any, place: Place, lines: dict[Place, int]) -> None:
    """Note the line of everything below a node. Raises ConfigError for a key that stands there twice."""
    if len(place) > 20:
        raise ConfigError(f"{file}:{node.start_mark.line + 1}: nested too deeply")
    if node.id == "sequence":
        for index, item in enumerate(node.value):
            lines[*place, index] = item.start_mark.line + 1
            _mark(file, item, (*place, index), lines)
    if node.id == "mapping":
        for key, value in node.value:
            below = (*place, str(key.value))
            line = key.start_mark.line + 1
            if below in lines:
                raise ConfigError(f"{file}:{line}: {_spell(below)}: stands here twice, first in line {lines[below]}")
            lines[below] = line
            _mark(file, value, below, lines)


# What Kubernetes sets in every pod once a Service is called zfs-sync
_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT\w*)=.*|PORT(_\d+_\w+)?=(tcp|udp|sctp)://.*|PORT_\d+_\w+=.*")


def _read_environment(environ: Mapping[str, str]) -> _Source:
    """The settings in ZFS_SYNC_*. An empty one counts as not set."""
    values: dict[str, Any] = {}
    for name, text in environ.items():
        setting = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or not text or setting == "CONFIG" or setting.startswith("AGENT_"):
            continue
        if not _KUBERNETES.fullmatch(f"{setting}={text}"):
            values[setting.lower()] = _from_text(setting.lower(), text)
    return _Source(None, values, {})


def _from_text(key: str, text: str) -> object:
    """A variable's value: lists are separated by commas or blanks, or JSON; groups and rate_limits are JSON."""
    expected = _types().get(key)
    is_list = get_origin(expected) is tuple
    if (is_list or expected is RateLimits) and text.lstrip().startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{PREFIX}{key.upper()}: {error}") from error
    return re.split(r"[,\s]+", text.strip(", \t\n")) if is_list else text


def _types() -> dict[str, Any]:
    """The settings by name, each with the type that it must fit."""
    hints = get_type_hints(Config, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in ("file", "groups_fixed")}


def _check(source: _Source) -> dict[str, Any]:
    """A source's settings, converted. What is null there is left to its default."""
    types = _types()
    settings: dict[str, Any] = {}
    for key, value in source.values.items():
        name = ALIASES.get(key, key)
        if name not in types:
            source.refuse((str(key),), f"unknown setting{_suggestion(str(key), [*types, *ALIASES])}")
        if name != key and name in source.values:
            source.refuse((key,), f"is another name for {name}, which is set, too")
        if name == "groups" and value is not None:
            settings[name] = _check_groups(source, value)
        elif value is not None:
            settings[name] = _check_value(source, (key,), value, types[name])
    return settings


def _check_groups(source: _Source, value: object) -> tuple[GroupSettings, ...]:
    """The groups. Members are looked at one by one first: msgspec names no key below `systems`."""
    groups: list[GroupSettings] = []
    for index, entry in enumerate(_check_value(source, ("groups",), value, list[Any])):
        here = ("groups", index)
        members = entry.get("systems") if isinstance(entry, dict) else None
        for hostname, member in members.items() if isinstance(members, dict) else ():
            if member is not None:
                _check_value(source, (*here, "systems", str(hostname)), member, MemberSettings)
        group: GroupSettings = _check_value(source, here, entry, GroupSettings)
        if any(other.name == group.name for other in groups):
            source.refuse((*here, "name"), f"there is another group {group.name!r}")
        groups.append(group)
    return tuple(groups)


def _check_value(source: _Source, place: Place, value: object, expected: Any) -> Any:
    def decode(kind: type, raw: object) -> object:
        if kind is Path and isinstance(raw, str) and raw:
            return (source.file.parent if source.file else Path.cwd()) / Path(raw).expanduser()
        raise ValueError("Expected a path")

    try:
        return msgspec.convert(value, expected, strict=source.file is not None, dec_hook=decode)
    except msgspec.ValidationError as error:
        below, problem = _in_words(str(error), expected)
        source.refuse((*place, *below), problem)


def _in_words(message: str, expected: Any) -> tuple[Place, str]:
    """Where below a value msgspec stumbled, and over what, as an admin would put it."""
    problem, _, path = message.partition(" - at `")
    below: Place = tuple(name or int(index) for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path.split("[...]")[0]))
    for part in below:
        known = msgspec.structs.fields(expected) if hasattr(expected, "__struct_fields__") else ()
        expected = next((each.type for each in known if each.name == part), None)
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", problem, re.DOTALL):
        return (*below, match[1]), f"unknown key{_suggestion(match[1], expected.__struct_fields__)}"
    if problem.startswith("Invalid enum value"):
        got = problem.removeprefix("Invalid enum value")
        return below, f"expected one of {', '.join(get_args(expected))}, got{got}"
    if match := re.fullmatch(r"(\w+): (.*)", problem):  # from a __post_init__: it names the key
        return (*below, match[1]), match[2]
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


def _suggestion(word: str, known: Iterable[str]) -> str:
    """What was probably meant, for the end of a sentence."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"


class GroupsFile:
    """The file's groups as it has them now. A broken edit keeps the last good ones, and `error` says what is wrong."""

    def __init__(self, config: Config) -> None:
        self._file = None if config.groups_fixed else config.file
        self._groups = config.groups
        self._error: str | None = None
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._settled = False

    def current(self) -> tuple[GroupSettings, ...]:
        """The groups in force, in the file's order."""
        self._refresh()
        return self._groups

    @property
    def error(self) -> str | None:
        """Why the file as it is now cannot be used; None when it can."""
        self._refresh()
        return self._error

    def _refresh(self) -> None:
        """Look at the file again if it may have changed.

        A stamp is believed only two seconds later: two writes within one tick of the file system's clock look the same.
        """
        if self._file is None or (self._settled and _stamp(self._file) == self._stamp):
            return
        with self._lock:
            self._stamp = _stamp(self._file)
            self._settled = self._stamp is not None and abs(time.time_ns() - max(self._stamp[:2])) > 2_000_000_000
            try:
                self._groups = _check(_read(self._file)).get("groups", ())
                self._error = None
            except ConfigError as error:
                if str(error) != self._error:
                    log.warning("keeping the last good sync groups: %s", error)
                self._error = str(error)


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
