"""Decisions as NeMo logs its own rails: in `GenerationResponse.log`, with the moderator's calls and tokens."""

from __future__ import annotations

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


def _rail(stage: str, decisions: Sequence[Decision]) -> Any:
    from nemoguardrails.logging.explain import LLMCallInfo
    from nemoguardrails.rails.llm.options import ActivatedRail, ExecutedAction

    decisive = strictest(decisions)
    if decisive is None:
        raise ValueError("a rail without a decision")
    task = f"turnguard_check_{stage}"
    calls = [
        LLMCallInfo(
            task=task,
            duration=judgement.verdict.latency or 0.0,
            prompt="",  # it is content, and a log outlives the turn
            completion=judgement.verdict.raw or "",
            **dict(zip(_TOKENS, judgement.verdict.tokens or (0, 0), strict=True)),
            total_tokens=sum(judgement.verdict.tokens or ()),
            llm_model_name=judgement.verdict.model or "unknown",
            llm_provider_name="turnguard",
        )
        for decision in decisions
        for judgement in decision.judgements
        if not judgement.verdict.remembered
    ]
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
