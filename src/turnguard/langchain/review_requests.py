"""What is put before a person, and how their answer reads. Pure.

For held content the interrupt carries its id, the rules and the categories, never the content. For a call the
arguments stand in it, as LangChain's review screens expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from turnguard.core.decision import Decision, Outcome
from turnguard.core.step import ToolCall
from turnguard.core.verdict import Coverage
from turnguard.langchain import notices
from turnguard.langchain.held import Held
from turnguard.langchain.messages import stage_of

Payload = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The action to decide on, and what is known about it."""


_ALLOWED = ["approve", "edit", "reject", "respond"]


def payload(actions: Sequence[Mapping[str, Any]], about: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What stands in the interrupt, in LangChain's form."""
    configs = [{"action_name": action["name"], "allowed_decisions": _ALLOWED} for action in actions]
    return {"action_requests": list(actions), "review_configs": configs, notices.KEY: list(about)}


def request_for(held: Held | None, stand_in: BaseMessage, identity: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A review of held content: what it is and why it waits, without the content."""
    about = dict(notices.marked(stand_in)) if held is None else notices.about(held.decision)
    about["held"] = identity
    stage = about.get("stage", "output")
    args = {"id": identity, "categories": about.get("categories", []), "rules": about.get("rules", [])}
    named = f" of {stand_in.name}" if isinstance(stand_in, ToolMessage) and stand_in.name else ""
    summary = held.decision.summary() if held is not None else "the content is gone, so it can only be rejected"
    return {"name": f"review_{stage}", "args": args, "description": f"{stage}{named}: {summary}"}, about


def call_request(held: Held | None, call_id: str, identity: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A review of a proposed call: the reviewer sees the arguments."""
    if held is None or held.call is None:
        action = {"name": "review_tool_call", "args": {"id": identity}, "description": "the call is gone"}
        return action, {"action": "review", "stage": "tool_call", "tool_call_id": call_id}
    args = held.call.arguments if isinstance(held.call.arguments, Mapping) else {"arguments": held.call.arguments}
    action = {"name": held.call.name, "args": args, "description": held.decision.summary()}
    return action, notices.about(held.decision, tool_call_id=call_id)


def lost(stand_in: BaseMessage) -> Decision:
    """What is left to say of content that is gone: it was never approved, so it is refused."""
    return Decision(stage_of(stand_in), "block", Outcome("block"), (), Coverage(), ())


def edited_text(answer: Mapping[str, Any]) -> str | None:
    """The text that a reviewer wrote in place of held content."""
    if answer.get("type") == "respond":
        return responded(answer)
    if answer.get("type") != "edit":
        return None
    action = answer.get("edited_action")
    args = action.get("args") if isinstance(action, Mapping) else None
    text = next((args[key] for key in ("content", "text") if key in args), None) if isinstance(args, Mapping) else None
    return text if isinstance(text, str) and text.strip() else None


def responded(answer: Mapping[str, Any]) -> str | None:
    """What a reviewer answers in the tool's or the model's place."""
    text = answer.get("message") if answer.get("type") == "respond" else None
    return text if isinstance(text, str) and text.strip() else None


def edited_call(call: ToolCall, answer: Mapping[str, Any]) -> ToolCall | None:
    """The call as a reviewer edited it. It stays a call of the same tool."""
    action = answer.get("edited_action") if answer.get("type") == "edit" else None
    if not isinstance(action, Mapping) or not isinstance(action.get("args"), Mapping):
        return None
    if action.get("name", call.name) != call.name:
        return None
    return ToolCall(call.name, dict(action["args"]), call.id)


def with_text(original: BaseMessage, text: str) -> BaseMessage:
    """A fresh message of the same kind and id with a reviewer's text."""
    if isinstance(original, ToolMessage):
        return ToolMessage(text, tool_call_id=original.tool_call_id, name=original.name, id=original.id)
    kind = AIMessage if isinstance(original, AIMessage) else HumanMessage
    return kind(text, id=original.id, name=original.name)
