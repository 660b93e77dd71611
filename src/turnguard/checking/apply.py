"""Carry an outcome out: pass on, rewrite, or withhold with a message in the person's language."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from turnguard.core.decide import decide
from turnguard.core.decision import Decision, Outcome
from turnguard.core.step import Part, Step, Text
from turnguard.core.verdict import Coverage
from turnguard.moderators.base import Deadline
from turnguard.runtime.compat import timeout
from turnguard.text import language

if TYPE_CHECKING:
    from turnguard.checking.judge import Evaluation, Evaluator
    from turnguard.text.own_messages import OwnWords

log = logging.getLogger("turnguard")


class Applier:
    """Turns evaluations into decisions."""

    def __init__(self, evaluator: Evaluator, own_words: OwnWords) -> None:
        self._evaluator = evaluator
        self._policy = evaluator.policy
        self._own_words = own_words

    async def apply(
        self,
        step: Step,
        evaluation: Evaluation,
        deadline: Deadline,
        started: float,
        where: tuple[int, int] | None = None,
    ) -> Decision:
        """The decision on a step. `started` is the `perf_counter` moment at which the check began; `where` as in
        `Decision`.
        """
        outcome = evaluation.outcome
        pinned = tuple(evaluation.plan.parts)
        parts: tuple[Part | None, ...] | None = pinned
        theirs = step.language
        message: str | None = None
        if outcome.action not in ("allow", "flag"):
            theirs = await _language(step, deadline)
        if outcome.action == "rewrite":
            parts = await self._rewrite(replace(step, parts=pinned), outcome, deadline, theirs or "en")
            if parts is None:
                outcome = replace(outcome, action="block")
        if outcome.action in ("block", "review"):
            parts = (None,) * len(pinned)
            message = self.message(outcome, theirs or "en")
        assert parts is not None  # noqa: S101 - a rewrite that failed became a block
        return Decision(
            stage=step.stage,
            action=outcome.action,
            outcome=outcome,
            judgements=evaluation.judgements,
            coverage=evaluation.coverage,
            parts=parts,
            message=message,
            held=pinned if outcome.action == "review" else (),
            language=theirs or "en",
            policy_digest=self._policy.digest,
            latency=time.perf_counter() - started,
            id=os.urandom(12).hex(),
            where=where,
        )

    def of_part(
        self, index: int, step: Step, evaluation: Evaluation, whole: Decision, where: tuple[int, int] | None
    ) -> Decision:
        """The decision for one part of a step that was decided as a whole."""
        judgements = tuple(judgement for judgement in evaluation.judgements if index in judgement.parts)
        coverage = Coverage(
            tuple(entry for entry in evaluation.coverage.judged if entry.part == index),
            tuple(
                entry
                for entry in evaluation.coverage.not_judged
                if entry.part == index or (entry.part is None and index == 0)
            ),
        )
        outcome = decide(judgements, coverage, self._policy, step.stage, step.language)
        pinned = evaluation.plan.parts[index]
        part: Part | None = pinned
        if outcome.action == "rewrite":
            # what became of it was worked out for the whole step; without an acceptable rewrite it is withheld
            part = whole.parts[index]
            if whole.action != "rewrite":
                outcome = replace(outcome, action="block")
        elif whole.action == "rewrite" and whole.parts[index] != pinned and outcome.action in ("allow", "flag"):
            # rewriting found that it offends beside what stands there now
            part = whole.parts[index]
            outcome = replace(outcome, action="rewrite", decisive=whole.outcome.decisive)
        withheld = outcome.action in ("block", "review")
        return replace(
            whole,
            action=outcome.action,
            outcome=outcome,
            judgements=judgements,
            coverage=coverage,
            parts=(None,) if withheld else (part,),
            message=self.message(outcome, whole.language) if withheld else None,
            held=(pinned,) if outcome.action == "review" else (),
            id=f"{whole.id}-{index}",
            where=where,
        )

    def message(self, outcome: Outcome, language: str) -> str:
        """The strictest fired rule's message, in the person's language where there is one."""
        from turnguard.text.messages import message_for

        kind = "failure" if outcome.failed else "uncheckable" if outcome.uncheckable else "verdict"
        categories = [reason.category for reason in outcome.decisive if reason.category]
        text = message_for(
            categories=categories,
            kind=kind,  # type: ignore[arg-type]
            language=language,
            overrides=self._policy.messages,
        )
        self._own_words.add(text)
        return text

    async def _rewrite(
        self, step: Step, outcome: Outcome, deadline: Deadline, language: str
    ) -> tuple[Part | None, ...] | None:
        from turnguard.checking.rewrite import rewrite

        async def judge(part_of_step: Step) -> Outcome:
            return (await self._evaluator.evaluate(part_of_step, deadline)).outcome

        return await rewrite(step, outcome, judge, self.message(outcome, language))


async def _language(step: Step, deadline: Deadline) -> str:
    """The language given, or guessed from the person's own text, else English."""
    if step.language is not None:
        return step.language
    if step.stage == "input":
        theirs = "\n".join(part.text for part in step.parts if isinstance(part, Text))
    else:
        theirs = step.prompt or ""
    if not theirs.strip():
        return "en"
    try:
        if language.ready() or len(theirs) < 3:
            return language.guess(theirs)
        # the first guess of a process reads a model for about a second: off the loop, and never past the deadline
        async with timeout(max(0.05, deadline.remaining)):
            return await asyncio.to_thread(language.guess, theirs)
    except asyncio.TimeoutError:
        return "en"
    except Exception as error:  # noqa: BLE001 - no descriptor, thread or memory for it: the decision is made all the same
        log.warning("the language of a message could not be guessed: %s", type(error).__name__)
        return "en"
