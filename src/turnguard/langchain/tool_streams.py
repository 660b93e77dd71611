"""What runs inside a tool is heard only where it is judged.

LangGraph hands its streams on to whatever a tool calls: handlers that show a model's words, the stream of a graph's
states, and the writer of custom events. Here the call gets a configuration without them. A guarded model takes the
handlers up again (see `voice`), a guarded agent opens the stream for its own namespace, and custom events wait until
they are judged. Other callbacks stay: they are the developer's own ears, and may be guards themselves.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, BaseCallbackManager, CallbackManager
from langchain_core.runnables import RunnableConfig

from turnguard.langchain.custom_events import Telling, as_it_is
from turnguard.langchain.judge import Judging
from turnguard.langchain.muting import keep, kept_around
from turnguard.langchain.private_names import AMBIENT, NAMESPACE, RUNTIME, SEND, STREAM, TAPS, tool_call_writer
from turnguard.transcripts.conversation import Request
from turnguard.transcripts.fields import is_plain_key

_gates: contextvars.ContextVar[tuple[_Gate, ...]] = contextvars.ContextVar("turnguard_gates", default=())


@contextmanager
def hushed(config: dict[str, Any], telling: Telling, *, judged: bool = False) -> Iterator[None]:
    """Run a tool call with no stream that anything unjudged reaches. `telling` takes its custom events. `judged`: it is
    a call of a guarded agent, which the streams around that agent may show.

    `config` is what LangGraph runs the tool with, made for this call: it is changed in place, so that a tool that a
    hook inside ours puts in its place is hushed too, and restored in the end. What the tool itself may keep is to be a
    copy, made inside: what goes on in the background when the tool has returned stays hushed.
    """
    changes: dict[str, Any] = {}
    kept, callbacks = _without_streams(config.get("callbacks"), telling, kept_around() if judged else ())
    if callbacks is not config.get("callbacks"):
        changes["callbacks"] = callbacks
    configurable: dict[str, Any] = config.get("configurable") or {}
    gates = _gates.get()
    inside: dict[str, Any] = {}
    if STREAM in configurable:
        inside[STREAM] = _Gate(configurable[STREAM])
        gates = (*gates, inside[STREAM])
    if configurable.get(RUNTIME) is not None:
        inside[RUNTIME] = replace(configurable[RUNTIME], stream_writer=telling)
    if SEND in configurable:
        inside[SEND] = partial(_send, telling, configurable[SEND])
    if inside:
        changes["configurable"] = {**configurable, **inside}
    before = {key: config.get(key) for key in changes}
    config.update(changes)
    around: dict[str, Any] = {**(AMBIENT.get() or RunnableConfig()), **changes}
    ambient = AMBIENT.set(cast("RunnableConfig", around))
    opened = _gates.set(gates)
    try:
        with keep(kept):
            yield
    except BaseException as error:
        if not isinstance(error, Exception):
            telling.abandon()
        raise
    finally:
        _gates.reset(opened)
        AMBIENT.reset(ambient)
        config.update(before)


@contextmanager
def held_deltas(telling: Telling | None) -> Iterator[None]:
    """Hold what a tool emits as partial output (`emit_output_delta`) until it is judged. The writer is there once the
    tool's run has begun.
    """
    writer = tool_call_writer()
    write = None if telling is None or writer is None else writer.get()
    if telling is None or write is None:
        yield
        return
    token = writer.set(lambda delta: telling.tell(delta, partial(write, as_it_is(delta))))
    try:
        yield
    finally:
        writer.reset(token)


def _send(telling: Telling, send: Callable[[Any], Any], writes: Any) -> None:
    """Write into the state once that is judged, in order with what else the tool tells."""
    writes = as_it_is(writes)
    telling.tell([value for _, value in writes], partial(send, writes))


def telling_of(judging: Judging, write: Any, request: Callable[[], Request], tool: str) -> Telling:
    """What takes a tool's custom events in the place of `write`. Inside a tool of another guarded agent, whoever judges
    them first is enough.
    """
    return Telling(judging, getattr(write, "unjudged", write), request, tool)


def speaks_for_itself() -> None:
    """Called in a guarded agent: its states are judged before they are shown, so the streams around may show them."""
    gates = _gates.get()
    if gates:
        from langgraph.config import get_config

        space = str((get_config().get("metadata") or {}).get(NAMESPACE, ""))
        for gate in gates:
            gate.open(tuple(space.split("|")[:-1]))


class _Gate:
    """A graph's stream that passes what comes from the namespaces that were opened."""

    def __init__(self, stream: Any) -> None:
        self.modes = stream.modes
        self._stream = stream
        self._open: set[tuple[str, ...]] = set()

    def open(self, space: tuple[str, ...]) -> None:
        self._open.add(space)

    def __call__(self, chunk: Any) -> None:
        if tuple(chunk[0]) in self._open:
            self._stream(chunk)


def _without_streams(callbacks: Any, telling: Telling, around: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """The handlers that show tokens to the caller of the run, and the callbacks without them. Those of them that listen
    to tools, and those `around`, go on to hear of this one call; those that listen to custom events hear of them once
    they are judged.
    """
    handlers = list(getattr(callbacks, "handlers", callbacks) or ())
    kept = tuple(handler for handler in handlers if hasattr(handler, TAPS))
    if not kept and not around:
        return (), callbacks
    own = [_ear(handler) for handler in (*kept, *around) if _hears(handler, "on_tool_start")]
    every = [_CustomEar(handler, telling) for handler in kept if _hears(handler, "on_custom_event")]
    if not isinstance(callbacks, BaseCallbackManager):
        callbacks = CallbackManager(handlers, list(handlers))
    quiet = callbacks.copy()
    quiet.handlers = [*(handler for handler in quiet.handlers if handler not in kept), *own, *every]
    quiet.inheritable_handlers = [*(handler for handler in quiet.inheritable_handlers if handler not in kept), *every]
    return kept, quiet


def _hears(handler: Any, event: str) -> bool:
    return getattr(type(handler), event) is not getattr(BaseCallbackHandler, event)


def _ear(handler: Any) -> BaseCallbackHandler:
    return (_AsyncEar if isinstance(handler, AsyncCallbackHandler) else _Ear)(handler)


class _Hearing:
    """Which run an ear listens to: the first tool that begins, and no other."""

    def __init__(self, handler: Any) -> None:
        self._to = handler
        self._run: UUID | None = None
        self.run_inline = handler.run_inline
        self.raise_error = handler.raise_error

    def _begins(self, run_id: UUID) -> bool:
        if self._run is None:
            self._run = run_id
        return self._run == run_id


class _Deaf:
    """To everything but what tools do."""

    ignore_llm = ignore_chain = ignore_retriever = ignore_chat_model = ignore_retry = True


class _Ear(_Hearing, _Deaf, BaseCallbackHandler):
    """Tells a handler of one tool call, and of nothing that runs inside it."""

    ignore_custom_event = True

    def on_tool_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> Any:
        if self._begins(run_id):
            self._to.on_tool_start(*args, run_id=run_id, **kwargs)

    def on_tool_end(self, *args: Any, run_id: UUID, **kwargs: Any) -> Any:
        if run_id == self._run:
            self._to.on_tool_end(*args, run_id=run_id, **kwargs)

    def on_tool_error(self, *args: Any, run_id: UUID, **kwargs: Any) -> Any:
        if run_id == self._run:
            self._to.on_tool_error(*args, run_id=run_id, **kwargs)


class _AsyncEar(_Hearing, _Deaf, AsyncCallbackHandler):
    """The same for a handler that is awaited."""

    ignore_custom_event = True

    async def on_tool_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> Any:
        if self._begins(run_id):
            await self._to.on_tool_start(*args, run_id=run_id, **kwargs)

    async def on_tool_end(self, *args: Any, run_id: UUID, **kwargs: Any) -> Any:
        if run_id == self._run:
            await self._to.on_tool_end(*args, run_id=run_id, **kwargs)

    async def on_tool_error(self, *args: Any, run_id: UUID, **kwargs: Any) -> Any:
        if run_id == self._run:
            await self._to.on_tool_error(*args, run_id=run_id, **kwargs)


class _CustomEar(_Deaf, BaseCallbackHandler):
    """Tells a handler of custom events once they are judged."""

    run_inline = True
    ignore_agent = True

    def __init__(self, handler: Any, telling: Telling) -> None:
        self._to = handler
        self._telling = telling

    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> Any:
        data = as_it_is(data)
        content = data if is_plain_key(name) else [name, data]
        self._telling.tell(content, partial(self._to.on_custom_event, name, data, **kwargs))


class Others(list[Any]):
    """The agent's tools as a hook inside ours may look one up to send a call to: each judges what it is called with."""

    def __init__(self, tools: Any, judged: Callable[[Any], Any]) -> None:
        super().__init__(tools)
        self._judged = judged

    def __iter__(self) -> Iterator[Any]:
        return map(self._judged, super().__iter__())

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return [self._judged(tool) for tool in found] if isinstance(at, slice) else self._judged(found)
