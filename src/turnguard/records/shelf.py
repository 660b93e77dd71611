"""Where steps wait for a person: the seam, and this process's memory behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from turnguard.core.decision import Reason
from turnguard.core.review import Status
from turnguard.core.step import Stage
from turnguard.runtime.caches import Cache
from turnguard.runtime.fork import watch

MOST = 1_000
MOST_BYTES = 64_000_000
"""Steps, and bytes of them, that wait in memory. The oldest is forgotten first."""


def now() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One step under review. `content` is what `Held.dump` gave; times are milliseconds since 1970."""

    id: str
    created: int
    expires: int
    digest: str
    record: str
    stage: Stage
    reasons: tuple[Reason, ...]
    content: bytes = field(repr=False)
    tenant: str | None = None
    status: Status = "waiting"
    answered: int | None = None
    by: str | None = None
    note: str | None = None


class Shelf(Protocol):
    """Keeps rows. Each method may block, and raises `StoreError` where the store cannot be used."""

    stored: bool
    """Whether other processes see it, too."""

    def digest(self, content: bytes) -> str:
        """A digest of content that nobody can guess it from."""

    def put(self, row: Row) -> bool:
        """Keep a row, or leave the one of that id as it is. False where there is no room for it."""

    def get(self, identity: str, *, content: bool = True) -> Row | None:
        """The row of that id. Without `content` that is left out."""

    def change(self, row: Row, status: Status, at: int, by: str | None = None, note: str | None = None) -> bool:
        """Answer a row once: False where it no longer waits, or holds other content. `expired` takes one that is due,
        an answer one that is not.
        """

    def rows(self, status: Status | None, tenant: str | None, limit: int) -> Sequence[Row]:
        """Rows without their content, the newest first."""

    def saw(self, row: Row, by: str) -> None:
        """Record that somebody looked at the content."""

    def close(self) -> None:
        """Let go of connections. What waits is still there."""


class Memory:
    """This process's memory."""

    stored = False

    def __init__(self) -> None:
        self._rows: Cache[str, Row] = Cache(MOST, weight=MOST_BYTES, weigh=lambda row: len(row.content))
        self._after_fork()
        watch(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def digest(self, content: bytes) -> str:
        from hashlib import blake2b

        return blake2b(content, digest_size=16).hexdigest()

    def put(self, row: Row) -> bool:
        with self._lock:
            if row.id not in self._rows:
                self._rows.put(row.id, row)
            return row.id in self._rows

    def get(self, identity: str, *, content: bool = True) -> Row | None:
        return self._rows.get(identity)

    def change(self, row: Row, status: Status, at: int, by: str | None = None, note: str | None = None) -> bool:
        with self._lock:
            kept = self._rows.get(row.id)
            if kept is None or kept.status != "waiting" or kept.digest != row.digest:
                return False
            if (kept.expires <= at) != (status == "expired"):
                return False
            self._rows.put(row.id, replace(kept, status=status, answered=at, by=by, note=note))
            return True

    def rows(self, status: Status | None, tenant: str | None, limit: int) -> Sequence[Row]:
        found = (row for row in reversed(self._rows.values()) if status in (None, row.status))
        return [row for row in found if tenant in (None, row.tenant)][:limit]

    def saw(self, row: Row, by: str) -> None:
        """There are no records to write it to."""

    def close(self) -> None:
        """There are no connections."""
