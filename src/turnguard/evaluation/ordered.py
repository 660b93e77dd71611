"""Many at once, results in order, memory bounded: the loop under `batch` and `eval`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16
"""How far the fastest worker may run ahead of the slowest row, in rows per worker."""


async def in_order(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], sink: Callable[[R], None], concurrency: int
) -> None:
    """Run `work` on every item, `concurrency` at once, and give the results to `sink` in the items' order.

    Long-lived workers and no queue: a task per row would cost more than the row. The first exception ends everything.
    """
    numbered = enumerate(items)
    waiting: dict[int, R] = {}
    room = asyncio.Semaphore(concurrency * AHEAD)
    due = 0

    async def worker() -> None:
        nonlocal due
        while True:
            await room.acquire()
            index, item = next(numbered, (None, None))
            if index is None:
                room.release()
                return
            result = await work(item)  # type: ignore[arg-type]
            waiting[index] = result
            while due in waiting:
                sink(waiting.pop(due))
                due += 1
                room.release()

    workers = [asyncio.ensure_future(worker()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
