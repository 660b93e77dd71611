"""A NeMo engine's answers, in each shape that they come in: what is judged, and the answer to give in its place.

An answer is a text, a message, or a `GenerationResponse`; the last may hold logs, variables and a state beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnguard.nemo.requests import Message, is_token, strings


def refused(message: str, *, as_text: bool, structured: bool, state: Any = None) -> Any:
    """The answer that an engine would have given, had it refused: a text, a message or a `GenerationResponse`."""
    answer = {"role": "assistant", "content": message}
    if not structured:
        return message if as_text else answer
    from nemoguardrails.rails.llm.options import GenerationResponse

    return GenerationResponse(response=message if as_text else [answer], state=state)


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
    given = answer.response
    messages = (
        [_message(each) for each in given] if isinstance(given, list) else [{"role": "assistant", "content": given}]
    )
    last: Message = messages[-1] if messages else {"role": "assistant", "content": None}
    if answer.reasoning_content:
        last["reasoning_content"] = answer.reasoning_content
    if answer.tool_calls and answer.tool_calls != last.get("tool_calls"):
        last["tool_calls"] = [*(last.get("tool_calls") or ()), *answer.tool_calls]
    return messages or [last]


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
        made = [
            _rewritten(given, was, now) for given, (was, now) in zip(answer.response, _pairs(old, new), strict=False)
        ]
        if any(each is None for each in made):
            return None
        answer.response = made
    else:
        answer.response = new[0].get("content") or ""
    answer.reasoning_content = new[-1].get("reasoning_content")
    if answer.tool_calls:
        answer.tool_calls = new[-1].get("tool_calls")
    answer.state = _rewritten_state(answer.state, old, new, state)
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
    return answer


def forget(answer: Any) -> None:
    """Take every text out of an answer's records: variables, the model's raw output, the log."""
    answer.llm_output = None
    if answer.output_data is not None:
        answer.output_data = dict.fromkeys(answer.output_data)
    log = answer.log
    if log is None:
        return
    log.internal_events = [] if log.internal_events is not None else None
    log.colang_history = "" if log.colang_history is not None else None
    for call in _calls(log):
        forget_call(call)
    for rail in log.activated_rails or ():
        for action in rail.executed_actions:
            action.action_params, action.return_value = {}, None


def forget_call(call: Any) -> None:
    """Take the texts out of NeMo's record of a model call. Its readers expect strings."""
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
    made = {key: value for key, value in given.items() if key in new}
    for key in ("content", "tool_calls", "reasoning_content"):
        if key in made:
            made[key] = new[key]
    return made


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
        for rail in log.activated_rails or ():
            for action in rail.executed_actions:
                tokens += [*strings(action.action_params), *strings(action.return_value)]
    texts += [text for text in tokens if not is_token(text)]
    return "\n".join(text for text in dict.fromkeys(texts) if text.strip() and text.strip(' "') not in seen)


def _calls(log: Any) -> Iterator[Any]:
    yield from log.llm_calls or ()
    for rail in log.activated_rails or ():
        for action in rail.executed_actions:
            yield from action.llm_calls


def _rewritten_state(state: Any, old: Sequence[Message], new: Sequence[Message], before: Any) -> Any:
    """The state with rewritten texts in place of the old ones; the one before the turn where they were not found."""
    if state is None:
        return None
    pairs = [
        (was[key], now.get(key) or "")
        for was, now in _pairs(old, new)
        for key in ("content", "reasoning_content", "tool_calls")
        if was.get(key) and was[key] != now.get(key)
    ]
    found: set[int] = set()
    made = _exchanged(state, pairs, found)
    return made if len(found) == len(pairs) else before


def _exchanged(value: Any, pairs: Sequence[tuple[Any, Any]], found: set[int]) -> Any:
    for number, (old, new) in enumerate(pairs):
        if type(value) is type(old) and value == old:
            found.add(number)
            return new
    if isinstance(value, Mapping):
        return {key: _exchanged(item, pairs, found) for key, item in value.items()}
    return [_exchanged(item, pairs, found) for item in value] if isinstance(value, list) else value


def _pairs(old: Sequence[Message], new: Sequence[Message]) -> list[tuple[Message, Message]]:
    return list(zip(old, new, strict=False))
