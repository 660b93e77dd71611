"""Decisions as NeMo logs its own rails: in `GenerationResponse.log`, with the moderator's calls and tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Decision
from turnguard.core.step import STAGES

_KINDS = {"tool_call": "tool_output", "tool_result": "tool_input"}
"""What NeMo calls the rails of a stage, where it has another name."""
_TOKENS = ("prompt_tokens", "completion_tokens")


def strictest(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that decides for all; None where there was nothing to judge."""
    return max(decisions, key=lambda decision: SEVERITY[decision.action], default=None)


def report(answer: Any, decisions: Sequence[Decision], options: Any) -> Any:
    """Add a rail of ours for each stage that was judged to the answer's log, where the options ask for one."""
    wanted = options.get("log") if isinstance(options, Mapping) else getattr(options, "log", None)
    if not wanted or not hasattr(answer, "log"):
        return answer
    rails, calls = (
        wanted.get(name) if isinstance(wanted, Mapping) else getattr(wanted, name, False)
        for name in ("activated_rails", "llm_calls")
    )
    if not rails and not calls:
        return answer
    from nemoguardrails.rails.llm.options import GenerationLog

    log = answer.log = answer.log or GenerationLog()
    for stage in STAGES:
        about = [decision for decision in decisions if decision.stage == stage]
        if not about:
            continue
        rail = _rail(stage, about)
        asked = rail.executed_actions[0].llm_calls
        if rails:
            log.activated_rails.append(rail)
        if calls:
            log.llm_calls = [*(log.llm_calls or ()), *asked]
        _count(log.stats, rail.type, rail.duration, asked)
    return answer


def calls_of(decisions: Sequence[Decision]) -> list[Any]:
    """The moderator's calls for these decisions as NeMo records a model's. What was remembered cost none."""
    from nemoguardrails.logging.explain import LLMCallInfo

    now = time.time()
    # parts that were judged together share their verdict
    asked = {id(each.verdict): (decision, each.verdict) for decision in decisions for each in decision.judgements}
    return [
        LLMCallInfo(
            id=os.urandom(16).hex(),
            task=f"turnguard_check_{decision.stage}",
            started_at=now - (verdict.latency or 0.0),
            finished_at=now,
            duration=verdict.latency or 0.0,
            prompt="",  # it is content, and a log outlives the turn
            completion=verdict.raw or verdict.failure or "",
            **dict(zip(_TOKENS, verdict.tokens or (0, 0), strict=True)),
            total_tokens=sum(verdict.tokens or ()),
            llm_model_name=verdict.model or "unknown",
            llm_provider_name="turnguard",
        )
        for decision, verdict in asked.values()
        if not verdict.remembered
    ]


def record(decisions: Sequence[Decision]) -> None:
    """Write the moderator's calls down where NeMo's `track_llm_call` writes its own models'.

    That is its explanation, its statistics and its processing log (nemoguardrails/logging/llm_tracker.py).
    """
    from nemoguardrails.context import explain_info_var, llm_stats_var
    from nemoguardrails.logging.processing_log import processing_log_var
    from nemoguardrails.logging.stats import LLMStats

    calls = calls_of(decisions)
    explained, log = explain_info_var.get(), processing_log_var.get()
    statistics = llm_stats_var.get()
    if calls and statistics is None:
        llm_stats_var.set(statistics := LLMStats())
    for call in calls:
        if explained is not None:
            explained.llm_calls.append(call)
        if log is not None:
            log.append({"type": "llm_call_info", "timestamp": call.finished_at, "data": call})
        statistics.inc("total_calls")
        statistics.inc("total_time", call.duration)
        for name in (*_TOKENS, "total_tokens"):
            statistics.inc(f"total_{name.removeprefix('total_')}", getattr(call, name))


def _rail(stage: str, decisions: Sequence[Decision]) -> Any:
    from nemoguardrails.rails.llm.options import ActivatedRail, ExecutedAction

    decisive = strictest(decisions)
    if decisive is None:
        raise ValueError("a rail without a decision")
    task = f"turnguard_check_{stage}"
    calls = calls_of(decisions)
    duration = max(decision.latency for decision in decisions)
    action = ExecutedAction(
        action_name=task, return_value=metadata_of(decisions, decisive), llm_calls=calls, duration=duration
    )
    return ActivatedRail(
        type=_KINDS.get(stage, stage),
        name=f"turnguard check {stage.replace('_', ' ')}",
        decisions=[decisive.action],
        executed_actions=[action],
        stop=decisive.withheld,
        duration=duration,
    )


def _count(stats: Any, kind: str, duration: float, calls: Sequence[Any]) -> None:
    """Add what our checks took to the statistics of the turn."""
    name = f"{kind.removeprefix('tool_')}_rails_duration"
    if hasattr(stats, name):
        setattr(stats, name, (getattr(stats, name) or 0.0) + duration)
    stats.total_duration = (stats.total_duration or 0.0) + duration
    stats.llm_calls_count = (stats.llm_calls_count or 0) + len(calls)
    for name in (*_TOKENS, "total_tokens"):
        total = f"llm_calls_total_{name.removeprefix('total_')}"
        setattr(stats, total, (getattr(stats, total) or 0) + sum(getattr(call, name) for call in calls))
    stats.llm_calls_duration = (stats.llm_calls_duration or 0.0) + sum(call.duration or 0.0 for call in calls)


def metadata_of(decisions: Sequence[Decision], decisive: Decision) -> dict[str, Any]:
    """What explains the decisions of one rail, without content. JSON-ready."""
    details = [decision.to_dict() for decision in decisions]
    verdict = decisive.verdict
    probabilities = [detail["verdict"]["p_unsafe"] for detail in details if detail["verdict"]["p_unsafe"] is not None]
    return {
        "action": decisive.action,
        "stage": decisive.stage,
        "categories": list(dict.fromkeys(name for decision in decisions for name in decision.categories)),
        "p_unsafe": max(probabilities, default=None),
        "latency": max(decision.latency for decision in decisions),
        "failed": decisive.failed,
        "failure": verdict.failure,
        "cause": verdict.cause,
        "message": decisive.message or "",
        "coverage": {
            side: [entry for detail in details for entry in detail["coverage"][side]]
            for side in ("judged", "not_judged")
        },
        "decisions": details,
    }
