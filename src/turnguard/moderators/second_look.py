"""Ask again, better, where the first answer is worth doubting: the same model with reasoning, or a larger one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Literal

from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange
from turnguard.core.taxonomy import MINOR
from turnguard.core.verdict import Deciding, Looks, Side, Verdict, looked_twice
from turnguard.moderators.base import About, Deadline, Moderator, about, aclose, managed

log = logging.getLogger("turnguard")

SPARED = 0.1
"""Seconds of the deadline, and a tenth at most, that a second look leaves: the first verdict must still arrive."""


class SecondLook:
    """Asks `second` too where `first`'s P(unsafe) lies in `between` or, with `unsafe`, where its label is unsafe.

    A verdict without P counts as doubtful. `decides` is `strictest` (each verdict is decided, and the strictest
    decision counts) or `second`: then the second verdict decides alone, but only where the first one's P lies in the
    range. It never lowers `Sexual (minor)`, a verdict that may only block, or, unless `takes_own`, one on content that
    was judged by a policy's own categories. A second look that fails or finds no time leaves the first verdict
    standing.

    Each of the two has a memory and endpoints of its own.
    """

    def __init__(
        self,
        first: Moderator,
        second: Moderator,
        *,
        between: tuple[float, float] | None = None,
        unsafe: bool = False,
        decides: Literal["strictest", "second"] = "strictest",
        takes_own: bool = True,
    ) -> None:
        self.first = first
        self.second = second
        self.between = between
        self.unsafe = unsafe
        self.decides = decides
        self.takes_own = takes_own

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The first verdict, or both with what became of them."""
        first = await self.first.judge(exchange, deadline)
        side: Side = "user" if exchange.response is None else "response"
        label, p = first.label(side), first.p(side)
        if first.failure is not None or label is None:
            return first
        inside = self.between is not None and p is not None and self.between[0] <= p <= self.between[1]
        doubtful = inside or (self.between is not None and (p is None or not 0.0 <= p <= 1.0))
        if not doubtful and not (self.unsafe and label == "unsafe"):
            return first
        second = await self._again(exchange, deadline)
        deciding: Deciding = "both"
        if second.failure is not None:
            deciding = "first"
        elif self.decides == "second" and inside and self._may_lower(first, exchange):
            deciding = "second"
        return looked_twice(Looks(first, second, deciding))

    def _may_lower(self, first: Verdict, exchange: Exchange) -> bool:
        sees_as_much = exchange.own is None or self.takes_own
        return sees_as_much and MINOR not in first.categories and not first.block_only

    async def _again(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The second verdict, or a failed one."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        cancelled = task.cancelling()
        left = deadline.remaining
        sooner = deadline.within(left - min(SPARED, left / 10))
        try:
            async with asyncio.timeout(sooner.remaining):
                verdict = await self.second.judge(exchange, sooner)
        except TimeoutError:
            return Verdict(failure="timeout", cause="no time for a second look")
        except asyncio.CancelledError:
            if task.cancelling() != cancelled:
                raise
            return Verdict(failure="unavailable", cause="the second look cancelled its own request")
        except ModeratorError as error:
            return Verdict(failure=error.failure, cause=error.cause)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the first verdict stands
            log.error("the second look raised %s; the first verdict stands", type(error).__name__)  # noqa: TRY400
            return Verdict(failure="unavailable", cause=f"the second look raised {type(error).__name__}")
        decides = verdict.user if exchange.response is None else verdict.response
        if verdict.failure is None and decides is None:
            return Verdict(failure="unparseable", cause="the second look did not rate the side that decides")
        return verdict

    @property
    def managed(self) -> bool:
        """Whether each of the two has a memory and a gate."""
        return managed(self.first) and managed(self.second)

    async def about(self, deadline: Deadline) -> About:
        """Both models' identity, and how much the first one takes: a second look at more than it takes fails alone."""
        first, second = await asyncio.gather(about(self.first, deadline), about(self.second, deadline))
        if first.identity is None or second.identity is None:
            return replace(first, identity=None)
        asked = f"{self.between} {self.unsafe} {self.decides}"
        return replace(first, identity=f"{first.identity} then {asked} {second.identity}")

    async def aclose(self) -> None:
        """Close both."""
        await aclose(self.first)
        await aclose(self.second)
