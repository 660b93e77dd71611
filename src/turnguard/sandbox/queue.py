"""Running and waiting requests: vLLM's `--max-num-seqs` and `--max-num-queued-reqs`, on one event loop."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from turnguard.sandbox.wire import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from turnguard.sandbox.wire import Counters


class Queue:
    """Places for `max_running` requests at once, while `max_queued` more wait in the order they came; None is no limit.
    Keeps `counters.running` and `counters.waiting`.
    """

    def __init__(self, counters: Counters, max_running: int | None, max_queued: int | None) -> None:
        self._counters = counters
        self._places = asyncio.Semaphore(max_running or sys.maxsize)
        self._max_queued = max_queued

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place for the block. Raises vLLM's 503 at once if the queue is full."""
        counters = self._counters
        if self._places.locked() and self._max_queued is not None and counters.waiting >= self._max_queued:
            raise errors.overloaded()
        counters.waiting += 1
        try:
            await self._places.acquire()
        finally:
            counters.waiting -= 1
        counters.running += 1
        try:
            yield
        finally:
            counters.running -= 1
            self._places.release()
