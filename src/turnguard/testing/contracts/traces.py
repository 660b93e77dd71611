"""Looking for contraband in anything: messages, states, dataclasses, models of any framework."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any


def holds(value: Any, mark: str | bytes) -> bool:
    """Whether `mark` stands anywhere in `value`. Bytes are also looked for as base64, whole or from the start."""
    marks: list[str | bytes] = [mark] if isinstance(mark, str) else [mark, base64.b64encode(mark).decode().rstrip("=")]
    return _holds(value, marks, set())


def _holds(value: Any, marks: list[str | bytes], seen: set[int]) -> bool:
    if isinstance(value, str):
        return any(mark in value for mark in marks if isinstance(mark, str))
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        return any((mark.encode() if isinstance(mark, str) else mark) in raw for mark in marks)
    if value is None or isinstance(value, (int, float, bool, type)) or id(value) in seen:
        return False
    seen.add(id(value))
    return any(_holds(inner, marks, seen) for inner in _inside(value))


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    inner = dict(getattr(value, "__dict__", {}))
    for owner in type(value).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                inner[name] = getattr(value, name)
    return list(inner.values())
