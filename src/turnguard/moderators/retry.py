"""Ask again what can succeed again, inside the deadline.

Resets, 429 and 503 are asked again with jittered waits (`Retry-After` is obeyed where it fits); any other 5xx once. Our
own forty lines rather than a library: the waits must know the deadline, and what may be asked again is a safety
decision.
"""

from __future__ import annotations

import asyncio
import random

from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline, Moderator, Wrapper

FIRST_WAIT = 0.05
LONGEST_WAIT = 1.0


class Retrying(Wrapper):
    """Asks `inner` up to `attempts` times for transient failures.

    `resets_only` leaves all but a reset connection to the caller: a replica that is busy is not waited for while there
    is another one.
    """

    def __init__(self, inner: Moderator, attempts: int = 3, *, resets_only: bool = False) -> None:
        super().__init__(inner)
        self.attempts = attempts
        self.resets_only = resets_only

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The inner verdict, or its last failure."""
        accidents = 0
        for attempt in range(1, self.attempts + 1):
            try:
                return await self.inner.judge(exchange, deadline)
            except ModeratorError as error:
                accidents += error.retry == "once"
                wait = _wait(error, attempt)
                hopeless = error.retry == "never" or accidents > 1 or (self.resets_only and error.retry != "now")
                if hopeless or attempt == self.attempts or wait >= deadline.remaining:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _wait(error: ModeratorError, attempt: int) -> float:
    if error.retry == "now" and attempt == 1:
        return 0.0  # vLLM closes pooled connections without saying so: the next one is new and will do
    jitter = random.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt))  # noqa: S311 - no secret
    # added to what the server asked for: it asks everyone for the same, and it may ask for none
    return jitter if error.retry_after is None else error.retry_after + jitter
