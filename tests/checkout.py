"""The files of this checkout."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


def files_in(*folders: str) -> list[Path]:
    """All files in folders, sorted, but for what Python compiles: that comes and goes while other workers collect."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if "__pycache__" not in path.parts and path.is_file())
