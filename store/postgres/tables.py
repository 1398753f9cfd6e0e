"""The one table, made at the first start, and its layout, which a later version may change."""

from store.errors import StoreError
from store.postgres.connections import Connection

LAYOUT = 1

TABLE = """
    CREATE TABLE zfs_sync_shards (
        name text COLLATE "C" PRIMARY KEY,                 -- what the file would be called
        stamp text NOT NULL,                               -- another one with each content
        written xid8 NOT NULL DEFAULT pg_current_xact_id(),-- by which transaction
        data bytea NOT NULL                                -- what the file would hold: JSON, a document a line
    );
    ALTER TABLE zfs_sync_shards ALTER COLUMN data SET STORAGE EXTERNAL; -- compressing takes longer than writing
    CREATE INDEX zfs_sync_shards_written ON zfs_sync_shards (written);
"""
NOTE_LAYOUT = "INSERT INTO zfs_sync_shards (name, stamp, data) VALUES ('layout', 'layout', %b)"
FIND = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('zfs_sync_shards')"


def set_up(connection: Connection) -> str:
    """The schema that has the table, which is made if need be. Raises StoreError for a layout of a later version."""
    found = connection.execute(FIND).fetchone()
    if found is None:
        found = _create(connection)
    stored = connection.execute("SELECT data FROM zfs_sync_shards WHERE name = 'layout'").fetchone()
    layout = int(stored[0]) if stored else LAYOUT
    if layout != LAYOUT:
        raise StoreError(f"the database's table has layout {layout}; this version of zfs-sync knows layout {LAYOUT}")
    return str(found[0])


def _create(connection: Connection) -> tuple[str, ...]:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('zfs-sync set up', 0))")  # instances at once
        found = connection.execute(FIND).fetchone()
        if found is None:
            connection.execute(TABLE)
            connection.execute(NOTE_LAYOUT, (f"{LAYOUT}".encode(),))
            found = connection.execute(FIND).fetchone()
    assert found is not None
    return found
