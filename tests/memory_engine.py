"""A place for a store that costs nothing: a dict, for one thread. What is above the engine is the real store."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from store.engine import Held


class MemoryEngine:
    """Keeps shards in memory. A stamp is a number that never comes again."""

    where = "memory"

    def __init__(self) -> None:
        self._kept: dict[str, Held] = {}
        self._private: dict[str, bytes] = {}
        self._writes = 0

    def read(self, name: str, known: object = None) -> Held | None:
        held = self._kept.get(name)
        return Held(known, None) if held is not None and held.stamp == known else held

    def heads(self) -> Iterable[tuple[str, bytes]]:
        return [(name, held.data or b"") for name, held in self._kept.items()]

    def reading(self) -> AbstractContextManager[None]:
        return nullcontext()

    def locked(self, locks: Sequence[str], timeout_s: float) -> AbstractContextManager[None]:
        return nullcontext()

    def replace(self, contents: Mapping[str, bytes]) -> dict[str, object]:
        stamps: dict[str, object] = {}
        for name, data in contents.items():
            self._writes += 1
            stamps[name] = self._writes
            self._kept[name] = Held(self._writes, data)
        return stamps

    def remove(self, name: str) -> None:
        self._kept.pop(name, None)

    def keep_old(self, name: str, label: str, content: bytes) -> None:
        raise AssertionError(f"{name} is of this version")

    def names(self, kind: str = "") -> list[str]:
        return sorted(name for name in self._kept if not kind or name.startswith(f"{kind}/"))

    def check(self) -> None:
        pass

    def place(self, name: str) -> str:
        return name

    def size_bytes(self) -> int:
        return sum(len(held.data or b"") for held in self._kept.values())

    def close(self) -> None:
        pass

    def sweep(self) -> None:
        pass

    def read_private(self, name: str) -> bytes | None:
        return self._private.get(name)

    def write_private(self, name: str, content: bytes) -> None:
        self._private[name] = content
