"""A decision to rewrite → new parts. What comes out has been judged again: a rewrite passes only if that says flag or
laxer.

An exchange that shows a text and an image cannot say which of them offends, so the text is judged alone first: when it
passes, the image goes; when it does not, the text is rewritten and the image judged beside what stands there then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from turnguard.checking.redact import TooMany, redacted_call, redacted_definition, redacted_picture, redacted_text
from turnguard.core.action import Way
from turnguard.core.decision import Outcome
from turnguard.core.step import Image, Part, Step, Text, ToolCall, ToolDefinition

Judge = Callable[[Step], Awaitable[Outcome]]
"""Decides a step as the guard does, without rewriting it."""

ROUNDS = 4
JUDGEMENTS = 32
"""Re-judgements that one rewrite may cost; more means block."""


class Budget:
    """Counts re-judgements, and stops them at the bound."""

    def __init__(self, judge: Judge, most: int = JUDGEMENTS) -> None:
        self._judge = judge
        self._left = most

    async def __call__(self, step: Step) -> Outcome:
        if self._left <= 0:
            raise TooMany
        self._left -= 1
        return await self._judge(step)


async def rewrite(
    step: Step, parts: dict[int, Part | None], outcome: Outcome, judge: Judge, notice: str
) -> dict[int, Part | None] | None:
    """The parts to pass on beside the step's own (None: dropped), or None when no rewrite is acceptable.

    `parts` is what is left of the step's parts so far.
    """
    ask = Budget(judge)
    try:
        for _ in range(ROUNDS):
            await _round(step, parts, outcome.ways(), ask, notice)
            current, kept = _with_parts(step, parts)
            if current is None:
                parts[next(iter(parts))] = Text(notice)  # nothing is left: the person is told so
                break
            outcome = await ask(current)
            if outcome.action in ("allow", "flag"):
                break
            if outcome.action != "rewrite":
                return None
            outcome = _shifted(outcome, kept)
        else:
            return None
    except TooMany:
        return None
    return parts


async def _round(step: Step, parts: dict[int, Part | None], ways: dict[int, Way], ask: Budget, notice: str) -> None:
    """Rewrite the offending parts once."""
    words = [index for index in ways if isinstance(parts[index], (Text, ToolCall, ToolDefinition))]
    pictures = [index for index in ways if parts[index] is not None and index not in words]
    if words and pictures:
        alone, kept = _with_parts(step, {**parts, **dict.fromkeys(pictures)})
        assert alone is not None  # noqa: S101 - the words are left
        outcome = await ask(alone)
        if outcome.action in ("allow", "flag"):
            words = []
        else:
            ways = {**ways, **_shifted(outcome, kept).ways()}
            pictures = []
    for index in pictures:
        part = parts[index]
        by_tiles = isinstance(part, Image) and ways[index] == "redact"
        parts[index] = await redacted_picture(step, part, ask) if by_tiles else None  # type: ignore[arg-type]
    await _words(step, parts, words, ways, ask, notice)


async def _words(
    step: Step, parts: dict[int, Part | None], words: list[int], ways: dict[int, Way], ask: Budget, notice: str
) -> None:
    told = step.stage == "retrieval"
    for index in words:
        part = parts[index]
        if isinstance(part, ToolCall):
            parts[index] = await redacted_call(step, part, ask)
        elif isinstance(part, ToolDefinition):
            parts[index] = await redacted_definition(step, part, ask)
        elif isinstance(part, Text) and ways[index] == "redact":
            parts[index] = await redacted_text(step, part, ask, among_others=len(words) > 1)
        elif isinstance(part, Text) and ways[index] == "replace":
            # texts of one message are judged joined, so one notice stands for all of them; chunks each have their own
            first = step.stage == "retrieval" or not told
            parts[index] = Text(notice) if first else None
            told = True
        else:
            parts[index] = None


def _with_parts(step: Step, parts: Mapping[int, Part | None]) -> tuple[Step | None, tuple[int, ...]]:
    """The step with some parts replaced or left out, and which original index each remaining part has."""
    kept = [(index, parts.get(index, part)) for index, part in enumerate(step.parts)]
    remaining = [(index, part) for index, part in kept if part is not None]
    if not any(not isinstance(part, Text) or part.text.strip() for _, part in remaining):
        return None, ()
    return replace(step, parts=tuple(part for _, part in remaining)), tuple(index for index, _ in remaining)


def _shifted(outcome: Outcome, kept: tuple[int, ...]) -> Outcome:
    """The outcome of a shortened step, in the indexes of the original."""
    reasons = tuple(
        replace(reason, parts=tuple(kept[index] for index in reason.parts if index < len(kept)))
        for reason in outcome.reasons
    )
    return replace(outcome, reasons=reasons)
