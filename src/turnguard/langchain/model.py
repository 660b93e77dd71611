"""A chat model that judges what goes in and what comes out: for chains, and for LangGraph nodes of any shape."""

from __future__ import annotations

import asyncio
import contextvars
import copy
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, nullcontext
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langsmith import tracing_context
from pydantic import PrivateAttr

from turnguard.core.decision import Decision
from turnguard.core.errors import Blocked, ConfigError
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.judge import Judging, Surface
from turnguard.langchain.messages import asked
from turnguard.langchain.muting import Voice, heard
from turnguard.langchain.turn import Turn
from turnguard.runtime import sync

Open = Callable[[Sequence[BaseMessage]], Turn]

_QUIET: RunnableConfig = {"callbacks": []}


def guard_model(
    model: BaseChatModel | Runnable[Any, Any], guard: GuardLike, *, exit_behavior: Literal["end", "error"] = "end"
) -> GuardedChatModel:
    """Wrap a chat model so that its input and output are judged, in `invoke`, `stream` and their async twins.

    What is withheld is answered with the refusal, or raises `Blocked` with `exit_behavior="error"`. A call that is
    withheld refuses the whole answer: a chain has no loop that could go on without it. In a stream, text is shown
    only once it was judged, and the refusal is the last chunk.
    """
    if exit_behavior not in ("end", "error"):
        raise ConfigError(f"exit_behavior must be 'end' or 'error', not {exit_behavior!r}")
    judging = Judging(Guard.of(guard))
    return guarded(model, lambda messages: _Chain(judging, messages, exit_behavior))


def guarded(model: Any, opening: Open) -> GuardedChatModel:
    """A guarded model whose calls are judged by the turns that `opening` makes."""
    inner, heard = _apart(model)
    wrapped = GuardedChatModel(
        inner=inner,
        cache=False,
        profile=getattr(model, "profile", None),
        callbacks=heard or None,
        disable_streaming=not _streams(model),
    )
    wrapped._opening = opening
    return wrapped


def _apart(model: Any) -> tuple[Any, list[Any]]:
    """The model without callbacks of its own, which would hear what was not judged, and those callbacks."""
    if isinstance(model, RunnableBinding):
        bound, heard = _apart(model.bound)
        own = _handlers(model.config.get("callbacks"))
        if own or heard:
            return model.model_copy(update={"bound": bound, "config": {**model.config, "callbacks": None}}), own + heard
    elif isinstance(model, BaseChatModel) and model.callbacks:
        return model.model_copy(update={"callbacks": None}), _handlers(model.callbacks)
    return model, []


def _streams(model: Any) -> bool:
    """Whether the model can stream; one that cannot is heard whole, as it would be without us."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    if not isinstance(model, BaseChatModel):
        return True
    own = type(model)._stream is not BaseChatModel._stream or type(model)._astream is not BaseChatModel._astream
    return own and model.disable_streaming is not True


def _handlers(callbacks: Any) -> list[Any]:
    return list(getattr(callbacks, "handlers", callbacks) or ())


class Wrapping:
    """Guards the models that the calls of one agent bring, which is the same one again and again.

    LangChain validates a model when it is made and describes it to tracers when it is first called, both of which
    cost more than deciding: done once per model, and copied for each call.
    """

    def __init__(self, *, judged: bool = True) -> None:
        self._judged = judged
        self._model: Any = None
        self._made: GuardedChatModel | None = None

    def __call__(self, model: Any, opening: Open, voice: Voice | None) -> GuardedChatModel:
        made = self._made
        if made is None or self._model is not model:
            self._model, made = model, guarded(model, opening)
            made._judged = self._judged
            self._made = made
            _ = made._serialized
        wrapped = copy.copy(made)
        wrapped._opening = opening
        wrapped._voice = voice
        return wrapped


class _Chain(Turn):
    """A model call in a chain: its messages are judged before it, its answer after it."""

    def __init__(self, judging: Judging, messages: Sequence[BaseMessage], exit_behavior: str) -> None:
        request = asked(messages, judging.guard.checks.history)
        super().__init__(judging, request, Surface(refuse_calls=True))
        self._raises = exit_behavior == "error"

    async def before(self, messages: list[BaseMessage]) -> tuple[list[BaseMessage], AIMessage | None]:
        sent = list(messages)
        unknown = list(self.judging.unknown(messages))
        rulings = await asyncio.gather(*(self.judging.rule(entry.message, entry.request) for entry in unknown))
        newest = max((at for at, message in enumerate(messages) if isinstance(message, AIMessage)), default=-1)
        refused: Decision | None = None
        for entry, ruling in zip(unknown, rulings, strict=True):
            if ruling.ended is not None and entry.at > newest:
                refused = refused or ruling.ended
            sent[entry.at] = ruling.message
        if refused is None:
            return sent, None
        if self._raises:
            raise Blocked(refused)
        text = await self.judging.guard.arefusal(refused)
        return sent, notices.ai(None, text, notices.about(refused))

    def _ruled(self, ruling: Any) -> AIMessage:
        if ruling.ended is not None and self._raises:
            raise Blocked(ruling.ended)
        return super()._ruled(ruling)


class GuardedChatModel(BaseChatModel):
    """The wrapper that `guard_model` returns. `inner` is any runnable from messages to a message.

    The inner model runs without callbacks: they would show what was not judged. The wrapper's own run carries them.
    """

    inner: Any
    _opening: Any = PrivateAttr(default=None)
    _voice: Any = PrivateAttr(default=None)
    _judged: bool = PrivateAttr(default=True)

    @property
    def _llm_type(self) -> str:
        return str(getattr(self.inner, "_llm_type", "guarded"))

    @property
    def model_name(self) -> str:
        """The inner model's name: strategies for structured output are chosen by it."""
        for name in ("model_name", "model", "model_id"):
            found = getattr(self.inner, name, None)
            if isinstance(found, str):
                return found
        return ""

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        inner = getattr(self.inner, "_get_ls_params", None)
        return inner(stop=stop, **kwargs) if inner is not None else super()._get_ls_params(stop=stop, **kwargs)

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The inner model's name, so that traces keep theirs."""
        named = getattr(self.inner, "get_name", None)
        return str(named(suffix, name=name)) if named is not None else super().get_name(suffix, name=name)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The same wrapper around the inner model with these tools."""
        bound: GuardedChatModel = self.model_copy(update={"inner": self.inner.bind_tools(tools, **kwargs)})
        return bound

    def bind(self, **kwargs: Any) -> GuardedChatModel:  # type: ignore[override]
        """The same wrapper around the inner model with these arguments.

        A `RunnableBinding` around the wrapper would hand it the ambient configuration as if the caller named it, and
        with it the muted callbacks (see `muted`).
        """
        bound: GuardedChatModel = self.model_copy(update={"inner": self.inner.bind(**kwargs)}) if kwargs else self
        return bound

    # ------------------------------------------------------------ how the inner model counts

    def get_token_ids(self, text: str) -> list[int]:
        """As the inner model counts."""
        ids: list[int] = self._counting("get_token_ids")(text)
        return ids

    def get_num_tokens(self, text: str) -> int:
        """As the inner model counts."""
        return int(self._counting("get_num_tokens")(text))

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> int:
        """As the inner model counts."""
        return int(self._counting("get_num_tokens_from_messages")(messages, *args, **kwargs))

    def _counting(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(self.inner, name, None) or getattr(super(), name)
        return found

    # ------------------------------------------------------------ whose callbacks

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        """As every chat model's."""
        with self._voice.traced() if self._voice is not None else nullcontext():
            answer: AIMessage = super().invoke(input, self._audible(config), **kwargs)
        return answer

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        """As every chat model's."""
        with self._voice.traced() if self._voice is not None else nullcontext():
            return await super().ainvoke(input, self._audible(config), **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[AIMessageChunk]:  # noqa: A002
        """As every chat model's."""
        yield from super().stream(input, self._audible(config), **kwargs)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """As every chat model's."""
        heard_out: Any = super().astream(input, self._audible(config), **kwargs)
        async with aclosing(heard_out) as chunks:
            async for chunk in chunks:
                yield chunk

    def _audible(self, config: RunnableConfig | None) -> RunnableConfig | None:
        """The callbacks that were muted around this call (see `muted`), unless the caller names its own."""
        voice = self._voice
        if voice is None or voice.callbacks is None or (config and config.get("callbacks") is not None):
            return heard(config) if self._judged else config
        return {**(config or {}), "callbacks": voice.callbacks}

    # ------------------------------------------------------------ the four ways to call

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        turn = self._opening(messages)
        messages, refusal = sync.run(turn.before(messages)) if turn.unseen(messages) else (messages, None)
        if refusal is not None:
            return _result(refusal)

        def call() -> Any:
            with tracing_context(enabled=False):
                return _message(self.inner.invoke(messages, _QUIET, **_stopping(stop), **kwargs))

        if turn.gate is None:
            return _result(sync.run(turn.rule(call())))

        async def beside() -> Any:
            answer = await turn.race(asyncio.to_thread(contextvars.copy_context().run, call))
            return await turn.rule(answer)

        return _result(sync.run(beside()))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        turn = self._opening(messages)
        messages, refusal = await turn.before(messages)
        if refusal is not None:
            return _result(refusal)
        with tracing_context(enabled=False):
            answer = await turn.race(self.inner.ainvoke(messages, _QUIET, **_stopping(stop), **kwargs))
        return _result(await turn.rule(_message(answer)))

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        def source(sent: list[BaseMessage]) -> AsyncIterator[Any]:
            return sync.in_thread(_untraced(self.inner.stream(sent, _QUIET, **_stopping(stop), **kwargs)))

        yield from sync.iterate(self._shown(messages, source))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async def source(sent: list[BaseMessage]) -> AsyncIterator[Any]:
            with tracing_context(enabled=False):  # read by one task from beginning to end, so the context is whole
                async for chunk in self.inner.astream(sent, _QUIET, **_stopping(stop), **kwargs):
                    yield _message(chunk)

        shown = self._shown(messages, source)
        try:
            async for chunk in shown:
                yield chunk
        finally:
            await shown.aclose()

    async def _shown(
        self, messages: list[BaseMessage], source: Callable[[list[BaseMessage]], AsyncIterator[Any]]
    ) -> Any:
        turn = self._opening(messages)
        messages, refusal = await turn.before(messages)
        if refusal is not None:
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    content=refusal.content, response_metadata=refusal.response_metadata, chunk_position="last"
                )
            )
            return
        stream = turn.stream(source(messages))
        try:
            async for chunk in stream:
                yield ChatGenerationChunk(message=chunk)
        finally:
            await stream.aclose()


def _result(message: Any) -> ChatResult:
    if isinstance(message, AIMessageChunk):
        message = message_chunk_to_message(message)
    return ChatResult(generations=[ChatGeneration(message=message)])


def _stopping(stop: list[str] | None) -> dict[str, Any]:
    """Not every runnable knows stop words."""
    return {} if stop is None else {"stop": stop}


def _message(answer: Any) -> Any:
    """An answer as a message: a runnable around a model may give its text."""
    return AIMessageChunk(content=answer) if isinstance(answer, str) else answer


def _untraced(stream: Iterator[Any]) -> Iterator[Any]:
    """A tracer set up by the environment joins every run, callbacks or not: keep it away from what is not judged."""
    done = object()
    while True:
        with tracing_context(enabled=False):
            chunk = next(stream, done)
        if chunk is done:
            return
        yield _message(chunk)
