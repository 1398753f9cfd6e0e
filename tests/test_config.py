"""Settings: what is read from where, and what each refusal says."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import limits
import msgspec
import pytest

import config
from config import Config, ConfigError, GroupOptions, GroupSettings, MemberSettings, kinds, load

SHIPPED = Path(config.__file__).parent.with_name("zfs_sync.yaml")
SECRET = "s3cret-s3cret-s3cret"

MEDIA = """\
groups:
  - name: media
    hub: nas
    systems:
      nas: {root: tank}
      backup:
        root: vault/nas
      offsite:
    datasets: {include: ["media/**", photos], exclude: ["**/cache"]}
    snapshots: {exclude: ["*-frequent"]}
    window: 22:00-06:00
"""

MEDIA_TOML = """\
port = 9000

[rate_limits]
failed_auth = "3/hour"

[[groups]]
name = "media"
hub = "nas"
[groups.systems.nas]
root = "tank"

[[groups]]
name = "music"
systems = {nas = {root = "tank"}, "backup.lan" = {}}
"""


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "zfs_sync.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def refusal(text: str = "", name: str = "zfs_sync.yaml", **environ: str) -> str:
    """What load says about a file and ZFS_SYNC_ variables, without the folder."""
    file = written(text, name)
    with pytest.raises(ConfigError) as caught:
        load(file, {f"ZFS_SYNC_{key}": value for key, value in environ.items()})
    return str(caught.value).replace(f"{Path.cwd()}/", "")


# --- where settings come from ---


def test_without_a_file_everything_has_its_default() -> None:
    assert load(environ={}) == Config()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "groups:\n", "port:\n"])
def test_an_empty_file_or_value_leaves_the_defaults(text: str) -> None:
    file = written(text).absolute()
    assert load(environ={}) == Config(file=file, data_dir=file.parent / "data")


def test_the_environment_goes_before_the_file_and_the_file_before_the_defaults() -> None:
    file = written("port: 9000\nlease_s: 700\n")
    found = load(file, {"ZFS_SYNC_PORT": "9001"})
    assert (found.port, found.lease_s, found.threads) == (9001, 700, 8)


def test_the_file_is_looked_for_in_a_fixed_order() -> None:
    for port, name in enumerate(reversed(config.FILES), 9000):
        written(f"port = {port}\n" if name.endswith("toml") else f"port: {port}\n", name)
        assert load(environ={}).port == port
    written("port: 1\n", "elsewhere.yaml")
    written("port: 2\n", "given.yaml")
    assert load(environ={"ZFS_SYNC_CONFIG": "elsewhere.yaml"}).port == 1
    assert load(Path("given.yaml"), {"ZFS_SYNC_CONFIG": "elsewhere.yaml"}).port == 2


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/gone.yaml: No such file")):
        load(environ={"ZFS_SYNC_CONFIG": "gone.yaml"})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert load(written("\ufeffport = 9000\n", "zfs_sync.toml"), {}).port == 9000


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/witness")
    assert load(environ={"ZFS_SYNC_LOG_FILE": "~/witness.log"}).log_file == Path("/home/witness/witness.log")


def test_relative_paths_count_from_the_file_and_those_of_the_environment_from_here(tmp_path: Path) -> None:
    written("log_file: log/witness.log\n", "config/zfs_sync.yaml")
    found = load(environ={"ZFS_SYNC_TLS_CERT": "cert.pem", "ZFS_SYNC_TLS_KEY": "/etc/key.pem"})
    assert found.log_file == tmp_path / "config/log/witness.log"
    assert found.data_dir == tmp_path / "config/data"
    assert (found.tls_cert, found.tls_key) == (tmp_path / "cert.pem", Path("/etc/key.pem"))


@pytest.mark.skipif(sys.platform != "linux", reason="each platform has its own folders")
@pytest.mark.parametrize(("user", "folder"), [(0, "/var/lib/zfs-sync"), (1000, "/somewhere/zfs-sync")])
def test_without_a_file_data_lies_in_the_platforms_folder(
    user: int, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert load(environ={}).data_dir == Path(folder)


def test_every_setting_can_stand_in_the_environment() -> None:
    texts = {"store_url": "postgresql://u@h/d", "admin_key": f"a.{SECRET}", "enroll_key": f"e.{SECRET}"}
    texts |= {"secret_key": SECRET, "cors_origins": "http://a, https://b:1", "trusted_proxies": "10.0.0.0/8 ::1"}
    texts |= {"notify": '["ntfy://a,b"]', "ping_url": "https://ping.example/x", "metrics_public": "true"}
    texts |= {"rate_limits": '{"failed_auth": "3/hour"}', "groups": '[{"name": "a", "systems": {"nas": null}}]'}
    texts |= {"webhook_url": "http://hook.example", "webhook_secret": SECRET, "pool_full_percent": "95"}
    texts |= {"quiet_hours": "22:00-07:00", "digest_at": "07:30"}
    texts |= {"tls_cert": "/c", "tls_key": "/k", "log_file": "/l", "data_dir": "/d", "log_level": "DEBUG"}
    texts |= {
        "workers": "3",
        "threads": "3",
        "max_transfers": "3",
        "api_key_length": "40",
        "delete_guard_percent": "50",
    }
    texts |= {"host": "::", "api_prefix": "/v2", "registration": "open", "log_format": "json", "lock_timeout_s": "0.5"}
    names = [each.name for each in dataclasses.fields(Config) if each.name not in ("file", "groups_fixed")]
    found = load(environ={f"ZFS_SYNC_{name.upper()}": texts.get(name, "2077") for name in names})
    assert [name for name in names if getattr(found, name) == getattr(Config(), name)] == []
    assert found.cors_origins == ("http://a", "https://b:1")
    assert found.trusted_proxies == ("10.0.0.0/8", "::1")
    assert found.notify == ("ntfy://a,b",)
    assert found.rate_limits == config.RateLimits(failed_auth="3/hour")
    assert found.groups == (GroupSettings(name="a", systems={"nas": None}),)


def test_an_empty_variable_and_the_agents_own_count_as_not_set() -> None:
    assert load(environ={"ZFS_SYNC_PORT": "", "ZFS_SYNC_AGENT_CONF": "/etc/agent.conf", "PORT": "1"}) == Config()


def test_what_kubernetes_sets_for_a_service_called_zfs_sync_is_no_setting() -> None:
    service = {"SERVICE_HOST": "10.1.2.3", "SERVICE_PORT": "8000", "SERVICE_PORT_HTTP": "8000"}
    service |= {"PORT": "tcp://10.1.2.3:8000", "PORT_8000_TCP": "tcp://10.1.2.3:8000"}
    service |= {"PORT_8000_TCP_PROTO": "tcp", "PORT_8000_TCP_PORT": "8000", "PORT_8000_TCP_ADDR": "10.1.2.3"}
    assert load(environ={f"ZFS_SYNC_{name}": value for name, value in service.items()}) == Config()


def test_database_url_is_another_name_for_store_url() -> None:
    written("store_url: postgresql://file/a\n")
    assert load(environ={"ZFS_SYNC_DATABASE_URL": "postgresql://env/b"}).store_url == "postgresql://env/b"
    written("database_url: postgresql://file/a\n")
    assert load(environ={}).store_url == "postgresql://file/a"


def test_words_that_older_yaml_takes_for_booleans_are_words() -> None:
    group = "{name: 2024-01-01, systems: {no: {root: on}}, properties: {atime: off}}"
    found = load(written(f"groups: [{group}]\nmetrics_public: true\n"), {})
    assert found.metrics_public
    assert found.groups == (
        GroupSettings(name="2024-01-01", systems={"no": MemberSettings(root="on")}, properties={"atime": "off"}),
    )


def test_groups_may_share_what_they_have_in_common() -> None:
    file = written("groups: [&a {name: a, window: 22:00-06:00, systems: {nas: }}, {<<: *a, name: b}]\n")
    assert [(group.name, group.window) for group in load(file, {}).groups] == [
        ("a", "22:00-06:00"),
        ("b", "22:00-06:00"),
    ]


def test_toml_says_the_same_as_yaml() -> None:
    found = load(written(MEDIA_TOML, "zfs_sync.toml"), {})
    assert (found.port, found.rate_limits.failed_auth) == (9000, "3/hour")
    assert found.groups == (
        GroupSettings(name="media", hub="nas", systems={"nas": MemberSettings(root="tank")}),
        GroupSettings(name="music", systems={"nas": MemberSettings(root="tank"), "backup.lan": MemberSettings()}),
    )


def test_systems_keep_their_order() -> None:
    assert list(load(written(MEDIA), {}).groups[0].systems) == ["nas", "backup", "offsite"]


def test_nothing_that_a_cold_start_does_without_is_imported() -> None:
    code = "import config, sys; print(sorted({'yaml', 'platformdirs', 'limits'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SHIPPED.parent, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


# --- secrets ---


def test_nothing_secret_shows_in_repr() -> None:
    keys = {"SECRET_KEY": SECRET, "ADMIN_KEY": f"a.{SECRET}", "ENROLL_KEY": f"e.{SECRET}"}
    urls = {
        "STORE_URL": f"postgresql://u:{SECRET}@h/d",
        "NOTIFY": f"ntfy://{SECRET}",
        "PING_URL": f"https://h/{SECRET}",
    }
    assert SECRET not in repr(load(environ={f"ZFS_SYNC_{name}": value for name, value in (keys | urls).items()}))


@pytest.mark.parametrize("key", ["secret_key", "admin_key", "enroll_key", "store_url", "notify", "ping_url"])
@pytest.mark.parametrize("value", [f"[[{SECRET}]]", f"[{SECRET}", f"{{a: {SECRET}}}", f"x: {SECRET}", f"&{SECRET} *x"])
def test_nothing_secret_shows_in_a_refusal(key: str, value: str) -> None:
    assert SECRET not in refusal(f"{key}: {value}\n")


# --- refusals ---

FILE = "zfs_sync.yaml"
WINDOW = "window: 22:00-06:00"
QUOTES = "; put it in quotes"
STAR = "; put a value that begins with * in quotes"
STRANGER = "'nsa' is not among the group's systems"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nprot: 9000", f"{FILE}:2: prot: unknown setting; did you mean 'port'?"),
        ("databas_url: a", f"{FILE}:1: databas_url: unknown setting; did you mean 'database_url'?"),
        ("HOST: a", f"{FILE}:1: HOST: unknown setting; did you mean 'host'?"),
        ("port: '9000'", f"{FILE}:1: port: expected a whole number, got text"),
        ("port: 9000.0", f"{FILE}:1: port: expected a whole number, got a number"),
        ("port: true", f"{FILE}:1: port: expected a whole number, got true or false"),
        ("port: 65536", f"{FILE}:1: port: expected a whole number <= 65535"),
        ("lease_s: 1180591620717411303424", f"{FILE}:1: lease_s: expected a whole number <= 2147483647"),
        ("stale_after_s: 0", f"{FILE}:1: stale_after_s: expected a whole number >= 1"),
        ("lock_timeout_s: 0", f"{FILE}:1: lock_timeout_s: expected a number > 0.0"),
        ("metrics_public: on", f"{FILE}:1: metrics_public: expected true or false, got text"),
        ("host: 1.5", f"{FILE}:1: host: expected text, got a number{QUOTES}"),
        ("api_key_length: 15", f"{FILE}:1: api_key_length: expected a whole number >= 16"),
        ("registration: anyone", f"{FILE}:1: registration: expected one of key, open, closed, got 'anyone'"),
        ("log_level: info", f"{FILE}:1: log_level: expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL, got 'info'"),
        ("api_prefix: api/v1", f"{FILE}:1: api_prefix: expected a path such as /api/v1"),
        ("api_prefix: /api/", f"{FILE}:1: api_prefix: expected a path such as /api/v1"),
        ("secret_key: short", f"{FILE}:1: secret_key: expected text of length >= 16"),
        ("admin_key: a.short", f"{FILE}:1: admin_key: expected <id>.<secret> with a secret of 16 characters or more"),
        ("data_dir: 3", f"{FILE}:1: data_dir: expected a path"),
        ("data_dir: ''", f"{FILE}:1: data_dir: expected a path"),
        ("store_url: sqlite:///x.db", f"{FILE}:1: store_url: expected postgresql://user@host/database"),
        ("ping_url: ftp://x", f"{FILE}:1: ping_url: expected an http or https address"),
        (
            "cors_origins: [https://a/b]",
            f"{FILE}:1: cors_origins[0]: expected * or an origin such as https://nas.example",
        ),
        ("cors_origins: https://a", f"{FILE}:1: cors_origins: expected a list, got text"),
        ("notify:\n- x://y\n- mail me", f"{FILE}:3: notify[1]: expected an address such as ntfy://topic"),
        (
            "trusted_proxies: [10.0.0.1, nas]",
            f"{FILE}:1: trusted_proxies: expected addresses or networks such as 10.0.0.0/8, got 'nas'",
        ),
        (
            "trusted_proxies: [10.0.0.1/8]",
            f"{FILE}:1: trusted_proxies: expected addresses or networks such as 10.0.0.0/8, got '10.0.0.1/8'",
        ),
        (
            "rate_limits:\n  failed_auth: 10/fortnight",
            f"{FILE}:2: rate_limits.failed_auth: expected a rate such as 10/minute or 10/5 minutes",
        ),
        (
            "rate_limits:\n  login: 1/day",
            f"{FILE}:2: rate_limits.login: unknown key; there are failed_auth, heavy, registration",
        ),
        ("port: 1\ntls_cert: a.pem", f"{FILE}:2: tls_cert: tls_cert and tls_key go together"),
        ("port: 1\ntls_key: a.pem", f"{FILE}:2: tls_key: tls_cert and tls_key go together"),
        (
            f"admin_key: a.{SECRET}\nenroll_key: a.{SECRET}x",
            f"{FILE}:2: enroll_key: has the same id as admin_key; an id stands for one key",
        ),
        (
            "store_url: postgresql://a\ndatabase_url: postgresql://b",
            f"{FILE}:2: database_url: is another name for store_url, which is set, too",
        ),
        ("port: 1\nhost: a\nport: 2", f"{FILE}:3: port: stands here twice, first in line 1"),
        ("- port", f"{FILE}: expected settings as `key: value`"),
        ("port: 1\n host: a", f"{FILE}:2: mapping values are not allowed here"),
        ("host: a\n--- \nport: 1", f"{FILE}:2: but found another document"),
        ("host: '\a'", f"{FILE}: unacceptable character #x0007: special characters are not allowed"),
        ("notify: &a [*a]", f"{FILE}:1: nested too deeply"),
        ("[1]: 2", f"{FILE}:1: found unhashable key"),
        ("1: 2", f"{FILE}:1: 1: unknown setting"),
        ("groups: {name: media}", f"{FILE}:1: groups: expected a list, got keys with values"),
        ("groups: [media]", f"{FILE}:1: groups[0]: expected keys with values, got text"),
    ],
)
def test_a_refused_setting(text: str, message: str) -> None:
    said = refusal(text)
    assert said == message or said.startswith(f"{message}; there are"), said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: media", "nam: media", "2: groups[0].nam: unknown key; did you mean 'name'?"),
        ("name: media\n    hub", "hub", "2: groups[0]: missing key name"),
        ("name: media", "name: ' media'", "2: groups[0].name: expected a name without control characters"),
        ("datasets", "dataset", "9: groups[0].dataset: unknown key; did you mean 'datasets'?"),
        ("datasets", '"a\\nb"', "9: groups[0].a\nb: unknown key; there are "),
        ('["**/cache"]', "3", "9: groups[0].datasets.exclude: expected a list, got a whole number"),
        ('exclude: ["**', 'exlude: ["**', "9: groups[0].datasets.exlude: unknown key; did you mean 'exclude'?"),
        ('"**/cache"', "**/cache", f"9: expected alphabetic or numeric character, but found '*'{STAR}"),
        ('"*-frequent"', "*-frequent", f"10: found undefined alias '-frequent'{STAR}"),
        ("photos", "photos/", "9: groups[0].datasets.include[1]: expected a glob over dataset paths such as media/**"),
        ('["media/**", photos]', "[]", "9: groups[0].datasets.include: expected a list of length >= 1"),
        ("*-freq", "a@", "10: groups[0].snapshots.exclude[0]: expected a glob over snapshot names such as daily-*"),
        ("22:00", "24:00", "11: groups[0].window: expected a daily window in UTC such as 22:00-06:00"),
        ("22:00", "06:00", "11: groups[0].window: begins and ends at the same time; leave it out for any time"),
        ("hub: nas", "hub: nsa", f"3: groups[0].hub: {STRANGER}; did you mean 'nas'?"),
        ("vault/nas", "vault//nas", "7: groups[0].systems.backup.root: expected a dataset such as tank/data"),
        ("vault/nas", "/vault", "7: groups[0].systems.backup.root: expected a dataset such as tank/data"),
        ("root: vault", "rot: vault", "7: groups[0].systems.backup.rot: unknown key; did you mean 'root'?"),
        ("{root: tank}", "tank", "5: groups[0].systems.nas: expected keys with values, got text"),
        ("offsite:", "7:", f"4: groups[0].systems: expected text, got a whole number{QUOTES}"),
        ("offsite:", "nas$:", "4: groups[0].systems: expected a hostname"),
        ("offsite:", "nas:", "8: groups[0].systems.nas: stands here twice, first in line 5"),
        (WINDOW, "raw: perhaps", "11: groups[0].raw: expected one of auto, always, never, got 'perhaps'"),
        (WINDOW, "paused: {systems: [nsa]}", f"11: groups[0].paused: {STRANGER}"),
        (WINDOW, "properties: {copies: 2}", f"11: groups[0].properties: expected text, got a whole number{QUOTES}"),
        (
            WINDOW,
            "properties: {a: 'x,y'}",
            "11: groups[0].properties: expected a property's value, ASCII without , and =",
        ),
        (WINDOW, "properties: {A: '2'}", "11: groups[0].properties: expected a ZFS property such as compression"),
        (WINDOW, "max_transfers: 0", "11: groups[0].max_transfers: expected a whole number >= 1"),
        (WINDOW, "\n  - name: media\n    systems: {a: }", "12: groups[1].name: there is another group 'media'"),
        (WINDOW, "\n  - name: b\n    systems: {}", "13: groups[1].systems: expected keys with values of length >= 1"),
    ],
)
def test_a_refused_group(old: str, new: str, said: str) -> None:
    assert old in MEDIA
    found = refusal(MEDIA.replace(old, new, 1))
    assert found == f"{FILE}:{said}" or (said.endswith("there are ") and found.startswith(f"{FILE}:{said}"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("port = 9000", "prot = 9000", ":1: prot: unknown setting; did you mean 'port'?"),
        ("port = 9000", "port = high", ": Invalid value (at line 1, column 8)"),
        ('"3/hour"', "3", f":4: rate_limits.failed_auth: expected text, got a whole number{QUOTES}"),
        ('hub = "nas"', 'hub = "nsa"', f":8: groups[0].hub: {STRANGER}; did you mean 'nas'?"),
        ('"tank"\n', "1\n", f":10: groups[0].systems.nas.root: expected text, got a whole number{QUOTES}"),
        ('"music"', '"media"', ":13: groups[1].name: there is another group 'media'"),
        ('"tank"}', "1}", f":14: groups[1].systems.nas.root: expected text, got a whole number{QUOTES}"),
    ],
)
def test_a_refusal_in_toml(old: str, new: str, message: str) -> None:
    assert refusal(MEDIA_TOML.replace(old, new), "zfs_sync.toml") == f"zfs_sync.toml{message}"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PROT", "1", "ZFS_SYNC_PROT: unknown setting; did you mean 'port'?"),
        ("PORT", "high", "ZFS_SYNC_PORT: expected a whole number, got text"),
        ("METRICS_PUBLIC", "perhaps", "ZFS_SYNC_METRICS_PUBLIC: expected true or false, got text"),
        ("GROUPS", "[{", "ZFS_SYNC_GROUPS: Input data was truncated"),
        ("GROUPS", "media", "ZFS_SYNC_GROUPS[0]: expected keys with values, got text"),
        ("TLS_KEY", "a.pem", "ZFS_SYNC_TLS_KEY: tls_cert and tls_key go together"),
        ("CORS_ORIGINS", "*,nas", "ZFS_SYNC_CORS_ORIGINS[1]: expected * or an origin such as https://nas.example"),
        ("DATABASE_URL", "sqlite:///x", "ZFS_SYNC_DATABASE_URL: expected postgresql://user@host/database"),
    ],
)
def test_a_refused_variable(name: str, value: str, message: str) -> None:
    assert refusal(**{name: value}) == message


def test_a_file_that_is_not_utf8() -> None:
    Path("zfs_sync.yaml").write_bytes(b"host: caf\xe9\n")
    with pytest.raises(ConfigError, match="expected UTF-8 text, got byte 0xe9"):
        load(environ={})


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        (kinds.DatasetGlob, ["**", "media/**", "my photos/*-old", "a.b:c_d-e?"]),
        (kinds.SnapshotGlob, ["*", "daily-*", "20??-01-01"]),
        (kinds.DatasetName, ["tank", "pool1/replica", "tank/my data"]),
        (kinds.Hostname, ["nas", "nas.lan", "a_b-1", "7"]),
        (kinds.GroupName, ["media", "Fotos für Oma"]),
        (kinds.PropertyName, ["compression", "com.example:tier"]),
        (kinds.PropertyValue, ["lz4", "/mnt/a b", "-"]),
        (kinds.Window, ["22:00-06:00", "00:00-23:59"]),
        (kinds.TimeOfDay, ["00:00", "23:59"]),
        (kinds.ApiPrefix, ["/api/v1", "/zfs"]),
        (kinds.ChosenKey, [f"admin.{SECRET}"]),
        (kinds.Rate, ["10/minute", "20/hour", "3/5 minutes", "100/day"]),
        (kinds.Origin, ["*", "https://nas.example:8443"]),
        (kinds.WebAddress, ["https://ping.example/uuid?x=1"]),
        (kinds.NotifyAddress, ["ntfy://topic", "mailtos://user:pass@example.org"]),
        (kinds.StoreAddress, ["postgresql://user:pass@host/db", "postgres://host/db"]),
    ],
)
def test_texts_fit_as_a_whole(kind: Any, good: list[str]) -> None:
    for text in good:
        assert msgspec.convert(text, kind) == text
        for bad in (f"{text}\n", f"\n{text}", f"{text}\0", ""):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert(bad, kind)


@pytest.mark.parametrize("rate", ["10/minute", "20/hour", "3/5 minutes", "100/day", "1/second", "7/2 hours"])
def test_rates_are_understood_by_limits(rate: str) -> None:
    assert msgspec.convert(rate, kinds.Rate) == rate
    assert limits.parse(rate).amount == int(rate.split("/")[0])


# --- the shipped file ---


def test_the_shipped_file_changes_no_default() -> None:
    assert load(SHIPPED, {}) == Config(file=SHIPPED, data_dir=SHIPPED.parent / "data")


def test_the_shipped_file_shows_every_setting_with_its_default_and_a_comment() -> None:
    lines = re.findall(r"(?m)^#?(([a-z_]+):[^#\n]*?)[ ]*(#.*)?$", SHIPPED.read_text())
    shown = {name: setting for setting, name, comment in lines if comment or name == "groups"}
    names = {each.name for each in dataclasses.fields(Config)} - {"file", "groups_fixed"}
    assert set(shown) == names
    values = "\n".join(shown.values())
    assert load(written(values), {}) == load(written(""), {})
    for name, setting in shown.items():
        default = getattr(Config(), name)
        if default is not None and name != "data_dir":
            assert not setting.endswith("null"), f"{name} has a default that the file should show"


def test_the_shipped_example_shows_every_option_of_a_group() -> None:
    example = SHIPPED.read_text().split("groups: []\n")[1].replace("#  ", "  ")
    group = load(written(f"groups:\n{example}"), {}).groups[0]
    shown = set(re.findall(r"(?m)^  (?:- |  )([a-z_]+):", example))
    assert shown == set(GroupSettings.__struct_fields__)
    options = msgspec.structs.asdict(group)
    differing = {name for name, value in msgspec.structs.asdict(GroupOptions()).items() if options[name] != value}
    of_the_service = {"sync_interval_seconds", "stale_after_seconds", "max_transfers"}
    assert differing == {"datasets", "snapshots", "window", "rate_limit", "properties"} | of_the_service
