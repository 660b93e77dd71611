"""Time as the event loop experiences it, for tests of deadlines.

A test that reads a clock fails on a busy machine. This counter sleeps in the same event loop as the code under test, so
whatever slows that code down slows the counter down too. It counts low under load and never high: use it for upper bounds.
Code that blocks the loop is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Ticks:
    """Sleeps of `length` seconds that have ended."""

    def __init__(self, length: float) -> None:
        self.length = length
        self.count = 0

    @property
    def seconds(self) -> float:
        """At most this many seconds of loop time have passed."""
        return self.count * self.length

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await asyncio.sleep(self.length)
            self.count += 1


@asynccontextmanager
async def ticking(length: float = 0.02) -> AsyncIterator[Ticks]:
    """Count while the block runs."""
    ticks = Ticks(length)
    counter = asyncio.ensure_future(ticks.run())
    try:
        yield ticks
    finally:
        counter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await counter
