"""Decisions → the transcript to use instead, in its own dialect, valid for its provider.

Three rules keep the provider's shape. A call and its result go together. A signed block is kept whole or dropped whole,
and the calls that follow it in its message go with it. What is withheld leaves a block of text in its dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from turnguard.core.decision import Decision
from turnguard.core.policy import Policy
from turnguard.core.step import Document, Image, Part
from turnguard.transcripts.check import Judge, check
from turnguard.transcripts.envelope import Edit, write_message
from turnguard.transcripts.message import Reading
from turnguard.transcripts.pairs import Entry, Pairs, Place
from turnguard.transcripts.write import GONE


class Guards(Judge, Protocol):
    """What judges a transcript and words its notices; a `Guard` does."""

    def removed(self, decision: Decision, *, policy: str | Policy | None = None) -> str:
        """What stands where something was taken out."""
        ...


Notice = Callable[[Decision], str]
"""What to write where something was withheld."""


async def guard_messages(
    guard: Guards,
    messages: Sequence[Any],
    only: Container[int] | None = None,
    *,
    policy: str | Policy | None = None,
    metadata: Mapping[str, str] | None = None,
    hold: bool = True,
) -> tuple[list[Any], list[Decision]]:
    """See `Guard.aguard_messages`. `only` names the messages to judge, as for `check_messages`.

    `hold` is as in `Guard.acheck`.
    """
    chosen = guard.chosen(policy)
    transcript = await check(guard, messages, only, policy=chosen, metadata=metadata, hold=hold)
    decisions = transcript.decisions
    return rewritten(messages, transcript.readings, decisions, partial(guard.removed, policy=chosen)), decisions


def rewritten(
    messages: Sequence[Any], readings: Sequence[Reading | None], decisions: Sequence[Decision], notice: Notice
) -> list[Any]:
    """The messages with every decision carried out. A message in which nothing changed is the same object."""
    changed = [decision for decision in decisions if decision.where is not None and _is_changed(decision, readings)]
    if not changed:
        return list(messages)
    pairs = Pairs(messages, readings)
    dropped = _dropped(pairs, changed, notice)
    edits: dict[int, list[Edit]] = {}
    for decision in changed:
        assert decision.where is not None  # noqa: S101 - just asked
        entry = pairs.entry(decision.where)
        if entry not in dropped:
            made = None if decision.withheld else decision.parts[0]
            edits.setdefault(entry[0], []).append(Edit(decision.where[1], made, notice(decision)))
    out: list[Any] = []
    for number, message in enumerate(messages):
        reading = readings[number]
        gone = {(entry[1], entry[2]): text for entry, text in dropped.items() if entry[0] == number}
        if reading is None or (not gone and number not in edits):
            out.append(message)
            continue
        new = write_message(message, reading, gone, edits.get(number, ()))
        if new is not GONE:
            out.append(new)
    return out


def _is_changed(decision: Decision, readings: Sequence[Reading | None]) -> bool:
    place: Place = decision.where or (0, 0)
    reading = readings[place[0]]
    if reading is None or place[1] >= len(reading.leaves):
        return False
    original = reading.leaves[place[1]].block.part
    if decision.parts[0] is original:  # the usual part
        return False
    if decision.withheld:
        return True
    return decision.parts[0] != original and (not decision.allowed or _is_fetched(original))


def _is_fetched(part: Part) -> bool:
    """Whether what was judged was fetched: then the judged bytes are passed on, not the address."""
    source = part.source if isinstance(part, (Image, Document)) else None
    return isinstance(source, str) and source[:5].lower() != "data:"


def _dropped(pairs: Pairs, changed: Sequence[Decision], notice: Notice) -> dict[Entry, str]:
    """The blocks that go as a whole, and what to write in their place."""
    dropped: dict[Entry, str] = {}
    for decision in changed:
        assert decision.where is not None  # noqa: S101 - the caller chose those that have one
        entry = pairs.entry(decision.where)
        region = pairs.leaf(decision.where).block.region
        unpaired = decision.withheld and (region == "call" or (region == "result" and pairs.ran(entry)))
        if unpaired or (not decision.allowed and pairs.signed(entry)):
            for each in pairs.together(entry):
                dropped.setdefault(each, notice(decision))
    for orphan in list(pairs.orphans(dropped)):
        dropped[orphan] = next(iter(dropped.values()))
    return dropped
