"""Masking the unsafe pieces of a text, of a call's arguments or of a picture."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from turnguard.core.decision import Outcome
from turnguard.core.step import Image, Step, Text, ToolCall, ToolDefinition

MASK = "[redacted]"
GROUPS = 6
"""Into how many groups an unsafe stretch is cut before its parts are looked at more closely."""

_PIECE = re.compile(r"(?s:.+?)(?:[.!?;\u3002\uff01\uff1f\u0964][\"')\]\u201d\u2019]*\s+|\s*\n\s*|\Z)")
"""A sentence or a line, with the white space after it: nowhere else may a text be cut, or `jane.doe@example.com` falls
into pieces that are safe.
"""

_MOST_BYTES = _MOST_PIXELS = 1_000_000_000  # the picture was judged: it is within the settings' own limits

Ask = Callable[[Step], Awaitable[Outcome]]


class TooMany(Exception):
    """More re-judgements than a rewrite may cost."""


async def redacted_text(step: Step, part: Text, ask: Ask, *, among_others: bool = False) -> Text:
    """The text with its unsafe pieces masked. Pieces are sentences and lines, narrowed down to them group by group.

    A part `among_others` was judged joined with them, so it is asked first whether it is unsafe by itself.
    """

    def alone(piece: str) -> Step:
        return replace(step, parts=(Text(piece),), history=())

    if among_others and not await _unsafe(part.text, alone, ask):
        return part
    return Text(await _masked(part.text, alone, ask))


async def redacted_picture(step: Step, part: Image, ask: Ask) -> Image | None:
    """The picture with its unsafe tiles painted over, as PNG without metadata; None where that cannot help.

    It cannot for an animation, for what is small, and where no tile is unsafe by itself.
    """
    from turnguard.media.pictures import masking
    from turnguard.media.source import read
    from turnguard.media.types import Unreadable

    try:
        data, _ = await asyncio.to_thread(read, part, _MOST_BYTES, _MOST_PIXELS)
        tiles = await asyncio.to_thread(masking.cut, data, _MOST_PIXELS)
        outcomes = await asyncio.gather(
            *(ask(replace(step, parts=(Image(tile, "image/png"),), history=())) for _, tile in tiles)
        )
        unsafe = [box for (box, _), outcome in zip(tiles, outcomes, strict=True) if not _passes(outcome)]
        if not unsafe:
            return None
        made = await asyncio.to_thread(masking.painted, data, unsafe, _MOST_PIXELS)
    except Unreadable:
        return None
    if isinstance(part.source, str):
        uri = f"data:image/png;base64,{base64.b64encode(made).decode('ascii')}"
        return replace(part, source=uri, media_type="image/png")
    return replace(part, source=made, media_type="image/png")


async def redacted_call(step: Step, call: ToolCall, ask: Ask) -> ToolCall:
    """The call with the unsafe pieces of its string arguments masked; names, keys and other values stay."""
    arguments: Any = call.arguments
    was_text = isinstance(arguments, str)
    if was_text:
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            raise TooMany from None  # arguments that cannot be read cannot be rewritten

    def alone(key: str, piece: str) -> Step:
        return replace(step, parts=(ToolCall(call.name, {key: piece}, call.id),))

    masked = await _redacted(arguments, "value", alone, ask)
    return replace(call, arguments=json.dumps(masked, ensure_ascii=False) if was_text else masked)


async def redacted_definition(step: Step, part: ToolDefinition, ask: Ask) -> ToolDefinition:
    """The definition with the unsafe pieces of its strings masked; the tool keeps its name."""

    def alone(key: str, piece: str) -> Step:
        return replace(step, parts=(ToolDefinition({key: piece}),))

    return ToolDefinition(await _redacted(part.definition, "description", alone, ask, kept="name"))


async def _redacted(value: Any, key: str, alone: Callable[[str, str], Step], ask: Ask, kept: str | None = None) -> Any:
    """JSON-like data with the unsafe pieces of its strings masked, but for those under the key `kept`."""
    if isinstance(value, Mapping):
        return {name: await _redacted(inner, str(name), alone, ask, kept) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [await _redacted(inner, key, alone, ask, kept) for inner in value]
    if not isinstance(value, str) or not value.strip() or key == kept:
        return value
    asked = partial(alone, key)
    return await _masked(value, asked, ask) if await _unsafe(value, asked, ask) else value


async def _masked(text: str, alone: Callable[[str], Step], ask: Ask, *, nested: bool = False) -> str:
    """`text`, known to be unsafe as a whole, with the pieces masked that are unsafe by themselves."""
    pieces = _PIECE.findall(text)
    if len(pieces) <= 1:
        return MASK + text[len(text.rstrip()) :]
    size = max(1, -(-len(pieces) // GROUPS))
    groups = ["".join(pieces[at : at + size]) for at in range(0, len(pieces), size)]
    unsafe = await asyncio.gather(*(_unsafe(group, alone, ask) for group in groups))
    if not any(unsafe):
        # unsafe only as a whole: masked where it is a stretch of a longer text, else judged again and blocked
        return MASK + text[len(text.rstrip()) :] if nested else text
    masked = [
        await _masked(group, alone, ask, nested=True) if is_unsafe else group
        for group, is_unsafe in zip(groups, unsafe, strict=True)
    ]
    return "".join(masked)


async def _unsafe(text: str, alone: Callable[[str], Step], ask: Ask) -> bool:
    return bool(text.strip()) and not _passes(await ask(alone(text)))


def _passes(outcome: Outcome) -> bool:
    return outcome.action in ("allow", "flag")
