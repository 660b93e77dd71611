"""The guard: prepare, judge, decide, apply. One step in, one decision out; framework-free."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from turnguard import telemetry
from turnguard.checking.apply import Applier
from turnguard.checking.judge import Evaluation, Evaluator
from turnguard.core.decision import Decision
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy
from turnguard.core.step import Step
from turnguard.moderators.base import Moderator, aclose
from turnguard.runtime import sync
from turnguard.text.own_messages import OwnWords

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from turnguard.checking.stream import GuardedStream
    from turnguard.config.document import Config
    from turnguard.config.settings import (
        AuditSettings,
        ChecksSettings,
        MediaSettings,
        ModeratorSettings,
        StreamSettings,
    )

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
        # these four are used by the methods: a process that has run out of descriptors could not import them then
        from turnguard.checking import rewrite as rewriting  # noqa: F401
        from turnguard.checking import stream as streaming  # noqa: F401
        from turnguard.config.settings import (
            AuditSettings,
            ChecksSettings,
            MediaSettings,
            ModeratorSettings,
            StreamSettings,
        )
        from turnguard.media import Media
        from turnguard.moderators.fallback import Fallback
        from turnguard.moderators.gate import Gated
        from turnguard.moderators.memory import Remembering
        from turnguard.records import Audit
        from turnguard.text import messages  # noqa: F401
        from turnguard.transcripts import check as transcript  # noqa: F401

        if moderator is None:
            raise ConfigError("a guard needs a moderator: use Guard.from_yaml(path) or pass moderator=")
        self.policy = policy if policy is not None else Policy.from_dict({})
        self.settings = settings or ModeratorSettings()
        if not isinstance(moderator, (Remembering, Fallback)):
            moderator = Remembering(Gated(moderator, self.settings.max_in_flight, self.settings.max_waiting))
        self.media_settings = media or MediaSettings()
        self.stream_settings = stream or StreamSettings()
        self.checks = checks or ChecksSettings()
        self.own_words = OwnWords(self.policy.messages)
        self._media = Media(self.media_settings)
        self._audit = Audit(audit or AuditSettings())
        self._evaluator = Evaluator(
            self.policy, moderator, self._media, self.own_words, self.settings, self.media_settings
        )
        self._applier = Applier(self._evaluator, self.own_words)

    # ------------------------------------------------------------ making one

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], *, client: AsyncOpenAI | None = None) -> Guard:
        """Read a `turnguard.yaml`. `client` replaces the lean client by your own. Raises `ConfigError`."""
        from turnguard.config.files import load

        return cls.from_config(load(path), client=client)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, client: AsyncOpenAI | None = None) -> Guard:
        """The same for settings that are already a mapping, such as those inline in another program's YAML."""
        from turnguard.config.document import from_dict
        from turnguard.config.files import beside

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

    @property
    def moderator(self) -> Moderator:
        """What judges. A host that wants to see the calls may set one that wraps it."""
        return self._evaluator.moderator

    @moderator.setter
    def moderator(self, moderator: Moderator) -> None:
        self._evaluator.moderator = moderator

    # ------------------------------------------------------------ judging

    async def acheck(self, step: Step) -> Decision:
        """Judge a step and decide. Never raises for a moderator failure: the policy's `on_failure` decides, and says
        so.
        """
        if telemetry.listening():
            with telemetry.check(step.stage) as told:
                return told((await self._check(step))[0])
        return (await self._check(step))[0]

    async def _check(
        self, step: Step, *, again: bool = True, where: tuple[int, int] | None = None
    ) -> tuple[Decision, Evaluation]:
        """Evaluate, apply and record. `again` also records what came from memory alone."""
        started = time.perf_counter()
        deadline = self._evaluator.deadline(step)
        evaluation = await self._evaluator.evaluate(step, deadline)
        decision = await self._applier.apply(step, evaluation, deadline, started, where)
        if again or not decision.remembered:
            self._audit.record(step, evaluation.plan.parts, decision)
        telemetry.log_decision(decision)
        return decision, evaluation

    def check(self, step: Step) -> Decision:
        """The same from synchronous code, with or without a running event loop, from any thread."""
        return sync.run(self.acheck(step))

    async def abeside(self, step: Step, call: Callable[[], Awaitable[T]]) -> tuple[Decision, T | None]:
        """Judge an input while `call`, the agent's model, already works on it: the check hides behind the call.

        The model may so receive the input before its verdict. Nothing that it says may be shown before this returns: it
        returns the result only when the input passes as it is. Otherwise the call is cancelled and the result is None;
        an input that was rewritten is sent again by the caller, as `decision.content`.
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

    async def acheck_parts(self, step: Step, where: Sequence[tuple[int, int]] = ()) -> list[Decision]:
        """Judge a step as a whole and decide for each of its parts alone: one decision per part, in order.

        A part takes what its own exchanges ask for; a part that was judged together with another shares that verdict.
        `where` says for each part where it stands in a transcript, as `Decision.where` does.
        """
        places = where or (None,) * len(step.parts)
        alone = places[0] if len(places) == 1 else None
        if telemetry.listening():
            with telemetry.check(step.stage) as told:
                whole, evaluation = await self._check(step, again=False, where=alone)
                told(whole)
        else:
            whole, evaluation = await self._check(step, again=False, where=alone)
        if len(step.parts) <= 1:
            return [whole]
        return [self._applier.of_part(index, step, evaluation, whole, place) for index, place in enumerate(places)]

    async def acheck_messages(self, messages: Sequence[Mapping[str, Any]]) -> list[Decision]:
        """Judge an OpenAI-style transcript: one decision per part, old and new, in order, each with `.where`."""
        from turnguard.transcripts.check import check_messages

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
        from turnguard.checking.stream import GuardedStream

        async def judge(text: str) -> Decision:
            return await self.acheck(Step.output(text, prompt=prompt, language=language))

        return GuardedStream(chunks, judge, self.arefusal, self.stream_settings)

    async def arefusal(self, decision: Decision, language: str | None = None) -> str:
        """What to tell the person when a surface withholds more than the decision does (a rewrite while streaming)."""
        return decision.message or self._applier.message(decision.outcome, language or decision.language)

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


GuardLike = Union[Guard, str, "os.PathLike[str]"]
"""A guard, or the path of a `turnguard.yaml`."""
