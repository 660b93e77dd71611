"""A client whose requests are seen by OpenTelemetry, where the application set up an SDK."""

from __future__ import annotations

from turnguard import telemetry
from turnguard.exchange import Exchange
from turnguard.moderators.base import About, Deadline, Moderator, about, aclose
from turnguard.verdict import Verdict


class Traced:
    """Gives each request to `inner` a span and a measure. `base_url` is empty where the client is the caller's own."""

    def __init__(self, inner: Moderator, model: str, base_url: str = "") -> None:
        self.inner = inner
        self.model = model
        self.base_url = base_url

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The inner verdict."""
        if not telemetry.listening():
            return await self.inner.judge(exchange, deadline)
        with telemetry.request(self.model, self.base_url) as told:
            verdict = await self.inner.judge(exchange, deadline)
            told(verdict)
            return verdict

    async def about(self, deadline: Deadline) -> About:
        """The inner moderator's own words."""
        return await about(self.inner, deadline)

    async def aclose(self) -> None:
        """Close the inner moderator."""
        await aclose(self.inner)
