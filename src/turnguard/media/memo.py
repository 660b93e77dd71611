"""What was prepared before: least recently used first out, bounded by bytes. Thread-safe."""

from __future__ import annotations

from typing import NamedTuple

from turnguard.media.types import Coarse, Skipped, View
from turnguard.runtime.caches import Cache


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

Memo = Cache[Key, Made]
