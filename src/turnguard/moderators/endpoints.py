"""Several endpoints of one model: asked in order of health, with a circuit breaker each, leaving time for the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from turnguard.core.errors import ModeratorError, Rejected, Timeout, Unavailable, Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import About, Deadline, Moderator, about, aclose
from turnguard.runtime.fork import watch

OPENS_AFTER = 3
"""Failures in a row that open a circuit."""
FIRST_PAUSE = 1.0
RESTS = 0.25
"""Seconds for which others are asked before one that failed, or that answered 429 or 503 without a `Retry-After`."""
LONGEST_PAUSE = 30.0


class Breaker:
    """Keeps a dead endpoint from being hammered: open after failures in a row, then one trial after each pause.

    The pause doubles with each trial that fails, and only then: all the requests that were in flight when an endpoint
    died fail together, and that is one death.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.failures = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._since = 0.0
        self._trying = False
        self._rests_until = 0.0
        watch(self)

    @property
    def closed(self) -> bool:
        """Whether the endpoint is in good standing."""
        return self.failures < OPENS_AFTER

    @property
    def resting(self) -> bool:
        """Whether it failed or said that it is busy, a moment ago: others are asked first."""
        return time.monotonic() < self._rests_until

    def admits(self) -> bool:
        """Whether a request may go out now. When the pause is over, one may: the trial."""
        with self._lock:
            if self.failures < OPENS_AFTER:
                return True
            now = time.monotonic()
            if now < self._until:
                return False
            self._until = now + self._pause
            self._trying = True
            return True

    def due(self) -> bool:
        """Whether to ask where nobody else is left: all requests are the trial, not only one, and the pause is short.

        A long pause spares a dead endpoint while another answers; without one it would prolong the outage.
        """
        with self._lock:
            over = time.monotonic() >= self._since + FIRST_PAUSE
            self._trying = self._trying or over
            return over

    def succeeded(self) -> None:
        """The endpoint answered."""
        with self._lock:
            self.failures = 0
            self._pause = FIRST_PAUSE
            self._trying = False

    def failed(self) -> None:
        """The endpoint gave no answer."""
        with self._lock:
            self.failures += 1
            self._rests_until = time.monotonic() + RESTS
            if self._trying:
                self._trying = False
                self._pause = min(LONGEST_PAUSE, self._pause * 2.0)
            elif self.failures != OPENS_AFTER:
                return
            self._since = time.monotonic()
            self._until = self._since + self._pause

    def busy(self, seconds: float | None) -> None:
        """The endpoint lives and asked to be left alone: others are asked first for `seconds`."""
        with self._lock:
            self._rests_until = time.monotonic() + min(LONGEST_PAUSE, RESTS if seconds is None else seconds)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


class Replicas:
    """Asks the healthiest endpoint first, and the next one when it fails.

    `attempt_timeout` bounds one attempt in seconds; None gives half of what is left of the deadline while there is
    another endpoint to try, and a quarter to one that is on trial. What an endpoint rejects (4xx) or answers illegibly
    is not tried elsewhere: the others are the same. A single endpoint is never paused: there is nobody else to ask.
    """

    def __init__(self, endpoints: Sequence[Moderator], attempt_timeout: float | None = None) -> None:
        self.endpoints = tuple(endpoints)
        self.attempt_timeout = attempt_timeout
        self.breakers = tuple(Breaker() for _ in self.endpoints)
        self._turn = 0

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The first verdict that an endpoint gives, or the last failure."""
        last: ModeratorError | None = None
        candidates = self._candidates()
        for position, index in enumerate(candidates):
            if last is not None and deadline.remaining <= 0.0:
                break
            breaker = self.breakers[index]
            share = self._share(deadline, len(candidates) - position - 1, trial=not breaker.closed)
            try:
                verdict = await self.endpoints[index].judge(exchange, share)
            except (Unavailable, Timeout) as error:
                if error.retry == "wait":
                    breaker.busy(error.retry_after)
                else:
                    breaker.failed()
                last = error
            except (Rejected, Unparseable):
                breaker.succeeded()
                raise
            else:
                breaker.succeeded()
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
        return sorted(turned, key=lambda index: (not self.breakers[index].closed, self.breakers[index].resting))

    def _candidates(self) -> list[int]:
        """Whom to ask, in order. One whose pause is over goes first, or it would never be found to have recovered."""
        order = self._order()
        if len(order) == 1:
            return order
        standing = [index for index in order if self.breakers[index].closed]
        open_ones = (index for index in order if not self.breakers[index].closed)
        if not standing:
            return [index for index in open_ones if self.breakers[index].due()]
        trial = next((index for index in open_ones if self.breakers[index].admits()), None)
        return standing if trial is None else [trial, *standing]

    def _share(self, deadline: Deadline, others: int, *, trial: bool) -> Deadline:
        share = deadline
        if others:
            share = deadline.within(deadline.remaining / (4 if trial else 2))
        return share if self.attempt_timeout is None else share.within(self.attempt_timeout)
