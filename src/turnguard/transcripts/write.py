"""New content of the same shape, with other parts in it. The input is never changed.

What is withheld leaves the smallest element of a list that held it, or its field. What is rewritten keeps its place. A
block that was an object of an SDK comes back as a dict when something in it changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from turnguard.core.step import Document, Image, Opaque, Part, Text, ToolCall
from turnguard.transcripts import calls, media
from turnguard.transcripts.block import ARTIFACT, Block
from turnguard.transcripts.read import DEPTH, plain

GONE: Any = object()
"""Stands in place of an element that is to be removed."""


def replace(content: Any, blocks: Sequence[Block], parts: Sequence[Part | None]) -> Any:
    """New content of the same shape, with `parts[i]` in place of `blocks[i].part`.

    The same object leaves it untouched, None removes the element that held it. Returns `content` itself where nothing
    changed.
    """
    changed: dict[int | None, list[tuple[Block, Part | None]]] = {}
    for block, part in zip(blocks, parts, strict=True):
        if part is not block.part and block.index != ARTIFACT:
            changed.setdefault(block.index, []).append((block, part))
    if not changed:
        return content
    if None in changed:
        part = changed[None][0][1]
        return part.text if isinstance(part, Text) else ""
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray, memoryview)):
        new = rebuilt(content, changed[0])
        return "" if new is GONE else new
    items = [rebuilt(item, changed[index]) if index in changed else item for index, item in enumerate(content)]
    return [item for item in items if item is not GONE]


def rebuilt(item: Any, changes: Sequence[tuple[Block, Part | None]]) -> Any:
    """A copy of one top-level block with the changes made; `GONE` when nothing of it may stay."""
    holder = [_copy(item)]
    # The deepest first: the text of JSON-like data stands for the whole of it and must be written after its media.
    # Likewise what stands for a whole element, after its fields.
    for block, part in sorted(changes, key=lambda change: (-len(change[0].path), change[0].form[:4] != "key:")):
        _write(holder, (0, *block.path), block.form, part)
    kept = _purged(holder)
    return kept[0] if kept else GONE


def _copy(value: Any, depth: int = 0) -> Any:
    """A copy as deep as a part can stand; what is below is shared, and never written to."""
    value = plain(value)
    if depth > 2 * DEPTH:
        return value
    if isinstance(value, Mapping):
        return {key: _copy(item, depth + 1) for key, item in value.items()}
    return [_copy(item, depth + 1) for item in value] if isinstance(value, (list, tuple)) else value


def _purged(value: Any, depth: int = 0) -> Any:
    if depth > 2 * DEPTH:
        return value
    if isinstance(value, dict):
        return {key: _purged(item, depth + 1) for key, item in value.items()}
    return [_purged(item, depth + 1) for item in value if item is not GONE] if isinstance(value, list) else value


def _write(holder: list[Any], path: tuple[str | int, ...], form: str, part: Part | None) -> None:
    if part is None or isinstance(part, Opaque):
        path = path[: max(at for at, step in enumerate(path) if isinstance(step, int)) + 1]
    parent: Any = holder
    for step in path[:-1]:
        parent = parent[step]
        if parent is GONE or not isinstance(parent, (dict, list)):
            return  # what held it is gone, or became text, already
    element = parent[path[-1]]
    if element is not GONE:
        parent[path[-1]] = GONE if part is None or isinstance(part, Opaque) else _element_with(element, form, part)


def _element_with(element: Any, form: str, part: Part) -> Any:
    way, _, key = form.partition(":")
    if isinstance(part, Text):
        if way == "key":
            return {**element, key: part.text}
        return _data_like(element, part.text) if way == "self" else text_like(element, part.text)
    if isinstance(part, ToolCall) and way == "call":
        inner = element[key] if key else element
        call = with_arguments(
            inner, calls.WRAPPED[key] if key else calls.call_form(inner, str(inner.get("type"))), part
        )
        return {**element, key: call} if key else call
    if isinstance(part, (Image, Document)) and way == "media":
        return media.pinned(element, part)
    return part.source if isinstance(part, (Image, Document)) and way == "self" else GONE


def with_arguments(holder: Mapping[str, Any], form: calls.CallForm | None, call: ToolCall) -> dict[str, Any]:
    """A call's block with other arguments, written as the block wrote them."""
    key = calls.arguments_key(form or calls.CallForm(("arguments",)), holder)
    arguments: Any = call.arguments
    if isinstance(holder.get(key), str) and not isinstance(arguments, str):
        arguments = json.dumps(dict(arguments), ensure_ascii=False)
    elif isinstance(holder.get(key), (Mapping, list)) and isinstance(arguments, str):
        arguments = _loaded(arguments)
    named = next((at for at in calls.NAME_KEYS if at in holder), None)
    return {**holder, **({named: call.name} if named else {}), key: arguments}


def _loaded(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return {"text": arguments}


def _data_like(element: Any, text: str) -> Any:
    """Text in place of a string or of JSON-like data: an object where an object stood."""
    return {"text": text} if isinstance(element, Mapping) else [text] if isinstance(element, list) else text


def text_like(element: Any, text: str) -> dict[str, Any]:
    """A text block in the dialect of the block that it replaces."""
    kind = element.get("type", element.get("kind")) if isinstance(element, Mapping) else None
    if not isinstance(kind, str):
        return {"text": text}
    if "kind" in element and "type" not in element:
        return {"kind": "text", "text": text}
    responses = kind.startswith("input_") or kind == "computer_screenshot"
    return {"type": "input_text" if responses else "text", "text": text}
