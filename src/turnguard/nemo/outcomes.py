"""Decisions → NeMo's `RailOutcome`, with everything that explains it in `metadata` and no content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nemoguardrails.actions.rail_outcome import RailOutcome, TransformTarget

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Decision


def strictest(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that decides for all; None where there was nothing to judge."""
    return max(decisions, key=lambda decision: SEVERITY[decision.action], default=None)


def outcome(
    decisions: Sequence[Decision], rewritten: dict[str, str] | None = None, *, refused: str | None = None
) -> RailOutcome:
    """The outcome of one rail. `rewritten` maps NeMo's variables (`user_message`, ...) to their new text; `refused` is
    what to tell the person where a rewrite cannot be carried out, which is then a block.
    """
    decisive = strictest(decisions)
    if decisive is None:
        return RailOutcome.allow(reason="nothing to judge", metadata={"action": "allow", "message": ""})
    metadata = metadata_of(decisions, decisive)
    reason = decisive.summary()
    if decisive.withheld:
        if decisive.failed:
            return RailOutcome.failure(reason=reason, metadata=metadata)
        return RailOutcome.block(reason=reason, metadata=metadata)
    if refused is not None:
        return RailOutcome.block(reason=reason, metadata={**metadata, "action": "block", "message": refused})
    if rewritten:
        targets = [(TransformTarget(name), text) for name, text in rewritten.items()]
        return RailOutcome.transform(targets, reason=reason, metadata=metadata)
    return RailOutcome.allow(reason=reason, metadata=metadata)


def metadata_of(decisions: Sequence[Decision], decisive: Decision) -> dict[str, Any]:
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
