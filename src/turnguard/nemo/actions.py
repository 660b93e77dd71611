"""The actions: `turnguard_check_input`, `..._output`, `..._tool_call`, `..._tool_result`, `..._retrieval`.

Each returns NeMo's `RailOutcome` to the flow that executes it and puts a rewrite into the flow's own variable
(`$user_message`, `$bot_message`, `$tool_calls`, `$tool_message`, `$relevant_chunks`), pictures and all. They may be
executed from any Colang 1.0 or 2.x flow. In Colang 1.0 `stop=True` ends the turn where one withholds, with what it says
to tell the person; `turnguard_refuse` does so later, given such an outcome.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from nemoguardrails.actions import action
from nemoguardrails.actions.actions import ActionResult
from nemoguardrails.actions.rail_outcome import RailOutcome

from turnguard.core.decision import Decision
from turnguard.core.step import Step, Text
from turnguard.nemo import live, transcripts
from turnguard.nemo.host import RAIL_OF, Host
from turnguard.nemo.outcomes import outcome
from turnguard.nemo.reports import strictest
from turnguard.nemo.turn import Turn, turn_for

Context = Mapping[str, Any] | None
Check = Callable[..., Awaitable[ActionResult]]


def _host(turnguard: Host | None) -> Host:
    if turnguard is None:
        raise RuntimeError("Turnguard's rails are not loaded: add import_paths: [turnguard/rails] to the configuration")
    return turnguard


def _checks(stage: str) -> Callable[[Check], Check]:
    """Make a check the action of this stage, which takes `stop=True` too."""

    def decorate(check: Check) -> Check:
        @functools.wraps(check)
        async def checked(*, stop: bool = False, turnguard: Host | None = None, **given: Any) -> ActionResult:
            result = await check(turnguard=turnguard, **given)
            made, host = result.return_value, _host(turnguard)
            if made.is_blocked and host.own_refusal:
                made.metadata["message"] = host.own_refusal
            return await _refused(made, host) if stop and made.is_blocked else result

        # the engine looks at it with every call, and finding it out takes longer than reading it
        vars(checked)["__signature__"] = inspect.signature(check)
        return action(name=f"turnguard_check_{stage}", is_system_action=True)(checked)

    return decorate


async def _refused(made: RailOutcome, host: Host) -> ActionResult:
    """End the turn with what this outcome says to tell the person: no answer, no tool calls."""
    message, stage = made.metadata["message"], made.metadata["stage"]
    turn_for(None).refuse(message, RAIL_OF[stage])
    await live.show(message, stage, exceptions=host.exceptions)
    events = live.refusal_events(message, stage, exceptions=host.exceptions)
    return ActionResult(return_value=made, events=events)


def _result(turn: Turn, decisions: Sequence[Decision], changes: dict[str, Any]) -> ActionResult:
    """The outcome for the flow, and the flow's variables as they were rewritten. A withheld turn changes none."""
    decisive = strictest(decisions)
    if decisive is not None and decisive.withheld:
        turn.withheld = True
        return ActionResult(return_value=outcome(decisions))
    texts = {name: transcripts.text_of(value) for name, value in changes.items() if name in _TARGETS}
    return ActionResult(return_value=outcome(decisions, texts), context_updates=changes)


_TARGETS = ("user_message", "bot_message", "relevant_chunks")


def _ended(turn: Turn) -> ActionResult | None:
    """What was refused before this rail ran stays refused."""
    return ActionResult(return_value=outcome([turn.screened], refused=turn.refusal)) if turn.screened else None


@_checks("input")
async def check_input(context: Context = None, turnguard: Host | None = None) -> ActionResult:
    """Judge everything that is new in this turn: user messages, tool results, pictures."""
    host, turn = _host(turnguard), turn_for(context)
    if (ended := _ended(turn)) is not None:
        return ended
    turn.messages[:] = transcripts.with_spoken(turn.messages, (context or {}).get("user_message"))
    before = turn.said
    decisions = await turn.judge(host.guard, turn.newest)
    turn.pass_on(decisions, host.removed())
    if turn.said == before:
        return _result(turn, decisions, {})
    changes = {"user_message": turn.said}
    # a `RunnableRails` invokes its runnable with what it was invoked with, not with the user's message
    invoked = (context or {}).get("passthrough_input")
    decisive = strictest(decisions)
    if invoked is not None and decisive is not None and not decisive.withheld:
        changes["passthrough_input"] = transcripts.exchanged(invoked, before, turn.said)
        if changes["passthrough_input"] is invoked:
            turn.withheld = True
            return ActionResult(return_value=outcome(decisions, refused=await host.refusal(decisive)))
    return _result(turn, decisions, changes)


@_checks("output")
async def check_output(context: Context = None, turnguard: Host | None = None) -> ActionResult:
    """Judge the bot's message, and the reasoning that would be shown with it, against the request that it answers."""
    host, turn = _host(turnguard), turn_for(context)
    if (ended := _ended(turn)) is not None:
        return ended
    if turn.streaming:
        # each window of the stream is judged before it is shown, and the last of them is the full text
        return ActionResult(return_value=outcome([]))
    known = context or {}
    said = transcripts.answer(known.get("bot_message"), known.get("bot_thinking"))
    runnables = known.get("passthrough_output")
    said |= transcripts.beside(runnables, said["content"], calls="tool_call" in host.stages)
    decisions = await turn.judge(host.guard, (), [said])
    new = transcripts.passed_on(said, _by_part(decisions), host.removed())
    if "reasoning_content" in said and "reasoning_content" not in new:
        turn.reasoning_withheld = said["reasoning_content"]
        turn.replaced.append((said["reasoning_content"], ""))
    changes: dict[str, Any] = {} if new["content"] == said["content"] else {"bot_message": new["content"]}
    turn.heard.append(str(new["content"]))
    turn.replaced += [(said["content"], new["content"])] if changes else []
    if runnables is not None and new != said:
        whole = transcripts.exchanged(runnables, said["content"], new["content"])
        changes["passthrough_output"] = None if whole is runnables or new.keys() != said.keys() else whole
        turn.passthrough = (changes["passthrough_output"],)
    return _result(turn, decisions, changes)


@_checks("tool_call")
async def check_tool_call(context: Context = None, turnguard: Host | None = None) -> ActionResult:
    """Judge the calls that the bot proposes, each against the request, before they are returned to whoever runs
    them.
    """
    host, turn = _host(turnguard), turn_for(context)
    if (ended := _ended(turn)) is not None:
        return ended
    known = context or {}
    reasoning = known.get("bot_thinking") if "output" in host.stages else None
    calls = known.get("tool_calls")
    turn.forget_words()
    said = {**transcripts.answer(None, reasoning), "tool_calls": calls if isinstance(calls, list) else []}
    decisions = await turn.judge(host.guard, (), [said])
    changes: dict[str, Any] = {}
    if not all(decision.allowed for decision in decisions):
        if reasoning:
            turn.reasoning_withheld = reasoning
            turn.replaced.append((reasoning, ""))
        changes["tool_calls"] = transcripts.with_calls(said["tool_calls"], _by_part(decisions))
        turn.replaced.append((said["tool_calls"], changes["tool_calls"]))
    return _result(turn, decisions, changes)


@_checks("tool_result")
async def check_tool_result(
    tool_message: Any = None,
    tool_name: str | None = None,
    tool_call_id: str | None = None,
    context: Context = None,
    turnguard: Host | None = None,
) -> ActionResult:
    """Judge what the tools gave back, pictures included, before the agent reads it.

    All results at the end of the transcript are judged at once: NeMo's loop over them shares its counter with the loop
    over the rails inside it, and skips all but the first.
    """
    host, turn = _host(turnguard), turn_for(context)
    if (ended := _ended(turn)) is not None:
        return ended
    known = context or {}
    content = known.get("tool_message") if tool_message is None else tool_message
    if transcripts.result_for(turn.messages, content, tool_call_id or known.get("tool_call_id")) is None:
        # another rail has rewritten it, or this is no turn of ours
        name = tool_name or known.get("tool_name")
        turn.messages.append({"role": "tool", "name": name, "content": content, "tool_call_id": tool_call_id or ""})
    results = transcripts.trailing_tools(turn.messages)
    at = transcripts.result_for(turn.messages, content, tool_call_id)
    decisions = await turn.judge(host.guard, results)
    turn.pass_on(decisions, host.removed())
    new = turn.messages[results[-1] if at is None else at]["content"]
    return _result(turn, decisions, {"tool_message": new} if new != content else {})


@_checks("retrieval")
async def check_retrieval(context: Context = None, turnguard: Host | None = None) -> ActionResult:
    """Judge the chunks found for a request, each on its own, before they reach the main model's prompt."""
    host, turn = _host(turnguard), turn_for(context)
    if (ended := _ended(turn)) is not None:
        return ended
    known = context or {}
    given = known.get("relevant_chunks") or ""
    whole = given if isinstance(given, str) else "\n".join(transcripts.strings(given))
    separate = transcripts.strings(known.get("relevant_chunks_sep"))
    # a prompt may hold either of them
    chunks = separate if "\n".join(separate).strip() == whole.strip() else [whole, *separate]
    chunks = [chunk for chunk in dict.fromkeys(chunks) if chunk.strip()]
    if not chunks:
        return ActionResult(return_value=outcome([]))
    decisions = await host.guard.acheck_parts(Step.retrieval(chunks, prompt=transcripts.text_of(turn.said) or None))
    changes: dict[str, Any] = {}
    if not all(decision.allowed for decision in decisions):
        kept = [part.text for decision in decisions for part in decision.parts if isinstance(part, Text)]
        changes = {"relevant_chunks": "\n".join(kept), "relevant_chunks_sep": kept}
        turn.replaced += [(chunk, "") for chunk in chunks if chunk not in kept]
        turn.replaced += [(given, changes["relevant_chunks"]), (known.get("relevant_chunks_sep"), kept)]
    elif whole is not given:
        changes = {"relevant_chunks": whole}  # the engine appends to it as text
    return _result(turn, decisions, changes)


@action(name="turnguard_find_chunks", is_system_action=True)
async def find_chunks(context: Context = None, turnguard: Host | None = None) -> ActionResult:
    """Search the knowledge base where NeMo would do so only while it writes the prompt, past every retrieval rail."""
    host = _host(turnguard)
    known = context or {}
    if host.knowledge is None or not known.get("user_message"):
        return ActionResult(return_value=bool(known.get("relevant_chunks")))
    found = await host.knowledge.search_relevant_chunks(transcripts.text_of(known["user_message"]))
    chunks = [chunk["body"] for chunk in found]
    changes = {"relevant_chunks": "\n".join(chunks), "relevant_chunks_sep": chunks}
    return ActionResult(return_value=bool(chunks), context_updates=changes)


@action(name="turnguard_take_results", is_system_action=True)
async def take_results(turnguard: Host | None = None, context: Context = None) -> ActionResult:
    """Go on after the tool rails: NeMo's engine ends the turn empty there. The results take the user's place."""
    _host(turnguard)
    content = turn_for(context).said
    return ActionResult(events=[{"type": "UtteranceUserActionFinished", "final_transcript": content}])


@action(name="turnguard_refuse", is_system_action=True)
async def refuse(outcome: Any = None, turnguard: Host | None = None) -> ActionResult:
    """End the turn as `stop=True` would have, for a flow that did something else first."""
    return ActionResult(events=(await _refused(outcome, _host(turnguard))).events)


def _by_part(decisions: Sequence[Decision]) -> dict[int, Decision]:
    return {decision.where[1]: decision for decision in decisions if decision.where is not None}


ACTIONS = (
    check_input,
    check_output,
    check_tool_call,
    check_tool_result,
    check_retrieval,
    find_chunks,
    take_results,
    refuse,
)
