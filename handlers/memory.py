"""What this process has worked out and may use again. Whoever uses it must be able to tell whether it still holds."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from store import Store

T = TypeVar("T")


@dataclass(slots=True)
class Place(Generic[T]):
    """Where one thing is kept. Threads may find it changed: take what is there once."""

    kept: T | None = None


class Memory(Generic[T]):
    """A place for each name, for as long as its store is open; those longest unused go first."""

    def __init__(self, names: int) -> None:
        self._names = names
        self._places: MutableMapping[Store, Callable[[str], Place[T]]] = WeakKeyDictionary()

    def place(self, store: Store, name: str) -> Place[T]:
        """The place of a name."""
        places = self._places.get(store)
        if places is None:
            places = self._places.setdefault(store, lru_cache(maxsize=self._names)(lambda name: Place()))
        return places(name)
