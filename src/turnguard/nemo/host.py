"""What of Turnguard one `LLMRails` has in its configuration, and what a request to it may not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemoguardrails.exceptions import InvalidStateError

from turnguard.core.step import Stage
from turnguard.guard import Guard
from turnguard.nemo.reports import options_of
from turnguard.nemo.requests import is_answer, is_tool

RAILS: Mapping[str, tuple[str, Stage]] = {
    "turnguard check input": ("input", "input"),
    "turnguard check output": ("output", "output"),
    "turnguard check tool call": ("tool_output", "tool_call"),
    "turnguard check tool result": ("tool_input", "tool_result"),
    "turnguard check retrieval": ("retrieval", "retrieval"),
}
"""Flow → the kind of rail that it is listed under in NeMo's configuration, and the stage that it judges."""
KIND: Mapping[Stage, str] = {stage: kind for kind, stage in RAILS.values()}
_SWITCHES = ("generation_options", "skip_output_rails")
"""Context variables that steer the engine past rails."""


class InvalidRequest(InvalidStateError):  # type: ignore[misc] # NeMo is read as Any
    """A request that Turnguard's rails do not take. NeMo's server answers 422, with the sentence."""


@dataclass(slots=True, eq=False)
class Host:
    """`stages` are those whose rail is configured; `policy` names one of the guard's.

    `exceptions` is NeMo's `enable_rails_exceptions`. `others`: not all input and output rails are ours. `late` are the
    output rails that do not begin with a check of ours. `alone`: every input and tool input rail checks with us.
    `own_refusal` is what the user's `define bot refuse to respond` says, where the policy has no messages of its own.
    `knowledge` is NeMo's knowledge base where the engine would search it past every retrieval rail.
    """

    guard: Guard
    stages: frozenset[Stage]
    policy: str | None
    exceptions: bool
    others: bool
    late: tuple[str, ...]
    alone: bool
    own_refusal: str | None
    knowledge: Any = None

    def on(self, options: Any) -> frozenset[Stage]:
        """The stages that the options of a request leave on."""
        rails = getattr(options_of(options), "rails", None)
        return frozenset(stage for stage in self.stages if getattr(rails, KIND[stage], True))

    def judged(self, messages: Sequence[Any], options: Any, *, checking: bool) -> set[int]:
        """The indexes of the messages that are judged before the engine sees any.

        The input rail stands for the whole transcript. A closing answer that the engine is asked about is the output
        rail's, a closing call the tool rail's.
        """
        on, asked, closing = self.on(options), checking or not _has_dialog(options), len(messages) - 1

        def stage(index: int, message: Any) -> Stage:
            if is_tool(message):
                return "tool_result"
            calls = isinstance(message, Mapping) and message.get("tool_calls")
            return "tool_call" if calls else "output" if asked and index == closing and is_answer(message) else "input"

        found = {index: stage(index, message) for index, message in enumerate(messages)}
        ours = {closing} if found.get(closing) in ("tool_call", "output") else set()
        return {index for index, each in found.items() if each in on or ("input" in on and index not in ours)}

    def require_untouched(self, messages: Sequence[Any], options: Any) -> None:
        """Raise `InvalidRequest` where a request would switch the rails off and clients write requests.

        Events can start any flow or action and pretend that rails have run.
        """
        if self.guard.checks.trusted_roles:
            return
        for message in messages:
            if not isinstance(message, Mapping):
                continue
            if message.get("role") == "event":
                raise InvalidRequest("an event message may not be sent where clients write the messages")
            content = message.get("content")
            steering = [name for name in _SWITCHES if isinstance(content, Mapping) and name in content]
            if message.get("role") == "context" and steering:
                raise InvalidRequest(f"a context message may not set {steering[0]} where clients write the messages")
        off = [KIND[stage] for stage in sorted(self.stages - self.on(options))]
        if off and _has_dialog(options):
            raise InvalidRequest(
                f"the request switches off the {off[0]} rails, which is not allowed where clients write the messages "
                "(checks.trusted_roles is empty)"
            )


def _has_dialog(options: Any) -> bool:
    """Whether the engine is asked to answer. Without dialog rails it only checks."""
    return bool(getattr(getattr(options_of(options), "rails", None), "dialog", True))
