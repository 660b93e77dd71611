"""An AI message under revision: what stays of its content and calls, and the answers to calls that will not run."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, ToolMessage

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Decision
from turnguard.core.step import Part, Text, ToolCall
from turnguard.guard import Guard
from turnguard.langchain import notices
from turnguard.langchain.held import Held, Holding
from turnguard.langchain.messages import Call, Reading
from turnguard.langchain.rulings import Surface
from turnguard.transcripts import blocks

NO_TOOL = "unknown_tool"
"""Stands for a name that no tool has: the model made it up, so it may hold anything."""


class Draft:
    """An AI message under revision: its content, its calls and the answers to those that will not run."""

    def __init__(
        self, guard: Guard, holding: Holding, owner: str, message: AIMessage, reading: Reading, surface: Surface
    ) -> None:
        self._guard = guard
        self._holding = holding
        self._owner = owner
        self._message = message
        self._reading = reading
        self._surface = surface
        self._parts: dict[int, Part | None] = {}  # by position in `_blocks`
        self._blocks = [*reading.said, *reading.results, *(b for bs in reading.mirrors.values() for b in bs)]
        self._keep_extras = True
        self._calls_changed = False
        self._tool_calls: list[dict[str, Any]] = []
        self._invalid: list[dict[str, Any]] = []
        self._answers: list[ToolMessage] = []
        self._waiting: dict[str, str] = {}
        self._flags: list[Decision] = []

    def say(self, decision: Decision | None) -> None:
        """Take over what became of the message's own words."""
        if decision is None:
            return
        if decision.action in ("flag", "rewrite"):
            self._flags.append(decision)
        parts = decision.held if decision.action == "review" else decision.parts
        own = self._reading.own
        for position, (block, part) in enumerate(zip(own, parts, strict=False)):
            if part is not block.part:
                if position < len(self._reading.said):
                    self._parts[position] = part
                else:
                    self._keep_extras = False

    def hear(self, decision: Decision | None) -> None:
        """Take over what became of the results of tools that the provider ran."""
        if decision is None:
            return
        if decision.action != "allow":
            self._flags.append(decision)
        start = len(self._reading.said)
        for offset, block in enumerate(self._reading.results):
            part = decision.parts[offset]
            if decision.withheld and isinstance(block.part, Text):
                part = Text(notices.result_notice(self._guard, decision))
            if part is not block.part:
                self._parts[start + offset] = part

    def call(self, call: Call, decision: Decision | None) -> None:
        """Take over what became of one call: it stands, was redacted, waits for a reviewer, or is answered at once."""
        plain = {"name": call.name, "args": call.args, "id": call.id}
        if decision is None or decision.allowed:
            if decision is not None and decision.action == "flag":
                self._flags.append(decision)
            if call.invalid:
                if any(known.get("id") == call.id for known in self._message.invalid_tool_calls):
                    self._invalid.append({**plain, "error": None, "type": "invalid_tool_call"})
            else:
                self._tool_calls.append({**plain, "type": "tool_call"})
            return
        self._calls_changed = True
        self._flags.append(decision)
        if decision.action == "rewrite" and not call.invalid:
            new = decision.parts[0]
            args = new.arguments if isinstance(new, ToolCall) else {}
            self._tool_calls.append({**plain, "args": args, "type": "tool_call"})
            self._mirror(call, new)
            return
        self._mirror(call, None)
        if call.invalid or not call.id:
            return
        known = self._surface.tools is None or call.name in self._surface.tools
        name = call.name if known else NO_TOOL
        self._tool_calls.append({"name": name, "args": {}, "id": call.id, "type": "tool_call"})
        if decision.action == "review" and self._surface.reviewable:
            self._waiting[call.id] = self._holding.hold(Held(decision, call=call))
        else:
            text = notices.call_notice(self._guard, decision)
            self._answers.append(notices.answer(text, call.id, name, notices.about(decision)))

    def _mirror(self, call: Call, part: Part | None) -> None:
        start = len(self._reading.said) + len(self._reading.results)
        mirrored = [block for blocks_ in self._reading.mirrors.values() for block in blocks_]
        for offset, block in enumerate(mirrored):
            if isinstance(block.part, ToolCall) and block.part.id == call.id:
                self._parts[start + offset] = part

    @property
    def nothing_left(self) -> bool:
        """True when only calls that cannot be answered were there, and all are gone."""
        return not self._reading.own and not self._reading.results and not self._tool_calls and not self._invalid

    def finished(self) -> tuple[AIMessage, tuple[ToolMessage, ...]]:
        """The revised message, built anew, and the answers that follow it."""
        message = self._message
        mark: dict[str, Any] = {}
        if self._flags:
            worst = max(self._flags, key=lambda decision: SEVERITY[decision.action])
            mark = notices.about(worst)
        if self._waiting:
            mark |= {"calls": dict(self._waiting), "by": self._owner}
        content = message.content
        if self._parts:
            parts = [self._parts.get(at, block.part) for at, block in enumerate(self._blocks)]
            content = blocks.replace(content, self._blocks, parts)
        if not self._parts and not self._calls_changed and self._keep_extras:
            metadata = {**message.response_metadata, notices.KEY: mark}
            return message.model_copy(update={"response_metadata": metadata}), ()
        extras = dict(message.additional_kwargs) if self._keep_extras else {}
        if self._calls_changed:
            extras = {key: value for key, value in extras.items() if key not in ("tool_calls", "function_call")}
        revised = notices.ai(message, content, mark)
        revised.additional_kwargs = extras
        revised.tool_calls = self._tool_calls  # type: ignore[assignment]
        revised.invalid_tool_calls = self._invalid  # type: ignore[assignment]
        return revised, tuple(self._answers)
