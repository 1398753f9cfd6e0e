"""What goes wrong around the agent: it is killed, the witness is down or says nonsense, a pool is full. The next run
recovers, and nothing is lost."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.agent_world import COPY, FAKE, VIDEOS, World, calls_of, make_world
from tests.lab import AGENT, PATH, Host, Lab, same_contents
from tests.scripted_witness import Answer

PAIR = """
groups:
  - name: pair
    hub: left
    systems:
      left: {root: tank}
      right: {root: vault}
"""
STEPS = ("heartbeat", "inventory", "instructions", "start", "finish")
DEADLY = """#!/bin/sh
# Counts calls of programs; at one of them the agent is killed, and this call happens or does not.
echo . >>"$POINTS"
if [ "$(grep -c . "$POINTS")" -eq "$KILL_AT" ]; then
    [ "$CALL_HAPPENS" = yes ] || kill -9 -- "-$(cat "$POINTS.pid")"
    kill -9 "$(cat "$POINTS.pid")"
fi
PATH=${PATH#*:}
exec "${0##*/}" "$@"
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


# --- killed at each step -------------------------------------------------------------------------


class Deadly:
    """A folder of programs that kill the agent which calls them, at one of its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("curl", "zfs", "ssh"):
            (folder / name).write_text(DEADLY)
            (folder / name).chmod(0o755)
        self.points = folder / "points"

    def run(self, host: Host, kill_at: int, call_happens: bool) -> bool:
        """Run a host's agent; whether it was killed."""
        self.points.unlink(missing_ok=True)
        environ = {
            **os.environ, "PATH": f"{self.folder}:{PATH}", "FAKE_ZFS": str(host.folder),
            "FAKE_HOSTS": str(host.lab.hosts_folder), "POINTS": str(self.points), "KILL_AT": str(kill_at),
            "CALL_HAPPENS": "yes" if call_happens else "no",
        }  # fmt: skip
        script = f'echo $$ >"$POINTS.pid"; exec sh {AGENT} --config {host.conf} run'
        with (self.folder / "said").open("wb") as said:
            done = subprocess.run(
                ["sh", "-c", script], env=environ, stderr=said, stdin=subprocess.DEVNULL,
                start_new_session=True, check=False, timeout=120,
            )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), (self.folder / "said").read_text()
        return done.returncode != 0


@pytest.mark.parametrize("call_happens", [True, False])
def test_an_agent_that_is_killed_at_any_step_recovers(tmp_path: Path, call_happens: bool) -> None:
    """Killed as it makes a call that still happens, or together with all that it started, before the call."""
    lab = Lab(tmp_path / "lab", PAIR)
    left, right = lab.host("left", "tank"), lab.host("right", "vault")
    left.change(lambda pools: pools.create("tank/a"))
    left.snapshot("first", "tank/a")
    lab.report_all()
    lab.run_all()
    deadly = Deadly(tmp_path / "deadly")
    kill_at, killed = 1 if call_happens else 2, True
    while killed:
        left.snapshot(f"at-{kill_at}", "tank/a")
        killed = deadly.run(left, kill_at, call_happens)
        for _ in range(3):  # what was killed with it, or goes on without it, may be in the way of the first
            left.agent("run", status=None)
            if lab.not_in_sync("pair") == []:
                break
        assert lab.not_in_sync("pair") == [], (kill_at, left.log)
        assert same_contents(left, "tank/a", right, "vault/a"), kill_at
        kill_at += 2
    assert kill_at > 8
    assert not [path.name for path in (left.folder / "state").iterdir() if path.name.startswith(("tmp", "lock"))]
    lab.stop()


# --- the witness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("how", ["down", "junk", "cut off"])
def test_a_witness_that_fails_at_any_step_loses_nothing(world: World, step: str, how: str) -> None:
    """Whatever it answers, at most the transfer is done and not told; then the next run tells it."""
    world.copied().witness.plan = [world.transfer(3, base=2)]
    if step == "inventory":
        world.witness.inventory = "stale"
    answers: dict[str, Answer | None] = {
        "down": None,
        "junk": (
            200,
            b"<html>the <b>hotel</b> \x1b[31m$(touch pwned)\n" + bytes(range(256)),
            {"X-Lease-Token": "a b; touch pwned", "X-Plan-Expires": "9" * 19},
        ),
        "cut off": (200, b"action_id\taction_ty", {"Content-Length": "5000"}),
    }
    world.witness.faults[f"/{step}"] = answers[how]
    run = world.nas.agent("run")
    harmless = how == "junk" and step in ("heartbeat", "inventory")  # it said 200
    assert run.returncode == (0 if harmless else 1), run.stderr
    assert "\x1b" not in run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)[: 3 if step == "finish" or harmless else 2]
    world.witness.faults.clear()
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)
    assert not list(world.nas.config.parent.rglob("pwned"))
    if not harmless:
        assert world.witness.finished["a3"][:2] == (0, world.nas.guids(VIDEOS)[2])


@pytest.mark.parametrize("how", ["down", "junk"])
def test_a_transfer_goes_on_while_the_witness_is_down(world: World, how: str) -> None:
    world.witness.lease_s = 3
    world.witness.faults["/progress"] = {"down": None, "junk": (200, b"<html>", {})}[how]
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.nas.fault('{"send": {"hang": 2}}')
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.witness.paths("/progress") != []
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


def test_an_answer_without_end_is_cut_off(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.witness.change = lambda body: body + b"x" * (65 << 20)
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert "no instructions: 000" in run.stderr
    assert world.witness.paths("/start") == []
    assert list((world.nas.config.parent / "nas.state").glob("tmp*")) == []


def test_a_plan_that_lost_its_end_is_refused(world: World) -> None:
    """As a proxy may do that hides the length: a number that is cut is a number, too."""
    world.witness.plan = [world.transfer(1)]
    world.witness.change = lambda body: body[:-1]
    run = world.nas.agent("run")
    assert "it has lost its end" in run.stderr
    assert world.witness.paths("/start") == []


@pytest.mark.parametrize("status", [403, 409, 410])
def test_a_lease_that_another_has_taken_is_no_success(world: World, status: int) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.witness.refusals["finish"] = status
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert f"the witness did not take the end of a3: {status}" in run.stderr
    world.witness.refusals.clear()
    assert world.nas.agent("run").returncode == 0
    assert world.witness.finished["a3"][:2] == (0, world.nas.guids(VIDEOS)[2])
    assert len([call for call in calls_of(world.nas) if call[0] == "send"]) == 1


@pytest.mark.parametrize("field", ["dataset", "target_dataset", "action_id", "reason"])
@pytest.mark.parametrize("inserted", ["\n", "\t", "\r\n", "\nx\ty\t"])
def test_lines_and_columns_cannot_be_injected(world: World, field: str, inserted: str) -> None:
    row = world.copied().transfer(3, base=2)
    world.witness.plan = [row | {field: row[field] + inserted + "vault/else"}]
    assert world.nas.agent("run").returncode == 1
    assert world.witness.paths("/start") == []


def test_roots_are_not_renamed_away(world: World) -> None:
    guid = world.copied().backup.guids(COPY)[-1]
    world.backup.configure(roots=COPY)
    world.witness.plan = [
        world.change("rename", snapshot_guid=guid, expected_written="0", new_name=name, action_id=f"r{at}")
        for at, name in enumerate(("vault/nas/home", f"{COPY}.aside", "vault/aside", "tank/x"))
    ]
    assert world.backup.agent("run").returncode == 1
    assert [world.witness.finished[f"r{at}"][0] for at in range(4)] == [1, 1, 1, 1]
    assert not any(call[0] == "rename" for call in calls_of(world.backup))


@pytest.mark.parametrize("step", ["clone", "promote"])
def test_what_lies_outside_the_roots_is_no_origin(world: World, step: str) -> None:
    inside = "vault/nas/in"
    with world.copied().nas.pools() as nas, world.backup.pools() as backup:
        if step == "promote":
            backup.receive(inside, nas.send(VIDEOS, "day 3", "day 2"), origin=f"{COPY}@day 2")
    world.backup.configure(roots=inside)
    clone = world.transfer(3, base=2, origin=f"{COPY}@day 2", intermediates="false", target_dataset=inside)
    rows = {
        "clone": clone | {"executor_system_id": "backup"},
        "promote": world.change("promote", target_dataset=inside),
    }
    world.witness.plan = [rows[step]]
    run = world.backup.agent("run")
    assert run.returncode == 1
    assert f"{COPY}@day 2 is outside the configured roots" in run.stderr
    assert not any(call[0] in ("receive", "promote") for call in calls_of(world.backup))


def test_a_pool_is_not_renamed(world: World) -> None:
    with world.backup.pools() as backup:
        guid = backup.snapshot("vault", "x").guid
    row = world.change("rename", target_dataset="vault", snapshot_guid=guid, expected_written="0", new_name="other")
    world.witness.plan = [row]
    assert world.backup.agent("run").returncode == 1
    with world.backup.pools() as backup:
        assert "vault/nas" in backup.datasets


def test_an_old_plan_does_not_last_longer_than_was_signed(world: World, tmp_path: Path) -> None:
    key = world.witness.key = Ed25519PrivateKey.generate()
    pem = tmp_path / "witness.pem"
    pem.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    world.nas.configure(public_key=pem)
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.witness.expires = 1_700_000_000
    status, body, headers = world.witness.instructions("nas")
    world.witness.faults["/instructions"] = (status, body, {**headers, "X-Plan-Expires": "9999999999"})
    assert "signature" in world.nas.agent("run").stderr
    assert world.witness.paths("/start") == []


# --- the pools -----------------------------------------------------------------------------------


def test_a_target_that_is_full_is_a_failure_with_the_reason_and_goes_on_later(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    said = f"cannot receive incremental stream: out of space on {COPY}"
    world.backup.fault(json.dumps({"receive": {"exit": 1, "stderr": said}}))
    assert world.nas.agent("run").returncode == 1
    assert said in world.witness.finished["a3"][2]
    world.backup.fault("{}")
    world.witness.plan = [world.transfer(3, base=2)]
    assert world.nas.agent("run").returncode == 0
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


def test_a_source_snapshot_that_goes_right_before_it_is_sent(world: World, tmp_path: Path) -> None:
    """It was there when the agent looked: what is sent is another snapshot of that name, or nothing."""
    world.copied().witness.plan = [world.transfer(3, base=2)]
    late = tmp_path / "late"
    late.mkdir()
    (late / "zfs").write_text(
        f'#!/bin/sh\nPATH={FAKE}:/usr/bin:/bin\ncase $1 in send) zfs destroy "{VIDEOS}@day 3" ;; esac\nexec zfs "$@"\n'
    )
    (late / "zfs").chmod(0o755)
    world.nas.configure(zfs=late / "zfs")
    assert world.nas.agent("run").returncode == 1
    assert "does not exist" in world.witness.finished["a3"][2]
    assert len(world.backup.guids(COPY)) == 2
    with world.backup.pools() as backup:
        assert backup.token(COPY) is None


def test_a_snapshot_that_the_target_took_since_the_plan_is_no_obstacle(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    with world.backup.pools() as backup:
        own = backup.snapshot(COPY, "its own").guid
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    guids = world.nas.guids(VIDEOS)
    assert world.backup.guids(COPY) == [*guids[:2], own, guids[2]]


def test_properties_that_could_not_be_set_are_told(world: World) -> None:
    """Without the permission, zfs receive says so and exits 0."""
    said = f"cannot receive readonly property on {COPY}: permission denied"
    world.witness.plan = [world.transfer(1)]
    world.backup.fault(json.dumps({"receive": {"warning": said}}))
    run = world.nas.agent("run")
    assert run.returncode == 0
    assert said in run.stderr
    assert said in world.witness.finished["a1"][2]


def test_a_plan_that_is_cut_where_a_line_ends_is_refused(world: World) -> None:
    """It comes with the heartbeat's answer where the report is known to be the last."""
    world.copied()
    world.nas.agent("run")
    parent = world.change("create_parent", target_dataset="vault/nas/p", executor_system_id="nas")
    world.witness.plan = [world.transfer(3, base=2), parent | {"target_ssh_hostname": "backup"}]
    _, body, head = world.witness.instructions("nas")
    cut = b"".join(body.splitlines(True)[:2])
    world.witness.faults["/sync/instructions"] = (200, cut, {**head, "Content-Length": str(len(body))})
    world.nas.agent("run")
    assert world.witness.paths("/start") == []


def test_what_is_there_already_is_done_though_the_target_took_a_snapshot_since(world: World) -> None:
    world.copied()
    with world.nas.pools() as nas, world.backup.pools() as backup:
        backup.receive(COPY, nas.send(VIDEOS, "day 3", "day 2"))
        backup.snapshot(COPY, "own")
    world.witness.plan = [world.transfer(3, base=2)]
    world.nas.agent("run")
    assert world.witness.finished["a3"][:2] == (0, world.nas.guids(VIDEOS)[2])


def test_a_zfs_that_knows_no_version_is_of_an_unknown_one(world: World) -> None:
    world.nas.fault('{"version": {"exit": 2}}')
    world.nas.agent("report")
    world.nas.agent("run")
    assert {json.loads(said)["zfs_version"] for said in world.witness.bodies("/heartbeat")} == {"unknown"}


def test_a_disk_that_fills_as_a_host_registers_keeps_its_configuration(world: World) -> None:
    before = world.nas.config.read_text()
    world.nas.config.with_name(f"{world.nas.config.name}.new").symlink_to("/dev/full")
    world.nas.configure(enroll_key="e.0123456789abcdef", system_id="", api_key="")
    run = world.nas.agent("register")
    assert run.returncode == 1, run.stderr
    assert world.nas.config.read_text().startswith(before)


def test_no_escape_sequence_reaches_the_terminal(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.backup.fault(json.dumps({"receive": {"exit": 1, "stderr": "\x1b]0;owned\x07\x1b[2J\rall well"}}))
    assert "\x1b" not in world.nas.agent("run").stderr


def test_a_plan_that_goes_in_a_circle_is_a_failure(world: World) -> None:
    world.witness.plan = [world.transfer(1, depends_on="a1")]
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert "action 1 of the plan waits for what never ends" in run.stderr


def test_a_value_with_lines_of_its_own_sets_no_other_property(world: World) -> None:
    with world.copied().backup.pools() as backup:
        backup.write(COPY, 7)
        backup.snapshot(COPY, "mine")
        backup.dataset(COPY).properties |= {"com.x:note": "one\nsetuid\ton", "com.x:other": "two"}
    aside = f"{COPY}.aside"
    clone = world.transfer(3, base=2, origin=f"{aside}@day 2", depends_on="c-rename", intermediates="false")
    guid = world.backup.guids(COPY)[-1]
    rename = world.change("rename", snapshot_guid=guid, expected_written="0", new_name=aside)
    world.witness.plan = [rename, clone | {"executor_system_id": "backup"}]
    world.backup.agent("run")
    assert [call[1:] for call in calls_of(world.backup) if call[0] == "set"] == [["com.x:other=two", COPY]]
