"""A tool call as text that a moderator can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from turnguard.core.step import ToolCall


def readable(call: ToolCall) -> str:
    """A tool call as text: its name, then its arguments as lines, decoded: what is judged is what will run.

    Raises `ValueError` or `RecursionError` for arguments that no text can show (endless nesting, numbers without end).
    """
    arguments: Any = call.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            return f"{call.name}\n{arguments}"
    return "\n".join((call.name, *_lines(arguments, "")))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every pair that it holds: which of two values under one key a tool will read is not known."""


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = _Pairs(value.items())
    if isinstance(value, _Pairs):
        for key, inner in value:
            if isinstance(inner, (Mapping, list, tuple)):
                yield f"{indent}{key}:"
                yield from _lines(inner, indent + "  ")
            else:
                yield f"{indent}{key}: {inner}"
    elif isinstance(value, (list, tuple)):
        for inner in value:
            if isinstance(inner, (Mapping, list, tuple)):
                yield f"{indent}-"
                yield from _lines(inner, indent + "  ")
            else:
                yield f"{indent}- {inner}"
    elif value is not None:
        yield f"{indent}{value}"
