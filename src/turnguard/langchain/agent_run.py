"""What the hooks of one agent share: how a conversation is admitted, who is told, and what ends a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from turnguard.core.decision import Decision
from turnguard.core.errors import ConfigError
from turnguard.langchain import notices
from turnguard.langchain.held import HELD
from turnguard.langchain.judge import Judging, replacing
from turnguard.langchain.messages import newest_other
from turnguard.langchain.review import Reviews, has_checkpointer
from turnguard.langchain.rulings import Ruling, Surface, Unknown
from turnguard.langchain.tool_streams import speaks_for_itself
from turnguard.runtime.caches import Cache

Policies = str | Callable[[Any, Any], str | None] | None
"""The name of a policy, or what names one by the run's context and configuration."""


@dataclass(frozen=True)
class AgentRun:
    """The settings of a guarded agent, under the policy of one run.

    `raises`: a blocked turn ends in `Blocked`. `retries`: tries after a blocked output. `hold`: what tools stream is
    held.
    """

    judging: Judging
    reviews: Reviews
    raises: bool = False
    retries: int = 0
    hold: bool = True
    policy: Policies = None
    blocked: Cache[str, Decision] = field(default_factory=lambda: Cache(HELD))

    def under(self, context: Any, config: Any) -> AgentRun:
        """The same under the policy of a run with this context and configuration."""
        name = self.policy(context, config or {}) if callable(self.policy) else self.policy
        if name is None:
            return self
        if not isinstance(name, str):
            raise ConfigError(f"policy(context, config) gives the name of a policy or None, not {type(name).__name__}")
        judging = self.judging.under(name)
        return replace(self, judging=judging, reviews=self.reviews.under(judging))

    # ------------------------------------------------------------ what the caller brings

    def refused_before(self, messages: Sequence[BaseMessage]) -> Decision | None:
        """The decision on an input that was refused before it was stored."""
        if not self.judging.refused:
            return None
        marks = (notices.marked(message) for message in messages[newest_other(messages) + 1 :])
        found = (self.judging.refused.take(str(mark["id"])) for mark in marks if "id" in mark)
        return next((decision for decision in found if decision is not None), None)

    def brought(self, messages: Sequence[BaseMessage]) -> list[Unknown]:
        """What the caller brings that is judged before the model is called."""
        if self.judging.checks_all:
            speaks_for_itself()
        unknown = list(self.judging.unknown(messages))
        if self.judging.guard.checks.input == "beside":
            newest = newest_other(messages)
            unknown = [one for one in unknown if one.at <= newest or not isinstance(one.message, HumanMessage)]
        return unknown

    async def admit(self, unknown: Sequence[Unknown], messages: Sequence[BaseMessage], runtime: Any) -> Any:
        """Judge what is unknown; the update of the state that follows."""
        rulings = await self.sweep(unknown)
        tell(runtime, rulings)
        update = replacing(messages, {one.at: [ruling.message] for one, ruling in zip(unknown, rulings, strict=True)})
        newest = newest_other(messages)
        ended = [ruling.ended for one, ruling in zip(unknown, rulings, strict=True) if one.at > newest and ruling.ended]
        if ended:  # the newest input's; older messages are only replaced
            refusal = await self.refusal(ended[0])
            self.blocks(ended[0], refusal)
            return {"jump_to": "end", "messages": [*update, refusal]}
        return {"messages": update} if update else None

    async def admitted(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The messages of an input as they may be stored. The turn that they begin is refused where they were."""
        made = list(messages)
        unknown = list(self.judging.unknown(messages))
        for one, ruling in zip(unknown, await self.sweep(unknown, reviewable=False), strict=True):
            made[one.at] = ruling.message
            if ruling.ended is not None:
                self.judging.refused.put(ruling.ended.id, ruling.ended)
        return made

    async def sweep(self, unknown: Sequence[Unknown], *, reviewable: bool | None = None) -> list[Ruling]:
        """Rule on what a conversation holds that was not judged yet. Its calls were answered already, or never will
        be.
        """
        surface = Surface(reviewable=has_checkpointer() if reviewable is None else reviewable)
        past = Surface()

        async def rule(one: Unknown) -> Ruling:
            live = not isinstance(one.message, AIMessage)
            ruling = await self.judging.rule(one.message, one.request, surface if live else past)
            if isinstance(one.message, AIMessage):
                return _still_paired(one.message, ruling)
            return ruling

        if len(unknown) == 1:
            return [await rule(unknown[0])]  # a task of its own would cost more than the hook
        return list(await asyncio.gather(*map(rule, unknown)))

    # ------------------------------------------------------------ what ends a turn

    async def refusal(self, decision: Decision) -> AIMessage:
        """The answer in place of what was withheld."""
        text = await self.judging.refusal(decision)
        return notices.ai(None, text, notices.about(decision))

    def blocks(self, decision: Decision, refusal: BaseMessage) -> None:
        """Remember to raise this one when the turn has ended. Raised at once it would leave the input in the thread,
        which would then be refused for ever, and other middleware would take it for a failure of the model.
        """
        if self.raises:
            refusal.id = refusal.id or str(uuid4())
            self.blocked.put(refusal.id, decision)


def tell(runtime: Any, rulings: Sequence[Ruling]) -> None:
    """Every decision other than allow, as a custom stream event without content."""
    writer = getattr(runtime, "stream_writer", None)
    writer = getattr(writer, "unjudged", writer)  # inside another guarded agent's tool
    if writer is not None:
        for ruling in rulings:
            for decision in ruling.decisions:
                writer({notices.KEY: notices.about(decision)})


def _still_paired(original: AIMessage, ruling: Ruling) -> Ruling:
    """A withheld message of the past keeps its calls, empty, because their answers follow it; no answer is added
    twice.
    """
    if ruling.ended is None or not original.tool_calls:
        return Ruling(ruling.message, ruling.decisions, ruling.ended) if ruling.answers else ruling
    calls = [{**call, "args": {}} for call in original.tool_calls]
    message = ruling.message.model_copy(update={"tool_calls": calls})
    return Ruling(message, ruling.decisions, ruling.ended)
