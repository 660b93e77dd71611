"""One thing per event loop, closed with its loop.

It outlives its loop otherwise: it holds the loop, so a weak dictionary never lets go of either, and each `asyncio.run`
of a short-lived caller would leave a socket behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar

from turnguard.runtime.fork import watch


class Bound(Protocol):
    """Something that belongs to one event loop, such as a pool of connections."""

    async def aclose(self) -> None:
        """Let go of everything, in the loop that it belongs to."""
        ...

    def drop(self) -> None:
        """The same where that loop may be closed and nothing can be waited for."""
        ...


T = TypeVar("T", bound=Bound)


class PerLoop(Generic[T]):
    """Gives the running event loop's own thing, made by `make` when it is first needed."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._open: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        watch(self)

    def get(self) -> T:
        """What belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        entry = self._open.get(loop)
        if entry is not None:
            return entry[0]
        made = self._make()
        keeper = self._keep(loop, made)
        _begin(keeper)
        with self._lock:
            self._open[loop] = (made, keeper)
        self._sweep()
        return made

    def all(self) -> list[T]:
        """Everything that is open, in all loops."""
        return [each for each, _ in list(self._open.values())]

    async def aclose(self) -> None:
        """Close what belongs to the running loop; the rest closes with its loops."""
        with self._lock:
            entry = self._open.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()
        self._sweep()

    def _sweep(self) -> None:
        """Drop what belongs to loops that were closed without `shutdown_asyncgens`."""
        with self._lock:
            left = [self._open.pop(loop)[0] for loop in list(self._open) if loop.is_closed()]
        for each in left:
            each.drop()

    async def _keep(self, loop: asyncio.AbstractEventLoop, made: T) -> AsyncGenerator[None, None]:
        """Closed by `aclose`, or by `loop.shutdown_asyncgens()`, which `asyncio.run` and every runner call."""
        try:
            yield
        finally:
            with self._lock:
                if loop in self._open and self._open[loop][0] is made:
                    del self._open[loop]
            await made.aclose()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        # the child must not speak on the parent's sockets: its loops are new, and so is what belongs to them
        self._inherited, self._open = self._open, {}


def _begin(keeper: AsyncGenerator[None, None]) -> None:
    """Run up to the first `yield`, where the running loop takes note of the generator."""
    with contextlib.suppress(StopIteration):
        keeper.asend(None).send(None)
