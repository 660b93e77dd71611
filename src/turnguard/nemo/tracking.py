"""Calls to the moderator as NeMo tracks its own models: in `log.llm_calls`, the statistics, `explain()` and tracing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline, Moderator, Wrapper

if TYPE_CHECKING:
    from turnguard.guard import Guard


Record = Callable[[Exchange, float, str | None, str, tuple[int, int]], None]


def track(guard: Guard) -> None:
    """Let NeMo see the calls that this guard makes. Harmless when done twice."""
    if not isinstance(guard.moderator, Tracked):
        guard.moderator = Tracked(guard.moderator)


class Tracked(Wrapper):
    """A moderator whose calls NeMo sees. Remembered verdicts cost no call and are not tracked.

    The prompt is not recorded: it is content, and the log outlives the turn.
    """

    def __init__(self, inner: Moderator) -> None:
        super().__init__(inner)
        self._record = _recorder()

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The verdict, and a record of the call that it took."""
        started = time.time()
        try:
            verdict = await self.inner.judge(exchange, deadline)
        except Exception as error:
            self._record(exchange, started, None, type(error).__name__, (0, 0))
            raise
        if not verdict.remembered:
            self._record(exchange, started, verdict.model, verdict.raw or _said(verdict), verdict.tokens or (0, 0))
        return verdict


def _said(verdict: Verdict) -> str:
    return f"user: {verdict.user}, response: {verdict.response}, categories: {', '.join(verdict.categories)}"


def _recorder() -> Record:
    """Writes a call down where NeMo's `track_llm_call` (nemoguardrails/logging/llm_tracker.py) writes its own: in its
    explanation, its statistics and its processing log.

    The decorator itself would wrap a coroutine around nothing, the call being over, and fill its record field by field.
    """
    from nemoguardrails.context import explain_info_var, llm_stats_var
    from nemoguardrails.logging.explain import LLMCallInfo
    from nemoguardrails.logging.processing_log import processing_log_var
    from nemoguardrails.logging.stats import LLMStats

    def record(exchange: Exchange, started: float, model: str | None, completion: str, tokens: tuple[int, int]) -> None:
        finished = time.time()
        info: Any = LLMCallInfo(
            id=os.urandom(16).hex(),
            task=f"turnguard_check_{exchange.stage}",
            prompt="",  # NeMo's readers expect a string
            completion=completion,
            llm_model_name=model or "unknown",
            llm_provider_name="turnguard",
            started_at=started,
            finished_at=finished,
            duration=finished - started,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            total_tokens=sum(tokens),
        )
        explained = explain_info_var.get()
        if explained is not None:
            explained.llm_calls.append(info)
        statistics = llm_stats_var.get()
        if statistics is None:
            statistics = LLMStats()
            llm_stats_var.set(statistics)
        statistics.inc("total_calls")
        statistics.inc("total_time", info.duration)
        for name in ("total_tokens", "prompt_tokens", "completion_tokens"):
            statistics.inc(f"total_{name.removeprefix('total_')}", getattr(info, name))
        log = processing_log_var.get()
        if log is not None:
            log.append({"type": "llm_call_info", "timestamp": finished, "data": info})

    return record
