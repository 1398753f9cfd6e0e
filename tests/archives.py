"""Tar files that tests unpack."""

import tarfile
from pathlib import Path


def unpack(archive: Path, folder: Path) -> list[tarfile.TarInfo]:
    """What was in a tar file, which is now in a folder.

    Debian 12's Python 3.11.2 knows no filters; later ones warn where none is named.
    """
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)
        return tar.getmembers()
