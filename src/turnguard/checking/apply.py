"""Carry an outcome out: pass on, rewrite, or withhold with a message in the person's language."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import replace

from turnguard.checking.check import Check, Setup
from turnguard.checking.judge import judge
from turnguard.checking.prepare import prepare
from turnguard.checking.rewrite import rewrite
from turnguard.checking.trim import trimmed, with_notices
from turnguard.core.decide import in_shadow
from turnguard.core.decision import MOST_CAUSES, Decision, Outcome
from turnguard.core.policy import Policy
from turnguard.core.step import Part, Step, Text
from turnguard.moderators.base import Deadline
from turnguard.text import language
from turnguard.text.messages import MessageKind, message_for

log = logging.getLogger("turnguard")


async def apply(check: Check, where: tuple[int, int] | None = None) -> Decision:
    """The decision on a check that was judged; `where` as in `Decision`."""
    outcome = check.outcome
    pinned = tuple(check.plan.parts)
    parts: tuple[Part | None, ...] | None = pinned
    theirs = check.step.language
    text: str | None = None
    if outcome.action not in ("allow", "flag"):
        theirs = await _language(check.step, check.deadline)
    if outcome.action == "rewrite":
        parts = await _rewritten(check, pinned, theirs or "en")
        if parts is None:
            outcome = replace(outcome, action="block")
    if outcome.action in ("block", "review"):
        parts = (None,) * len(pinned)
        text = message(check.setup, check.policy, outcome, theirs or "en")
    assert parts is not None  # noqa: S101 - a rewrite that failed became a block
    stage, policy = check.step.stage, check.policy
    shadow = None
    if policy.shadow is not None:
        shadow = in_shadow(check.judgements, check.coverage, policy, stage, check.step.language)
    return Decision(
        stage=stage,
        action=outcome.action,
        outcome=outcome,
        judgements=check.judgements,
        coverage=check.coverage,
        parts=parts,
        message=text,
        held=pinned if outcome.action == "review" else (),
        language=theirs or "en",
        policy_digest=policy.digest,
        latency=time.perf_counter() - check.started,
        id=os.urandom(12).hex(),
        where=where,
        shadow=shadow,
    )


def message(setup: Setup, policy: Policy, outcome: Outcome, language: str) -> str:
    """The strictest fired rule's message, in the person's language where there is one."""
    kind = "failure" if outcome.failed else "uncheckable" if outcome.uncheckable else "verdict"
    categories = [reason.category for reason in outcome.decisive if reason.category]
    text = message_for(
        categories=categories,
        kind=kind,  # type: ignore[arg-type]
        language=language,
        overrides=policy.messages,
    )
    if kind == "uncheckable" and kind not in policy.messages:
        text = _with_causes(text, outcome.causes)
    setup.own_words.add(text)
    return text


async def _rewritten(check: Check, pinned: tuple[Part, ...], language: str) -> tuple[Part | None, ...] | None:
    """The parts to pass on, each change judged again before the same deadline; None without an acceptable rewrite."""

    async def decided(step: Step) -> Outcome:
        again = check.again(step)
        await prepare(again)
        await judge(again)
        return again.outcome

    kept = check.plan.kept
    cut = check.outcome.cut()
    parts = trimmed(pinned, cut, kept)
    if parts is None:
        return None
    step = replace(check.step, parts=pinned)
    if check.outcome.ways():
        refusal = message(check.setup, check.policy, check.outcome, language)
        parts = await rewrite(step, parts, check.outcome, decided, refusal)
    if parts is None:
        return None
    causes = dict.fromkeys(reason.cause for reason in check.outcome.reasons if reason.way == "trim" and reason.cause)

    def told(missing: int, total: int) -> str:
        return _notice(check, language, missing, total, causes)

    return with_notices([parts[index] for index in range(len(pinned))], cut, kept, told)


def _notice(check: Check, language: str, missing: int, total: int, causes: Iterable[str]) -> str:
    overrides = check.policy.messages
    kind: MessageKind = "cut" if missing else "left_out"
    text = message_for(categories=(), kind=kind, language=language, overrides=overrides)
    if missing:
        text = text.replace("{cut}", f"{missing:,}").replace("{total}", f"{total:,}")
    else:
        text = _with_causes(text, causes)
    check.setup.own_words.add(text)
    return text


def _with_causes(text: str, causes: Iterable[str]) -> str:
    told = "; ".join(list(causes)[:MOST_CAUSES])
    return f"{text} ({told})" if told else text


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
        # the first guess of a process reads a model for about a second: off the loop, and for half of the time that is
        # left, since a rewrite must still be judged again
        async with asyncio.timeout(max(0.05, deadline.remaining / 2)):
            return await asyncio.to_thread(language.guess, theirs)
    except TimeoutError:
        return "en"
    except Exception as error:  # noqa: BLE001 - no descriptor, thread or memory for it: the decision is made all the same
        log.warning("the language of a message could not be guessed: %s", type(error).__name__)
        return "en"
