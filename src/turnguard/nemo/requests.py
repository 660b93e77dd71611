"""A request to a NeMo engine: what of it is judged, as what, and the request to send on in its place."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from turnguard.core.decision import Decision
from turnguard.core.policy import Policy
from turnguard.core.step import Step, Text
from turnguard.nemo.reports import strictest
from turnguard.transcripts.apply import guard_messages
from turnguard.transcripts.blocks import read

if TYPE_CHECKING:
    from turnguard.guard import Guard

Message = dict[str, Any]

METADATA = "turnguard"
"""The variable of a context message that says whom the turn belongs to."""
_CHUNKS = ("relevant_chunks", "relevant_chunks_sep")
"""Context variables that hold retrieved text, whole and in pieces. A prompt may use either."""
_PLUMBING = {"type", "uid", "event_created_at", "source_uid", "action_uid"}
"""Keys of NeMo's events that hold no text."""
_TOKEN = re.compile(r"[\w.:/+\-=]{0,128}")


@dataclass(frozen=True, slots=True)
class Judge:
    """A guard, the policy of one turn, and whom that turn belongs to.

    No review is held for a person: NeMo's engines have no way to go on once one has answered.
    """

    guard: Guard
    policy: Policy
    metadata: Mapping[str, str] = field(default_factory=dict)

    async def messages(
        self, messages: Sequence[Any], only: Collection[int] | None = None
    ) -> tuple[list[Any], list[Decision]]:
        """The messages to use instead, and the decisions. `only` are the indexes of those to judge."""
        return await guard_messages(self.guard, messages, only, policy=self.policy, metadata=self.metadata, hold=False)

    async def parts(self, step: Step) -> list[Decision]:
        """A decision for each part of a step."""
        step = replace(step, metadata=self.metadata)
        return await self.guard.acheck_parts(step, policy=self.policy, hold=False)


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged request: the messages to send on, the decisions about the turn in progress, and the one that refuses it.

    `refusing` is None when the turn may go on. `changed` says whether `messages` differ from what was asked.
    """

    messages: list[Any]
    decisions: list[Decision] = field(default_factory=list)
    refusing: Decision | None = None
    changed: bool = False


async def judge(by: Judge, messages: list[Any], only: Collection[int] | None = None, *, chunks: bool = True) -> Judged:
    """Judge the messages of a request. What is unsafe in earlier turns is taken out; in this turn it refuses.

    `only` are the indexes of those to judge, all without it. `chunks`: retrieved ones are judged too.
    """
    own = {at: message for at, message in enumerate(messages) if role_of(message) in ("context", "event")}
    read_as = messages
    if own:
        said = {text for at, each in enumerate(messages) if at not in own for text in strings(each)}
        read_as = [_as_text(message, said) if at in own else message for at, message in enumerate(messages)]
    passed, decisions = await by.messages(read_as, only)
    start = turn_start(messages)
    lasting = {at for at, message in own.items() if message["role"] == "context" or at >= start}
    of_turn = [each for each in decisions if each.where and (each.where[0] >= start or each.where[0] in lasting)]
    # variables and events are structures that no text can take the place of
    refusing = [
        each for each in of_turn if each.withheld or (not each.allowed and each.where and each.where[0] in lasting)
    ]
    as_given = {id(read_as[at]): message for at, message in own.items()}
    new = [as_given.get(id(message)) or _as_said(message) for message in passed] if own else passed
    if not _same(new, messages):
        new, unsaid = _carried(new, spoken(messages), spoken(new))
        refusing += [each for each in of_turn if not each.allowed] if unsaid else []
    for message in [each for at, each in own.items() if chunks and (only is None or at in only)]:
        content = message.get("content")
        if not isinstance(content, Mapping) or not (found := chunks_in(content)):
            continue
        about = await by.parts(Step.retrieval(found, prompt=question(messages)))
        of_turn += about
        refusing += [each for each in about if each.withheld]
        if not all(each.allowed for each in about):
            rewritten = {**message, "content": {**content, **with_chunks(content, about)}}
            new = [rewritten if each is message else each for each in new]
    return Judged(new, of_turn, strictest(refusing), not _same(new, messages))


def _same(new: Sequence[Any], old: Sequence[Any]) -> bool:
    return len(new) == len(old) and all(map(operator.is_, new, old))


async def offered(by: Judge, options: Any) -> tuple[Any, list[Decision]]:
    """The options with the tools that the model may be offered, and the decisions about them.

    Definitions are the application's own, and judged if the settings say so (`checks.tools`), unless clients write the
    requests. A tool that does not pass is not offered.
    """
    params = options.get("llm_params") if isinstance(options, Mapping) else getattr(options, "llm_params", None)
    which = by.guard.checks.tools
    if not isinstance(params, Mapping) or not (tools := params.get("tools")):
        return options, []
    if which == "none" or (which == "dynamic" and by.guard.checks.trusted_roles):
        return options, []
    decisions = await by.parts(Step.tools(tools))
    kept = [tool for tool, decision in zip(tools, decisions, strict=True) if decision.allowed]
    if len(kept) == len(tools):
        return options, decisions
    left = {key: value for key, value in params.items() if kept or not key.startswith(("tool", "parallel_tool"))}
    left = {**left, "tools": kept} if kept else left
    if isinstance(options, Mapping):
        return {**options, "llm_params": left}, decisions
    return options.model_copy(update={"llm_params": left}), decisions


def addressed(messages: Sequence[Any]) -> tuple[list[Any], dict[str, str]]:
    """The messages without what says whom the turn belongs to, and that, which no prompt ever holds.

    Raises NeMo's `InvalidStateError` for what is no metadata.
    """
    left: list[Any] = []
    metadata: dict[str, str] = {}
    for message in messages:
        content = message.get("content") if role_of(message) == "context" else None
        if content is None or not isinstance(content, Mapping) or METADATA not in content:
            left.append(message)
            continue
        try:
            metadata.update(Step.input("-", metadata=content[METADATA]).metadata)
        except (TypeError, ValueError) as error:
            from nemoguardrails.exceptions import InvalidStateError

            raise InvalidStateError(f"{METADATA!r} in a context message: {error}") from error
        if rest := {key: value for key, value in content.items() if key != METADATA}:
            left.append({**message, "content": rest})
    return left, metadata


def turn_start(messages: Sequence[Any]) -> int:
    """The index of the first message of the turn in progress: what follows the last answer, a closing one aside.

    A message that calls tools is no answer: a turn ends with text.
    """
    for at in range(len(messages) - 2, -1, -1):
        if is_answer(messages[at]):
            return at + 1
    return 0


def ending_in_speech(messages: Sequence[Any]) -> list[Any]:
    """The messages with what the application put behind the last one of the conversation standing before it."""
    end = len(messages)
    while end and role_of(messages[end - 1]) in ("system", "developer", "context", "event"):
        end -= 1
    return [*messages[: end - 1], *messages[end:], messages[end - 1]] if end else list(messages)


def is_answer(message: Any) -> bool:
    """Whether the assistant's own turn ended with this message."""
    return role_of(message) == "assistant" and not message.get("tool_calls")


def is_tool(message: Any) -> bool:
    """Whether a message is a tool's result."""
    return role_of(message) in ("tool", "function")


def trailing_tools(messages: Sequence[Any]) -> range:
    """The indexes of the tool results that end the transcript."""
    start = len(messages)
    while start and is_tool(messages[start - 1]):
        start -= 1
    return range(start, len(messages))


def spoken(messages: Sequence[Any]) -> Any:
    """What an LLMRails takes as the user's message: the last one's content, or that of the results at the end."""
    contents = [messages[at].get("content") for at in trailing_tools(messages)]
    if not contents:
        return next((each.get("content") for each in reversed(messages) if role_of(each) == "user"), None)
    if len(contents) == 1:
        return contents[0] if contents[0] is not None else ""
    if all(content is None or isinstance(content, str) for content in contents):
        return "\n".join(content for content in contents if content)
    blocks: list[Any] = []
    for content in contents:
        blocks += content if isinstance(content, list) else [{"type": "text", "text": str(content)}] if content else []
    return blocks


def strings(value: Any) -> Iterator[str]:
    """Every text in a structure of NeMo's, in LangChain's messages too, but for the plumbing of its events."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _PLUMBING:
                yield from strings(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from strings(item)
    elif hasattr(value, "content") and hasattr(value, "model_copy"):
        yield from strings(value.content)


def exchanged(value: Any, old: Any, new: Any) -> Any:
    """`value` with content exchanged wherever it stands as a whole, in LangChain's messages too.

    The very `value` where it was not found.
    """
    if type(value) is type(old) and (value.strip() == old.strip() != "" if isinstance(old, str) else value == old):
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


def is_token(text: str) -> bool:
    """Whether a text is a mere name or id, as the records of NeMo's engines are full of."""
    return _TOKEN.fullmatch(text) is not None


def asked_about(messages: Sequence[Any], rail_types: Any = None) -> Message:
    """The message that `check` tells about: the last of the person's or the assistant's, else the last one.

    With `rail_types`, NeMo tells about the assistant's if output rails are among them, and else about the person's.
    """
    roles: Collection[str] = ("user", "assistant")
    if rail_types:
        roles = ("assistant",) if "output" in (getattr(each, "value", each) for each in rail_types) else ("user",)
    spoken_last = (message for message in reversed(messages) if role_of(message) in roles)
    message = next(spoken_last, messages[-1] if messages else None)
    return dict(message) if isinstance(message, Mapping) else {}


def text_of(content: Any) -> str:
    """The text of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(each.part.text for each in read(content) if isinstance(each.part, Text))


def for_llmrails(messages: Sequence[Any], *, passthrough: bool) -> list[Any]:
    """The messages for an LLMRails, which writes into what it is given, and loses what follows a past tool call.

    In passthrough mode it writes the first message of the person over the last one (nemo-platform #1608): that one
    takes no writes here. Else it leaves out what follows: past calls are plain text here, and past results, which its
    prompts never hold, are left out.
    """
    made = copied(messages)
    calling = [at for at, message in enumerate(made[:-1]) if isinstance(message, dict) and message.get("tool_calls")]
    if not calling or role_of(made[-1]) != "user":
        return made
    if passthrough:
        made[-1] = Unwritable(made[-1])
        return made
    for at in calling:
        made[at] = {"role": "assistant", "content": made[at].get("content") or "[called a tool]"}
    return [message for message in made if role_of(message) != "tool"]


class Unwritable(dict[str, Any]):
    """A message that the engine cannot write into."""

    def __setitem__(self, key: str, value: Any) -> None:
        return


def copied(value: Any) -> Any:
    """A copy of the structure, which holds the very strings."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def role_of(message: Any) -> Any:
    """A message's role; None for what is no message."""
    return message.get("role") if isinstance(message, (dict, Mapping)) else None  # a dict is told faster


def question(messages: Sequence[Any]) -> str | None:
    """The text of the person's last message."""
    return next((text_of(each.get("content")) or None for each in reversed(messages) if role_of(each) == "user"), None)


def chunks_in(content: Mapping[str, Any]) -> list[str]:
    """The retrieved chunks, each once. Those that only repeat others in one piece are not listed."""
    whole = "\n".join(strings(content.get("relevant_chunks")))
    separate = list(strings(content.get("relevant_chunks_sep")))
    listed = separate if "\n".join(separate).strip() == whole.strip() else [whole, *separate]
    return [chunk for chunk in dict.fromkeys(listed) if chunk.strip()]


def with_chunks(content: Mapping[str, Any], decisions: Sequence[Decision]) -> dict[str, Any]:
    """The variables with the chunks that pass."""
    kept = [part.text for decision in decisions for part in decision.parts if isinstance(part, Text)]
    made: dict[str, Any] = {"relevant_chunks": "\n".join(kept)}
    return {**made, "relevant_chunks_sep": kept} if content.get("relevant_chunks_sep") is not None else made


def _as_text(message: Mapping[str, Any], said: Collection[str]) -> Message:
    """A context or event message as the transcript engine reads it: its texts, without chunks and what is said too."""
    content = message.get("content") if message["role"] == "context" else message.get("event")
    rest = (
        {key: item for key, item in content.items() if key not in _CHUNKS} if isinstance(content, Mapping) else content
    )
    others = {key: item for key, item in message.items() if key not in ("role", "content", "event")}
    texts = dict.fromkeys(text for value in (rest, others) for text in strings(value) if text.strip())
    return {"role": message["role"], "content": "\n".join(text for text in texts if text not in said) or None}


def _as_said(message: Any) -> Any:
    """What stands in the place of an event that was taken out; of variables nothing is left."""
    role = role_of(message)
    if role == "context":
        return {"role": role, "content": {}}
    return {"role": "user", "content": message["content"]} if role == "event" else message


def _carried(messages: list[Any], old: Any, new: Any) -> tuple[list[Any], bool]:
    """The messages with a rewrite carried into what a `RunnableRails` was invoked with; whether it could not be."""
    if old is None or old == new:
        return messages, False
    made, lost = [], False
    for message in messages:
        content = message.get("content") if role_of(message) == "context" else None
        if not isinstance(content, Mapping) or content.get("passthrough_input") is None:
            made.append(message)
            continue
        changed = {key: exchanged(item, old, new) for key, item in content.items()}
        before, after = content["passthrough_input"], changed["passthrough_input"]
        lost = lost or after is before or type(after) is not type(before)
        made.append({**message, "content": changed})
    return made, lost
