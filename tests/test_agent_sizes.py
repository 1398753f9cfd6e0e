"""How much an agent is about to send, and how long that takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_world import COPY, SHELLS, VIDEOS, World, calls_of, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def large(world: World, end: int, base: int | None = None, **fields: str) -> dict[str, str]:
    """A transfer of what the witness takes for so large that it is worth a word."""
    return world.transfer(end, base, **({"estimated_size": "5000000"} | fields))


def pulled(world: World) -> None:
    """All of the plan is for the target to do."""
    for row in world.witness.plan:
        row["executor_system_id"] = "backup"


def sized(world: World, size: int) -> None:
    """VIDEOS has a day 4 of so many bytes more."""
    with world.nas.pools() as nas:
        nas.write(VIDEOS, size)
        nas.snapshot(VIDEOS, "day 4")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("way", ["pull", "push"])
def test_a_first_full_stream_is_measured_before_it_is_sent(world: World, way: str, shell: str) -> None:
    sized(world, 7_000_000_000)
    world.witness.plan = [large(world, 4, estimated_size="-")]
    agent, peer = world.nas, "root@backup:2222"
    if way == "pull":
        pulled(world)
        agent, peer = world.backup, "-@nas:22"
    plan = agent.agent("plan", shell=shell)
    assert plan.stdout == f"create {COPY}: backup lacks it, about 6.5 GiB, for how long is not known yet\n"
    state = agent.config.parent / f"{agent.name}.state"
    (state / f"rate.{peer}").write_text("2097152\n")
    plan = agent.agent("plan", shell=shell)
    assert plan.stdout == f"create {COPY}: backup lacks it, about 6.5 GiB, some 56 min at 2.0 MiB/s as lately\n"
    run = agent.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    assert f"{COPY}: sends about 6.5 GiB, some 56 min at 2.0 MiB/s as lately" in run.stderr
    assert run.stderr.index("sends about") < run.stderr.index("done create")


@pytest.mark.parametrize(
    ("size", "rate", "shown"),
    [
        (1_000_000, "900000000", "1 s at 858 MiB/s"),
        (5_000_000, "42000", "119 s at 41.0 KiB/s"),
        (5_100_000, "42000", "2 min at 41.0 KiB/s"),
        (9_000_000_000, "1250000", "2 h at 1.2 MiB/s"),
        (999_999_999_999, "5000000", "2 days at 4.8 MiB/s"),
        (9_000_000, "junk", ""),
        (9_000_000, "", ""),
        (9_000_000, "0", ""),
    ],
)
def test_a_time_is_shown_in_the_unit_that_fits(world: World, size: int, rate: str, shown: str) -> None:
    (world.nas.config.parent / "nas.state" / "rate.root@backup:2222").write_text(f"{rate}\n")
    world.witness.plan = [large(world, 3, base=2, estimated_size=str(size))]
    said = world.nas.agent("plan").stdout
    assert (f", some {shown} as lately\n" if shown else ", for how long is not known yet\n") in said


def test_what_zfs_cannot_say_is_what_the_witness_says(world: World) -> None:
    world.witness.plan = [large(world, 1, snapshot_name="gone"), large(world, 1, estimated_size="3500")]
    said = world.nas.agent("plan").stdout
    assert said.count("about 4.8 MiB, for how") == 1
    assert said.count("about 3.4 KiB\n") == 1
    assert [call for call in calls_of(world.nas) if call[0] == "send" and call[-1].endswith("day 1")] == []


def test_what_nobody_knows_is_said_so(world: World) -> None:
    world.copied().witness.plan = [large(world, 3, base=2, estimated_size="-")]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert f"{COPY}: sends an unknown amount" in run.stderr


def test_how_fast_it_went_is_kept_for_each_peer_and_evened_out(world: World) -> None:
    sized(world, 8_000_000)
    rate = world.nas.config.parent / "nas.state" / "rate.root@backup:2222"
    world.nas.fault('{"send": {"hang": 2}}')
    world.copied().witness.plan = [large(world, 3, base=2)]
    assert world.nas.agent("run").returncode == 0
    assert not rate.exists()  # what turned out to be small counts for nothing
    world.witness.plan = [large(world, 4, base=3)]
    assert world.nas.agent("run").returncode == 0
    first = int(rate.read_text())
    assert 8_000_000 / 60 < first <= 4_000_000
    sized_again = first * 1000
    rate.write_text(f"{sized_again}\n")
    with world.nas.pools() as nas:
        nas.write(VIDEOS, 8_000_000)
        nas.snapshot(VIDEOS, "day 5")
    world.witness.plan = [large(world, 5, base=4)]
    assert world.nas.agent("run").returncode == 0
    assert sized_again / 2 < int(rate.read_text()) < sized_again / 2 + 4_000_001


def test_a_transfer_that_failed_says_nothing_about_the_rate(world: World) -> None:
    sized(world, 8_000_000)
    world.nas.fault('{"send": {"hang": 2, "complaint": "Input/output error"}}')
    world.copied().witness.plan = [large(world, 4, base=2)]
    assert world.nas.agent("run").returncode == 1
    assert list((world.nas.config.parent / "nas.state").glob("rate.*")) == []
