"""A decision → its row. Only what is cheap is done here, on the caller's time: digests and encryption come later."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turnguard.core.decision import plain_part
from turnguard.core.step import Part, Step, Text, ToolCall, ToolDefinition
from turnguard.core.taxonomy import MINOR
from turnguard.records.evidence import Evidence, dump_reasons, said

if TYPE_CHECKING:
    from turnguard.core.decision import Decision

PROMOTED = ("user", "thread", "request", "tenant")
"""Names in a step's metadata that have a column of their own."""
OWNER = ("stage", "action", "asked", "policy", "edition", *PROMOTED)
"""What the record of an event takes from the decision's own."""
LONGEST_NAME = 200


def of_decision(step: Step, decision: Decision, edition: str, family: str, time: int) -> dict[str, Any]:
    """The row of a decision, without parts and content. `time` is in milliseconds since 1970, UTC."""
    outcome = decision.outcome
    decisive = outcome.decisive[0] if outcome.decisive else None
    # a rewrite that found no acceptable result is a block; the rules asked for the rewrite
    asked = "rewrite" if decision.action == "block" and decisive and decisive.action == "rewrite" else decision.action
    metadata = step.metadata
    shadow = decision.shadow
    trace, span = current_span()
    return {
        "id": decision.id,
        "time": time,
        "event": "check",
        "stage": decision.stage,
        "action": decision.action,
        "asked": asked,
        "shadow": shadow.action if shadow else None,
        "failed": outcome.failed,
        "reduced": bool(decision.coverage.reduced),
        "complete": decision.coverage.complete,
        "remembered": decision.remembered,
        "rule": decisive.rule if decisive else None,
        "category": decisive.category if decisive else None,
        "latency": decision.latency,
        "policy": decision.policy_digest,
        "edition": edition,
        "model": _short(next((each.verdict.model for each in decision.judgements if each.verdict.model), None)),
        "family": family,
        **{name: metadata.get(name) for name in PROMOTED},
        "trace": trace,
        "span": span,
        "language": step.language,
        "metadata": _rest(metadata, decision.where),
        "reasons": dump_reasons(outcome.reasons),
        "shadow_reasons": dump_reasons(shadow.reasons) if shadow else None,
        "evidence": Evidence(decision.judgements, decision.coverage, step.language).dump(),
    }


def of_event(event: str, time: int, about: Mapping[str, str | None], owner: Mapping[Any, Any]) -> dict[str, Any]:
    """The row of what a person did: looked at content, answered a review. `about` says who and what; `owner` is the
    record of the decision, for the person whom it belongs to may have it erased.
    """
    return {
        "stage": "input",
        "action": "review",
        "asked": "review",
        "policy": "",
        **{name: owner[name] for name in OWNER if name in owner},
        "id": os.urandom(12).hex(),
        "time": time,
        "event": event,
        "failed": False,
        "reduced": False,
        "complete": True,
        "remembered": False,
        "latency": 0.0,
        "metadata": json.dumps({name: value for name, value in about.items() if value}),
    }


def snapshot(part: Part) -> tuple[str, bytes | None]:
    """The kind of a part and its bytes for a digest, as they are now; None where it has none."""
    if isinstance(part, Text):
        return part.kind, part.text.encode("utf-8", "surrogatepass")
    if isinstance(part, (ToolCall, ToolDefinition)):
        inside = [part.name, part.arguments] if isinstance(part, ToolCall) else part.definition
        try:
            return part.kind, json.dumps(inside, default=str).encode()
        except (ValueError, TypeError, RecursionError):
            return part.kind, None  # no JSON: endless, or with keys that are none
    source = getattr(part, "source", None)
    if isinstance(source, str):
        return part.kind, source.encode("utf-8", "surrogatepass")
    return part.kind, source if isinstance(source, bytes) else None


def content(step: Step, parts: Sequence[Part], decision: Decision) -> bytes | None:
    """What was judged, the request that it answers and the model's reasoning, as JSON. None for `Sexual (minor)`, which
    is never kept.
    """
    if is_minor(decision):
        return None
    kept = {
        "parts": [plain_part(part) for part in parts],
        "prompt": step.prompt,
        "history": list(step.history),
        "reasoning": list(_reasoning(decision)),
    }
    return json.dumps({name: value for name, value in kept.items() if value}, default=str).encode()


def _reasoning(decision: Decision) -> Iterator[dict[str, Any]]:
    """What the model thought before each verdict; it may repeat what it read."""
    for judgement in decision.judgements:
        looks = judgement.verdict.looks
        for verdict in (judgement.verdict,) if looks is None else (looks.first, looks.second):
            if verdict.reasoning:
                where = {"parts": list(judgement.parts), "detail": judgement.detail}
                yield {**where, "model": _short(verdict.model), "text": verdict.reasoning}


def is_minor(decision: Decision) -> bool:
    """Whether any verdict names the category whose content is never kept, the policy's rules for it aside."""
    return any(MINOR in each.categories for judgement in decision.judgements for each in said(judgement.verdict))


def current_span() -> tuple[str | None, str | None]:
    """The trace and the span of OpenTelemetry that this runs in, in hexadecimal."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None, None
    context = trace.get_current_span().get_span_context()
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else (None, None)


def _rest(metadata: Mapping[str, str], where: tuple[int, int] | None) -> str | None:
    rest = {name: value for name, value in metadata.items() if name not in PROMOTED}
    if where is not None:
        rest["where"] = f"{where[0]}.{where[1]}"
    return json.dumps(rest) if rest else None


def _short(name: str | None) -> str | None:
    """A name that a server chose."""
    return None if name is None else "".join(c for c in name if c.isprintable())[:LONGEST_NAME]
