"""Each command on a real store: mostly that of the example which `demo` shows."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

import cli
import config
from cli.demo import SETTINGS, fill
from handlers.keys import create_key
from handlers.local import ask, request_here, user_name
from handlers.request import Witness
from handlers.routes import make_app
from handlers.words import ago, size, span
from store import REGISTRY
from tests.lab import CHECKOUT
from tests.witness import ADMIN, ENROLL, Client
from zfs_sync import open_witness

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command over tmp_path's store: its exit status, what it printed and what it complained about."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        done = cli.main(arguments, open_witness)
        return (done, *capsys.readouterr())

    return run


def opened(folder: Path, settings: str) -> Witness:
    file = folder / "zfs_sync.yaml"
    file.write_text(settings)
    return open_witness(config.load(file, {}))


@pytest.fixture
def example(tmp_path: Path) -> Witness:
    """The store that `demo` serves."""
    witness = opened(tmp_path, SETTINGS)
    fill(witness, datetime.now(UTC))
    return witness


def narrowed(folder: Path, glob: str) -> None:
    """Leave the example only the group `backup`, and of it only some datasets."""
    text = SETTINGS.partition("  - name: offsite")[0]
    text = text.replace("    sync_interval", f'    datasets: {{include: ["{glob}"]}}\n    sync_interval')
    (folder / "zfs_sync.yaml").write_text(text)


def answer(witness: Witness, endpoint: str, group: str) -> Any:
    groups = ask(request_here(witness), "list_sync_groups")
    (group_id,) = [each["id"] for each in groups if each["name"] == group]
    return ask(request_here(witness), endpoint, group_id=group_id)


# --- status --------------------------------------------------------------------------------------


def test_status_says_it_all_in_its_first_line_and_the_worst_first(example: Witness, command: Command) -> None:
    done, said, _ = command("status", "backup")
    assert done == 2
    lines = said.splitlines()
    assert lines[0] == "CRITICAL: backup: 1 in conflict, 2 late, 2 behind, 9 in sync"
    assert re.split(r"\s{2,}", lines[2].strip()) == ["backup", "nas (hub)", "backup"]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[3:16]]
    assert [(row[0], row[2]) for row in rows[:3]] == [
        ("documents", "conflict"),
        ("paperless", "late: not there yet, 38 behind, 13 days"),
        ("photos", rows[2][2]),
    ]
    assert re.fullmatch(r"late: 2\d behind, [23] days", rows[2][2])
    assert re.fullmatch(r"newest \d+ (min|s) ago", rows[0][1])
    assert re.fullmatch(r"transfer runs, [67] behind, \d h", rows[3][2])
    assert {row[2] for row in rows[5:]} == {"in sync"}
    assert "photos on backup: backup has tank/photos up to daily-" in said


def test_status_shows_all_groups_unless_one_is_named(example: Witness, command: Command) -> None:
    done, said, _ = command("status")
    assert (done, said.splitlines()[0].count(";")) == (2, 1)
    done, said, _ = command("status", "offsite")
    assert done == 1
    assert said.startswith("WARNING: offsite: 5 late\n")
    done, said, complaint = command("status", "offsit")
    assert (done, said, complaint) == (3, "", "zfs_sync: no sync group 'offsit' (backup, offsite)\n")


def test_status_as_json_is_what_the_api_answers(example: Witness, command: Command) -> None:
    before = answer(example, "show_status", "offsite")["datasets"]
    done, said, _ = command("status", "offsite", "--json")
    shown = json.loads(said)
    assert (done, shown["exit_status"], shown["verdict"]) == (1, 1, "WARNING")
    after = answer(example, "show_status", "offsite")["datasets"]  # another second may have begun: the lags say so
    assert shown["groups"][0]["datasets"] in (before, after)


def test_status_is_ok_when_everything_is_in_sync(example: Witness, tmp_path: Path, command: Command) -> None:
    narrowed(tmp_path, "vm/**")
    done, said, _ = command("status")
    assert (done, said.splitlines()[0]) == (0, "OK: backup: 3 in sync")


def test_a_source_without_new_snapshots_is_late(tmp_path: Path, command: Command) -> None:
    fill(opened(tmp_path, SETTINGS), datetime.now(UTC) - timedelta(days=2))
    narrowed(tmp_path, "vm/**")
    done, said, _ = command("status")
    assert (done, said.splitlines()[0]) == (1, "WARNING: backup: 3 late, 3 in sync")
    assert "vm/git on nas: nas has taken no new snapshot of tank/vm/git for too long" in said


def test_a_replica_within_its_interval_is_behind_and_well(example: Witness, tmp_path: Path, command: Command) -> None:
    narrowed(tmp_path, "media/films")
    done, said, _ = command("status")
    assert (done, said.splitlines()[0]) == (0, "OK: backup: 1 behind")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("", "UNKNOWN: there is no sync group"),
        ("groups: [{name: a, systems: {nas: }}]", "UNKNOWN: a: nothing to sync"),
    ],
)
def test_status_knows_when_it_knows_nothing(tmp_path: Path, command: Command, settings: str, said: str) -> None:
    opened(tmp_path, settings)
    done, shown, _ = command("status")
    assert (done, shown.splitlines()[0]) == (3, said)
    assert ("nas has not registered yet" in shown) == (settings != "")


def test_status_is_unknown_when_the_store_or_the_settings_cannot_be_read(tmp_path: Path, command: Command) -> None:
    opened(tmp_path, "")
    (tmp_path / "data" / "registry.json").write_text("{")
    done, _, complaint = command("status")
    assert (done, "registry.json" in complaint) == (3, True)
    (tmp_path / "zfs_sync.yaml").write_text("prot: 1")
    done, _, complaint = command("status")
    assert (done, "did you mean 'port'" in complaint) == (3, True)


# --- plan, systems, conflicts --------------------------------------------------------------------


def test_plan_shows_the_steps_in_order_and_what_is_skipped(example: Witness, command: Command) -> None:
    done, said, _ = command("plan", "backup")
    assert done == 0
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    actions = answer(example, "show_instructions", "backup")["actions"]
    assert [row[2] for row in rows[1 : len(actions) + 1]] == [action["target_dataset"] for action in actions]
    assert rows[1][:5] == ["nas", "create", "vault/nas/paperless", "backup", "6.0 GB"]
    assert [row[1] for row in rows if row[1:3] == ["sync (runs now)", "vault/nas/media/series"]]
    assert said.splitlines()[-1].startswith("skipped: vault/nas/documents on backup: vault/nas/documents on backup was")


def test_plan_as_json_is_what_the_api_answers(example: Witness, command: Command) -> None:
    _, said, _ = command("plan", "backup", "--json")
    assert json.loads(said) == answer(example, "show_instructions", "backup")


def test_plan_can_be_one_systems_and_a_script(example: Witness, command: Command) -> None:
    assert command("plan", "backup", "--system", "backup")[1].startswith("nothing to do\n")
    assert command("plan", "backup", "--script")[2] == "zfs_sync: a script is for one system: say which with --system\n"
    _, script, _ = command("plan", "backup", "--script", "--system", "NAS")
    assert script.startswith("#!/bin/sh\n")
    assert "zfs send -L -c -e tank/paperless@daily-" in script
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    assert command("plan", "backup", "--system", "nsa")[2] == "zfs_sync: no system 'nsa'\n"


def test_systems_says_when_each_was_last_heard_from(example: Witness, command: Command) -> None:
    done, said, _ = command("systems")
    assert done == 0
    rows = [re.split(r"\s{2,}", line.strip())[:4] for line in said.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["backup", "online"], ["nas", "online"], ["offsite", "offline"]]
    assert rows[2][2:] == ["9 days ago", "9 days old"]
    shown = json.loads(command("systems", "--json")[1])
    assert [(each["hostname"], each["snapshot_count"]) for each in shown][2] == ("offsite", 70)


def test_conflicts_names_the_ways_out_and_leaves_out_what_needs_no_decision(example: Witness, command: Command) -> None:
    done, said, _ = command("conflicts")
    assert done == 0
    assert said.startswith("diverged: backup: documents (nas, backup)\n  high, open, first seen ")
    assert "    use_newest (nas wins): On backup, vault/nas/documents is set aside as" in said
    assert "    use_majority: a tie, 1 to 1: nas against backup" in said
    assert "paperless" not in said
    shown = json.loads(command("conflicts", "backup", "--json")[1])
    assert {each["dataset"] for each in shown} >= {"documents", "paperless"}
    assert command("conflicts", "offsite")[1].startswith("no conflicts\n5 times snapshots are missing")


# --- keys ----------------------------------------------------------------------------------------


def client(witness: Witness, key: str) -> Client:
    return Client(TestApp(make_app(witness)), witness, key)


def test_a_created_key_is_all_of_stdout_and_works(example: Witness, command: Command) -> None:
    done, said, _ = command("keys", "create", "viewer", "--label", "dashboard in the kitchen")
    assert done == 0
    assert re.fullmatch(r"\w{12}\.\w{32}\n", said)
    key = said.strip()
    assert client(example, key).call("GET", "/systems").status_int == 200
    client(example, key).call("DELETE", f"/systems/{'0' * 8}-0000-0000-0000-{'0' * 12}", status=403)
    listed = command("keys", "list")[1]
    assert re.search(rf"{key.partition('.')[0]} +viewer +- +0 s ago +- +dashboard in the kitchen", listed)
    assert key.partition(".")[2] not in listed + command("keys", "list", "--json")[1]


def test_an_agents_key_is_for_its_system(example: Witness, command: Command) -> None:
    key = command("keys", "create", "agent", "--system", "backup")[1].strip()
    ids = {each["hostname"]: each["id"] for each in ask(request_here(example), "list_systems")}
    assert client(example, key).call("GET", f"/systems/{ids['backup']}").status_int == 200
    client(example, key).call("GET", f"/systems/{ids['nas']}", status=403)
    for wrong in (("agent",), ("viewer", "--system", "nas")):
        assert command("keys", "create", *wrong)[0] == 1
    assert command("keys", "create", "agent", "--system", "nobody")[2] == "zfs_sync: no system 'nobody'\n"


def test_a_rotated_key_works_on_for_its_grace(example: Witness, command: Command) -> None:
    old = create_key(request_here(example), "viewer", label="wall")
    new = command("keys", "rotate", old.partition(".")[0])[1].strip()
    for key in (old, new):
        assert client(example, key).call("GET", "/systems").status_int == 200
    rows = {row["id"]: row for row in json.loads(command("keys", "list", "--json")[1])}
    assert rows[old.partition(".")[0]]["expires_at"] is not None
    assert rows[new.partition(".")[0]] | {"id": "", "created_at": ""} == {
        "id": "",
        "role": "viewer",
        "hostname": None,
        "label": "wall",
        "created_at": "",
        "expires_at": None,
    }
    newest = command("keys", "rotate", new.partition(".")[0], "--grace", "0")[1].strip()
    client(example, new).call("GET", "/systems", status=401)
    assert client(example, newest).call("GET", "/systems").status_int == 200
    assert command("keys", "rotate", newest.partition(".")[0], "--grace", "-1")[0] == 1


def test_the_signing_key_is_rotated_and_all_that_agents_should_trust_is_stdout(command: Command) -> None:
    done, said, hint = command("keys", "rotate-signing", "--grace", "60")
    assert done == 0
    assert said.count("-----BEGIN PUBLIC KEY-----") == 2
    assert "signs from" in hint
    done, said, complaint = command("keys", "rotate-signing")
    assert (done, said) == (1, "")
    assert "made before signs from" in complaint
    assert command("keys", "rotate-signing", "--grace", "-1")[0] == 1
    assert command("keys", "rotate-signing", "--grace", "9" * 12)[0] == 1
    assert command("keys", "rotate-signing", "--grace", "0")[1].count("-----BEGIN PUBLIC KEY-----") == 1


def test_a_systems_keys_are_rotated_and_revoked_by_its_hostname(example: Witness, command: Command) -> None:
    first = command("keys", "create", "agent", "--system", "offsite")[1].strip()
    second = command("keys", "rotate", "offsite", "--grace", "0")[1].strip()
    own = f"/systems/{next(s['id'] for s in ask(request_here(example), 'list_systems') if s['hostname'] == 'offsite')}"
    client(example, first).call("GET", own, status=401)
    assert client(example, second).call("GET", own).status_int == 200
    assert command("keys", "revoke", "offsite")[0] == 0
    client(example, second).call("GET", own, status=401)


def test_a_revoked_key_is_worthless_and_every_change_is_in_the_audit_trail(example: Witness, command: Command) -> None:
    key = create_key(request_here(example), "viewer")
    assert command("keys", "revoke", key.partition(".")[0])[0] == 0
    client(example, key).call("GET", "/systems", status=401)
    done, _, complaint = command("keys", "revoke", key.partition(".")[0])
    assert (done, complaint) == (1, f"zfs_sync: '{key.partition('.')[0]}' is neither a key's id nor a system\n")
    me = request_here(example).caller.key_id
    assert me is not None
    assert me.startswith("local:")
    events = [(event.what, event.who) for event in example.store.events() if event.subject == key.partition(".")[0]]
    assert events == [("key.revoked", me), ("key.created", me)]


def test_a_key_of_the_configuration_is_changed_there(witness: Witness, command: Command) -> None:
    Client(TestApp(make_app(witness)), witness)  # which starts it with ADMIN and ENROLL
    for change in ("rotate", "revoke"):
        done, said, complaint = command("keys", change, "enroll")
        assert (done, said) == (1, "")
        assert complaint == "zfs_sync: the key 'enroll' is set by enroll_key in the configuration: change it there\n"
    assert client(witness, ENROLL).call("GET", "/health").status_int == 200
    assert client(witness, ADMIN).call("GET", "/systems").status_int == 200


# --- check ---------------------------------------------------------------------------------------


def test_check_counts_what_there_is(example: Witness, tmp_path: Path, command: Command) -> None:
    done, said, _ = command("check")
    assert done == 0
    assert said.splitlines()[0] == f"configuration: {tmp_path}/zfs_sync.yaml"
    assert "inventories: 3 reports, 35 summaries, 35 datasets" in said
    assert said.endswith("all is well\n")


def test_check_names_every_damaged_file_and_reads_on(example: Witness, tmp_path: Path, command: Command) -> None:
    inventories = sorted((tmp_path / "data" / "inventories").glob("*.json"))
    inventories[0].write_text("{")
    inventories[1].write_bytes(inventories[1].read_bytes().replace(b'"type":"filesystem"', b'"type":["filesystem"]'))
    done, said, _ = command("check")
    assert done == 1
    problems = [line for line in said.splitlines() if line.startswith("problem: ")]
    assert [inventories[0].name in problems[0], inventories[1].name in problems[1]] == [True, True]
    assert said.endswith("2 problems\n")
    assert "inventories: 1 reports" in said or "inventories: 2 reports" in said


def test_check_repairs_what_can_be_done_without(example: Witness, tmp_path: Path, command: Command) -> None:
    data = tmp_path / "data"
    nobody = data / "heartbeats" / "nobody.json"
    nobody.write_bytes(next((data / "heartbeats").glob("*.json")).read_bytes())
    (data / "leases.json").write_text('{"_meta":{"1":{"gen":NaN')
    assert command("check")[1].endswith("2 problems\n")
    done, said, _ = command("check", "--repair")
    assert done == 0
    assert "repaired: heartbeats/nobody is of a system that is not registered: put aside\n" in said
    assert f"repaired: {data}/leases.json is damaged" in said
    assert not nobody.exists()
    assert [path.read_text()[-3:] for path in data.glob("leases.json.damaged-*")] == ["NaN"]
    assert len(list(nobody.parent.glob("nobody.json.aside-*"))) == 1
    assert "repaired" not in command("check", "--repair")[1]


def test_check_leaves_the_registry_and_inventories_to_others(
    tmp_path: Path, example: Witness, command: Command
) -> None:
    inventory = next((tmp_path / "data" / "inventories").glob("*.json"))
    for file in (inventory, tmp_path / "data" / "registry.json"):
        file.write_bytes(b"half")
        done, _, _ = command("check", "--repair")
        assert (done, file.read_bytes()) == (1, b"half")


def test_check_notes_whom_a_group_still_expects_and_misses_files(tmp_path: Path, command: Command) -> None:
    opened(tmp_path, "groups: [{name: a, systems: {nas: }}]")
    assert "note: group a: nas has not registered yet\nall is well\n" in command("check")[1]
    (tmp_path / "zfs_sync.yaml").write_text("tls_cert: cert.pem\ntls_key: key.pem")
    done, said, _ = command("check")
    assert (done, f"problem: tls_key: {tmp_path}/key.pem: there is no such file\n" in said) == (1, True)
    (tmp_path / "zfs_sync.yaml").write_text("tls_cert: cert.pem")
    assert command("check") == (
        1,
        "",
        f"zfs_sync: {tmp_path}/zfs_sync.yaml:1: tls_cert: tls_cert and tls_key go together\n",
    )


# --- backup and restore --------------------------------------------------------------------------


def test_a_backup_is_private_whole_and_restores_all(example: Witness, tmp_path: Path, command: Command) -> None:
    file = tmp_path / "saved.tar.gz"
    assert command("backup", str(file))[0] == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = command("status", "--json")[0], json.loads(command("systems", "--json")[1])
    assert command("backup", str(file)) == (1, "", f"zfs_sync: {file}: File exists\n")
    done, _, complaint = command("restore", str(file))
    assert (done, complaint.partition(":")[2]) == (
        1,
        " the store holds 3 systems: --replace puts the backup in their place (back it up first)\n",
    )
    example.store.remove(REGISTRY)
    assert json.loads(command("systems", "--json")[1]) == []
    assert command("restore", str(file))[0] == 0
    after = command("status", "--json")[0], json.loads(command("systems", "--json")[1])
    assert [system["id"] for system in after[1]] == [system["id"] for system in before[1]]
    assert command("restore", "--replace", str(file))[0] == 0


def test_a_backup_that_cannot_be_written_or_read_is_one_line(
    example: Witness, tmp_path: Path, command: Command
) -> None:
    for arguments in (("backup", "nowhere/saved"), ("restore", "--replace", "nowhere/saved")):
        assert command(*arguments) == (1, "", "zfs_sync: nowhere/saved: No such file or directory\n")
    (tmp_path / "saved").write_text("no backup")
    done, _, complaint = command("restore", "--replace", "saved")
    assert (done, "this is no backup" in complaint, len(json.loads(command("systems", "--json")[1]))) == (1, True, 3)


def test_a_backup_with_a_damaged_file_says_so_and_restores_the_rest(
    example: Witness, tmp_path: Path, command: Command
) -> None:
    damaged = min((tmp_path / "data" / "events").iterdir())
    damaged.write_text("{")
    done, _, complaint = command("backup", "saved")
    assert (done, f"\nproblem: events/{damaged.name} is damaged: " in complaint) == (1, True)
    done, _, complaint = command("restore", "--replace", "saved")
    assert (done, complaint) == (0, f"left out: events/{damaged.name}: it was damaged when the backup was made\n")
    assert command("check")[0] == 0


def test_a_backup_takes_the_place_of_a_damaged_registry(example: Witness, tmp_path: Path, command: Command) -> None:
    assert command("backup", "saved")[0] == 0
    (tmp_path / "data/registry.json").write_text("{")
    assert "holds systems and keys that can't be read: --replace" in command("restore", "saved")[2]
    assert command("restore", "--replace", "saved")[0] == 0
    assert len(json.loads(command("systems", "--json")[1])) == 3


def test_a_backup_that_breaks_off_leaves_no_file(example: Witness, tmp_path: Path, command: Command) -> None:
    (tmp_path / "data" / "registry.json").unlink()
    (tmp_path / "data" / "registry.json").mkdir()
    assert command("backup", "saved")[0] == 1
    assert not (tmp_path / "saved").exists()


def test_a_backup_goes_through_a_pipe(example: Witness, tmp_path: Path) -> None:
    program = f"{sys.executable} {CHECKOUT}/zfs_sync.py"
    done = subprocess.run(
        f"{program} backup - | tar tzf -", shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert {"registry.json", "secret_key"} <= set(done.stdout.split())


# --- all of them ---------------------------------------------------------------------------------


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"], open_witness)
    assert capsys.readouterr().out == f"ZFS Sync {cli.VERSION}\n"


def test_the_configuration_is_named_before_or_after_the_command(
    example: Witness, tmp_path: Path, command: Command
) -> None:
    file = (tmp_path / "zfs_sync.yaml").rename(tmp_path / "other.yaml")
    assert "nas" not in command("systems")[1]
    assert "nas" in command("systems", "--config", str(file))[1]
    assert "nas" in command("--config", str(file), "systems")[1]


def test_a_reader_that_has_seen_enough_is_no_error(example: Witness, tmp_path: Path) -> None:
    program = f"{sys.executable} {CHECKOUT}/zfs_sync.py plan backup --json"
    done = subprocess.run(
        f"{program} | head -n 1; {program} >/dev/null", shell=True, cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_root_writes_nothing_into_a_store_of_another_user(example: Witness, tmp_path: Path, command: Command) -> None:
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        os.chown(path, 65534, 65534)
    done, said, complaint = command("plan", "backup")
    assert (done, said) == (1, "")
    assert re.fullmatch(
        r"zfs_sync: what lies in .*/data belongs to (\S+): run this as that user \(sudo -u \1 \.\.\.\)\n", complaint
    )
    assert {path.stat().st_uid for path in (tmp_path / "data").rglob("*")} == {65534}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_users_have_names_or_numbers() -> None:
    assert (user_name(0), user_name(4_000_000_000)) == ("root", "#4000000000")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "1 min"), (5399, "89 min"), (5400, "1 h"), (172799, "47 h"), (172800, "2 days")],
)
def test_times_in_words(seconds: int, words: str) -> None:
    assert span(seconds) == words


def test_moments_in_words() -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert [ago(moment, now) for moment in (None, "2026-11-22T11:58:00Z", "2026-11-22T12:00:09+00:00")] == [
        "never",
        "2 min ago",
        "0 s ago",
    ]


@pytest.mark.parametrize(
    ("number", "words"),
    [(None, "unknown"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (640 * 10**9, "640 GB"), (2 * 10**18, "2000 PB")],
)
def test_sizes_in_words(number: int | None, words: str) -> None:
    assert size(number) == words
