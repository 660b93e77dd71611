"""The one normaliser of message content: what a message holds, as parts, and new content of the same shape.

Pure and framework-free; the tests hold the table of forms. Reading is greedy: every string in a block is text to
judge unless its key is known to hold none (an id, a signature, a media type) and it is a mere token, and what is not
known is `Opaque` with the cause.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnguard.core.step import Document, Image, Opaque, Part, Text, ToolCall
from turnguard.transcripts import dialects as _dialects
from turnguard.transcripts import fields as _carriers

ARTIFACT = -1
"""The index of blocks that came from a tool message's artifact. `replace` leaves those alone."""

_DEPTH = 32
_DEEP = "nested too deeply"
_CALLS = {
    "tool_use": "input",
    "server_tool_use": "input",
    "mcp_tool_use": "input",
    "custom_tool_call": "input",
    "tool_call": "args",
    "tool_call_chunk": "args",
    "invalid_tool_call": "args",
    "server_tool_call": "args",
    "server_tool_call_chunk": "args",
    "function_call": "arguments",
    "mcp_call": "arguments",
    "mcp_approval_request": "arguments",
}
_WRAPPED_CALLS = {"toolUse": "input", "functionCall": "args", "function_call": "args", "function": "arguments"}
_TYPES = {
    *_CALLS,
    *_dialects.KIND_OF_TYPE,
    *("text", "input_text", "output_text", "text_delta", "summary_text", "reasoning_text", "refusal", "json"),
    *("thinking", "reasoning", "reasoning_content", "redacted_thinking", "thinking_delta", "input_json_delta"),
    *(
        "tool_result",
        "function_call_output",
        "custom_tool_call_output",
        "computer_call_output",
        "local_shell_call_output",
    ),
    *("server_tool_result", "mcp_tool_result", "search_result", "web_search_result", "web_search_tool_result"),
    *("web_fetch_tool_result", "web_fetch_result", "code_execution_tool_result", "code_execution_result"),
    *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "tool_search_tool_result"),
    *("executable_code", "computer_call", "web_search_call", "file_search_call", "code_interpreter_call"),
    *("local_shell_call", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output"),
    *("mcp_list_tools", "resource_link", "non_standard", "function", "message", "guard_content", "cache_point"),
}
# What makes a block without a type known: Bedrock's and Google's.
_UNTYPED = {
    *("text", "image", "document", "video", "audio", "json", "content", "source", "refusal", "toolUse", "toolResult"),
    *("inline_data", "inlineData", "file_data", "fileData", "functionCall", "function_call", "functionResponse"),
    *("function_response", "executableCode", "executable_code", "codeExecutionResult", "code_execution_result"),
    *("reasoningContent", "reasoning_content", "guardContent", "cachePoint", "searchResult", "citationsContent"),
}
_DATA = {"json", "response", "structured_content", "structuredContent", "action", "results", "outputs", "input", "args"}
_TEXTS = {"text", "thinking", "reasoning", "refusal", "transcript", "content", "output", "result", "title", "summary"}
_NO_PUNCTUATION = re.compile(r"[^\s\[\]{}:,\"]")
_SAFE_NAME = re.compile(r"[A-Za-z][\w.\-]{0,40}")


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a message's content, and where it stands.

    `index` is the top-level block that it came from, None for string content, `ARTIFACT` for a tool message's artifact.
    `path` leads from that block to the element that holds the part, and `form` says how it is written back.
    """

    part: Part
    index: int | None
    path: tuple[str | int, ...] = ()
    form: str = "self"


def read(content: Any, *, artifact: Any = None) -> tuple[Block, ...]:
    """The parts of a message's content, in order. Empty text gives nothing; what is not known gives `Opaque`."""
    blocks: list[Block] = []
    if isinstance(content, str):
        if content.strip():
            blocks.append(Block(Text(content), None))
    elif isinstance(content, (bool, int, float)):
        blocks.append(Block(Text(_shown(content)), None))
    elif isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray, memoryview)):
        for index, item in enumerate(content):
            blocks += _Reader(index).read(item)
    elif content is not None:
        blocks += _Reader(0).read(content)
    if artifact is not None:
        said = "\n".join(block.part.text for block in blocks if isinstance(block.part, Text))
        found = _Reader(ARTIFACT).read_data(artifact)
        blocks += [block for block in found if not isinstance(block.part, Text) or block.part.text not in said]
    return tuple(blocks)


def read_beside(key: str, value: Any) -> tuple[Part, ...]:
    """The parts of a value that stands beside a message's content or in a call, under a key of any name. A switch of
    the wire gives none.
    """
    if key in _carriers.SWITCHES and _carriers.is_switch(key, value):
        return ()
    return tuple(block.part for block in _Reader(0).read_key(key, value))


def replace(content: Any, blocks: Sequence[Block], parts: Sequence[Part | None]) -> Any:
    """New content of the same shape, with `parts[i]` in place of `blocks[i].part`.

    The same object leaves it untouched, None removes the element that held it. The input is never changed. A block that
    was an object (not a dict) comes back as a dict when something in it changed.
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
        rebuilt = _rebuilt(content, changed[0])
        return "" if rebuilt is _GONE else rebuilt
    items = [_rebuilt(item, changed[index]) if index in changed else item for index, item in enumerate(content)]
    return [item for item in items if item is not _GONE]


class _Reader:
    """Reads one top-level block."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._blocks: list[Block] = []

    def read(self, item: Any) -> list[Block]:
        if isinstance(item, (bool, int, float)):
            self._add(Text(_shown(item)), (), "self")
        self._element(item, ())
        return self._blocks

    def read_key(self, key: str, value: Any) -> list[Block]:
        self._mapping({key: value}, (), known=True)
        return self._blocks

    def read_data(self, value: Any) -> list[Block]:
        self._data(value, ())
        return self._blocks

    def _add(self, part: Part, path: tuple[str | int, ...], form: str) -> None:
        self._blocks.append(Block(part, self._index, path, form))

    def _element(self, value: Any, path: tuple[str | int, ...], *, known: bool = False) -> None:
        """One block, or a list of them. `known`: a sub-element whose own type need not be known."""
        if value is None or isinstance(value, (bool, int, float)):
            return
        value = _plain(value)
        if isinstance(value, str):
            if value.strip():
                self._add(Text(value), path, "self")
        elif isinstance(value, bytes):
            self._add(_dialects.from_bytes(value), path, "self")
        elif _dialects.is_picture(value):
            self._add(Image(value), path, "self")
        elif len(path) > _DEPTH:
            self._add(Opaque("other", _DEEP), path, "self")
        elif isinstance(value, Mapping):
            self._mapping(value, path, known=known)
        elif isinstance(value, (list, tuple)):
            for at, item in enumerate(value):
                self._element(item, (*path, at), known=known)
        else:
            self._add(Opaque("other", f"an object of type {type(value).__name__}"), path, "self")

    def _mapping(self, block: Mapping[str, Any], path: tuple[str | int, ...], *, known: bool) -> None:
        told = block.get("type")
        kind = told if isinstance(told, str) else None  # a client may write anything there
        taken: set[str] = set()
        if kind in _CALLS and ("name" in block or _CALLS[kind] in block):
            taken |= self._call(block, _CALLS[kind], path, "call")
        for key, arguments in _WRAPPED_CALLS.items():
            inner = block.get(key)
            if isinstance(inner, Mapping):
                self._keys(inner, (*path, key), self._call(inner, arguments, path, f"call:{key}"))
                taken.add(key)
        left = None if kind in _CALLS else self._media(block, path)
        if left is not None:
            for key in [key for key in block if key not in left or left[key] is not block[key]]:
                taken.add(key)
                if key in left:
                    self._left(left[key], (*path, key))
        if kind == "redacted_thinking":
            self._add(Opaque("other", "encrypted reasoning"), path, "media")
            taken |= {"data", "encrypted_content"}
        elif block.get("encrypted_content") and kind not in ("reasoning", "thinking"):
            self._add(Opaque("other", "encrypted content"), path, "media")
            taken.add("encrypted_content")
        if not known and not self._is_known(block, told, read=left is not None):
            name = kind if isinstance(kind, str) and _SAFE_NAME.fullmatch(kind) else None
            cause = f"a block of type {name} is not known" if name else "a block of no known type"
            self._add(Opaque("other", cause), path, "media")
        self._keys(block, path, taken)

    def _call(self, holder: Mapping[str, Any], key: str, path: tuple[str | int, ...], form: str) -> set[str]:
        """Adds the call that a mapping is; the keys that it accounts for."""
        arguments, name = holder.get(key), holder.get("name")
        if not isinstance(arguments, (str, Mapping)):
            arguments = _json(arguments) if arguments is not None else ""
        identity = next(
            (held for at in ("call_id", "id", "toolUseId") if isinstance(held := holder.get(at), str)), None
        )
        said = name if isinstance(name, str) else ""
        self._add(ToolCall(said, arguments, identity) if arguments is not None else Opaque("other", _DEEP), path, form)
        return {key} | ({"name"} if isinstance(name, str) else set())

    def _media(self, block: Mapping[str, Any], path: tuple[str | int, ...]) -> dict[str, Any] | None:
        """Adds the picture, file or recording that a block is, and what is left of the block; None where it is none."""
        found = _dialects.media(block)
        if found is None:
            return None
        self._add(found.part, path, "media")
        if _carriers.sources(block) > 1:  # the provider may take the other one
            self._add(Opaque(found.part.kind, "two sources in one block"), path, "media")
        return _carriers.rest(block, found.keys, found.part.name if isinstance(found.part, Document) else None)

    def _left(self, left: Mapping[str, Any], path: tuple[str | int, ...]) -> None:
        """What is left in the wrapper of a carrier."""
        if len(path) > _DEPTH:
            self._add(Opaque("other", _DEEP), path, "self")
            return
        inner = {key for key, value in left.items() if isinstance(value, Mapping) and key in _carriers.WRAPPERS}
        self._keys(left, path, inner)
        for key in left:
            if key in inner:
                self._left(left[key], (*path, key))

    def _keys(self, holder: Mapping[str, Any], path: tuple[str | int, ...], taken: Collection[str] = ()) -> None:
        """Every key of a mapping that is not taken and no switch."""
        for key, value in holder.items():
            if not _carriers.is_plain_key(str(key)):
                self._add(Text(str(key)), path, "media")
            switch = key in _carriers.SWITCHES or (key == "uri" and bool(holder.get("blob")))
            sealed = key == "encrypted_content" and _carriers.is_switch("signature", value)
            if key not in taken and not sealed and not (switch and _carriers.is_switch(key, value)):
                self._key(str(key), value, path)

    @staticmethod
    def _is_known(block: Mapping[str, Any], kind: Any, *, read: bool) -> bool:
        if kind is not None:
            return isinstance(kind, str) and kind in _TYPES
        return read or not block or any(key in block for key in _UNTYPED)

    def _key(self, key: str, value: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(value, str):
            if value.strip():
                self._add(Text(value), path, f"key:{key}")
        elif key in _TEXTS and isinstance(value, (bool, int, float)):
            self._add(Text(_shown(value)), path, f"key:{key}")
        elif key in _DATA and isinstance(value, (Mapping, list, tuple)):
            self._data(value, (*path, key))
        else:
            self._element(value, (*path, key), known=key not in ("content", "output", "value"))

    def _data(self, value: Any, path: tuple[str | int, ...]) -> None:
        """JSON-like data: its media one by one, and the rest, keys included, as one text."""
        rest = self._without_media(value, path)
        if rest is None or isinstance(rest, (bool, int, float)):
            return
        text = rest if isinstance(rest, str) else json.dumps(rest, ensure_ascii=False, default=str)
        if _NO_PUNCTUATION.search(text.replace("[media]", "")):
            self._add(Text(text), path, "self")

    def _without_media(self, value: Any, path: tuple[str | int, ...]) -> Any:
        value = _plain(value)
        if isinstance(value, bytes) or _dialects.is_picture(value):
            self._add(_dialects.from_bytes(value) if isinstance(value, bytes) else Image(value), path, "self")
            return "[media]"
        if len(path) > _DEPTH:
            self._add(Opaque("other", _DEEP), path, "self")
            return None
        if isinstance(value, Mapping):
            left = self._media(value, path) if _dialects.carries_media(value) else None
            value = value if left is None else left or "[media]"
        if isinstance(value, Mapping):
            return {str(key): self._without_media(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._without_media(item, (*path, at)) for at, item in enumerate(value)]
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        self._add(Opaque("other", f"an object of type {type(value).__name__}"), path, "self")
        return None


_GONE: Any = object()


def _plain(value: Any) -> Any:
    """Objects of frameworks and SDKs as the dicts that they stand for."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def _shown(value: float) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes out no integer of thousands of digits
        return hex(int(value))


def _json(value: Any) -> str | None:
    """A value as JSON; None where it is nested too deeply to be written."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, TypeError, ValueError):
        return None


def _rebuilt(item: Any, changes: list[tuple[Block, Part | None]]) -> Any:
    """A copy of one top-level block with the changes made; `_GONE` when nothing of it may stay."""
    holder = [_copy(item)]
    # The deepest first: the text of JSON-like data stands for the whole of it and must be written after its media.
    # Likewise what stands for a whole element, after its keys.
    for block, part in sorted(changes, key=lambda change: (-len(change[0].path), change[0].form[:4] != "key:")):
        _write(holder, (0, *block.path), block.form, part)
    kept = _purged(holder)
    return kept[0] if kept else _GONE


def _copy(value: Any, depth: int = 0) -> Any:
    """A copy as deep as a part can stand; what is below is shared, and never written to."""
    value = _plain(value)
    if depth > 2 * _DEPTH:
        return value
    if isinstance(value, Mapping):
        return {key: _copy(item, depth + 1) for key, item in value.items()}
    return [_copy(item, depth + 1) for item in value] if isinstance(value, (list, tuple)) else value


def _purged(value: Any, depth: int = 0) -> Any:
    if depth > 2 * _DEPTH:
        return value
    if isinstance(value, dict):
        return {key: _purged(item, depth + 1) for key, item in value.items()}
    return [_purged(item, depth + 1) for item in value if item is not _GONE] if isinstance(value, list) else value


def _write(holder: list[Any], path: tuple[str | int, ...], form: str, part: Part | None) -> None:
    if part is None or isinstance(part, Opaque):
        path = path[: max(at for at, step in enumerate(path) if isinstance(step, int)) + 1]
    parent: Any = holder
    for step in path[:-1]:
        parent = parent[step]
        if parent is _GONE or not isinstance(parent, (dict, list)):
            return  # what held it is gone, or became text, already
    element = parent[path[-1]]
    if element is not _GONE:
        parent[path[-1]] = _GONE if part is None or isinstance(part, Opaque) else _element_with(element, form, part)


def _element_with(element: Any, form: str, part: Part) -> Any:
    way, _, key = form.partition(":")
    if isinstance(part, Text):
        if way == "key":
            return {**element, key: part.text}
        return part.text if way == "self" else _text_like(element, part.text)
    if isinstance(part, ToolCall) and way == "call":
        inner = element[key] if key else element
        name = _WRAPPED_CALLS[key] if key else _CALLS[element["type"]]
        arguments: Any = part.arguments
        if isinstance(inner.get(name), str) and not isinstance(arguments, str):
            arguments = json.dumps(dict(arguments), ensure_ascii=False)
        call = {**inner, "name": part.name, name: arguments}
        return {**element, key: call} if key else call
    if isinstance(part, (Image, Document)) and way == "media":
        return _dialects.pinned(element, part)
    return part.source if isinstance(part, (Image, Document)) and way == "self" else _GONE


def _text_like(element: Any, text: str) -> dict[str, Any]:
    """A text block in the dialect of the block that it replaces."""
    kind = element.get("type") if isinstance(element, Mapping) else None
    if not isinstance(kind, str):
        return {"text": text}
    responses = kind.startswith("input_") or kind == "computer_screenshot"
    return {"type": "input_text" if responses else "text", "text": text}
