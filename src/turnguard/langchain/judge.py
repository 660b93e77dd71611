"""A message in, a ruling out: what stands in its place, and why. The async core that every LangChain surface shares."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
    message_chunk_to_message,
)

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Decision
from turnguard.core.step import Part, Step, ToolCall
from turnguard.guard import Guard
from turnguard.langchain import notices
from turnguard.langchain.deadlines import Attempts
from turnguard.langchain.held import HELD, PASSED, Held, Holding
from turnguard.langchain.messages import Asked, Call, Reading, fingerprint, is_request, plain_name, read, role, stage_of
from turnguard.langchain.rewrites import Draft
from turnguard.langchain.rulings import ALONE, Ruling, Surface, Unknown
from turnguard.runtime.caches import Cache
from turnguard.transcripts import blocks
from turnguard.transcripts.seen import Unfreezable, frozen_copy

REMOVE_ALL = "__remove_all__"
"""LangGraph's `REMOVE_ALL_MESSAGES`: what removes every message before it."""
NOTHING_ASKED = Asked()
BEGINNINGS = 256
"""Conversations whose beginnings are recognised."""


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first messages of a conversation, all of them known, as copies of what they held, and the request that
    follows them.
    """

    frozen: list[Any]
    after: Asked


NOTHING_KNOWN = _Beginning([], NOTHING_ASKED)


@dataclass
class Judging:
    """Rules on messages with a guard. What passed is remembered by content, so that a loop costs no second look.

    `owner` is the name of the surface: of several in one agent, each settles the reviews that it asked for.
    """

    guard: Guard
    check_input: bool = True
    check_output: bool = True
    check_tool_calls: bool = True
    check_tool_results: bool = True
    owner: str = ""
    holding: Holding = field(default_factory=Holding)
    passed: Cache[bytes, bool] = field(default_factory=lambda: Cache(PASSED))
    approved: Cache[tuple[bytes, str], bool] = field(default_factory=lambda: Cache(PASSED))
    refused: Cache[str, Decision] = field(default_factory=lambda: Cache(HELD))
    beginnings: Cache[str, _Beginning] = field(default_factory=lambda: Cache(BEGINNINGS))

    def __post_init__(self) -> None:
        # our own texts are read from files when first asked for: here, not in an event loop that must not block
        _ = "" in self.guard.own_words

    @property
    def checks_all(self) -> bool:
        """Whether no stage is left to somebody else."""
        return self.check_input and self.check_output and self.check_tool_calls and self.check_tool_results

    # ------------------------------------------------------------ which messages need a look

    def unknown(self, messages: Sequence[Any]) -> Iterator[Unknown]:
        """The messages that were not judged yet, in order. The beginning of a conversation that holds what it held when
        it was known is not read again.
        """
        known = self._beginning(messages)
        request, frozen = known.after, list(known.frozen)
        for at, message in enumerate(messages[len(frozen) :], len(frozen)):
            if is_request(message):
                request = request.then(message, self.guard.checks.history)
            if isinstance(message, BaseMessage) and self.concerns(message):
                whole = message_chunk_to_message(message) if isinstance(message, AIMessageChunk) else message
                reading = read(whole)
                if not reading.empty and not self._is_known(whole, reading, request):
                    yield Unknown(at, whole, request)
                    continue
            if len(frozen) == at and (copied := _copied(message)) is not None:
                frozen.append(copied)
                known = _Beginning(frozen, request)
        if messages and len(frozen) > len(self._beginning(messages).frozen):
            self.beginnings.put(_first(messages), known)

    def asked(self, messages: Sequence[Any]) -> Asked:
        """The newest request in a conversation."""
        known = self._beginning(messages)
        request = known.after
        for message in messages[len(known.frozen) :]:
            if is_request(message):
                request = request.then(message, self.guard.checks.history)
        return request

    def _beginning(self, messages: Sequence[Any]) -> _Beginning:
        """As much of a conversation as was known the last time, where it holds the same. The copies hold the very
        strings, and Python compares what is identical without looking at it.
        """
        found = self.beginnings.get(_first(messages)) if messages else None
        if found is None or [getattr(one, "__dict__", None) for one in messages[: len(found.frozen)]] != found.frozen:
            return NOTHING_KNOWN
        return found

    def known(self, message: BaseMessage, request: Asked) -> bool:
        """Whether a message was judged with this content under this request."""
        return self._is_known(message, read(message), request)

    def _is_known(self, message: BaseMessage, reading: Reading, request: Asked) -> bool:
        digest = self._fingerprint(message, reading, request)
        return digest in self.passed or (message.id is not None and (digest, message.id) in self.approved)

    def digest(self, message: BaseMessage, request: Asked) -> bytes:
        """What tells a message's content, under this request, from any other."""
        return self._fingerprint(message, read(message), request)

    def accept(self, message: BaseMessage, request: Asked) -> None:
        """Remember a message as judged, and its calls with it."""
        reading = read(message)
        self.passed.put(self._fingerprint(message, reading, request), True)
        for call in reading.calls:
            self.accept_call(call, request)

    def approve(self, message: BaseMessage, request: Asked) -> None:
        """Remember that a person approved this content in this message; the same elsewhere is asked about anew."""
        reading = read(message)
        self.approved.put((self._fingerprint(message, reading, request), message.id or ""), True)
        for call in reading.calls:
            self.accept_call(call, request)

    def known_call(self, call: Call, request: Asked) -> bool:
        """Whether this very call was judged under this request."""
        return fingerprint("tool_call", Reading(calls=(call,)), request) in self.passed

    def accept_call(self, call: Call, request: Asked) -> None:
        """Remember a call as judged."""
        self.passed.put(fingerprint("tool_call", Reading(calls=(call,)), request), True)

    def concerns(self, message: BaseMessage) -> bool:
        """Whether messages of this role are judged here at all."""
        stage = stage_of(message)
        if role(message) in self.guard.checks.trusted_roles:
            return False
        if stage == "output":
            return self.check_output or self.check_tool_calls or self.check_tool_results
        return self.check_input if stage == "input" else self.check_tool_results

    def _fingerprint(self, message: BaseMessage, reading: Reading, request: Asked) -> bytes:
        stage = stage_of(message)
        if stage == "output":
            return fingerprint(stage, reading, request)
        context = Asked(earlier=request.earlier) if stage == "input" else None
        return fingerprint(stage, reading, context, (message.name or "") if stage == "tool_result" else "")

    # ------------------------------------------------------------ ruling

    async def rule(
        self, message: Any, request: Asked, surface: Surface = ALONE, attempts: Attempts | None = None
    ) -> Ruling:
        """Judge one message. `request` is what it answers; for a person's message, the request that it is. `attempts`
        are the checks of its beginnings.
        """
        if isinstance(message, AIMessageChunk):
            message = message_chunk_to_message(message)
        reading = read(message)
        if reading.empty or not self.concerns(message):
            return Ruling(message)
        stage = stage_of(message)
        if stage == "output" and isinstance(message, AIMessage):
            ruling = await self._rule_ai(message, reading, request, surface, attempts)
        else:
            step = Step(
                stage,
                reading.parts,
                prompt=request.text if stage != "input" else None,
                history=request.earlier if stage == "input" else (),
                tool=message.name if stage == "tool_result" else None,
            )
            ruling = await self._rule_whole(message, reading, await self.guard.acheck(step), surface)
        if not ruling.unsure:
            self.accept(ruling.message, request)
        return ruling

    async def rule_call(self, call: Call, request: Asked) -> Decision:
        """Judge one call that no message of the model brought in this form: it was edited, or has no message."""
        return await self.guard.acheck(call.step(request))

    async def _rule_whole(self, message: Any, reading: Reading, decision: Decision, surface: Surface) -> Ruling:
        """A message that is one step: a person's, or a tool's."""
        seen = () if decision.action == "allow" else (decision,)
        if decision.action == "review" and surface.reviewable:
            held = self.holding.hold(Held(decision, message))
            mark = notices.about(decision, held=held, by=self.owner)
            return Ruling(_stand_in(message, notices.pending_notice(self.guard), mark), seen, held=held)
        if decision.withheld:
            text = (
                notices.result_notice(self.guard, decision)
                if decision.stage == "tool_result"
                else notices.removed(self.guard, decision)
            )
            return Ruling(_stand_in(message, text, notices.about(decision)), seen, ended=decision)
        changes = _changes(message, reading, decision.parts)
        if seen:
            return Ruling(notices.flagged(message, decision, **changes), seen, unsure=decision.failed)
        return Ruling(message.model_copy(update=changes) if changes else message, unsure=decision.failed)

    async def _rule_ai(
        self, message: AIMessage, reading: Reading, request: Asked, surface: Surface, attempts: Attempts | None
    ) -> Ruling:
        answer_calls, calls = _calls(reading, surface)
        steps = self._steps(reading, answer_calls, calls, request)
        decided = await self._check(steps, calls, attempts)
        seen = tuple(decision for decision in decided.values() if decision.action != "allow")
        unsure = any(decision.failed for decision in decided.values() if decision.allowed)
        said, results = decided.pop("said", None), decided.pop("results", None)
        verdicts = {index: decided.get(index) for index in range(len(calls))}

        refused = self._refused(
            said, verdicts.values(), surface, structured=bool(answer_calls) or (surface.parsed and not calls)
        )
        if refused is not None:
            return await self._refusal(message, refused, seen)
        if not seen and all(
            decision is None or all(a is b for a, b in zip(decision.parts, step.parts, strict=True))
            for decision, step in ((said, steps.get("said")), (results, steps.get("results")))
            if step is not None
        ):
            return Ruling(message, unsure=unsure)
        draft = Draft(self.guard, self.holding, self.owner, message, reading, surface)
        draft.say(said)
        draft.hear(results)
        for index, call in enumerate(calls):
            draft.call(call, verdicts[index])
        for call in answer_calls:
            draft.call(call, None)
        if draft.nothing_left:
            worst = max(seen, key=lambda decision: decision.action == "block")
            return await self._refusal(message, worst, seen)
        ruled, answers = draft.finished()
        if said is not None and said.action == "review":
            held = self.holding.hold(Held(said, ruled, answers))
            stand_in = notices.ai(
                message, notices.pending_notice(self.guard), notices.about(said, held=held, by=self.owner)
            )
            return Ruling(stand_in, seen, held=held)
        return Ruling(ruled, seen, answers=answers, unsure=unsure)

    def _steps(
        self, reading: Reading, answer_calls: Sequence[Call], calls: Sequence[Call], request: Asked
    ) -> dict[Any, Step]:
        """What an AI message holds to judge: "said", "results", and its calls by position."""
        spoken = (*reading.parts, *(ToolCall(call.name, call.args, call.id) for call in answer_calls))
        steps: dict[Any, Step] = {}
        if spoken and self.check_output:
            steps["said"] = Step("output", spoken, prompt=request.text, prompt_images=request.images)
        if reading.results and self.check_tool_results:
            parts = tuple(block.part for block in reading.results)
            steps["results"] = Step("tool_result", parts, prompt=request.text)
        if self.check_tool_calls:
            steps |= {index: call.step(request) for index, call in enumerate(calls)}
        return steps

    async def _check(
        self, steps: Mapping[Any, Step], calls: Sequence[Call], attempts: Attempts | None
    ) -> dict[Any, Decision]:
        if attempts is None:
            checks = [self.guard.acheck(step) for step in steps.values()]
        else:
            checks = [attempts.check(self.guard, _name(key, calls), step) for key, step in steps.items()]
        decisions = [await checks[0]] if len(checks) == 1 else await asyncio.gather(*checks)
        return dict(zip(steps, decisions, strict=True))

    def _refused(
        self, said: Decision | None, calls: Iterable[Decision | None], surface: Surface, *, structured: bool
    ) -> Decision | None:
        """The decision that withholds the message as a whole, if one does."""
        if said is not None:
            if said.action == "block" or (said.action == "review" and not surface.reviewable):
                return said
            if structured and said.action in ("rewrite", "review"):
                return said  # a rewrite of parsed data is no longer that data
        if surface.refuse_calls:
            return next((decision for decision in calls if decision is not None and decision.withheld), None)
        return None

    async def _refusal(self, message: AIMessage, decision: Decision, seen: tuple[Decision, ...]) -> Ruling:
        text = await self.guard.arefusal(decision)
        return Ruling(notices.ai(message, text, notices.about(decision)), seen, ended=decision, refusal=text)

    async def prefix(
        self, message: AIMessageChunk, request: Asked, surface: Surface, attempts: Attempts
    ) -> Decision | None:
        """Judge what a stream has brought so far; the strictest decision, None when there is nothing to judge yet. What
        failed is noted in `attempts`.
        """
        reading = read(message)
        answer_calls, calls = _calls(reading, surface)
        steps = self._steps(reading, answer_calls, calls, request)
        decided = await self._check(steps, calls, None)
        for key, decision in decided.items():
            attempts.note(_name(key, calls), steps[key], decision)
        return max(decided.values(), key=lambda decision: SEVERITY[decision.action], default=None)


def _first(messages: Sequence[Any]) -> str:
    """What tells conversations apart: two of one name cost a look, and no more."""
    return str(getattr(messages[0], "id", None))


def _copied(message: Any) -> Any:
    """A copy of what a message holds; None where that may change unnoticed."""
    try:
        return frozen_copy(message.__dict__)[0] if isinstance(message, BaseMessage) else None
    except Unfreezable:
        return None


def replacing(messages: Sequence[BaseMessage], judged: Mapping[int, Sequence[BaseMessage]]) -> list[Any]:
    """What to write into a state so that these messages stand in it, by position; empty where none changed. The first
    takes the place of the message there, others follow it.

    A message is replaced by its id. Some graphs keep messages without one (deepagents does): there the whole list is
    written anew.
    """
    changed = {at: several for at, several in judged.items() if several[0] is not messages[at]}
    if all(several[0].id is not None for several in changed.values()):
        return [message for several in changed.values() for message in several]
    whole = (changed.get(at, (message,)) for at, message in enumerate(messages))
    return [RemoveMessage(REMOVE_ALL), *(message for several in whole for message in several)]


def _calls(reading: Reading, surface: Surface) -> tuple[list[Call], list[Call]]:
    """The calls that are the answer itself, and those of tools."""
    if not surface.structured:
        return [], list(reading.calls)
    return (
        [call for call in reading.calls if call.name in surface.structured],
        [call for call in reading.calls if call.name not in surface.structured],
    )


def _name(key: Any, calls: Sequence[Call]) -> str | None:
    """What a step is called while its message grows; None for a call that cannot be found again."""
    if isinstance(key, str):
        return key
    identity = calls[key].id
    return f"call {identity}" if identity else None


def _changes(message: BaseMessage, reading: Reading, parts: Sequence[Part | None]) -> dict[str, Any]:
    """What of a message must change so that it holds `parts`; empty when nothing must."""
    said = len(reading.said)
    changes: dict[str, Any] = {}
    content = blocks.replace(message.content, reading.said, parts[:said])
    if content is not message.content:
        changes["content"] = content
    beside = zip(reading.extras, parts[said:], strict=True)
    if any(part is not block.part for block, part in beside):
        changes["additional_kwargs"] = {}
        changes["name"] = plain_name(message.name)
        if isinstance(message, ToolMessage):
            changes["artifact"] = None
    return changes


def _stand_in(message: BaseMessage, text: str, mark: dict[str, Any]) -> BaseMessage:
    """A fresh message of the same kind and id that holds `text` alone."""
    if isinstance(message, ToolMessage):
        return notices.answer(text, message.tool_call_id, message.name, mark, message.id)
    if isinstance(message, HumanMessage):
        return HumanMessage(text, id=message.id, response_metadata={notices.KEY: mark})
    return message.model_copy(
        update={"content": text, "name": None, "additional_kwargs": {}, "response_metadata": {notices.KEY: mark}}
    )
