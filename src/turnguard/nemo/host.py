"""One guard at work inside one `LLMRails`: which rails are configured, and what is judged before the engine sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nemoguardrails.exceptions import InvalidStateError

from turnguard.core.decision import Decision
from turnguard.core.step import Stage
from turnguard.guard import Guard
from turnguard.nemo import transcripts
from turnguard.nemo.turn import Turn
from turnguard.text.messages import message_for

RAILS: Mapping[str, tuple[str, Stage]] = {
    "turnguard check input": ("input", "input"),
    "turnguard check output": ("output", "output"),
    "turnguard check tool call": ("tool_output", "tool_call"),
    "turnguard check tool result": ("tool_input", "tool_result"),
    "turnguard check retrieval": ("retrieval", "retrieval"),
}
"""Flow → the kind of rail that it is listed under in NeMo's configuration, and the stage that it judges."""
_KIND: Mapping[str, str] = {stage: kind for kind, stage in RAILS.values()}
RAIL_OF: Mapping[str, str] = {stage: flow for flow, (_, stage) in RAILS.items()}
_SWITCHES = ("generation_options", "skip_output_rails")
"""Context variables that steer the engine past rails."""


class InvalidRequest(InvalidStateError):  # type: ignore[misc] # NeMo is read as Any
    """A request that Turnguard's rails do not take. NeMo's server answers 422, with the sentence."""


@dataclass(slots=True, eq=False)
class Host:
    """`stages` are those whose rail is configured; `exceptions` is NeMo's `enable_rails_exceptions`,
    `knowledge` its knowledge base where the engine would search it past every retrieval rail. `first_flows` are
    the listed flows whose first action is one of ours. `own_refusal` is what the user's `define bot refuse to respond`
    says, where the policy has no messages of its own. `alone`: every input rail is ours.
    """

    guard: Guard
    stages: frozenset[Stage]
    exceptions: bool = False
    knowledge: Any = None
    first_flows: frozenset[str] = frozenset()
    own_refusal: str | None = None
    alone: bool = False
    _removed: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def clients_write(self) -> bool:
        """Whether the messages come from clients, whom nothing is taken on trust from (`trusted_roles: []`)."""
        return not self.guard.checks.trusted_roles

    async def refusal(self, decision: Decision) -> str:
        """What to tell the person."""
        return self.own_refusal or await self.guard.arefusal(decision)

    def removed(self, language: str = "en") -> str:
        """What stands where content was taken out of a conversation."""
        text = self._removed.get(language)
        if text is None:
            overrides = self.guard.policy.messages
            text = message_for(categories=(), kind="removed", language=language, overrides=overrides)
            self._removed[language] = text
        return text

    def require_untouched(
        self, messages: Sequence[Mapping[str, Any]], state: Any, rails: Mapping[str, Any], *, checking: bool
    ) -> None:
        """Raise `InvalidRequest` where a request would switch the rails off and clients write requests.

        Events and a state (which is events) can start any flow or action and pretend that rails have run.
        """
        if not self.clients_write:
            return
        if isinstance(state, Mapping) and state:
            raise InvalidRequest("a state may not be sent where clients write the requests: send the messages")
        for message in messages:
            if message.get("role") == "event":
                raise InvalidRequest("an event message may not be sent where clients write the messages")
            content = message.get("content")
            if message.get("role") == "context" and isinstance(content, Mapping):
                steering = [name for name in _SWITCHES if name in content]
                if steering:
                    raise InvalidRequest(
                        f"a context message may not set {steering[0]} where clients write the messages"
                    )
        off = [_KIND[stage] for stage in sorted(self.stages) if not rails.get(_KIND[stage], True)]
        if off and rails.get("dialog", True) and not checking:
            raise InvalidRequest(
                f"the request switches off the {off[0]} rails, which is not allowed where clients write the messages "
                "(checks.trusted_roles is empty)"
            )

    async def screen(
        self, turn: Turn, rails: Mapping[str, Any], *, checking: bool, alone: bool = False
    ) -> Sequence[Decision]:
        """Judge what no rail of this turn will, and take out what was withheld, before the engine sees any of it.

        The engine's rails look at a transcript that ends with a user message or with tool results, and at an answer
        that it is asked about; one that ends otherwise goes past them to the main model. `alone`: no rail runs at all.
        """
        on = {stage for stage in self.stages if rails.get(_KIND[stage], True) or checking}
        asked = not rails.get("dialog", True) or checking
        tools = "tool_result" in on or (self.alone and "input" in on)
        looked = turn.looked = not alone and transcripts.is_looked_at(turn.messages, asked=asked, tools=tools)
        answered = rails.get("output", True)
        indexes = [
            index
            for index in range(len(turn.messages))
            if self._is_screened(index, turn, on, checking=checking, asked=asked)
            and (index < turn.newest.stop or not asked or answered)
        ]
        if not indexes:
            return ()
        decisions = await turn.judge(self.guard, indexes)
        gone: set[int] = set()
        for decision in decisions:
            if decision.where is None or decision.allowed:
                continue
            index = decision.where[0]
            # variables are no text that could be rewritten
            if decision.withheld or turn.messages[index].get("role") in ("event", "context"):
                if index >= turn.newest.start:
                    turn.screened = turn.screened or decision
                    turn.refuse(await self.refusal(decision), RAIL_OF[decision.stage])
                if turn.messages[index].get("tool_calls"):
                    gone.update(transcripts.without_answers_to(turn.messages, turn.messages[index]))
        language = decisions[-1].language if decisions else "en"
        turn.pass_on(decisions, self.removed(language))
        for index in gone:
            turn.put(index, {"role": "assistant", "content": self.removed(language)})
        if gone:
            turn.newest = transcripts.newest(turn.messages)
        if turn.screened is not None and not looked:
            # for the rails to end the turn
            turn.messages.append({"role": "user", "content": self.removed(language)})
        return decisions

    def _is_screened(self, index: int, turn: Turn, on: set[Stage], *, checking: bool, asked: bool) -> bool:
        message, looked = turn.messages[index], turn.looked
        closing = index == len(turn.messages) - 1
        if message.get("tool_calls") and closing:
            # the rail for tool calls runs on it, but not under `check`, which knows no tool rails (NeMo-Guardrails
            # #2065)
            return checking and "tool_call" in on
        if index >= turn.newest.stop and asked:
            return not looked and "output" in on  # the answer that `check` was asked about: the output rail's
        if "input" in on:
            return not looked or index not in turn.newest or message.get("role") in ("event", "context")
        if transcripts.is_tool(message):
            past = not looked or index not in transcripts.trailing_tools(turn.messages)
            return "tool_result" in on and past
        return "tool_call" in on and bool(message.get("tool_calls"))
