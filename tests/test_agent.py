"""The agent carries out what it should, checks what it is told, and runs nothing that it was sent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent_world import Host, make_host
from tests.scripted_witness import ScriptedWitness, action

VIDEOS = "tank/home videos"  # names may contain spaces
COPY = "vault/nas/home videos"
SHELLS = ["dash", "bash --posix", "busybox sh", "mksh", "ksh"]


@dataclass
class World:
    """A witness, a source with VIDEOS' days 1 to 3, and a target with vault/nas."""

    witness: ScriptedWitness
    nas: Host
    backup: Host

    def transfer(self, end: int, base: int | None = None, **fields: str) -> dict[str, str]:
        """A push of VIDEOS up to a day, from a day."""
        guids = self.nas.guids(VIDEOS)
        row = action(
            action_id=f"a{end}",
            action_type="sync" if base else "create",
            executor_system_id="nas",
            source_system_id="nas",
            target_system_id="backup",
            dataset=VIDEOS,
            target_dataset=COPY,
            snapshot_name=f"day {end}",
            snapshot_guid=guids[end - 1],
            target_ssh_hostname="backup",
            target_ssh_user="root",
            target_ssh_port="2222",
            source_ssh_hostname="nas",
            kind="filesystem",
            reason="backup lacks it",
        )
        if base:
            row |= {
                "incremental_base": f"day {base}",
                "incremental_base_guid": guids[base - 1],
                "intermediates": "true",
            }
        return row | fields

    def change(self, kind: str, **fields: str) -> dict[str, str]:
        """A step that changes COPY on backup, by its own agent."""
        row = action(
            action_id=f"c-{kind}",
            action_type=kind,
            executor_system_id="backup",
            target_system_id="backup",
            target_dataset=COPY,
            reason="decided",
        )
        return row | fields

    def copied(self) -> "World":
        """The same, where backup has received days 1 and 2."""
        with self.nas.pools() as nas, self.backup.pools() as backup:
            backup.receive(COPY, nas.send(VIDEOS, "day 1"))
            backup.receive(COPY, nas.send(VIDEOS, "day 2", "day 1"))
        return self


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    witness = ScriptedWitness()
    nas, backup = (
        make_host(name, tmp_path, witness.address, system_id=name, api_key=f"{name}.secret")
        for name in ("nas", "backup")
    )
    with nas.pools() as pools:
        pools.create("tank")
        pools.create(VIDEOS)
        for day in (1, 2, 3):
            pools.write(VIDEOS, 1000 * day)
            pools.write(VIDEOS, 500)
            pools.snapshot(VIDEOS, f"day {day}")
    with backup.pools() as pools:
        pools.create("vault")
        pools.create("vault/nas")
    (nas.folder.parent.parent / "nas.state").mkdir()
    (nas.folder.parent.parent / "backup.state").mkdir()
    for name in ("nas", "backup"):  # a full report is due only where a test wants it
        (tmp_path / f"{name}.state" / "reported").write_text("9999999999\n")
    yield World(witness, nas, backup)
    witness.shutdown()
    witness.server_close()


def calls_of(host: Host) -> list[list[str]]:
    """Every zfs command that ran on a host."""
    log = host.folder / "calls.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


# --- transfers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_push_a_full_stream_and_then_the_increments(world: World, shell: str) -> None:
    world.witness.plan = [world.transfer(1), world.transfer(3, base=1, depends_on="a1")]
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    guids = world.nas.guids(VIDEOS)
    assert world.backup.guids(COPY) == guids
    assert [world.witness.finished[name][:2] for name in ("a1", "a3")] == [(0, guids[0]), (0, guids[2])]
    with world.backup.pools() as backup:
        copy = backup.dataset(COPY)
        assert copy.properties == {"readonly": "on", "canmount": "noauto"}
        assert not copy.mounted
    receives = [call for call in calls_of(world.backup) if call[0] == "receive"]
    assert receives[0] == [
        "receive",
        "-s",
        "-u",
        "-o",
        "readonly=on",
        "-o",
        "canmount=noauto",
        "-x",
        "mountpoint",
        COPY,
    ]
    assert receives[1] == ["receive", "-s", "-u", COPY]
    assert world.witness.paths("/nas/inventory?columns=" + COLUMNS) != []  # in full after a transfer


COLUMNS = (
    "name,type,guid,createtxg,creation,used,referenced,written,encryption,receive_resume_token,origin,"
    "available,userrefs,readonly,mounted,mountpoint"
)


def test_pull(world: World) -> None:
    pulled = {"executor_system_id": "backup"}
    world.witness.plan = [world.transfer(2, **pulled), world.transfer(3, base=2, depends_on="a2", **pulled)]
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)[1:]
