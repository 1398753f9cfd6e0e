"""Commands that ask a witness elsewhere, decide, follow, or talk to monitoring and shells."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cli
from cli.door import Here, There
from cli.trail import follow
from handlers.events import record
from handlers.local import request_here
from tests.lab import CHECKOUT
from tests.receiver import receiving
from tests.test_cli import Command, command, example  # noqa: F401  # fixtures
from tests.test_serve import Server, serving
from zfs_sync import open_witness

PROGRAM = (sys.executable, str(CHECKOUT / "zfs_sync.py"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("terminal"), "demo", "--port", "0") as running:
        running.wait_until(lambda: "Ctrl-C ends it" in running.said)
        running.wait_until(lambda: is_checked(running))
        yield running


def is_checked(server: Server) -> bool:
    """Whether the first tick has recorded what it saw: from then on nothing changes by itself."""
    groups = server.get("/api/v1/sync-groups", key_of(server, "viewer"))
    (id,) = [group["id"] for group in groups if group["name"] == "backup"]
    return server.get(f"/api/v1/sync/{id}/status", key_of(server, "viewer"))["checked_at"] is not None


@pytest.fixture
def over_http(server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command against the server, as an admin: its exit status, what it printed and what it complained about."""
    monkeypatch.setenv("ZFS_SYNC_URL", server.address)
    monkeypatch.setenv("ZFS_SYNC_KEY", key_of(server, "admin"))

    def run(*arguments: str) -> tuple[int, str, str]:
        done = cli.main(arguments, open_witness)
        return (done, *capsys.readouterr())

    return run


def key_of(server: Server, role: str) -> str:
    return str(re.findall(rf"{role} key +(\S+)", server.said)[0])


def config_of(server: Server) -> str:
    return str(re.findall(r"its groups: (\S+)", server.said)[0])


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--json"),
        ("plan", "backup", "--json"),
        ("plan", "backup", "--system", "nas", "--script"),
        ("systems", "--json"),
        ("conflicts", "backup", "--json"),
        ("events", "--json"),
    ],
    ids=" ".join,
)
def test_a_witness_elsewhere_answers_as_the_store_here_does(
    server: Server, over_http: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    far = over_http(*arguments)
    monkeypatch.delenv("ZFS_SYNC_URL")
    near = over_http(*arguments, "--config", config_of(server))
    moving = re.compile(r'"(lag_s|max_lag_s|seconds_since_last_seen|inventory_age_s)": \d+')
    assert (far[0], moving.sub("", far[1])) == (near[0], moving.sub("", near[1]))
    assert len(far[1]) > 500


def test_tables_are_the_same_too(server: Server, over_http: Command) -> None:
    done, said, _ = over_http("status", "backup")
    assert (done, said.splitlines()[0]) == (2, "CRITICAL: backup: 1 in conflict, 2 late, 2 behind, 9 in sync")
    assert over_http("plan", "nothing")[2] == "zfs_sync: no sync group 'nothing' (backup, offsite)\n"
    assert over_http("plan", "backup", "--system", "nsa")[2] == "zfs_sync: no system 'nsa'\n"


def test_a_key_can_stand_in_a_file(
    server: Server, over_http: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ZFS_SYNC_KEY")
    monkeypatch.delenv("ZFS_SYNC_URL")
    file = tmp_path / "key"
    file.write_text(key_of(server, "viewer") + "\n")
    assert over_http("systems", "--url", f"{server.address}/", "--key-file", str(file))[0] == 0
    done, _, complaint = over_http("systems", "--url", server.address)
    assert (done, "put it into ZFS_SYNC_KEY" in complaint) == (1, True)
    done, _, complaint = over_http("systems", "--url", server.address, "--key-file", "nowhere")
    assert (done, complaint) == (1, "zfs_sync: nowhere: No such file or directory\n")


def test_what_goes_wrong_on_the_way_is_one_line(
    server: Server, over_http: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert over_http("status", "--url", "witness:8000")[:2] == (3, "")
    assert "expected an address such as" in over_http("systems", "--url", "file:///etc/passwd")[2]
    assert "cannot be reached: " in over_http("systems", "--url", "http://127.0.0.1:1")[2]
    with receiving() as other:
        other.statuses += [404, 500]
        assert "is the address right?" in over_http("systems", "--url", other.address)[2]
        assert "is the address right?" in over_http("systems", "--url", other.address)[2]
    monkeypatch.setenv("ZFS_SYNC_KEY", "viewer.wrong-secret-0123456789")
    done, said, complaint = over_http("status")
    assert (done, said, complaint) == (3, "", "zfs_sync: that API key is not known here\n")


def test_the_address_and_the_key_are_no_settings(server: Server, over_http: Command, tmp_path: Path) -> None:
    (tmp_path / "zfs_sync.yaml").write_text("")
    assert over_http("check", "--config", str(tmp_path / "zfs_sync.yaml"))[0] == 0


# --- deciding ------------------------------------------------------------------------------------


def conflict_of(run: Command) -> Any:
    return next(each for each in json.loads(run("conflicts", "--json")[1]) if each["type"] == "diverged")


def test_a_conflict_is_looked_at_and_then_decided(over_http: Command) -> None:
    id = conflict_of(over_http)["id"]
    done, said, hint = over_http("resolve", id[:6], "manual", "--system", "nas", "--dry-run")
    assert (done, hint) == (0, "nothing was decided: leave out --dry-run for that\n")
    assert said.startswith("manual: nas wins. ")
    assert "on backup: rename vault/nas/documents" in said
    assert conflict_of(over_http)["status"] == "open"
    refused = over_http("resolve", id, "use_newest", "--discard", "--dry-run")
    assert (refused[0], "whether vault/nas/documents@edited-here has holds is not known" in refused[2]) == (1, True)
    assert over_http("resolve", id, "use_majority") == (1, "", "zfs_sync: a tie, 1 to 1: nas against backup\n")
    done, said, hint = over_http("resolve", id, "manual", "--system", "nas", "--json")
    assert (done, json.loads(said)["status"], hint) == (0, "pending", "")
    assert "conflict.resolved  documents  by " in over_http("events", "--what", "conflict.resolved")[1]


def test_what_is_not_decided_says_why(over_http: Command) -> None:
    assert over_http("resolve", "ffffffff-ffff", "ignore")[2].startswith(
        "zfs_sync: no conflicts have an id that begins"
    )
    assert re.match(r"zfs_sync: \d+ conflicts have an id", over_http("resolve", "", "ignore")[2])
    for wrong in (("manual",), ("ignore", "--system", "nas")):
        assert "--system HOST" in over_http("resolve", "0", *wrong)[2]


# --- events --------------------------------------------------------------------------------------


def test_events_go_on_and_none_comes_twice(example: Any, command: Command) -> None:  # noqa: F811
    request = request_here(example)
    door = Here(request)
    found = door.ask("list_events", {"limit": 1000})[::-1]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) != 2:
            record(request_here(example), "tried", subject=f"{len(waits)}a")
            record(request_here(example), "tried", subject=f"{len(waits)}b")

    following = follow(door, {}, found, wait)
    assert [next(following)["subject"] for _ in range(4)] == ["1a", "1b", "3a", "3b"]
    assert len(waits) == 3


def test_events_are_lines_the_newest_last(example: Any, command: Command) -> None:  # noqa: F811
    record(request_here(example), "tried", subject="a\x1b[31m\nforged", reason="why")
    done, said, _ = command("events", "--limit", "2")
    assert (done, len(said.splitlines())) == (0, 2)
    assert re.fullmatch(r"\S+ \S+  tried  a\?\[31m\?forged  by local:\S+ from local  reason=why", said.splitlines()[1])


def test_followed_events_come_as_they_happen(server: Server) -> None:
    environ = {**os.environ, "ZFS_SYNC_URL": server.address, "ZFS_SYNC_KEY": key_of(server, "admin")}
    takes_ctrl_c = ("env", "--default-signal=INT")  # also where the tests run in the background, which ignores it
    argv = [*takes_ctrl_c, *PROGRAM, "events", "--follow", "--json", "--limit", "1"]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = json.loads(process.stdout.readline())
        subprocess.run(
            [*PROGRAM, "keys", "create", "viewer", "--config", config_of(server)], check=True, capture_output=True
        )
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr
        assert process.stderr.read() == ""
    assert (second["what"], first["id"] != second["id"]) == ("key.created", True)


# --- monitoring plugins and shells ---------------------------------------------------------------


def test_the_line_for_monitoring_plugins_has_performance_data(example: Any, command: Command) -> None:  # noqa: F811
    done, said, _ = command("status", "backup", "--nagios")
    assert done == 2
    found = re.fullmatch(
        r"ZFS SYNC CRITICAL - backup: 1 in conflict, 2 late, 2 behind, 9 in sync"
        r" \| conflicts=1 errors=0 late=(\d) datasets=\d\d max_lag=(\d+)s\n",
        said,
    )
    assert found
    assert int(found[1]) >= 2
    assert int(found[2]) > 12 * 86400


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_commands(command: Command, shell: str) -> None:  # noqa: F811
    done, script, _ = command("completion", shell)
    assert done == 0
    assert {"status", "resolve", "--nagios"} <= set(re.findall(r"[\w-]+", script))
    if shell == "bash":
        asked = 'COMP_WORDS=(zfs_sync.py sta); COMP_CWORD=1; _shtab_zfs_sync_py; echo "${COMPREPLY[@]}"'
        done_ = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=False)
        assert "status" in done_.stdout.split(), done_.stderr


def test_there_is_no_way_out_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name from outside is one part of a path."""
    called: list[str] = []

    def fake(request: Any, timeout: int) -> Any:
        called.append(request.full_url)
        raise OSError("not sent")

    monkeypatch.setattr("urllib.request.urlopen", fake)
    door: There = There("http://witness/base", "k.secret")
    ask: Callable[..., Any] = door.ask
    with pytest.raises(Exception, match="cannot be reached"):
        ask("show_system", system_id="../x?y#z")
    assert called == ["http://witness/base/systems/..%2Fx%3Fy%23z"]
