"""Calls to the moderator as NeMo tracks its own models: in `log.llm_calls`, the statistics, `explain()` and tracing."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from turnguard.exchange import Exchange
from turnguard.moderators.base import Deadline, Wrapper
from turnguard.verdict import Verdict

if TYPE_CHECKING:
    from turnguard.guard import Guard


def track(guard: Guard) -> None:
    """Let NeMo see the calls that this guard makes. Harmless when done twice."""
    if not isinstance(guard.moderator, Tracked):
        guard.moderator = Tracked(guard.moderator)


class Tracked(Wrapper):
    """A moderator whose calls NeMo sees. Remembered verdicts cost no call and are not tracked.

    The prompt is not recorded: it is content, and the log outlives the turn.
    """

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The verdict, and a record of the call that it took."""
        started = time.time()
        try:
            verdict = await self.inner.judge(exchange, deadline)
        except Exception as error:
            await _record(exchange, started, None, type(error).__name__)
            raise
        if not verdict.remembered:
            await _record(exchange, started, verdict.model, verdict.raw or _said(verdict))
        return verdict


def _said(verdict: Verdict) -> str:
    return f"user: {verdict.user}, response: {verdict.response}, categories: {', '.join(verdict.categories)}"


async def _record(exchange: Exchange, started: float, model: str | None, completion: str) -> None:
    from nemoguardrails.context import llm_call_info_var, llm_stats_var
    from nemoguardrails.logging.explain import LLMCallInfo

    info: Any = LLMCallInfo(task=f"turnguard_check_{exchange.stage}")
    token = llm_call_info_var.set(info)
    try:
        await _recording()()
    finally:
        llm_call_info_var.reset(token)
    info.completion = completion
    info.llm_model_name = model or "unknown"
    info.llm_provider_name = "turnguard"
    info.started_at = started
    info.duration = info.finished_at - started
    statistics = llm_stats_var.get()
    if statistics is not None:
        statistics.inc("total_time", info.duration)


@functools.cache
def _recording() -> Any:
    from nemoguardrails.logging.llm_tracker import track_llm_call

    @track_llm_call
    async def record() -> None:
        """The call is over; this only writes it down where NeMo's own calls are written down."""

    return record
