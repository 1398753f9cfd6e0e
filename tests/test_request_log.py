"""The request log: a line for each request, and nothing secret or forged in it."""

import logging
import re

import pytest

from tests.witness import ADMIN, Client

LINE = re.compile(r"(\w+) (\S+) (\d{3}) \d+ ms request ([0-9a-f]{32}) caller (\S+) from (\S+)")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, ...]]:
    found = [LINE.fullmatch(record.getMessage()) for record in caplog.records if record.name == "zfs_sync"]
    return [match.groups() for match in found if match]


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_each_request_is_one_line_with_its_id_and_caller(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    ok = client.call("GET", "/systems", extra_environ={"REMOTE_ADDR": "192.0.2.7"})
    nothing = client.call("GET", "/nothing", status=404)
    refused = client.with_key(None).call("GET", "/systems", status=401)
    assert lines(caplog) == [
        ("GET", "/api/v1/systems", "200", ok.headers["X-Request-ID"], "admin", "192.0.2.7"),
        ("GET", "/api/v1/nothing", "404", nothing.headers["X-Request-ID"], "-", "-"),
        ("GET", "/api/v1/systems", "401", refused.headers["X-Request-ID"], "-", "unknown"),
    ]
    first = next(each for each in caplog.records if each.name == "zfs_sync")
    fields = ("method", "path", "status", "request_id", "caller", "address")
    assert tuple(str(getattr(first, name)) for name in fields) == lines(caplog)[0]


def test_each_decision_is_one_line_with_its_request_and_no_forged_ones(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    made = client.call("POST", "/systems/register", {"hostname": "nas"})
    client.with_key("admin.wrong-secret-0123456789").call("DELETE", "/systems/x%0Aforged", status=401)
    events = [each for each in caplog.records if each.name == "zfs_sync.events"]
    assert [each.getMessage() for each in events] == [
        f"system.registered: nas by admin request {made.headers['X-Request-ID']}",
        f"auth.refused: DELETE /api/v1/systems/x\\nforged by - request {events[1].request_id}",
    ]
    assert (events[0].what, events[0].who, events[0].system_id) == ("system.registered", "admin", made.json["id"])


def test_keys_queries_and_forged_lines_stay_out_of_it(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.call("GET", "/systems?limit=7&key=secret", status=422)
    client.with_key("admin.wrong-secret-0123456789").call("GET", "/systems%0AGET%20/forged", status=404)
    client.with_key("admin.wrong-secret-0123456789").call("GET", "/systems", status=401)
    logged = [path for _, path, *_ in lines(caplog)]
    assert logged == ["/api/v1/systems", "/api/v1/systems%0AGET%20/forged", "/api/v1/systems"]
    assert "secret" not in caplog.text
    assert ADMIN.partition(".")[2] not in caplog.text
