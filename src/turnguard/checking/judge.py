"""Ask the moderator each request of a check, and decide what the policy makes of its verdicts. Nothing is changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from turnguard.checking.check import Check, Inquiry, Plan
from turnguard.core.decide import decide
from turnguard.core.errors import ModeratorError, Rejected, Timeout
from turnguard.core.verdict import Coverage, Covered, Judgement, Verdict
from turnguard.moderators.base import Deadline, Moderator

log = logging.getLogger("turnguard")

TOO_LONG = "longer than the model's context"


async def judge(check: Check) -> None:
    """Judge each request on its own (one that fails leaves the others' verdicts standing), and decide."""
    plan = check.plan
    answers: Sequence[Judgement | None]
    if plan.failed is not None:
        answers = (plan.failed,)
    elif len(plan.inquiries) == 1:
        answers = (await _ask(check.setup.moderator, plan.inquiries[0], check.deadline),)
    else:
        asked = (_ask(check.setup.moderator, inquiry, check.deadline) for inquiry in plan.inquiries)
        answers = await _together([asyncio.ensure_future(each) for each in asked])
    check.judgements = tuple(filter(None, answers))
    check.coverage = _coverage(plan, answers)
    check.outcome = decide(check.judgements, check.coverage, check.policy, check.step.stage, check.step.language)


def fail(check: Check, cause: str) -> None:
    """Make a check that was judged a failed one: the policy's `on_failure` decides beside its verdicts."""
    verdict = Verdict(failure="unavailable", cause=cause)
    failed = Judgement(verdict, "user", tuple(range(len(check.step.parts))), kind="other")
    check.judgements = (*check.judgements, failed)
    check.outcome = decide(check.judgements, check.coverage, check.policy, check.step.stage, check.step.language)


async def _together(tasks: Sequence[asyncio.Future[Judgement | None]]) -> tuple[Judgement | None, ...]:
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _ask(moderator: Moderator, inquiry: Inquiry, deadline: Deadline) -> Judgement | None:
    """The judgement of one request; None where its content does not fit into the model's context."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    before = task.cancelling()
    try:
        async with asyncio.timeout(deadline.remaining):
            verdict = await moderator.judge(inquiry.exchange, deadline)
        # a moderator may swallow the cancellation by which it was told to stop, and answer all the same
        deadline.check()
        if task.cancelling() != before:
            raise asyncio.CancelledError
        if not isinstance(verdict, Verdict):
            raise TypeError(f"judge() gave {type(verdict).__name__}, no Verdict")
    except ModeratorError as error:
        if isinstance(error, Rejected) and error.too_long:
            return None
        verdict = Verdict(failure=error.failure, cause=error.cause)
    except TimeoutError:
        verdict = Verdict(failure=Timeout.failure, cause="no verdict before the deadline")
    except asyncio.CancelledError:
        if task.cancelling() != before:
            raise
        verdict = Verdict(failure="unavailable", cause="the moderator cancelled its own request")
    except Exception as error:  # noqa: BLE001 - whatever a moderator raises, it is no verdict
        log.error("the moderator raised %s; the policy's on_failure decides", type(error).__name__)  # noqa: TRY400
        verdict = Verdict(failure="unavailable", cause=f"the moderator raised {type(error).__name__}")
    entry = inquiry.covers[0]
    return Judgement(verdict, inquiry.decides, inquiry.parts, entry.detail, entry.kind)


def _coverage(plan: Plan, answers: Sequence[Judgement | None]) -> Coverage:
    """What was judged, and what was not: unreadable, over a budget, or failed (`on_failure` decides that)."""
    if len(plan.inquiries) == 1 and not plan.not_judged and not plan.reduced:
        answer = answers[0]
        if answer is not None and answer.verdict.failure is None:  # the usual check
            return Coverage(plan.inquiries[0].covers)
    judged: dict[Covered, None] = {}
    not_judged = list(plan.not_judged)
    # where preparing failed, one judgement stands for all and nothing was asked
    for inquiry, judgement in zip(plan.inquiries, answers, strict=plan.failed is None):
        if judgement is None:
            not_judged += [replace(entry, cause=TOO_LONG) for entry in inquiry.covers]
        elif judgement.verdict.failure is None:
            judged.update(dict.fromkeys(inquiry.covers))
        else:
            cause = judgement.verdict.cause
            not_judged += [replace(entry, cause=cause, counts=False, failed=True) for entry in inquiry.covers]
    return Coverage(tuple(judged), tuple(dict.fromkeys(not_judged)), tuple(dict.fromkeys(plan.reduced)))
