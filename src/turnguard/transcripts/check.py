"""A transcript → a decision for each of its parts, old and new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

from turnguard.config.settings import ChecksSettings, ModeratorSettings
from turnguard.core.decision import Decision
from turnguard.core.policy import Policy
from turnguard.core.step import Step
from turnguard.core.verdict import Covered
from turnguard.transcripts.conversation import Conversation, Piece, Request
from turnguard.transcripts.message import Reading, read_message
from turnguard.transcripts.seen import Seen


class Judge(Protocol):
    """What judges a transcript's steps; a `Guard` does."""

    checks: ChecksSettings
    moderator_settings: ModeratorSettings
    seen: Seen

    def chosen(self, policy: str | Policy | None = None) -> Policy:
        """The policy of that name; without one the guard's own."""
        ...

    async def acheck_parts(
        self,
        step: Step,
        where: Sequence[tuple[int, int]] = (),
        *,
        policy: str | Policy | None = None,
        hold: bool = True,
    ) -> list[Decision]:
        """One decision for each part of the step."""
        ...

    async def identity(self, *, policy: str | Policy | None = None) -> str:
        """Which model judges, under which policy: what was judged by another one is judged anew."""
        ...


@dataclass(slots=True)
class _New:
    """A message that was not judged before, and under which request it stands."""

    message: Any
    reading: Reading
    before: Request
    after: Request
    called: frozenset[str]
    decisions: list[Decision] = field(default_factory=list)


@dataclass(slots=True)
class Transcript:
    """A transcript on its way to its decisions. `readings` has None for messages of a trusted role."""

    readings: list[Reading | None] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    new: dict[int, _New] = field(default_factory=dict)
    unjudged: list[tuple[tuple[int, int], Covered]] = field(default_factory=list)


async def check_messages(
    guard: Judge,
    messages: Sequence[Mapping[str, Any]],
    only: Container[int] | None = None,
    *,
    policy: str | Policy | None = None,
    metadata: Mapping[str, str] | None = None,
) -> list[Decision]:
    """One decision per part, in order; see `Guard.acheck_messages`.

    `only` names the messages to judge; the others then merely give the request that an output or a call answers.
    """
    return (await check(guard, messages, only, policy=policy, metadata=metadata)).decisions


async def check(
    guard: Judge,
    messages: Sequence[Mapping[str, Any]],
    only: Container[int] | None = None,
    *,
    policy: str | Policy | None = None,
    metadata: Mapping[str, str] | None = None,
    hold: bool = True,
) -> Transcript:
    """What each message holds, and the decisions. Raises `TypeError` for what is no list of messages.

    Parts under review are held for a person, unless `hold` is false.
    """
    if isinstance(messages, (str, bytes, Mapping)):
        raise TypeError(
            f"messages must be a list of messages, not {type(messages).__name__}: "
            'pass [{"role": "user", "content": "..."}]'
        )
    chosen = guard.chosen(policy)  # once: all parts of a transcript are decided by the same policy
    judge = await guard.identity(policy=chosen)
    tenant = (metadata or {}).get("tenant")  # no tenant is told that another has asked
    scope = chosen.digest if tenant is None else f"{chosen.digest} {tenant}"
    transcript = Transcript()
    _read(transcript, guard, messages, only, judge, scope)
    if metadata:
        transcript.pieces = [replace(each, step=replace(each.step, metadata=metadata)) for each in transcript.pieces]
    await _decide(transcript, guard, chosen, hold=hold)
    for new in transcript.new.values():
        decided = tuple(new.decisions)
        guard.seen.keep(new.message, new.reading, decided, new.before, new.after, judge, scope, called=new.called)
    transcript.decisions.sort(key=attrgetter("where"))  # everything that was cut from a transcript has its place
    _list_unjudged(transcript.decisions, transcript.unjudged)
    return transcript


def _read(
    transcript: Transcript, guard: Judge, messages: Sequence[Any], only: Container[int] | None, judge: str, scope: str
) -> None:
    """Recognise what was judged before, and cut the rest into steps."""
    conversation = Conversation(guard.checks.history)
    trusted = guard.checks.trusted_roles
    now = time.monotonic()
    for number, message in enumerate(messages):
        wanted = only is None or number in only
        role = message.get("role") if isinstance(message, (dict, Mapping)) else None
        if isinstance(role, str) and role in trusted:
            transcript.readings.append(None)
            if wanted:
                transcript.unjudged.append(((number, 0), _unjudged(f"message {number} ({role})", "trusted role")))
            continue
        before = conversation.request
        known = guard.seen.find(message, conversation, judge, scope, now)
        if known is not None:
            transcript.readings.append(known.reading)
            conversation.skip(known.reading, known.after)
            if wanted:
                transcript.decisions += known.at(number)
            continue
        reading = read_message(message)
        transcript.readings.append(reading)
        called = conversation.called(reading)
        found = conversation.pieces(number, reading)
        if not wanted:
            continue
        if not found:
            transcript.unjudged.append(((number, 0), _unjudged(f"message {number}", "empty")))
            continue
        transcript.pieces += found
        transcript.new[number] = _New(message, reading, before, conversation.request, called)


async def _decide(transcript: Transcript, guard: Judge, policy: Policy, *, hold: bool) -> None:
    pieces = transcript.pieces
    ask = partial(guard.acheck_parts, policy=policy, hold=hold)
    if len(pieces) == 1:
        (piece,) = pieces  # the usual turn: a task of its own would cost more than deciding
        decided: Sequence[list[Decision]] = [await ask(piece.step, piece.where)]
    else:
        # a long transcript must not fill the queue by itself: what does not fit there fails
        room = asyncio.Semaphore(guard.moderator_settings.max_in_flight)

        async def decide(piece: Piece) -> list[Decision]:
            async with room:
                return await ask(piece.step, piece.where)

        decided = await asyncio.gather(*map(decide, pieces))
    for piece, decisions in zip(pieces, decided, strict=True):
        transcript.decisions += decisions
        transcript.new[piece.message].decisions += decisions


def _unjudged(detail: str, cause: str) -> Covered:
    return Covered(None, "text", detail, cause, counts=False)


def _list_unjudged(decisions: list[Decision], unjudged: Sequence[tuple[tuple[int, int], Covered]]) -> None:
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
        decisions[at] = replace(decisions[at], coverage=replace(coverage, not_judged=(*coverage.not_judged, *entries)))
