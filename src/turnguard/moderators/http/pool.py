"""One pool of connections per event loop, closed with its loop.

A pool outlives its loop otherwise: it holds the loop, so a weak dictionary never lets go of either, and each
`asyncio.run` of a short-lived caller would leave a socket behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from turnguard.moderators.http.framing import Reply
from turnguard.runtime.fork import watch


class Pool(Protocol):
    """Connections to one server that belong to one event loop."""

    closed: bool

    @property
    def in_use(self) -> int:
        """Connections that a request has taken and not given back."""
        ...

    async def ask(
        self, head: bytes, body: bytes | None, deadline: float, check: Callable[[bytes], None] | None = None
    ) -> Reply:
        """The reply to a request whose beginning is `head`, before `deadline`, a moment of `time.monotonic()`."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...

    def drop(self) -> None:
        """The same where the loop may be closed and nothing can be waited for."""
        ...


class Pools:
    """Gives the running loop's pool of connections, made by `opened` when it is first needed."""

    def __init__(self, opened: Callable[[], Pool]) -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._open: dict[asyncio.AbstractEventLoop, tuple[Pool, AsyncGenerator[None, None]]] = {}
        watch(self)

    def get(self) -> Pool:
        """The pool of the running event loop."""
        loop = asyncio.get_running_loop()
        entry = self._open.get(loop)
        if entry is not None and not entry[0].closed:
            return entry[0]
        pool = self._opened()
        keeper = self._keep(loop, pool)
        _begin(keeper)
        with self._lock:
            self._open[loop] = (pool, keeper)
        self._sweep()
        return pool

    @property
    def in_use(self) -> int:
        """Connections that a request has taken and not given back, in all loops."""
        return sum(pool.in_use for pool, _ in list(self._open.values()))

    async def aclose(self) -> None:
        """Close the running loop's pool; those of others close with their loops."""
        with self._lock:
            entry = self._open.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()
        self._sweep()

    def _sweep(self) -> None:
        """Drop the pools of loops that were closed without `shutdown_asyncgens`."""
        with self._lock:
            left = [self._open.pop(loop)[0] for loop in list(self._open) if loop.is_closed()]
        for pool in left:
            pool.drop()

    async def _keep(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> AsyncGenerator[None, None]:
        """Closed by `aclose`, or by `loop.shutdown_asyncgens()`, which `asyncio.run` and every runner call."""
        try:
            yield
        finally:
            with self._lock:
                if loop in self._open and self._open[loop][0] is pool:
                    del self._open[loop]
            await pool.aclose()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        # the child must not speak on the parent's sockets: its loops are new, and so are its pools
        self._inherited, self._open = self._open, {}


def _begin(keeper: AsyncGenerator[None, None]) -> None:
    """Run up to the first `yield`, where the running loop takes note of the generator."""
    with contextlib.suppress(StopIteration):
        keeper.asend(None).send(None)
