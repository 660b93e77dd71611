"""An input's check beside the agent's model call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from turnguard.core.decision import Decision

T = TypeVar("T")


async def beside(check: Coroutine[Any, Any, Decision], call: Callable[[], Awaitable[T]]) -> tuple[Decision, T | None]:
    """The decision, and what `call` gave where it lets the input pass as it is; else the call is cancelled."""
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
