"""A client whose requests are seen by OpenTelemetry, where the application set up an SDK."""

from __future__ import annotations

from turnguard import telemetry
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline, Moderator, Wrapper


class Traced(Wrapper):
    """Gives each request to `inner` a span and a measure. `base_url` is empty where the client is the caller's own."""

    def __init__(self, inner: Moderator, model: str, base_url: str = "") -> None:
        super().__init__(inner)
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
