"""Steps as commands. Every line that a shell is given is run by a real one, with programs that say what they got."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.commands import SCRIPT_HEAD, SCRIPT_TAIL, commands_of, script_block, shell_line
from planner.model import Bookmark, Member, Policy, Replica, Snapshot, Step
from tests.tokens import encode_resume_token

POLICY = Policy("group", "media")
NAS = Member("nas-id", "nas", root="tank", ssh_user="zsync", ssh_port=2222)
BACKUP = Member(
    "backup-id",
    "backup",
    root="vault/nas",
    ssh_hostname="backup.example.org",
    replicas={"vault/nas/a b": Replica("vault/nas/a b", snapshots=tuple(Snapshot(f"s {n}", str(n)) for n in "1234"))},
)
MEMBERS = {member.system_id: member for member in (NAS, BACKUP)}
ONE, TWO = Snapshot("s 1", "1001"), Snapshot("s 2", "1002")
MARK = Bookmark("m 1", "1001")
NEW = ["-o", "readonly=on", "-o", "canmount=noauto", "-x", "mountpoint"]


def a_step(type: str, **fields: Any) -> Step:
    """A push of "a b" from nas to backup, or what the fields say."""
    transfer = type in ("create", "sync", "resume")
    source = {"source": "nas-id", "source_dataset": "tank/a b"} if transfer else {}
    defaults: dict[str, Any] = {
        "action_id": "id",
        "path": "a b",
        "executor": "nas-id" if transfer else "backup-id",
        "target": "backup-id",
        "target_dataset": "vault/nas/a b",
        "reason": "because",
        **source,
    }
    return Step(type=type, **{**defaults, **fields})  # type: ignore[arg-type]


def send_and_receive(step: Step, policy: Policy = POLICY) -> tuple[list[str], list[str]]:
    """A push's two commands, the second as the remote shell splits it."""
    send, over_ssh = commands_of(step, policy, MEMBERS)
    assert over_ssh[:6] == ("ssh", "-o", "BatchMode=yes", "-p", "22", "backup.example.org")
    return list(send), shlex.split(over_ssh[6])


# --- which flags ---------------------------------------------------------------------------------


def test_a_full_stream_makes_a_replica_that_stays_out_of_the_way() -> None:
    send, receive = send_and_receive(a_step("create", end=ONE, embedded=True))
    assert send == ["zfs", "send", "-L", "-c", "-e", "tank/a b@s 1"]
    assert receive == ["zfs", "receive", "-s", "-u", *NEW, "vault/nas/a b"]


def test_a_volume_has_no_mountpoint() -> None:
    step = a_step("create", end=ONE, kind="volume", properties=(("canmount", "off"), ("compression", "zstd")))
    _, receive = send_and_receive(step)
    assert receive == ["zfs", "receive", "-s", "-u", "-o", "readonly=on", "-o", "compression=zstd", "vault/nas/a b"]


def test_wanted_properties_go_before_ours() -> None:
    step = a_step("create", end=ONE, properties=(("readonly", "off"), ("mountpoint", "/srv/a b")))
    _, receive = send_and_receive(step)
    assert receive[4:-1] == ["-o", "readonly=off", "-o", "canmount=noauto", "-o", "mountpoint=/srv/a b"]
    policy = replace(POLICY, properties=(("compression", "zstd"),))
    _, receive = send_and_receive(a_step("create", end=ONE), policy)
    assert receive[4:-1] == [*NEW[:4], "-o", "compression=zstd", *NEW[4:]]


def test_an_increment_changes_no_property() -> None:
    policy = replace(POLICY, properties=(("compression", "zstd"),))
    send, receive = send_and_receive(a_step("sync", base=ONE, end=TWO), policy)
    assert send == ["zfs", "send", "-L", "-c", "-i", "tank/a b@s 1", "tank/a b@s 2"]
    assert receive == ["zfs", "receive", "-s", "-u", "vault/nas/a b"]


def test_intermediates_come_along_except_from_a_bookmark() -> None:
    send, _ = send_and_receive(a_step("sync", base=ONE, end=TWO, intermediates=True))
    assert send[4:] == ["-I", "tank/a b@s 1", "tank/a b@s 2"]
    send, _ = send_and_receive(a_step("sync", base=MARK, end=TWO, intermediates=True))
    assert send[4:] == ["-i", "tank/a b#m 1", "tank/a b@s 2"]


def test_a_raw_stream_takes_no_other_flag() -> None:
    send, _ = send_and_receive(a_step("sync", base=ONE, end=TWO, raw=True, embedded=True))
    assert send == ["zfs", "send", "-w", "-i", "tank/a b@s 1", "tank/a b@s 2"]


def test_an_increment_as_a_clone_makes_a_dataset() -> None:
    send, receive = send_and_receive(a_step("sync", base=ONE, end=TWO, origin="vault/nas/a b.aside-01234567@s 1"))
    assert send[4:] == ["-i", "tank/a b@s 1", "tank/a b@s 2"]
    assert receive[4:-1] == [*NEW, "-o", "origin=vault/nas/a b.aside-01234567@s 1"]


def test_resuming() -> None:
    rest = encode_resume_token("tank/a b@s 2", 1002, 1001)
    send, receive = send_and_receive(a_step("resume", base=ONE, end=TWO, resume_token=rest))
    assert send == ["zfs", "send", "-t", rest]
    assert receive == ["zfs", "receive", "-s", "-u", "vault/nas/a b"]
    _, receive = send_and_receive(a_step("resume", end=TWO, resume_token=rest))  # the token knows its base
    assert receive == ["zfs", "receive", "-s", "-u", "vault/nas/a b"]
    full = encode_resume_token("tank/a b@s 1", 1001)
    _, receive = send_and_receive(a_step("resume", end=ONE, resume_token=full))
    assert receive[4:-1] == NEW


def test_a_pull_runs_the_send_over_ssh() -> None:
    over_ssh, receive = commands_of(a_step("sync", base=ONE, end=TWO, executor="backup-id"), POLICY, MEMBERS)
    assert over_ssh[:6] == ("ssh", "-o", "BatchMode=yes", "-p", "2222", "zsync@nas")
    assert shlex.split(over_ssh[6]) == ["zfs", "send", "-L", "-c", "-i", "tank/a b@s 1", "tank/a b@s 2"]
    assert receive == ("zfs", "receive", "-s", "-u", "vault/nas/a b")


def test_one_host_needs_no_ssh() -> None:
    send, receive = commands_of(a_step("create", end=ONE, target="nas-id"), POLICY, MEMBERS)
    assert (send[:2], receive[:2]) == (("zfs", "send"), ("zfs", "receive"))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (a_step("rollback", end=ONE), ["zfs", "rollback", "-r", "vault/nas/a b@s 1"]),
        (a_step("delete", expected_guids=("3", "9", "1")), ["zfs", "destroy", "vault/nas/a b@s 1,s 3"]),
        (a_step("rename", new_name="vault/nas/c"), ["zfs", "rename", "vault/nas/a b", "vault/nas/c"]),
        (a_step("promote"), ["zfs", "promote", "vault/nas/a b"]),
        (
            a_step("bookmark", end=ONE, new_name="vault/nas/a b#s 1"),
            ["zfs", "bookmark", "vault/nas/a b@s 1", "vault/nas/a b#s 1"],
        ),
        (a_step("release", new_name="vault/nas/a b#zfs-sync-1"), ["zfs", "destroy", "vault/nas/a b#zfs-sync-1"]),
        (a_step("abort_receive"), ["zfs", "receive", "-A", "vault/nas/a b"]),
        (
            a_step("create_parent", properties=(("compression", "zstd"), ("readonly", "off"))),
            ["zfs", "create", "-o", "canmount=off", "-o", "readonly=off", "-o", "compression=zstd", "vault/nas/a b"],
        ),
    ],
    ids=lambda value: value.type if isinstance(value, Step) else "",
)
def test_single_commands(step: Step, expected: list[str]) -> None:
    assert [list(argv) for argv in commands_of(step, POLICY, MEMBERS)] == [expected]


def test_a_pushing_source_makes_the_parents_that_its_target_lacks() -> None:
    [argv] = commands_of(a_step("create_parent", executor="nas-id"), POLICY, MEMBERS)
    assert argv[:6] == ("ssh", "-o", "BatchMode=yes", "-p", "22", "backup.example.org")
    assert shlex.split(argv[6])[:2] == ["zfs", "create"]


def test_only_a_bookmark_is_released() -> None:
    with pytest.raises(AssertionError, match="nothing but a bookmark"):
        commands_of(a_step("release", new_name="vault/nas/a b"), POLICY, MEMBERS)


def test_guids_that_are_gone_leave_nothing_to_destroy() -> None:
    assert commands_of(a_step("delete", expected_guids=("9",)), POLICY, MEMBERS) == ()
    assert commands_of(a_step("delete", expected_guids=("1",), target_dataset="vault/x"), POLICY, MEMBERS) == ()


@pytest.mark.parametrize(
    "bad", [{"ssh_user": "-oProxyCommand=x"}, {"ssh_hostname": "-v"}, {"ssh_hostname": "-v", "ssh_user": "u"}]
)
def test_an_address_is_never_an_option(bad: dict[str, str]) -> None:
    members = {**MEMBERS, "backup-id": replace(BACKUP, **bad)}  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="address"):
        commands_of(a_step("create", end=ONE), POLICY, members)


# --- what a real shell makes of it ---------------------------------------------------------------

FAKE_ZFS = """#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.environ.get("HOST", "here"), *sys.argv[1:]]) + "\\n")
if sys.argv[1] == "get":
    print(json.loads(os.environ["VALUES"]).get(sys.argv[-1] + " " + sys.argv[-2], "-"))
elif sys.argv[1] == "send":
    print("stream")
elif sys.argv[1] == "receive" and sys.argv[2] != "-A":
    sys.exit(0 if sys.stdin.read() == "stream\\n" else 1)
"""
FAKE_SSH = """#!/bin/sh
[ "$1 $2 $3" = "-o BatchMode=yes -p" ] || exit 255
HOST="$5:$4" exec sh -c "$6"
"""


class Host:
    """A host whose zfs and ssh note what they were called with."""

    def __init__(self, folder: Path) -> None:
        for name, text in (("zfs", FAKE_ZFS.format(python=sys.executable)), ("ssh", FAKE_SSH)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.calls = folder / "calls"
        self.env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(self.calls)}

    def sh(
        self, text: str, values: dict[str, str] | None = None, *, piped: bool = False
    ) -> tuple[int, list[list[str]]]:
        """Run text with sh -c, or through its standard input: exit status, and each call as [host, *arguments]."""
        self.calls.write_text("")
        env = {**self.env, "VALUES": json.dumps(values or {})}
        argv, stdin = (["sh"], text) if piped else (["sh", "-c", text], "")
        done = subprocess.run(argv, input=stdin, env=env, check=False, capture_output=True, text=True, timeout=60)
        self.stderr = done.stderr
        return done.returncode, [json.loads(line) for line in self.calls.read_text().splitlines()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_push_line(host: Host) -> None:
    status, calls = host.sh(shell_line(commands_of(a_step("create", end=ONE), POLICY, MEMBERS)))
    assert status == 0
    assert sorted(calls) == [
        ["backup.example.org:22", "receive", "-s", "-u", *NEW, "vault/nas/a b"],
        ["here", "send", "-L", "-c", "tank/a b@s 1"],
    ]


hostile = st.text(st.sampled_from(" '\"$`\\;|&<>()*?~#!{}[]=\n\tab-"), min_size=1, max_size=12)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(hostile, hostile, hostile)
def test_any_word_arrives_as_it_is(host: Host, dataset: str, name: str, value: str) -> None:
    end = Snapshot(name, "1")
    step = a_step(
        "create", end=end, source_dataset="t" + dataset, target_dataset="v" + dataset, properties=(("p", value),)
    )
    for executor in ("nas-id", "backup-id"):
        _, calls = host.sh(shell_line(commands_of(replace(step, executor=executor), POLICY, MEMBERS)))
        send, receive = sorted((call[1:] for call in calls), key=lambda call: call[0] == "receive")
        assert send == ["send", "-L", "-c", f"t{dataset}@{name}"]
        assert receive == ["receive", "-s", "-u", *NEW[:4], "-o", f"p={value}", *NEW[4:], f"v{dataset}"]


SOURCE_GUIDS = {"tank/a b@s 1 guid": "1001", "tank/a b@s 2 guid": "1002"}
ARRIVED = {"vault/nas/a b@s 2 guid": "1002"}
SYNC = a_step("sync", base=ONE, end=TWO)


def script(*steps: Step) -> str:
    return SCRIPT_HEAD + "".join(script_block(step, POLICY, MEMBERS) for step in steps) + SCRIPT_TAIL


@pytest.mark.parametrize("executor", ["nas-id", "backup-id"])
@pytest.mark.parametrize("piped", [True, False])
def test_a_script_checks_transfers_and_reads_back(host: Host, executor: str, piped: bool) -> None:
    step = replace(SYNC, executor=executor)
    status, calls = host.sh(script(step, step), {**SOURCE_GUIDS, **ARRIVED}, piped=piped)
    assert (status, host.stderr) == (0, "")
    nas, backup = ("here", "backup.example.org:22") if executor == "nas-id" else ("zsync@nas:2222", "here")
    get = ["get", "-Hp", "-o", "value", "guid"]
    once = [
        [nas, *get, "tank/a b@s 2"],
        [nas, *get, "tank/a b@s 1"],
        [nas, "send", "-L", "-c", "-i", "tank/a b@s 1", "tank/a b@s 2"],
        [backup, "receive", "-s", "-u", "vault/nas/a b"],
        [backup, *get, "vault/nas/a b@s 2"],
    ]
    assert sorted(calls) == sorted(once + once)


@pytest.mark.parametrize("changed", ["tank/a b@s 1 guid", "tank/a b@s 2 guid"])
def test_a_script_leaves_alone_what_no_longer_fits(host: Host, changed: str) -> None:
    status, calls = host.sh(script(SYNC), {**SOURCE_GUIDS, **ARRIVED, changed: "7"})
    assert status == 1
    assert host.stderr == "no longer fits: sync vault/nas/a b\n"
    assert {call[1] for call in calls} == {"get"}


def test_a_script_notices_that_nothing_arrived(host: Host) -> None:
    status, _ = host.sh(script(SYNC), SOURCE_GUIDS)
    assert (status, host.stderr) == (1, "failed: sync vault/nas/a b\n")


def test_a_script_goes_on_after_a_failure(host: Host) -> None:
    parent = a_step("create_parent", executor="nas-id", source="nas-id")
    status, calls = host.sh(script(SYNC, parent), {})
    assert status == 1
    assert calls[-1][:2] == ["backup.example.org:22", "create"]


@pytest.mark.parametrize(
    ("step", "facts"),
    [
        (
            a_step("rename", end=ONE, new_name="vault/nas/c", expected_written=5),
            {"vault/nas/a b@s 1 guid": "1001", "vault/nas/a b written": "5"},
        ),
        (a_step("promote", end=TWO), {"vault/nas/a b@s 2 guid": "1002"}),
        (a_step("bookmark", end=ONE, new_name="vault/nas/a b#m"), {"vault/nas/a b@s 1 guid": "1001"}),
        (a_step("abort_receive", resume_token="1-2-3-44"), {"vault/nas/a b receive_resume_token": "1-2-3-44"}),
    ],
    ids=lambda value: value.type if isinstance(value, Step) else "",
)
def test_a_script_checks_what_a_change_was_judged_by(host: Host, step: Step, facts: dict[str, str]) -> None:
    status, calls = host.sh(script(step), facts)
    assert (status, calls[-1][1:]) == (0, list(commands_of(step, POLICY, MEMBERS)[0][1:]))
    for fact in facts:
        status, calls = host.sh(script(step), {**facts, fact: "other"})
        assert (status, {call[1] for call in calls}) == (1, {"get"}), fact


def test_a_script_checks_the_token_before_it_resumes(host: Host) -> None:
    token = encode_resume_token("tank/a b@s 2", 1002, 1001)
    step = a_step("resume", base=ONE, end=TWO, resume_token=token)
    status, calls = host.sh(script(step), {"vault/nas/a b receive_resume_token": token, **ARRIVED})
    assert (status, ["here", "send", "-t", token] in calls) == (0, True)
    status, calls = host.sh(script(step), {"vault/nas/a b receive_resume_token": "-", **ARRIVED})
    assert (status, {call[1] for call in calls}) == (1, {"get"})


@pytest.mark.parametrize("type", ["delete", "rollback", "rename", "release"])
def test_a_script_destroys_nothing(host: Host, type: str) -> None:
    step = a_step(
        type,
        end=ONE,
        destructive=type == "rename",
        expected_guids=("1",),
        new_name="x",
        reason="x is gone\n zfs destroy y",
    )
    status, calls = host.sh(script(step))
    assert (status, calls) == (0, [])
    assert "left out" in script(step)


@pytest.mark.parametrize("breaker", ["\n", "\r", "\x0b", "\x85", "\u2028", "\0"])
def test_a_reason_never_leaves_its_comment(host: Host, breaker: str) -> None:
    block = script_block(
        a_step("promote", reason=f"why{breaker}zfs destroy x", target_dataset=f"v{breaker}zfs x"), POLICY, MEMBERS
    )
    assert block.splitlines()[0].endswith("why zfs destroy x")
