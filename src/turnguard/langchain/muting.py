"""Who hears what runs while a model call is judged.

What runs between our hook and the guarded model is not judged yet: its callbacks are taken away, and one handler that
hears nothing stands in for them. A guarded model finds that handler in its own callbacks and puts the others back.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langsmith import get_tracing_context, tracing_context
from langsmith.utils import tracing_is_enabled

from turnguard.langchain.private_names import AMBIENT

_kept: contextvars.ContextVar[tuple[Any, ...]] = contextvars.ContextVar("turnguard_kept", default=())
"""The streams that are kept from what runs inside a tool, for those in it who are judged before they speak."""


class StandIn(BaseCallbackHandler):
    """Hears nothing. Holds the callbacks that it stands for, and the tracing (None where that is off)."""

    run_inline = True
    ignore_llm = ignore_chain = ignore_agent = ignore_retriever = ignore_chat_model = ignore_retry = True
    ignore_custom_event = True

    def __init__(self, callbacks: Any, tracing: dict[str, Any] | None) -> None:
        self.callbacks = callbacks
        self._tracing = tracing

    def traced(self) -> Any:
        """A context with the tracing as it was."""
        return nullcontext() if self._tracing is None else tracing_context(**self._tracing)


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


def handlers_of(callbacks: Any) -> list[Any]:
    """The handlers of a list, a manager, or nothing."""
    return list(getattr(callbacks, "handlers", callbacks) or ())


def heard(config: RunnableConfig | None, *, judged: bool = True) -> tuple[RunnableConfig | None, StandIn | None]:
    """The configuration, given or ambient, with which a guarded model runs, and what stood in for its callbacks.

    `judged`: all that the model says is judged, so that the streams kept from a tool may show it.
    """
    named = (config or {}).get("callbacks")
    callbacks = (AMBIENT.get() or {}).get("callbacks") if named is None else named
    found = next((one for one in handlers_of(callbacks) if isinstance(one, StandIn)), None)
    if found is not None:
        own = [one for one in handlers_of(callbacks) if not isinstance(one, StandIn)]
        callbacks = _with(found.callbacks, own)
    elif not (judged and _kept.get()):
        return config, None
    if judged:
        callbacks = _with(callbacks, _kept.get())
    return {**(config or {}), "callbacks": callbacks}, found


@contextmanager
def muted() -> Iterator[None]:
    """Run what is inside without the ambient callbacks and tracers.

    Other middleware may call or swap models inside a guarded call (a fallback, a selector of tools). What such a
    model says was not judged yet, so it is not heard; its answer is judged as a whole.
    """
    config: RunnableConfig = AMBIENT.get() or {}
    callbacks = config.get("callbacks")
    # said outright: switched on by the environment it is None, which cannot undo that it was switched off
    tracing = {**get_tracing_context(), "enabled": enabled} if (enabled := tracing_is_enabled()) else None
    if callbacks is None and tracing is None:
        yield
        return
    silent = callbacks if any(isinstance(one, StandIn) for one in handlers_of(callbacks)) else None
    token = AMBIENT.set({**config, "callbacks": silent or [StandIn(callbacks, tracing)]})
    try:
        # a tracer of the environment joins runs without callbacks too
        with nullcontext() if tracing is None else tracing_context(enabled=False):
            yield
    finally:
        AMBIENT.reset(token)


@contextmanager
def silence() -> Iterator[None]:
    """Run what a guarded model does inside itself with nobody to hear it."""
    config: RunnableConfig = AMBIENT.get() or {}
    token = None if config.get("callbacks") is None else AMBIENT.set({**config, "callbacks": []})
    try:
        with tracing_context(enabled=False) if tracing_is_enabled() else nullcontext():
            yield
    finally:
        if token is not None:
            AMBIENT.reset(token)


def _with(callbacks: Any, more: Any) -> Any:
    """The callbacks and more handlers."""
    missing = [one for one in more if one not in handlers_of(callbacks)]
    if not missing:
        return callbacks
    if callbacks is None or isinstance(callbacks, list):
        return [*(callbacks or ()), *missing]
    manager = callbacks.copy()
    for handler in missing:
        manager.add_handler(handler)
    return manager
