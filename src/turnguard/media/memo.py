"""What was prepared before: least recently used first out, bounded by bytes. Thread-safe."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from turnguard.media.types import Coarse, Skipped, View
from turnguard.runtime.fork import watch


class Made(NamedTuple):
    """What was made of some bytes, whatever part they came from. The fields are those of `Prepared`."""

    views: tuple[View, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    skipped: tuple[Skipped, ...] = ()
    reduced: tuple[Coarse, ...] = ()
    wanted: int = 0

    @property
    def weight(self) -> int:
        """Bytes held, about."""
        held = sum(len(view.picture.data) + len(view.picture.base64) + 256 for view in self.views)
        return held + sum(4 * len(text) for _, text in self.texts) + 256 * (1 + len(self.skipped))


Key = tuple[bytes, int]
"""SHA-256 of the bytes, and the number of views that were allowed."""


class Memo:
    """The last results, at most `most` bytes of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._made: OrderedDict[Key, Made] = OrderedDict()
        self._lock = threading.Lock()
        watch(self)

    def get(self, key: Key) -> Made | None:
        """What was made before, or None."""
        with self._lock:
            made = self._made.get(key)
            if made is not None:
                self._made.move_to_end(key)
            return made

    def put(self, key: Key, made: Made) -> None:
        """Remember; a result larger than the whole memory is not."""
        with self._lock:
            if key in self._made or made.weight > self._most:
                return
            self._made[key] = made
            self._held += made.weight
            while self._held > self._most:
                self._held -= self._made.popitem(last=False)[1].weight

    def _after_fork(self) -> None:
        # what another thread of the parent was adding may be half added: begin anew
        self._lock, self._made, self._held = threading.Lock(), OrderedDict(), 0
