"""Which of a tool's arguments the host puts in, such as the whole state: no model proposed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from langchain_core.tools import BaseTool, InjectedToolArg


def injected(tool: BaseTool, arguments: Mapping[str, Any]) -> frozenset[str]:
    """Names of arguments that LangGraph puts in. They are told by the signature of the tool's function, by its
    schema where that is a model, and a runtime by what it is: a JSON schema, as MCP tools have, names none of them.
    """
    names = {key for key, value in arguments.items() if hasattr(value, "stream_writer")}
    for function in (getattr(tool, "func", None), getattr(tool, "coroutine", None), tool._run, tool._arun):
        names.update(_annotated(function))
    proposed, every = tool.tool_call_schema, tool.get_input_schema()
    if hasattr(proposed, "model_fields") and hasattr(every, "model_fields"):
        names |= set(every.model_fields) - set(proposed.model_fields)
    return frozenset(names) & frozenset(arguments)


def _annotated(function: Any) -> Iterator[str]:
    try:
        hints = get_type_hints(function, include_extras=True) if function is not None else {}
    except Exception:  # noqa: BLE001 - a name that cannot be resolved tells nothing, and its argument is judged
        hints = {}
    for name, hint in hints.items():
        kinds = [kind if isinstance(kind, type) else type(kind) for kind in get_args(hint)[1:]]
        if any(issubclass(kind, InjectedToolArg) for kind in kinds):
            yield name
