"""Messages as the engine needs them: which are new, what may be passed on, and a history without tool turns. Pure.

NeMo's engine loses its input rails behind a past tool call (nemo-platform PR #1608, NeMo-Guardrails #2065) and
ignores all but the last of consecutive user messages (NeMo-Guardrails #1413), so the history that it replays is made
plain here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from turnguard.core.decision import Decision
from turnguard.core.step import Document, Image, Part, Text, ToolCall
from turnguard.transcripts.blocks import read, replace

Message = dict[str, Any]
_KEPT = ("role", "content", "tool_call_id")


def is_tool(message: Message) -> bool:
    """Whether a message is a tool's result."""
    return message.get("role") in ("tool", "function")


def is_answer(message: Message) -> bool:
    """Whether the assistant's own turn ended with this message."""
    return message.get("role") == "assistant" and not message.get("tool_calls")


def newest(messages: Sequence[Message]) -> range:
    """The indexes of what is new: everything after the last assistant message, with the tool calls that it answers.

    A closing assistant message (as in `check`) is not part of it; a closing tool call is.
    """
    end = len(messages)
    if end and is_answer(messages[-1]):
        end -= 1
    start = end
    while start and messages[start - 1].get("role") != "assistant":
        start -= 1
    answers = any(is_tool(message) for message in messages[start:end])
    closes = start == end and end == len(messages)
    if start and messages[start - 1].get("tool_calls") and (answers or closes):
        start -= 1
    return range(start, end)


def trailing_tools(messages: Sequence[Message]) -> range:
    """The indexes of the tool results that end the transcript."""
    start = len(messages)
    while start and is_tool(messages[start - 1]):
        start -= 1
    return range(start, len(messages))


def spoken(messages: Sequence[Message]) -> Any:
    """What the engine takes as the user's message: the last one's content, or that of the tool results at the end."""
    tools = trailing_tools(messages)
    if tools:
        return _joined([messages[index].get("content") for index in tools])
    for message in reversed(messages):
        if message.get("role") == "user":
            return message.get("content")
    return None


def _joined(contents: Sequence[Any]) -> Any:
    if len(contents) == 1:
        return contents[0] if contents[0] is not None else ""
    if all(content is None or isinstance(content, str) for content in contents):
        return "\n".join(content for content in contents if content)
    blocks: list[Any] = []
    for content in contents:
        if isinstance(content, list):
            blocks += content
        elif content:
            blocks.append({"type": "text", "text": str(content)})
    return blocks


def text_of(content: Any) -> str:
    """The text in a message's content."""
    return "\n".join(block.part.text for block in read(content) if isinstance(block.part, Text))


def judged_form(message: Message, *, clients_write: bool, spoken: Any = None) -> Message:
    """The message as the guard reads it. What NeMo's own roles carry is text; context variables are the application's
    unless clients write the messages. What stands in them and is `spoken` too is judged there.
    """
    role = message.get("role")
    if role == "event":
        return {"role": "event", "content": "\n".join(strings(message.get("event")))}
    if role == "context":
        content = message.get("content")
        if not clients_write:
            # what a `RunnableRails` was invoked with comes from whoever invokes it
            content = content.get("passthrough_input") if isinstance(content, Mapping) else None
        elsewhere = set(strings(spoken))
        texts = [text for text in dict.fromkeys(strings(content)) if text not in elsewhere]
        return {"role": "context", "content": "\n".join(texts) or None}
    return message


def strings(value: Any) -> list[str]:
    """Every text in a structure, in LangChain's messages too, but for the engine's own plumbing."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        plumbing = ("type", "uid", "event_created_at", "source_uid", "action_uid")
        return [text for key, item in value.items() if key not in plumbing for text in strings(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in strings(item)]
    return strings(value.content) if hasattr(value, "content") else []


def is_looked_at(messages: Sequence[Message], *, asked: bool, tools: bool) -> bool:
    """Whether NeMo runs input or tool rails on what ends this transcript. `asked`: it was asked about the last answer,
    which it then sets aside. `tools`: our rail for tool results is on.
    """
    ends = len(messages) - 1
    if asked and messages and is_answer(messages[ends]):
        ends -= 1
    if ends < 0:
        return False
    last = messages[ends]
    return (
        last.get("role") == "user"
        or (tools and is_tool(last))
        or (ends == len(messages) - 1 and bool(last.get("tool_calls")))
    )


def ending_in_speech(messages: Sequence[Message]) -> list[Message]:
    """The messages with what the application put behind the last one of the conversation standing before it."""
    end = len(messages)
    while end and messages[end - 1].get("role") in ("system", "developer", "context", "event"):
        end -= 1
    return [*messages[: end - 1], *messages[end:], messages[end - 1]] if end else list(messages)


def exchanged(value: Any, old: Any, new: Any) -> Any:
    """`value`, what a `RunnableRails` passes to its runnable or got from it, with content exchanged in it.

    That is a string, a LangChain message, or a mapping or list of them. The very `value` where it was not found.
    """
    if value == old:
        return new
    if isinstance(value, Mapping):
        made = {key: exchanged(item, old, new) for key, item in value.items()}
        return made if any(made[key] is not value[key] for key in made) else value
    if isinstance(value, list):
        items = [exchanged(item, old, new) for item in value]
        return items if any(item is not was for item, was in zip(items, value, strict=True)) else value
    if hasattr(value, "content") and hasattr(value, "model_copy"):
        content = exchanged(value.content, old, new)
        return value if content is value.content else value.model_copy(update={"content": content})
    return value


def with_spoken(messages: Sequence[Message], content: Any) -> list[Message]:
    """The messages with the last user message as another rail has rewritten it."""
    changed = list(messages)
    if not trailing_tools(messages):
        for index in range(len(messages) - 1, -1, -1):
            if messages[index].get("role") == "user":
                if content is not None and messages[index].get("content") != content:
                    changed[index] = {**messages[index], "content": content}
                break
    return changed


def passed_on(message: Message, decided: Mapping[int, Decision], removed: str) -> Message:
    """The message with each part as it was decided; `removed` stands where text was withheld. Itself where nothing
    changed.
    """
    if message.get("role") in ("event", "context"):
        if all(decision.allowed for decision in decided.values()):
            return message
        return (
            {"role": "context", "content": {}} if message["role"] == "context" else {"role": "user", "content": removed}
        )
    content = message.get("content")
    blocks = read(content)
    parts = [_part(block.part, decided.get(index), removed) for index, block in enumerate(blocks)]
    new = replace(content, blocks, parts)
    if new == []:
        new = removed
    changed = message if new is content else {**message, "content": new}
    if any(index >= len(blocks) and not decision.allowed for index, decision in decided.items()):
        changed = {key: value for key, value in changed.items() if key in _KEPT}
        changed["content"] = changed.get("content") or removed
    return changed


def _part(part: Part, decision: Decision | None, removed: str) -> Part | None:
    if decision is None or (decision.allowed and not _fetched(part)):
        return part
    made = decision.parts[0]
    if made is None and isinstance(part, Text):
        return Text(removed)
    return made


def _fetched(part: Part) -> bool:
    """Whether what was judged was fetched from a URL: then the judged bytes are passed on, not the URL."""
    source = part.source if isinstance(part, (Image, Document)) else None
    return isinstance(source, str) and not source[:5].lower().startswith("data:")


def answer(content: Any, reasoning: Any) -> Message:
    """What the bot said, and the reasoning that NeMo would show with it."""
    message: Message = {"role": "assistant", "content": content}
    if isinstance(reasoning, str) and reasoning.strip():
        message["reasoning_content"] = reasoning
    return message


def beside(output: Any, content: Any, *, calls: bool) -> Message:
    """What a `RunnableRails` would return beside the text of its runnable's answer: other texts, and tool calls."""
    texts = [text for text in dict.fromkeys(strings(output)) if text != content]
    found: Message = {"passthrough_output": "\n".join(texts)} if texts else {}
    if calls and getattr(output, "tool_calls", None):
        found["tool_calls"] = list(output.tool_calls)
    return found


def with_calls(calls: Sequence[Any], decided: Mapping[int, Decision]) -> list[Any]:
    """Tool calls with rewritten arguments, in the form that they came in. Calls are the last parts of their message."""
    made = [part for index in sorted(decided) for part in decided[index].parts if isinstance(part, ToolCall)]
    if len(made) != len(calls):
        return []
    return [_with_arguments(call, part.arguments) for call, part in zip(calls, made, strict=True)]


def _with_arguments(call: Any, arguments: Any) -> Any:
    if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_arguments(call["function"], arguments)}
    name = "args" if "args" in call else "arguments"
    if isinstance(call.get(name), str) and not isinstance(arguments, str):
        arguments = json.dumps(dict(arguments), ensure_ascii=False)
    return {**call, name: arguments}


def result_for(messages: Sequence[Message], content: Any, call: str | None) -> int | None:
    """The index of the tool result at the end that has this content (and answers this call)."""
    for index in trailing_tools(messages):
        message = messages[index]
        if message.get("content") == content and (not call or message.get("tool_call_id", "") == call):
            return index
    return None


def without_answers_to(messages: Sequence[Message], call: Message) -> list[int]:
    """The indexes of the tool results that answer a withheld call."""
    calls = call.get("tool_calls") or ()
    ids = {each.get("id") for each in calls if isinstance(each, Mapping)} - {None}
    return [index for index, message in enumerate(messages) if is_tool(message) and message.get("tool_call_id") in ids]


def plain(messages: Sequence[Message], *, tool_rails: bool, alone: bool) -> list[tuple[int, Message]]:
    """What the engine replays, each with the index of the message that it stands for.

    Past tool calls become plain assistant text and past tool results go: either would end the engine's input rails.
    Results at the end become the event of the tool rails, where ours is among them. Else they become a user message for
    our input rail, if that stands `alone`: no rail of others judges results as if a person had said them.
    """
    tools = trailing_tools(messages)
    replayed: list[tuple[int, Message]] = []
    for index, message in enumerate(messages):
        if index in tools or is_tool(message):
            continue
        replayed.append((index, _plain(message, closes=index == len(messages) - 1)))
    if tools and tool_rails:
        results = [
            {
                "content": messages[index].get("content"),
                "name": messages[index].get("name", "unknown"),
                "tool_call_id": messages[index].get("tool_call_id", ""),
            }
            for index in tools
        ]
        event = {"type": "UserToolMessages", "tool_messages": results}
        replayed.append((tools[0], {"role": "event", "event": event}))
    elif tools and alone:
        replayed.append((tools[0], {"role": "user", "content": spoken(messages)}))
    else:
        replayed += [(index, {**messages[index], "role": "tool"}) for index in tools]
    return replayed


def _plain(message: Message, *, closes: bool) -> Message:
    if message.get("tool_calls"):
        return message if closes else {"role": "assistant", "content": message.get("content") or _called(message)}
    if message.get("role") == "assistant" and message.get("content") is None:
        return {**message, "content": message.get("refusal") or ""}
    return message


def _called(message: Message) -> str:
    calls = [call.get("function") or call for call in message["tool_calls"] if isinstance(call, Mapping)]
    return f"[called {', '.join(str(call.get('name', 'a tool')) for call in calls)}]"


def answers_in(result: Any) -> list[str]:
    """The texts that an answer of the engine's says, exceptions aside."""
    if isinstance(result, str):
        return [result]
    if not isinstance(result, Mapping):
        response = getattr(result, "response", None)
        return (
            [text for each in response for text in answers_in(each)]
            if isinstance(response, list)
            else answers_in(response or "")
        )
    text = result.get("content")
    return [text] if isinstance(text, str) and result.get("role") != "exception" else []
