"""What this process counts of itself: requests, and waits for the store's locks.

Workers of one server add theirs together in files of the folder PROMETHEUS_MULTIPROC_DIR, which `serve` makes. Where
there is none, as on a function platform, nothing is counted, and prometheus-client is not even imported.
"""

import os
from functools import lru_cache
from typing import Any

from store import Store

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name for it
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meter:
    """The counts of this process. Their labels are endpoints and statuses: no more than there are rows in the API."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        own = CollectorRegistry()  # read through the files, so that all workers' are
        self._requests = Counter("zfs_sync_http_requests", "Requests answered", ["endpoint", "status"], registry=own)
        self._duration = Histogram(
            "zfs_sync_http_request_duration_seconds", "Time to answer", ["endpoint"], registry=own, buckets=BUCKETS
        )
        self._waits = Histogram(
            "zfs_sync_store_lock_wait_seconds", "Waits of writers for locks", registry=own, buckets=BUCKETS
        )
        self._timeouts = Counter("zfs_sync_store_lock_timeouts", "Locks not had in time", registry=own)
        self._of = lru_cache(maxsize=1024)(self._counts_of)

    def _counts_of(self, endpoint: str, status: int) -> tuple[Any, Any]:
        return self._requests.labels(endpoint, str(status)), self._duration.labels(endpoint)

    def answered(self, endpoint: str, status: int, duration_s: float) -> None:
        """Count a request."""
        requests, duration = self._of(endpoint, status)
        requests.inc()
        duration.observe(duration_s)

    def waited(self, wait_s: float, free: bool) -> None:
        """Count a wait for locks, and whether they were had in time."""
        self._waits.observe(wait_s)
        if not free:
            self._timeouts.inc()


@lru_cache(maxsize=1)
def meter() -> Meter | None:
    """This process's counts; None where nothing is counted."""
    return Meter() if os.environ.get(FOLDER) else None


def watch_locks(store: Store) -> None:
    """Count this store's waits."""
    counting = meter()
    if counting is not None:
        store.on_lock = counting.waited


def add_counts(registry: Any) -> None:
    """Let a registry show the counts of all processes that share the folder."""
    if meter() is not None:
        from prometheus_client.multiprocess import MultiProcessCollector

        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
