"""A person decides: what is put before a reviewer by LangGraph's `interrupt`, and what becomes of their answer.

For held content the interrupt carries its id, the rules and the categories, never the content. For a call the
arguments stand in it, as LangChain's review screens expect. The answer has LangChain's own form: `{"decisions":
[{"type": "approve" | "edit" | "reject", "edited_action": ..., "message": ...}]}`, one decision for each request in
order; a decision that is missing or not known counts as a rejection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.config import get_config
from langgraph.types import interrupt

from turnguard.content import Step, ToolCall
from turnguard.deciding import Outcome
from turnguard.decision import Decision
from turnguard.langchain import notices
from turnguard.langchain.holding import Held
from turnguard.langchain.judging import Judging, Surface, unsettled
from turnguard.langchain.reading import Asked, Call, asked, stage_of
from turnguard.policy import Policy, Rule
from turnguard.verdict import Coverage

REJECT: Mapping[str, Any] = {"type": "reject"}
_ALLOWED = ["approve", "edit", "reject"]


def asks_a_person(policy: Policy) -> bool:
    """Whether any rule of the policy can end in a review."""

    def rules() -> Iterator[Rule]:
        for stage in policy.stages.values():
            yield from (stage.default, stage.on_failure, *stage.categories.values(), *stage.on_uncheckable.values())

    return any("review" in (rule.action, rule.otherwise.action if rule.otherwise else "") for rule in rules())


def has_checkpointer() -> bool:
    """Whether this run can be resumed, so that a person can be waited for."""
    try:
        configurable = get_config().get("configurable") or {}
    except RuntimeError:
        return False
    return bool(configurable.get("__pregel_checkpointer"))  # no public name says this; a thread_id alone does not


class Reviews:
    """Puts what waits before a reviewer and carries their decisions out."""

    def __init__(self, judging: Judging) -> None:
        self._judging = judging

    async def messages(self, messages: Sequence[BaseMessage]) -> tuple[list[BaseMessage], Decision | None]:
        """Input and tool results that wait: what stands in their place now, and the decision that ends the turn if
        one does.
        """
        waiting = unsettled(messages)
        settled: list[BaseMessage] = []
        refused: Decision | None = None
        requests = [
            (_request(self._judging.holding.get(held), message, held), message, held) for _, message, held in waiting
        ]
        answers = _ask([request for request, _, _ in requests])
        done: list[str] = []
        for (at, message, held), answer in zip(waiting, answers, strict=True):
            request = asked(messages[: at + 1], self._judging.guard.checks.history)
            final, decision = await self._message(message, held, answer, request, done)
            settled.append(final)
            if decision is not None and isinstance(message, HumanMessage):
                refused = refused or decision
        self._forget(done)
        return settled, refused

    async def answer(self, last: AIMessage, request: Asked) -> tuple[list[BaseMessage], Decision | None]:
        """The model's answer that waits, or its calls that do."""
        held = notices.marked(last).get("held")
        following: list[BaseMessage] = []
        done: list[str] = []
        message: BaseMessage = last
        if isinstance(held, str):
            kept = self._judging.holding.get(held)
            (answer,) = _ask([_request(kept, last, held)])
            message, decision = await self._message(last, held, answer, request, done)
            if decision is not None:
                self._forget(done)
                return [message], decision
            if kept is not None and answer.get("type") == "approve":
                following = list(kept.answers)
        if isinstance(message, AIMessage) and notices.marked(message).get("calls"):
            message, answers = await self._calls(message, request, done)
            following += answers
        self._forget(done)
        return [message, *following], None

    async def call(self, call: Call, request: Asked) -> tuple[Decision, Any]:
        """A call that came to the tool in another form than the model proposed: the decision, and its arguments or
        None.
        """
        decision = await self._judging.rule_call(call, request)
        return decision, await self._settled_call(call, decision, request)

    def _forget(self, done: Sequence[str]) -> None:
        """Let go of what is settled, all at once and last: an interrupt in between runs the node from its beginning."""
        for held in done:
            self._judging.holding.drop(held)

    # ------------------------------------------------------------ one at a time

    async def _message(
        self, stand_in: BaseMessage, held: str, answer: Mapping[str, Any], request: Asked, done: list[str]
    ) -> tuple[BaseMessage, Decision | None]:
        """What stands in place of one held message now, and the decision where it stays withheld."""
        while True:
            done.append(held)
            kept = self._judging.holding.get(held)
            if kept is None or kept.message is None:
                lost = _lost(stand_in)
                return await self._rejected(stand_in, lost, REJECT), lost
            if answer.get("type") == "approve":
                # the reducer named the stand-in, so the approved message takes that id to come in its place
                approved = kept.message.model_copy(update={"id": stand_in.id})
                self._judging.approve(approved, request)
                return approved, None
            text = _edited_text(answer)
            if text is None:
                return await self._rejected(stand_in, kept.decision, answer), kept.decision
            edited = _with_text(stand_in, text)
            under = request.then(edited, 0) if isinstance(edited, HumanMessage) else request
            ruling = await self._judging.rule(edited, under, Surface(reviewable=True))
            if ruling.held is None:
                return ruling.message, ruling.ended
            held = ruling.held
            (answer,) = _ask([_request(self._judging.holding.get(held), stand_in, held)])

    async def _calls(self, message: AIMessage, request: Asked, done: list[str]) -> tuple[AIMessage, list[ToolMessage]]:
        """The message with what became of its calls that waited, and the answers to those that were rejected."""
        waiting: dict[str, str] = dict(notices.marked(message)["calls"])
        kept = {call_id: self._judging.holding.get(held) for call_id, held in waiting.items()}
        answers = _ask([_call_request(one, call_id, waiting[call_id]) for call_id, one in kept.items()])
        final: dict[str, Any] = {}
        rejected: list[ToolMessage] = []
        for (call_id, one), answer in zip(kept.items(), answers, strict=True):
            if one is None or one.call is None:
                name = next((call["name"] for call in message.tool_calls if call["id"] == call_id), None)
                lost = _lost(message)
                text = notices.call_notice(self._judging.guard, lost)
                rejected.append(notices.answer(text, call_id, name, notices.about(lost)))
                continue
            done.append(waiting[call_id])
            args = await self._decided(one.call, one.decision, answer, request)
            if args is None:
                text = notices.call_notice(self._judging.guard, one.decision, await self._said(answer))
                rejected.append(notices.answer(text, call_id, one.call.name, notices.about(one.decision)))
            else:
                final[call_id] = {"name": one.call.name, "args": args, "id": call_id, "type": "tool_call"}
        calls = [final.get(call["id"] or "", call) for call in message.tool_calls]
        mark = {key: value for key, value in notices.marked(message).items() if key != "calls"}
        settled = message.model_copy(
            update={"tool_calls": calls, "response_metadata": {**message.response_metadata, notices.KEY: mark}}
        )
        self._judging.approve(settled, request)
        return settled, rejected

    async def _settled_call(self, call: Call, decision: Decision, request: Asked) -> Any:
        if decision.action == "review" and has_checkpointer():
            (answer,) = _ask([_call_request(Held(decision, call=call), call.id or "", "")])
            return await self._decided(call, decision, answer, request)
        if decision.withheld:
            return None
        part = decision.parts[0]
        return part.arguments if decision.action == "rewrite" and isinstance(part, ToolCall) else call.args

    async def _decided(self, call: Call, decision: Decision, answer: Mapping[str, Any], request: Asked) -> Any:
        """The arguments to run with after a reviewer's answer; None when the call must not run."""
        if answer.get("type") == "approve":
            self._judging.accept_call(call, request)
            return call.args
        edited = _edited_call(call, answer)
        if edited is None:
            return None
        again = await self._judging.rule_call(edited, request)
        args = await self._settled_call(edited, again, request)
        if args is not None:
            self._judging.accept_call(Call(edited.name, args, edited.id), request)
        return args

    async def _rejected(self, stand_in: BaseMessage, decision: Decision, answer: Mapping[str, Any]) -> BaseMessage:
        guard = self._judging.guard
        mark = notices.about(decision)
        if isinstance(stand_in, AIMessage):
            return notices.ai(stand_in, await guard.arefusal(decision), mark)
        if isinstance(stand_in, ToolMessage):
            text = notices.result_notice(guard, decision, await self._said(answer))
            return notices.answer(text, stand_in.tool_call_id, stand_in.name, mark, stand_in.id)
        return HumanMessage(notices.removed(guard, decision), id=stand_in.id, response_metadata={notices.KEY: mark})

    async def _said(self, answer: Mapping[str, Any]) -> str:
        """What the reviewer told the agent, where that passes."""
        message = answer.get("message")
        if not isinstance(message, str) or not message.strip():
            return ""
        decision = await self._judging.guard.acheck(Step.tool_result("review", message))
        return f"The reviewer says: {message}" if decision.allowed else ""


def _ask(requests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pause the run until a person has answered. LangGraph gives the answer when the node runs again."""
    actions = [request["action"] for request in requests]
    configs = [{"action_name": action["name"], "allowed_decisions": _ALLOWED} for action in actions]
    answer = interrupt(
        {
            "action_requests": actions,
            "review_configs": configs,
            notices.KEY: [request["about"] for request in requests],
        }
    )
    decisions = answer.get("decisions") if isinstance(answer, Mapping) else None
    given = [one if isinstance(one, Mapping) else REJECT for one in decisions] if isinstance(decisions, list) else []
    return [*given, *[REJECT] * len(requests)][: len(requests)]


def _request(held: Held | None, stand_in: BaseMessage, identity: str) -> dict[str, Any]:
    """A review of held content: what it is and why it waits, without the content."""
    about = dict(notices.marked(stand_in)) if held is None else notices.about(held.decision)
    about["held"] = identity
    stage = about.get("stage", "output")
    args = {"id": identity, "categories": about.get("categories", []), "rules": about.get("rules", [])}
    named = f" of {stand_in.name}" if isinstance(stand_in, ToolMessage) and stand_in.name else ""
    summary = held.decision.summary() if held is not None else "the content is gone, so it can only be rejected"
    return {
        "action": {"name": f"review_{stage}", "args": args, "description": f"{stage}{named}: {summary}"},
        "about": about,
    }


def _call_request(held: Held | None, call_id: str, identity: str) -> dict[str, Any]:
    """A review of a proposed call: the reviewer sees the arguments."""
    if held is None or held.call is None:
        action = {"name": "review_tool_call", "args": {"id": identity}, "description": "the call is gone"}
        return {"action": action, "about": {"action": "review", "stage": "tool_call", "tool_call_id": call_id}}
    args = held.call.args if isinstance(held.call.args, dict) else {"arguments": held.call.args}
    action = {"name": held.call.name, "args": args, "description": held.decision.summary()}
    return {"action": action, "about": notices.about(held.decision, tool_call_id=call_id)}


def _lost(stand_in: BaseMessage) -> Decision:
    """What is left to say of content that is gone: it was never approved, so it is refused."""
    return Decision(stage_of(stand_in), "block", Outcome("block"), (), Coverage(), ())


def _edited_text(answer: Mapping[str, Any]) -> str | None:
    """The text that a reviewer wrote in place of held content."""
    if answer.get("type") != "edit":
        return None
    action = answer.get("edited_action")
    args = action.get("args") if isinstance(action, Mapping) else None
    text = next((args[key] for key in ("content", "text") if key in args), None) if isinstance(args, Mapping) else None
    return text if isinstance(text, str) and text.strip() else None


def _edited_call(call: Call, answer: Mapping[str, Any]) -> Call | None:
    """The call as a reviewer edited it. It stays a call of the same tool."""
    action = answer.get("edited_action") if answer.get("type") == "edit" else None
    if not isinstance(action, Mapping) or not isinstance(action.get("args"), Mapping):
        return None
    if action.get("name", call.name) != call.name:
        return None
    return Call(call.name, dict(action["args"]), call.id)


def _with_text(original: BaseMessage, text: str) -> BaseMessage:
    """A fresh message of the same kind and id with a reviewer's text."""
    if isinstance(original, ToolMessage):
        return ToolMessage(text, tool_call_id=original.tool_call_id, name=original.name, id=original.id)
    kind = AIMessage if isinstance(original, AIMessage) else HumanMessage
    return kind(text, id=original.id, name=original.name)
