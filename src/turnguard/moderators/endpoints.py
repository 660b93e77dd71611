"""The endpoints of one model: asked in order of health with a circuit breaker each, and again where that can help."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence

from turnguard import telemetry
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
FIRST_WAIT = 0.05
LONGEST_WAIT = 1.0
"""Seconds between two attempts: at random, up to twice as long each time."""


class Breaker:
    """A circuit breaker: opens after several failures in a row, then admits one trial after each pause.

    Only a failed trial doubles the pause. The requests that were in flight when an endpoint died fail together and
    count once.
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
        """Whether requests may go to this endpoint without a trial."""
        return self.failures < OPENS_AFTER

    @property
    def resting(self) -> bool:
        """Whether the endpoint failed or was busy a moment ago. Others are then asked first."""
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
        """Return whether to try this endpoint when no other is left.

        Every request is then a trial, and the pause between trials stays short: a long one makes sense only while
        another endpoint answers, else it would prolong the outage.
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


class Endpoint:
    """One server of the model, or a model in this process; its requests are seen by OpenTelemetry where that listens.

    `model` and `base_url` name it there; `base_url` is empty where the client is the caller's own.
    """

    def __init__(self, moderator: Moderator, model: str = "", base_url: str = "") -> None:
        self.moderator = moderator
        self.model = model
        self.base_url = base_url
        self.breaker = Breaker()

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Ask once."""
        if not telemetry.listening():
            return await self.moderator.judge(exchange, deadline)
        with telemetry.request(self.model, self.base_url) as told:
            verdict = await self.moderator.judge(exchange, deadline)
            told(verdict)
            return verdict


class Endpoints:
    """Asks the healthiest endpoint first, the next one when it fails, and again what can succeed again.

    Resets, 429 and 503 are asked again with jittered waits (`Retry-After` is obeyed where it fits), any other 5xx once,
    up to `attempts` rounds in all and never past the deadline. Within a round the next endpoint is asked before a wait.
    `attempt_timeout` bounds one attempt in seconds; None gives half of what is left of the deadline while there is
    another endpoint to try, and a quarter to one that is on trial. What an endpoint rejects (4xx) or answers illegibly
    is not tried elsewhere: the others are the same. A single endpoint is never paused: there is nobody else to ask.

    Our own rather than a library: the waits must know the deadline, and what may be asked again is a safety decision.
    """

    def __init__(self, endpoints: Sequence[Endpoint], attempt_timeout: float | None = None, attempts: int = 3) -> None:
        self.endpoints = tuple(endpoints)
        self.attempt_timeout = attempt_timeout
        self.attempts = attempts
        self._turn = 0

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The first verdict that an endpoint gives, or the last failure."""
        accidents = 0
        for attempt in range(1, self.attempts + 1):
            try:
                if len(self.endpoints) == 1 and self.attempt_timeout is None:
                    return await self.endpoints[0].judge(exchange, deadline)
                return await self._round(exchange, deadline)
            except ModeratorError as error:
                accidents += error.retry == "once"
                wait = _wait(error, attempt)
                hopeless = error.retry == "never" or accidents > 1
                if hopeless or attempt == self.attempts or wait >= deadline.remaining:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _round(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Ask one endpoint after the other."""
        last: ModeratorError | None = None
        candidates = self._candidates()
        for position, endpoint in enumerate(candidates):
            if last is not None and deadline.remaining <= 0.0:
                break
            breaker = endpoint.breaker
            share = self._share(deadline, len(candidates) - position - 1, trial=not breaker.closed)
            try:
                verdict = await _reached(endpoint, exchange, share)
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
        """What all the endpoints that may be asked now say of themselves: no identity where they differ."""
        if len(self.endpoints) == 1:
            return await about(self.endpoints[0].moderator, deadline)
        usable = [endpoint for endpoint in self.endpoints if endpoint.breaker.closed] or self.endpoints
        said = await asyncio.gather(*(about(endpoint.moderator, deadline) for endpoint in usable))
        identities = {each.identity for each in said}
        limits = [each.max_model_len for each in said if each.max_model_len is not None]
        identity = identities.pop() if len(identities) == 1 else None
        return About(identity, min(limits, default=None), all(each.images for each in said))

    async def aclose(self) -> None:
        """Close every endpoint."""
        for endpoint in self.endpoints:
            await aclose(endpoint.moderator)

    def _order(self) -> list[Endpoint]:
        """Healthy ones first, taking turns among equals so that load spreads."""
        count = len(self.endpoints)
        self._turn = (self._turn + 1) % count
        turned = (*self.endpoints[self._turn :], *self.endpoints[: self._turn])
        return sorted(turned, key=lambda endpoint: (not endpoint.breaker.closed, endpoint.breaker.resting))

    def _candidates(self) -> list[Endpoint]:
        """Whom to ask, in order. One whose pause is over goes first, or it would never be found to have recovered."""
        order = self._order()
        if len(order) == 1:
            return order
        standing = [endpoint for endpoint in order if endpoint.breaker.closed]
        open_ones = (endpoint for endpoint in order if not endpoint.breaker.closed)
        if not standing:
            return [endpoint for endpoint in open_ones if endpoint.breaker.due()]
        trial = next((endpoint for endpoint in open_ones if endpoint.breaker.admits()), None)
        return standing if trial is None else [trial, *standing]

    def _share(self, deadline: Deadline, others: int, *, trial: bool) -> Deadline:
        share = deadline
        if others:
            share = deadline.within(deadline.remaining / (4 if trial else 2))
        return share if self.attempt_timeout is None else share.within(self.attempt_timeout)


async def _reached(endpoint: Endpoint, exchange: Exchange, deadline: Deadline) -> Verdict:
    """Ask once, and once more at once where a connection was reset: vLLM closes pooled ones without saying so."""
    try:
        return await endpoint.judge(exchange, deadline)
    except Unavailable as error:
        if error.retry != "now" or deadline.remaining <= 0.0:
            raise
    return await endpoint.judge(exchange, deadline)


def _wait(error: ModeratorError, attempt: int) -> float:
    """Seconds to wait before the next attempt."""
    if error.retry == "now" and attempt == 1:
        return 0.0  # vLLM closes pooled connections without saying so: the next one is new and will do
    jitter = random.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt))  # noqa: S311 - no secret
    # added to what the server asked for: it asks everyone for the same, and it may ask for none
    return jitter if error.retry_after is None else error.retry_after + jitter
