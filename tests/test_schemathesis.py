"""Schemathesis reads /openapi.json from a real server, and tries with a key of each role all that it says, and more.

A longer look, by hand: SCHEMATHESIS_CASES=200 SCHEMATHESIS_SEED=7 pytest -s tests/test_schemathesis.py
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import config
from cli.demo import SETTINGS, fill
from handlers.keys import create_key
from handlers.local import request_here
from handlers.request import Witness
from tests.lab import Lab
from tests.witness import ADMIN, ENROLL
from zfs_sync import open_witness

CASES = os.environ.get("SCHEMATHESIS_CASES")  # for each endpoint, beside those that cover its description
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
UNLIMITED = "rate_limits: {failed_auth: 100000/second, registration: 100000/second}\n"
# Where what fits the schemas may break a rule that no schema can say: between fields, or of ZFS's names.
BEYOND_SCHEMAS = (
    "POST /conflicts/{conflict_id}/resolve",
    "POST /snapshots",
    "POST /snapshots/batch",
    "POST /sync-groups",
    "POST /sync-groups/{group_id}/systems",
    "POST /systems/register",
    "PUT /sync-groups/{group_id}",
    "PUT /systems/{system_id}",
    "PUT /systems/{system_id}/inventory",
)
ACCEPTED = '["2xx", "3xx", "401", "403", "404", "409", "410", "412", "429"'
ALL_PHASES = "examples,coverage,fuzzing,stateful"
# The admin's key shows most; the others' show what is refused to them, for which fewer cases do.
BRIEFLY = {"admin": ALL_PHASES, "agent": "examples,fuzzing"}
# All else is one 403 for them, as tests/golden/authorisation.txt has it, held against the same description.
ALLOWED = {"enroll": ["--include-operation-id", "register_system"], "viewer": ["--include-method", "GET"]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server with the systems, groups, conflicts and the transfer of the example."""
    made = Lab(tmp_path_factory.mktemp("schemathesis") / "lab", SETTINGS + UNLIMITED)
    fill(opened(made), datetime.now(UTC))
    yield made
    made.stop()


def opened(lab: Lab) -> Witness:
    return open_witness(config.load(lab.config, {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}))


def ids_there(lab: Lab) -> dict[str, str]:
    """An id of each kind that is there, so that paths lead somewhere."""
    group = lab.call("GET", "/sync-groups")[0]["id"]
    system = next(each["id"] for each in lab.call("GET", "/systems") if each["hostname"] == "nas")
    return {
        "system_id": system,
        "group_id": group,
        "snapshot_id": lab.call("GET", f"/snapshots?system_id={system}")[0]["id"],
        "state_id": lab.call("GET", "/sync/states")[0]["id"],
        "conflict_id": lab.call("GET", "/conflicts")["conflicts"][0]["id"],
        "action_id": lab.call("GET", f"/sync/{group}/instructions")["actions"][0]["action_id"],
    }


def settings_of(lab: Lab) -> str:
    """Schemathesis's configuration."""
    lines = ["[parameters]", *(f'"path.{name}" = "{value}"' for name, value in ids_there(lab).items())]
    lines += ["[checks.positive_data_acceptance]", f"expected-statuses = {ACCEPTED}]"]
    for operation in BEYOND_SCHEMAS:
        lines += ["[[operations]]", f'include-name = "{operation}"']
        lines += [f'checks.positive_data_acceptance.expected-statuses = {ACCEPTED}, "422"]']
    return "\n".join(lines)


# in this order: the admin deletes what the others look at
@pytest.mark.parametrize("role", ["enroll", "viewer", "agent", "admin"])
def test_schemathesis_finds_nothing(lab: Lab, role: str, tmp_path: Path) -> None:
    witness, ids = opened(lab), ids_there(lab)
    keys = {"admin": ADMIN, "enroll": ENROLL, "viewer": create_key(request_here(witness), "viewer")}
    keys["agent"] = create_key(request_here(witness), "agent", ids["system_id"])
    (tmp_path / "schemathesis.toml").write_text(settings_of(lab))
    argv = [
        str(Path(sys.executable).parent / "schemathesis"),
        *("run", f"http://127.0.0.1:{lab.port}/openapi.json", "--header", f"X-API-Key: {keys[role]}"),
        *("--checks", "all", "--phases", ALL_PHASES if CASES else BRIEFLY.get(role, "examples")),
        *("--max-examples", CASES or "1"),
        *([] if CASES else ALLOWED.get(role, [])),
        *("--seed", SEED, "--generation-database", "none"),
        *("--continue-on-failure", "--no-color", "--warnings", "off"),
    ]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    print(done.stdout[-1500:])
    assert done.returncode == 0, done.stdout[:20_000] + done.stderr
