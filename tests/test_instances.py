"""Three instances on one database, behind nginx: one is killed, connections break, PostgreSQL restarts.

What was acknowledged is there, once, and a lease has one token, whoever was asked.
"""

import json
import os
import random
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from store import REGISTRY, Store, heartbeat_of
from tests.boxes import COLUMNS, listing
from tests.front import Nginx
from tests.lab import CHECKOUT, free_port, wait_until_ready
from tests.postgres_server import Server
from tests.witness import ADMIN, BASE, ENROLL

SYSTEMS_EACH = 6
CALLERS = 4


class Instances:
    """Servers that share a store, and callers that try another one when one fails, as behind a load balancer."""

    def __init__(self, folder: Path, address: str) -> None:
        self.ports = [free_port() for _ in range(3)]
        self.log = folder / "log"
        config = folder / "zfs_sync.yaml"
        config.write_text("workers: 1\nthreads: 4\nevent_days: 365\n")
        self.processes = []
        for port in self.ports:
            environ = {
                **os.environ,
                "ZFS_SYNC_PORT": str(port),
                "ZFS_SYNC_STORE_URL": address,
                "ZFS_SYNC_ADMIN_KEY": ADMIN,
                "ZFS_SYNC_ENROLL_KEY": ENROLL,
                "ZFS_SYNC_RATE_LIMITS": '{"registration": "1000/second"}',
            }
            command = [sys.executable, str(CHECKOUT / "zfs_sync.py"), "--config", str(config)]
            with self.log.open("ab") as log:
                started = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
            self.processes.append(started)
        for port in self.ports:
            wait_until_ready(port, self.log)
        self.addresses = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.trust: ssl.SSLContext | None = None

    def ask(self, dice: random.Random, method: str, path: str, body: Any = None, key: str = ADMIN, **more: str) -> Any:
        """The status and the JSON of an answer, by any instance. What may have been done is asked for again."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"X-API-Key": key, "Content-Type": "application/json", **more}
        for _ in range(400):
            url = f"{dice.choice(self.addresses)}{BASE}{path}"
            try:
                request = urllib.request.Request(url, data, headers, method=method)
                with urllib.request.urlopen(request, timeout=30, context=self.trust) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in (502, 503):  # 502: nginx had asked one that was killed
                        return error.code, json.load(error)
            except (OSError, HTTPException):
                pass  # nobody listens there any more, or not to the end
            time.sleep(0.02)
        raise AssertionError(self.log.read_text()[-5000:])

    def close(self) -> None:
        """End them all."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)


@pytest.fixture
def address(postgresql: Server) -> str:
    return postgresql.address(postgresql.new_schema())


@pytest.fixture
def instances(tmp_path: Path, address: str) -> Iterator[Instances]:
    started = Instances(tmp_path, address)
    yield started
    started.close()


@pytest.fixture
def behind_nginx(instances: Instances, tmp_path: Path) -> Iterator[Instances]:
    """The same instances, asked by way of one nginx that spreads what comes over them."""
    (tmp_path / "nginx").mkdir()
    nginx = Nginx(tmp_path / "nginx", instances.ports)
    instances.addresses, instances.trust = [f"https://127.0.0.1:{nginx.port}"], nginx.context()
    yield instances
    nginx.stop()


class Caller(threading.Thread):
    """Registers systems, reports snapshots for them and says that they live, wherever it gets an answer."""

    def __init__(self, number: int, instances: Instances) -> None:
        super().__init__()
        self.number, self.instances, self.dice = number, instances, random.Random(number)
        self.done = 0
        self.registered: list[str] = []
        self.failed: list[Any] = []
        self.beats: dict[str, int] = {}

    def run(self) -> None:
        try:
            for n in range(SYSTEMS_EACH):
                self.live(f"host-{self.number}-{n}")
        except BaseException as error:
            self.failed.append(error)

    def live(self, hostname: str) -> None:
        status, made = self.instances.ask(self.dice, "POST", "/systems/register", {"hostname": hostname})
        assert status in (201, 409), made  # 409: it was done, and the answer got lost
        self.registered.append(hostname)
        if status == 409:
            return
        for n in range(4):
            snapshot = {"system_id": made["id"], "dataset": "tank/data", "name": f"s{n}", "guid": str(n + 1)}
            status, said = self.instances.ask(self.dice, "POST", "/snapshots", snapshot)
            assert status == 201, said
            body = {"metadata": {"count": n}}
            status, said = self.instances.ask(
                self.dice, "POST", f"/systems/{made['id']}/heartbeat", body, made["api_key"]
            )
            assert status == 200, said
            self.done += 1
        self.beats[made["id"]] = 3


def disturb(instances: Instances, postgresql: Server, callers: list[Caller]) -> None:
    """One instance is killed, then all connections are ended, and PostgreSQL restarts, while the callers go on."""

    def wait_for(done: int) -> None:
        while sum(caller.done for caller in callers) < done and any(caller.is_alive() for caller in callers):
            time.sleep(0.005)

    wait_for(8)
    os.killpg(instances.processes[0].pid, 9)
    wait_for(24)
    postgresql.end_connections()
    wait_for(40)
    postgresql.stop("fast")
    postgresql.start()
    wait_for(60)
    postgresql.end_connections()


def test_three_instances_lose_nothing_and_do_nothing_twice(
    behind_nginx: Instances, postgresql: Server, address: str
) -> None:
    instances = behind_nginx
    callers = [Caller(number, instances) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    disturb(instances, postgresql, callers)
    for caller in callers:
        caller.join()
    assert [caller.failed for caller in callers] == [[]] * CALLERS
    store = Store.open(address)
    hostnames = [system.hostname for system in store.read(REGISTRY).systems]
    wanted = [hostname for caller in callers for hostname in caller.registered]
    assert sorted(hostnames) == sorted(wanted)
    assert len(wanted) == CALLERS * SYSTEMS_EACH
    recorded = Counter(event.subject for event in store.events() if event.what == "system.registered")
    assert set(recorded.values()) == {1}
    assert len(recorded) == len(wanted)
    for system_id, count in {id: last for caller in callers for id, last in caller.beats.items()}.items():
        assert store.read(heartbeat_of(system_id)).heartbeats.get(system_id).metadata == {"count": count}
        path = f"/snapshots?system_id={system_id}"
        _, shown = instances.ask(random.Random(0), "GET", path)
        assert {each["name"] for each in shown} == {"s0", "s1", "s2", "s3"}
    store.close()


def test_a_lease_has_one_token_whoever_is_asked(instances: Instances, postgresql: Server) -> None:
    dice = random.Random(1)
    systems = {}
    for hostname in ("nas", "backup"):
        systems[hostname] = instances.ask(dice, "POST", "/systems/register", {"hostname": hostname})[1]
    nas, backup = systems["nas"], systems["backup"]
    members = {nas["id"]: {"root": "tank"}, backup["id"]: {"root": "vault/nas"}}
    body = {"name": "g", "members": members, "hub_system_id": nas["id"]}
    _, group = instances.ask(dice, "POST", "/sync-groups", body)
    for system, histories in ((nas, ["tank: 1 2 3"]), (backup, ["vault:", "vault/nas: 1 2"])):
        path = f"/systems/{system['id']}/inventory?columns={COLUMNS}"
        tsv = {"Content-Type": "text/tab-separated-values"}
        status, said = instances.ask(dice, "PUT", path, listing(*histories).encode(), system["api_key"], **tsv)
        assert status == 200, said
    _, plan = instances.ask(dice, "GET", f"/sync/{group['id']}/instructions", key=nas["api_key"])
    (action,) = plan["actions"]
    tokens: list[str] = []

    def start(number: int) -> None:
        path = f"/sync/actions/{action['action_id']}/start"
        status, said = instances.ask(random.Random(number), "POST", path, key=nas["api_key"])
        tokens.append(said["lease_token"] if status == 200 else str(said))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    postgresql.end_connections()
    for thread in threads:
        thread.join()
    assert len(tokens) == 9
    assert len(set(tokens)) == 1, tokens
