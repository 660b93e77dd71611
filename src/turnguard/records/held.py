"""Content that waits for a person ⇄ bytes: exactly what was judged, or `Unholdable`."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from turnguard.core.decision import Decision, Outcome
from turnguard.core.step import Document, Image, Opaque, Part, Stage, Step, Text, ToolCall, ToolDefinition
from turnguard.core.verdict import Coverage


class Unholdable(Exception):
    """This content cannot be written down as it is: live objects in a call's arguments, a part that was not read."""


@dataclass(frozen=True, slots=True)
class Held:
    """A step under review: its parts as they were judged, what they answer, and what the decision on them said.

    A document's password is never kept. `extra` is a host's own state for going on once a person has answered.
    """

    stage: Stage
    parts: tuple[Part, ...] = field(repr=False)
    outcome: Outcome
    decision: str
    policy: str
    message: str | None = None
    prompt: str | None = field(default=None, repr=False)
    history: tuple[str, ...] = field(default=(), repr=False)
    tool: str | None = field(default=None, repr=False)
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, step: Step, decision: Decision, extra: str | None = None) -> Held:
        """What is kept of a step and of the decision on it."""
        return cls(
            decision.stage,
            decision.held or step.parts,
            decision.outcome,
            decision.id,
            decision.policy_digest,
            decision.message,
            step.prompt,
            step.history,
            step.tool,
            decision.language,
            step.metadata,
            extra,
        )

    def as_decision(self) -> Decision:
        """The decision, as far as it was kept: without judgements and coverage."""
        return Decision(
            self.stage,
            "review",
            self.outcome,
            (),
            Coverage(),
            (None,) * len(self.parts),
            message=self.message,
            held=self.parts,
            language=self.language or "en",
            policy_digest=self.policy,
            id=self.decision,
        )

    def dump(self) -> bytes:
        """As bytes, the same for the same content. Raises `Unholdable`."""
        data = {name: getattr(self, name) for name in _PLAIN}
        data |= {
            "parts": [_dumped(part) for part in self.parts],
            "history": list(self.history),
            "metadata": dict(self.metadata),
            "outcome": _outcomes().dump_python(self.outcome, mode="json"),
        }
        return json.dumps(data, sort_keys=True).encode()  # ASCII: lone surrogates survive

    @classmethod
    def load(cls, data: bytes) -> Held:
        """What was dumped."""
        kept = json.loads(data)
        return cls(
            parts=tuple(map(_loaded, kept["parts"])),
            history=tuple(kept["history"]),
            metadata=kept["metadata"],
            outcome=_outcomes().validate_python(kept["outcome"]),
            **{name: kept[name] for name in _PLAIN},
        )


_PLAIN = ("stage", "decision", "policy", "message", "prompt", "tool", "language", "extra")


@cache
def _outcomes() -> TypeAdapter[Outcome]:
    return TypeAdapter(Outcome)


def _dumped(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"part": "text", "text": part.text}
    if isinstance(part, ToolCall):
        return {"part": "tool_call", "name": part.name, "arguments": _exact(part.arguments), "id": part.id}
    if isinstance(part, ToolDefinition):
        return {"part": "tool", "definition": _exact(part.definition)}
    if isinstance(part, Opaque):
        return {"part": "opaque", "kind": part.kind, "cause": part.cause, "original": _exact(part.original)}
    about = {"part": part.kind, "media_type": part.media_type}
    if isinstance(part, Document):
        about["name"] = part.name
    if isinstance(part.source, bytes):
        return {**about, "bytes": base64.b64encode(part.source).decode("ascii")}
    if isinstance(part.source, str):
        return {**about, "source": part.source}
    raise Unholdable(f"{part.kind} that was not read")


def _loaded(data: Mapping[str, Any]) -> Part:
    kind = data["part"]
    if kind == "text":
        return Text(data["text"])
    if kind == "tool_call":
        return ToolCall(data["name"], data["arguments"], data["id"])
    if kind == "tool":
        return ToolDefinition(data["definition"])
    if kind == "opaque":
        return Opaque(data["kind"], data["cause"], data["original"])
    source = base64.b64decode(data["bytes"]) if "bytes" in data else data["source"]
    if kind == "image":
        return Image(source, data["media_type"])
    return Document(source, data["media_type"], data["name"])


def _exact(value: Any) -> Any:
    """JSON-like data that reads back as it was."""
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _exact(item) for key, item in value.items()}
    raise Unholdable(f"a {type(value).__name__}")
