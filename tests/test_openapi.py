"""/openapi.json: complete, valid, and as tests/golden/openapi.json has it."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from handlers.openapi import description_of, statuses_of
from handlers.request import JSON
from handlers.routes import ENDPOINTS
from tests.contract import hold_to_contract, operations, row_of
from tests.witness import BASE, Client

GOLDEN = Path(__file__).parent / "golden" / "openapi.json"


def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(description_of(BASE))
    return found


def test_it_is_valid_openapi() -> None:
    validate(described())


def test_it_is_as_it_was(request: pytest.FixtureRequest) -> None:
    """`pytest tests/test_openapi.py --rewrite-golden` writes the file anew; its diff is then read."""
    text = json.dumps(described(), indent=1) + "\n"
    if request.config.getoption("--rewrite-golden"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text, "run pytest tests/test_openapi.py --rewrite-golden, and read the diff"


def test_it_is_served_at_the_root_and_below_the_prefix_without_a_key(client: Client) -> None:
    below = client.with_key(None).call("GET", "/openapi.json")
    at_root = client.app.get("/openapi.json")
    assert below.body == at_root.body == description_of(BASE)
    assert below.content_type == JSON
    again = client.app.get("/openapi.json", headers={"If-None-Match": below.headers["ETag"]})
    assert (again.status_code, again.body) == (304, b"")


def test_every_endpoint_is_there_with_what_a_reader_needs() -> None:
    found = described()["paths"]
    assert {(method.upper(), path) for path, each in found.items() for method in each} == {
        (row.method, row.path.replace("<", "{").replace(">", "}")) for row in ENDPOINTS
    }
    for row in ENDPOINTS:
        operation = operations()[row.name]
        assert operation["summary"], row.name
        assert set(operation["responses"]) == {str(status) for status in statuses_of(row)}
        assert (operation.get("security") == []) == row.for_anyone
        assert ("requestBody" in operation) == row.reads_body


def test_every_answer_and_every_body_has_an_example_that_fits() -> None:
    import jsonschema_rs

    document = described()
    for name, operation in operations().items():
        answers = [each for each in operation["responses"].values() if "content" in each]
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for kind, content in [pair for each in answers + bodies for pair in each["content"].items()]:
            schema = {**content["schema"], "components": document["components"]}
            assert jsonschema_rs.validator_for(schema).is_valid(content["example"]), (name, kind, content["example"])


def test_representations_and_keys_are_described() -> None:
    instructions = operations()["show_instructions"]["responses"]["200"]
    assert set(instructions["content"]) == {JSON, "text/tab-separated-values", "text/x-shellscript"}
    assert {"X-Plan-Expires", "X-Plan-Signature", "ETag"} <= set(instructions["headers"])
    report = operations()["replace_inventory"]["requestBody"]["content"]
    assert set(report) == {JSON, "text/tab-separated-values"}
    assert set(described()["components"]["securitySchemes"]) == {"ApiKey", "Bearer"}
    assert "gzip" in described()["info"]["description"]


@pytest.mark.parametrize(
    ("status", "headers", "body", "complaint"),
    [
        (418, {}, b"", "does not document"),
        (200, {"X-New": "1"}, b"[]", "not documented"),
        (200, {"X-Total-Count": None}, b"[]", "without x-total-count"),
        (200, {"X-Total-Count": "many"}, b"[]", "many"),
        (200, {"Content-Type": "text/html"}, b"[]", "text/html"),
        (200, {}, b'[{"id": 3}]', "required property"),
        (200, {}, b"", "with nothing"),
        (304, {}, b"[]", "answers 304"),
    ],
)
def test_what_is_not_documented_is_noticed(
    status: int, headers: dict[str, str | None], body: bytes, complaint: str
) -> None:
    """The tests hold every answer that they get to the description; so they would notice."""
    row = row_of("GET", f"{BASE}/systems")
    assert row is not None
    usual = {"Content-Type": JSON, "ETag": '"x"', "X-Request-ID": "x", "X-Total-Count": "0"}
    sent = {name: value for name, value in {**usual, **headers}.items() if value is not None}
    with pytest.raises(AssertionError, match=complaint):
        hold_to_contract(row, status, sent.items(), body)
    hold_to_contract(row, 200, usual.items(), b"[]")
