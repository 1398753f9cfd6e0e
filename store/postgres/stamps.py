"""What each shard's stamp was when the database was last asked, so that one question tells all that changed since.

Each row has the number of the transaction that wrote it (`written`). A transaction with a number below the `xmin` of a
snapshot had ended when the snapshot was taken; so all that was committed since has a number at or above it
(PostgreSQL: Transaction ID and Snapshot Information Functions). A row that was deleted leaves no number: deleting
stamps the row `removals` anew, and whoever sees that asks for everything.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

EVERYTHING = 0
REMOVALS = "removals"

_CHANGES = (
    "SELECT pg_postmaster_start_time()::text, pg_current_snapshot()::text, name, stamp"
    " FROM (SELECT 1) AS once LEFT JOIN zfs_sync_shards ON written >= '{since}'"
)

Rows = Sequence[tuple[Any, ...]]  # server, snapshot, and then a name and its stamp, or None for both


def changes_since(since: int) -> str:
    """The question: the names and stamps that were written since. `apply` takes its answer."""
    return _CHANGES.format(since=int(since))


class Stamps:
    """A stamp by name, as of the newest snapshot that was applied. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._server = ""  # when it was started: another server counts other transactions
        self._as_of = self._since = EVERYTHING
        self._known: dict[str, str] = {}

    @property
    def since(self) -> int:
        """What to ask the changes since."""
        return self._since

    def get(self, name: str) -> str | None:
        """The stamp of a name; None if nothing is kept under it."""
        return self._known.get(name)

    def names(self) -> list[str]:
        """Every name."""
        with self._lock:
            return list(self._known)

    def apply(self, since: int, rows: Rows) -> bool:
        """Take in what has changed `since`. False: that was not enough, ask for everything."""
        server, snapshot = rows[0][:2]
        xmin, xmax, running = snapshot.split(":")
        as_of = int(xmax) - len(running.split(",") if running else ())  # how many transactions had ended
        found = {name: stamp for _, _, name, stamp in rows if name is not None}
        with self._lock:
            if server == self._server and as_of < self._as_of:
                return True  # another thread was later, and knows all that this one does
            if since == EVERYTHING:
                self._known = found
            elif server != self._server or since > self._since or self._removed(found):
                return False
            else:
                self._known.update(found)
            self._server, self._as_of, self._since = server, as_of, int(xmin)
            return True

    def _removed(self, found: dict[str, str]) -> bool:
        return REMOVALS in found and found[REMOVALS] != self._known.get(REMOVALS)
