"""A person decides: what is put before a reviewer by LangGraph's `interrupt`, and what becomes of their answer.

For held content the interrupt carries its id, the rules and the categories, never the content. For a call the
arguments stand in it, as LangChain's review screens expect. The answer has LangChain's own form: `{"decisions":
[{"type": "approve" | "edit" | "reject" | "respond", "edited_action": ..., "message": ...}]}`, one decision for each
request in order; a decision that is missing or not known counts as a rejection. Where reviews are in a database,
`{"decisions": "stored"}` takes the answers from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.config import get_config
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from turnguard.core.decision import Decision
from turnguard.core.step import Step, ToolCall
from turnguard.langchain import notices, private_names
from turnguard.langchain import review_requests as questions
from turnguard.langchain.held import HELD, Held
from turnguard.langchain.judge import Judging
from turnguard.langchain.messages import fingerprint, read, stage_of
from turnguard.langchain.rewrites import NO_TOOL
from turnguard.langchain.rulings import Ruling, Surface
from turnguard.langchain.stored_reviews import REJECT, StoredReviews, name_of
from turnguard.runtime.caches import Cache
from turnguard.transcripts.conversation import Request


def has_checkpointer() -> bool:
    """Whether this run can be resumed, so that a person can be waited for."""
    try:
        return private_names.has_checkpointer(get_config())
    except RuntimeError:
        return False


@dataclass(frozen=True, slots=True)
class _Question:
    """What is put before a person: as it stands in the interrupt, and what exactly it is about."""

    action: Mapping[str, Any]
    about: Mapping[str, Any]
    subject: bytes
    identity: str = ""
    held: Held | None = None
    prompt: str | None = None


class Reviews:
    """Puts what waits before a reviewer and carries their decisions out.

    LangGraph runs a node again on resume and hands out its answers by position. So an answer counts only for what this
    process asked about at that position: whatever came to be asked in its place (the content was changed meanwhile, a
    check that had failed works again, another process has no record) is rejected. What was decided to be reviewed
    stays so until it is answered. With the guard's database an answer counts for the review that it names, in any
    process.
    """

    def __init__(self, judging: Judging) -> None:
        self._judging = judging
        self._asked: Cache[bytes, bool] = Cache(HELD)
        self._decided: Cache[bytes, Any] = Cache(HELD)
        self._approved: Cache[bytes, bool] = Cache(HELD)
        reviews = judging.guard.reviews
        self._store = StoredReviews(reviews, judging.holding) if reviews.stored else None

    def under(self, judging: Judging) -> Reviews:
        """The same reviews, judged under another policy."""
        made = copy(self)
        made._judging = judging
        return made

    async def messages(self, messages: Sequence[BaseMessage]) -> tuple[list[BaseMessage], Decision | None]:
        """Input and tool results that wait: what stands in their place now, and the decision that ends the turn if
        one does.
        """
        waiting = [
            (message, self._judging.asked(messages[:at]))
            for at, message in enumerate(messages)
            if isinstance(self._held(message), str)
        ]
        settled: list[BaseMessage] = []
        refused: Decision | None = None
        for (message, _), (final, decision) in zip(waiting, await self.settle(waiting), strict=True):
            settled += final
            if decision is not None and isinstance(message, HumanMessage):
                refused = refused or decision
        return settled, refused

    async def answer(self, last: AIMessage, request: Request) -> tuple[list[BaseMessage], Decision | None]:
        """The model's answer that waits, or its calls that do."""
        return (await self.settle([(last, request)]))[0]

    def held(self, messages: Sequence[BaseMessage]) -> bool:
        """Whether any message stands in for content that waits for a person to be asked here."""
        return any(isinstance(self._held(message), str) for message in messages)

    def waits(self, message: BaseMessage) -> bool:
        """Whether this message, or a call in it, waits for a person to be asked here."""
        return isinstance(self._held(message), str) or bool(self._calls(message))

    async def settle(
        self, waiting: Sequence[tuple[BaseMessage, Request]]
    ) -> list[tuple[list[BaseMessage], Decision | None]]:
        """What waits, put before a person all at once. For each: what stands in its place now (a message, and answers
        to its calls that will not run), and the decision where it stays withheld as a whole.
        """
        sitting = _Sitting()
        await self._restore([message for message, _ in waiting])
        every = [self._questions(message, request) for message, request in waiting]
        answers = iter(await self._ask([question for several in every for question in several]))
        settled = []
        for (message, request), several in zip(waiting, every, strict=True):
            given = [next(answers) for _ in several]
            settled.append(await self._settled(message, request, given, sitting))
        # all at once and last: an interrupt in between runs the node from its beginning
        for held in sitting.done:
            kept = self._judging.holding.take(held)
            if kept is not None and kept.message is not None:
                self._decided.take(self._subject(kept.message))  # the same content in a fork is asked about anew
        for approved, request in sitting.approved:
            self._judging.approve(approved, request)
        return settled

    async def call(self, call: ToolCall, request: Request) -> tuple[Decision, Any]:
        """A call that came to the tool in another form than the model proposed: the decision, and its arguments or
        None.
        """
        decision = await self._decision(call, request)
        return decision, await self._settled_call(call, decision, request)

    def asked_about(self, call: ToolCall, request: Request) -> bool:
        """Whether a person was asked about this call where it was about to run: then the question is put again
        whenever the task runs again, or a later question in it would be given this one's answer.
        """
        return bool(self._decided) and self._call_subject(call, request) in self._decided

    def approved(self, call: ToolCall, request: Request) -> bool:
        """Whether a person has approved this very call in this thread, as it is or as they edited it."""
        return self._judging.call_digest(call, request) + _configured("thread_id") in self._approved

    async def remembered(self, message: BaseMessage, request: Request) -> Ruling:
        """The ruling on a message; one that put it before a person is not made anew when the node runs again."""
        subject = self._subject(message)
        known: Ruling | None = self._decided.get(subject)
        ruling = known or await self._judging.rule(message, request, Surface(True))
        if known is None and (ruling.held is not None or notices.marked(ruling.message).get("calls")):
            if self._store is not None:
                ruling = self._store.named(ruling, subject)
            self._decided.put(subject, ruling)
        return ruling

    # ------------------------------------------------------------ one at a time

    def _held(self, message: BaseMessage) -> Any:
        mark = notices.marked(message)
        return mark.get("held") if mark.get("by", "") == self._judging.owner else None

    def _calls(self, message: BaseMessage) -> Mapping[str, str]:
        mark = notices.marked(message)
        calls = mark.get("calls") if mark.get("by", "") == self._judging.owner else None
        return calls if isinstance(calls, Mapping) else {}

    async def _restore(self, messages: Sequence[BaseMessage]) -> None:
        """Hold here what waits in these messages and another process held."""
        if self._store is None:
            return
        for message in messages:
            held = self._held(message)
            for identity in [held] if isinstance(held, str) else self._calls(message).values():
                if identity not in self._judging.holding:
                    await self._store.restore(identity)

    def _questions(self, message: BaseMessage, request: Request) -> list[_Question]:
        held = self._held(message)
        if isinstance(held, str):
            return [self._question(message, held, request)]
        calls = self._calls(message).items()
        return [self._call_question(call_id, identity, request) for call_id, identity in calls]

    async def _settled(
        self, message: BaseMessage, request: Request, answers: Sequence[Mapping[str, Any]], sitting: _Sitting
    ) -> tuple[list[BaseMessage], Decision | None]:
        held = self._held(message)
        following: list[BaseMessage] = []
        if isinstance(held, str):
            kept = self._judging.holding.get(held)
            message, decision = await self._message(message, held, answers[0], request, sitting)
            if decision is not None:
                return [message], decision
            if kept is not None and answers[0].get("type") == "approve":
                following = list(kept.answers)
            answers = await self._ask(self._questions(message, request)) if self._calls(message) else []
        if isinstance(message, AIMessage) and self._calls(message):
            message, rejected = await self._settled_calls(message, request, answers, sitting)
            following += rejected
        return [message, *following], None

    async def _message(
        self, stand_in: BaseMessage, held: str, answer: Mapping[str, Any], request: Request, sitting: _Sitting
    ) -> tuple[BaseMessage, Decision | None]:
        """What stands in place of one held message now, and the decision where it stays withheld."""
        while True:
            sitting.done.append(held)
            kept = self._judging.holding.get(held)
            if kept is None or kept.message is None:
                lost = questions.lost(stand_in)
                return await self._rejected(stand_in, lost, REJECT), lost
            if answer.get("type") == "approve":
                # the reducer named the stand-in, so the approved message takes that id to come in its place
                approved = kept.message.model_copy(update={"id": stand_in.id})
                sitting.approved.append((approved, request))
                return approved, None
            text = questions.edited_text(answer)
            if text is None:
                return await self._rejected(stand_in, kept.decision, answer), kept.decision
            edited = questions.with_text(stand_in, text)
            ruling = await self.remembered(edited, request)
            if ruling.held is None:
                return ruling.message, ruling.ended
            held = ruling.held
            (answer,) = await self._ask([self._question(stand_in, held, request)])

    async def _settled_calls(
        self, message: AIMessage, request: Request, answers: Sequence[Mapping[str, Any]], sitting: _Sitting
    ) -> tuple[AIMessage, list[ToolMessage]]:
        """The message with what became of its calls that waited, and the answers to those that were rejected."""
        tools = notices.marked(message).get("tools", {})
        final = {
            call_id: {"name": str(tools.get(call_id, NO_TOOL)), "args": {}, "id": call_id, "type": "tool_call"}
            for call_id in self._calls(message)
        }
        rejected: list[ToolMessage] = []
        for (call_id, identity), answer in zip(self._calls(message).items(), answers, strict=True):
            one = self._judging.holding.get(identity)
            if one is None or one.call is None:
                name = str(tools.get(call_id, NO_TOOL))
                lost = questions.lost(message)
                text = notices.call_notice(self._judging.guard, lost)
                rejected.append(notices.answer(text, call_id, name, notices.about(lost)))
                continue
            sitting.done.append(identity)
            said = questions.responded(answer)
            if said is not None:
                spoken = ToolMessage(said, tool_call_id=call_id, name=one.call.name)
                rejected.append((await self._judging.rule(spoken, request)).message)
                continue
            args = await self._answered(one.call, one.decision, answer, request)
            if args is None:
                text = notices.call_notice(self._judging.guard, one.decision, await self._said(answer))
                rejected.append(notices.answer(text, call_id, one.call.name, notices.about(one.decision)))
            else:
                final[call_id] = {"name": one.call.name, "args": args, "id": call_id, "type": "tool_call"}
        calls = [final.get(call["id"] or "", call) for call in message.tool_calls]
        mark = {key: value for key, value in notices.marked(message).items() if key not in ("calls", "tools")}
        settled = message.model_copy(
            update={"tool_calls": calls, "response_metadata": {**message.response_metadata, notices.KEY: mark}}
        )
        sitting.approved.append((settled, request))
        return settled, rejected

    async def _decision(self, call: ToolCall, request: Request) -> Decision:
        subject = self._call_subject(call, request)
        decision: Decision = self._decided.get(subject) or await self._judging.rule_call(call, request)
        if decision.action == "review":
            self._decided.put(subject, decision)
        return decision

    async def _settled_call(self, call: ToolCall, decision: Decision, request: Request) -> Any:
        if decision.action == "review" and has_checkpointer():
            held, subject = Held(decision, call=call), self._call_subject(call, request)
            action, about = questions.call_request(held, call.id or "", "")
            (answer,) = await self._ask([_Question(action, about, subject, name_of(subject), held, request.text)])
            return await self._answered(call, decision, answer, request)
        if decision.withheld:
            return None
        part = decision.parts[0]
        return part.arguments if decision.action == "rewrite" and isinstance(part, ToolCall) else call.arguments

    async def _answered(self, call: ToolCall, decision: Decision, answer: Mapping[str, Any], request: Request) -> Any:
        """The arguments to run with after a reviewer's answer; None when the call must not run."""
        if answer.get("type") == "approve":
            self._accept(call, request)
            return call.arguments
        edited = questions.edited_call(call, answer)
        if edited is None:
            return None
        again = await self._decision(edited, request)
        args = await self._settled_call(edited, again, request)
        if args is not None:
            self._accept(ToolCall(edited.name, args, edited.id), request)
        return args

    def _accept(self, call: ToolCall, request: Request) -> None:
        self._judging.accept_call(call, request)
        self._approved.put(self._judging.call_digest(call, request) + _configured("thread_id"), True)

    async def _rejected(self, stand_in: BaseMessage, decision: Decision, answer: Mapping[str, Any]) -> BaseMessage:
        guard = self._judging.guard
        mark = notices.about(decision)
        if isinstance(stand_in, AIMessage):
            return notices.ai(stand_in, await self._judging.refusal(decision), mark)
        if isinstance(stand_in, ToolMessage):
            text = notices.result_notice(guard, decision, await self._said(answer))
            return notices.answer(text, stand_in.tool_call_id, stand_in.name, mark, stand_in.id)
        return HumanMessage(notices.removed(guard, decision), id=stand_in.id, response_metadata={notices.KEY: mark})

    async def _said(self, answer: Mapping[str, Any]) -> str:
        """What the reviewer told the agent, where that passes."""
        message = answer.get("message")
        if not isinstance(message, str) or not message.strip():
            return ""
        decision = await self._judging.check(Step.tool_result("review", message))
        return f"The reviewer says: {message}" if decision.allowed else ""

    # ------------------------------------------------------------ asking

    def _question(self, stand_in: BaseMessage, identity: str, request: Request) -> _Question:
        held = self._judging.holding.get(identity)
        subject = identity.encode()
        if held is not None and held.message is not None:
            subject = self._subject(held.message, stand_in.id)
        action, about = questions.request_for(held, stand_in, identity)
        return _Question(action, about, subject, identity, held, request.text)

    def _call_question(self, call_id: str, identity: str, request: Request) -> _Question:
        held = self._judging.holding.get(identity)
        action, about = questions.call_request(held, call_id, identity)
        return _Question(action, about, identity.encode(), identity, held, request.text)

    def _subject(self, message: BaseMessage, identity: str | None = None) -> bytes:
        """This content in this message of this thread."""
        content = fingerprint(stage_of(message), read(message))
        return b"\0".join((content, (identity or message.id or "").encode(), _configured("thread_id")))

    def _call_subject(self, call: ToolCall, request: Request) -> bytes:
        """This call in this task: where it was proposed, and where it is about to run, are two."""
        return self._judging.call_digest(call, request) + _configured("checkpoint_ns")

    async def _ask(self, questions: Sequence[_Question]) -> list[Mapping[str, Any]]:
        """Pause the run until a person has answered. LangGraph gives the answer when the node runs again."""
        kept, new = list(questions), False
        if self._store is not None:
            stored = [await self._store.keep(one) for one in questions]
            kept = [one for one, known in zip(questions, stored, strict=True) if known is not None]
            new = True in stored  # and what cannot be stored is rejected
        given = dict(zip((one.identity for one in kept), await self._answers(kept, new=new), strict=True))
        return [given.get(one.identity, REJECT) for one in questions]

    async def _answers(self, asked: Sequence[_Question], *, new: bool) -> list[Mapping[str, Any]]:
        while asked:
            subjects = b"\0".join(question.subject for question in asked)
            about = [{**one.about, "review": one.identity} if self._store is not None else one.about for one in asked]
            try:
                answer = interrupt(questions.payload([one.action for one in asked], about))
            except GraphInterrupt:
                self._asked.put(subjects, True)
                raise
            decisions = answer.get("decisions") if isinstance(answer, Mapping) else None
            here = subjects in self._asked
            if self._store is not None:
                found = await self._store.answers(asked, decisions, asked=here or not new)
                if found is None:
                    continue  # nobody has answered yet
                return found
            listed = decisions if isinstance(decisions, list) and here else []
            given = [one if isinstance(one, Mapping) else REJECT for one in listed]
            return [*given, *[REJECT] * len(asked)][: len(asked)]
        return []


@dataclass
class _Sitting:
    """What one run of a node settles, to be carried out when nothing more is to be asked."""

    done: list[str] = field(default_factory=list)
    approved: list[tuple[BaseMessage, Request]] = field(default_factory=list)


def _configured(key: str) -> bytes:
    return str((get_config().get("configurable") or {}).get(key)).encode()
