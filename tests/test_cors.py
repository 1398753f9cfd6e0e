"""Pages of other sites: off unless configured, and only for the origins that are named."""

from typing import Any

import pytest

from tests.witness import ADMIN, BASE, Client, client_of

PAGE = "https://nas.example"
ASKS = {"Origin": PAGE, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-api-key"}


def named(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


def test_no_page_may_call_unless_configured(client: Client) -> None:
    assert named(client.call("GET", "/systems", headers={"Origin": PAGE})) == {}
    refused = client.app.options(f"{BASE}/systems", headers=ASKS, status=405)
    assert named(refused) == {}


@pytest.fixture
def open_to_page(make_witness: Any) -> Client:
    return client_of(make_witness(cors_origins=f"['{PAGE}']"))


def test_a_page_of_a_named_origin_may_read_answers_and_errors(open_to_page: Client) -> None:
    client = open_to_page
    for answer in (
        client.call("GET", "/systems", headers={"Origin": PAGE}),
        client.with_key(None).call("GET", "/systems", headers={"Origin": PAGE}, status=401),
        client.app.get("/nothing", headers={"Origin": PAGE}, status=404),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers.getall("Vary")


@pytest.mark.parametrize("origin", ["https://other.example", "null", f"{PAGE}.evil.example", PAGE.upper(), ""])
def test_other_origins_are_told_nothing(open_to_page: Client, origin: str) -> None:
    answer = open_to_page.call("GET", "/systems", headers={"Origin": origin})
    assert (answer.status_code, named(answer)) == (200, {})


def test_a_browser_that_asks_first_is_answered_without_a_key(open_to_page: Client) -> None:
    answer = open_to_page.app.options(f"{BASE}/systems", headers=ASKS, status=204)
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert "X-API-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.body == b""
    open_to_page.app.options(f"{BASE}/systems", headers={"Origin": PAGE}, status=405)


def test_a_star_is_any_origin(make_witness: Any) -> None:
    client = client_of(make_witness(cors_origins="['*']"))
    answer = client.app.get(f"{BASE}/systems", headers={"X-API-Key": ADMIN, "Origin": "https://any.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
