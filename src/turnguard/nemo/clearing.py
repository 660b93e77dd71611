"""What was withheld or rewritten is cleared from everything that a turn leaves behind: result, log, state, event
cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnguard.nemo.turn import Turn


def clear(result: Any, turn: Turn, explained: Any) -> Any:
    """The result as the caller may have it. Records of the turn are changed in place, as the engine shares them.

    A refusal stands alone: no tool calls, no reasoning, no raw completions beside it.
    """
    if not turn.replaced and turn.refusal is None:
        return result
    for call in explained.llm_calls:
        _without_text(call)
    explained.colang_history = None
    if turn.refusal is not None:
        result = _refused(result, turn.refusal)
    elif turn.reasoning_withheld:
        result = _without_reasoning(result, f"<think>{turn.reasoning_withheld}</think>\n")
    for name in ("state", "output_data"):
        _replace(getattr(result, name, None), turn.replaced)
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


def clear_events(events: Any, turn: Turn) -> None:
    """The same for events that the engine keeps."""
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
    call.prompt = call.completion = call.raw_response = None


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
