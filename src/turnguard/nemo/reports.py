"""Decisions as NeMo logs its own rails: in `GenerationResponse.log`, with the moderator's calls and tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Decision
from turnguard.core.step import STAGES, Stage

_KINDS: Mapping[Stage, str] = {"tool_call": "tool_output", "tool_result": "tool_input"}
"""What NeMo calls the rails of a stage, where it has another name."""
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


def strictest(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that decides for all; None where there was nothing to judge."""
    return max(decisions, key=lambda decision: SEVERITY[decision.action], default=None)


def options_of(given: Any) -> Any:
    """The options as NeMo's `GenerationOptions`; None without any."""
    if not isinstance(given, Mapping):
        return given
    from nemoguardrails.rails.llm.options import GenerationOptions

    return GenerationOptions(**given)


def report(answer: Any, decisions: Sequence[Decision], options: Any) -> Any:
    """Add a rail of ours for each stage that was judged to the answer's log, where the options ask for one."""
    if not hasattr(answer, "log"):
        return answer
    wanted = getattr(options_of(options), "log", None)
    if wanted is None or not (wanted.activated_rails or wanted.llm_calls):
        return answer
    from nemoguardrails.rails.llm.options import GenerationLog

    log = answer.log = answer.log or GenerationLog()
    for stage in STAGES:
        about = [decision for decision in decisions if decision.stage == stage]
        if (decisive := strictest(about)) is None:
            continue
        rail = _rail(about, decisive)
        asked = rail.executed_actions[0].llm_calls
        if wanted.activated_rails:
            log.activated_rails.append(rail)
        if wanted.llm_calls:
            log.llm_calls = [*(log.llm_calls or ()), *asked]
        _count(log.stats, rail, asked)
    return answer


def record(decisions: Sequence[Decision]) -> None:
    """Write the moderator's calls down where NeMo's `track_llm_call` writes its own models'.

    That is its explanation, its statistics and its processing log (nemoguardrails/logging/llm_tracker.py).
    """
    from nemoguardrails.context import explain_info_var, llm_stats_var
    from nemoguardrails.logging.processing_log import processing_log_var
    from nemoguardrails.logging.stats import LLMStats

    explained, log, statistics = explain_info_var.get(), processing_log_var.get(), llm_stats_var.get()
    for call in _calls(decisions):
        if statistics is None:
            llm_stats_var.set(statistics := LLMStats())
        if explained is not None:
            explained.llm_calls.append(call)
        if log is not None:
            log.append({"type": "llm_call_info", "timestamp": call.finished_at, "data": call})
        statistics.inc("total_calls")
        statistics.inc("total_time", call.duration)
        for name in _TOKENS:
            statistics.inc(f"total_{name.removeprefix('total_')}", getattr(call, name))


def _calls(decisions: Sequence[Decision]) -> list[Any]:
    """The moderator's calls for these decisions as NeMo records a model's. What was remembered cost none."""
    from nemoguardrails.logging.explain import LLMCallInfo

    now = time.time()
    # parts that were judged together share their verdict
    asked = {id(each.verdict): (decision.stage, each.verdict) for decision in decisions for each in decision.judgements}
    return [
        LLMCallInfo(
            id=os.urandom(16).hex(),
            task=f"turnguard_check_{stage}",
            started_at=now - (verdict.latency or 0.0),
            finished_at=now,
            duration=verdict.latency or 0.0,
            prompt="",  # it is content, and a log outlives the turn
            completion=verdict.raw or verdict.failure or "",
            **dict(zip(_TOKENS, (*(tokens := verdict.tokens or (0, 0)), sum(tokens)), strict=True)),
            llm_model_name=verdict.model or "unknown",
            llm_provider_name="turnguard",
        )
        for stage, verdict in asked.values()
        if not verdict.remembered
    ]


def _rail(decisions: Sequence[Decision], decisive: Decision) -> Any:
    from nemoguardrails.rails.llm.options import ActivatedRail, ExecutedAction

    stage, took = decisive.stage, max(decision.latency for decision in decisions)
    action = ExecutedAction(
        action_name=f"turnguard_check_{stage}",
        return_value=metadata_of(decisions, decisive),
        llm_calls=_calls(decisions),
        duration=took,
    )
    return ActivatedRail(
        type=_KINDS.get(stage, stage),
        name=f"turnguard check {stage.replace('_', ' ')}",
        decisions=[decisive.action],
        executed_actions=[action],
        stop=decisive.withheld,
        duration=took,
    )


def _count(stats: Any, rail: Any, calls: Sequence[Any]) -> None:
    """Add what our checks took to the statistics of the turn."""

    def add(name: str, amount: float) -> None:
        setattr(stats, name, (getattr(stats, name) or 0) + amount)

    of_kind = f"{rail.type.removeprefix('tool_')}_rails_duration"
    if hasattr(stats, of_kind):
        add(of_kind, rail.duration)
    add("total_duration", rail.duration)
    add("llm_calls_count", len(calls))
    add("llm_calls_duration", sum(call.duration for call in calls))
    for name in _TOKENS:
        add(f"llm_calls_total_{name.removeprefix('total_')}", sum(getattr(call, name) for call in calls))


def metadata_of(decisions: Sequence[Decision], decisive: Decision) -> dict[str, Any]:
    """What explains the decisions of one rail, without content. JSON-ready."""
    details = [decision.to_dict() for decision in decisions]
    known = (detail["verdict"]["p_unsafe"] for detail in details)
    return {
        "action": decisive.action,
        "stage": decisive.stage,
        "categories": list(dict.fromkeys(name for decision in decisions for name in decision.categories)),
        "p_unsafe": max((p for p in known if p is not None), default=None),
        "latency": max(decision.latency for decision in decisions),
        "failed": decisive.failed,
        "failure": decisive.verdict.failure,
        "cause": decisive.verdict.cause,
        "message": decisive.message or "",
        "coverage": {
            side: [entry for detail in details for entry in detail["coverage"][side]]
            for side in ("judged", "not_judged")
        },
        "decisions": details,
    }
