"""The guard: prepare, judge, decide, apply. One step in, one decision out; framework-free."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, Union

from turnguard.checking.apply import message
from turnguard.checking.beside import beside
from turnguard.checking.check import Setup
from turnguard.checking.whole import Whole
from turnguard.core.decision import Decision
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy
from turnguard.core.step import Step
from turnguard.moderators.base import Deadline, Moderator, about, aclose, managed
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
        MemorySettings,
        ModeratorSettings,
        RecordsSettings,
        ReviewsSettings,
        StreamSettings,
        TelemetrySettings,
    )
    from turnguard.core.review import Review

T = TypeVar("T")


class Guard:
    """Judges steps with a moderator under a policy. One guard may serve several event loops and threads.

    `moderator` is anything with `async judge(exchange, deadline) -> Verdict`. It is given a memory and a gate, unless
    its attribute `managed` is true: then it has its own, like what `Guard.from_yaml` builds. A wrapper around such a
    one says so of itself too, as `turnguard.moderators.base.Wrapper` does.

    `policies` are further ones for the same moderator and memory, each chosen by its name with a check: wherever a
    method takes `policy=`, that is a name or one of these policies, None is the guard's own, and an unknown name is a
    `ConfigError` before anything is asked.

    `moderator_settings`, `media`, `stream`, `checks`, `audit`, `records`, `reviews`, `telemetry` and `memory` are
    sections of the YAML. Close a guard with `async with guard:`, `await guard.aclose()` or `guard.close()`.

    `reviews` holds what waits for a person, and takes their answers.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        moderator: Moderator | None = None,
        *,
        policies: Mapping[str, Policy] | None = None,
        moderator_settings: ModeratorSettings | None = None,
        media: MediaSettings | None = None,
        stream: StreamSettings | None = None,
        checks: ChecksSettings | None = None,
        audit: AuditSettings | None = None,
        records: RecordsSettings | None = None,
        reviews: ReviewsSettings | None = None,
        telemetry: TelemetrySettings | None = None,
        memory: MemorySettings | None = None,
    ) -> None:
        # pydantic's models cost more to import than all else; and what only the methods use is imported here, since
        # imports fail once the process is out of file descriptors
        from turnguard.checking import stream as streaming  # noqa: F401
        from turnguard.config import settings
        from turnguard.media import Media
        from turnguard.moderators.build import remembering
        from turnguard.moderators.gate import Gated
        from turnguard.records import Kept, open_reviews
        from turnguard.transcripts import apply as transcript  # noqa: F401
        from turnguard.transcripts.seen import Seen

        if moderator is None:
            raise ConfigError("a guard needs a moderator: use Guard.from_yaml(path) or pass moderator=")
        policy = policy if policy is not None else Policy.from_dict({})
        named = dict(policies or {})
        self.moderator_settings = asking = moderator_settings or settings.ModeratorSettings()
        if not managed(moderator):
            moderator = remembering(Gated(moderator, asking.max_in_flight, asking.max_waiting), memory)
        self.media_settings = media or settings.MediaSettings()
        self.stream_settings = stream or settings.StreamSettings()
        self.checks = checks or settings.ChecksSettings()
        self.own_words = OwnWords(each.messages for each in (policy, *named.values()))
        self.seen = Seen()
        self._media = Media(self.media_settings)
        records = records or settings.RecordsSettings()
        self._kept = Kept(audit or settings.AuditSettings(), records, asking.family, policy, named) or None
        self.reviews = open_reviews(records, reviews or settings.ReviewsSettings())
        self._config: Config | None = None
        self._lent = False
        in_spans = frozenset((telemetry or settings.TelemetrySettings()).metadata)
        # what the host knows of a run is asked for only where it is kept or shown
        tags = in_spans.union(records.tags) if records.url is not None or in_spans else None
        setup = Setup(policy, named, moderator, self._media, self.own_words, asking, self.media_settings)
        self._whole = Whole(setup, self.reviews, self._kept, in_spans, tags)

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

        return cls.from_config(from_dict(data, os.environ, files=beside(Path())), client=client)

    @classmethod
    def from_config(cls, config: Config, *, client: AsyncOpenAI | None = None) -> Guard:
        """Build the guard that a configuration describes. Relative paths count from the folder of its file."""
        from turnguard.moderators import build

        try:
            guard = cls(
                config.policy,
                build.moderator(config.moderator, client, config.folder, config.memory),
                policies=config.policies,
                moderator_settings=config.moderator,
                media=config.media,
                stream=config.stream,
                checks=config.checks,
                audit=config.audit,
                records=config.records,
                reviews=config.reviews,
                telemetry=config.telemetry,
            )
        except ConfigError as error:
            raise type(error)(*map(config.located, error.problems)) from None
        guard._config = config
        guard._lent = client is not None
        return guard

    @classmethod
    def of(cls, guard: GuardLike) -> Guard:
        """A guard as it is, or the one that the YAML at a path describes: what every surface accepts."""
        return guard if isinstance(guard, Guard) else cls.from_yaml(guard)

    def reload(self, config: Config | None = None) -> None:
        """Take over the policies of the `turnguard.yaml` as it stands now: all of them, between two checks.

        `config` is taken in place of the file. A check, a transcript or a stream that is under way ends under the
        policy that it began with. Raises `ConfigError`, and changes nothing, where the file cannot be used or more than
        policies has changed in it.
        """
        from turnguard.config.files import load_again

        if self._config is None:
            raise ConfigError("this guard was not read from a file, so that there is nothing to reload")
        config = config or load_again(self._config)
        if changed := config.changed(self._config):
            told = "a reload takes over policies alone; make a new guard for what has changed"
            raise ConfigError(f"{config.source}: {told}: {', '.join(changed)}")
        self.own_words.learn(each.messages for each in (config.policy, *config.policies.values()))
        self._whole.setup = replace(self._whole.setup, policy=config.policy, policies=dict(config.policies))
        self._config = config

    @property
    def policy(self) -> Policy:
        """The policy of every check that names no other."""
        return self._whole.setup.policy

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The named policies."""
        return MappingProxyType(self._whole.setup.policies)

    def chosen(self, policy: str | Policy | None = None) -> Policy:
        """The policy that a check would use. Raises `ConfigError` for an unknown name."""
        return self._whole.setup.chosen(policy)

    @property
    def moderator(self) -> Moderator:
        """What judges. A host that wants to see the calls may set one that wraps it; it is taken as it is."""
        return self._whole.setup.moderator

    @moderator.setter
    def moderator(self, moderator: Moderator) -> None:
        self._whole.setup.moderator = moderator

    # ------------------------------------------------------------ judging

    async def acheck(self, step: Step, *, policy: str | Policy | None = None, hold: bool = True) -> Decision:
        """Judge a step and decide. A moderator failure is never raised: the policy's `on_failure` decides.

        A step under review is held for a person under `Decision.review_id`, unless `hold` is false: then the caller
        holds it, or nobody is asked.
        """
        decision, _ = await self._whole.decide(step, policy, hold=hold)
        return decision

    def check(self, step: Step, *, policy: str | Policy | None = None) -> Decision:
        """The same from synchronous code, with or without a running event loop, from any thread."""
        return sync.run(self.acheck(step, policy=policy))

    async def abeside(
        self, step: Step, call: Callable[[], Awaitable[T]], *, policy: str | Policy | None = None
    ) -> tuple[Decision, T | None]:
        """Judge an input while `call`, the agent's model, already works on it: the check hides behind the call.

        The model may so receive the input before its verdict. Nothing that it says may be shown before this returns: it
        returns the result only when the input passes as it is. Otherwise the call is cancelled and the result is None;
        an input that was rewritten is sent again by the caller, as `decision.content`.
        """
        return await beside(self.acheck(step, policy=self.chosen(policy)), call)

    async def acheck_parts(
        self,
        step: Step,
        where: Sequence[tuple[int, int]] = (),
        *,
        policy: str | Policy | None = None,
        hold: bool = True,
    ) -> list[Decision]:
        """Judge a step as a whole and decide for each of its parts alone: one decision per part, in order.

        A part takes what its own exchanges ask for; a part that was judged together with another shares that verdict.
        `where` says for each part where it stands in a transcript, as `Decision.where` does; `hold` is as in `acheck`.
        """
        return await self._whole.decide_parts(step, policy, where, hold=hold)

    async def acheck_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        policy: str | Policy | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[Decision]:
        """Judge an OpenAI-style transcript: one decision per part, old and new, in order, each with `.where`.

        `metadata` says whom it belongs to, as in a `Step`.
        """
        from turnguard.transcripts.check import check_messages

        return await check_messages(self, _listed(messages), policy=policy, metadata=metadata)

    def check_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        policy: str | Policy | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[Decision]:
        """The same from synchronous code."""
        return sync.run(self.acheck_messages(messages, policy=policy, metadata=metadata))

    async def aguard_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        policy: str | Policy | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[list[Any], list[Decision]]:
        """The transcript to use instead, in its own dialect, and the decisions that `acheck_messages` gives.

        What is withheld is replaced by a notice, or leaves together with what belongs to it: a call with its result, a
        signed block with its calls. A message in which nothing changed is the same object.
        """
        from turnguard.transcripts.apply import guard_messages

        return await guard_messages(self, _listed(messages), policy=policy, metadata=metadata)

    def guard_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        policy: str | Policy | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[list[Any], list[Decision]]:
        """The same from synchronous code."""
        return sync.run(self.aguard_messages(messages, policy=policy, metadata=metadata))

    async def identity(self, *, policy: str | Policy | None = None) -> str:
        """Which model judges, under which policy. Replicas that differ have a new name each time."""
        digest = self.chosen(policy).digest
        deadline = Deadline.after(self.moderator_settings.deadline)
        identity = (await about(self.moderator, deadline)).identity
        return f"{digest} {identity or os.urandom(8).hex()}"

    def removed(self, decision: Decision, *, policy: str | Policy | None = None) -> str:
        """The notice that stands in a conversation where something was taken out."""
        from turnguard.text.messages import message_for

        overrides = self.chosen(policy).messages
        text = message_for(categories=(), kind="removed", language=decision.language, overrides=overrides)
        self.own_words.add(text)
        return text

    def astream(
        self,
        chunks: AsyncIterable[str],
        *,
        prompt: str | None = None,
        language: str | None = None,
        policy: str | Policy | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> GuardedStream:
        """Release only judged text of a stream. On a block the last chunk is the refusal; see `.decision`."""
        from turnguard.checking.stream import GuardedStream

        if not hasattr(chunks, "__aiter__"):
            raise TypeError(f"a stream is an asynchronous iterable of str, not {type(chunks).__name__}")
        chosen = self.chosen(policy)  # for the whole stream

        async def judge(text: str) -> Decision:
            step = Step.output(text, prompt=prompt, language=language, metadata=metadata)
            return await self.acheck(step, policy=chosen, hold=False)  # a stream cannot wait

        refuse = partial(self.arefusal, policy=chosen)
        return GuardedStream(chunks, judge, refuse, self.stream_settings)

    async def arefusal(
        self, decision: Decision, language: str | None = None, *, policy: str | Policy | None = None
    ) -> str:
        """What to tell the person when a surface withholds more than the decision does (a rewrite while streaming)."""
        setup = self._whole.setup
        own = setup.chosen(policy)
        return decision.message or message(setup, own, decision.outcome, language or decision.language)

    async def areview(self, review_id: str, timeout: float = 0.0) -> Review:  # noqa: ASYNC109 - a wait, not a limit
        """What became of a step under review, waiting up to `timeout` seconds for an answer.

        `content` is what to pass on, empty unless a person approved it. Raises `ReviewError` where nothing is known of
        it: it waited in another process's memory, or was erased.
        """
        return await self.reviews.wait(review_id, timeout)

    def review(self, review_id: str, timeout: float = 0.0) -> Review:
        """The same from synchronous code."""
        return sync.run(self.areview(review_id, timeout))

    # ------------------------------------------------------------ closing

    async def aclose(self) -> None:
        """Let go of connections and threads. Harmless when called twice."""
        await aclose(self.moderator)
        bridge = sync.loop_if_running()
        if bridge is not None and bridge is not asyncio.get_running_loop() and bridge.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(aclose(self.moderator), bridge))
        await self._media.aclose()
        if self._kept is not None:
            await asyncio.to_thread(self._kept.close)
        self.reviews.close()

    def close(self) -> None:
        """The same from synchronous code."""
        sync.run(self.aclose())

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is built anew from the same settings: they travel, secrets included, and connections do not.

        Raises `TypeError` for a guard with a moderator or a client of the caller's own, which no settings describe.
        """
        if self._config is None or self._lent:
            raise TypeError(
                "a guard with a moderator or client of your own cannot be copied or pickled: "
                "make one in each process, such as Guard.from_yaml(path)"
            )
        return Guard.from_config, (self._config,)

    async def __aenter__(self) -> Guard:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def _listed(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    if isinstance(messages, (str, bytes, Mapping)):
        raise TypeError(f"a transcript is a list of messages, not {type(messages).__name__}")
    return messages


GuardLike = Union[Guard, str, "os.PathLike[str]"]
"""A guard, or the path of a `turnguard.yaml`."""
