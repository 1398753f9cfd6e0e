"""What a stream passes on its way: a compressor and a buffer where both hosts have them, and the peer's guard."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_world import AGENT, COPY, FAKE, SHELLS, VIDEOS, Host, World, calls_of, make_world

LARGE = "5000000"  # bytes, from which on it is worth while
BUFFER = "mbuffer -q -s 128k -m 16M"
PUSHED = ["zstd -1cq", BUFFER], ["zstd -dcq", BUFFER]  # what runs on the source, and on the target
PROGRAM = """#!/bin/sh
echo "{name} $*" >>"$0.log"
{does}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        for host in (made.nas, made.backup):
            folder = tools(host)
            folder.mkdir()
            for name in ("sh", "env", "python3", "cat", "sleep"):
                (folder / name).symlink_to(f"/usr/bin/{name}")
            for name in ("zfs", "ssh"):
                (folder / name).symlink_to(FAKE / name)
            for name in ("zstd", "lz4", "mbuffer"):
                give(host, name)
        for host, peer in ((made.nas, made.backup), (made.backup, made.nas)):
            host.environment["PATH"] = f"{tools(host)}:/usr/bin:/bin"
            host.configure(remote_path=tools(peer))
        yield made


def tools(host: Host) -> Path:
    """A folder with the programs that a host has."""
    return host.folder.parent.parent / f"{host.name}.bin"


def give(host: Host, name: str, does: str = "") -> None:
    """Let a host have a program, which does what it should if nothing else is said."""
    works = "exec cat" if name == "mbuffer" else f'exec /usr/bin/{name} "$@"'
    (tools(host) / name).write_text(PROGRAM.format(name=name, does=does or works))
    (tools(host) / name).chmod(0o755)


def used(host: Host) -> list[str]:
    """What a host's compressors and buffers were called with."""
    return sorted(line for log in tools(host).glob("*.log") for line in log.read_text().splitlines())


def tie(host: Host, mode: str, shell: str = "dash", script: Path = AGENT) -> None:
    """Let ssh to a host run nothing but a guard, which finds what that host has."""
    roots = "tank" if mode == "send" else "vault"
    command = f"PATH={tools(host)}:/usr/bin:/bin; exec {shell} {script} guard {mode} {roots}"
    (host.folder / "guard").write_text(command)


def pulled(world: World) -> None:
    """All of the plan is for the target to do."""
    for row in world.witness.plan:
        row["executor_system_id"] = "backup"


def large(world: World, end: int = 3, base: int | None = None, **fields: str) -> dict[str, str]:
    return world.transfer(end, base, **({"estimated_size": LARGE} | fields))


# --- what it passes ------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("way", "guarded"), [("push", False), ("pull", True)])
def test_a_large_stream_is_compressed_and_buffered_on_both_hosts(
    world: World, way: str, shell: str, guarded: bool
) -> None:
    world.witness.plan = [large(world, 1), large(world, 3, base=1, depends_on="a1", rate_limit="1000000")]
    agent, peer, mode = world.nas, world.backup, "receive"
    if way == "pull":
        pulled(world)
        agent, peer, mode = world.backup, world.nas, "send"
    if guarded:
        tie(peer, mode, shell)
    run = agent.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)
    with world.backup.pools() as backup, world.nas.pools() as nas:
        assert backup.find(f"{COPY}@day 3").blocks == nas.find(f"{VIDEOS}@day 3").blocks
    assert (used(world.nas), used(world.backup)) == (sorted(PUSHED[0] * 2), sorted(PUSHED[1] * 2))
    assert run.stderr.count("compressed by zstd") == 2
    calls = (world.nas.folder.parent / "ssh.log").read_text().splitlines()
    assert len([call for call in calls if "'zfs'" in call]) == 3 + (way == "pull")  # one says how large the first is


@pytest.mark.parametrize(
    ("settings", "missing", "packer"),
    [
        ({}, "nas zstd", "lz4"),  # that is called off by the configuration here
        ({}, "backup zstd", "lz4"),
        ({}, "backup zstd lz4", ""),
        ({"compression": "zstd"}, "", "zstd"),
        ({"compression": "zstd"}, "backup zstd", ""),
        ({"compression": "lz4"}, "", "lz4"),
        ({"compression": "off"}, "", ""),
        ({"compression": "off", "mbuffer": "off"}, "", ""),
    ],
)
def test_both_hosts_must_have_it_and_want_it(world: World, settings: dict[str, str], missing: str, packer: str) -> None:
    world.nas.configure(**({"compression": "lz4"} if missing.startswith("nas") else settings))
    for name in missing.split()[1:] if missing.startswith("backup") else ():
        (tools(world.backup) / name).unlink()
    world.copied().witness.plan = [large(world, base=2)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)
    buffers = [] if "mbuffer" in settings else [BUFFER]
    assert used(world.nas) == sorted(([f"{packer} -1cq"] if packer else []) + buffers)
    assert used(world.backup) == sorted(([f"{packer} -dcq"] if packer else []) + buffers)
    asked = "for name in zstd" in (world.nas.folder.parent / "ssh.log").read_text()
    assert asked == ("mbuffer" not in settings)


def test_a_peer_without_a_buffer_leaves_it_here(world: World) -> None:
    (tools(world.backup) / "mbuffer").unlink()
    world.copied().witness.plan = [large(world, base=2)]
    assert world.nas.agent("run").returncode == 0
    assert (used(world.nas), used(world.backup)) == ([BUFFER, "zstd -1cq"], ["zstd -dcq"])


@pytest.mark.parametrize(
    ("way", "fields", "stored", "setting", "compressed"),
    [
        ("push", {}, "lz4", "auto", False),  # zfs has compressed it, and sends it so
        ("pull", {}, "lz4", "auto", False),
        ("push", {}, "lz4", "zstd", True),  # the configuration insists
        ("pull", {"estimated_size": "-"}, "off", "auto", True),
        ("push", {"estimated_size": "999999"}, "off", "auto", False),
        ("push", {"estimated_size": "1000000"}, "off", "auto", True),
        ("pull", {"estimated_size": "9" * 18}, "off", "auto", True),
        ("push", {"kind": "-"}, "lz4", "auto", False),
        ("push", {"kind": "-"}, "off", "auto", True),
    ],
)
def test_what_is_small_or_compressed_already_is_sent_as_it_is(
    world: World, fields: dict[str, str], stored: str, setting: str, compressed: bool, way: str
) -> None:
    with world.nas.pools() as nas:
        nas.dataset("tank").properties["compression"] = stored
    for host in (world.nas, world.backup):
        host.configure(compression=setting, mbuffer="off")
    world.copied().witness.plan = [large(world, base=2, **fields)]
    if way == "pull":
        pulled(world)
    run = (world.nas if way == "push" else world.backup).agent("run", shell="mksh")  # which counts to 2^31
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)
    assert used(world.nas) == ["zstd -1cq"] * compressed
    assert used(world.backup) == ["zstd -dcq"] * compressed


def test_what_is_encrypted_is_buffered_only(world: World) -> None:
    with world.nas.pools() as nas:
        nas.create("tank/secret", encryption="aes-256-gcm")
        guid = nas.snapshot("tank/secret", "one").guid
    names = {"dataset": "tank/secret", "target_dataset": "vault/nas/secret", "snapshot_guid": guid}
    world.nas.configure(compression="zstd")
    world.witness.plan = [large(world, 1, **names, snapshot_name="one", raw="true")]
    assert world.nas.agent("run").returncode == 0
    assert used(world.nas) == used(world.backup) == [BUFFER]


def test_nothing_is_compressed_within_a_host(world: World) -> None:
    row = large(world, 1, target_system_id="nas", target_dataset="tank/copy", target_ssh_hostname="-")
    world.witness.plan = [row]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.nas.guids("tank/copy") == world.nas.guids(VIDEOS)[:1]
    assert used(world.nas) == []


def test_the_rate_limit_is_for_what_goes_over_the_wire(world: World) -> None:
    with world.nas.pools() as nas:
        nas.write(VIDEOS, 3_000_000)
        for _ in range(60):
            nas.write(VIDEOS, 50_000)
        nas.snapshot(VIDEOS, "day 4")
    world.copied().witness.plan = [large(world, 4, base=2, rate_limit="100000")]
    begun = time.monotonic()
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert time.monotonic() - begun < 25  # it would be 30 s
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


@pytest.mark.parametrize(("ours", "theirs"), [("20000", "3000000000"), ("3000000000", "20000"), ("20000", "-")])
def test_of_two_rate_limits_the_lower_one_counts(world: World, ours: str, theirs: str) -> None:
    give(world.nas, "dd", 'exec /usr/bin/dd "$@"')
    world.nas.configure(rate_limit=ours)
    world.copied().witness.plan = [world.transfer(3, base=2, rate_limit=theirs)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert "dd bs=4096 count=5" in used(world.nas)


def test_progress_counts_what_zfs_sends(world: World) -> None:
    world.witness.lease_s = 3
    world.nas.fault('{"send": {"hang": 2}}')
    world.copied().witness.plan = [large(world, base=2)]
    assert world.nas.agent("run").returncode == 0
    told = [json.loads(body) for body in world.witness.bodies("/progress")]
    assert told[0] == {"bytes_done": 3500, "bytes_total": 3500}
    assert used(world.nas) == [BUFFER, "zstd -1cq"]


# --- older peers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_guard_that_does_not_know_of_it_is_asked_once(world: World, way: str) -> None:
    """An older one refuses the question, and the streams go as they are."""
    before, new, after = re.split(r"(?s)(?<=its own\n)(        if .*?\n        fi\n)", AGENT.read_text(), maxsplit=1)
    assert "check_filter" in new
    older = tools(world.nas) / "older-agent"
    older.write_text(before + after)
    world.witness.plan = [large(world, 1), large(world, 2, base=1), large(world, 3, base=2)]
    world.witness.plan[1]["depends_on"], world.witness.plan[2]["depends_on"] = "a1", "a2"
    agent, peer, mode = world.nas, world.backup, "receive"
    if way == "pull":
        pulled(world)
        agent, peer, mode = world.backup, world.nas, "send"
    tie(peer, mode, script=older)
    run = agent.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)
    assert (used(agent), used(peer)) == ([BUFFER] * 3, [])
    calls = (world.nas.folder.parent / "ssh.log").read_text().splitlines()
    assert len([call for call in calls if "for name in zstd" in call]) == 1
    assert len([call for call in calls if "'zfs'" in call]) == 5 + (way == "pull")


def test_a_peer_that_is_not_reached_is_not_asked_twice(world: World) -> None:
    world.witness.plan = [large(world, 1, target_ssh_hostname="nowhere")]
    assert world.nas.agent("run").returncode == 1
    assert "Could not resolve" in world.witness.finished["a1"][2]
    calls = (world.nas.folder.parent / "ssh.log").read_text().splitlines()
    assert len([call for call in calls if "'zfs'" in call]) == 2  # for the plan, and anew for the transfer


def test_what_a_peer_has_is_asked_anew_in_each_run_of_a_loop(world: World) -> None:
    world.nas.configure(heartbeat_s=1)
    world.witness.next_sync_s = 1
    (tools(world.backup) / "zstd").unlink()
    (tools(world.backup) / "lz4").unlink()
    world.witness.plan = [large(world, 1)]
    agent = subprocess.Popen(world.nas.command("loop"), env=world.nas.environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: "a1" in world.witness.finished)
    wait_until(lambda: not (world.nas.config.parent / "nas.state" / "lock").exists())
    give(world.backup, "zstd")
    world.witness.plan = [large(world, 3, base=1)]
    wait_until(lambda: "a3" in world.witness.finished)
    agent.send_signal(signal.SIGTERM)
    agent.wait(30)
    assert "zstd -dcq" in used(world.backup)


def wait_until(done: object) -> None:
    assert callable(done)
    for _ in range(1200):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


# --- each part counts ----------------------------------------------------------------------------

LOSES = "cat >/dev/null; exit 3"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "good: large streams pass zstd lz4 mbuffer where"),
        ({"compression": "lz4"}, "good: large streams pass lz4 mbuffer where"),
        ({"compression": "off"}, "note: large streams go as they are"),
        ({"compression": "off", "mbuffer": "off"}, ""),
    ],
)
def test_doctor_says_what_large_streams_pass(world: World, settings: dict[str, str], said: str) -> None:
    if said.startswith("note"):
        if shutil.which("mbuffer"):
            pytest.skip("mbuffer is installed here")
        (tools(world.nas) / "mbuffer").unlink()
    world.nas.configure(**settings)
    lines = [line for line in world.nas.agent("doctor").stdout.splitlines() if "large streams" in line]
    assert len(lines) == bool(said)
    assert all(line.startswith(said) for line in lines)


FAILS_LATE = {"zstd": '/usr/bin/zstd "$@"; exit 3', "mbuffer": "cat; exit 3"}


@pytest.mark.parametrize("name", ["zstd", "mbuffer"])
@pytest.mark.parametrize("way", ["push", "pull"])
@pytest.mark.parametrize("where", ["nas", "backup"])
def test_each_part_that_fails_at_the_very_end_is_a_failure(world: World, name: str, where: str, way: str) -> None:
    world.copied().witness.plan = [large(world, base=2)]
    give(world.nas if where == "nas" else world.backup, name, FAILS_LATE[name])
    agent = world.nas
    if way == "pull":
        pulled(world)
        agent = world.backup
    assert agent.agent("run").returncode == 1
    status, _, log = world.witness.finished["a3"]
    assert status == 1
    here = (where == "nas") == (way == "push")
    assert (f"{name} with 3" if here else ("receive with 3" if way == "push" else "send ended with 3")) in log


def test_a_part_of_which_nothing_is_heard_is_a_failure(world: World) -> None:
    """As when what waits for it on the peer is killed."""
    world.copied().witness.plan = [large(world, base=2)]
    give(world.backup, "zstd", '/usr/bin/zstd "$@"; kill -9 $PPID')
    assert world.nas.agent("run").returncode == 1
    assert "receive with 1" in world.witness.finished["a3"][2]


@pytest.mark.parametrize("name", ["zstd", "mbuffer"])
@pytest.mark.parametrize("where", ["nas", "backup"])
@pytest.mark.parametrize("does", [LOSES, "kill -9 $$"])
def test_what_a_part_loses_is_a_failure_and_nothing_hangs(world: World, name: str, where: str, does: str) -> None:
    world.copied().witness.plan = [large(world, base=2)]
    give(world.nas if where == "nas" else world.backup, name, does)
    assert world.nas.agent("run").returncode == 1
    assert world.witness.finished["a3"][0] == 1
    assert len(world.backup.guids(COPY)) == 2


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_sender_that_fails_at_the_very_end_is_a_failure(world: World, way: str, shell: str) -> None:
    """Though what compresses its stream ends well, and all of it has arrived."""
    world.copied().witness.plan = [large(world, base=2)]
    world.nas.fault('{"send": {"complaint": "warning: cannot send: Input/output error"}}')
    agent = world.nas
    if way == "pull":
        pulled(world)
        tie(world.nas, "send", shell)
        agent = world.backup
    assert agent.agent("run", shell=shell).returncode == 1
    status, _, log = world.witness.finished["a3"]
    assert status == 1
    assert "send ended with 1" in log
    assert used(world.nas) == [BUFFER, "zstd -1cq"]


def test_a_receiver_that_refuses_is_a_failure_with_its_reason(world: World) -> None:
    world.copied().witness.plan = [large(world, base=2)]
    world.backup.fault('{"receive": {"exit": 1, "stderr": "cannot receive: out of space"}}')
    assert world.nas.agent("run").returncode == 1
    assert "out of space" in world.witness.finished["a3"][2]
    assert calls_of(world.backup)[-1][0] == "receive"  # and nothing is read back


@pytest.mark.parametrize("shell", SHELLS)
def test_a_signal_ends_every_part(world: World, shell: str) -> None:
    world.copied().witness.plan = [large(world, base=2)]
    give(world.nas, "mbuffer", 'echo $$ >"$0.pid"; sleep 60; exec cat')
    agent = subprocess.Popen(
        world.nas.command("run", shell=shell.split()), env=world.nas.environment, stderr=subprocess.DEVNULL
    )
    wait_until((tools(world.nas) / "mbuffer.pid").exists)
    begun = time.monotonic()
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(30) == 1
    assert time.monotonic() - begun < 25
    assert "it was stopped on this host" in world.witness.finished["a3"][2]


# --- guard ---------------------------------------------------------------------------------------


def texts() -> dict[str, str]:
    """The words that agent and guard have in common."""
    return dict(re.findall(r"^ *(name_programs|filter_in|filter_out)='(.*)'$", AGENT.read_text(), re.M))


def test_the_words_that_a_guard_knows_are_these() -> None:
    """Guards elsewhere know them: with any of them name_programs must change, or an older guard refuses each stream."""
    assert texts() == {
        "name_programs": "for name in zstd lz4 mbuffer; do command -v $name; done; :",
        "filter_out": 'exec 4>&1; s=$({ { "$@" 3>&- 4>&-; echo $? >&3; } | $0 >&4 3>&- 4>&-; } 3>&1) && exit ${s:-1}',
        "filter_in": 'exec 4>&1; s=$({ { $0 3>&- 4>&-; echo $? >&3; } | "$@" >&4 3>&- 4>&-; } 3>&1) && exit ${s:-1}',
    }


SEND = "'zfs' 'send' '-vP' '-L' '-c' 'tank/home videos@day 1'"
RECEIVE = "'zfs' 'receive' '-s' '-u' 'tank/new'"
HOSTILE = {
    "receive": [
        f"'sh' '-c' 'IN' 'zstd -dcq /etc/shadow' {RECEIVE}",
        f"'sh' '-c' 'IN' 'zstd -dc' {RECEIVE}",
        f"'sh' '-c' 'IN' 'zstd -1cq' {RECEIVE}",
        f"'sh' '-c' 'IN' 'gzip -dcq' {RECEIVE}",
        f"'sh' '-c' 'IN' 'touch pwned' {RECEIVE}",
        f"'sh' '-c' 'IN' 'zstd -dcq; touch pwned' {RECEIVE}",
        f"'sh' '-c' 'IN' 'mbuffer -q -s 128k -m 16M -o pwned' {RECEIVE}",
        f"'sh' '-c' 'IN' 'mbuffer -q -s 128k -m 16T' {RECEIVE}",
        f"'sh' '-c' 'IN' 'zstd' '-dcq' {RECEIVE}",
        f"'sh' '-c' 'IN; touch pwned' 'zstd -dcq' {RECEIVE}",
        f"'sh' '-c' 'touch pwned' 'zstd -dcq' {RECEIVE}",
        f"'sh' '-c' 'OUT' 'zstd -1cq' {RECEIVE}",
        f"'sh' '-c' 'OUT' 'zstd -dcq' {RECEIVE}",
        f"'sh' '-e' 'IN' 'zstd -dcq' {RECEIVE}",
        f"'sh' 'IN' 'zstd -dcq' {RECEIVE}",
        f"'sh' {RECEIVE}",
        f"'sh' '-c' {RECEIVE}",
        f"'sh' '-c' 'IN' {RECEIVE}",
        f"'sh' '-c' 'IN' 'zstd -dcq' 'sh' '-c' 'IN' 'zstd -dcq' {RECEIVE}",
        f"'sh' '-c' 'IN' 'mbuffer -q -s 128k -m 16M' 'sh' '-c' 'IN' 'zstd -dcq' {RECEIVE}",
        f"'sh' '-c' 'IN' 'mbuffer -q -s 128k -m 16M' 'sh' '-c' 'IN' 'mbuffer -q -s 128k -m 16M' {RECEIVE}",
        "'sh' '-c' 'IN' 'zstd -dcq' 'zfs' 'list' '-Hp' 'tank/home videos'",
        "'sh' '-c' 'IN' 'zstd -dcq' 'zfs' 'version'",
        "'sh' '-c' 'IN' 'zstd -dcq' 'zfs' 'create' 'tank/new'",
        "'sh' '-c' 'IN' 'zstd -dcq' 'zfs' 'receive' '-F' 'tank/home videos'",
        "'sh' '-c' 'IN' 'zstd -dcq' 'zfs' 'receive' 'other/new'",
        "'sh' '-c' 'IN' 'zstd -dcq'",
        "'sh' '-c' 'IN' 'zstd -dcq' 'sh' '-c' 'touch pwned' 'x' 'y'",
        f"'sh' '-c' 'IN' 'zstd -dcq' {SEND}",
        f"'sh' '-c' 'IN' 'zstd -dcq' | {RECEIVE}",
        f"'zstd' '-dcq' | {RECEIVE}",
        "'sh' '-c' 'NAME; touch pwned'",
        "'sh' '-c' 'NAME' && 'touch' 'pwned'",
        "'sh' '-c' 'NAME' 'touch pwned'",
        "'sh' '-c' 'NAME' && 'sh' '-c' 'touch pwned'",
        "'sh' '-c' 'touch pwned'",
    ],
    "send": [
        f"'sh' '-c' 'OUT' 'zstd -dcq' {SEND}",
        f"'sh' '-c' 'OUT' 'zstd -1cq -o pwned' {SEND}",
        f"'sh' '-c' 'OUT' 'tee pwned' {SEND}",
        f"'sh' '-c' 'IN' 'zstd -1cq' {SEND}",
        f"'sh' '-c' 'IN' 'zstd -dcq' {SEND}",
        f"'sh' '-c' 'OUT' 'mbuffer -q -s 128k -m 16M' 'sh' '-c' 'OUT' 'lz4 -1cq' {SEND}",
        "'sh' '-c' 'OUT' 'zstd -1cq' 'zfs' 'send' '-vP' '-R' 'tank/home videos@day 1'",
        "'sh' '-c' 'OUT' 'zstd -1cq' 'zfs' 'send' '-vP' 'other/x@day 1'",
        "'sh' '-c' 'OUT' 'zstd -1cq' 'zfs' 'list' '-Hp' 'tank/home videos'",
        f"'sh' '-c' 'OUT' 'zstd -1cq' {RECEIVE}",
    ],
}


def guarded(world: World, mode: str, command: str) -> subprocess.CompletedProcess[bytes]:
    """What the guard of nas does with a command; IN, OUT and NAME stand for the words that agent and guard share."""
    known = texts()
    for short, name in (("'IN", "filter_in"), ("'OUT", "filter_out"), ("'NAME", "name_programs")):
        command = command.replace(short, f"'{known[name]}")
    return subprocess.run(
        ["dash", str(AGENT), "guard", mode, "tank"],
        env={**world.nas.environment, "SSH_ORIGINAL_COMMAND": command},
        cwd=world.nas.folder, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize(("mode", "command"), [(mode, command) for mode in HOSTILE for command in HOSTILE[mode]])
def test_a_guard_lets_a_stream_pass_nothing_else(world: World, mode: str, command: str) -> None:
    run = guarded(world, mode, command)
    assert run.returncode == 1
    assert b"guard: refused" in run.stderr
    assert run.stdout == b""
    assert calls_of(world.nas) == used(world.nas) == []
    assert not list(world.nas.folder.parent.parent.rglob("pwned"))


@pytest.mark.parametrize("packer", ["zstd", "lz4"])
def test_a_guard_lets_a_stream_pass_what_an_agent_would_use(world: World, packer: str) -> None:
    buffered = f"'sh' '-c' 'OUT' '{BUFFER}'"
    for way in (f"'sh' '-c' 'OUT' '{packer} -1cq'", buffered, f"'sh' '-c' 'OUT' '{packer} -1cq' {buffered}"):
        run = guarded(world, "send", f"'env' 'PATH=/nowhere' {way} 'sudo' {SEND}")
        assert run.returncode == 0, run.stderr
        if packer in way:
            run = subprocess.run([packer, "-dcq"], input=run.stdout, capture_output=True, check=True)
        assert run.stdout.startswith(b'{"stream"')


def test_a_guard_says_what_its_host_has(world: World) -> None:
    (tools(world.nas) / "mbuffer").unlink()
    said = guarded(world, "send", "'env' 'PATH=/nowhere' 'sh' '-c' 'NAME'").stdout.decode().split()
    assert said == [str(tools(world.nas) / name) for name in ("zstd", "lz4")]
