"""Linters and type checkers are content with everything: ruff, mypy, shellcheck."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT, files_in
from tests.programs import need


def run(*argv: str) -> None:
    """Run a checker here; what it says is the test's failure."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def shell_scripts() -> list[Path]:
    """Every file whose first line calls a shell that shellcheck knows, and every *.sh."""
    found = []
    for path in files_in("deploy", ".ci", "tests"):
        with path.open("rb") as file:
            first = file.readline(100)
        if path.suffix == ".sh" or re.match(rb"#!.*\b(sh|bash|dash|ksh)\b", first):
            found.append(path)
    return found


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_ruff_would_format_nothing() -> None:
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "--diff", ".")


def test_types_hold() -> None:
    run(sys.executable, "-m", "mypy")


def test_the_scripts_are_found() -> None:
    assert {"zfs-sync-agent", "run"} <= {path.name for path in shell_scripts()}


@pytest.mark.parametrize("script", shell_scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    run(need("shellcheck"), str(script))
