"""A NeMo engine's answers, in each shape that they come in: what is judged, and the answer to give in its place.

An answer is a text, a message, or a `GenerationResponse`; the last may hold logs, variables and a state beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from turnguard.nemo.requests import Message, exchanged, is_token, strings


def refused(message: str, *, as_text: bool, structured: bool, state: Any = None) -> Any:
    """The answer that an engine would have given, had it refused: a text, a message or a `GenerationResponse`."""
    from nemoguardrails.rails.llm.options import GenerationResponse

    answer = {"role": "assistant", "content": message}
    if structured:
        return GenerationResponse(response=message if as_text else [answer], state=state)
    return message if as_text else answer


def said(answer: Any) -> list[Message]:
    """What an answer says, as messages to judge: its texts, reasoning and tool calls.

    Raises `TypeError` for another shape.
    """
    if isinstance(answer, str):
        return [{"role": "assistant", "content": answer}]
    if isinstance(answer, Mapping):
        return [_message(answer)]
    if not hasattr(answer, "response"):
        raise TypeError(f"the engine answered with {type(answer).__name__}, which Turnguard cannot read")
    given = answer.response if isinstance(answer.response, list) else [{"content": answer.response}]
    messages = [_message(each) for each in given or [{"content": None}]]
    last = messages[-1]
    if answer.reasoning_content:
        last["reasoning_content"] = answer.reasoning_content
    if answer.tool_calls and answer.tool_calls != last.get("tool_calls"):
        last["tool_calls"] = [*(last.get("tool_calls") or ()), *answer.tool_calls]
    return messages


def replaced(answer: Any, old: Sequence[Message], new: Sequence[Message], state: Any) -> Any | None:
    """The answer with `new` messages in place of the `old` ones that `said` gave; None where that cannot be done.

    `state` is the one that the turn began with. What an engine recorded before the answer was rewritten goes.
    """
    if isinstance(answer, str):
        return new[0].get("content")
    if len(old) != len(new):
        return None
    if isinstance(answer, Mapping):
        return _rewritten(answer, old[0], new[0])
    if isinstance(answer.response, list):
        made = [_rewritten(*each) for each in zip(answer.response, old, new, strict=False)]
        if None in made:
            return None
        answer.response = made
    else:
        answer.response = new[0].get("content") or ""
    answer.reasoning_content = new[-1].get("reasoning_content")
    if answer.tool_calls:
        answer.tool_calls = new[-1].get("tool_calls")
    answer.state = None if answer.state is None else _rewritten_state(answer.state, old, new, state)
    forget(answer)
    return answer


def withheld(answer: Any, message: str, state: Any) -> Any:
    """The answer with a refusal in its place, and nothing beside it that tells what was withheld."""
    if isinstance(answer, str):
        return message
    if isinstance(answer, Mapping):
        return {"role": "assistant", "content": message}
    answer.response = [{"role": "assistant", "content": message}] if isinstance(answer.response, list) else message
    answer.tool_calls = answer.reasoning_content = answer.llm_metadata = None
    answer.state = None if answer.state is None else state
    forget(answer)
    if "bot_message" in (answer.output_data or {}):
        answer.output_data["bot_message"] = message
    return answer


def clear(answer: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
    """Take the old content of each pair out of an answer's records: variables and state keep the new one."""
    if not hasattr(answer, "response"):
        return
    variables, state = answer.output_data, answer.state
    for old, new in pairs:
        variables, state = exchanged(variables, old, new), exchanged(state, old, new)
    forget(answer)
    answer.output_data, answer.state = variables, state


def forget(answer: Any) -> None:
    """Take every text out of an answer's records: variables, the model's raw output, the log."""
    answer.llm_output = None
    if answer.output_data is not None:
        answer.output_data = dict.fromkeys(answer.output_data)
    if (log := answer.log) is None:
        return
    log.internal_events = [] if log.internal_events is not None else None
    log.colang_history = "" if log.colang_history is not None else None
    for action in _actions(log):
        action.action_params = {}
        if not (action.action_name or "").startswith("turnguard_check_"):  # what ours return holds no content
            action.return_value = None
    forget_calls(_calls(log))


def forget_calls(calls: Iterable[Any]) -> None:
    """Take the texts out of NeMo's records of model calls. Their readers expect strings."""
    for call in calls:
        call.prompt = call.completion = ""
        call.raw_response = None


def _message(answer: Mapping[str, Any]) -> Message:
    """An answer as a message to judge. An exception's content is an event, whose texts are judged."""
    content = answer.get("content")
    made: Message = {**answer, "role": "assistant"}
    if isinstance(content, Mapping):
        made["content"] = "\n".join(strings(content))
    if answer.get("events"):
        made["events"] = "\n".join(dict.fromkeys(strings(answer["events"])))
    return made


def _rewritten(given: Mapping[str, Any], old: Message, new: Message) -> Message | None:
    """A message with what was rewritten in it. Neither an exception nor events can be."""
    if new == old:
        return dict(given)
    if isinstance(given.get("content"), Mapping) or new.get("events") != old.get("events"):
        return None
    changing = ("content", "tool_calls", "reasoning_content")
    return {key: new[key] if key in changing else value for key, value in given.items() if key in new}


def recorded(answer: Any, known: Any) -> str:
    """The texts in an answer's records (variables, log) that say more than what is `known`, which was judged.

    Prompts are left out: they are the application's templates, filled with what was judged.
    """
    if all(getattr(answer, name, None) is None for name in ("llm_output", "output_data", "log", "llm_metadata")):
        return ""
    seen = "\n".join(strings(known))
    texts = [*strings(answer.llm_output), *strings(answer.output_data)]
    tokens = [*strings(answer.llm_metadata)]
    if (log := answer.log) is not None:
        texts += [call.completion or "" for call in _calls(log)]
        texts += [text for call in _calls(log) for text in strings(call.raw_response)]
        tokens += [*strings(log.internal_events), *(log.colang_history or "").splitlines()]
        for action in _actions(log):
            tokens += [*strings(action.action_params), *strings(action.return_value)]
    texts += [text for text in tokens if not is_token(text)]
    return "\n".join(text for text in dict.fromkeys(texts) if text.strip() and text.strip(' "') not in seen)


def _actions(log: Any) -> list[Any]:
    return [action for rail in log.activated_rails or () for action in rail.executed_actions]


def _calls(log: Any) -> list[Any]:
    return [*(log.llm_calls or ()), *(call for action in _actions(log) for call in action.llm_calls)]


def _rewritten_state(state: Any, old: Sequence[Message], new: Sequence[Message], before: Any) -> Any:
    """The state with rewritten texts in place of the old ones; the one before the turn where they were not found."""
    for was, now in zip(old, new, strict=True):
        for key in ("content", "reasoning_content", "tool_calls"):
            if was.get(key) and was[key] != now.get(key):
                made = exchanged(state, was[key], now.get(key) or "")
                if made is state:
                    return before
                state = made
    return state
