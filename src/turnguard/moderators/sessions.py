"""One aiohttp session per event loop, closed with its loop.

A session outlives its loop otherwise: it holds the loop, so a weak dictionary never lets go of either, and each
`asyncio.run` of a short-lived caller would leave a socket behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from turnguard._forks import watch

if TYPE_CHECKING:
    import aiohttp


class Sessions:
    """Gives the running loop's session, made by `make` when it is first needed."""

    def __init__(self, make: Callable[[], aiohttp.ClientSession]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._open: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None, None]]] = {}
        watch(self)

    def get(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        loop = asyncio.get_running_loop()
        entry = self._open.get(loop)
        if entry is not None and not entry[0].closed:
            return entry[0]
        session = self._make()
        keeper = self._keep(loop, session)
        _begin(keeper)
        with self._lock:
            self._open[loop] = (session, keeper)
        self._sweep()
        return session

    async def aclose(self) -> None:
        """Close the running loop's session; those of others close with their loops."""
        with self._lock:
            entry = self._open.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()
        self._sweep()

    def _sweep(self) -> None:
        """Drop the sessions of loops that were closed without `shutdown_asyncgens`."""
        with self._lock:
            left = [self._open.pop(loop)[0] for loop in list(self._open) if loop.is_closed()]
        for session in left:
            _drop(session)

    async def _keep(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
    ) -> AsyncGenerator[None, None]:
        """Closed by `aclose`, or by `loop.shutdown_asyncgens()`, which `asyncio.run` and every runner call."""
        try:
            yield
        finally:
            with self._lock:
                if loop in self._open and self._open[loop][0] is session:
                    del self._open[loop]
            await session.close()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        # the child must not speak on the parent's sockets: its loops are new, and so are its sessions
        self._inherited, self._open = self._open, {}


def _begin(keeper: AsyncGenerator[None, None]) -> None:
    """Run up to the first `yield`, where the running loop takes note of the generator."""
    with contextlib.suppress(StopIteration):
        keeper.asend(None).send(None)


def _drop(session: aiohttp.ClientSession) -> None:
    """Let go of a session whose loop is gone: its sockets close when they are collected."""
    connector = session.connector
    session.detach()
    if connector is not None:
        for _ in connector.close().__await__():  # on a closed loop there is nothing to wait for
            break
