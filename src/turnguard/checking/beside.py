"""Check an input while the agent's model call is already running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from turnguard.core.decision import Decision

T = TypeVar("T")


async def beside(check: Coroutine[Any, Any, Decision], call: Callable[[], Awaitable[T]]) -> tuple[Decision, T | None]:
    """Run `call` while `check` runs. Return the decision and the result of `call`.

    Unless the input is allowed unchanged, the call is cancelled and its result is None.
    """
    checking = asyncio.ensure_future(check)
    running: list[asyncio.Future[Any]] = [checking]
    try:
        work = asyncio.ensure_future(call())  # which may raise before there is anything to await
        running.append(work)
        decision = await checking
        return decision, await work if decision.allowed else None
    finally:
        for task in running:
            task.cancel()
        # an error of a call that was withheld, or cancelled, is nobody's any more
        await asyncio.gather(*running, return_exceptions=True)
