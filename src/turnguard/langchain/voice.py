"""Who may be heard while a model call is judged."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config
from langsmith import get_tracing_context, tracing_context
from langsmith.utils import tracing_is_enabled

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
def muted() -> Iterator[Voice | None]:
    """Run what is inside without the ambient callbacks and tracers; gives them to whoever may speak.

    Other middleware may call or swap models inside a guarded call (a fallback, a selector of tools). What such a
    model says was not judged yet, so it is not heard; its answer is judged as a whole.
    """
    config = var_child_runnable_config.get()
    voice = _loud.get()
    if voice is None:
        tracing = get_tracing_context() if tracing_is_enabled() else None
        callbacks = (config or {}).get("callbacks")
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
