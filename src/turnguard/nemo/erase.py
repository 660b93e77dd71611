"""What was withheld or rewritten is cleared from everything that a turn leaves behind: result, log, state, event
cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemoguardrails import LLMRails

    from turnguard.nemo.turn import Turn


def clear(result: Any, turn: Turn, app: LLMRails) -> Any:
    """The result as the caller may have it. Records of the turn are changed in place, as the engine shares them.

    A refusal stands alone: no tool calls, no reasoning, no raw completions beside it.
    """
    if not turn.replaced and turn.refusal is None:
        return result
    clear_explained(app, turn)
    if turn.refusal is not None:
        result = _refused(result, turn.refusal)
    elif turn.reasoning_withheld:
        result = _without_reasoning(result, f"<think>{turn.reasoning_withheld}</think>\n")
    for name in ("state", "output_data"):
        _replace(getattr(result, name, None), turn.replaced)
    variables = getattr(result, "output_data", None) or {}
    if turn.refusal is not None and "passthrough_output" in variables:
        variables.update(bot_message=turn.refusal, passthrough_output=None)
    elif turn.passthrough:
        variables.update(passthrough_output=turn.passthrough[0])
    if getattr(result, "llm_output", None) is not None:
        result.llm_output = None  # it is what the model said before it was rewritten
    log = getattr(result, "log", None)
    if log is not None:
        log.colang_history = None
        _replace(log.internal_events, turn.replaced)
        for rail in log.activated_rails or ():
            for action in rail.executed_actions:
                _replace(action.action_params, turn.replaced)
                action.return_value = _replace(action.return_value, turn.replaced)
                for call in action.llm_calls:
                    _without_text(call)
        for call in log.llm_calls or ():
            _without_text(call)
    return result


def clear_explained(app: LLMRails, turn: Turn) -> None:
    """NeMo's record of the turn's model calls without their texts. With several turns at once, the conversation that it
    writes down at the end can stand in another's record.
    """
    for call in turn.explained.llm_calls if turn.explained is not None else ():
        _without_text(call)
    for explained in (turn.explained, app._explain_info):
        if explained is not None:
            explained.colang_history = None


def without_content(log: Any) -> Any:
    """NeMo's log for tracing adapters, with everything that tells what was done and nothing that was said."""
    for span in log.trace:
        for event in getattr(span, "events", None) or ():
            event.body.pop("content", None)
        if getattr(span, "action_params", None):
            span.action_params = {}
    return log.model_copy(update={"activated_rails": [_rail(rail) for rail in log.activated_rails], "events": []})


def _rail(rail: Any) -> Any:
    return rail.model_copy(update={"executed_actions": [_action(action) for action in rail.executed_actions]})


def _action(action: Any) -> Any:
    ours = (action.action_name or "").startswith("turnguard_check_")
    calls = [call.model_copy() for call in action.llm_calls]
    for call in calls:
        _without_text(call)
    outcome = action.return_value if ours else None
    told: dict[str, Any] = {"action_params": {}, "return_value": outcome, "llm_calls": calls}
    return action.model_copy(update=told)


def clear_events(events: Any, turn: Turn) -> None:
    """The same for events that the engine keeps."""
    if turn.replaced:  # walking all events of a conversation takes a tenth of a millisecond a rail
        _replace(events, turn.replaced)


def _refused(result: Any, message: str) -> Any:
    if isinstance(result, str):
        return message
    if isinstance(result, dict):
        return _refused_message(result, message)
    if isinstance(result.response, list):
        result.response = [_refused_message(each, message) for each in result.response[-1:]]
    else:
        result.response = message
    result.tool_calls = None
    result.reasoning_content = None
    result.llm_output = None
    return result


def _refused_message(answer: dict[str, Any], message: str) -> dict[str, Any]:
    events = answer.get("events") or ()  # Colang 2.x puts exceptions there
    if answer.get("role") == "exception" or any(event.get("type", "").endswith("Exception") for event in events):
        return answer
    return {"role": "assistant", "content": message}


def _without_reasoning(result: Any, shown: str) -> Any:
    """NeMo puts the main model's reasoning before its answer where no options were given."""
    if isinstance(result, str):
        return result.removeprefix(shown)
    if isinstance(result, dict):
        if isinstance(result.get("content"), str):
            result["content"] = result["content"].removeprefix(shown)
        return result
    result.reasoning_content = None
    return result


def _without_text(call: Any) -> None:
    call.prompt = call.completion = ""  # NeMo's readers expect strings
    call.raw_response = None


def _replace(value: Any, replaced: list[tuple[Any, Any]]) -> Any:
    """`value` with old content exchanged for new wherever it stands as a whole; containers are changed in place."""
    for old, new in replaced:
        if old is not None and old != "" and _same(value, old):
            return new
    if isinstance(value, dict):
        for key in value:
            value[key] = _replace(value[key], replaced)
    elif isinstance(value, list):
        value[:] = [_replace(item, replaced) for item in value]
    return value


def _same(value: Any, old: Any) -> bool:
    if isinstance(value, str) and isinstance(old, str):
        return value.strip() == old.strip() and bool(old.strip())
    return type(value) is type(old) and bool(value == old)
