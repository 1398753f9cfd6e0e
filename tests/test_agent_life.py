"""The agent's own life: configuration, registration, reports, the lock, signals, who can see its keys."""

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_world import AGENT, COLUMNS, COPY, FAKE, SHELLS, VIDEOS, World, calls_of, make_host, make_world, shells
from tests.programs import need


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


# --- configuration and registration --------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "ssh_user = $(touch pwned)",
        "witness = http://x/$(touch pwned)",
        "zfs = zfs; touch pwned",
        'api_key = x"y',
        "ssh_port = 22x",
        "system_id = ../x",
        "roots = tank,../x",
        "destructive_steps = perhaps",
        "no_such_key = 1",
        "just words",
        "witness = nas:8000",
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(world: World, line: str, tmp_path: Path) -> None:
    with world.nas.config.open("a") as file:
        file.write(line)
    run = world.nas.agent("run")
    assert run.returncode == 2, run.stderr
    assert str(world.nas.config) in run.stderr
    assert world.witness.calls == []
    assert not list(tmp_path.rglob("pwned"))


def test_wrong_usage_shows_the_usage(world: World) -> None:
    for arguments in ([], ["dance"], ["run", "x"]):
        run = world.nas.agent(*arguments)
        assert run.returncode == 2
        assert "zfs-sync-agent [--config FILE] register" in run.stderr
    assert world.nas.agent("--config", "/nowhere", "run").returncode == 2


def test_register_writes_its_key_for_its_owner_only(world: World, tmp_path: Path) -> None:
    host = make_host("new", tmp_path, world.witness.address, enroll_key="e1.s3cret", ssh_user="repl", ssh_port=2222)
    host.config.chmod(0o644)
    assert host.agent("run").returncode == 2  # not registered
    run = host.agent("register")
    assert run.returncode == 0, run.stderr
    assert json.loads(world.witness.bodies("/register")[0]) == {
        "hostname": "new",
        "platform": "linux",
        "ssh_hostname": "new",
        "ssh_user": "repl",
        "ssh_port": 2222,
    }
    assert world.witness.calls[-1][3]["X-API-Key"] == "e1.s3cret"
    assert stat.S_IMODE(host.config.stat().st_mode) == 0o600
    assert "api_key=k1.secret" in host.config.read_text()
    assert host.agent("report").returncode == 0
    assert world.witness.calls[-1][3]["X-API-Key"] == "k1.secret"
    assert host.agent("register").returncode == 2  # once is enough


def test_a_refused_registration_says_why(world: World, tmp_path: Path) -> None:
    host = make_host("new", tmp_path, world.witness.address, enroll_key="e1.s3cret")
    world.witness.refusals["register"] = 409
    run = host.agent("register")
    assert run.returncode == 1
    assert "409 scripted refusal" in run.stderr
    assert "api_key" not in host.config.read_text()


def test_nobody_registers_who_cannot_keep_the_key(world: World, tmp_path: Path) -> None:
    host = make_host("new", tmp_path, world.witness.address, enroll_key="e1.s3cret")
    (tmp_path / "new.conf.new").mkdir()
    run = host.agent("register")
    assert run.returncode == 1
    assert "the key would be lost" in run.stderr
    assert world.witness.calls == []


@pytest.mark.parametrize("shell", shells("dash", "mksh"))  # printf is a program of its own to mksh
def test_no_key_is_on_any_command_line(world: World, shell: str) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    trace = world.nas.folder / "trace"
    command = [need("strace"), "-f", "-qq", "-e", "trace=execve", "-s", "4000", "-v", "-o", str(trace)]
    run = subprocess.run(
        command + world.nas.command("run", shell=[shell]),
        env=world.nas.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "nas.secret" not in trace.read_text()
    assert "t0ken" not in trace.read_text()


# --- reports -------------------------------------------------------------------------------------


def test_a_stale_inventory_is_reported_as_zfs_lists_it(world: World) -> None:
    world.witness.inventory = "stale"
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    heartbeat = json.loads(world.witness.bodies("/heartbeat")[0])
    assert len(heartbeat["inventory_digest"]) == 64
    assert heartbeat["zfs_version"] == "zfs-2.1.11-1"
    with world.nas.pools() as pools:
        assert world.witness.bodies("/inventory")[0].decode() == pools.listing(COLUMNS.split(","))
    method, path, _, headers = next(call for call in world.witness.calls if "/inventory" in call[1])
    assert (method, path) == ("PUT", f"/api/v1/systems/nas/inventory?columns={COLUMNS}")
    assert headers["Content-Type"] == "text/tab-separated-values"
    assert headers["Content-Encoding"] == "gzip"


def test_a_current_inventory_is_reported_in_full_only_now_and_then(world: World, tmp_path: Path) -> None:
    world.nas.agent("run")
    assert world.witness.bodies("/inventory") == []
    (tmp_path / "nas.state" / "reported").write_text("1000000000\n")
    world.nas.agent("run")
    world.nas.agent("run")
    assert len(world.witness.bodies("/inventory")) == 1


def test_the_iv_sets_are_asked_for_where_something_is_encrypted(world: World) -> None:
    with world.nas.pools() as pools:
        pools.create("tank/secret", encryption="aes-256-gcm")
        pools.snapshot("tank/secret", "one")
    assert world.nas.agent("report").returncode == 0
    assert world.witness.paths("mountpoint,ivsetguid") != []


def test_an_old_zfs_is_asked_for_fewer_columns(world: World) -> None:
    world.nas.fault('{"list": {"unknown": "userrefs"}}')
    run = world.nas.agent("report")
    assert run.returncode == 0, run.stderr
    assert world.witness.paths("resume_token,origin") != []


@pytest.mark.parametrize("roots", ["", f"tank/later,{VIDEOS}"])
def test_nothing_is_sent_when_zfs_list_fails(world: World, roots: str) -> None:
    world.nas.configure(roots=roots)
    world.nas.fault('{"list": {"exit": 1, "stderr": "internal error: pool is suspended"}}')
    for command in ("run", "report"):
        run = world.nas.agent(command)
        assert run.returncode == 1
        assert "pool is suspended" in run.stderr
    assert world.witness.calls == []


def test_a_refused_report_stops_the_run(world: World) -> None:
    world.witness.inventory = "stale"
    world.witness.refusals["inventory"] = 507
    world.copied().witness.plan = [world.transfer(3, base=2)]
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert world.witness.paths("/start") == []


# --- one at a time, and a clean end --------------------------------------------------------------


def begin(world: World, *arguments: str, hang: float, shell: str = "dash") -> subprocess.Popen[bytes]:
    """An agent whose transfer has sent everything but its end, which comes after so many seconds."""
    world.nas.fault(json.dumps({"send": {"hang": hang}}))
    with (world.nas.folder / "said").open("wb") as said:
        started = subprocess.Popen(
            world.nas.command(*arguments, shell=shell.split()),
            env=world.nas.environment,
            stderr=said,
            stdin=subprocess.DEVNULL,
        )
    files = world.nas.config.parent / "nas.state"
    wait_until(lambda: any("\t3500\t" in file.read_text() for file in files.glob("tmp.*/*/send.err")))
    return started


def wait_until(done: object) -> None:
    """Return as soon as a condition holds. Gives up after half a minute."""
    assert callable(done)
    for _ in range(600):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


def test_one_run_at_a_time(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    first = begin(world, "run", hang=2)
    second = world.nas.agent("run")
    assert second.returncode == 75
    assert f"process {first.pid}" in second.stderr
    assert first.wait() == 0
    assert world.nas.agent("run").returncode == 0


@pytest.mark.parametrize("holder", ["999999", "1", "", "x"])
def test_a_lock_left_behind_is_taken_over(world: World, tmp_path: Path, holder: str) -> None:
    state = tmp_path / "nas.state"
    (state / "lock").write_text(f"{holder}\n")  # a process that is gone, or one that is no agent
    (state / "tmp.999999").mkdir()
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert {path.name for path in state.iterdir()} == {"reported"}


def test_what_a_killed_process_left_goes_and_what_another_uses_stays(world: World, tmp_path: Path) -> None:
    killed = tmp_path / "nas.state/tmp.999999"
    killed.mkdir()
    world.nas.configure(heartbeat_s=60)
    agent = subprocess.Popen(world.nas.command("loop"), env=world.nas.environment, stderr=subprocess.DEVNULL)
    try:
        used = tmp_path / f"nas.state/tmp.{agent.pid}"
        wait_until(lambda: world.witness.bodies("/heartbeat") and not (tmp_path / "nas.state/lock").exists())
        assert world.nas.agent("run").returncode == 0
        assert used.exists()
        assert not killed.exists()
    finally:
        agent.terminate()
        agent.wait()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", ["run", "loop"])
def test_a_signal_ends_a_transfer_that_can_be_resumed(world: World, tmp_path: Path, shell: str, command: str) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    agent = begin(world, command, shell=shell, hang=60)
    agent.send_signal(signal.SIGTERM)
    agent.wait(timeout=50)
    said = (world.nas.folder / "said").read_text()
    assert agent.returncode == (1 if command == "run" else 0), said
    assert world.witness.finished["a3"][0] == 1, said
    assert "it was stopped on this host" in world.witness.finished["a3"][2]
    with world.backup.pools() as backup:
        assert backup.token(COPY) is not None
    assert {path.name for path in (tmp_path / "nas.state").iterdir()} == {"reported", "rows", "peers"}


def test_progress_renews_the_lease(world: World) -> None:
    world.witness.lease_s = 3
    world.copied().witness.plan = [world.transfer(3, base=2)]
    assert begin(world, "run", hang=2).wait() == 0
    progress = [json.loads(body) for body in world.witness.bodies("/progress")]
    assert progress
    assert progress[0] == {"bytes_done": 3500, "bytes_total": 3500}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_worker_that_is_killed_alone_keeps_no_other_waiting(world: World, tmp_path: Path, shell: str) -> None:
    world.nas.fault('{"send": {"hang": 20}}')
    world.witness.plan = [world.transfer(1), world.transfer(3, base=1, depends_on="a1")]
    command = world.nas.command("run", shell=shell.split())
    with (world.nas.folder / "said").open("w") as said:
        agent = subprocess.Popen(command, env=world.nas.environment, stderr=said, cwd=world.nas.folder)
    wait_until(lambda: any(call[0] == "send" for call in calls_of(world.nas)))
    (run,) = (tmp_path / "nas.state").glob("tmp.*")
    worker = int((run / "acts" / "1.taken").read_text())
    os.kill(int((run / "workers").read_text().split()[worker - 1]), signal.SIGKILL)
    assert agent.wait(60) == 1
    assert f"worker {worker} is gone" in (world.nas.folder / "said").read_text()
    assert world.witness.paths("/a3/start") == []


@pytest.mark.parametrize("count", [1, 2])
def test_the_last_worker_may_be_killed_too(world: World, tmp_path: Path, count: int) -> None:
    """The only one, or the second, which the first one misses when it is done itself."""
    world.nas.configure(parallel=count)
    world.nas.fault('{"send": {"hang": 4}}')
    world.witness.plan = several(world, 2)
    with (world.nas.folder / "said").open("w") as said:
        agent = subprocess.Popen(world.nas.command("run"), env=world.nas.environment, stderr=said)
    wait_until(lambda: len([call for call in calls_of(world.nas) if call[0] == "send"]) == count)
    (run,) = (tmp_path / "nas.state").glob("tmp.*")
    os.kill(int((run / "workers").read_text().split()[count - 1]), signal.SIGKILL)
    assert agent.wait(60) == 1
    assert ("worker 2 is gone" in (world.nas.folder / "said").read_text()) == (count == 2)
    assert (world.witness.finished == {}) == (count == 1)


@pytest.mark.parametrize("status", [403, 410])
def test_a_transfer_whose_lease_is_lost_stops(world: World, status: int) -> None:
    world.witness.lease_s = 3
    world.witness.refusals["progress"] = status
    world.copied().witness.plan = [world.transfer(3, base=2)]
    assert begin(world, "run", hang=60).wait() == 1
    assert "took the lease back" in world.witness.finished["a3"][2]
    assert len(world.backup.guids(COPY)) == 2


def test_a_loop_goes_on_whenever_it_is_to_sync_next(world: World) -> None:
    world.nas.configure(heartbeat_s=1)
    world.witness.next_sync_s = 99999999999999999999
    agent = subprocess.Popen(world.nas.command("loop", shell=["dash"]), env=world.nas.environment)
    wait_until(lambda: len(world.witness.paths("/heartbeat")) > 2)
    agent.terminate()
    assert agent.wait(30) == 0


def test_a_lock_that_names_this_very_process_is_left_over(world: World, tmp_path: Path) -> None:
    """After a power cut, where a container starts the agent as the same process each time."""
    lock = f'echo $$ >{tmp_path}/nas.state/lock; exec "$@"'
    run = subprocess.run(["sh", "-c", lock, "sh", *world.nas.command("run")], env=world.nas.environment, check=False)
    assert run.returncode == 0


@pytest.mark.parametrize("status", [403, 409, 410])
def test_what_may_not_be_started_now_is_no_failure(world: World, status: int) -> None:
    """403: the plan has changed since it was fetched, and another system is to do it."""
    world.witness.refusals["start"] = status
    world.copied().witness.plan = [world.transfer(3, base=2)]
    assert world.nas.agent("run").returncode == 0
    assert len(world.backup.guids(COPY)) == 2


def test_loop_keeps_the_pace_of_the_groups_and_is_heard_of_in_between(world: World) -> None:
    world.nas.configure(heartbeat_s=1)
    world.witness.plan = [world.transfer(1)]
    agent = subprocess.Popen(world.nas.command("loop"), env=world.nas.environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: "a1" in world.witness.finished)
    wait_until(lambda: len(world.witness.paths("/heartbeat")) >= 3)
    assert len(world.witness.paths("/instructions/nas")) == 2  # the second found that nothing was left
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(timeout=30) == 0
    assert set(os.listdir(world.nas.config.parent / "nas.state")) == {"reported", "peers"}


def test_loop_does_what_is_new_when_it_is_due(world: World) -> None:
    world.nas.configure(heartbeat_s=60)
    world.witness.next_sync_s = 1
    agent = subprocess.Popen(world.nas.command("loop"), env=world.nas.environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: world.witness.paths("/instructions/nas"))
    world.witness.plan = [world.transfer(1)]
    wait_until(lambda: "a1" in world.witness.finished)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(timeout=30) == 0
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)[:1]


def test_the_example_shows_every_key(world: World) -> None:
    agent = AGENT.read_text()
    begin = agent.index("set_key() {")
    known = set(re.findall(r"^        ([a-z_]+)\) ", agent[begin : agent.index("\n}", begin)], re.M))
    example = (AGENT.parent / "agent.conf.example").read_text()
    shown = re.findall(r"^#?([a-z_]+) =(.*)$", example, re.M)
    assert {key for key, _ in shown} == known
    for key, value in shown:
        default = value.split("  ")[0].strip()
        if default and key != "witness":
            assert re.search(rf"\b{key}='?{re.escape(default)}[' \n]", agent), key


# --- one connection, several transfers -----------------------------------------------------------


def test_a_run_shares_one_connection_and_closes_it(world: World) -> None:
    world.witness.plan = [world.transfer(1), world.transfer(3, base=1, depends_on="a1")]
    assert world.nas.agent("run").returncode == 0
    calls = (world.nas.folder.parent / "ssh.log").read_text().splitlines()
    shared = {found[1] for call in calls if (found := re.search(r"ControlPath=(\S*)", call))}
    assert len(shared) == 1
    assert len([call for call in calls if "'zfs'" in call]) == 3  # one look, two transfers
    folder = Path(shared.pop()).parent
    assert not folder.exists()


def test_an_ssh_that_cannot_share_is_used_without(world: World, tmp_path: Path) -> None:
    old = tmp_path / "bin" / "ssh"
    old.parent.mkdir()
    old.write_text(
        '#!/bin/sh\ncase "$*" in *ControlPersist*) echo "Bad configuration option" >&2; exit 255 ;; esac\n'
        f'exec {FAKE}/ssh "$@"\n'
    )
    old.chmod(0o755)
    world.nas.environment["PATH"] = f"{old.parent}:{world.nas.environment['PATH']}"
    world.witness.plan = [world.transfer(1)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)[:1]


def several(world: World, count: int) -> list[dict[str, str]]:
    """Full streams of as many datasets."""
    rows = []
    for number in range(1, count + 1):
        with world.nas.pools() as nas:
            nas.create(f"tank/d{number}")
            guid = nas.snapshot(f"tank/d{number}", "day 1").guid
        names = {"dataset": f"tank/d{number}", "target_dataset": f"vault/nas/d{number}", "snapshot_guid": guid}
        rows.append(world.transfer(1) | names | {"action_id": f"d{number}"})
    return rows


@pytest.mark.parametrize("shell", SHELLS)
def test_two_transfers_go_at_once_and_what_waits_comes_after(world: World, shell: str) -> None:
    world.witness.plan = several(world, 4)
    world.witness.plan[1]["depends_on"] = "d1"
    world.nas.fault('{"send": {"hang": 0.5}}')
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    steps = [path.split("/")[-2:] for _, path, _, _ in world.witness.calls if path.endswith("/start")]
    assert sorted(steps) == [[f"d{number}", "start"] for number in (1, 2, 3, 4)]
    order = [path for _, path, _, _ in world.witness.calls if "/actions/" in path]
    first_end = next(place for place, path in enumerate(order) if "/finish/" in path)
    assert first_end == 2  # both were started before one had ended
    assert order.index("/api/v1/sync/actions/d1/finish/0") < order.index("/api/v1/sync/actions/d2/start")
    assert len(world.witness.finished) == 4


@pytest.mark.parametrize("shell", ["dash", "mksh"])
def test_an_action_is_for_one_worker(world: World, shell: str) -> None:
    """Though all of them see it at the same time: another of the same dataset would be refused, at best."""
    world.nas.configure(parallel=8)
    world.witness.plan = [
        row | {"action_type": "create_parent", "target_dataset": f"vault/nas/d{at}", "properties": "atime=off"}
        for at, row in enumerate(several(world, 16))
    ]
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    starts = [path.split("/")[5] for path in world.witness.paths("/start")]
    assert len(starts) == len(set(starts)) == 16


def test_parallel_is_how_many_go_at_once(world: World) -> None:
    world.nas.configure(parallel=1)
    world.witness.plan = several(world, 3)
    assert world.nas.agent("run").returncode == 0
    order = [path.split("/")[6] for _, path, _, _ in world.witness.calls if "/actions/" in path]
    assert order == ["start", "finish"] * 3


def test_what_may_not_begin_yet_is_tried_again_when_another_transfer_has_ended(world: World) -> None:
    world.witness.limit = 1
    world.witness.plan = several(world, 3)
    world.nas.fault('{"send": {"hang": 0.3}}')
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert {name for name, (status, _, _) in world.witness.finished.items() if status == 0} == {"d1", "d2", "d3"}
    assert "at its max_transfers" in run.stderr
    assert len(world.witness.paths("/start")) <= 8  # not again and again
    assert len(world.witness.paths("/instructions/nas")) == 2  # all in the first round


def test_what_may_not_begin_yet_is_tried_again_by_the_same_worker(world: World) -> None:
    world.nas.configure(parallel=1)
    world.witness.plan = several(world, 2)
    world.nas.fault('{"send": {"hang": 2}}')
    world.witness.faults["/d1/start"] = (409, {"detail": "later", "status_code": 409}, {"Retry-After": "1"})
    agent = subprocess.Popen(world.nas.command("run"), env=world.nas.environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: world.witness.paths("/d2/start"))
    world.witness.faults.clear()
    assert agent.wait(60) == 0
    assert set(world.witness.finished) == {"d1", "d2"}
    assert len(world.witness.paths("/instructions/nas")) == 2  # both in the first round
