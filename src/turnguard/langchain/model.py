"""A chat model that judges what goes in and what comes out: for chains, and for LangGraph nodes of any shape.

A guarded model is a model of the user's own class, with its state: providers' settings, caching, structured output,
configurable fields and the request on the wire are the class's own. LangChain sees one run, whose output is judged.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, overload

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda, RunnableWithFallbacks
from langchain_core.runnables.configurable import DynamicRunnable, RunnableConfigurableAlternatives

from turnguard.core.decision import Decision
from turnguard.core.errors import Blocked, ConfigError
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.drive import Steps, adrive, drive
from turnguard.langchain.extension import Extension, adopted, extend, own
from turnguard.langchain.judge import Judging
from turnguard.langchain.model_output import astream, guarding_of, result_of, ruled, stream
from turnguard.langchain.muting import heard, silence
from turnguard.langchain.private_names import CALLS, OWN_EVENTS, is_chosen_model, require_model
from turnguard.langchain.rulings import Ruling, Surface
from turnguard.langchain.turn import Turn, as_chunk
from turnguard.runtime import sync

M = TypeVar("M", bound=BaseChatModel)


class Guarding(Protocol):
    """Whose turns judge the calls of a guarded model."""

    @property
    def judged(self) -> bool:
        """Whether every stage is judged, so that what the model says may be heard from inside a tool."""

    def turn(self, messages: Sequence[BaseMessage]) -> Turn:
        """The turn that judges a call with these messages."""

    def raising(self) -> Guarding:
        """The same, raising `Blocked` where an answer is refused."""

    def blocked(self, message: BaseMessage) -> Blocked | None:
        """What a refusal would have raised; None for any other message."""


@overload
def guard_model(model: M, guard: GuardLike, *, exit_behavior: Literal["end", "error"] = "end") -> M: ...
@overload
def guard_model(
    model: Runnable[Any, Any], guard: GuardLike, *, exit_behavior: Literal["end", "error"] = "end"
) -> Any: ...
def guard_model(model: Any, guard: GuardLike, *, exit_behavior: Literal["end", "error"] = "end") -> Any:
    """Guard a chat model: its input and output are judged, in `invoke`, `stream` and their async twins.

    The result is a model of the same class with the same state. What is withheld is answered with the refusal, or
    raises `Blocked` with `exit_behavior="error"`, and always under `with_structured_output` (with `include_raw=True` it
    is the `parsing_error`). A call that is withheld refuses the whole answer: a chain has no loop that could go on
    without it. In a stream, text is shown only once it was judged, and the refusal is the last chunk.

    Bindings, fallbacks and configurable models are guarded in what they hold; any other runnable is judged as a whole.
    Raises `ConfigError` for a class that cannot be extended.
    """
    if exit_behavior not in ("end", "error"):
        raise ConfigError(f"exit_behavior must be 'end' or 'error', not {exit_behavior!r}")
    return guarded(model, _Chains(Judging(Guard.of(guard)), raises=exit_behavior == "error"))


def guarded(model: Any, guarding: Guarding) -> Any:
    """The model, with the turns of `guarding` around its calls. One that has them already stays as it is."""
    if isinstance(model, Extension) and own(model) is guarding:
        return model
    if isinstance(model, _Judged) and own(model) is None:  # made anew by its class, as configurable fields do
        model = adopted(model)
    if isinstance(model, BaseChatModel):
        require_model(type(model))
        return extend(model, _Judged, guarding)
    if isinstance(model, RunnableBinding):
        return _holding(model, bound=guarded(model.bound, guarding))
    if isinstance(model, RunnableWithFallbacks):
        fallbacks = [guarded(one, guarding) for one in model.fallbacks]
        return _holding(model, runnable=guarded(model.runnable, guarding), fallbacks=fallbacks)
    if isinstance(model, DynamicRunnable):
        held: dict[str, Any] = {"default": guarded(model.default, guarding)}
        if isinstance(model, RunnableConfigurableAlternatives):
            held["alternatives"] = {
                key: guarded(one, guarding) if isinstance(one, Runnable) else partial(_made, one, guarding)
                for key, one in model.alternatives.items()
            }
        return extend(_holding(model, **held), _Prepared, guarding)
    if is_chosen_model(model):
        return extend(model, _Chosen, guarding)  # what `init_chat_model` gives where fields are configurable
    if isinstance(model, Runnable):
        return extend(AsModel(inner=model), _Judged, guarding)
    raise ConfigError(f"a model to guard is a chat model or another runnable, not {type(model).__name__}")


def _made(make: Callable[..., Any], guarding: Guarding, **settings: Any) -> Any:
    return guarded(make(**settings), guarding)


def _holding(model: Any, **held: Any) -> Any:
    """A copy of a runnable that holds these in place of its own."""
    same = all(
        all(one is other for one, other in zip(value, getattr(model, key), strict=True))
        if isinstance(value, list)
        else value is getattr(model, key)
        for key, value in held.items()
    )
    return model if same else model.model_copy(update=held)


class _Chains:
    """Judges calls of a chain: each stands alone."""

    judged = True

    def __init__(self, judging: Judging, *, raises: bool) -> None:
        self._judging = judging
        self._raises = raises

    def turn(self, messages: Sequence[BaseMessage]) -> Turn:
        return _Chain(self._judging, messages, raises=self._raises)

    def raising(self) -> _Chains:
        return self if self._raises else _Chains(self._judging, raises=True)

    def blocked(self, message: BaseMessage) -> Blocked | None:
        decision = self._judging.refused.get(str(notices.marked(message).get("id")))
        return None if decision is None else Blocked(decision)


class _Chain(Turn):
    """A model call in a chain: its messages are judged before it, its answer after it."""

    def __init__(self, judging: Judging, messages: Sequence[BaseMessage], *, raises: bool) -> None:
        request = judging.asked(messages)
        super().__init__(judging, request, Surface(refuse_calls=True))
        self._raises = raises

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
        text = await self.judging.refusal(refused)
        return sent, self._ruled(Ruling(notices.ai(None, text, notices.about(refused)), (refused,), refused))

    def _ruled(self, ruling: Ruling) -> AIMessage:
        if ruling.ended is not None:
            if self._raises:
                raise Blocked(ruling.ended)
            self.judging.refused.put(ruling.ended.id, ruling.ended)
        return super()._ruled(ruling)


class AsModel(BaseChatModel):
    """Any runnable from messages to a message or text, as a chat model."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "runnable"

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The runnable's name, so that traces keep theirs."""
        return str(self.inner.get_name(suffix, name=name))

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        """The same around the runnable with these tools."""
        return self.model_copy(update={"inner": self.inner.bind_tools(tools, **kwargs)})

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return result_of(self.inner.invoke(messages, **_stopping(stop), **kwargs))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return result_of(await self.inner.ainvoke(messages, **_stopping(stop), **kwargs))

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self.inner.stream(messages, **_stopping(stop), **kwargs):
            yield ChatGenerationChunk(message=as_chunk(chunk))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in self.inner.astream(messages, **_stopping(stop), **kwargs):
            yield ChatGenerationChunk(message=as_chunk(chunk))


class _Prepared(Extension):
    """Runnables with configurable fields or alternatives: what they prepare for a call is guarded."""

    __slots__ = ()

    def prepare(self, config: RunnableConfig | None = None) -> tuple[Any, RunnableConfig]:
        runnable, config = self._plain.prepare(config)
        return guarded(runnable, self._own), config

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return guarded(self._plain.with_config(config, **kwargs), self._own)


class _Chosen(Extension):
    """What `init_chat_model` gives where fields are configurable: the model that it makes for a call is guarded."""

    __slots__ = ()

    def _model(self, config: RunnableConfig | None = None) -> Any:
        return guarded(self._plain._model(config), self._own)

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return guarded(self._plain.with_config(config, **kwargs), self._own)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._plain, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            made = found(*args, **kwargs)
            return guarded(made, self._own) if isinstance(made, Runnable) else made

        return call


class _Judged(Extension):
    """A chat model's calls, each judged by a turn. `_plain` runs them, with nobody to hear it."""

    __slots__ = ()
    _convert_input: Any

    @staticmethod
    def members(base: Any) -> dict[str, Any]:
        """What depends on the class. Remembered answers are raw and stay below us, and so does the pace of calls. A
        model that cannot stream is heard whole, as it would be without us; one with events of its own streams by its
        chunks.
        """
        members: dict[str, Any] = {"cache": property(lambda _: False), "rate_limiter": property(lambda _: None)}
        streams = base._stream is not BaseChatModel._stream
        if streams:
            members["_stream"] = stream
        if streams or base._astream is not BaseChatModel._astream:
            members["_astream"] = astream
        return members | {name: None for name in OWN_EVENTS if hasattr(base, name)}

    def with_structured_output(self, schema: Any = None, *, include_raw: bool = False, **kwargs: Any) -> Any:
        """As the model's own; a refusal raises `Blocked`, or is the `parsing_error` with `include_raw=True`."""
        guarding: Guarding = guarding_of(self)
        kwargs |= {} if schema is None else {"schema": schema}
        if not include_raw:
            raising = extend(self._plain, _Judged, guarding.raising())
            return super(_Judged, raising).with_structured_output(**kwargs)  # type: ignore[misc]

        def told(parsed: Any) -> Any:
            blocked = guarding.blocked(parsed["raw"])
            return parsed if blocked is None else {**parsed, "parsed": None, "parsing_error": blocked}

        return super().with_structured_output(include_raw=True, **kwargs) | RunnableLambda(told)  # type: ignore[misc]

    def configurable_fields(self, **kwargs: Any) -> Any:
        return guarded(super().configurable_fields(**kwargs), guarding_of(self))  # type: ignore[misc]

    def configurable_alternatives(self, *args: Any, **kwargs: Any) -> Any:
        return guarded(super().configurable_alternatives(*args, **kwargs), guarding_of(self))  # type: ignore[misc]

    # ------------------------------------------------------------ whose callbacks, and what a class says by itself

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        config, muted = heard(config, judged=guarding_of(self).judged)
        with muted.traced() if muted is not None else nullcontext():
            answer = super().invoke(input, config, **kwargs)  # type: ignore[misc]
        return drive(self._checked(input, answer)) if _overrides(self, "invoke") else answer

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        config, muted = heard(config, judged=guarding_of(self).judged)
        with muted.traced() if muted is not None else nullcontext():
            answer = await super().ainvoke(input, config, **kwargs)  # type: ignore[misc]
        return await adrive(self._checked(input, answer)) if _overrides(self, "ainvoke") else answer

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[AIMessageChunk]:  # noqa: A002
        config, _ = heard(config, judged=guarding_of(self).judged)
        chunks = super().stream(input, config, **kwargs)  # type: ignore[misc]
        if not _overrides(self, "stream"):
            yield from chunks
            return
        turn = guarding_of(self).turn(self._convert_input(input).to_messages())
        yield from sync.iterate(turn.stream(sync.in_thread(chunks)))

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        config, _ = heard(config, judged=guarding_of(self).judged)
        chunks = super().astream(input, config, **kwargs)  # type: ignore[misc]
        if _overrides(self, "astream"):
            chunks = guarding_of(self).turn(self._convert_input(input).to_messages()).stream(chunks)
        async with aclosing(chunks) as passing:
            async for chunk in passing:
                yield chunk

    def _checked(self, given: Any, answer: Any) -> Steps[AIMessage]:
        """The answer of a class that overrides `invoke`: it need not be the one that was judged."""
        turn = guarding_of(self).turn(self._convert_input(given).to_messages())
        judged: AIMessage = yield turn.rule(answer)
        return judged

    # ------------------------------------------------------------ the ways to call

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return drive(self._called(messages, stop, kwargs, CALLS[0]))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return await adrive(self._called(messages, stop, kwargs, CALLS[1]))

    def _called(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any], way: str
    ) -> Steps[ChatResult]:
        turn = guarding_of(self).turn(messages)
        if turn.unseen(messages):
            messages, refusal = yield turn.before(messages)
            if refusal is not None:
                return result_of(refusal)
        call = partial(getattr(self._plain, way), messages, stop=stop, **kwargs)
        with silence():
            if turn.gate is None:
                result = yield call
            elif asyncio.iscoroutinefunction(call.func):
                result = yield turn.race(call())
            else:
                result = yield turn.race(asyncio.to_thread(contextvars.copy_context().run, call))
        judged: ChatResult = yield ruled(turn, result)
        return judged


def _overrides(model: Any, way: str) -> bool:
    return getattr(type(model._plain), way) is not getattr(BaseChatModel, way)


def _stopping(stop: list[str] | None) -> dict[str, Any]:
    """Not every runnable knows stop words."""
    return {} if stop is None else {"stop": stop}
