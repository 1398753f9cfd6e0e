"""The agent's guard, which a peer's key is tied to, and its doctor."""

import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.agent_world import AGENT, COPY, SHELLS, VIDEOS, Host, World, calls_of, make_world
from tests.tokens import encode_resume_token
from tests.zfs_values import Refused


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def tie(host: Host, mode: str, roots: str, shell: str = "dash") -> None:
    """Let ssh to a host run nothing but its guard."""
    (host.folder / "guard").write_text(f"exec {shell} {AGENT} guard {mode} '{roots}'")


# --- guard ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_a_guarded_target_receives(world: World, shell: str) -> None:
    tie(world.backup, "receive", "vault/other,vault/nas", shell)
    parent = world.change("create_parent", target_dataset="vault/nas/new", executor_system_id="nas")
    parent |= {"target_ssh_hostname": "backup", "properties": "compression=zstd"}
    world.witness.plan = [parent, world.transfer(1), world.transfer(3, base=1, depends_on="a1")]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


def test_a_guarded_source_sends_and_resumes(world: World) -> None:
    tie(world.nas, "send", "tank/home videos")
    pulled = world.copied().transfer(3, base=2) | {"executor_system_id": "backup"}
    world.witness.plan = [pulled]
    world.nas.fault('{"send": {"cut": 3800}}')
    assert world.backup.agent("run").returncode == 1
    world.nas.fault("{}")
    with world.backup.pools() as backup:
        token = backup.token(COPY) or ""
    world.witness.plan = [pulled | {"action_type": "resume", "resume_token": token}]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


def test_a_guard_has_its_own_zfs_wherever_the_peer_looks_for_it(world: World) -> None:
    tie(world.backup, "receive", "vault/nas")
    world.nas.configure(remote_zfs="sudo -n /usr/local/sbin/zfs")
    world.witness.plan = [world.transfer(1)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)[:1]


def test_a_guard_sends_for_a_token_what_is_below_its_roots_only(world: World) -> None:
    with world.nas.pools() as nas, world.backup.pools() as backup:
        nas.create("tank/private")
        nas.write("tank/private", 5)
        nas.snapshot("tank/private", "x")
        with pytest.raises(Refused, match="saved"):
            backup.receive("vault/a", nas.send(VIDEOS, "day 1").cut(1), resumable=True)
        mine = backup.token("vault/a")
    private = encode_resume_token("tank/private@x", world.nas.guids("tank/private")[0], None, 0)
    forged = encode_resume_token(f"{VIDEOS}@x", world.nas.guids("tank/private")[0], None, 0)
    assert guarded(world.nas, "send", VIDEOS, f"'zfs' 'send' '-vP' '-t' '{mine}'").returncode == 0
    for tokens in (private, forged, f"{mine}' '-t' '{private}", f"{mine}' '{mine}"):
        assert guarded(world.nas, "send", VIDEOS, f"'zfs' 'send' '-vP' '-t' '{tokens}'").returncode == 1


def guarded(host: Host, mode: str, roots: str, command: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**host.environment, "SSH_ORIGINAL_COMMAND": command}
    return subprocess.run([str(AGENT), "guard", mode, roots], env=environment, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("given", "ran"),
    [
        ("", "-x sharesmb -x sharenfs -x canmount -x mountpoint"),
        ("'-o' 'canmount=noauto' '-x' 'mountpoint' ", "-x sharesmb -x sharenfs"),
    ],
)
def test_a_guard_takes_from_no_stream_what_would_mount_or_share_it(world: World, given: str, ran: str) -> None:
    guarded(world.backup, "receive", "vault/nas", f"'zfs' 'receive' '-s' '-u' {given}'vault/nas/new'")
    (received,) = (" ".join(call) for call in calls_of(world.backup) if call[0] == "receive")
    assert received.startswith(f"receive {ran} -s -u")


@pytest.mark.parametrize(
    ("mode", "roots"), [("send", "vault/nas"), ("receive", "vault/na"), ("receive", "vault/nas/home videos/x")]
)
def test_a_guard_keeps_a_peer_to_its_mode_and_its_roots(world: World, mode: str, roots: str) -> None:
    tie(world.backup, mode, roots)
    world.witness.plan = [world.transfer(1)]
    assert world.nas.agent("run").returncode == 1
    with world.backup.pools() as backup:
        assert COPY not in backup.datasets


@pytest.mark.parametrize(
    "command",
    [
        "",
        "sh",
        "zfs list",
        "'zfs' 'list' 'tank/home videos'; touch pwned",
        "'zfs' 'list' 'tank/home videos' $(touch pwned)",
        "'zfs' 'list' 'tank/home videos'' touch'",
        "'zfs' 'list' 'tank/home videos' && touch pwned",
        "'zfs' 'list' 'tank/home videos' && 'touch' 'pwned'",
        "'zfs' 'list' 'tank/home videos' ; 'zfs' 'destroy' 'tank/home videos@day 1'",
        "'zfs' 'list' 'tank/home videos' || 'zfs' 'list' 'tank/home videos'",
        "'zfs' 'list' 'tank/home videos' 'tank'",
        "'zfs' 'list' 'tank/home videos' ;",
        "'zstd' '-dcq' '/etc/shadow'",
        "'zstd' '-dcq' | 'sh'",
        "'zfs' 'list' 'tank/home",
        "'zfs' 'list'",
        "'zfs' 'list' '-Hp'",
        "'zfs' 'list' '-r' 'tank/home videos'",
        "'zfs' 'list' 'tank'",
        "'zfs' 'list' 'tank/home videos/../x'",
        "'zfs' 'destroy' 'tank/home videos@day 1'",
        "'zfs' 'rollback' 'tank/home videos@day 1'",
        "'zfs' 'receive' '-F' 'tank/home videos'",
        "'zfs' 'receive' '-s' 'tank/home videos/x'",
        "'zfs' 'create' 'tank/home videos/x'",
        "'zfs' 'receive' '-o' 'mountpoint=/etc' 'tank/home videos/x'",
        "'zfs' 'receive' '-o' 'origin=tank/private@x' 'tank/home videos/x'",
        "'zfs' 'send' 'tank/home videos@day 1'",
        "'zfs' 'set' 'sharenfs=on' 'tank/home videos'",
        "'zfs' 'get' '-Hp' '-o' 'value' 'keylocation' 'tank/home videos'",
        "'zfs' 'list' '-Hp' '-o' 'name\\c;/$(x)*' 'tank/home videos'",
    ],
)
def test_a_guard_runs_only_what_an_agent_would_send(world: World, command: str, tmp_path: Path) -> None:
    run = subprocess.run(
        ["dash", str(AGENT), "guard", "receive", "tank/home videos"],
        env={**world.nas.environment, "SSH_ORIGINAL_COMMAND": command},
        cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=30,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert "guard: refused" in run.stderr
    assert calls_of(world.nas) == []
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    "command",
    [
        "'zfs' 'send' '-vP' '-i' 'tank/private@x' 'tank/home videos@day 1'",
        "'zfs' 'send' '-vP' '-R' 'tank/home videos@day 1'",
        "'zfs' 'send' '-vP' 'tank/home videos'",
        "'zfs' 'send' '-vP' '-t' '1-a-b-c'",
        "'zfs' 'send' '-vP' '-t' '$(x)'",
        "'zfs' 'send' '-vP' '-t'",
        "'zfs' 'receive' '-s' 'tank/home videos/x'",
    ],
)
def test_a_guard_for_sending_sends_only_what_is_below_its_roots(world: World, command: str) -> None:
    run = subprocess.run(
        ["dash", str(AGENT), "guard", "send", "tank/home videos"],
        env={**world.nas.environment, "SSH_ORIGINAL_COMMAND": command},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=30,
    )  # fmt: skip
    assert run.returncode == 1
    assert "guard: refused" in run.stderr
    assert run.stdout == ""


def test_a_token_for_a_dataset_outside_the_roots_is_not_sent(world: World) -> None:
    with world.nas.pools() as nas, world.backup.pools() as backup:
        nas.create("tank/private")
        nas.write("tank/private", 5)
        nas.snapshot("tank/private", "x")
        with pytest.raises(Exception, match="saved"):
            backup.receive("vault/x", nas.send("tank/private", "x").cut(1), resumable=True)
        token = backup.token("vault/x")
    environment = {**world.nas.environment, "SSH_ORIGINAL_COMMAND": f"'zfs' 'send' '-vP' '-t' '{token}'"}
    command = ["dash", str(AGENT), "guard", "send"]
    refused = subprocess.run([*command, "tank/home videos"], env=environment, capture_output=True, check=False)
    allowed = subprocess.run([*command, "tank/private"], env=environment, capture_output=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert (allowed.returncode, allowed.stdout != b"") == (0, True)


@pytest.mark.parametrize("arguments", [["both", "tank"], ["send"], ["send", "tank/../x"]])
def test_a_guard_wants_a_mode_and_roots(arguments: list[str]) -> None:
    run = subprocess.run([str(AGENT), "guard", *arguments], capture_output=True, check=False)
    assert run.returncode == 2


# --- doctor --------------------------------------------------------------------------------------


def test_doctor_finds_all_well(world: World) -> None:
    world.nas.config.chmod(0o600)
    world.witness.plan = [world.transfer(1)]
    world.nas.agent("run")
    run = world.nas.agent("doctor")
    assert "bad:" not in run.stdout, run.stdout
    assert run.returncode == 0
    assert "good: zfs on backup is reached" in run.stdout


@pytest.mark.parametrize(
    ("trouble", "finding"),
    [
        ("open", "is for its owner only"),
        ("zfs", "the pools can be listed internal error"),
        ("witness", "the witness answers"),
        ("key", "the key is accepted"),
        ("clock", "the clocks agree"),
        ("plan", "the plan can be read"),
        ("peer", "zfs on backup is reached ssh: Could not resolve"),
    ],
)
def test_doctor_names_what_is_wrong(world: World, trouble: str, finding: str, tmp_path: Path) -> None:
    world.nas.config.chmod(0o644 if trouble == "open" else 0o600)
    if trouble == "zfs":
        world.nas.fault('{"list": {"exit": 1, "stderr": "internal error"}}')
    elif trouble == "witness":
        world.nas.configure(witness="http://127.0.0.1:9")
    elif trouble == "key":
        world.witness.refusals["systems/nas"] = 401
    elif trouble == "clock":
        world.witness.date = formatdate(time.time() - 90, usegmt=True)
    elif trouble == "plan":
        world.witness.expires = 5
    elif trouble == "peer":
        world.witness.plan = [world.transfer(1)]
        world.nas.agent("run")
        world.backup.folder.rename(tmp_path / "gone")
    run = world.nas.agent("doctor")
    assert run.returncode == 1
    bad = [line for line in run.stdout.splitlines() if line.startswith("bad:")]
    assert len(bad) == 1, run.stdout
    assert finding in bad[0]
    assert ("take its line out" in run.stdout) == (trouble == "peer")


def test_doctor_says_when_a_key_that_signs_plans_is_not_known_here(world: World, tmp_path: Path) -> None:
    world.nas.config.chmod(0o600)
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    texts = [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    world.witness.key, world.witness.public_keys = keys[0], b"".join(texts)
    pem = tmp_path / "witness.pem"
    world.nas.configure(public_key=pem)
    pem.write_bytes(texts[0])
    assert f"bad:  {pem} has the witness's keys" in world.nas.agent("doctor").stdout
    pem.write_bytes(texts[1] + texts[0])
    run = world.nas.agent("doctor")
    assert f"good: {pem} has the witness's keys" in run.stdout
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("moment", [951782400, 951868799, 951868800, 1709164800, 1795392522, 4102444800])
def test_doctor_reads_the_witness_s_date(world: World, moment: int, tmp_path: Path) -> None:
    world.nas.config.chmod(0o600)
    world.witness.date = formatdate(moment, usegmt=True)
    world.witness.expires = moment + 600
    clock = tmp_path / "bin" / "date"
    clock.parent.mkdir()
    clock.write_text(f"#!/bin/sh\necho {moment}\n")
    clock.chmod(0o755)
    world.nas.environment["PATH"] = f"{clock.parent}:{world.nas.environment['PATH']}"
    run = world.nas.agent("doctor")
    assert "good: the clocks agree" in run.stdout, run.stdout
    clock.write_text(f"#!/bin/sh\necho {moment - 61}\n")
    assert "bad:  the clocks agree" in world.nas.agent("doctor").stdout
