"""The one bounded cache: what was used longest ago is forgotten first."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from turnguard.runtime.fork import watch

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Item(NamedTuple, Generic[V]):
    value: V
    weight: float
    until: float


class Cache(Generic[K, V]):
    """A mapping bounded by its number of entries and, with `weigh`, by their weight. Safe to share between threads.

    An entry counts for `seconds` from when it was put. In a forked child the entries are kept. A value of None cannot
    be told from a missing one.
    """

    def __init__(
        self,
        entries: float = math.inf,
        *,
        weight: float = math.inf,
        weigh: Callable[[V], float] | None = None,
        seconds: float = math.inf,
    ) -> None:
        self.entries = entries
        self.weight = weight
        self.seconds = seconds
        self._weigh = weigh
        self._held = 0.0
        self._items: OrderedDict[K, _Item[V]] = OrderedDict()
        self._lock = threading.Lock()
        watch(self)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def get(self, key: K) -> V | None:
        """The value, now the newest; None when it is gone."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            if item.until < time.monotonic():
                self._drop(key)
                return None
            self._items.move_to_end(key)
            return item.value

    def put(self, key: K, value: V, seconds: float | None = None) -> None:
        """Keep a value, in place of one under the same key; one heavier than the whole cache is not kept. `seconds` is
        for a value that counts for less long than others.
        """
        until = time.monotonic() + (self.seconds if seconds is None else seconds)
        item = _Item(value, 0.0 if self._weigh is None else self._weigh(value), until)
        with self._lock:
            if key in self._items:
                self._drop(key)
            if item.weight > self.weight:
                return
            self._items[key] = item
            self._held += item.weight
            while len(self._items) > self.entries or self._held > self.weight:
                self._drop(next(iter(self._items)))

    def take(self, key: K) -> V | None:
        """The value, once: it is forgotten."""
        with self._lock:
            return self._drop(key) if key in self._items else None

    def values(self) -> list[V]:
        """Every value, what was used longest ago first."""
        with self._lock:
            return [item.value for item in self._items.values() if item.until >= time.monotonic()]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self._held = 0.0

    def _drop(self, key: K) -> V:
        item = self._items.pop(key)
        self._held -= item.weight
        return item.value

    def _after_fork(self) -> None:
        # another thread of the parent may have been between an entry and its weight
        self._lock = threading.Lock()
        self._held = sum(item.weight for item in self._items.values())
