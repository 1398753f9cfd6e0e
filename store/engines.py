"""Which engine keeps a store: files in a folder, or a table in a database."""

from pathlib import Path

from store.engine import Engine
from store.errors import StoreError
from store.files import FileEngine

SPARE_CONNECTIONS = 2  # for what a process does beside its requests
PATIENCE_S = 5.0  # at least so long may a request wait for a database that is gone


def engine_at(place: Path | str, *, lock_timeout_s: float = 5.0, threads: int = 8) -> Engine:
    """The engine for a folder, or for the database of an address (postgresql://...). Raises StoreError."""
    if isinstance(place, Path):
        return FileEngine(place)
    try:
        from store.postgres.engine import PostgresEngine
    except ImportError as error:
        raise StoreError(f"PostgreSQL needs a package more: pip install 'psycopg[binary,pool]' ({error})") from error
    return PostgresEngine(place, timeout_s=max(lock_timeout_s, PATIENCE_S), connections=threads + SPARE_CONNECTIONS)
