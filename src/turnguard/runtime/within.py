"""Await something for at most so long, at no cost where it does not wait at all."""

from __future__ import annotations

import time
import types
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from turnguard.runtime.compat import timeout

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """`await work`, cancelled after `seconds`: then `asyncio.TimeoutError`.

    A coroutine runs up to the first point at which it waits before a timer is set: a verdict from memory, which waits
    for nothing, needs none.
    """
    if not isinstance(work, types.CoroutineType):
        async with timeout(seconds):
            return await work
    ends = time.monotonic() + seconds
    try:
        waiting_for = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    async with timeout(max(0.0, ends - time.monotonic())):  # what it did before it waited took of its time
        return await _rest(work, waiting_for)


@types.coroutine
def _rest(work: types.CoroutineType[Any, Any, T], waiting_for: Any) -> Generator[Any, Any, T]:
    """What is left of a coroutine that has begun: a go-between for it and its task."""
    while True:
        try:
            sent = yield waiting_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation is the coroutine's to see, like any error
            thrown: BaseException | None = error
        else:
            thrown = None
        try:
            waiting_for = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration as end:
            result: T = end.value
            return result
