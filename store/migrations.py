"""From one schema to the next: each migration is a pure function over the tables of one file.

A new schema adds its function here and raises `codec.SCHEMA`. The old file stays beside the new one
(`registry.json.schema-1`), so that the older version can be put back.
"""

import logging
from collections.abc import Callable

from store import codec
from store.codec import PlainTables
from store.engine import Engine
from store.errors import Busy, StoreError
from store.shards import lock_of
from store.tables import ShardStorage

Migration = Callable[[str, PlainTables], PlainTables]  # a file's name (`inventories/<id>`) and its tables

MIGRATIONS: dict[int, Migration] = {}  # by the schema they start from

log = logging.getLogger(__name__)


def migrate(engine: Engine, lock_timeout_s: float) -> None:
    """Bring every file to the present schema. A damaged one is left for whoever reads it to report. Raises Busy for one
    of an older schema that somebody is at: it can't be read as it is."""
    for name, head in engine.heads():
        schema = codec.schema_of(head)
        if schema != codec.SCHEMA:
            try:
                with engine.locked([lock_of(name)], lock_timeout_s):
                    _migrate_file(engine, name)
            except (Busy, StoreError) as error:
                if isinstance(error, Busy) and schema is not None and schema < codec.SCHEMA:
                    raise
                log.warning("not migrated: %s", error)


def _migrate_file(engine: Engine, name: str) -> None:
    held = engine.read(name)
    if held is None or held.data is None:
        return
    meta, _ = codec.decode_plain_tables(held.data, engine.place(name), any_schema=True)
    new = brought_along(name, held.data, engine.place(name))
    if new != held.data:
        engine.keep_old(name, f"schema-{meta.schema}", held.data)
        engine.replace({name: new})
        log.info("%s was brought from schema %d to %d", engine.place(name), meta.schema, codec.SCHEMA)


def brought_along(name: str, data: bytes, file: str) -> bytes:
    """A file's content in the present schema; as it is if it has that one, or a newer one."""
    if codec.schema_of(data[: codec.HEAD_BYTES]) == codec.SCHEMA:
        return data
    meta, tables = codec.decode_plain_tables(data, file, any_schema=True)
    if meta.schema >= codec.SCHEMA:
        return data
    for schema in range(meta.schema, codec.SCHEMA):
        if schema not in MIGRATIONS:
            raise codec.damaged(file, f"its schema is {schema}")
        tables = MIGRATIONS[schema](name, tables)
    return ShardStorage(tables).encode(codec.next_meta(meta))
