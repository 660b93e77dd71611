"""Back-pressure: at most so many requests in flight per guard, at most so many waiting; the rest fail at once, and say
so.

Counted across event loops and threads, which `asyncio.Semaphore` cannot do.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from turnguard import telemetry
from turnguard.core.errors import Timeout, Unavailable
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline, Moderator, Wrapper
from turnguard.runtime.fork import watch


class Gated(Wrapper):
    """Lets `max_in_flight` requests through to `inner`; `max_waiting` more wait their turn, first come first served."""

    def __init__(self, inner: Moderator, max_in_flight: int = 64, max_waiting: int = 1024) -> None:
        super().__init__(inner)
        self.max_in_flight = max_in_flight
        self.max_waiting = max_waiting
        self._in_flight = 0
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._lock = threading.Lock()
        watch(self)
        telemetry.watch(self)

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The inner verdict, once there is room."""
        await self._enter(deadline)
        try:
            return await self.inner.judge(exchange, deadline)
        finally:
            self._leave()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self._waiting)

    def _after_fork(self) -> None:
        # what the parent has in flight is not in flight here
        self._lock, self._in_flight, self._waiting = threading.Lock(), 0, deque()

    async def _enter(self, deadline: Deadline) -> None:
        with self._lock:
            if self._in_flight < self.max_in_flight:
                self._in_flight += 1
                return
            if len(self._waiting) >= self.max_waiting:
                raise Unavailable(f"the queue is full ({self.max_in_flight} in flight, {self.max_waiting} waiting)")
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            entry = (loop, turn)
            self._waiting.append(entry)
        try:
            async with asyncio.timeout(deadline.remaining):
                await turn
        except (asyncio.CancelledError, TimeoutError) as left:
            with self._lock:
                # still queued: take the entry out. Already called: the place is ours and goes to the next
                try:
                    self._waiting.remove(entry)
                    called = False
                except ValueError:
                    called = True
            if called:
                self._leave()
            if isinstance(left, asyncio.CancelledError):
                raise
            raise Timeout("still in the queue at the deadline") from None

    def _leave(self) -> None:
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_call, turn)
                except RuntimeError:  # that loop was closed with its checks
                    continue
                return
            self._in_flight -= 1


def _call(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
