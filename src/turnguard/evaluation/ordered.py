"""Run many items at once and give the results in order, with bounded memory."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16
"""Rows per worker that the fastest worker may be ahead of the slowest row."""


class Pace:
    """How many items run at once: at most `most`, halved when the server cannot keep up, then raised one by one. An
    item that takes more than `late` seconds says the same as one that failed: the server's queue is too long.

    A change takes effect as running items end, and the next one follows a whole round later (additive increase,
    multiplicative decrease, as in TCP).
    """

    def __init__(self, most: int, late: float = math.inf) -> None:
        self.limit = most
        self.most = most
        self.late = late
        self._places = asyncio.Semaphore(most)
        self._surplus = 0
        self._since_change = 0

    async def enter(self) -> None:
        """Wait for a place."""
        await self._places.acquire()

    def leave(self, *, strained: bool) -> None:
        """Give the place back. `strained`: the server timed out, refused or was too busy."""
        self._since_change += 1
        if strained and self.limit > 1 and self._since_change > self.limit:
            self._set(self.limit // 2)
        elif not strained and self.limit < self.most and self._since_change > self.limit:
            self._set(self.limit + 1)
        if self._surplus > 0:
            self._surplus -= 1
        else:
            self._places.release()

    def _set(self, limit: int) -> None:
        self._surplus += self.limit - limit
        self.limit = limit
        self._since_change = 0
        while self._surplus < 0:
            self._surplus += 1
            self._places.release()


async def in_order(
    items: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    sink: Callable[[R], None],
    concurrency: int | Pace,
    strained: Callable[[R], bool] = lambda _result: False,
) -> None:
    """Run `work` on every item, at most `concurrency` at once, and give the results to `sink` in the items' order.

    `strained` says of a result whether the server could not keep up. The first exception ends everything. Long-lived
    workers take the items: a task per row would cost more than the row.
    """
    pace = Pace(concurrency) if isinstance(concurrency, int) else concurrency
    numbered = enumerate(items)
    waiting: dict[int, R] = {}
    room = asyncio.Semaphore(pace.most * AHEAD)
    due = 0

    async def worker() -> None:
        nonlocal due
        while True:
            await room.acquire()
            await pace.enter()
            index, item = next(numbered, (None, None))
            if index is None:
                room.release()
                pace.leave(strained=False)
                return
            began = time.monotonic()
            result = await work(item)  # type: ignore[arg-type]
            pace.leave(strained=time.monotonic() - began > pace.late or strained(result))
            waiting[index] = result
            while due in waiting:
                sink(waiting.pop(due))
                due += 1
                room.release()

    workers = [asyncio.ensure_future(worker()) for _ in range(pace.most)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
