"""A request to a NeMo engine: what of it is judged, as what, and the request to send on in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnguard.core.decision import Decision
from turnguard.core.policy import Policy
from turnguard.core.step import Step, Text
from turnguard.nemo.reports import strictest
from turnguard.transcripts.blocks import read

if TYPE_CHECKING:
    from turnguard.guard import Guard

Message = dict[str, Any]

_CHUNKS = ("relevant_chunks", "relevant_chunks_sep")
"""Context variables that hold retrieved text, whole and in pieces. A prompt may use either."""
_PLUMBING = {"type", "uid", "event_created_at", "source_uid", "action_uid"}
"""Keys of NeMo's events that hold no text."""
_TOKEN = re.compile(r"[\w.:/+\-=]{0,128}")


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged request: the messages to send on, the decisions about the turn in progress, and the one that refuses it.

    `refusing` is None when the turn may go on. `changed` says whether `messages` differ from what was asked.
    """

    messages: list[Any]
    decisions: list[Decision] = field(default_factory=list)
    refusing: Decision | None = None
    changed: bool = False


async def judge(guard: Guard, messages: list[Any], policy: Policy) -> Judged:
    """Judge every message of a request. What is unsafe in earlier turns is taken out; in this turn it refuses."""
    own = {at: message for at, message in enumerate(messages) if role_of(message) in ("context", "event")}
    read_as = [_as_text(message) if at in own else message for at, message in enumerate(messages)]
    passed, decisions = await guard.aguard_messages(read_as, policy=policy)
    start = turn_start(messages)
    of_turn = [each for each in decisions if each.where and (each.where[0] >= start or each.where[0] in own)]
    # variables and events are structures that no text can take the place of
    refusing = [each for each in of_turn if each.withheld or (not each.allowed and each.where and each.where[0] in own)]
    as_given = {id(read_as[at]): message for at, message in own.items()}
    new = [as_given.get(id(message), message) for message in passed]
    changed = len(new) != len(messages) or any(one is not other for one, other in zip(new, messages, strict=True))
    for message in own.values():
        content = message.get("content")
        if not isinstance(content, Mapping) or not (chunks := _chunks(content)):
            continue
        decision = await guard.acheck(Step.retrieval(chunks, prompt=_question(messages)), policy=policy)
        of_turn.append(decision)
        if decision.withheld:
            refusing.append(decision)
        elif not decision.allowed:
            rewritten = {**message, "content": _with_chunks(content, decision)}
            new, changed = [rewritten if each is message else each for each in new], True
    return Judged(new, of_turn, strictest(refusing), changed)


async def offered(guard: Guard, options: Any, policy: Policy) -> tuple[Any, list[Decision]]:
    """The options with the tools that the model may be offered, and the decisions about them.

    Definitions are the application's own, and judged if the settings say so (`checks.tools`), unless clients write the
    requests. A tool that does not pass is not offered.
    """
    params = options.get("llm_params") if isinstance(options, Mapping) else getattr(options, "llm_params", None)
    which = guard.checks.tools
    if not isinstance(params, Mapping) or not (tools := params.get("tools")):
        return options, []
    if which == "none" or (which == "dynamic" and guard.checks.trusted_roles):
        return options, []
    decisions = await guard.acheck_parts(Step.tools(tools), policy=policy)
    kept = [tool for tool, decision in zip(tools, decisions, strict=True) if decision.allowed]
    if len(kept) == len(tools):
        return options, decisions
    left = {key: value for key, value in params.items() if kept or not key.startswith(("tool", "parallel_tool"))}
    left = {**left, "tools": kept} if kept else left
    if isinstance(options, Mapping):
        return {**options, "llm_params": left}, decisions
    return options.model_copy(update={"llm_params": left}), decisions


def turn_start(messages: Sequence[Any]) -> int:
    """The index of the first message of the turn in progress: what follows the last answer, a closing one aside.

    A message that calls tools is no answer: a turn ends with text.
    """
    for at in range(len(messages) - 2, -1, -1):
        if role_of(messages[at]) == "assistant" and not messages[at].get("tool_calls"):
            return at + 1
    return 0


def strings(value: Any) -> Iterator[str]:
    """Every text in a structure of NeMo's, but for the plumbing of its events."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _PLUMBING:
                yield from strings(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from strings(item)


def is_token(text: str) -> bool:
    """Whether a text is a mere name or id, as the records of NeMo's engines are full of."""
    return _TOKEN.fullmatch(text) is not None


def asked_about(messages: Sequence[Any]) -> Message:
    """The message that `check` tells about: the last answer, else the last of the person's, else the last one."""
    for role in ("assistant", "user"):
        for message in reversed(messages):
            if role_of(message) == role:
                return dict(message)
    return dict(messages[-1]) if messages and isinstance(messages[-1], Mapping) else {}


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message's content."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(each.part.text for each in read(content) if isinstance(each.part, Text))


def for_llmrails(messages: Sequence[Any], *, passthrough: bool) -> list[Any]:
    """The messages for an LLMRails, which writes into what it is given, and loses what follows a past tool call.

    In passthrough mode it writes the first message of the person over the last one (nemo-platform #1608): that one
    takes no writes here. Else it leaves out what follows: past calls are plain text here, and past results, which its
    prompts never hold, are left out.
    """
    made = _copied(messages)
    calling = [at for at, message in enumerate(made[:-1]) if isinstance(message, dict) and message.get("tool_calls")]
    if not calling or role_of(made[-1]) != "user":
        return made
    if passthrough:
        made[-1] = _Unwritable(made[-1])
        return made
    for at in calling:
        made[at] = {"role": "assistant", "content": made[at].get("content") or "[called a tool]"}
    return [message for message in made if role_of(message) != "tool"]


class _Unwritable(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        return


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def role_of(message: Any) -> Any:
    """A message's role; None for what is no message."""
    return message.get("role") if isinstance(message, Mapping) else None


def _as_text(message: Mapping[str, Any]) -> Message:
    """A context or event message as the transcript engine reads it: all its texts, retrieved chunks aside."""
    content = message.get("content") if message["role"] == "context" else message.get("event")
    rest = (
        {key: item for key, item in content.items() if key not in _CHUNKS} if isinstance(content, Mapping) else content
    )
    others = {key: item for key, item in message.items() if key not in ("role", "content", "event")}
    texts = dict.fromkeys(text for value in (rest, others) for text in strings(value) if text.strip())
    return {"role": message["role"], "content": "\n".join(texts) or None}


def _chunks(content: Mapping[str, Any]) -> list[str]:
    """The retrieved chunks, each once. Those that only repeat others in one piece are not listed."""
    whole = "\n".join(strings(content.get("relevant_chunks")))
    separate = list(strings(content.get("relevant_chunks_sep")))
    listed = separate if "\n".join(separate).strip() == whole.strip() else [whole, *separate]
    return [chunk for chunk in dict.fromkeys(listed) if chunk.strip()]


def _with_chunks(content: Mapping[str, Any], decision: Decision) -> Message:
    kept = [part.text for part in decision.parts if isinstance(part, Text)]
    made = {**content, "relevant_chunks": "\n".join(kept)}
    return {**made, "relevant_chunks_sep": kept} if "relevant_chunks_sep" in content else made


def _question(messages: Sequence[Any]) -> str | None:
    """The text of the person's last message."""
    for message in reversed(messages):
        if role_of(message) == "user":
            return text_of(message) or None
    return None
