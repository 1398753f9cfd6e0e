"""The single file: built from this environment, then started in an empty one."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_serve import serving

BUILD = Path(__file__).parent.parent / "deploy" / "build-pyz.sh"


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, made of the packages that run the tests."""
    file = tmp_path_factory.mktemp("pyz") / "zfs-sync.pyz"
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", BUILD, file, "--venv-repository", sys.prefix],
        env={**os.environ, "PATH": tools, "PEX_ROOT": str(file.parent / "root")},
        check=True,
        timeout=300,
    )
    return file


def test_the_file_serves_the_example_where_nothing_is_installed(pyz: Path, tmp_path: Path) -> None:
    bare = shutil.which("python3", path=f"{sys.base_prefix}/bin")
    assert bare
    program = (bare, "-I", str(pyz))  # -I: nothing of this environment or of the user
    nothing = subprocess.run([bare, "-I", "-c", "import bottle"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in nothing.stderr, "the empty environment is not empty"
    with serving(tmp_path, "demo", "--port", "0", program=program, PEX_ROOT=str(tmp_path / "unpacked")) as server:
        assert server.get("/health/ready")["status"] == "ready"
        assert server.end(signal.SIGTERM) == 0
