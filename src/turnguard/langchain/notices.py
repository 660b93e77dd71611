"""The messages that stand where something was withheld. Built anew, never copied: no block of the original survives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from turnguard.core.decision import Decision
from turnguard.guard import Guard
from turnguard.langchain.messages import plain_name

KEY = "turnguard"
"""The key in `response_metadata`, and of custom stream events."""

_KEPT_METADATA = ("model_provider", "model_name", "model", "output_version")


def about(decision: Decision, **more: Any) -> dict[str, Any]:
    """A decision as plain data without content, for metadata and events."""
    return {
        "action": decision.action,
        "stage": decision.stage,
        "failed": decision.failed,
        "categories": list(decision.categories),
        "rules": list(dict.fromkeys(reason.rule for reason in decision.reasons)),
        "id": decision.id,
        **more,
    }


def marked(message: BaseMessage) -> Mapping[str, Any]:
    """Return what Turnguard wrote into a message's metadata, or an empty mapping."""
    found = message.response_metadata.get(KEY)
    return found if isinstance(found, Mapping) else {}


def waiting_calls(message: BaseMessage | None) -> tuple[str, ...]:
    """The names of the reviews of calls in a message."""
    calls = marked(message).get("calls") if message is not None else None
    return tuple(map(str, calls.values())) if isinstance(calls, Mapping) else ()


def flagged(message: Any, decision: Decision, **changes: Any) -> Any:
    """Return a copy of the message with the decision in its metadata."""
    metadata = {**message.response_metadata, KEY: about(decision)}
    return message.model_copy(update={**changes, "response_metadata": metadata})


def why(decision: Decision) -> str:
    """The rule in a few words, safe to show to a model."""
    if decision.failed:
        return "it could not be checked"
    if decision.outcome.uncheckable:
        told = "; ".join(decision.outcome.causes)
        return f"part of it cannot be checked ({told})" if told else "part of it cannot be checked"
    return f"it falls under {', '.join(decision.categories)}" if decision.categories else "it is unsafe"


def call_notice(guard: Guard, decision: Decision, note: str = "") -> str:
    """What the agent reads in place of the result of a call that did not run."""
    text = f"The tool was not run: this call is not allowed because {why(decision)}. Do not repeat it."
    return _ours(guard, f"{text} {note}".strip())


def result_notice(guard: Guard, decision: Decision, note: str = "") -> str:
    """What the agent reads in place of a tool result."""
    text = f"The tool ran, but its result was withheld because {why(decision)}. Go on without it."
    return _ours(guard, f"{text} {note}".strip())


def pending_notice(guard: Guard) -> str:
    """What stands in place of content that waits for a reviewer."""
    return _ours(guard, "[Withheld until a person has reviewed it]")


def retry_notice(guard: Guard, decision: Decision) -> str:
    """What the model is told before it may try again."""
    return _ours(
        guard,
        f"Your answer was withheld because {why(decision)}. Answer the request again without it, or decline politely.",
    )


def removed(guard: Guard, decision: Decision) -> str:
    """What stands in place of a message that was taken out of a conversation."""
    from turnguard.text.messages import message_for

    text = message_for(categories=(), kind="removed", language=decision.language, overrides=guard.policy.messages)
    return _ours(guard, text)


def ai(original: AIMessage | None, content: Any, mark: Mapping[str, Any], tool_calls: Any = ()) -> AIMessage:
    """A fresh assistant message under the original's id. What it cost is kept; nothing that it said is."""
    if original is None:
        return AIMessage(content, response_metadata={KEY: dict(mark)})
    metadata = {key: original.response_metadata[key] for key in _KEPT_METADATA if key in original.response_metadata}
    if isinstance(content, str):
        metadata.pop("output_version", None)
    fresh = AIMessage(
        content,
        id=original.id,
        name=plain_name(original.name),
        tool_calls=list(tool_calls),
        response_metadata={**metadata, KEY: dict(mark)},
    )
    fresh.usage_metadata = original.usage_metadata  # of an answer from a cache it is half empty, and would not validate
    return fresh


def answer(
    content: Any, call_id: str | None, name: str | None, mark: Mapping[str, Any], message_id: str | None = None
) -> ToolMessage:
    """A fresh tool message, so that no call is left unanswered."""
    return ToolMessage(
        content,
        tool_call_id=call_id or "",
        name=plain_name(name),
        id=message_id,
        status="error",
        response_metadata={KEY: dict(mark)},
    )


def _ours(guard: Guard, text: str) -> str:
    guard.own_words.add(text)
    return text
