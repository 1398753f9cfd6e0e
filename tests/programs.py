"""Programs that tests call beside Python."""

import os
import shutil

import pytest


def need(program: str) -> str:
    """Where a program is. Skips the test where it is not installed; in CI everything is."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        assert "CI" not in os.environ, f".ci/run must install {program}"
        pytest.skip(f"{program} is not installed")
    return found
