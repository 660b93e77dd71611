"""Masking the unsafe pieces of a text or of a call's arguments."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from turnguard.core.decision import Outcome
from turnguard.core.step import Step, Text, ToolCall

MASK = "[redacted]"
GROUPS = 6
"""Into how many groups an unsafe stretch is cut before its parts are looked at more closely."""

_PIECE = re.compile(r"[^.!?;\n\u3002\uff01\uff1f\u0964]*[.!?;\n\u3002\uff01\uff1f\u0964]*\s*")

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


async def redacted_call(step: Step, call: ToolCall, ask: Ask) -> ToolCall:
    """The call with the unsafe pieces of its string arguments masked; names, keys and other values stay."""
    arguments: Any = call.arguments
    was_text = isinstance(arguments, str)
    if was_text:
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            raise TooMany from None  # arguments that cannot be read cannot be rewritten

    async def walk(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: await walk(inner, f"{path}.{key}") for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [await walk(inner, path) for inner in value]
        if not isinstance(value, str) or not value.strip():
            return value

        def alone(piece: str) -> Step:
            return replace(step, parts=(ToolCall(call.name, {path.rpartition(".")[2] or "value": piece}, call.id),))

        if (await ask(alone(value))).action in ("allow", "flag"):
            return value
        return await _masked(value, alone, ask)

    masked = await walk(arguments, "")
    return replace(call, arguments=json.dumps(masked, ensure_ascii=False) if was_text else masked)


async def _masked(text: str, alone: Callable[[str], Step], ask: Ask) -> str:
    """`text`, known to be unsafe as a whole, with the pieces masked that are unsafe by themselves."""
    pieces = [piece for piece in _PIECE.findall(text) if piece]
    if len(pieces) <= 1:
        return MASK + text[len(text.rstrip()) :]
    size = max(1, -(-len(pieces) // GROUPS))
    groups = ["".join(pieces[at : at + size]) for at in range(0, len(pieces), size)]
    unsafe = await asyncio.gather(*(_unsafe(group, alone, ask) for group in groups))
    if not any(unsafe):
        return text  # unsafe only as a whole: judged again by the caller, who then blocks
    masked = [
        await _masked(group, alone, ask) if is_unsafe else group
        for group, is_unsafe in zip(groups, unsafe, strict=True)
    ]
    return "".join(masked)


async def _unsafe(text: str, alone: Callable[[str], Step], ask: Ask) -> bool:
    return bool(text.strip()) and (await ask(alone(text))).action not in ("allow", "flag")
