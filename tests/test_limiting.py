"""How often somebody may try, counted for all processes and instances that share a store."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import TooMany
from handlers.limiting import MOST, count_attempt, network_of
from store import LIMITS, REGISTRY, Store
from store.store import Transaction
from tests.lab import CHECKOUT
from tests.store_samples import NOON, Place
from tests.witness import ADMIN, BASE, client_of, place_of

pytestmark = pytest.mark.on_both


@pytest.fixture
def store(place: Place) -> Any:
    opened = Store.open(place)
    yield opened
    opened.close()


def tries(store: Store, who: str, at_s: float, rule: str = "3/minute", purpose: str = "auth") -> int:
    """0 for an attempt that is let through, else how long it is to wait."""
    try:
        count_attempt(store, purpose, rule, who, NOON + timedelta(seconds=at_s))
    except TooMany as refused:
        return int(refused.headers["Retry-After"])
    return 0


def test_the_limit_is_exact_within_a_period_and_the_wait_is_enough(store: Store) -> None:
    assert [tries(store, "a", at) for at in (0, 10, 20)] == [0, 0, 0]
    wait_s = tries(store, "a", 30)
    assert wait_s == 31
    assert tries(store, "a", 30 + wait_s - 2) > 0
    assert tries(store, "a", 30 + wait_s) == 0


def test_what_was_tried_in_the_period_before_fades(store: Store) -> None:
    for at in (50, 55, 59):
        tries(store, "a", at)
    assert tries(store, "a", 50 + 61) == 0  # 3 * 59/60 count still: room for one
    wait_s = tries(store, "a", 50 + 62)
    assert wait_s > 0
    assert tries(store, "a", 50 + 62 + wait_s) == 0
    assert [tries(store, "a", 400) for _ in range(4)][:3] == [0, 0, 0]  # all forgotten


def test_callers_and_purposes_are_counted_apart(store: Store) -> None:
    for _ in range(4):
        tries(store, "a", 0)
    assert tries(store, "a", 1) > 0
    assert tries(store, "b", 1) == 0
    assert tries(store, "a", 1, purpose="registration") == 0


def test_one_that_is_refused_writes_nothing_and_prolongs_nothing(store: Store) -> None:
    for _ in range(3):
        tries(store, "a", 0)
    before = store.read(LIMITS).generation
    assert all(tries(store, "a", at) == 60 - at + 1 for at in range(1, 50))
    assert store.read(LIMITS).generation == before


def test_what_no_longer_counts_is_dropped_and_there_are_never_too_many(store: Store) -> None:
    for n in range(3):
        tries(store, f"old-{n}", 0)
    tries(store, "new", 121)
    assert store.read(LIMITS).attempts.ids() == ["auth new"]
    with store.transaction(LIMITS) as tx:
        fill(tx)
    tries(store, "one more", 122)
    kept = store.read(LIMITS).attempts
    assert len(kept) == MOST
    assert "auth one more" in kept


def fill(tx: Transaction) -> None:
    (known,) = tx[LIMITS].attempts.all()
    for n in range(MOST + 10):
        tx[LIMITS].attempts.put(type(known)(f"auth {n}", known.started_at, known.ends_at, 1, 0))


def test_a_clock_that_was_set_back_far_locks_nobody_out_and_a_little_skew_forgets_nothing(store: Store) -> None:
    for _ in range(3):
        tries(store, "a", 1000)
    assert tries(store, "a", 999) > 0
    assert tries(store, "a", 100) == 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_caller(address: str, counted: str) -> None:
    assert network_of(address) == counted


def test_other_processes_and_instances_count_together(make_witness: Any) -> None:
    witness = make_witness(rate_limits="{failed_auth: 4/hour}")
    client = client_of(witness)
    code = "import sys, tests.test_limiting as here; here.fail_in_another_process(sys.argv[1])"
    for _ in range(2):
        argv = [sys.executable, "-c", code, str(place_of(witness))]
        subprocess.run(argv, check=True, cwd=CHECKOUT, timeout=60)
    headers = {"X-API-Key": "no.such-key"}
    where: Any = {"headers": headers, "extra_environ": {"REMOTE_ADDR": "192.0.2.1"}, "expect_errors": True}
    answers = [client.app.get(f"{BASE}/systems", **where).status_code for _ in range(3)]
    assert answers == [401, 401, 429]
    assert client.call("GET", "/systems").status_code == 200


def fail_in_another_process(place: str) -> None:
    store = Store.open(place if place.startswith("postgres") else Path(place))
    count_attempt(store, "auth", "4/hour", "192.0.2.1", datetime.now(UTC))
    store.close()


def test_a_right_key_costs_no_write(make_witness: Any) -> None:
    client = client_of(make_witness())
    before = client.witness.store.read(REGISTRY).generation, client.witness.store.read(LIMITS).generation
    for _ in range(3):
        client.get("/systems")
    after = client.witness.store.read(REGISTRY).generation, client.witness.store.read(LIMITS).generation
    assert after == before


@pytest.mark.on_files
def test_what_takes_long_is_limited_per_key(make_witness: Any) -> None:
    client = client_of(make_witness(rate_limits="{heavy: 3/hour}"))
    other = client.with_role("viewer")
    for _ in range(3):
        client.get("/snapshots/statistics")
    assert int(client.call("GET", "/snapshots/statistics", status=429).headers["Retry-After"]) > 60
    client.call("GET", "/snapshots/history", status=429)
    assert other.get("/snapshots/statistics") == []
    assert client.get("/systems") == []


@pytest.mark.on_files
def test_a_wrong_key_is_refused_also_when_nothing_can_be_counted(make_witness: Any) -> None:
    client = client_of(make_witness(lock_timeout_s=0.05))
    other = Store.open(place_of(client.witness))
    with other.transaction(LIMITS):
        client.with_key("no.such-key").call("GET", "/systems", status=429)
        assert client.with_key(ADMIN).call("GET", "/systems").status_code == 200
    client.with_key("no.such-key").call("GET", "/systems", status=401)
