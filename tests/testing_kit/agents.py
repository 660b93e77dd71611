"""Agents under contract: one written by hand, guarded and with each door left open; one of LangChain."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnguard import Guard, Step
from turnguard.testing.contracts import Result, ScriptedModel, ScriptedTool, Turn

DOORS = ("input", "output", "tool_call", "tool_result", "tool_picture", "stream", "memory", "message", "failures")


@dataclass
class HandWritten:
    """The smallest agent with a tool loop. `open` names the door that it forgets."""

    guard: Guard
    model: ScriptedModel
    tools: Sequence[ScriptedTool]
    open: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, text: str, image: bytes | None = None) -> Turn:
        pictures = [image] if image else []
        refusal = await self._refused("input", Step.input(text, images=pictures))
        if refusal is not None:
            if self.open == "memory":
                self.messages.append({"role": "user", "content": text, "images": pictures})
            return Turn(refusal, self.messages)
        user: dict[str, Any] = {"role": "user", "content": text}
        if image:
            user["images"] = [base64.b64encode(image).decode()]
        self.messages.append(user)
        while True:
            said = self.model.next(self.messages)
            for call in said.calls:
                await self._call(call.name, dict(call.arguments), text)
            if not said.calls:
                break
        answer = await self._refused("output", Step.output(said.text, prompt=text)) or said.text
        kept = said.text if self.open == "memory" else answer
        self.messages.append({"role": "assistant", "content": kept})
        return Turn(answer, self.messages)

    async def _call(self, name: str, arguments: dict[str, Any], prompt: str) -> None:
        refusal = await self._refused("tool_call", Step.tool_call(name, arguments, prompt=prompt))
        if refusal is not None:
            self.messages.append({"role": "tool", "content": refusal})
            return
        self.messages.append({"role": "assistant", "tool_calls": [{"name": name, "arguments": arguments}]})
        result = self.tools[0].run(arguments)
        shown = [result.image] if result.image and self.open != "tool_picture" else []
        step = Step.tool_result(name, result.text, images=shown, prompt=prompt)
        refusal = await self._refused("tool_result", step)
        content: Any = refusal or _block(result)
        self.messages.append({"role": "tool", "content": content})

    async def _refused(self, door: str, step: Step) -> str | None:
        if self.open == door:
            return None
        decision = await self.guard.acheck(step)
        if not decision.withheld or (self.open == "failures" and decision.failed):
            return None
        return " " if self.open == "message" else decision.message


@dataclass
class Streaming(HandWritten):
    """The same with a stream."""

    async def stream(self, text: str) -> AsyncIterator[str]:
        refusal = await self._refused("input", Step.input(text))
        if refusal is not None:
            yield refusal
            return
        said = self.model.next([*self.messages, {"role": "user", "content": text}])

        async def chunks() -> AsyncIterator[str]:
            for piece in said.pieces():
                yield piece

        if self.open == "stream":
            async for piece in chunks():
                yield piece
            return
        async for piece in self.guard.astream(chunks(), prompt=text):
            yield piece


def _block(result: Result) -> dict[str, Any]:
    return {"text": result.text, "image": base64.b64encode(result.image).decode() if result.image else None}
