"""/metrics: what it says of a store, what workers count together, and the rules and panels made of it."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from webtest import TestApp

from cli.demo import SETTINGS, fill
from handlers import metrics
from handlers.request import Witness
from handlers.routes import make_app
from handlers.tick import tick
from store import ALERTS, LEASES
from store.documents import Alert, Total
from tests.lab import CHECKOUT
from tests.programs import need
from tests.test_serve import Server, serving
from tests.witness import BASE, Client, client_of

MONITORING = CHECKOUT / "deploy" / "monitoring"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"zfs_sync_{name}", frozenset(labels.items())))


def scraped(client: Client) -> Samples:
    return samples(client.call("GET", "/metrics").text)


@pytest.fixture
def example(make_witness: Any) -> Client:
    """The example that `demo` shows, without its settings of the service."""
    witness: Witness = make_witness(SETTINGS.partition("groups:\n")[2], lease_s=86400, heartbeat_timeout_s=604800)
    fill(witness, datetime.now(UTC))
    return client_of(witness)


# --- what the store says -------------------------------------------------------------------------


def test_every_cell_has_its_lag(example: Client) -> None:
    found = scraped(example)
    photos = {"group": "backup", "dataset": "photos", "system": "backup"}
    assert 86400 < (value(found, "lag_seconds", **photos) or 0) < 3 * 86400
    assert (value(found, "missing_snapshots", **photos) or 0) > 20
    common = value(found, "newest_common_timestamp_seconds", **photos) or 0
    assert 86400 < datetime.now(UTC).timestamp() - common < 4 * 86400
    assert value(found, "lag_seconds", group="backup", dataset="photos", system="nas") == 0
    never = {"group": "backup", "dataset": "paperless", "system": "backup"}
    assert value(found, "newest_common_timestamp_seconds", **never) is None
    status = example.get(f"/sync/{example.get('/sync-groups')[0]['id']}/status")
    by_status = [cell["status"] for row in status["datasets"] for cell in row["systems"].values()]
    for state in set(by_status):
        counted = sum(
            value(found, "datasets", group="backup", system=host, status=state) or 0 for host in ("nas", "backup")
        )
        assert counted == by_status.count(state)
    assert value(found, "late_datasets", group="backup", system="backup") == status["summary"]["late"]
    assert value(found, "late_datasets", group="backup", system="nas") == 0


def test_conflicts_actions_and_transfers_are_counted(example: Client) -> None:
    found = scraped(example)
    assert value(found, "conflicts", group="backup", type="diverged", status="open") == 1
    assert value(found, "conflicts", group="offsite", type="diverged", status="open") == 0
    assert value(found, "actions", group="backup", state="running") == 1
    plan = example.get(f"/sync/{example.get('/sync-groups')[0]['id']}/instructions")
    waiting = sum(action["lease"] is None for action in plan["actions"])
    assert value(found, "actions", group="backup", state="planned") == waiting
    assert value(found, "actions", group="backup", state="skipped") == len(plan["skipped"])
    series = {"group": "backup", "dataset": "vault/nas/media/series", "system": "backup"}
    size, done = value(found, "transfer_size_bytes", **series), value(found, "transfer_done_bytes", **series)
    assert size
    assert done == size * 2 // 5
    assert value(found, "transferred_bytes_total", group="backup", system="backup") is None
    group_id, target = plan["sync_group_id"], plan["actions"][0]["target_system_id"]
    total = Total(id="x", group_id=group_id, target_system_id=target, bytes_done=77, done=3, failed=2)
    gone = Total(id="y", group_id="deleted", target_system_id=target, bytes_done=1)
    with example.witness.store.transaction(LEASES) as tx:
        tx[LEASES].totals.put(total)
        tx[LEASES].totals.put(gone)
    found = scraped(example)
    assert value(found, "transferred_bytes_total", group="backup", system="backup") == 77
    assert value(found, "transfers_total", group="backup", system="backup", outcome="done") == 3
    assert value(found, "transfers_total", group="backup", system="backup", outcome="failed") == 2


def test_systems_alerts_and_the_service_itself_are_there(example: Client) -> None:
    found = scraped(example)
    now = datetime.now(UTC).timestamp()
    for name in ("system_last_seen_timestamp_seconds", "inventory_timestamp_seconds"):
        ages = {host: now - (value(found, name, system=host) or 0) for host in ("nas", "offsite")}
        assert ages["nas"] < 600
        assert 8.9 < ages["offsite"] / 86400 < 9.1
    assert value(found, "snapshots", system="offsite") == 70
    assert value(found, "clock_ahead_seconds", system="nas") is None
    assert value(found, "alerts", kind="late") == 0
    assert value(found, "last_tick_timestamp_seconds") is None
    assert (value(found, "store_bytes") or 0) > 50_000
    assert tick(example.witness)
    found = scraped(example)
    assert (value(found, "alerts", kind="late") or 0) == 1  # what was never there has a day more
    assert value(found, "alerts", kind="conflict") == 1
    assert abs((value(found, "last_tick_timestamp_seconds") or 0) - now) < 600
    waits = Alert(id="w", kind="guard", severity="critical", text="", since=datetime.now(UTC))
    with example.witness.store.transaction(ALERTS) as tx:
        tx[ALERTS].alerts.put(waits)
    assert value(scraped(example), "alerts", kind="guard") == 0  # it has not lasted long enough


def test_no_more_than_so_many_datasets_have_series_of_their_own(
    example: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scraped(example)
    cells = sum(name == "zfs_sync_lag_seconds" for name, _ in whole)
    monkeypatch.setattr(metrics, "MAX_CELLS", 3)
    few = scraped(example)
    lags = {labels: lag for (name, labels), lag in few.items() if name == "zfs_sync_lag_seconds"}
    longest = sorted(v for (n, _), v in whole.items() if n == "zfs_sync_lag_seconds")[-3:]
    assert sorted(lags.values()) == pytest.approx(longest, abs=60)  # scraped a moment later
    assert (value(few, "cells_left_out"), value(whole, "cells_left_out")) == (cells - 3, 0)
    assert value(few, "late_datasets", group="offsite", system="offsite") == 5


def test_a_group_that_cannot_be_read_is_counted_and_hides_no_other(example: Client) -> None:
    offsite = next(each["id"] for each in example.get("/systems") if each["hostname"] == "offsite")
    (example.witness.config.data_dir / "inventories" / f"{offsite}.json").write_text("{")
    found = scraped(example)
    assert value(found, "unreadable_groups") == 1
    assert value(found, "lag_seconds", group="backup", dataset="photos", system="backup")
    assert value(found, "late_datasets", group="offsite", system="offsite") is None


def test_metrics_are_for_viewers_unless_they_are_public(make_witness: Any) -> None:
    closed = client_of(make_witness())
    assert closed.with_key(None).call("GET", "/metrics", status=401).json["status_code"] == 401
    assert closed.with_role("viewer").call("GET", "/metrics").content_type == "text/plain"
    assert closed.register("nas").call("GET", "/metrics", status=403)
    public = client_of(make_witness(metrics_public="true"))
    assert "zfs_sync_alerts" in public.with_key(None).call("GET", "/metrics").text
    public.with_key("admin.wrong-secret-0123456789").call("GET", "/metrics", status=401)
    public.with_key(None).call("GET", "/systems", status=401)


def test_names_that_a_label_cannot_hold_as_they_are_come_back_whole(client: Client) -> None:
    name = 'a "quoted" \\ name'
    agent = client.register("nas")
    agent.report("tank\tfilesystem\t1\t1\t1700000000\t0\t0\t0\toff\t-\t-\n")
    client.call("POST", "/sync-groups", {"name": name, "system_ids": [agent.id]})
    assert value(scraped(client), "late_datasets", group=name, system="nas") == 0


# --- what the processes count --------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The example, served by two workers."""
    folder = tmp_path_factory.mktemp("metrics")
    left, fresh, held = (folder / f"zfs-sync-counts-{name}" for name in ("left", "fresh", "held"))
    for each in (left, fresh, held):
        each.mkdir()
    for each in (left, held):
        os.utime(each, (0, 0))  # of servers that were killed long ago, or have long been serving
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with serving(folder, "demo", "--port", "0") as running:
        running.wait_until(lambda: "Ctrl-C ends it" in running.said)
        yield running
        folders = {*folder.glob("zfs-sync-counts-*")}
        assert folders > {fresh, held}
        assert len(folders - {left}) == 3
        assert running.end(signal.SIGTERM) == 0
        assert {*folder.glob("zfs-sync-counts-*")} == {fresh, held}
    os.close(lock)


def scrape(server: Server) -> str:
    viewer = re.findall(r"viewer key +(\S+)", server.said)[0]
    request = urllib.request.Request(f"{server.address}{BASE}/metrics", headers={"Authorization": f"Bearer {viewer}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        text: str = response.read().decode()
        return text


def test_workers_count_together_also_those_that_are_gone(server: Server) -> None:
    def answered() -> float:
        return value(samples(scrape(server)), "http_requests_total", endpoint="show_health", status="200") or 0

    before = answered()
    for _ in range(20):
        server.get("/health")
    assert {answered() for _ in range(6)} == {before + 20}  # whichever worker answers
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_until(lambda: len(server.workers()) == 2)
    assert answered() == before + 20
    server.get("/health")
    found = samples(scrape(server))
    assert value(found, "http_requests_total", endpoint="show_health", status="200") == before + 21
    assert value(found, "http_request_duration_seconds_count", endpoint="show_health") == before + 21
    assert (value(found, "store_lock_wait_seconds_count") or 0) > 0
    assert value(found, "store_lock_timeouts_total") == 0


def test_paths_that_anybody_can_make_up_are_one_label(server: Server) -> None:
    for number in range(5):
        with pytest.raises(urllib.error.HTTPError):
            server.get(f"/nothing/{number}")
    found = samples(scrape(server))
    assert value(found, "http_requests_total", endpoint="other", status="404") == 5
    assert "nothing" not in scrape(server)


def test_without_a_folder_for_counts_the_library_is_not_even_imported(example: Client) -> None:
    assert "zfs_sync_http_requests" not in TestApp(make_app(example.witness)).get(
        f"{BASE}/metrics", headers={"X-API-Key": str(example.key)}
    )


# --- rules and panels ----------------------------------------------------------------------------


def expressions() -> dict[str, list[str]]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return {
        "alerts.yml": [rule["expr"] for rule in rules],
        "dashboard.json": [target["expr"] for panel in panels for target in panel["targets"]],
    }


def test_every_metric_of_the_rules_and_panels_is_there(server: Server) -> None:
    """In the example: but for what needs a transfer that ended, or a heartbeat, which it has not."""
    server.wait_until(lambda: "zfs_sync_last_tick_timestamp_seconds 1" in scrape(server))
    there = {line.split(" ")[2] for line in scrape(server).splitlines() if line.startswith("# TYPE")}
    there |= {f"{name}_{end}" for name in there for end in ("bucket", "sum", "count", "total")}
    for file, found in expressions().items():
        used = {name for each in found for name in re.findall(r"zfs_sync_\w+", each)}
        assert len(used) > 10, file
        assert used - there == set(), file


def promtool(*arguments: str | Path, text: str = "") -> None:
    done = subprocess.run([need("promtool"), *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_the_rules_good(tmp_path: Path) -> None:
    promtool("check", "rules", MONITORING / "alerts.yml")
    for name in ("alerts.yml", "prometheus.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yml")


def test_promtool_finds_the_metrics_good(server: Server) -> None:
    promtool("check", "metrics", text=scrape(server))


def test_the_rules_fire_when_they_should(tmp_path: Path) -> None:
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    series = {
        'zfs_sync_late_datasets{group="g",system="backup",instance="a"}': "0x10 2x60",
        'zfs_sync_late_datasets{group="g",system="backup",instance="b"}': "0x10 2x60",
        'zfs_sync_late_datasets{group="g",system="offsite"}': "0x70",
        'zfs_sync_conflicts{group="g",type="diverged",status="pending"}': "1x70",
        'zfs_sync_transfers_total{group="g",system="backup",outcome="failed"}': "0+1x70",
        'zfs_sync_transfers_total{group="g",system="backup",outcome="done"}': "7x70",
        'zfs_sync_transfers_total{group="g",system="offsite",outcome="failed"}': "0+1x70",
        'zfs_sync_transfers_total{group="g",system="offsite",outcome="done"}': "0+1x70",
        "zfs_sync_last_tick_timestamp_seconds": "0x70",
    }
    late = {"severity": "warning", "group": "g", "system": "backup"}
    expected = {
        ("20m", "ZfsSyncLate"): [],
        ("40m", "ZfsSyncLate"): [(late, "2 datasets of g on backup are late.")],
        ("60m", "ZfsSyncConflict"): [],
        ("60m", "ZfsSyncTransfersFail"): [
            ({**late, "severity": "critical"}, "Every transfer of g to backup has failed for six hours.")
        ],
        ("10m", "ZfsSyncNotLooking"): [],
        ("30m", "ZfsSyncNotLooking"): [
            ({"severity": "critical"}, "The witness has not looked for 30m 0s: nobody is told of anything.")
        ],
    }
    tests = {
        "rule_files": ["alerts.yml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [
                    {
                        "eval_time": at,
                        "alertname": name,
                        "exp_alerts": [
                            {"exp_labels": labels, "exp_annotations": {"summary": summary}}
                            for labels, summary in alerts
                        ],
                    }
                    for (at, name), alerts in expected.items()
                ],
            }
        ],
    }
    (tmp_path / "rules.test.yml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", tmp_path / "rules.test.yml")
