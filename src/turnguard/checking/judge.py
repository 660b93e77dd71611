"""Prepare, judge, decide: a step becomes exchanges, verdicts, and what the policy makes of them. Nothing is changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from turnguard.checking.prepare import Inquiry, Limits, Plan, needs_media, prepare
from turnguard.core.decide import decide
from turnguard.core.decision import Outcome
from turnguard.core.errors import ModeratorError, Timeout
from turnguard.core.step import Document, Image, Step, Text
from turnguard.core.verdict import Coverage, Covered, Judgement, Verdict
from turnguard.moderators.base import Deadline, Moderator, about
from turnguard.runtime.within import within
from turnguard.text.windows import fits, room

if TYPE_CHECKING:
    from turnguard.config.settings import MediaSettings, ModeratorSettings
    from turnguard.core.policy import Policy
    from turnguard.media import Media
    from turnguard.text.own_messages import OwnWords

log = logging.getLogger("turnguard")

ANY_SERVER = 2000
"""Tokens that are believed to fit into every server, twice over: beyond, its own limit is asked for first."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A step, judged and decided."""

    plan: Plan
    judgements: tuple[Judgement, ...]
    coverage: Coverage
    outcome: Outcome


class Evaluator:
    """Evaluates steps with one moderator under one policy."""

    def __init__(
        self,
        policy: Policy,
        moderator: Moderator,
        media: Media,
        own_words: OwnWords,
        settings: ModeratorSettings,
        media_settings: MediaSettings,
    ) -> None:
        self.policy = policy
        self.moderator = moderator
        self._media = media
        self._own_words = own_words
        self._settings = settings
        self._media_settings = media_settings

    def deadline(self, step: Step) -> Deadline:
        """The one deadline of a check of this step: longer where images or documents must be read."""
        return Deadline.after(self._media_settings.deadline if _heavy(step) else self._settings.deadline)

    async def evaluate(self, step: Step, deadline: Deadline) -> Evaluation:
        """Prepare, judge and decide, without rewriting."""
        try:
            plan = await self._plan(step, deadline)
        except asyncio.TimeoutError:
            return _too_slow(step, self.policy)
        except Exception as error:  # noqa: BLE001 - whatever content does to its readers, it has not been judged
            log.error("a %s step could not be prepared: %s", step.stage, type(error).__name__)  # noqa: TRY400
            return _unprepared(step, self.policy, f"could not be prepared ({type(error).__name__})")
        judgements = await self._judge(plan.inquiries, deadline)
        coverage = _coverage(plan, judgements)
        outcome = decide(judgements, coverage, self.policy, step.stage, step.language)
        return Evaluation(plan, judgements, coverage, outcome)

    async def _plan(self, step: Step, deadline: Deadline) -> Plan:
        if self._surely_fits(step) and not _heavy(step):
            return await prepare(step, self._media, self._limits(None), self._own_words)
        return await within(deadline.remaining, self._prepared(step, deadline))

    async def _prepared(self, step: Step, deadline: Deadline) -> Plan:
        limits = self._limits((await about(self.moderator, deadline)).max_model_len)
        return await prepare(step, self._media, limits, self._own_words)

    def _surely_fits(self, step: Step) -> bool:
        """Whether no window can be needed, so that the server's own limit need not be known."""
        half = min(self._settings.max_input_tokens, ANY_SERVER) // 2
        return all(isinstance(part, Text) and fits(part.text, half) for part in step.parts)

    def _limits(self, max_model_len: int | None) -> Limits:
        tokens = room(self._settings.max_input_tokens, max_model_len)
        return Limits(tokens, self._settings.max_windows, self._media_settings.max_requests)

    async def _judge(self, inquiries: Sequence[Inquiry], deadline: Deadline) -> tuple[Judgement, ...]:
        """Each inquiry on its own: one that fails leaves the others' verdicts standing."""
        if len(inquiries) == 1:
            return (await self._ask(inquiries[0], deadline),)
        tasks = [asyncio.ensure_future(self._ask(inquiry, deadline)) for inquiry in inquiries]
        try:
            return tuple(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _ask(self, inquiry: Inquiry, deadline: Deadline) -> Judgement:
        before = _cancellations()
        try:
            verdict = await within(deadline.remaining, self.moderator.judge(inquiry.exchange, deadline))
            # a moderator may swallow the cancellation by which it was told to stop, and answer all the same
            deadline.check()
            if _cancellations() != before:
                raise asyncio.CancelledError
            if not isinstance(verdict, Verdict):
                raise TypeError(f"judge() gave {type(verdict).__name__}, no Verdict")
        except ModeratorError as error:
            verdict = Verdict(failure=error.failure, cause=error.cause)
        except asyncio.TimeoutError:
            verdict = Verdict(failure=Timeout.failure, cause="no verdict before the deadline")
        except asyncio.CancelledError:
            if before is None or _cancellations() != before:
                raise
            verdict = Verdict(failure="unavailable", cause="the moderator cancelled its own request")
        except Exception as error:  # noqa: BLE001 - whatever a moderator raises, it is no verdict
            log.error("the moderator raised %s; the policy's on_failure decides", type(error).__name__)  # noqa: TRY400
            verdict = Verdict(failure="unavailable", cause=f"the moderator raised {type(error).__name__}")
        entry = inquiry.covers[0]
        return Judgement(verdict, inquiry.decides, inquiry.parts, entry.detail, entry.kind)


def _cancellations() -> int | None:
    """How often this very task was asked to stop. Before Python 3.11 that is not known."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return None if cancelling is None else cancelling()


def _heavy(step: Step) -> bool:
    try:
        return needs_media(step)
    except Exception:  # noqa: BLE001 - preparing will meet the same content and say so
        return True


def _too_slow(step: Step, policy: Policy) -> Evaluation:
    """Preparing the step took until the deadline: a failure of this check for every part, whatever its kind."""
    heavy = any(isinstance(part, (Image, Document)) for part in step.parts)
    reading = "reading the step's images and documents took until the deadline"
    verdict = Verdict(failure=Timeout.failure, cause=reading if heavy else "no verdict before the deadline")
    judgements = (Judgement(verdict, "user", tuple(range(len(step.parts))), kind="other"),)
    return _unjudged(step, policy, judgements, verdict.cause or "", counts=False)


def _unprepared(step: Step, policy: Policy, cause: str) -> Evaluation:
    """Content that broke its reader: uncheckable, every part of it."""
    return _unjudged(step, policy, (), cause, counts=True)


def _unjudged(step: Step, policy: Policy, judgements: tuple[Judgement, ...], cause: str, *, counts: bool) -> Evaluation:
    entries = (Covered(index, part.kind, cause=cause, counts=counts) for index, part in enumerate(step.parts))
    coverage = Coverage((), tuple(entries))
    outcome = decide(judgements, coverage, policy, step.stage, step.language)
    return Evaluation(Plan(list(step.parts)), judgements, coverage, outcome)


def _coverage(plan: Plan, judgements: Sequence[Judgement]) -> Coverage:
    """What was judged, and what was not: unreadable, over a budget, or failed (which `on_failure` decides, not this
    list).
    """
    judged: dict[Covered, None] = {}
    not_judged = list(plan.not_judged)
    for inquiry, judgement in zip(plan.inquiries, judgements, strict=True):
        if judgement.verdict.failure is None:
            judged.update(dict.fromkeys(inquiry.covers))
        else:
            not_judged += [replace(entry, cause=judgement.verdict.cause, counts=False) for entry in inquiry.covers]
    return Coverage(tuple(judged), tuple(dict.fromkeys(not_judged)))
