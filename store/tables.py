"""Tables of typed documents, over what a file holds: a TinyDB database, or documents left in bytes until asked for.

Most files are small, and TinyDB keeps their tables. An inventory is not: of its megabytes a reader wants a
summary or one dataset, so its documents stay in bytes, and only what is asked for is decoded. A heartbeat is written
so often that what TinyDB does in memory would cost more than the rest. A stock TinyDB opens the files of all.
"""

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Raw
from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Document as TinyDocument

from store import codec
from store.codec import Meta, PlainTables, RawTables
from store.errors import AlreadyExists, NotFound


class Document(Protocol):
    """What a table keeps: anything with an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Document)
U = TypeVar("U")

Rows = dict[str, tuple[int, Any]]  # by the document's id: TinyDB's number for it, and the document as it is held


class Content(Protocol):
    """What a file holds."""

    def copy(self) -> "Content":
        """The same content, to be changed without this one noticing."""

    def load(self, table: str, kind: type[Any]) -> Rows:
        """A table's documents as they are held, in the file's order."""

    def save(self, table: str, rows: Rows) -> None: ...

    def pack(self, document: Any) -> Any:
        """A document as it is held."""

    def unpack(self, held: Any, kind: type[Any]) -> Any: ...

    def encode(self, meta: Meta) -> bytes:
        """The whole file."""


class ShardStorage(Storage):
    """A TinyDB storage for one shard: the tables between a read of the file and its replacement."""

    def __init__(self, tables: PlainTables) -> None:
        self.tables = tables

    def read(self) -> PlainTables:
        return dict(self.tables)  # TinyDB puts changed tables into what it was given

    def write(self, data: PlainTables) -> None:
        self.tables = data

    def encode(self, meta: Meta) -> bytes:
        return codec.encode_tables(
            meta,
            {
                name: [(doc_id, codec.encode_document(document)) for doc_id, document in table.items()]
                for name, table in self.tables.items()
            },
        )


class TinyContent:
    """A file whose tables TinyDB keeps."""

    def __init__(self, tables: PlainTables, file: str) -> None:
        self._file = file
        self._storage = ShardStorage(tables)
        self._tinydb = TinyDB(storage=lambda: self._storage)

    @classmethod
    def decode(cls, data: bytes, file: str) -> tuple[Meta, "TinyContent"]:
        meta, tables = codec.decode_plain_tables(data, file)
        return meta, cls(tables, file)

    def copy(self) -> "TinyContent":
        return TinyContent(self._storage.read(), self._file)

    def load(self, table: str, kind: type[Any]) -> Rows:
        rows: Rows = {}
        try:
            for found in self._tinydb.table(table, cache_size=0):
                document = codec.convert_document(found, kind, self._file)
                rows[document.id] = (found.doc_id, document)
        except ValueError as error:  # TinyDB numbers documents
            raise codec.damaged(self._file, str(error)) from error
        return rows

    def save(self, table: str, rows: Rows) -> None:
        kept = self._tinydb.table(table, cache_size=0)  # a query cache would answer with what was there before
        kept.truncate()
        kept.insert_multiple(TinyDocument(codec.plain_document(held), doc_id) for doc_id, held in rows.values())

    def pack(self, document: Any) -> Any:
        return document

    def unpack(self, held: Any, kind: type[Any]) -> Any:
        return held

    def encode(self, meta: Meta) -> bytes:
        return self._storage.encode(meta)


class RawContent:
    """A file whose documents stay in bytes."""

    def __init__(self, tables: RawTables, file: str) -> None:
        self._file = file
        self._tables = tables

    @classmethod
    def decode(cls, data: bytes, file: str) -> tuple[Meta, "RawContent"]:
        meta, tables = codec.decode_raw_tables(data, file)
        return meta, cls(tables, file)

    def copy(self) -> "RawContent":
        return RawContent(dict(self._tables), self._file)

    def load(self, table: str, kind: type[Any]) -> Rows:
        found = self._tables.get(table, {})
        try:
            return {codec.id_of(raw, self._file): (int(doc_id), raw) for doc_id, raw in found.items()}
        except ValueError as error:
            raise codec.damaged(self._file, str(error)) from error

    def save(self, table: str, rows: Rows) -> None:
        self._tables[table] = {str(doc_id): raw for doc_id, raw in rows.values()}

    def pack(self, document: Any) -> Raw:
        return codec.encode_document(document)

    def unpack(self, held: Raw, kind: type[Any]) -> Any:
        return codec.decode_document(held, kind, self._file)

    def encode(self, meta: Meta) -> bytes:
        return codec.encode_tables(meta, {name: list(table.items()) for name, table in self._tables.items()})


class Table(Generic[T]):
    """The documents of one kind in a shard, found by their id, in the order they were first put.

    Documents are shared between all readers: make a changed copy (msgspec.structs.replace), and put that.
    Changing a table needs a transaction.
    """

    def __init__(
        self, name: str, kind: type[T], noun: str, content: Content, unique: str | None, writable: bool = False
    ) -> None:
        self._name, self._kind, self._noun, self._unique = name, kind, noun, unique
        self._content = content
        self._writable = writable
        self._loaded: Rows | None = None
        self._before: Rows | None = None  # what the first change found
        self._last_doc_id = 0

    def get(self, id: str) -> T:
        """The document with this id. Raises NotFound."""
        return self._unpacked(self._row(id)[1])

    def find(self, **fields: object) -> list[T]:
        """The documents whose fields equal all of these."""
        wanted = fields.items()
        return [found for found in self if all(getattr(found, name) == value for name, value in wanted)]

    def all(self) -> list[T]:
        return list(self)

    def ids(self) -> list[str]:
        """Every document's id, without decoding the documents."""
        return list(self._rows)

    def held(self) -> dict[str, object]:
        """Each document as it is held, by id, without decoding it: equal ones, equal documents."""
        return {id: held for id, (_, held) in self._rows.items()}

    def unpacked(self, held: object) -> T:
        """A document that `held` has shown."""
        return self._unpacked(held)

    def unpacked_as(self, kind: type[U], held: object) -> U:
        """Of such a document, what another type takes."""
        unpack: Callable[[Any, type[U]], U] = self._content.unpack
        return unpack(held, kind)

    def checksum(self, id: str) -> int:
        """What tells the bytes in which a document is held from others. Raises NotFound."""
        return codec.checksum(self._row(id)[1])

    def __iter__(self) -> Iterator[T]:
        return (self._unpacked(held) for _, held in list(self._rows.values()))

    def __contains__(self, id: object) -> bool:
        return id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, document: T) -> None:
        """Keep a document, in place of the one with its id. Putting what is there already changes nothing."""
        held = self._content.pack(document)
        old = self._rows.get(document.id)
        if old is not None and old[1] == held:
            return
        self._refuse_duplicate(document)
        rows = self._rows_to_change()
        rows[document.id] = (self._doc_id(document.id), held)

    def remove(self, id: str) -> None:
        """Forget a document. Raises NotFound."""
        self._row(id)
        del self._rows_to_change()[id]

    def clear(self) -> None:
        """Forget every document."""
        if self._rows:
            self._rows_to_change().clear()

    def editable(self, content: Content) -> "Table[T]":
        """A copy for a transaction, which writes to `content`. What is not saved yet here is not there either."""
        table = Table(self._name, self._kind, self._noun, content, self._unique, writable=True)
        table._loaded = self._loaded
        if self._before is not None:
            table._loaded, table._before = dict(self._rows), self._before
            table._last_doc_id = self._last_doc_id
        return table

    @property
    def changed(self) -> bool:
        """Whether saving would make a difference: what was cleared and put again as it was does not."""
        if self._before is None:
            return False
        return self._rows != self._before or list(self._rows) != list(self._before)

    def save(self) -> None:
        """Hand the changes on to the content."""
        if self.changed:
            self._content.save(self._name, self._rows)
        self._before = None

    def close(self) -> None:
        """Take no more changes."""
        self._writable = False

    @property
    def _rows(self) -> Rows:
        if self._loaded is None:
            self._loaded = self._content.load(self._name, self._kind)
        return self._loaded

    def _row(self, id: str) -> tuple[int, Any]:
        try:
            return self._rows[id]
        except KeyError:
            raise NotFound(f"no {self._noun} {id!r}") from None

    def _unpacked(self, held: object) -> T:
        unpack: Callable[[Any, type[T]], T] = self._content.unpack
        return unpack(held, self._kind)

    def _rows_to_change(self) -> Rows:
        assert self._writable, f"{self._name} can only be changed inside its transaction"
        if self._before is None:
            self._before = self._rows
            self._loaded = dict(self._before)  # other readers have the one it was
            self._last_doc_id = max((doc_id for doc_id, _ in self._before.values()), default=0)
        return self._rows

    def _doc_id(self, id: str) -> int:
        """TinyDB's number for a document: the one it had, so that the file's lines change as little as they can."""
        assert self._before is not None
        known = self._rows.get(id) or self._before.get(id)
        if known is not None:
            return known[0]
        self._last_doc_id += 1
        return self._last_doc_id

    def _refuse_duplicate(self, document: T) -> None:
        if self._unique is None:
            return
        value = getattr(document, self._unique)
        for other in self.find(**{self._unique: value}):
            if other.id != document.id:
                raise AlreadyExists(f"a {self._noun} with the {self._unique} {value!r} exists already")
