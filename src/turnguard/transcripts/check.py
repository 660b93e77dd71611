"""A transcript → a decision for each of its parts, old and new.

The client may have written every message of it, so a role only says how a part is judged, never that it is to be
believed; `trusted_roles` are the exception that the developer states. What was judged before is remembered and costs no
request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from turnguard.config.settings import ChecksSettings, ModeratorSettings
from turnguard.core.decision import Decision
from turnguard.core.step import Image, Opaque, Part, Step, Text, ToolCall
from turnguard.core.verdict import Coverage, Covered
from turnguard.transcripts.blocks import read, read_beside

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_PLAIN_ROLE = re.compile(r"\s*[\w.:/+\-]{0,64}\s*")
_READ_APART = ("content", "tool_calls", "function_call")
_NO_TEXT = {"object", "finish_reason", "stop_reason"}
_FUNCTIONS = ("function", "custom")
_ARGUMENTS = ("arguments", "args", "input")


class Judge(Protocol):
    """What judges a transcript's steps; a `Guard` does."""

    checks: ChecksSettings
    moderator_settings: ModeratorSettings

    async def acheck_parts(self, step: Step, where: Sequence[tuple[int, int]] = ()) -> list[Decision]:
        """One decision for each part of the step."""
        ...


@dataclass(frozen=True, slots=True)
class _Piece:
    """A step cut out of a message, and the message's part indexes that it holds."""

    message: int
    indexes: tuple[int, ...]
    step: Step

    @property
    def where(self) -> list[tuple[int, int]]:
        """For each part of the step, where it stands."""
        return [(self.message, index) for index in self.indexes]


async def check_messages(
    guard: Judge, messages: Sequence[Mapping[str, Any]], only: Container[int] | None = None
) -> list[Decision]:
    """One decision per part, in order; see `Guard.acheck_messages`.

    `only` names the messages to judge; the others then merely give the request that an output or a call answers.
    """
    unjudged: list[tuple[tuple[int, int], Covered]] = []
    pieces = list(_pieces(guard, messages, unjudged))
    if only is not None:
        pieces = [piece for piece in pieces if piece.message in only]
        unjudged = [(where, entry) for where, entry in unjudged if where[0] in only]
    decisions = [decision for parts in await _decided(guard, pieces) for decision in parts]
    decisions.sort(key=lambda decision: decision.where or (0, 0))
    return _with_unjudged(decisions, unjudged)


async def _decided(guard: Judge, pieces: Sequence[_Piece]) -> Sequence[list[Decision]]:
    if len(pieces) == 1:
        (piece,) = pieces  # the usual turn: a task of its own would cost more than deciding
        return [await guard.acheck_parts(piece.step, piece.where)]
    # a long transcript must not fill the queue by itself: what does not fit there fails
    room = asyncio.Semaphore(guard.moderator_settings.max_in_flight)

    async def decided(piece: _Piece) -> list[Decision]:
        async with room:
            return await guard.acheck_parts(piece.step, piece.where)

    return await asyncio.gather(*map(decided, pieces))


def _pieces(
    guard: Judge, messages: Sequence[Mapping[str, Any]], unjudged: list[tuple[tuple[int, int], Covered]]
) -> Iterator[_Piece]:
    prompt: str | None = None
    prompt_images: tuple[Image, ...] = ()
    earlier: list[str] = []
    for number, message in enumerate(messages):
        role = message.get("role") if _is_mapping(message) else None
        if isinstance(role, str) and role in guard.checks.trusted_roles:
            entry = Covered(None, "text", f"message {number} ({role})", "trusted role", counts=False)
            unjudged.append(((number, 0), entry))
            continue
        parts = _parts(message)
        if not parts:
            entry = Covered(None, "text", f"message {number}", "empty", counts=False)
            unjudged.append(((number, 0), entry))
            continue
        calls = [(index, part) for index, part in enumerate(parts) if isinstance(part, ToolCall)]
        others = [(index, part) for index, part in enumerate(parts) if not isinstance(part, ToolCall)]
        content = tuple(part for _, part in others)
        indexes = tuple(index for index, _ in others)
        if role == "assistant":
            if content:
                step = Step("output", content, prompt=prompt, prompt_images=prompt_images)
                yield _Piece(number, indexes, step)
        elif role in ("tool", "function"):
            name = message.get("name")
            # a call that stands in a result is text of the result like any other
            step = Step("tool_result", parts, prompt=prompt, tool=name if isinstance(name, str) else None)
            yield _Piece(number, tuple(range(len(parts))), step)
            continue
        elif content:
            history = tuple(earlier[-guard.checks.history :]) if guard.checks.history else ()
            yield _Piece(number, indexes, Step("input", content, history=history))
            prompt = "\n".join(part.text for part in content if isinstance(part, Text)) or None
            prompt_images = tuple(part for part in content if isinstance(part, Image))
            earlier += [prompt] if prompt else []
        for index, call in calls:
            step = Step("tool_call", (call,), prompt=prompt, prompt_images=prompt_images, tool=call.name)
            yield _Piece(number, (index,), step)


def _is_mapping(message: object) -> bool:
    """What a client sent need not be what the type says."""
    return isinstance(message, Mapping)


def _parts(message: Any) -> tuple[Part, ...]:
    """A message's parts in order: content, what stands beside it, tool calls. Empty text gives none."""
    if not isinstance(message, Mapping):
        return (Opaque("other", f"a message that is no mapping but {type(message).__name__}"),)
    parts: list[Part] = [block.part for block in read(message.get("content"))]
    said = {part.text for part in parts if isinstance(part, Text)}
    for key, value in message.items():
        for part in () if key in _READ_APART or _is_plain(key, value) else read_beside(key, value):
            if not isinstance(part, Text):
                parts.append(part)
            elif part.text not in said:  # servers send reasoning under two names
                said.add(part.text)
                parts.append(part)
    calls = message.get("tool_calls")
    if isinstance(calls, Sequence) and not isinstance(calls, (str, bytes, bytearray)):
        for call in calls:
            parts += _call(call)
    elif calls:
        parts.append(Opaque("other", "tool calls that are no list"))
    called = message.get("function_call")
    if called is not None:
        parts += _call({"function": called}) if isinstance(called, Mapping) else read_beside("function_call", called)
    return tuple(parts)


def _is_plain(key: object, value: Any) -> bool:
    """Whether what stands beside the content holds nothing to judge."""
    if not _holds(value):
        return isinstance(key, str) and _PLAIN_NAME.fullmatch(key) is not None
    if key == "role":  # whatever it is, it grants nothing
        return isinstance(value, str) and _PLAIN_ROLE.fullmatch(value) is not None
    # the wire allows plain names only; other text in its place is content
    return isinstance(value, str) and (
        (key == "name" and (not value.strip() or _PLAIN_NAME.fullmatch(value) is not None))
        or (key in _NO_TEXT and _PLAIN_NAME.fullmatch(value) is not None)
    )


def _call(call: Any) -> list[Part]:
    """A tool call in OpenAI's form or LangChain's, and whatever else stands in it.

    Which of two names or arguments would be run is the executor's choice: both are shown, and the call counts as
    unchecked.
    """
    if not isinstance(call, Mapping):
        return [Opaque("other", "a tool call that is no mapping")]
    holders = [call, *(call[key] for key in _FUNCTIONS if isinstance(call.get(key), Mapping))]
    beside = [
        part
        for holder in holders
        for key, value in holder.items()
        if not (
            (key == "name" and isinstance(value, str))
            or key in _ARGUMENTS
            or (holder is call and key in _FUNCTIONS and isinstance(value, Mapping))
            or _is_plain(key, value)
        )
        for part in read_beside(key, value)
    ]
    said = (holder.get("name") for holder in holders)
    names = list(dict.fromkeys(name for name in said if isinstance(name, str) and name))
    given = [value for holder in holders for key in _ARGUMENTS if _holds(value := holder.get(key))]
    identifier = call.get("id") if isinstance(call.get("id"), str) else None
    if not names and not given:
        return [Opaque("other", "a tool call without a function"), *beside]
    name = names[0] if names else ""
    if len(names) > 1 or len(given) > 1:
        doubled = ToolCall(name, {"names": names, "arguments": given}, identifier)
        return [doubled, Opaque("other", "two calls in one tool call"), *beside]
    arguments: Any = given[0] if given else {}
    if not isinstance(arguments, (str, Mapping)):
        arguments = {"arguments": arguments}
    return [ToolCall(name, arguments, identifier), *beside]


def _holds(value: Any) -> bool:
    return value is not None and not (isinstance(value, (str, Sequence, Mapping)) and not value)


def _with_unjudged(decisions: list[Decision], unjudged: Sequence[tuple[tuple[int, int], Covered]]) -> list[Decision]:
    """Trusted and empty messages stand in the coverage of the next decision, or of the last one."""
    for where, entry in unjudged:
        after = (index for index, decision in enumerate(decisions) if (decision.where or (0, 0)) > where)
        index = next(after, len(decisions) - 1)
        if index >= 0:
            coverage = decisions[index].coverage
            listed = Coverage(coverage.judged, (*coverage.not_judged, entry))
            decisions[index] = replace(decisions[index], coverage=listed)
    return decisions
