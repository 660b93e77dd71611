"""A NeMo engine's stream, of which only judged chunks are shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from turnguard.nemo.requests import Message, is_token, strings

AHEAD = 4096
"""Chunks that an engine may run ahead of what was read."""


class Pumped:
    """An engine's stream, read by a task of its own from the moment that this is made.

    The task lives until `aclose`, so that a reader may say something before it waits for the engine to end.
    """

    def __init__(self, stream: Callable[[], AsyncIterator[Any]]) -> None:
        self._chunks: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue(AHEAD)
        self._task = asyncio.ensure_future(self._pump(stream))

    async def _pump(self, stream: Callable[[], AsyncIterator[Any]]) -> None:
        try:
            async for chunk in stream():
                await self._chunks.put((True, chunk))
        except Exception as error:  # noqa: BLE001 - raised where the chunks are read
            await self._chunks.put((False, error))
        else:
            await self._chunks.put((False, None))

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            goes_on, value = await self._chunks.get()
            if goes_on:
                yield value
            elif value is None:
                return
            else:
                raise value

    def cancel(self) -> None:
        """Ask the engine to end its stream."""
        self._task.cancel()

    async def aclose(self) -> None:
        """End the engine's stream. LLMRails ends when its model has."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Said:
    """What a stream said so far. `in_frames` says whether its chunks are mappings that hold the text.

    `failed`: the last chunk was an error.
    """

    def __init__(self, *, in_frames: bool) -> None:
        self._in_frames = in_frames
        self._calls: list[tuple[str, list[Any]]] = []
        self.failed = False

    def text_of(self, chunk: Any) -> str:
        """Everything in a chunk that can be read."""
        if isinstance(chunk, Mapping):
            given = chunk.get("text")
            text = given if isinstance(given, str) else ""
            beside = {key: value for key, value in chunk.items() if key != "text"}
            text += "".join(f"\n{each}" for each in strings(beside) if not is_token(each))
        else:
            text = chunk if isinstance(chunk, str) else ""
        if calls := _calls_in(text):
            self._calls.append((text, calls))
        self.failed = text.startswith('{"error"')  # by which the engine says that it, or a rail of its own, ended it
        return text

    def message(self, text: str) -> Message:
        """A text of the stream as a message to judge. Tool calls come as JSON, in a chunk of their own at the end."""
        calls: list[Any] = []
        for written, made in self._calls:
            if written in text:
                text = text.replace(written, "", 1)
                calls += made
        message: Message = {"role": "assistant", "content": text}
        return {**message, "tool_calls": calls} if calls else message

    def framed(self, text: str) -> Any:
        """A chunk of this stream's own form."""
        return {"text": text} if self._in_frames else text


def _calls_in(text: str) -> list[Any] | None:
    if not text.startswith('{"tool_calls"'):
        return None
    try:
        made = json.loads(text)
    except ValueError:
        return None
    calls = made.get("tool_calls") if isinstance(made, dict) and len(made) == 1 else None
    return calls if isinstance(calls, list) else None
