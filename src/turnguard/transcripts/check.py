"""A transcript → a decision for each of its parts, old and new."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from turnguard.config.settings import ChecksSettings, ModeratorSettings
from turnguard.core.decision import Decision
from turnguard.core.step import Step
from turnguard.core.verdict import Coverage, Covered
from turnguard.transcripts.conversation import Conversation, Piece
from turnguard.transcripts.message import Reading, read_message


class Judge(Protocol):
    """What judges a transcript's steps; a `Guard` does."""

    checks: ChecksSettings
    moderator_settings: ModeratorSettings

    async def acheck_parts(self, step: Step, where: Sequence[tuple[int, int]] = ()) -> list[Decision]:
        """One decision for each part of the step."""
        ...


async def check_messages(
    guard: Judge, messages: Sequence[Mapping[str, Any]], only: Container[int] | None = None
) -> list[Decision]:
    """One decision per part, in order; see `Guard.acheck_messages`.

    `only` names the messages to judge; the others then merely give the request that an output or a call answers.
    """
    return (await check(guard, messages, only))[1]


async def check(
    guard: Judge, messages: Sequence[Mapping[str, Any]], only: Container[int] | None = None
) -> tuple[list[Reading | None], list[Decision]]:
    """What each message holds (None where its role is trusted), and the decisions."""
    readings: list[Reading | None] = []
    pieces: list[Piece] = []
    unjudged: list[tuple[tuple[int, int], Covered]] = []
    conversation = Conversation(guard.checks.history)
    for number, message in enumerate(messages):
        role = message.get("role") if _is_mapping(message) else None
        if isinstance(role, str) and role in guard.checks.trusted_roles:
            unjudged.append(((number, 0), _unjudged(f"message {number} ({role})", "trusted role")))
            readings.append(None)
            continue
        reading = read_message(message)
        readings.append(reading)
        found = conversation.pieces(number, reading)
        if not found:
            unjudged.append(((number, 0), _unjudged(f"message {number}", "empty")))
        pieces += found
    if only is not None:
        pieces = [piece for piece in pieces if piece.message in only]
        unjudged = [(where, entry) for where, entry in unjudged if where[0] in only]
    decisions = [decision for parts in await _decided(guard, pieces) for decision in parts]
    decisions.sort(key=lambda decision: decision.where or (0, 0))
    return readings, _with_unjudged(decisions, unjudged)


async def _decided(guard: Judge, pieces: Sequence[Piece]) -> Sequence[list[Decision]]:
    if len(pieces) == 1:
        (piece,) = pieces  # the usual turn: a task of its own would cost more than deciding
        return [await guard.acheck_parts(piece.step, piece.where)]
    # a long transcript must not fill the queue by itself: what does not fit there fails
    room = asyncio.Semaphore(guard.moderator_settings.max_in_flight)

    async def decided(piece: Piece) -> list[Decision]:
        async with room:
            return await guard.acheck_parts(piece.step, piece.where)

    return await asyncio.gather(*map(decided, pieces))


def _is_mapping(message: object) -> bool:
    """What a client sent need not be what the type says."""
    return isinstance(message, Mapping)


def _unjudged(detail: str, cause: str) -> Covered:
    return Covered(None, "text", detail, cause, counts=False)


def _with_unjudged(decisions: list[Decision], unjudged: Sequence[tuple[tuple[int, int], Covered]]) -> list[Decision]:
    """Trusted and empty messages stand in the coverage of the next decision, or of the last one."""
    listed: dict[int, list[Covered]] = {}
    index = 0
    for where, entry in unjudged:
        while index < len(decisions) - 1 and (decisions[index].where or (0, 0)) <= where:
            index += 1
        if decisions:
            listed.setdefault(index, []).append(entry)
    for at, entries in listed.items():
        coverage = decisions[at].coverage
        coverage = Coverage(coverage.judged, (*coverage.not_judged, *entries))
        decisions[at] = replace(decisions[at], coverage=coverage)
    return decisions
