"""The answer to "may this step go on?": what the policy made of the verdict, and what to pass on."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from turnguard.core.action import WAYS, Action, Way
from turnguard.core.step import Document, Image, Opaque, Part, Stage, Text, ToolCall, ToolDefinition
from turnguard.core.taxonomy import on_record
from turnguard.core.verdict import Coverage, Covered, Failure, Judgement, Reduced, Verdict, merged

MOST_CAUSES = 3
"""Reasons why something could not be checked that one message names."""

ReasonKind = Literal["verdict", "failure", "uncheckable", "reduced"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule that fired: the category (None: no category named; "unknown": none of the taxonomy), its path in the
    YAML, and its action.

    `parts` are indexes into the step's parts. `cause` says which failure or why something was uncheckable. `p_unsafe`
    is the probability that the rule saw.
    """

    kind: ReasonKind
    category: str | None
    rule: str
    action: Action
    way: Way = "replace"
    parts: tuple[int, ...] = ()
    cause: str | None = None
    failure: Failure | None = None
    p_unsafe: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy made of the verdicts of one step."""

    action: Action
    reasons: tuple[Reason, ...] = ()
    failed: bool = False
    escalates: bool = False
    decisive: tuple[Reason, ...] = field(default=())

    @property
    def uncheckable(self) -> bool:
        """True when what could not be judged, or only coarsely, decided, and nothing else asked for the same."""
        return bool(self.decisive) and all(reason.kind in ("uncheckable", "reduced") for reason in self.decisive)

    @property
    def causes(self) -> tuple[str, ...]:
        """Why what decided could not be checked, in a few words each and without content; at most three."""
        causes = (reason.cause for reason in self.decisive if reason.kind == "uncheckable" and reason.cause)
        return tuple(dict.fromkeys(causes))[:MOST_CAUSES]

    def ways(self) -> dict[int, Way]:
        """How each offending part is rewritten; the strictest way where several rules rewrite one part."""
        ways: dict[int, Way] = {}
        for reason in self.reasons:
            if reason.action == "rewrite" and reason.way != "trim":
                for part in reason.parts:
                    ways[part] = max(ways.get(part, "redact"), reason.way, key=WAYS.index)
        return ways

    def cut(self) -> tuple[int, ...]:
        """The parts that are cut off where judging ended."""
        cut = (part for reason in self.reasons if reason.way == "trim" for part in reason.parts)
        return tuple(sorted(set(cut)))


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a policy that is only tried would have done with the same verdicts. It changes nothing.

    A rewrite is what its rules ask for; whether one would have been found is not tried out.
    """

    action: Action
    reasons: tuple[Reason, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without content."""
        return {"action": self.action, "reasons": [_reason(reason) for reason in self.reasons]}


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy made of a step.

    `parts` stands beside the step's own parts: what to pass on in place of each (pinned, or rewritten), None where it
    is withheld or dropped. `held` is the original of a step under review, for the reviewer only. `message` is what to
    tell the person, None unless something was withheld. `where` is (message index, part index) in a transcript.
    `shadow` is what the policy's shadow would have done, None without one.
    `review_id` names what waits for a person, None unless the action is review and it could be held.
    """

    stage: Stage
    action: Action
    outcome: Outcome = field(repr=False)
    judgements: tuple[Judgement, ...] = field(repr=False)
    coverage: Coverage = field(repr=False)
    parts: tuple[Part | None, ...] = field(repr=False)
    message: str | None = None
    held: tuple[Part, ...] = field(default=(), repr=False)
    language: str = "en"
    policy_digest: str = ""
    latency: float = 0.0
    where: tuple[int, int] | None = None
    id: str = ""
    shadow: Shadow | None = None
    review_id: str | None = None

    @property
    def content(self) -> tuple[Part, ...]:
        """The parts to pass on; empty when withheld."""
        return tuple(part for part in self.parts if part is not None)

    @property
    def text(self) -> str:
        """The text to pass on, its parts joined with line breaks."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def failed(self) -> bool:
        """True when a failure of the moderator, not a verdict, decided."""
        return self.outcome.failed

    @property
    def withheld(self) -> bool:
        """True when nothing of the step may go on: it was blocked, or waits for a review."""
        return self.action in ("block", "review")

    @property
    def allowed(self) -> bool:
        """True when the step goes on unchanged (allow or flag)."""
        return self.action in ("allow", "flag")

    @property
    def verdict(self) -> Verdict:
        """All exchanges' verdicts as one, for display; deciding reads each on its own."""
        return merged(self.judgements)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Each rule that fired."""
        return self.outcome.reasons

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the rules that fired, in order; "unknown" for one that the taxonomy does not know."""
        return tuple(dict.fromkeys(reason.category for reason in self.reasons if reason.category))

    @property
    def escalates(self) -> bool:
        """True when judging an output or a call showed an unsafe user label; it changes no other decision."""
        return self.outcome.escalates

    @property
    def remembered(self) -> bool:
        """True when the verdicts came from memory and no request was made."""
        return bool(self.judgements) and all(judgement.verdict.remembered for judgement in self.judgements)

    def summary(self) -> str:
        """One line without content: stage, action, categories or cause."""
        why = ", ".join(self.categories)
        if self.failed:
            verdict = self.verdict
            why = f"moderator failed: {verdict.failure or 'unparseable'} ({verdict.cause or 'no cause given'})"
        elif not why and self.reasons:
            why = self.reasons[0].cause or self.reasons[0].rule
        return f"{self.stage}: {self.action}" + (f" ({why})" if why else "")

    def to_dict(self, content: bool = False) -> dict[str, Any]:
        """JSON-ready, the same keys as `turnguard check --json`. No content and no raw text unless `content=True`."""
        verdict = self.verdict
        data: dict[str, Any] = {
            "id": self.id,
            "stage": self.stage,
            "action": self.action,
            "failed": self.failed,
            "message": self.message,
            "language": self.language,
            "verdict": _verdict(verdict, content),
            "second_looks": [_looks(judgement, content) for judgement in self.judgements if judgement.verdict.looks],
            "reasons": [_reason(reason) for reason in self.reasons],
            "shadow": None if self.shadow is None else self.shadow.to_dict(),
            "escalates": self.escalates,
            "remembered": self.remembered,
            "coverage": {
                "judged": [_covered(entry) for entry in self.coverage.judged],
                "not_judged": [_covered(entry) for entry in self.coverage.not_judged],
                "reduced": [_reduced(entry) for entry in self.coverage.reduced],
            },
            "policy": self.policy_digest,
            "latency": round(self.latency, 6),
        }
        if self.review_id is not None:
            data["review_id"] = self.review_id
        if self.where is not None:
            data["where"] = list(self.where)
        if content:
            data["content"] = [plain_part(part) for part in self.content]
            data["held"] = [plain_part(part) for part in self.held]
        return data


def _verdict(verdict: Verdict, content: bool) -> dict[str, Any]:
    data = {
        "user": verdict.user,
        "response": verdict.response,
        "categories": list(verdict.categories),
        "unknown_categories": [name if content else on_record(name) for name in verdict.unknown_categories],
        "native": list(verdict.native),
        "p_unsafe": verdict.p_unsafe,
        "failure": verdict.failure,
        "cause": verdict.cause,
        "model": verdict.model,
        "latency": verdict.latency,
    }
    if content:
        data["raw"] = verdict.raw
        data["reasoning"] = verdict.reasoning
    return data


def _looks(judgement: Judgement, content: bool) -> dict[str, Any]:
    looks = judgement.verdict.looks
    assert looks is not None  # noqa: S101 - the caller asked
    return {
        "parts": list(judgement.parts),
        "detail": judgement.detail,
        "decides": looks.decides,
        "first": _verdict(looks.first, content),
        "second": _verdict(looks.second, content),
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "kind": reason.kind,
        "category": reason.category,
        "rule": reason.rule,
        "action": reason.action,
        "cause": reason.cause,
        "parts": list(reason.parts),
    }


def _covered(entry: Covered) -> dict[str, Any]:
    return {
        "part": entry.part,
        "kind": entry.kind,
        "detail": entry.detail,
        "cause": entry.cause,
        "counts": entry.counts,
        "trims": entry.trims,
        "failed": entry.failed,
    }


def _reduced(entry: Reduced) -> dict[str, Any]:
    return {"part": entry.part, "kind": entry.kind, "detail": entry.detail, "scale": entry.scale}


def plain_part(part: Part) -> dict[str, Any]:
    """A part as JSON, content included."""
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, ToolCall):
        return {"type": "tool_call", "name": part.name, "arguments": _plain(part.arguments), "id": part.id}
    if isinstance(part, ToolDefinition):
        return {"type": "tool", "definition": _plain(part.definition)}
    if isinstance(part, Opaque):
        return {"type": part.kind, "cause": part.cause}
    return {"type": part.kind, "data": _source(part)}


def _plain(value: Any) -> Any:
    """JSON-like data as it is; of any other object its type alone, for only a tool knows what is in it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    plain = value is None or isinstance(value, (str, bool, int, float))
    return value if plain else f"[{type(value).__name__}]"


def _source(part: Image | Document) -> str:
    source = part.source
    if isinstance(source, str):
        return source
    if isinstance(source, bytes):
        media_type = part.media_type or "application/octet-stream"
        return f"data:{media_type};base64,{base64.b64encode(source).decode('ascii')}"
    return os.fspath(source) if isinstance(source, os.PathLike) else repr(source)
