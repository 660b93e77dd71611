"""Decisions → the message that stands in a message's place. The transcript engine writes it.

A tool call that is withheld keeps its place, empty, because a provider wants an answer to each call: the answer says
why it did not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, InvalidToolCall, ToolMessage

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Decision
from turnguard.guard import Guard
from turnguard.langchain import notices
from turnguard.langchain.held import Held, Holding
from turnguard.langchain.messages import FOUND, RAW_CALLS, as_mapping, call_of
from turnguard.langchain.rulings import Surface
from turnguard.transcripts.apply import rewritten
from turnguard.transcripts.conversation import Piece
from turnguard.transcripts.message import CALL_FIELDS, Reading

NO_TOOL = "unknown_tool"
"""Stands for a name that no tool has: the model made it up, so it may hold anything."""

Decided = Sequence[tuple[Piece, Decision]]
"""The steps that were cut out of a message, each with its decision."""


@dataclass(slots=True)
class Revised:
    """An AI message with the decisions on it carried out: its calls that will not run are answered or wait."""

    message: AIMessage
    answers: list[ToolMessage] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing is left of it."""
        left = self.message
        return not (left.content or left.tool_calls or left.invalid_tool_calls or left.additional_kwargs)


def changed(guard: Guard, message: BaseMessage, reading: Reading, decided: Decided) -> dict[str, Any]:
    """What of a message changes so that it holds what may pass on; empty where nothing does."""
    told = as_mapping(message)
    new = _written(guard, told, reading, decided)
    if new is told:
        return {}
    empty: Mapping[str, Any] = {"content": "", "additional_kwargs": {}}
    changes = {key: new.get(key, empty.get(key)) for key in told if new.get(key) is not told[key] and key != "role"}
    if set(FOUND) & set(changes):
        metadata = {key: value for key, value in message.response_metadata.items() if changes.get(key, value) is value}
        changes["response_metadata"] = metadata
    return {key: value for key, value in changes.items() if key not in FOUND}


def revised(
    guard: Guard,
    holding: Holding,
    owner: str,
    message: AIMessage,
    reading: Reading,
    decided: Decided,
    surface: Surface,
) -> Revised:
    """The message with every decision carried out. `owner` settles the calls that wait."""
    told = as_mapping(message)
    withheld = {key: decision for piece, decision in decided for key in _calls(reading, piece) if decision.withheld}
    new = _written(guard, told, reading, decided)
    flags = [decision for _, decision in decided if decision.action != "allow"]
    mark = notices.about(max(flags, key=lambda decision: SEVERITY[decision.action])) if flags else {}
    if new is told:
        metadata = {**message.response_metadata, notices.KEY: mark}
        return Revised(message.model_copy(update={"response_metadata": metadata}) if flags else message)
    made = Revised(notices.ai(message, _said(new.get("content", "")), mark))
    left = {str(call.get("id")): call for call in new.get("tool_calls", ()) if "function" not in call}
    tools: dict[str, str] = {}
    for call in message.tool_calls:
        kept, decision = left.get(str(call["id"])), withheld.get(("tool_calls", call["id"]))
        if kept is not None and decision is None:
            made.message.tool_calls.append({**call, "args": kept["args"]})
        elif call["id"]:
            known = surface.tools is None or call["name"] in surface.tools
            name = call["name"] if known else NO_TOOL
            decision = decision or max(flags, key=lambda each: SEVERITY[each.action])
            waits = decision.action == "review" and surface.reviewable and decision.stage == "tool_call"
            # a call that waits has no name, so that no other middleware asks a person about it without its arguments
            made.message.tool_calls.append({**call, "name": NO_TOOL if waits else name, "args": {}})
            if waits:
                tools[call["id"]] = name
                made.waiting[call["id"]] = holding.hold(Held(decision, call=call_of(call)))
            else:
                text = notices.call_notice(guard, decision)
                made.answers.append(notices.answer(text, call["id"], name, notices.about(decision)))
    for invalid in new.get("invalid_tool_calls", ()):
        made.message.invalid_tool_calls.append(cast("InvalidToolCall", {**invalid, "error": None}))
    extras = dict(new.get("additional_kwargs", {}))
    if not withheld and new.get("tool_calls") == told.get("tool_calls"):
        extras |= {key: message.additional_kwargs[key] for key in RAW_CALLS if key in message.additional_kwargs}
    made.message.additional_kwargs = extras
    if made.waiting:
        made.message.response_metadata[notices.KEY] |= {"calls": dict(made.waiting), "tools": tools, "by": owner}
    return made


def stand_in(message: BaseMessage, text: str, mark: dict[str, Any]) -> BaseMessage:
    """A fresh message of the same kind and id that holds `text` alone."""
    if isinstance(message, ToolMessage):
        return notices.answer(text, message.tool_call_id, message.name, mark, message.id)
    if isinstance(message, HumanMessage):
        return HumanMessage(text, id=message.id, response_metadata={notices.KEY: mark})
    if isinstance(message, AIMessage):
        return notices.ai(message, text, mark)
    update = {"content": text, "name": None, "additional_kwargs": {}, "response_metadata": {notices.KEY: mark}}
    return message.model_copy(update=update | dict.fromkeys(message.model_extra or ()))


def _written(guard: Guard, told: Mapping[str, Any], reading: Reading, decided: Decided) -> Any:
    """The fields as the engine writes them; the same object where nothing changes."""
    parts = list(_parts(decided))
    clients = {call.get("id") for name in CALL_FIELDS for call in told.get(name, ())}

    def notice(decision: Decision) -> str:
        leaf = reading.leaves[decision.where[1]] if decision.where else None
        if leaf is not None and leaf.block.region == "call" and leaf.block.pair in clients:
            return ""  # the answer to the call says it
        if decision.stage == "tool_result":
            return notices.result_notice(guard, decision)
        return notices.removed(guard, decision)

    made = rewritten([told], [reading], parts, notice)
    return made[0] if made else {}


def _said(content: Any) -> Any:
    """Content without the empty text that stands where a call alone was taken out: providers refuse it."""
    return (
        [block for block in content if block != {"type": "text", "text": ""}] if isinstance(content, list) else content
    )


def _parts(decided: Decided) -> Iterator[Decision]:
    """The decisions, part by part."""
    for piece, decision in decided:
        for index, part in zip(piece.indexes, decision.parts, strict=False):
            yield replace(decision, parts=(part,), where=(0, index))


def _calls(reading: Reading, piece: Piece) -> Iterator[tuple[str, str | None]]:
    """The calls in a step, by field and identifier, the ones that say the same included."""
    for index in piece.indexes:
        leaf = reading.leaves[index]
        for each in (leaf, *reading.mirrors.get(index, ())):
            if each.block.region == "call":
                yield str(each.field), each.block.pair
