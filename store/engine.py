"""What the store needs of the place where its shards are kept, and no more.

A shard is its name (`inventories/<id>`) and its bytes. Files in a folder are one such place (`store.files`), a table
of a database is another (`store.postgres`): everything above this line is the same for both.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

SECRET_KEY = "secret_key"  # noqa: S105 - the name of a content


class Held(NamedTuple):
    """A shard as it was found."""

    stamp: object  # equal stamps, equal contents
    data: bytes | None  # None: as it was when the caller got the stamp it knows


class Engine(Protocol):
    """Keeps shards by name. Every method may raise StoreError, naming the shard's place."""

    def read(self, name: str, known: object = None) -> Held | None:
        """A shard's content, without its bytes if its stamp is still `known`. None: there is no such shard."""

    def heads(self) -> Iterable[tuple[str, bytes]]:
        """Every shard's name and the first bytes of its content, where its generation and schema are."""

    def reading(self) -> AbstractContextManager[None]:
        """A block for several reads, whose answers may be as old as its beginning."""

    def locked(self, locks: Sequence[str], timeout_s: float) -> AbstractContextManager[None]:
        """Hold these locks, taken in the order given. Raises Busy if they can't all be had in time."""

    def replace(self, contents: Mapping[str, bytes]) -> dict[str, object]:
        """Put whole contents in place, in this order, and return their stamps. The caller holds the locks; once they
        are given back, without an exception, the contents are durable. One of a secret's name is private."""

    def remove(self, name: str) -> None:
        """Drop a shard, if there is one. The caller holds its lock."""

    def keep_old(self, name: str, label: str, content: bytes) -> None:
        """Put a shard's old content aside, where only a person looks for it."""

    def names(self, kind: str = "") -> list[str]:
        """Every shard, or those whose name begins with `kind` and a slash, sorted."""

    def check(self) -> None:
        """Raise StoreError or StoreFull unless contents can be written now."""

    @property
    def where(self) -> str:
        """Where everything is, in words."""

    def place(self, name: str) -> str:
        """Where a shard is, in words for an error message."""

    def size_bytes(self) -> int:
        """How much room the shards take."""

    def close(self) -> None:
        """Give back what the place lends, such as connections."""

    def sweep(self) -> None:
        """Remove what writers that were killed left behind. Called once, at the start."""

    def read_private(self, name: str) -> bytes | None:
        """A small content that is no shard, such as a secret."""

    def write_private(self, name: str, content: bytes) -> None:
        """Put one in place. The caller holds the lock of its name."""
