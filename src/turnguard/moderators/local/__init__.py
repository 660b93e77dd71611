"""The moderator without a server: a checkpoint in this process, asked and read exactly as a server would be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.base import About, Deadline
from turnguard.moderators.families import Asking
from turnguard.moderators.families import family as family_of
from turnguard.moderators.local.batching import Batching, Job
from turnguard.moderators.local.checkpoint import Ask, Checkpoint, Reply, locate

MOST = 16
"""Requests that are worked on together at most."""


class LocalModerator:
    """Judges with `transformers`. `checkpoint` is a directory, or `owner/name` on the hub (fetched when it is not here
    yet). `device` as torch names it; None takes a GPU where there is one.

    The model is loaded here and now: seconds to a minute, and what is wrong with it is a `ConfigError` at the start.
    Requests are batched in a thread of their own. A deadline and a cancellation free the caller at once; the model
    itself stops between two tokens, since a forward pass cannot be broken off.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        model: str = "nemotron_moderator",
        family: str = "nemotron-3",
        categories: bool = True,
        reasoning: bool = False,
        controversial: Label = "unsafe",
        device: str | None = None,
        max_batch: int = MOST,
    ) -> None:
        self.checkpoint = checkpoint
        self.model = model
        self._asking = Asking(model, categories, reasoning, controversial)
        self._family = family_of(family)
        self._loaded = Checkpoint(locate(checkpoint), device)
        self._about = About(
            f"{self._family.name}/{self._family.version}/{self._asking.identity}/local-{self._loaded.identity}",
            self._loaded.max_model_len,
            self._family.can.images,
        )
        self._batching: Batching[Ask, Reply] = Batching(
            self._work, most=max_batch, kind=lambda ask: ask.picture is not None
        )

    def __repr__(self) -> str:
        return f"LocalModerator({self.checkpoint!r}, device={self._loaded.device!r})"

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Ask the model once. `latency` includes the wait for the batch before."""
        started = time.perf_counter()
        deadline.check()
        picture = exchange.picture.data if exchange.picture is not None else None
        bodies = self._family.requests(exchange, self._asking)
        replies = [await self._batching.ask(Ask(body, picture), deadline) for body in bodies]
        verdict = self._family.verdict(replies, exchange, self._asking)
        return replace(
            verdict,
            model=verdict.model or self.model,
            latency=time.perf_counter() - started,
            identity=self._about.identity,
        )

    async def about(self, deadline: Deadline) -> About:
        """The checkpoint's files name it; the limit is its own."""
        return self._about

    async def aclose(self) -> None:
        """End the thread. The model is freed with this object."""
        self._batching.close()

    def _work(self, batch: Sequence[Job[Ask, Reply]]) -> Sequence[Reply | ModeratorError]:
        return self._loaded.reply([job.item for job in batch], lambda number: batch[number].wanted)
