"""The request log: a line for each request, and nothing secret or forged in it."""

import logging
import re

import pytest

from tests.witness import ADMIN, Client

LINE = re.compile(r"(\w+) (\S+) (\d{3}) \d+ ms request ([0-9a-f]{32}) caller (\S+)")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, ...]]:
    found = [LINE.fullmatch(record.getMessage()) for record in caplog.records if record.name == "zfs_sync"]
    return [match.groups() for match in found if match]


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zfs_sync")


def test_each_request_is_one_line_with_its_id_and_caller(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    ok = client.call("GET", "/systems")
    nothing = client.call("GET", "/nothing", status=404)
    refused = client.with_key(None).call("GET", "/systems", status=401)
    assert lines(caplog) == [
        ("GET", "/api/v1/systems", "200", ok.headers["X-Request-ID"], "admin"),
        ("GET", "/api/v1/nothing", "404", nothing.headers["X-Request-ID"], "-"),
        ("GET", "/api/v1/systems", "401", refused.headers["X-Request-ID"], "-"),
    ]


def test_keys_queries_and_forged_lines_stay_out_of_it(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.call("GET", "/systems?limit=7&key=secret", status=422)
    client.with_key("admin.wrong-secret-0123456789").call("GET", "/systems%0AGET%20/forged", status=404)
    client.with_key("admin.wrong-secret-0123456789").call("GET", "/systems", status=401)
    logged = [path for _, path, *_ in lines(caplog)]
    assert logged == ["/api/v1/systems", "/api/v1/systems%0AGET%20/forged", "/api/v1/systems"]
    assert "secret" not in caplog.text
    assert ADMIN.partition(".")[2] not in caplog.text
