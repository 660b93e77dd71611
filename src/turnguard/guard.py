"""The guard: prepare, judge, decide, apply. One step in, one decision out; framework-free."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from turnguard import sync
from turnguard._compat import timeout
from turnguard.content import Document, Image, Part, Step, Text
from turnguard.deciding import Outcome, decide
from turnguard.decision import Decision
from turnguard.errors import ConfigError, ModeratorError, Timeout
from turnguard.moderators.base import Deadline, Moderator, about, aclose
from turnguard.own import OwnWords
from turnguard.policy import Policy
from turnguard.preparing import Inquiry, Limits, Plan, needs_media, prepare
from turnguard.verdict import Coverage, Covered, Judgement, Verdict
from turnguard.windows import fits, room

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from turnguard.config import Config
    from turnguard.settings import AuditSettings, ChecksSettings, MediaSettings, ModeratorSettings, StreamSettings
    from turnguard.streaming import GuardedStream

log = logging.getLogger("turnguard")

T = TypeVar("T")


class Guard:
    """Judges steps with a moderator under a policy. One guard may serve several event loops and threads.

    `moderator` is anything with `async judge(exchange, deadline) -> Verdict`; `Guard.from_yaml` builds the usual chain.
    Close it with `async with guard:`, `await guard.aclose()` or `guard.close()`.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        moderator: Moderator | None = None,
        *,
        settings: ModeratorSettings | None = None,
        media: MediaSettings | None = None,
        stream: StreamSettings | None = None,
        checks: ChecksSettings | None = None,
        audit: AuditSettings | None = None,
    ) -> None:
        from turnguard.audit import Audit
        from turnguard.media import Media
        from turnguard.moderators.fallback import Fallback
        from turnguard.moderators.gate import Gated
        from turnguard.moderators.memory import Remembering
        from turnguard.settings import AuditSettings, ChecksSettings, MediaSettings, ModeratorSettings, StreamSettings

        if moderator is None:
            raise ConfigError("a guard needs a moderator: use Guard.from_yaml(path) or pass moderator=")
        self.policy = policy if policy is not None else Policy.from_dict({})
        self.settings = settings or ModeratorSettings()
        if not isinstance(moderator, (Remembering, Fallback)):
            moderator = Remembering(Gated(moderator, self.settings.max_in_flight, self.settings.max_waiting))
        self.moderator = moderator
        self.media_settings = media or MediaSettings()
        self.stream_settings = stream or StreamSettings()
        self.checks = checks or ChecksSettings()
        self.own_words = OwnWords(self.policy.messages)
        self._media = Media(self.media_settings)
        self._audit = Audit(audit or AuditSettings())

    # ------------------------------------------------------------ making one

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], *, client: AsyncOpenAI | None = None) -> Guard:
        """Read a `turnguard.yaml`. `client` replaces the lean client by your own. Raises `ConfigError`."""
        from turnguard.loading import load

        return cls.from_config(load(path), client=client)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, client: AsyncOpenAI | None = None) -> Guard:
        """The same for settings that are already a mapping, such as those inline in another program's YAML."""
        from turnguard.config import from_dict
        from turnguard.loading import beside

        return cls.from_config(from_dict(data, os.environ, calibration=beside(Path())), client=client)

    @classmethod
    def from_config(cls, config: Config, *, client: AsyncOpenAI | None = None) -> Guard:
        """Build the guard that a configuration describes. Relative paths count from the working directory."""
        from turnguard.moderators import build

        return cls(
            config.policy,
            build.moderator(config.moderator, client),
            settings=config.moderator,
            media=config.media,
            stream=config.stream,
            checks=config.checks,
            audit=config.audit,
        )

    @classmethod
    def of(cls, guard: GuardLike) -> Guard:
        """A guard as it is, or the one that the YAML at a path describes: what every surface accepts."""
        return guard if isinstance(guard, Guard) else cls.from_yaml(guard)

    # ------------------------------------------------------------ judging

    async def acheck(self, step: Step) -> Decision:
        """Judge a step and decide. Never raises for a moderator failure: the policy's `on_failure` decides, and says
        so.
        """
        started = time.perf_counter()
        deadline = self._deadline(step)
        plan, judgements, coverage, outcome = await self._evaluate(step, deadline)
        decision = await self._apply(step, plan, judgements, coverage, outcome, deadline, started)
        self._audit.record(step, decision)
        return decision

    def check(self, step: Step) -> Decision:
        """The same from synchronous code, with or without a running event loop, from any thread."""
        return sync.run(self.acheck(step))

    async def abeside(self, step: Step, call: Callable[[], Awaitable[T]]) -> tuple[Decision, T | None]:
        """Judge an input while `call`, the agent's model, already works on it: the check hides behind the call.

        The model may so receive the input before its verdict. Nothing that it says may be shown before this returns: it
        returns the result only when the input passes as it is. Otherwise the call is cancelled and the result is None; an
        input that was rewritten is sent again by the caller, as `decision.content`.
        """
        check = asyncio.ensure_future(self.acheck(step))
        work = asyncio.ensure_future(call())
        try:
            decision = await check
            return decision, await work if decision.allowed else None
        finally:
            check.cancel()
            work.cancel()
            # an error of a call that was withheld, or cancelled, is nobody's any more
            await asyncio.gather(check, work, return_exceptions=True)

    async def acheck_parts(self, step: Step) -> list[Decision]:
        """Judge a step as a whole and decide for each of its parts alone: one decision per part, in order.

        A part takes what its own exchanges ask for; a part that was judged together with another shares that verdict.
        """
        started = time.perf_counter()
        deadline = self._deadline(step)
        plan, judgements, coverage, outcome = await self._evaluate(step, deadline)
        whole = await self._apply(step, plan, judgements, coverage, outcome, deadline, started)
        decisions = [whole]
        if len(step.parts) > 1:
            decisions = [
                self._of_part(index, step, plan, judgements, coverage, whole) for index in range(len(step.parts))
            ]
        if not whole.remembered:
            self._audit.record(step, whole)
        return decisions

    async def acheck_messages(self, messages: Sequence[Mapping[str, Any]]) -> list[Decision]:
        """Judge an OpenAI-style transcript: one decision per part, old and new, in order, each with `.where`."""
        from turnguard.transcript import check_messages

        return await check_messages(self, messages)

    def check_messages(self, messages: Sequence[Mapping[str, Any]]) -> list[Decision]:
        """The same from synchronous code."""
        return sync.run(self.acheck_messages(messages))

    def astream(
        self, chunks: AsyncIterable[str], *, prompt: str | None = None, language: str | None = None
    ) -> GuardedStream:
        """Release only judged text of a stream. On a block the last chunk is the refusal; `.decision` holds the
        decision.
        """
        from turnguard.streaming import GuardedStream

        return GuardedStream(self, chunks, prompt=prompt, language=language)

    async def arefusal(self, decision: Decision, language: str | None = None) -> str:
        """What to tell the person when a surface withholds more than the decision does (a rewrite while streaming)."""
        return decision.message or self._message(decision.outcome, language or decision.language)

    # ------------------------------------------------------------ closing

    async def aclose(self) -> None:
        """Let go of connections and threads. Harmless when called twice."""
        await aclose(self.moderator)
        bridge = sync.loop_if_running()
        if bridge is not None and bridge is not asyncio.get_running_loop() and bridge.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(aclose(self.moderator), bridge))
        await self._media.aclose()
        await asyncio.to_thread(self._audit.close)

    def close(self) -> None:
        """The same from synchronous code."""
        sync.run(self.aclose())

    async def __aenter__(self) -> Guard:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    # ------------------------------------------------------------ the four moves

    async def _evaluate(self, step: Step, deadline: Deadline) -> _Evaluation:
        """Prepare, judge and decide, without rewriting."""
        limits = await self._limits(step, deadline)
        if needs_media(step):
            try:
                async with timeout(deadline.remaining):
                    plan = await prepare(step, self._media, limits, self.own_words)
            except asyncio.TimeoutError:
                return _too_slow(step, self.policy)
        else:
            plan = await prepare(step, self._media, limits, self.own_words)
        judgements = await self._judge(plan.inquiries, deadline)
        coverage = _coverage(plan, judgements)
        return plan, judgements, coverage, decide(judgements, coverage, self.policy, step.stage, step.language)

    async def _limits(self, step: Step, deadline: Deadline) -> Limits:
        tokens = self.settings.max_input_tokens
        if not all(isinstance(part, Text) and fits(part.text, tokens // 2) for part in step.parts):
            tokens = room(tokens, (await about(self.moderator, deadline)).max_model_len)
        return Limits(tokens, self.settings.max_windows, self.media_settings.max_requests)

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
        try:
            async with timeout(deadline.remaining):
                verdict = await self.moderator.judge(inquiry.exchange, deadline)
        except ModeratorError as error:
            verdict = Verdict(failure=error.failure, cause=error.cause)
        except asyncio.TimeoutError:
            verdict = Verdict(failure=Timeout.failure, cause="no verdict before the deadline")
        except Exception as error:  # noqa: BLE001 - whatever a moderator raises, it is no verdict
            log.error("the moderator raised %s; the policy's on_failure decides", type(error).__name__)  # noqa: TRY400
            verdict = Verdict(failure="unavailable", cause=f"the moderator raised {type(error).__name__}")
        entry = inquiry.covers[0]
        return Judgement(verdict, inquiry.decides, inquiry.parts, entry.detail, entry.kind)

    async def _apply(
        self,
        step: Step,
        plan: Plan,
        judgements: tuple[Judgement, ...],
        coverage: Coverage,
        outcome: Outcome,
        deadline: Deadline,
        started: float,
    ) -> Decision:
        """Carry the outcome out: pass on, rewrite, or withhold with a message."""
        pinned = tuple(plan.parts)
        parts: tuple[Part | None, ...] | None = pinned
        language = step.language
        message: str | None = None
        if outcome.action not in ("allow", "flag"):
            language = await self._language(step, deadline)
        if outcome.action == "rewrite":
            parts = await self._rewrite(replace(step, parts=pinned), outcome, deadline, language or "en")
            if parts is None:
                outcome = replace(outcome, action="block", decisive=outcome.decisive)
        if outcome.action in ("block", "review"):
            parts = (None,) * len(pinned)
            message = self._message(outcome, language or "en")
        assert parts is not None  # noqa: S101 - a rewrite that failed became a block
        return Decision(
            stage=step.stage,
            action=outcome.action,
            outcome=outcome,
            judgements=judgements,
            coverage=coverage,
            parts=parts,
            message=message,
            held=pinned if outcome.action == "review" else (),
            language=language or "en",
            policy_digest=self.policy.digest,
            latency=time.perf_counter() - started,
            id=os.urandom(12).hex(),
        )

    def _of_part(
        self,
        index: int,
        step: Step,
        plan: Plan,
        judgements: tuple[Judgement, ...],
        coverage: Coverage,
        whole: Decision,
    ) -> Decision:
        """The decision for one part of a step that was decided as a whole."""
        own = tuple(judgement for judgement in judgements if index in judgement.parts)
        listed = Coverage(
            tuple(entry for entry in coverage.judged if entry.part == index),
            tuple(entry for entry in coverage.not_judged if entry.part == index or (entry.part is None and index == 0)),
        )
        outcome = decide(own, listed, self.policy, step.stage, step.language)
        part: Part | None = plan.parts[index]
        if outcome.action == "rewrite":
            # what became of it was worked out for the whole step; without an acceptable rewrite it is withheld
            part = whole.parts[index]
            if whole.action != "rewrite":
                outcome = replace(outcome, action="block")
        withheld = outcome.action in ("block", "review")
        return replace(
            whole,
            action=outcome.action,
            outcome=outcome,
            judgements=own,
            coverage=listed,
            parts=(None,) if withheld else (part,),
            message=self._message(outcome, whole.language) if withheld else None,
            held=(plan.parts[index],) if outcome.action == "review" else (),
            id=os.urandom(12).hex(),
        )

    def _deadline(self, step: Step) -> Deadline:
        return Deadline.after(self.media_settings.deadline if needs_media(step) else self.settings.deadline)

    async def _rewrite(
        self, step: Step, outcome: Outcome, deadline: Deadline, language: str
    ) -> tuple[Part | None, ...] | None:
        from turnguard.rewriting import rewrite

        async def judge(part_of_step: Step) -> Outcome:
            return (await self._evaluate(part_of_step, deadline))[3]

        return await rewrite(step, outcome, judge, self._message(outcome, language))

    def _message(self, outcome: Outcome, language: str) -> str:
        """The strictest fired rule's message, in the person's language where there is one."""
        from turnguard.messages import message_for

        kind = "failure" if outcome.failed else "uncheckable" if outcome.uncheckable else "verdict"
        categories = [reason.category for reason in outcome.decisive if reason.category]
        text = message_for(
            categories=categories,
            kind=kind,  # type: ignore[arg-type]
            language=language,
            overrides=self.policy.messages,
        )
        self.own_words.add(text)
        return text

    async def _language(self, step: Step, deadline: Deadline) -> str:
        """The language given, or guessed from the person's own text, else English."""
        if step.language is not None:
            return step.language
        from turnguard import language

        if step.stage == "input":
            theirs = "\n".join(part.text for part in step.parts if isinstance(part, Text))
        else:
            theirs = step.prompt or ""
        if not theirs.strip():
            return "en"
        if language.ready() or len(theirs) < 3:
            return language.guess(theirs)
        try:
            # the first guess of a process reads a model for about a second: off the loop, and never past the deadline
            async with timeout(max(0.05, deadline.remaining)):
                return await asyncio.to_thread(language.guess, theirs)
        except asyncio.TimeoutError:
            return "en"


GuardLike = Union[Guard, str, "os.PathLike[str]"]
"""A guard, or the path of a `turnguard.yaml`."""

_Evaluation = tuple[Plan, tuple[Judgement, ...], Coverage, Outcome]


def _too_slow(step: Step, policy: Policy) -> _Evaluation:
    """Reading the step's images or documents took until the deadline: a failure of this check, not of the content."""
    verdict = Verdict(failure=Timeout.failure, cause="reading the step's images and documents took until the deadline")
    heavy = tuple(index for index, part in enumerate(step.parts) if isinstance(part, (Image, Document)))
    judgements = (Judgement(verdict, "user", heavy or tuple(range(len(step.parts))), kind="other"),)
    entries = tuple(
        Covered(index, part.kind, cause=verdict.cause, counts=False) for index, part in enumerate(step.parts)
    )
    coverage = Coverage((), entries)
    plan = Plan(list(step.parts))
    return plan, judgements, coverage, decide(judgements, coverage, policy, step.stage, step.language)


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
