"""Three instances over one store, each request to any of them: the functional tests again, with the same answers."""

import subprocess
import sys

import pytest

from tests.checkout import ROOT

FUNCTIONAL = ("actions", "conflicts", "resolving", "sync_groups", "systems")


def test_what_holds_for_one_instance_holds_for_three() -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:xdist", "--through", "three"]
    argv += ["--engine", "postgresql"]
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in FUNCTIONAL]
    done = subprocess.run([*argv, *files], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:]
    if "PostgreSQL" in done.stdout:
        pytest.skip("there is no PostgreSQL here")
