"""Alerts end to end: real servers with several workers, a real receiver, a worker killed, a restart."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import config
from cli.demo import SETTINGS, fill
from store import ALERTS
from tests.receiver import Receiver, receiving
from tests.test_serve import serving
from zfs_sync import open_witness


def set_up(folder: Path, receiver: Receiver) -> config.Config:
    """The example, whose messages go to the receiver, looked at each second."""
    text = f"port: 0\ntick_s: 1\nwebhook_url: {receiver.address}/hook\nping_url: {receiver.address}/ping\n{SETTINGS}"
    (folder / "zfs_sync.yaml").write_text(text)
    settings = config.load(folder / "zfs_sync.yaml", {})
    fill(open_witness(settings), datetime.now(UTC))
    return settings


def pings(receiver: Receiver) -> int:
    return sum(each.path == "/ping" for each in receiver.requests)


def test_each_is_told_once_by_several_workers_of_two_servers_through_a_kill_and_a_restart(tmp_path: Path) -> None:
    with receiving() as receiver:
        settings = set_up(tmp_path, receiver)
        with serving(tmp_path) as server, serving(tmp_path) as other:
            server.wait_until(lambda: pings(receiver) >= 3)
            told = sorted(receiver.told())
            assert {kind for _, kind in told} >= {"late", "conflict", "silent"}
            assert {state for state, _ in told} == {"raised"}
            ticked_by = open_witness(settings).store.read(ALERTS).ticks.get("last").by
            workers = [*server.workers(), *other.workers()]
            victim = int(ticked_by.rpartition(":")[2])
            assert victim in workers
            os.kill(victim, signal.SIGKILL)  # in the middle of whatever it does
            before = pings(receiver)
            server.wait_until(lambda: pings(receiver) >= before + 3)  # another goes on
            assert sorted(receiver.told()) == told
            assert other.end(signal.SIGTERM) == 0
            assert server.end(signal.SIGTERM) == 0
        before = pings(receiver)
        with serving(tmp_path) as server:
            server.wait_until(lambda: pings(receiver) >= before + 2)
            assert sorted(receiver.told()) == told
            assert server.end(signal.SIGTERM) == 0
        assert len({each.headers["webhook-id"] for each in receiver.posted()}) == len(receiver.posted())
