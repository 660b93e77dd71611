"""A message in, a ruling out: what stands in its place, and why. The async core that every LangChain surface shares."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    RemoveMessage,
    message_chunk_to_message,
)

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Decision
from turnguard.core.step import Step, ToolCall
from turnguard.guard import Guard
from turnguard.langchain import notices
from turnguard.langchain.deadlines import Attempts
from turnguard.langchain.held import HELD, PASSED, Held, Holding
from turnguard.langchain.history import History
from turnguard.langchain.messages import asked, call_of, call_step, fingerprint, read, role, stage_of
from turnguard.langchain.rewrites import changed, revised, stand_in
from turnguard.langchain.rulings import ALONE, Ruling, Surface, Unknown
from turnguard.runtime.caches import Cache
from turnguard.transcripts.conversation import Conversation, Piece, Request, request_history
from turnguard.transcripts.message import Reading

REMOVE_ALL = "__remove_all__"
"""LangGraph's `REMOVE_ALL_MESSAGES`: what removes every message before it."""
RECENT = 32
"""Messages whose digest is kept while several hooks look at them."""


@dataclass
class Judging:
    """Rules on messages with a guard. What passed is remembered by content, so that a loop costs no second look.

    `owner` is the name of the surface: of several in one agent, each settles the reviews that it asked for. `policy`
    names the policy of this run; see `under`.
    """

    guard: Guard
    check_input: bool = True
    check_output: bool = True
    check_tool_calls: bool = True
    check_tool_results: bool = True
    owner: str = ""
    policy: str | None = None
    holding: Holding = field(default_factory=Holding)
    passed: Cache[bytes, bool] = field(default_factory=lambda: Cache(PASSED))
    approved: Cache[tuple[bytes, str], bool] = field(default_factory=lambda: Cache(PASSED))
    refused: Cache[str, Decision] = field(default_factory=lambda: Cache(HELD))
    definitions: Cache[Hashable, Decision] = field(default_factory=lambda: Cache(PASSED))
    history: History = field(default_factory=History)
    digests: Cache[int, tuple[Reading, Request, Any, bytes]] = field(default_factory=lambda: Cache(RECENT))

    def __post_init__(self) -> None:
        # our own texts are read from files when first asked for: here, not in an event loop that must not block
        _ = "" in self.guard.own_words

    @property
    def policy_digest(self) -> str:
        """What tells this run's policy from any other."""
        return self.guard.chosen(self.policy).digest

    @property
    def checks_all(self) -> bool:
        """Whether no stage is left to somebody else."""
        return self.check_input and self.check_output and self.check_tool_calls and self.check_tool_results

    def under(self, policy: str) -> Judging:
        """The same under a policy of the guard's. What passed under one policy is not known to another."""
        return replace(self, policy=policy)

    async def check(self, step: Step) -> Decision:
        """Judge a step under this run's policy."""
        return await self.guard.acheck(step, policy=self.policy, hold=False)

    async def refusal(self, decision: Decision) -> str:
        """What to tell the person in place of what was withheld."""
        return await self.guard.arefusal(decision, policy=self.policy)

    # ------------------------------------------------------------ which messages need a look

    def unknown(self, messages: Sequence[Any]) -> Iterator[Unknown]:
        """The messages that were not judged yet, in order. The beginning of a conversation that holds what it held when
        it was known is not read again.
        """
        known = self.history.unchanged(messages)
        for at, request in known.changeable.items():
            yield from self._unknown(at, messages[at], request)
        request, start = known.after, len(known.frozen)
        requests: list[Request] = []
        whole = True
        for at, message in enumerate(messages[start:], start):
            found = list(self._unknown(at, message, request))
            yield from found
            request = asked((message,), self.guard.checks.history, request)
            whole = whole and not found
            if whole:
                requests.append(request)
        self.history.keep(known.and_then(messages[start : start + len(requests)], requests))

    def _unknown(self, at: int, message: Any, request: Request) -> Iterator[Unknown]:
        if not isinstance(message, BaseMessage) or not self.concerns(message):
            return
        whole = message_chunk_to_message(message) if isinstance(message, AIMessageChunk) else message
        reading = read(whole)
        if reading.leaves and not self._is_known(whole, reading, request):
            yield Unknown(at, whole, request)

    def asked(self, messages: Sequence[Any]) -> Request:
        """The newest request in a conversation."""
        known = self.history.same(messages)
        return asked(messages[len(known.messages) :], self.guard.checks.history, known.after)

    def known(self, message: BaseMessage, request: Request) -> bool:
        """Whether a message was judged with this content under this request."""
        return self._is_known(message, read(message), request)

    def _is_known(self, message: BaseMessage, reading: Reading, request: Request) -> bool:
        digest = self._digest(message, reading, request)
        return digest in self.passed or (message.id is not None and (digest, message.id) in self.approved)

    def digest(self, message: BaseMessage, request: Request) -> bytes:
        """What tells a message's content, under this request, from any other."""
        return self._digest(message, read(message), request)

    def _digest(self, message: BaseMessage, reading: Reading, request: Request) -> bytes:
        stage = stage_of(message)
        under: Any = request if stage == "output" else None
        if stage == "input":
            under = request_history(request, self.guard.checks.history)
        name = message.name if stage == "tool_result" else None
        policy = self.policy_digest
        known = self.digests.get(id(reading))
        if known is not None and known[0] is reading and known[1] is request and known[2] == (policy, name):
            return known[3]
        digest = fingerprint(policy, stage, reading, under, name)
        self.digests.put(id(reading), (reading, request, (policy, name), digest))
        return digest

    def accept(self, message: BaseMessage, request: Request) -> None:
        """Remember a message as judged, and its calls with it."""
        self.passed.put(self.digest(message, request), True)
        self._accept_calls(message, request)

    def approve(self, message: BaseMessage, request: Request) -> None:
        """Remember that a person approved this content in this message; the same elsewhere is asked about anew."""
        self.approved.put((self.digest(message, request), message.id or ""), True)
        self._accept_calls(message, request)

    def _accept_calls(self, message: BaseMessage, request: Request) -> None:
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            self.accept_call(call_of(call), request)

    def known_call(self, call: ToolCall, request: Request) -> bool:
        """Whether this very call was judged under this request."""
        return self.call_digest(call, request) in self.passed

    def accept_call(self, call: ToolCall, request: Request) -> None:
        """Remember a call as judged."""
        self.passed.put(self.call_digest(call, request), True)

    def call_digest(self, call: ToolCall, request: Request) -> bytes:
        """What tells a call under this request from any other."""
        return fingerprint(self.policy_digest, "tool_call", call, request)

    def concerns(self, message: BaseMessage) -> bool:
        """Whether messages of this role are judged here at all."""
        stage = stage_of(message)
        if role(message) in self.guard.checks.trusted_roles:
            return False
        if stage == "output":
            return self.check_output or self.check_tool_calls or self.check_tool_results
        return self.check_input if stage == "input" else self.check_tool_results

    # ------------------------------------------------------------ ruling

    async def rule(
        self, message: Any, request: Request, surface: Surface = ALONE, attempts: Attempts | None = None
    ) -> Ruling:
        """Judge one message that stands under this request. `attempts` are the checks of its beginnings."""
        if isinstance(message, AIMessageChunk):
            message = message_chunk_to_message(message)
        if not self.concerns(message):
            return Ruling(message)
        reading = read(message)
        pieces = self._cut(message, reading, request, surface)
        if not pieces:
            return Ruling(message)
        decisions = await self._decide(pieces, attempts)
        decided = list(zip(pieces, decisions, strict=True))
        if isinstance(message, AIMessage):
            ruling = await self._rule_ai(message, reading, decided, surface)
        else:
            ruling = self._rule_whole(message, reading, decided, surface)
        if not ruling.unsure:
            self.accept(ruling.message, request)
        return ruling

    async def rule_call(self, call: ToolCall, request: Request) -> Decision:
        """Judge one call that no message of the model brought in this form: it was edited, or has no message."""
        return await self.check(call_step(call, request))

    def _cut(self, message: BaseMessage, reading: Reading, request: Request, surface: Surface) -> list[Piece]:
        """The steps of a message that are judged here. Calls that are the answer itself are judged as output."""
        found = Conversation(self.guard.checks.history, request).pieces(0, reading)
        if not isinstance(message, AIMessage):
            return found
        wanted = {
            "output": self.check_output,
            "tool_call": self.check_tool_calls,
            "tool_result": self.check_tool_results,
        }
        said = [one for one in found if one.step.stage == "output" or _is_answer(one, surface)]
        others = [one for one in found if one not in said and wanted[one.step.stage]]
        if len(said) > 1 or (said and said[0].step.stage != "output"):
            parts = tuple(part for one in said for part in one.step.parts)
            indexes = tuple(index for one in said for index in one.indexes)
            step = replace(said[0].step, stage="output", parts=parts, tool=None)
            said = [Piece(0, indexes, step)]
        return [*(said if self.check_output else ()), *others]

    async def _decide(self, pieces: Sequence[Piece], attempts: Attempts | None) -> list[Decision]:
        if attempts is None:
            checks = [self.check(piece.step) for piece in pieces]
        else:
            checks = [attempts.check(self, _name(piece), piece.step) for piece in pieces]
        return [await checks[0]] if len(checks) == 1 else list(await asyncio.gather(*checks))

    def _rule_whole(
        self, message: Any, reading: Reading, decided: list[tuple[Piece, Decision]], surface: Surface
    ) -> Ruling:
        """A person's or a tool's message: what is withheld of it withholds all of it."""
        decisions = [decision for _, decision in decided]
        worst = max(decisions, key=_severity)
        seen = tuple(decision for decision in decisions if decision.action != "allow")
        unsure = any(decision.failed for decision in decisions)
        if worst.action == "review" and surface.reviewable:
            held = self.holding.hold(Held(worst, message))
            mark = notices.about(worst, held=held, by=self.owner)
            return Ruling(stand_in(message, notices.pending_notice(self.guard), mark), seen, held=held)
        if worst.withheld:
            notice = notices.result_notice if stage_of(message) == "tool_result" else notices.removed
            if notices.marked(message).get("stage") == "tool_call":  # ours, to which another middleware added something
                notice = notices.call_notice
            return Ruling(stand_in(message, notice(self.guard, worst), notices.about(worst)), seen, ended=worst)
        changes = changed(self.guard, message, reading, decided)
        if seen:
            return Ruling(notices.flagged(message, worst, **changes), seen, unsure=unsure)
        return Ruling(message.model_copy(update=changes) if changes else message, unsure=unsure)

    async def _rule_ai(
        self, message: AIMessage, reading: Reading, decided: list[tuple[Piece, Decision]], surface: Surface
    ) -> Ruling:
        seen = tuple(decision for _, decision in decided if decision.action != "allow")
        unsure = any(decision.failed for _, decision in decided if decision.allowed)
        said = next((decision for piece, decision in decided if piece.step.stage == "output"), None)
        refused = self._refused(said, decided, surface)
        if refused is not None:
            return await self._refusal(message, refused, seen)
        waits = said if said is not None and said.action == "review" else None
        carried = [each for each in decided if each[1] is not waits]
        made = revised(self.guard, self.holding, self.owner, message, reading, carried, surface)
        if made.empty and seen:
            return await self._refusal(message, max(seen, key=_severity), seen)
        if waits is not None:
            held = self.holding.hold(Held(waits, made.message, tuple(made.answers)))
            mark = notices.about(waits, held=held, by=self.owner)
            return Ruling(notices.ai(message, notices.pending_notice(self.guard), mark), seen, held=held)
        return Ruling(made.message, seen, answers=tuple(made.answers), unsure=unsure)

    def _refused(
        self, said: Decision | None, decided: Sequence[tuple[Piece, Decision]], surface: Surface
    ) -> Decision | None:
        """The decision that withholds the message as a whole, if one does."""
        if said is not None:
            calls = any(piece.step.stage == "tool_call" for piece, _ in decided)
            answers = any(isinstance(part, ToolCall) for piece, _ in decided[:1] for part in piece.step.parts)
            structured = (answers and said is decided[0][1]) or (surface.parsed and not calls)
            if said.action == "block" or (said.action == "review" and not surface.reviewable):
                return said
            if structured and said.action in ("rewrite", "review"):
                return said  # a rewrite of parsed data is no longer that data
        if surface.refuse_calls:
            return next((one for piece, one in decided if piece.step.stage == "tool_call" and one.withheld), None)
        return None

    async def _refusal(self, message: AIMessage, decision: Decision, seen: tuple[Decision, ...]) -> Ruling:
        text = await self.refusal(decision)
        return Ruling(notices.ai(message, text, notices.about(decision)), seen, ended=decision, refusal=text)

    async def prefix(
        self, message: AIMessageChunk, request: Request, surface: Surface, attempts: Attempts
    ) -> Decision | None:
        """Judge what a stream has brought so far; the strictest decision, None when there is nothing to judge yet. What
        failed is noted in `attempts`.
        """
        pieces = self._cut(message, read(message), request, surface)
        decisions = await self._decide(pieces, None) if pieces else []
        for piece, decision in zip(pieces, decisions, strict=True):
            attempts.note(_name(piece), piece.step, decision)
        return max(decisions, key=_severity, default=None)


def _severity(decision: Decision) -> int:
    return SEVERITY[decision.action]


def _is_answer(piece: Piece, surface: Surface) -> bool:
    return piece.step.stage == "tool_call" and piece.step.tool in surface.structured


def _name(piece: Piece) -> str | None:
    """What a step is called while its message grows; None for a call that cannot be found again."""
    if piece.step.stage != "tool_call":
        return piece.step.stage
    (part,) = piece.step.parts
    identity = part.id if isinstance(part, ToolCall) else None
    return f"call {identity}" if identity else None


def replacing(messages: Sequence[BaseMessage], judged: dict[int, Sequence[BaseMessage]] | Any) -> list[Any]:
    """What to write into a state so that these messages stand in it, by position; empty where none changed. The first
    takes the place of the message there, others follow it.

    A message is replaced by its id. Some graphs keep messages without one (deepagents does): there the whole list is
    written anew.
    """
    changes = {at: several for at, several in judged.items() if several[0] is not messages[at]}
    if all(several[0].id is not None for several in changes.values()):
        return [message for several in changes.values() for message in several]
    whole: Iterable[Any] = (changes.get(at, (message,)) for at, message in enumerate(messages))
    return [RemoveMessage(REMOVE_ALL), *(message for several in whole for message in several)]
