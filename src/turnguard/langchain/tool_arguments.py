"""A tool as it goes on to the hooks inside ours: arguments that were changed on the way are judged before it runs.

A reviewer's edit by LangChain's own `HumanInTheLoopMiddleware`, or a middleware that writes into arguments, takes
effect inside `wrap_tool_call`, where the hook outside of it sees nothing of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from langchain_core.tools import BaseTool

from turnguard.runtime import sync

Look = Callable[[Mapping[str, Any]], Coroutine[Any, Any, Any]]
"""Arguments in, arguments to run with out; or the message in place of a result."""


def injected(tool: BaseTool, arguments: Mapping[str, Any]) -> frozenset[str]:
    """Names of arguments that LangGraph puts in, such as the whole state: no model proposed them."""
    proposed, every = tool.tool_call_schema, tool.get_input_schema()
    if not hasattr(proposed, "model_fields") or not hasattr(every, "model_fields"):
        return frozenset()  # a JSON schema names only what a model may propose
    # a runtime stands in no schema
    signature: frozenset[str] = getattr(tool, "_injected_args_keys", frozenset())
    return (frozenset(every.model_fields) - frozenset(proposed.model_fields) | signature) & frozenset(arguments)


def last_look(tool: BaseTool, arguments: Any, look: Look) -> BaseTool:
    """A shell around `tool` that has every attribute of it, and judges when it is called with other arguments than
    these, or at all where there are none. The tool itself runs, not a copy of it.
    """

    def changed(given: Any) -> dict[str, Any] | None:
        found = given.get("args") if isinstance(given, dict) else None
        if not isinstance(found, dict) or found == arguments:
            return None
        names = injected(tool, found)
        own = {key: value for key, value in found.items() if key not in names}
        if isinstance(arguments, Mapping) and own == {k: v for k, v in arguments.items() if k not in names}:
            return None
        return own

    def admitted(given: Any, judged: Any) -> Any:
        return {**given, "args": {**given["args"], **judged}}

    def invoke(given: Any, config: Any = None, **kwargs: Any) -> Any:
        own = changed(given)
        if own is not None:
            judged = sync.run(look(own))
            if not isinstance(judged, Mapping):
                return judged
            given = admitted(given, judged)
        return tool.invoke(given, config, **kwargs)

    async def ainvoke(given: Any, config: Any = None, **kwargs: Any) -> Any:
        own = changed(given)
        if own is not None:
            judged = await look(own)
            if not isinstance(judged, Mapping):
                return judged
            given = admitted(given, judged)
        return await tool.ainvoke(given, config, **kwargs)

    shell = copy.copy(tool)
    object.__setattr__(shell, "invoke", invoke)  # pydantic admits no other way to give one instance a method
    object.__setattr__(shell, "ainvoke", ainvoke)
    return shell
