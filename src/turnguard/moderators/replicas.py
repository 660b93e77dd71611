"""Several endpoints of one model: asked in order of health, with a circuit breaker each, leaving time for the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from turnguard.errors import ModeratorError, Rejected, Timeout, Unavailable
from turnguard.exchange import Exchange
from turnguard.moderators.base import About, Deadline, Moderator, about, aclose
from turnguard.verdict import Verdict

OPENS_AFTER = 3
"""Failures in a row that open a circuit."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Breaker:
    """Keeps a dead endpoint from being hammered: open after failures in a row, then one trial after each pause."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.failures = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0

    @property
    def closed(self) -> bool:
        """Whether the endpoint is in good standing."""
        return self.failures < OPENS_AFTER

    def admits(self) -> bool:
        """Whether a request may go out now. When the pause is over, one may: the trial."""
        with self._lock:
            if self.failures < OPENS_AFTER:
                return True
            now = time.monotonic()
            if now < self._until:
                return False
            self._until = now + self._pause
            return True

    def succeeded(self) -> None:
        """The endpoint answered."""
        with self._lock:
            self.failures = 0
            self._pause = FIRST_PAUSE

    def failed(self) -> None:
        """The endpoint gave no answer."""
        with self._lock:
            self.failures += 1
            if self.failures >= OPENS_AFTER:
                if self.failures > OPENS_AFTER:
                    self._pause = min(LONGEST_PAUSE, self._pause * 2.0)
                self._until = time.monotonic() + self._pause


class Replicas:
    """Asks the healthiest endpoint first, and the next one when it fails.

    `attempt_timeout` bounds one attempt in seconds; None gives half of what is left of the deadline while there is
    another endpoint to try. What an endpoint rejects (4xx) or answers illegibly is not tried elsewhere: the others are
    the same.
    """

    def __init__(self, endpoints: Sequence[Moderator], attempt_timeout: float | None = None) -> None:
        self.endpoints = tuple(endpoints)
        self.attempt_timeout = attempt_timeout
        self.breakers = tuple(Breaker() for _ in self.endpoints)
        self._turn = 0

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The first verdict that an endpoint gives, or the last failure."""
        last: ModeratorError | None = None
        order = [index for index in self._order() if self.breakers[index].admits()]
        for position, index in enumerate(order):
            if last is not None and deadline.remaining <= 0.0:
                break
            try:
                verdict = await self.endpoints[index].judge(exchange, self._share(deadline, position + 1 < len(order)))
            except (Unavailable, Timeout) as error:
                self.breakers[index].failed()
                last = error
            except Rejected:
                self.breakers[index].succeeded()
                raise
            else:
                self.breakers[index].succeeded()
                return verdict
        raise last or Unavailable("every endpoint failed lately and is given a pause")

    async def about(self, deadline: Deadline) -> About:
        """What the endpoint that would be asked first says of itself."""
        for index in self._order():
            if self.breakers[index].closed:
                return await about(self.endpoints[index], deadline)
        return await about(self.endpoints[0], deadline)

    async def aclose(self) -> None:
        """Close every endpoint."""
        for endpoint in self.endpoints:
            await aclose(endpoint)

    def _order(self) -> list[int]:
        """Healthy ones first, taking turns among equals so that load spreads."""
        count = len(self.endpoints)
        self._turn = (self._turn + 1) % count
        turned = [(self._turn + offset) % count for offset in range(count)]
        return sorted(turned, key=lambda index: self.breakers[index].failures)

    def _share(self, deadline: Deadline, another: bool) -> Deadline:
        if self.attempt_timeout is not None:
            return deadline.within(self.attempt_timeout)
        return deadline.within(deadline.remaining / 2) if another else deadline
