"""What a guarded model gives, once it was judged: a whole result, or a stream that shows only what passed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from turnguard.core.errors import ConfigError
from turnguard.langchain.extension import own
from turnguard.langchain.muting import silence
from turnguard.langchain.turn import Turn
from turnguard.runtime import sync

_KEPT_OUTPUT = ("token_usage", "usage", "model_name", "model")
"""Keys of `llm_output` that hold nothing of what a model said."""


def stream(
    self: Any,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: Any = None,  # noqa: ARG001 - what it hears of is told by LangChain, of what was judged
    **kwargs: Any,
) -> Iterator[ChatGenerationChunk]:
    def source(sent: list[BaseMessage]) -> AsyncIterator[Any]:
        if self._plain.rate_limiter:
            self._plain.rate_limiter.acquire(blocking=True)
        return sync.in_thread(_silent(self._plain._stream(sent, stop=stop, **kwargs)))

    yield from sync.iterate(_shown(self, messages, source))


async def astream(
    self: Any,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: Any = None,  # noqa: ARG001 - what it hears of is told by LangChain, of what was judged
    **kwargs: Any,
) -> AsyncIterator[ChatGenerationChunk]:
    async def source(sent: list[BaseMessage]) -> AsyncIterator[Any]:
        if self._plain.rate_limiter:
            await self._plain.rate_limiter.aacquire(blocking=True)
        with silence():  # read by one task from beginning to end, so the context is whole
            async for chunk in self._plain._astream(sent, stop=stop, **kwargs):
                yield chunk

    async with aclosing(_shown(self, messages, source)) as shown:
        async for chunk in shown:
            yield chunk


async def _shown(
    model: Any, messages: list[BaseMessage], source: Callable[[list[BaseMessage]], AsyncIterator[Any]]
) -> Any:
    turn = guarding_of(model).turn(messages)
    messages, refusal = await turn.before(messages)
    if refusal is not None:
        last = AIMessageChunk(
            content=refusal.content, response_metadata=refusal.response_metadata, chunk_position="last"
        )
        yield ChatGenerationChunk(message=last)
        return
    infos: dict[int, Any] = {}
    said: list[Any] = []  # keeps the messages, whose identity names their information

    async def heard_of() -> AsyncIterator[AIMessageChunk]:
        async for chunk in source(messages):
            infos[id(chunk.message)] = chunk.generation_info
            said.append(chunk.message)
            if chunk.generation_info:  # as LangChain itself does, so that it is judged with the message
                chunk.message.response_metadata = {**chunk.generation_info, **chunk.message.response_metadata}
            yield chunk.message

    async with aclosing(turn.stream(heard_of())) as passing:
        async for chunk in passing:
            yield ChatGenerationChunk(message=chunk, generation_info=infos.get(id(chunk)))


async def ruled(turn: Turn, result: ChatResult | None) -> ChatResult:
    """The result with what stands in the place of each answer. None: the input was refused first."""
    if result is None:
        return result_of(await turn.rule(None))
    rulings = [await turn.rule(generation.message) for generation in result.generations]
    if all(ruled is one.message for ruled, one in zip(rulings, result.generations, strict=True)):
        return result
    generations = [
        one if ruled is one.message else ChatGeneration(message=ruled)
        for ruled, one in zip(rulings, result.generations, strict=True)
    ]
    output = {key: value for key, value in (result.llm_output or {}).items() if key in _KEPT_OUTPUT}
    return ChatResult(generations=generations, llm_output=output)


def guarding_of(model: Any) -> Any:
    """Whose turns judge this model. One that its class made anew has none, and must not run."""
    found = own(model)
    if found is None:
        raise ConfigError(f"this {type(model).__name__} was made by the class of a guarded model: guard it by itself")
    return found


def _silent(stream: Iterator[Any]) -> Iterator[Any]:
    """The stream, with nobody to hear what runs inside it."""
    done = object()
    while True:
        with silence():
            chunk = next(stream, done)
        if chunk is done:
            return
        yield chunk


def result_of(message: Any) -> ChatResult:
    if isinstance(message, str):
        message = AIMessage(message)
    if isinstance(message, AIMessageChunk):
        message = message_chunk_to_message(message)
    return ChatResult(generations=[ChatGeneration(message=message)])
