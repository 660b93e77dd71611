"""The actions: `turnguard_check_input`, `..._output`, `..._tool_call`, `..._tool_result`, `..._retrieval`.

Each returns NeMo's `RailOutcome` to the flow that executes it and puts a rewrite into the flow's own variable
(`$user_message`, `$bot_message`, `$tool_calls`, `$tool_message`, `$relevant_chunks`), pictures and all. They may be
executed from any Colang 1.0 or 2.x flow; an argument stands for the variable of its name. In Colang 1.0 `stop=True`
ends the turn where one withholds, with what it says to tell the person; `turnguard_refuse` does so later, given such an
outcome.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from nemoguardrails.actions import action
from nemoguardrails.actions.actions import ActionResult
from nemoguardrails.actions.rail_outcome import RailOutcome, TransformTarget

from turnguard.core.decision import Decision
from turnguard.core.step import Step
from turnguard.nemo import requests
from turnguard.nemo.drop_in import DropIn, error_chunk
from turnguard.nemo.host import RAILS
from turnguard.nemo.reports import metadata_of, record, strictest
from turnguard.nemo.requests import Judged, Message, spoken, text_of
from turnguard.nemo.turn import Turn, current

__all__ = [
    "check_input",
    "check_output",
    "check_retrieval",
    "check_tool_call",
    "check_tool_result",
    "find_chunks",
    "refuse",
    "take_results",
]
Context = Mapping[str, Any]
Check = Callable[[DropIn, Turn, Context], Awaitable[ActionResult]]
_FLOW = {stage: flow for flow, (_, stage) in RAILS.items()}
_TEXTS = ("user_message", "bot_message", "relevant_chunks")


def _checks(stage: str) -> Callable[[Check], Any]:
    """Make a check the action of this stage. It is given the turn in progress and the engine's variables."""

    def decorate(check: Check) -> Any:
        # "context" and "turnguard" are names by which the engine fills arguments in
        async def checked(
            context: Context | None = None, turnguard: DropIn | None = None, *, stop: bool = False, **given: Any
        ) -> ActionResult:
            door, known = _guarding(turnguard), {**(context or {}), **given}
            result = await check(door, _turn(door, known), known)
            made = result.return_value
            if not made.is_blocked:
                return result
            if door.host.own_refusal:
                made.metadata["message"] = door.host.own_refusal
            if (turn := current.get()) is not None:
                turn.told = True
            return await _refused(made, door) if stop else result

        checked.__doc__ = check.__doc__
        # the engine looks at it with every call, and finding it out takes longer than reading it
        vars(checked)["__signature__"] = inspect.signature(checked)
        return action(name=f"turnguard_check_{stage}", is_system_action=True)(checked)

    return decorate


def _guarding(turnguard: DropIn | None) -> DropIn:
    if turnguard is None:
        raise RuntimeError("Turnguard's rails are not loaded: add import_paths: [turnguard/rails] to the configuration")
    return turnguard


def _turn(door: DropIn, known: Context) -> Turn:
    """The turn in progress, or one of what the engine's variables hold, of which nothing was judged."""
    if (turn := current.get()) is not None:
        return turn
    content = known.get("user_message") or known.get("last_user_message")
    return Turn(
        {}, Judged([{"role": "user", "content": content}] if content else []), {}, door.judge, judged_before=False
    )


async def _refused(made: RailOutcome, door: DropIn) -> ActionResult:
    """End the turn with what this outcome says to tell the person: no answer, no tool calls.

    By events: a flow's own `bot ...` and `stop` let the main model answer after them in parallel rails. They never
    reach a stream, into which the refusal is put.
    """
    from nemoguardrails.context import streaming_handler_var

    message, stage = made.metadata["message"], made.metadata["stage"]
    if (turn := current.get()) is not None:
        turn.refuse(message)
    if (handler := streaming_handler_var.get()) is not None:
        await handler.push_chunk(error_chunk(message, _FLOW[stage]) if door.host.exceptions else message)
    told: dict[str, Any] = {"type": "StartUtteranceBotAction", "script": message}
    if door.host.exceptions:
        told = {"type": f"Turnguard{stage.title().replace('_', '')}RailException", "message": message}
    # without the first one, the engine returns the very calls that were blocked
    none = [{"type": "StartToolCallBotAction", "tool_calls": []}] if stage == "tool_call" else []
    return ActionResult(return_value=made, events=[*none, told, {"type": "BotIntent", "intent": "stop"}])


def _result(decisions: Sequence[Decision], changes: dict[str, Any] | None = None) -> ActionResult:
    """The outcome for the flow, with all that explains it and no content, and the flow's variables as rewritten."""
    decisive = strictest(decisions)
    if decisive is None:
        metadata = {"action": "allow", "message": ""}
        return ActionResult(return_value=RailOutcome.allow(reason="nothing to judge", metadata=metadata))
    told: dict[str, Any] = {"reason": decisive.summary(), "metadata": metadata_of(decisions, decisive)}
    if decisive.withheld:
        blocked = RailOutcome.failure if decisive.failed else RailOutcome.block
        return ActionResult(return_value=blocked(**told))
    changes = changes or {}
    texts = [(TransformTarget(name), text_of(value)) for name, value in changes.items() if name in _TEXTS]
    outcome = RailOutcome.transform(texts, **told) if texts else RailOutcome.allow(**told)
    return ActionResult(return_value=outcome, context_updates=changes)


def _reported(turn: Turn, decisions: Sequence[Decision]) -> ActionResult:
    """What was decided before the engine was called."""
    refusing = turn.judged.refusing
    if refusing is None:
        return _result(decisions)
    made = _result([refusing]).return_value
    if not made.is_blocked:  # a rewrite that could not be carried out
        metadata = {**made.metadata, "action": "block", "message": turn.refusal}
        made = RailOutcome.block(reason=made.reason, metadata=metadata)
    return ActionResult(return_value=made)


def _counted(turn: Turn, decisions: Sequence[Decision] = ()) -> None:
    """Let NeMo see the moderator's calls. Those before the engine was called are told once."""
    record([*(turn.judged.decisions if turn.uncounted else ()), *decisions])
    turn.uncounted = False


async def _heard(door: DropIn, turn: Turn, said: Message) -> tuple[Message, list[Decision]]:
    """What was said, as it may be passed on, and the decisions. What is rewritten is noted."""
    new, decisions = await door.judged_answer(turn, [said])
    _counted(turn, decisions)
    made = new[0] if new else {}
    if made != said:
        empty = {"content": "", "reasoning_content": "", "tool_calls": []}
        turn.pairs += [(said[key], made.get(key) or none) for key, none in empty.items() if said.get(key)]
    return made, decisions


@_checks("input")
async def check_input(door: DropIn, turn: Turn, known: Context) -> ActionResult:
    """What was decided about everything new in this turn. A message that another rail has rewritten is judged."""
    _counted(turn)
    given = known.get("user_message")
    messages = list(turn.judged.messages)
    last = next((at for at in range(len(messages) - 1, -1, -1) if requests.role_of(messages[at]) == "user"), None)
    as_judged = turn.judged_before and (given is None or given == turn.said)
    if turn.judged.refusing is not None or as_judged or last is None:
        return _reported(turn, turn.judged.decisions)
    messages[last] = {**messages[last], "content": given}
    again = await requests.judge(turn.judge, messages, {last}, chunks=False)
    record(again.decisions)
    turn.judged, new = again, spoken(again.messages)
    turn.pairs += [(given, new)] if new != given else []
    if again.refusing is not None:
        turn.refusal = await door.refusal(again.refusing, turn.judge)
        return _reported(turn, again.decisions)
    return _result(again.decisions, {} if new == given else {"user_message": new})


@_checks("output")
async def check_output(door: DropIn, turn: Turn, known: Context) -> ActionResult:
    """Judge the bot's message, and the reasoning that would be shown with it, against the request that it answers."""
    if turn.streaming:
        # each window of the stream is judged before it is shown, and the last of them is the full text
        return _result([])
    said: Message = {"role": "assistant", "content": known.get("bot_message"), **_reasoning(known)}
    runnables = known.get("passthrough_output")
    texts = [text for text in dict.fromkeys(requests.strings(runnables)) if text != said["content"]]
    if texts:  # what a `RunnableRails` would return beside its runnable's text
        said["passthrough_output"] = "\n".join(texts)
    if "tool_call" in door.host.stages and (calls := getattr(runnables, "tool_calls", None)):
        said["tool_calls"] = list(calls)
    made, decisions = await _heard(door, turn, said)
    reasoning = made.get("reasoning_content")
    turn.heard += [made.get("content"), reasoning, f"<think>{reasoning}</think>"]
    changes: dict[str, Any] = {}
    if made.get("content") != said["content"]:
        changes["bot_message"] = made.get("content") or ""
    if made != said and runnables is not None:
        whole = requests.exchanged(runnables, said["content"], made.get("content"))
        kept = {**made, "content": None} == {**said, "content": None}
        changes["passthrough_output"] = whole if kept and whole is not runnables else None
    return _result(decisions, changes)


@_checks("tool_call")
async def check_tool_call(door: DropIn, turn: Turn, known: Context) -> ActionResult:
    """Judge the calls that the bot proposes, each against the request, before they are returned to whoever runs
    them.
    """
    calls = known.get("tool_calls")
    said: Message = {"role": "assistant", "content": None, "tool_calls": calls if isinstance(calls, list) else []}
    if "output" in door.host.stages:
        said |= _reasoning(known)
    turn.forget_words()
    made, decisions = await _heard(door, turn, said)
    turn.heard.append(made.get("reasoning_content"))
    return _result(decisions, {} if made == said else {"tool_calls": made.get("tool_calls") or []})


def _reasoning(known: Context) -> Message:
    reasoning = known.get("bot_thinking")
    return {"reasoning_content": reasoning} if isinstance(reasoning, str) and reasoning.strip() else {}


@_checks("tool_result")
async def check_tool_result(door: DropIn, turn: Turn, known: Context) -> ActionResult:
    """What was decided about what the tools gave back. A result that another rail has rewritten is judged."""
    content, messages = known.get("tool_message"), turn.judged.messages
    trailing = requests.trailing_tools(messages)
    seen = turn.judged_before and any(messages[at].get("content") == content for at in trailing)
    if seen or turn.judged.refusing is not None:
        _counted(turn)
        return _reported(turn, [each for each in turn.judged.decisions if each.stage == "tool_result"])
    result = {"role": "tool", "name": known.get("tool_name"), "content": content}
    made, decisions = await _heard(door, turn, {**result, "tool_call_id": known.get("tool_call_id") or ""})
    new = made.get("content", "")
    return _result(decisions, {} if new == content else {"tool_message": new})


@_checks("retrieval")
async def check_retrieval(_door: DropIn, turn: Turn, known: Context) -> ActionResult:
    """Judge the chunks found for a request, each on its own, before they reach the main model's prompt."""
    chunks = requests.chunks_in(known)
    if not chunks:
        return _result([])
    decisions = await turn.judge.parts(Step.retrieval(chunks, prompt=text_of(turn.said) or None))
    _counted(turn, decisions)
    given = known.get("relevant_chunks") or ""
    if all(decision.allowed for decision in decisions):
        # the engine appends to it as text
        whole = "\n".join(requests.strings(given))
        return _result(decisions, {} if whole == given else {"relevant_chunks": whole})
    changes: dict[str, Any] = {"relevant_chunks_sep": [], **requests.with_chunks(known, decisions)}
    turn.pairs += [(chunk, "") for chunk in chunks if chunk not in changes["relevant_chunks"]]
    turn.pairs += [(known[name], changes[name]) for name in changes if known.get(name)]
    return _result(decisions, changes)


@action(name="turnguard_find_chunks", is_system_action=True)
async def find_chunks(context: Context | None = None, turnguard: DropIn | None = None) -> ActionResult:
    """Search the knowledge base where NeMo would do so only while it writes the prompt, past every retrieval rail."""
    knowledge, known = _guarding(turnguard).host.knowledge, context or {}
    if knowledge is None or not known.get("user_message"):
        return ActionResult(return_value=bool(known.get("relevant_chunks")))
    chunks = [chunk["body"] for chunk in await knowledge.search_relevant_chunks(text_of(known["user_message"]))]
    changes = {"relevant_chunks": "\n".join(chunks), "relevant_chunks_sep": chunks}
    return ActionResult(return_value=bool(chunks), context_updates=changes)


@action(name="turnguard_take_results", is_system_action=True)
async def take_results(turnguard: DropIn | None = None, context: Context | None = None) -> ActionResult:
    """Go on after the tool rails: NeMo's engine ends the turn empty there. The results take the user's place."""
    turn = _turn(_guarding(turnguard), context or {})
    return ActionResult(events=[{"type": "UtteranceUserActionFinished", "final_transcript": turn.said}])


@action(name="turnguard_refuse", is_system_action=True)
async def refuse(outcome: Any = None, turnguard: DropIn | None = None) -> ActionResult:
    """End the turn as `stop=True` would have, for a flow that did something else first."""
    return ActionResult(events=(await _refused(outcome, _guarding(turnguard))).events)
