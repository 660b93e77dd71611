"""Content → its parts. The walk that every reader shares.

It takes every string, byte and object, and subtracts only what `names.wordless` knows to hold no words. Calls, results
and media are recognised by the tables in `calls.py` and `media.py`. A form that cannot be judged becomes `Opaque`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from turnguard.checking import arguments
from turnguard.core.step import Document, Image, Opaque, Part, Text, ToolCall
from turnguard.transcripts import calls, fields, media
from turnguard.transcripts.block import ARTIFACT, Block, Region
from turnguard.transcripts.names import KEYS, TEXTS, VALUES, is_seal, known_key

DEPTH = 32
_DEEP = "nested too deeply"
_DATA = {
    *("json", "response", "structured_content", "structuredContent", "action", "results", "outputs", "input", "args"),
    "data",
}
"""Fields whose mappings and lists are JSON-like data: shown as one text, their keys included."""
_SEALED = {
    "redacted_thinking": ("encrypted reasoning", ("data",)),
    "reasoning": ("encrypted reasoning", ("encrypted_content",)),
    "compaction": ("an encrypted summary", ("encrypted_content",)),
}
"""Blocks that their provider encrypts, and the fields that hold the payload. Others: `encrypted_content`."""
_REFERENCES = {"item_reference": "item reference", "container_upload": "file id", "reference": "reference"}
_WRAPPING = {*calls.WRAPPED, *calls.RESULTS, *fields.INLINE, "image", "document", "image_url", "text"}
_EITHER = {"output", "result", "value"}
"""Fields that hold blocks in some dialects and JSON-like data in others."""
_NO_PUNCTUATION = re.compile(r"[^\s\[\]{}:,\"]")


class Reader:
    """Reads one top-level block, or one field of a message.

    `made`: the model or its provider wrote it, so that encrypted payloads in it are theirs.
    """

    def __init__(self, index: int | None, region: Region = "said", *, made: bool = True) -> None:
        self._index = index
        self._blocks: list[Block] = []
        self._region: Region = region
        self._pair: str | None = None
        self._tool: str | None = None
        self._made = made

    def read(self, item: Any) -> list[Block]:
        """The parts of one block."""
        if isinstance(item, (bool, int, float)):
            self._add(Text(shown(item)), (), "self")
        self._element(item, ())
        return self._blocks

    def read_field(self, key: str, value: Any) -> list[Block]:
        """The parts of a field that stands beside a message's content or in a call."""
        self._mapping({key: value}, (), known=True)
        return self._blocks

    def read_data(self, value: Any) -> list[Block]:
        """The parts of JSON-like data."""
        self._data(value, ())
        return self._blocks

    def _add(self, part: Part, path: tuple[str | int, ...], form: str) -> None:
        self._blocks.append(Block(part, self._index, path, form, self._region, self._pair, self._tool))

    @contextmanager
    def _within(self, region: Region, pair: str | None, tool: str | None) -> Iterator[None]:
        """What is read here belongs to a call or to a result. A call inside a result is text of that result."""
        outer = self._region, self._pair, self._tool
        if self._region != "result":
            self._region, self._pair, self._tool = region, pair or self._pair, tool or self._tool
        try:
            yield
        finally:
            self._region, self._pair, self._tool = outer

    # ------------------------------------------------------------ elements and mappings

    def _element(self, value: Any, path: tuple[str | int, ...], *, known: bool = False) -> None:
        """One block, or a list of them. `known`: an element whose own type need not be known."""
        if value is None or isinstance(value, (bool, int, float)):
            return
        value = plain(value)
        if isinstance(value, str):
            if value.strip():
                self._add(Text(value), path, "self")
        elif isinstance(value, bytes):
            self._add(media.from_bytes(value), path, "self")
        elif media.is_picture(value):
            self._add(Image(value), path, "self")
        elif len(path) > DEPTH:
            self._add(Opaque("other", _DEEP), path, "self")
        elif isinstance(value, Mapping):
            self._mapping(value, path, known=known)
        elif isinstance(value, (list, tuple)):
            for at, item in enumerate(value):
                self._element(item, (*path, at), known=known)
        else:
            self._add(Opaque("other", f"an object of type {type(value).__name__}"), path, "self")

    def _mapping(self, block: Mapping[str, Any], path: tuple[str | int, ...], *, known: bool) -> None:
        told = block.get("type", block.get("kind") if isinstance(block.get("kind"), str) else None)
        kind = told if isinstance(told, str) else None  # a client may write anything there
        if calls.is_result(kind):
            with self._within("result", calls.identity(block), calls.tool_name(block)):
                self._fields(block, path, kind, told, known=known)
        else:
            self._fields(block, path, kind, told, known=known)

    def _fields(
        self, block: Mapping[str, Any], path: tuple[str | int, ...], kind: str | None, told: Any, *, known: bool
    ) -> None:
        taken: set[str] = set()
        form = calls.call_form(block, kind)
        pair: str | None = None
        outputs: tuple[str, ...] = ()
        if form is not None:
            taken |= self._call(block, form, path, "call")
            pair, outputs = calls.identity(block), form.outputs
        for key, inner in block.items():
            if key in calls.WRAPPED and isinstance(inner, Mapping):
                more = self._call(inner, calls.WRAPPED[key], path, f"call:{key}", calls.identity(block))
                self._keys(inner, (*path, key), more)
                taken.add(key)
            elif key in calls.RESULTS and isinstance(inner, Mapping):
                with self._within("result", calls.identity(inner), calls.tool_name(inner)):
                    self._mapping(inner, (*path, key), known=True)
                taken.add(key)
        left = None if form is not None else self._media(block, path)
        if left is not None:
            for key in [key for key in block if key not in left or left[key] is not block[key]]:
                taken.add(key)
                if key in left:
                    self._left(left[key], (*path, key))
        taken |= self._sealed(block, kind, path)
        if kind in _REFERENCES:
            self._add(Opaque("other", _REFERENCES[kind]), path, "media")
        if not known and not _is_known(block, told, read=left is not None or bool(taken)):
            # whoever writes the block writes its type, and a cause is read by people and by the agent's model
            self._add(Opaque("other", "a block of no known type"), path, "media")
        answered = [key for key in outputs if block.get(key) is not None and key not in taken]
        self._keys(block, path, {*taken, *answered})
        if answered:
            with self._within("result", pair, None):
                self._keys({key: block[key] for key in answered}, path)

    def _call(
        self, holder: Mapping[str, Any], form: calls.CallForm, path: tuple[str | int, ...], how: str, pair: Any = None
    ) -> set[str]:
        """Add the call that a mapping is; the fields that it covers."""
        key = calls.arguments_key(form, holder)
        given, name = holder.get(key), calls.tool_name(holder, form)
        if not isinstance(given, (str, Mapping)):
            given = _json(given) if given is not None else ""
        identity = calls.identity(holder) or pair
        with self._within("call", identity, name):
            call = ToolCall(name or "", given, identity) if given is not None else Opaque("other", _DEEP)
            self._add(call, path, how)
        return {key} | {at for at in calls.NAME_KEYS if isinstance(holder.get(at), str) and holder[at] == name}

    def _sealed(self, block: Mapping[str, Any], kind: str | None, path: tuple[str | int, ...]) -> set[str]:
        """Add what the provider encrypted as a part, and return the fields that hold it.

        A payload that turns out to be readable is judged like any other text.
        """
        cause, keys = _SEALED.get(kind or "", ("encrypted content", ("encrypted_content",)))
        sealed = {key for key in keys if isinstance(block.get(key), str) and block[key] and is_seal(block[key])}
        if sealed:
            self._add(Opaque("encrypted" if self._made else "other", cause), path, "media")
        return sealed

    # ------------------------------------------------------------ media

    def _media(self, block: Mapping[str, Any], path: tuple[str | int, ...]) -> dict[str, Any] | None:
        """Add the block's picture, file or recording. Return the rest of the block, or None if it holds no media."""
        found = media.media(block)
        if found is None:
            return None
        self._add(found.part, path, "media")
        if fields.sources(block) > 1:  # the provider may take the other one
            self._add(Opaque(found.part.kind, "two sources in one block"), path, "media")
        return fields.rest(block, found.keys, found.part.name if isinstance(found.part, Document) else None)

    def _left(self, left: Mapping[str, Any], path: tuple[str | int, ...]) -> None:
        """Read the fields that are left in a wrapper once its media is taken out."""
        if len(path) > DEPTH:
            self._add(Opaque("other", _DEEP), path, "self")
            return
        inner = {key for key, value in left.items() if isinstance(value, Mapping) and key in fields.WRAPPERS}
        self._keys(left, path, inner)
        for key in left:
            if key in inner:
                self._left(left[key], (*path, key))

    # ------------------------------------------------------------ fields

    def _keys(self, holder: Mapping[str, Any], path: tuple[str | int, ...], taken: Collection[str] = ()) -> None:
        """Every field of a mapping that is not taken: its name where no format defines it, and its value."""
        for key, value in holder.items():
            name = str(key)
            if not known_key(name):
                self._add(Text(name), path, "media")
            if key not in taken and not (key == "uri" and holder.get("blob") and fields.is_switch(key, value)):
                self._key(name, value, path)

    def _key(self, key: str, value: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(value, str):
            if not fields.holds_no_words(key, value):
                self._add(Text(value), path, f"key:{key}")
        elif key in TEXTS and isinstance(value, (bool, int, float)):
            self._add(Text(shown(value)), path, f"key:{key}")
        elif isinstance(value, (Mapping, list, tuple)) and _is_data(key, value):
            self._data(value, (*path, key))
        elif not fields.holds_no_words(key, value):
            self._element(value, (*path, key), known=key not in ("content", "output", "value"))

    # ------------------------------------------------------------ data

    def _data(self, value: Any, path: tuple[str | int, ...]) -> None:
        """JSON-like data: its media one by one, and the rest, keys included, as one text."""
        rest = self._without_media(value, path)
        if rest is None or isinstance(rest, (bool, int, float)):
            return
        text = rest if isinstance(rest, str) else json.dumps(rest, ensure_ascii=False, default=str)
        if _NO_PUNCTUATION.search(text.replace("[media]", "")):
            self._add(Text(text), path, "self")

    def _without_media(self, value: Any, path: tuple[str | int, ...]) -> Any:
        value = plain(value)
        if isinstance(value, bytes) or media.is_picture(value):
            self._add(media.from_bytes(value) if isinstance(value, bytes) else Image(value), path, "self")
            return "[media]"
        if len(path) > DEPTH:
            self._add(Opaque("other", _DEEP), path, "self")
            return None
        if isinstance(value, Mapping):
            left = self._media(value, path) if media.carries_media(value) else None
            value = value if left is None else left or "[media]"
        if isinstance(value, Mapping):
            return {str(key): self._without_media(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._without_media(item, (*path, at)) for at, item in enumerate(value)]
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        found = arguments.shown(value)
        for part in (*found.files, *(Opaque(missed.kind, missed.cause) for missed in found.missed)):
            self._add(part, path, "self")
        return found.text or None


def read(content: Any, *, artifact: Any = None, made: bool = True) -> tuple[Block, ...]:
    """The parts of a message's content, in order. Empty text gives nothing; what is not known gives `Opaque`."""
    blocks: list[Block] = []
    if isinstance(content, str):
        if content.strip():
            blocks.append(Block(Text(content), None))
    elif isinstance(content, (bool, int, float)):
        blocks.append(Block(Text(shown(content)), None))
    elif isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray, memoryview)):
        for index, item in enumerate(content):
            blocks += Reader(index, made=made).read(item)
    elif content is not None:
        blocks += Reader(0, made=made).read(content)
    if artifact is not None:
        said = "\n".join(block.part.text for block in blocks if isinstance(block.part, Text))
        found = Reader(ARTIFACT, made=made).read_data(artifact)
        blocks += [block for block in found if not isinstance(block.part, Text) or block.part.text not in said]
    return tuple(blocks)


def read_field(key: str, value: Any, *, made: bool = True) -> tuple[Block, ...]:
    """The parts of a field that stands beside a message's content or in a call."""
    return tuple(Reader(0, made=made).read_field(key, value))


def _is_known(block: Mapping[str, Any], kind: Any, *, read: bool) -> bool:
    if kind is not None:
        return isinstance(kind, str) and (kind in VALUES or kind.startswith(("tool-", "data-", "reasoning.")))
    return read or not block or any(key in KEYS for key in block)


def _known_type(block: Mapping[str, Any]) -> bool:
    kind = block.get("type", block.get("kind"))
    return isinstance(kind, str) and kind in VALUES


def _is_data(key: str, value: Any) -> bool:
    return key in _DATA or (key in _EITHER and not _are_blocks(value))


def _are_blocks(value: Any) -> bool:
    """Whether a mapping or a list is made of blocks of a known type, and not of a tool's own data."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return all(
        isinstance(item, str)
        or (isinstance(item, Mapping) and (_known_type(item) or any(key in _WRAPPING for key in item)))
        for item in map(plain, items)
    )


def plain(value: Any) -> Any:
    """Objects of frameworks and SDKs as the dicts that they stand for."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Mapping):
        return value  # some frameworks' mappings answer to any attribute
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def shown(value: float) -> str:
    """A number as text."""
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
