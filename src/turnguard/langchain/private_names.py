"""Every private name of LangChain and LangGraph that this package uses, each with the promise that it serves.

Where a release has moved one, construction fails with a `ConfigError`, or the promise is kept in a stricter way.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables.config import var_child_runnable_config

from turnguard.core.errors import ConfigError

AMBIENT = var_child_runnable_config
"""The configuration of the run around (langchain_core/runnables/config.py): what runs inside a tool or a guarded call
is heard by nobody until it is judged. Public by its name, not by the documentation.
"""

STREAM, RUNTIME, SEND = "__pregel_stream", "__pregel_runtime", "__pregel_send"
"""LangGraph's keys in `configurable` (langgraph/_internal/_constants.py): the stream of the graphs around, what a node
runs with, and what writes into the state, as `push_message` and `push_ui_message` do. Nothing that a tool streams is
shown unjudged.
"""
CHECKPOINTER = "__pregel_checkpointer"
"""LangGraph's key for the checkpointer: a review waits only where the run can be resumed. Without it a review blocks; a
`thread_id` alone does not say so.
"""
NAMESPACE = "langgraph_checkpoint_ns"
"""LangGraph's key in `metadata` for the place of a graph: a guarded agent inside a tool is heard, and no other."""

TAPS = "tap_output_iter"
"""By which langchain-core tells a handler that streams (langchain_core/tracers/_streaming.py)."""

CALLS = ("_generate_with_cache", "_agenerate_with_cache")
"""How a chat model answers below its callbacks (langchain_core/language_models/chat_models.py), so that a guarded model
is one run, and a remembered answer is judged.
"""
WAYS = ("generate", "agenerate", *CALLS, "_iter_v2_events")
"""Other ways to an answer. A class that overrides one is refused, because what it gives would not be judged."""
OWN_EVENTS = ("_stream_chat_model_events", "_astream_chat_model_events")
"""Events that a model makes by itself. They are left out, and its chunks are judged in their place."""


def is_chosen_model(model: Any) -> bool:
    """Whether this is what `init_chat_model` gives where fields are configurable: the model that it makes for a call
    (`_model`) is guarded.
    """
    return hasattr(type(model), "_model") and hasattr(model, "_queued_declarative_operations")


def tool_call_writer() -> Any:
    """LangGraph's variable with what takes a tool's partial output (`emit_output_delta`); None without LangGraph."""
    if find_spec("langgraph") is None:
        return None
    from langgraph.pregel._tools import _tool_call_writer

    return _tool_call_writer


def has_checkpointer(config: Mapping[str, Any]) -> bool:
    """Whether a run with this configuration can be resumed."""
    return bool((config.get("configurable") or {}).get(CHECKPOINTER))


def require_streams() -> None:
    """Raise `ConfigError` where LangGraph hands its streams on in another way than the one that is closed here, or
    langchain-core marks the handlers that stream by another name: nothing would be held, and nobody told.
    """
    if find_spec("langgraph") is None:  # nothing to hand on
        return
    try:
        from langchain_core.tracers._streaming import _StreamingCallbackHandler
        from langgraph._internal import _constants
        from langgraph.pregel._tools import _tool_call_writer  # noqa: F401

        found = (_constants.CONFIG_KEY_STREAM, _constants.CONFIG_KEY_RUNTIME, _constants.CONFIG_KEY_SEND)
        marked = hasattr(_StreamingCallbackHandler, TAPS)
    except (ImportError, AttributeError):
        found, marked = ("", "", ""), False
    if found != (STREAM, RUNTIME, SEND) or not marked:
        raise ConfigError(
            "what a tool streams cannot be held with this langgraph or langchain-core, whose streams are not the ones "
            "that Turnguard knows: use versions that it was tested with"
        )


def require_reviews() -> None:
    """Raise `ConfigError` where LangGraph names its checkpointer in another way: no review could ever wait."""
    try:
        from langgraph._internal import _constants

        found = _constants.CONFIG_KEY_CHECKPOINTER
    except (ImportError, AttributeError):
        found = ""
    if found != CHECKPOINTER:
        raise ConfigError(
            "reviews cannot wait with this langgraph, whose checkpointer is not where Turnguard looks for it: use "
            "versions that it was tested with"
        )


def require_model(cls: type) -> None:
    """Raise `ConfigError` for a class that takes another way to its answers than the ones that are judged here."""
    missing = [way for way in CALLS if not hasattr(BaseChatModel, way)]
    others = [way for way in WAYS if getattr(cls, way, None) is not getattr(BaseChatModel, way, None)]
    if missing:
        raise ConfigError(
            f"chat models cannot be guarded with this langchain-core, which has no {', '.join(missing)}: use versions "
            "that Turnguard was tested with"
        )
    if others:
        raise ConfigError(
            f"{cls.__name__} cannot be guarded: it overrides {', '.join(others)}, whose output is not judged"
        )
