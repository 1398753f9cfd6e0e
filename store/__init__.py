"""The witness's memory: JSON files that TinyDB opens, written whole or not at all.

Readers take no lock; writers take one per file. All that other packages import is here, beside the documents
(`store.documents`) and the keys (`store.keys`).
"""

from store.errors import AlreadyExists, Busy, Damaged, NotFound, StoreError, StoreFull
from store.shards import (
    ALERTS,
    LEASES,
    LIMITS,
    REGISTRY,
    Shard,
    View,
    events_of,
    group_records,
    heartbeat_of,
    history_of,
    inventory_of,
)
from store.store import Store, Transaction
from store.tables import Table

__all__ = [
    "ALERTS",
    "LEASES",
    "LIMITS",
    "REGISTRY",
    "AlreadyExists",
    "Busy",
    "Damaged",
    "NotFound",
    "Shard",
    "Store",
    "StoreError",
    "StoreFull",
    "Table",
    "Transaction",
    "View",
    "events_of",
    "group_records",
    "heartbeat_of",
    "history_of",
    "inventory_of",
]
