"""Who may be heard while a model call is judged."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langsmith import get_tracing_context, tracing_context
from langsmith.utils import tracing_is_enabled

_kept: contextvars.ContextVar[tuple[Any, ...]] = contextvars.ContextVar("turnguard_kept", default=())
"""The streams that are kept from what runs inside a tool, for those in it who are judged before they speak."""
_loud: contextvars.ContextVar[Any] = contextvars.ContextVar("turnguard_voice", default=None)


@dataclass(frozen=True, slots=True)
class Voice:
    """What a run may be heard by: its callbacks, and the tracing of its environment (None where that is off)."""

    callbacks: Any
    tracing: dict[str, Any] | None

    @contextmanager
    def traced(self) -> Iterator[None]:
        """As if nobody had muted it."""
        if self.tracing is None:
            yield
            return
        with tracing_context(**self.tracing):
            yield


@contextmanager
def keep(handlers: tuple[Any, ...]) -> Iterator[None]:
    """Keep these streams for whoever is guarded inside."""
    if not handlers:
        yield
        return
    token = _kept.set((*_kept.get(), *handlers))
    try:
        yield
    finally:
        _kept.reset(token)


def kept_around() -> tuple[Any, ...]:
    """The streams that are kept from what runs here."""
    return _kept.get()


def audible(callbacks: Any) -> Any:
    """The callbacks of a guarded model: with the streams that were kept from the others around it."""
    kept = _kept.get()
    if not kept:
        return callbacks
    if callbacks is None or isinstance(callbacks, list):
        return [*(callbacks or ()), *(handler for handler in kept if handler not in (callbacks or ()))]
    manager = callbacks.copy()
    for handler in kept:
        if handler not in manager.handlers:
            manager.add_handler(handler)
    return manager


def heard(config: RunnableConfig | None) -> RunnableConfig | None:
    """A configuration, given or ambient, with which a guarded model is heard."""
    if not _kept.get():
        return config
    named = (config or {}).get("callbacks")
    ambient = (var_child_runnable_config.get() or {}).get("callbacks")
    return {**(config or {}), "callbacks": audible(ambient if named is None else named)}


@contextmanager
def muted(*, judged: bool = True) -> Iterator[Voice | None]:
    """Run what is inside without the ambient callbacks and tracers; gives them to whoever may speak. `judged`: so much
    of it that it may be heard from inside a tool.

    Other middleware may call or swap models inside a guarded call (a fallback, a selector of tools). What such a
    model says was not judged yet, so it is not heard; its answer is judged as a whole.
    """
    config = var_child_runnable_config.get()
    voice = _loud.get()
    if voice is None:
        # said outright: switched on by the environment it is None, which cannot undo that it was switched off
        tracing = {**get_tracing_context(), "enabled": enabled} if (enabled := tracing_is_enabled()) else None
        callbacks = (config or {}).get("callbacks")
        callbacks = audible(callbacks) if judged else callbacks
        voice = Voice(callbacks, tracing) if callbacks is not None or tracing is not None else None
    if voice is None:
        yield None
        return
    token = var_child_runnable_config.set({**(config or {}), "callbacks": []})
    loud = _loud.set(voice)
    try:
        # a tracer of the environment joins runs without callbacks too
        with tracing_context(enabled=False) if voice.tracing is not None else nullcontext():
            yield voice
    finally:
        _loud.reset(loud)
        var_child_runnable_config.reset(token)
