"""ZFS Sync: the witness. Loads the configuration, opens the store, builds the app, runs one command.

Any WSGI server can serve `zfs_sync:application()`; the command line (python zfs_sync.py) brings its own.
"""

import sys
from pathlib import Path
from typing import Any

import cli
import config
from handlers.request import Witness
from handlers.routes import make_app
from store import Store


def open_witness(settings: config.Config) -> Witness:
    """The parts of a witness with these settings. Raises StoreError when the data folder or database can't be used."""
    store = Store.open(
        settings.store_url or settings.data_dir,
        lock_timeout_s=settings.lock_timeout_s,
        secret=settings.secret_key,
        threads=settings.threads,
    )
    return Witness(settings, store, config.GroupsFile(settings))


def application(file: Path | None = None) -> Any:
    """The WSGI app, for a server of one's own choice."""
    return make_app(open_witness(config.load(file)))


def main() -> int:
    """Run the command that was typed; its exit status."""
    return cli.main(sys.argv[1:], open_witness)


if __name__ == "__main__":
    sys.exit(main())
