"""Settings: `ZFS_SYNC_*` variables over zfs_sync.yaml (or .toml) over defaults, checked once into a frozen Config.

`load` answers a Config or raises ConfigError, which names the file, the line, the key and what was expected.
The file's sync groups are the one part that may change while the service runs: GroupsFile reads them again.
"""

import base64
import ipaddress
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from config.files import PREFIX, ConfigError, Source, read_file
from config.groups import MOST_GROUPS, GroupOptions, GroupSettings, MemberSettings
from config.kinds import (
    MAX_INT,
    ApiPrefix,
    ChosenKey,
    Days,
    GroupName,
    NotifyAddress,
    Origin,
    Period,
    Place,
    Rate,
    Seconds,
    StoreAddress,
    TimeOfDay,
    Transfers,
    WebAddress,
    Window,
    in_words,
    suggestion,
)

__all__ = [
    "Config",
    "ConfigError",
    "GroupName",
    "GroupOptions",
    "GroupSettings",
    "GroupsFile",
    "MemberSettings",
    "load",
]

FILES = ("zfs_sync.yaml", "config/zfs_sync.yaml", "zfs_sync.toml", "config/zfs_sync.toml")

NO_SETTINGS = ("CONFIG", "URL", "KEY")  # variables of the command line: the file, and another witness with its key

log = logging.getLogger("zfs_sync.config")


class RateLimits(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How often one address may try, and one key may ask for what takes the witness long."""

    failed_auth: Rate = "10/minute"
    registration: Rate = "20/hour"
    heavy: Rate = "300/minute"


def default_data_dir() -> Path:
    """The platform's folder for data: the system's for root (/var/lib/zfs-sync), else the user's own."""
    import platformdirs

    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return platformdirs.site_state_path("zfs-sync", appauthor=False)
    return platformdirs.user_data_path("zfs-sync", appauthor=False)


def is_base64(text: str) -> bool:
    """Whether this can be decoded."""
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


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
    webhook_url: WebAddress | None = field(default=None, repr=False)
    webhook_secret: Annotated[str, Meta(min_length=16, max_length=1024)] | None = field(default=None, repr=False)
    quiet_hours: Window | None = None
    digest_at: TimeOfDay | None = None
    pool_full_percent: Annotated[int, Meta(ge=1, le=100)] = 90
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
    document = read_file(file) if file else Source(None, {}, {})
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
    if config.webhook_secret and not config.webhook_url:
        yield "webhook_secret", "signs what goes to webhook_url, which is not set"
    if (
        config.webhook_secret
        and config.webhook_secret.startswith("whsec_")
        and not is_base64(config.webhook_secret[6:])
    ):
        yield "webhook_secret", "expected base64 after whsec_"
    if config.quiet_hours and config.quiet_hours[:5] == config.quiet_hours[6:]:
        yield "quiet_hours", "begins and ends at the same time; leave it out for none"
    for network in config.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield "trusted_proxies", f"expected addresses or networks such as 10.0.0.0/8, got {network!r}"


def _find_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or environ.get(PREFIX + "CONFIG") or next((name for name in FILES if Path(name).is_file()), None)
    return Path(named).absolute() if named else None  # symlinks stay: Kubernetes replaces what they point to


# What Kubernetes sets in every pod once a Service is called zfs-sync
_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT\w*)=.*|PORT(_\d+_\w+)?=(tcp|udp|sctp)://.*|PORT_\d+_\w+=.*")


def _read_environment(environ: Mapping[str, str]) -> Source:
    """The settings in ZFS_SYNC_*. An empty one counts as not set."""
    values: dict[str, Any] = {}
    for name, text in environ.items():
        setting = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or not text or setting in NO_SETTINGS or setting.startswith("AGENT_"):
            continue
        if not _KUBERNETES.fullmatch(f"{setting}={text}"):
            values[setting.lower()] = _from_text(setting.lower(), text)
    return Source(None, values, {})


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


def _check(source: Source) -> dict[str, Any]:
    """A source's settings, converted. What is null there is left to its default."""
    types = _types()
    settings: dict[str, Any] = {}
    for key, value in source.values.items():
        name = ALIASES.get(key, key)
        if name not in types:
            source.refuse((str(key),), f"unknown setting{suggestion(str(key), [*types, *ALIASES])}")
        if name != key and name in source.values:
            source.refuse((key,), f"is another name for {name}, which is set, too")
        if name == "groups" and value is not None:
            settings[name] = _check_groups(source, value)
        elif value is not None:
            settings[name] = _check_value(source, (key,), value, types[name])
    return settings


def _check_groups(source: Source, value: object) -> tuple[GroupSettings, ...]:
    """The groups. Members are looked at one by one first: msgspec names no key below `systems`."""
    groups: dict[str, GroupSettings] = {}
    entries = _check_value(source, ("groups",), value, Annotated[list[Any], Meta(max_length=MOST_GROUPS)])
    for index, entry in enumerate(entries):
        here = ("groups", index)
        members = entry.get("systems") if isinstance(entry, dict) else None
        for hostname, member in members.items() if isinstance(members, dict) else ():
            if member is not None:
                _check_value(source, (*here, "systems", str(hostname)), member, MemberSettings)
        group: GroupSettings = _check_value(source, here, entry, GroupSettings)
        if group.name in groups:
            source.refuse((*here, "name"), f"there is another group {group.name!r}")
        groups[group.name] = group
    return tuple(groups.values())


def _check_value(source: Source, place: Place, value: object, expected: Any) -> Any:
    def decode(kind: type, raw: object) -> object:
        if kind is Path and isinstance(raw, str) and raw:
            return (source.file.parent if source.file else Path.cwd()) / Path(raw).expanduser()
        raise ValueError("Expected a path")

    try:
        return msgspec.convert(value, expected, strict=source.file is not None, dec_hook=decode)
    except msgspec.ValidationError as error:
        below, problem = in_words(str(error), expected)
        source.refuse((*place, *below), problem)


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
                self._groups = _check(read_file(self._file)).get("groups", ())
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
