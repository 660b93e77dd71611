"""What the LangChain tests share: a scripted chat model, tools, and a look into everything that a run can leave
behind.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field, PrivateAttr

from turnguard import Guard, Policy
from turnguard.config.settings import ChecksSettings, StreamSettings
from turnguard.testing import FakeModerator

UNSAFE = "FORBIDDEN"
"""The word that the moderator calls unsafe, with category Violence."""
RULES: dict[str, Sequence[str]] = {UNSAFE: ("Violence",)}


class Scripted(BaseChatModel):
    """Says its script, message by message, and records what it was sent. Streams word by word."""

    script: list[Any] = Field(repr=False)
    pause: float = 0.0
    profile_name: str = "scripted"
    _calls: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _said: list[str] = PrivateAttr(default_factory=list)
    _times: list[float] = PrivateAttr(default_factory=list)
    _cancelled: list[bool] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def prompts(self) -> list[list[BaseMessage]]:
        """The messages of every call, as they came."""
        return self._calls

    @property
    def said(self) -> list[str]:
        """What it has streamed."""
        return self._said

    @property
    def times(self) -> list[float]:
        """When it said each piece, on the monotonic clock."""
        return self._times

    @property
    def cancelled(self) -> bool:
        """Whether a call of it was cancelled."""
        return bool(self._cancelled)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self._calls.append([message.model_copy(deep=True) for message in messages])
        step = self.script[min(len(self._calls), len(self.script)) - 1]
        if isinstance(step, Exception):
            raise step
        message: AIMessage = AIMessage(step) if isinstance(step, str) else step.model_copy(deep=True)
        return message

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if self.pause:
            time.sleep(self.pause)
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message = self._next(messages)
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self._cancelled.append(True)
            raise
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in pieces(self._next(messages)):
            if self.pause:
                time.sleep(self.pause)
            self._said.append(str(chunk.content))
            self._times.append(time.monotonic())
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        try:
            for chunk in pieces(self._next(messages)):
                await asyncio.sleep(self.pause)
                self._said.append(str(chunk.content))
                self._times.append(time.monotonic())
                yield ChatGenerationChunk(message=chunk)
        except asyncio.CancelledError:
            self._cancelled.append(True)
            raise


def pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """A message as a provider streams it: words, reasoning, then the arguments of calls in halves."""
    for key, value in message.additional_kwargs.items():
        if isinstance(value, str):
            for word in _words(value):
                yield AIMessageChunk(content="", additional_kwargs={key: word})
    if isinstance(message.content, str):
        for word in _words(message.content):
            yield AIMessageChunk(content=word)
    else:
        for at, block in enumerate(message.content):
            if isinstance(block, dict) and block.get("type") == "text":
                for word in _words(block["text"]):
                    yield AIMessageChunk(content=[{"type": "text", "text": word, "index": at}])
            else:
                yield AIMessageChunk(content=[{**block, "index": at}] if isinstance(block, dict) else [block])
    for at, call in enumerate([*message.tool_calls, *message.invalid_tool_calls]):
        args = call["args"] if isinstance(call["args"], str) else json.dumps(call["args"])
        middle = len(args) // 2
        for name, part, identity in ((call["name"], args[:middle], call["id"]), (None, args[middle:], None)):
            piece = ToolCallChunk(name=name, args=part, id=identity, index=at, type="tool_call_chunk")
            yield AIMessageChunk(content="", tool_call_chunks=[piece])


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:] if text else []


def calls(*queries: str, text: Any = "", tool: str = "search", first: int = 0) -> AIMessage:
    """An AI message that calls a tool once for each query."""
    made = [{"name": tool, "args": {"q": query}, "id": f"call-{first + at}"} for at, query in enumerate(queries)]
    return AIMessage(text, tool_calls=made)


def moderator(**options: Any) -> FakeModerator:
    """A moderator that knows the unsafe word."""
    return FakeModerator(unsafe=RULES, **options)


def guard(
    judge: FakeModerator | None = None,
    *,
    stream: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    media: Any = None,
    **policy: Any,
) -> Guard:
    """A guard over a scripted moderator; keywords are the policy's."""
    return Guard(
        policy=Policy.from_dict(policy),
        moderator=judge or moderator(),
        stream=StreamSettings(**(stream or {})),
        checks=ChecksSettings(**(checks or {})),
        media=media,
    )


def said(text: Any = "Hello") -> Any:
    """An agent's input."""
    return {"messages": [HumanMessage(text)]}


def picture(colour: tuple[int, int, int] = (200, 10, 10), size: int = 48) -> bytes:
    """A small PNG that is not of one colour."""
    from PIL import Image

    image = Image.new("RGB", (size, size), colour)
    for at in range(size):
        image.putpixel((at, at), (255 - colour[0], 255, at))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def b64(data: bytes) -> str:
    """As base64 text."""
    return base64.b64encode(data).decode("ascii")


class Witness(BaseCallbackHandler):
    """Writes down all that LangChain shows to callbacks, event by event."""

    run_inline = True  # in a thread it would cost more than the run that it watches

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):

            def note(*args: Any, **kwargs: Any) -> None:
                self.seen.append((name, repr((args, kwargs))))

            return note
        return super().__getattribute__(name)

    def of(self, *events: str, but: Sequence[str] = ()) -> str:
        """What was shown at these events (all when none is named), less those in `but`."""
        return "\n".join(text for name, text in self.seen if (not events or name in events) and name not in but)


def stored(saver: Any) -> str:
    """Everything in an in-memory checkpoint store, as text."""
    return "\n".join(map(repr, (dict(saver.storage), dict(saver.blobs), dict(saver.writes))))


def both(run: Callable[..., Any], arun: Callable[..., Any]) -> list[Any]:
    """The same from sync and async code."""
    return [run(), asyncio.run(arun())]
