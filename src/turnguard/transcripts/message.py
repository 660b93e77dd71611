"""One message of any dialect → its parts: what each is, and in which field it stands.

A message is an envelope with a role and fields (OpenAI chat, Anthropic, Gemini, Bedrock, LangChain, Vercel's AI SDK,
A2A, Haystack, Cohere, Mistral), a bare item (OpenAI Responses), or a tool's result (MCP). The client may have written
all of it: a role says how a part is judged, never that it is to be believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from turnguard.core.step import Image, Opaque, Part, Text, ToolCall
from turnguard.transcripts import calls
from turnguard.transcripts.block import ARTIFACT, Block
from turnguard.transcripts.fields import holds_no_words
from turnguard.transcripts.names import VALUES, known_key
from turnguard.transcripts.read import Reader, plain, read

Speaker = Literal["person", "assistant", "tool", "application"]
"""Who a message is by: `application` for the developer's own roles."""

SPEAKERS: Mapping[str, Speaker] = {
    **dict.fromkeys(("user", "human", "person", "USER"), "person"),
    **dict.fromkeys(("assistant", "model", "ai", "AIMessageChunk", "agent", "bot", "chatbot", "CHATBOT"), "assistant"),
    **dict.fromkeys(("tool", "function", "ipython", "TOOL"), "tool"),
    **dict.fromkeys(("system", "developer", "SYSTEM"), "application"),
}
"""Who speaks under a role. Anybody else counts as a person."""
CONTENT = ("content", "_content", "parts")
"""Fields that hold what a message says, the first of them read first."""
CALL_FIELDS = ("tool_calls", "invalid_tool_calls", "function_call")
ARTIFACTS = ("artifact", "structuredContent")
"""Fields that hold a tool's result for programs. What the content says as well is not read twice."""
_FUNCTIONS = ("function", "custom")
_ARGUMENTS = ("arguments", "args", "input")
_ENVELOPE = frozenset({*CONTENT, *CALL_FIELDS, "role", "_role"})


class Leaf(NamedTuple):
    """A part of a message: the field that it stands in (None where the message is one bare block), and its block."""

    field: str | None
    block: Block


@dataclass(frozen=True)
class Reading:
    """What a message holds.

    `leaves` are its parts in order: content, what stands beside it, calls. `mirrors` gives, by a leaf's position, the
    other places of the message that say the very same. `tool` is the name that a tool's message has.
    """

    role: str | None
    speaker: Speaker
    leaves: tuple[Leaf, ...] = ()
    mirrors: Mapping[int, tuple[Leaf, ...]] = field(default_factory=dict)
    tool: str | None = None
    pair: str | None = None

    @cached_property
    def calls(self) -> tuple[Block, ...]:
        """The calls that this message makes."""
        return tuple(leaf.block for leaf in self.leaves if leaf.block.region == "call" and leaf.block.tool)

    @cached_property
    def names(self) -> tuple[Leaf, ...]:
        """Where results name their tools."""
        return tuple(
            leaf
            for leaf in self.leaves
            if (leaf.field == "name" and self.speaker == "tool")
            or (leaf.block.region == "result" and leaf.block.form.removeprefix("key:") in calls.NAME_KEYS)
        )

    @property
    def bare(self) -> bool:
        """Whether the message is one block without an envelope."""
        return any(leaf.field is None for leaf in self.leaves)

    def request(self) -> tuple[str | None, tuple[Image, ...]]:
        """The text and the images that this message asks with; nothing where it only carries results."""
        said = [leaf.block.part for leaf in self.leaves if leaf.field in CONTENT and leaf.block.region == "said"]
        text = "\n".join(part.text for part in said if isinstance(part, Text))
        return text or None, tuple(part for part in said if isinstance(part, Image))


def read_message(message: Any) -> Reading:
    """Everything in a message that needs a judgement."""
    message = plain(message)
    if not isinstance(message, Mapping):
        cause = f"a message that is no mapping but {type(message).__name__}"
        return Reading(None, "person", (Leaf(None, Block(Opaque("other", cause), None)),))
    role = message.get("role", message.get("_role"))
    kind = message.get("type", message.get("kind"))
    if role is None and isinstance(kind, str):
        if kind in SPEAKERS:
            role = kind
        elif kind in VALUES and kind != "message" and not any(key in message for key in ("parts", "_content")):
            return _bare(message, kind)
    speaker = SPEAKERS.get(role, "person") if isinstance(role, str) else "person"
    if role is None and ("structuredContent" in message or "isError" in message):
        speaker = "tool"  # MCP
    found = _Collected()
    made = speaker == "assistant"
    for key in CONTENT:
        if key in message:
            found.add(key, read(message[key], made=made))
    for key, value in message.items():
        if key not in _ENVELOPE:
            found.add(str(key), _beside(str(key), value, found, made=made))
    found.add("role", _role(role))
    for key in CALL_FIELDS:
        found.add(key, _calls(key, message.get(key)))
    name = message.get("name")
    tool = name if speaker == "tool" and isinstance(name, str) else None
    pair = calls.identity({key: value for key, value in message.items() if key != "id"}) if speaker == "tool" else None
    said = role if isinstance(role, str) else None
    return Reading(said, speaker, tuple(found.leaves), found.mirrors, tool, pair)


def _bare(message: Mapping[str, Any], kind: str) -> Reading:
    """A bare item: what the model or its provider made, but for results, which the client sends."""
    speaker: Speaker = "tool" if calls.is_result(kind) else "assistant"
    if kind in ("text", "image", "item_reference") or kind.startswith("input_"):
        speaker = "person"
    found = _Collected()
    found.add(None, Reader(None, made=speaker == "assistant").read(message))
    return Reading(None, speaker, tuple(found.leaves), found.mirrors, calls.tool_name(message), calls.identity(message))


class _Collected:
    """Leaves in order. What says the very same as one before it becomes that one's mirror."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self.mirrors: dict[int, tuple[Leaf, ...]] = {}
        self._at: dict[Any, int] = {}

    def add(self, name: str | None, blocks: Iterable[Block]) -> None:
        for block in blocks:
            leaf = Leaf(name, block)
            same = _sameness(leaf)
            first = self._at.get(same) if same is not None else None
            if first is not None and (name not in CONTENT or isinstance(block.part, ToolCall)):
                self.mirrors[first] = (*self.mirrors.get(first, ()), leaf)
                continue
            if same is not None:
                self._at.setdefault(same, len(self.leaves))
            self.leaves.append(leaf)

    def said(self) -> str:
        return "\n".join(leaf.block.part.text for leaf in self.leaves if isinstance(leaf.block.part, Text))


def _sameness(leaf: Leaf) -> Any:
    """What makes two leaves say the same: a text, or a call with its identifier."""
    part: Part = leaf.block.part
    if isinstance(part, Text):
        return part.text
    if isinstance(part, ToolCall) and part.id:
        return part.id, part.name, _normal(part.arguments)
    return None


def same_arguments(one: Any, other: Any) -> bool:
    """Whether two forms of arguments, text or parsed, say the same."""
    return bool(one == other or _normal(one) == _normal(other))


def _normal(arguments: Any) -> str:
    try:
        loaded = json.loads(arguments) if isinstance(arguments, str) and arguments.strip() else arguments or {}
        return json.dumps(loaded, sort_keys=True, default=repr)
    except (ValueError, RecursionError, TypeError):
        return repr(type(arguments)) if not isinstance(arguments, str) else arguments


def _role(role: Any) -> Sequence[Block]:
    """A role that no dialect knows is text."""
    if role is None or (isinstance(role, str) and (role in SPEAKERS or not role.strip())):
        return ()
    return Reader(0, made=False).read_field("content" if isinstance(role, str) else "role", role)


def _beside(key: str, value: Any, found: _Collected, *, made: bool) -> Iterator[Block]:
    """What stands in a field beside the content."""
    if holds_no_words(key, value):
        if not known_key(key):
            yield Block(Text(key), 0, (), "media")
        return
    if key in ARTIFACTS and value is not None:
        said = found.said()
        for block in Reader(ARTIFACT, made=made).read_data(value):
            if not isinstance(block.part, Text) or block.part.text not in said:
                yield block
        return
    yield from Reader(0, made=made).read_field(key, value)


# ---------------------------------------------------------------- calls beside the content


def _calls(key: str, value: Any) -> Iterator[Block]:
    if value is None or value in ("", [], {}):
        return
    if key == "function_call":
        yield from _one(value if not isinstance(value, Mapping) else {"function": value}, 0)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        for index, call in enumerate(value):
            yield from _one(plain(call), index)
    else:
        yield Block(Opaque("other", "tool calls that are no list"), 0, (), "media")
        yield from Reader(0).read_field(key, value)


def _one(call: Any, index: int) -> Iterator[Block]:
    """A call in OpenAI's form or LangChain's, and whatever else stands in it.

    Which of two names or arguments would run is the executor's choice: both are shown, and the call counts as
    unchecked.
    """
    if not isinstance(call, Mapping):
        yield Block(Opaque("other", "a tool call that is no mapping"), index, (), "media")
        yield from Reader(index).read(call)
        return
    at: dict[tuple[str, ...], Mapping[str, Any]] = {(): call}
    at |= {(key,): call[key] for key in _FUNCTIONS if isinstance(call.get(key), Mapping)}
    said = [holder.get("name") for holder in at.values()]
    names = list(dict.fromkeys(name for name in said if isinstance(name, str) and name))
    given = [(path, key) for path, holder in at.items() for key in _ARGUMENTS if _holds(holder.get(key))]
    identity = calls.identity(call)
    name = names[0] if names else ""
    found: list[Block] = []
    if not names and not given:
        found.append(Block(Opaque("other", "a tool call without a function"), index, (), "media"))
    elif len(names) > 1 or len(given) > 1:
        doubled = {"names": names, "arguments": [at[path][key] for path, key in given]}
        found.append(Block(ToolCall(name, doubled, identity), index, (), "media"))
        found.append(Block(Opaque("other", "two calls in one tool call"), index, (), "media"))
    else:
        path = given[0][0] if given else [*at][-1]
        arguments: Any = at[path].get(given[0][1]) if given else {}
        if not isinstance(arguments, (str, Mapping)):
            arguments = {"arguments": arguments}
        found.append(Block(ToolCall(name, arguments, identity), index, (), f"call:{path[0]}" if path else "call"))
    yield from (replace(block, region="call", pair=identity, tool=name or None) for block in found)
    for path, holder in at.items():
        left = {
            key: value
            for key, value in holder.items()
            if not (
                (key == "name" and isinstance(value, str))
                or key in _ARGUMENTS
                or (holder is call and key in _FUNCTIONS and isinstance(value, Mapping))
            )
        }
        for key, value in left.items():
            for block in Reader(index).read_field(str(key), value):
                yield replace(block, path=(*path, *block.path))


def _holds(value: Any) -> bool:
    return value is not None and not (isinstance(value, (str, Sequence, Mapping)) and not value)
