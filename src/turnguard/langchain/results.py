"""What a tool gave back, in every form that LangGraph takes: a message, a `Command`, or a list of both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, convert_to_messages

from turnguard.core.decision import Decision
from turnguard.core.errors import Blocked
from turnguard.core.step import Step, Text
from turnguard.langchain.judge import Judging
from turnguard.langchain.rulings import Ruling, Surface
from turnguard.transcripts import blocks
from turnguard.transcripts.conversation import Request


def is_result(value: Any) -> bool:
    """Whether LangGraph takes it as it is: a message, a `Command`, or a list of both."""
    if isinstance(value, list):
        return bool(value) and all(map(is_result, value))
    return isinstance(value, BaseMessage) or type(value).__name__ == "Command"


def blocks_of(output: Any) -> Any:
    """A tool's plain return value as message content."""
    if isinstance(output, str) or (isinstance(output, list) and all(isinstance(item, (str, dict)) for item in output)):
        return output
    try:
        return json.dumps(output, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(output)


async def receive(
    judging: Judging, result: Any, request: Request, tool: str, surface: Surface
) -> tuple[Any, list[Ruling]]:
    """The result as it may go on, and the rulings that were made on it."""
    rulings: list[Ruling] = []

    async def one(item: Any) -> Any:
        if isinstance(item, RemoveMessage):
            return item
        if isinstance(item, BaseMessage):
            return await message(item)
        if isinstance(item, list):
            return [entry for entry in [await one(entry) for entry in item] if entry is not None]
        if type(item).__name__ == "Command":
            return await command(item)
        return item if await data(item) else None

    async def message(item: BaseMessage) -> BaseMessage | None:
        spoken = isinstance(item, AIMessage) and not judging.check_output
        if spoken or not judging.concerns(item):  # a role that is trusted, or not judged: not where a tool brings it
            return item if await data(item) else None
        under = request
        if isinstance(item, HumanMessage):  # a tool may hand on a request of its own making, as to another agent
            under = Request()
        if judging.known(item, under):
            return item
        ruling = await judging.rule(item, under, surface)
        rulings.append(ruling)
        judged: BaseMessage = ruling.message
        return judged

    async def command(item: Any) -> Any:
        update = item.update
        if isinstance(update, dict):
            update = {key: await one(_messages(value) if key == "messages" else value) for key, value in update.items()}
            update = {key: value for key, value in update.items() if value is not None or item.update[key] is None}
        elif isinstance(update, (list, tuple)):
            pairs = [(key, await one(_messages(value) if key == "messages" else value)) for key, value in update]
            update = [pair for pair in pairs if pair[1] is not None]
        elif update is not None and not await data(update):
            update = None
        goto = item.goto
        sends = goto if isinstance(goto, (list, tuple)) else [goto]
        payloads = [send.arg for send in sends if hasattr(send, "arg")]
        if payloads and not await data(payloads):
            goto = ()
        return replace(item, update=update, goto=goto)

    async def data(value: Any) -> bool:
        """Whether plain data may go on. It is judged as a result; there is no half of it, so a rewrite withholds it."""
        parts = tuple(block.part for block in blocks.read(None, artifact=plain(value)))
        if not parts:
            return True
        decision = await judging.check(Step("tool_result", parts, prompt=request.text, tool=tool))
        rulings.append(Ruling(None, () if decision.action == "allow" else (decision,)))
        return decision.allowed

    return await one(result), rulings


async def fallen(
    judging: Judging,
    error: Exception,
    request: Request,
    tool: str,
    surface: Surface,
    tell: Callable[[list[Ruling]], object] = bool,
) -> Decision:
    """The decision that withholds what a tool raised. Raises the error where it may go on: its text reaches whoever
    called the agent, the traces, and the checkpoint of the task that failed. `tell` is told the rulings before.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ParentCommand" in kinds and error.args:  # a graph inside the tool speaks to the one around it
        command, rulings = await receive(judging, error.args[0], request, tool, surface)
        tell(rulings)
        raise type(error)(command) from None
    text = "" if "GraphBubbleUp" in kinds or isinstance(error, Blocked) else "\n".join(dict.fromkeys(_says(error)))
    content = blocks.read(getattr(error, "tool_content", None))  # what an MCP server said of its error
    parts = (*([Text(text)] if text.strip() else []), *(block.part for block in content))
    if not parts:
        raise error
    decision = await judging.check(Step("tool_result", parts, prompt=request.text, tool=tool))
    tell([Ruling(None, () if decision.action == "allow" else (decision,))])
    if decision.allowed:
        raise error
    return decision


def _says(error: BaseException, depth: int = 8) -> Iterator[str]:
    """What a reader of an error sees: its text, what its `repr` shows beside that, its notes, and the same of the
    errors that it groups and of its causes, which stand in every traceback.
    """
    text = str(error)
    yield text
    group = getattr(error, "exceptions", ())
    parts = group if isinstance(group, (list, tuple)) else ()
    if not parts:
        yield from (str(arg) for arg in error.args if str(arg) not in text)
        if type(error).__repr__ not in (BaseException.__repr__, OSError.__repr__):
            yield repr(error)
    yield from map(str, getattr(error, "__notes__", ()))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for other in (*parts, cause):
        if isinstance(other, BaseException) and depth:
            yield from _says(other, depth - 1)


def _messages(value: Any) -> Any:
    """What LangGraph will read as messages, as messages: an answer to a call in any form stays its answer."""
    try:
        return convert_to_messages(value if isinstance(value, list) else [value])
    except (NotImplementedError, TypeError, ValueError):
        return value


def plain(value: Any) -> Any:
    """State as data: messages in it are read by what they hold."""
    if isinstance(value, BaseMessage):
        return value.model_dump(include={"content", "additional_kwargs", "tool_calls", "artifact"})
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
