"""An agent's workers: what they take from each other, and whose lease is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_world import COPY, SHELLS, World, make_world
from tests.test_agent_life import begin, several, wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def test_a_lease_that_is_lost_is_no_matter_of_what_comes_after(world: World) -> None:
    world.nas.configure(parallel=1)
    world.witness.lease_s = 3
    world.witness.refusals["d1/progress"] = 410
    world.witness.plan = several(world, 3)
    world.witness.plan[2]["target_dataset"] = "vault/nowhere/d3"
    world.nas.fault('{"send": {"hang": 3}}')
    assert world.nas.agent("run").returncode == 1
    ends = world.witness.finished
    assert ["took the lease back" in ends[name][2] for name in ("d1", "d2", "d3")] == [True, False, False]
    assert [ends[name][0] == 0 for name in ("d1", "d2", "d3")] == [False, True, False]


def test_what_another_worker_has_taken_meanwhile_is_not_left_out(world: World) -> None:
    """Between a worker's putting it back and looking at it again, here for four seconds."""
    world.nas.wrap("rm", '/bin/rm "$@"; status=$?; case "$*" in *.taken) sleep 4 ;; esac; exit $status')
    world.nas.configure(parallel=2)
    with world.nas.pools() as nas:
        nas.create("tank/b")
        nas.write("tank/b", 5)
        other = {
            "dataset": "tank/b",
            "target_dataset": "vault/nas/b",
            "snapshot_guid": nas.snapshot("tank/b", "1").guid,
        }
    world.nas.fault('{"send": {"hang": 2}}')
    world.witness.limit = 1
    after = world.transfer(3, base=1, depends_on="b1") | other | {"action_id": "b3"}
    rows = [world.transfer(1), world.transfer(1) | other | {"action_id": "b1"}]
    world.witness.plan = [*rows, world.transfer(3, base=1, depends_on="a1"), after]
    assert "it waits for" not in world.nas.agent("run").stderr


def test_a_lost_lease_is_forgotten_when_there_is_a_new_one(world: World) -> None:
    world.nas.configure(heartbeat_s=1, progress_s=1)
    world.witness.lease_s = 3
    world.witness.refusals["progress"] = 410
    world.copied().witness.plan = [world.transfer(3, base=2)]
    agent = begin(world, "loop", hang=30)
    wait_until(lambda: "a3" in world.witness.finished)
    assert "took the lease back" in world.witness.finished.pop("a3")[2]
    del world.witness.refusals["progress"]
    with world.backup.pools() as backup:
        if backup.token(COPY):
            backup.abort(COPY)
    world.nas.fault('{"send": {"exit": 1, "stderr": "I/O error"}}')
    world.witness.plan = [world.transfer(3, base=2)]
    wait_until(lambda: "a3" in world.witness.finished)
    agent.terminate()
    agent.wait()
    assert "took the lease back" not in world.witness.finished["a3"][2]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_waited_for_a_step_whose_end_was_not_taken_is_looked_at_anew(world: World, shell: str) -> None:
    world.nas.configure(parallel=1)
    world.witness.plan = [world.transfer(1), world.transfer(3, base=1, depends_on="a1")]
    world.witness.refusals["a1/finish"] = 409
    run = world.nas.agent("run", shell=shell)
    assert (run.returncode, world.witness.under_way) == (1, {"a1"}), run.stderr


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("lease_s", ["08", "99999999999999999999"])  # no octal, and no more than a shell reckons with
def test_a_lease_of_no_sensible_length_is_one_of_ten_minutes(world: World, shell: str, lease_s: str) -> None:
    world.witness.lease_s = lease_s  # type: ignore[assignment]
    world.witness.plan = [world.transfer(1)]
    run = world.nas.agent("run", shell=shell)
    assert (run.returncode, list(world.witness.finished)) == (0, ["a1"]), run.stderr
