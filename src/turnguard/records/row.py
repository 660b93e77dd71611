"""A decision → its row, made in the writer's thread. The check itself only hands over what the row is made of."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnguard.core.decision import plain_part
from turnguard.core.step import Part, Step, Text, ToolCall, ToolDefinition
from turnguard.core.taxonomy import MINOR
from turnguard.records.evidence import Evidence, dump_reasons, said

if TYPE_CHECKING:
    from turnguard.core.decision import Decision
    from turnguard.core.policy import Policy
    from turnguard.records.keys import Keys

PROMOTED = ("user", "thread", "request", "tenant")
"""Names in a step's metadata that have a column of their own."""
OWNER = ("stage", "action", "asked", "policy", "edition", *PROMOTED)
"""What the record of an event takes from the decision's own."""
LONGEST_NAME = 200


@dataclass(slots=True, eq=False)
class Pending:
    """A decision on its way to its row: what the row is made of later, off the check's time, by reference where nobody
    can change it meanwhile. `time` is in milliseconds since 1970, UTC; `size` is about the bytes of content that it
    holds on to; `done` is awaited where the record is required.
    """

    step: Step
    decision: Decision
    policy: Policy
    edition: str
    family: str
    time: int
    span: tuple[str | None, str | None]
    parts: tuple[tuple[str, str | bytes | None], ...]
    content: bytes | None
    size: int
    done: Future[None] | None = None

    @classmethod
    def of(
        cls,
        step: Step,
        parts: Sequence[Part],
        decision: Decision,
        policy: Policy,
        edition: str,
        family: str,
        full: bool,
    ) -> Pending:
        """Taken when the decision is made. `parts` are the step's own, pinned where fetched; `full`: with content."""
        kept = content(step, parts, decision) if full else None
        pinned, at = tuple(map(snapshot, parts)), time.time_ns() // 1_000_000
        size = sum(map(_length, (step.prompt, kept, *step.history, *[data for _, data in pinned])))
        if step.prompt_images or decision.action == "rewrite":
            size += sum(_length(snapshot(part)[1]) for part in (*step.prompt_images, *decision.content))
        return cls(step, decision, policy, edition, family, at, current_span(), pinned, kept, size)

    def row(self, keys: Keys) -> dict[str, Any]:
        """The row, with its digests, and its content encrypted."""
        step, decision = self.step, self.decision
        outcome, shadow, metadata = decision.outcome, decision.shadow, step.metadata
        decisive = outcome.decisive[0] if outcome.decisive else None
        # a rewrite that found no acceptable result is a block; the rules asked for the rewrite
        rewrite = decisive is not None and decisive.action == "rewrite" and decision.action == "block"
        trace, span = self.span
        return {
            "id": decision.id,
            "time": self.time,
            "event": "check",
            "stage": decision.stage,
            "action": decision.action,
            "asked": "rewrite" if rewrite else decision.action,
            "shadow": shadow.action if shadow else None,
            "failed": outcome.failed,
            "reduced": bool(decision.coverage.reduced),
            "complete": decision.coverage.complete,
            "remembered": decision.remembered,
            "rule": decisive.rule if decisive else None,
            "category": decisive.category if decisive else None,
            "latency": decision.latency,
            "policy": decision.policy_digest,
            "edition": self.edition,
            "model": _short(next((each.verdict.model for each in decision.judgements if each.verdict.model), None)),
            "family": self.family,
            "user": metadata.get("user"),
            "thread": metadata.get("thread"),
            "request": metadata.get("request"),
            "tenant": metadata.get("tenant"),
            "trace": trace,
            "span": span,
            "language": step.language,
            "metadata": _rest(metadata, decision.where),
            "parts": f"[{','.join([_digested(keys, *part) for part in self.parts])}]",
            "reasons": dump_reasons(outcome.reasons),
            "shadow_reasons": dump_reasons(shadow.reasons) if shadow else None,
            "evidence": Evidence.of(decision, step.language, self.policy).dump(),
            "content": None if self.content is None else keys.encrypt(self.content),
        }


def _length(data: str | bytes | None) -> int:
    return len(data) if data else 0


def _digested(keys: Keys, kind: str, data: str | bytes | None) -> str:
    digest = "null" if data is None else f'"{keys.digest(as_bytes(data))}"'
    return f'{{"kind":"{kind}","digest":{digest}}}'


def of_event(event: str, at: int, about: Mapping[str, str | None], owner: Mapping[Any, Any]) -> dict[str, Any]:
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
        "time": at,
        "event": event,
        "failed": False,
        "reduced": False,
        "complete": True,
        "remembered": False,
        "latency": 0.0,
        "metadata": json.dumps({name: value for name, value in about.items() if value}),
    }


def snapshot(part: Part) -> tuple[str, str | bytes | None]:
    """The kind of a part and what is digested of it, as it is now; None where it has nothing."""
    if isinstance(part, Text):
        return part.kind, part.text
    if isinstance(part, (ToolCall, ToolDefinition)):
        inside = [part.name, part.arguments] if isinstance(part, ToolCall) else part.definition
        try:
            return part.kind, json.dumps(inside, default=str)
        except (ValueError, TypeError, RecursionError):
            return part.kind, None  # no JSON: endless, or with keys that are none
    source = getattr(part, "source", None)
    return part.kind, source if isinstance(source, (str, bytes)) else None


def as_bytes(data: str | bytes) -> bytes:
    """What a digest is made of."""
    return data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")


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
    if not metadata and where is None:
        return None
    rest = {name: value for name, value in metadata.items() if name not in PROMOTED}
    if where is not None:
        rest["where"] = f"{where[0]}.{where[1]}"
    return json.dumps(rest) if rest else None


def _short(name: str | None) -> str | None:
    """A name that a server chose."""
    if name is None or (len(name) <= LONGEST_NAME and name.isprintable()):
        return name
    return "".join(c for c in name if c.isprintable())[:LONGEST_NAME]
