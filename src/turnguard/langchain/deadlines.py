"""One deadline for one step, however often it is asked about.

A stream's calls are checked by their beginnings, so that nothing of them is shown unjudged, and once more when they are
whole. Where the first check failed, the second one has only the time that the first has left: a server that hangs costs
the turn one deadline, not two.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol

from turnguard.core.decision import Decision
from turnguard.core.step import Step, ToolCall
from turnguard.guard import Guard
from turnguard.transcripts.message import same_arguments


class Judges(Protocol):
    """Judges steps; `guard` says how long one may take."""

    guard: Guard

    async def check(self, step: Step) -> Decision:
        """Judge a step."""
        ...


class Attempts:
    """The failed checks of one message's beginnings, by what was checked: a call's id, or the name of a part of it."""

    def __init__(self) -> None:
        self._failed: dict[str, tuple[Step, Decision]] = {}

    def note(self, key: str | None, step: Step, decision: Decision) -> None:
        """Remember the newest check of a beginning, if it failed."""
        if key is not None and decision.failed:
            self._failed[key] = (step, decision)
        elif key in self._failed:
            del self._failed[key]

    async def check(self, judging: Judges, key: str | None, step: Step) -> Decision:
        """Decide the whole: in the time that is left where its beginning could not be checked, else as ever.

        When no time is left, or it runs out, the failure of the beginning is the failure of the whole. One that the
        policy lets pass stands for the same content alone: what came after it was never asked about.
        """
        begun, failed = self._failed.get(key, (None, None)) if key is not None else (None, None)
        if begun is None or failed is None or (failed.allowed and not _same(begun, step)):
            return await judging.check(step)
        left = judging.guard.moderator_settings.deadline - failed.latency
        if left > 0.0:
            try:
                async with asyncio.timeout(left):
                    return await judging.check(step)
            except TimeoutError:
                pass
        parts = step.parts if failed.allowed else (None,) * len(step.parts)
        return replace(failed, parts=parts, held=step.parts if failed.action == "review" else ())


def _same(begun: Step, step: Step) -> bool:
    """Whether the beginning was already all of it. The arguments of a call are text while they are streamed."""
    if len(begun.parts) != len(step.parts):
        return False
    return all(
        one.name == other.name and same_arguments(one.arguments, other.arguments)
        if isinstance(one, ToolCall) and isinstance(other, ToolCall)
        else one == other
        for one, other in zip(begun.parts, step.parts, strict=True)
    )
