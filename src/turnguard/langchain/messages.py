"""What a LangChain message holds, as parts to judge: pure, langchain-core alone.

An AI message is read as three things: what it says (content, reasoning, whatever text a provider left in
`additional_kwargs`), what tools that the provider itself ran gave back, and the calls that it proposes. A block in the
content that only mirrors a proposed call is not judged twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage, HumanMessage, ToolMessage

from turnguard.core.step import Document, Image, Opaque, Part, Stage, Step, Text, ToolCall
from turnguard.transcripts import blocks
from turnguard.transcripts import fields as _carriers
from turnguard.transcripts.blocks import Block

_CLIENT_CALLS = {
    "tool_use",
    "tool_call",
    "tool_call_chunk",
    "invalid_tool_call",
    "function_call",
    "custom_tool_call",
    "input_json_delta",
}
_CLIENT_WRAPPERS = ("toolUse", "functionCall", "function_call")
_RAN_AND_ANSWERED = {"mcp_call", "web_search_call", "file_search_call", "code_interpreter_call", "search_result"}
_SEALS = {"encrypted_content", "signature", "thought_signature", "thoughtSignature", "id"}
_CALL_IDS = "__openai_function_call_ids__"
FOUND = ("grounding_metadata", "groundingMetadata", "citation_metadata", "citations", "search_results")
"""Where providers put what they found on the web beside their answer: keys of `response_metadata`."""
_PLAIN_NAME = re.compile(r"[\w.@:/+\-]{1,64}")
_PERSON = ("user", "human")
_ROLES = {"human": "user", "ai": "assistant", "function": "tool"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The person's request that a step answers: their newest text and images, and their earlier turns."""

    text: str | None = field(default=None, repr=False)
    images: tuple[Image, ...] = field(default=(), repr=False)
    earlier: tuple[str, ...] = field(default=(), repr=False)

    def then(self, message: BaseMessage, history: int) -> Asked:
        """The request once the person has also sent `message`; `history` earlier turns are kept."""
        parts = [block.part for block in blocks.read(message.content)]
        text = "\n".join(part.text for part in parts if isinstance(part, Text))
        images = tuple(part for part in parts if isinstance(part, Image))
        earlier = (*self.earlier, self.text)[-history:] if history and self.text else self.earlier
        return Asked(text or None, images, tuple(said for said in earlier if said))


def asked(messages: Sequence[Any], history: int = 0) -> Asked:
    """The newest request in a list of messages."""
    found = Asked()
    for message in messages:
        if is_request(message):
            found = found.then(message, history)
    return found


@dataclass(frozen=True, slots=True)
class Call:
    """One proposed call. `invalid`: its arguments could not be parsed, so no tool will run."""

    name: str
    args: Any = field(repr=False)
    id: str | None
    invalid: bool = False

    def step(self, request: Asked) -> Step:
        """The call, judged against the request before it runs."""
        args = self.args if isinstance(self.args, (str, Mapping)) else json.dumps(self.args, default=str)
        return Step(
            "tool_call",
            (ToolCall(self.name, args, self.id),),
            prompt=request.text,
            prompt_images=request.images,
            tool=self.name,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A message as parts. `said` and `results` are blocks of the content; `extras` stand in other fields of the
    message.
    """

    said: tuple[Block, ...] = ()
    extras: tuple[Block, ...] = ()
    results: tuple[Block, ...] = ()
    calls: tuple[Call, ...] = ()
    mirrors: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)

    @property
    def own(self) -> tuple[Block, ...]:
        """What the message itself says, wherever it stands."""
        return (*self.said, *self.extras)

    @property
    def parts(self) -> tuple[Part, ...]:
        """`own`, as parts."""
        return tuple(block.part for block in self.own)

    @property
    def empty(self) -> bool:
        """True when there is nothing to judge."""
        return not (self.said or self.extras or self.results or self.calls)


def role(message: BaseMessage) -> str:
    """The role as OpenAI's transcripts name it."""
    return message.role if isinstance(message, ChatMessage) else _ROLES.get(message.type, message.type)


def is_request(message: Any) -> bool:
    """Whether a person says this."""
    return isinstance(message, HumanMessage) or (isinstance(message, ChatMessage) and message.role in _PERSON)


def stage_of(message: BaseMessage) -> Stage:
    """Where in the turn a message stands. A role that is not known is read as the person's."""
    stages: dict[str, Stage] = {"assistant": "output", "tool": "tool_result"}
    return stages.get(role(message), "input")


def plain_name(name: str | None) -> str | None:
    """A message's name where it is a name; prose in its place is content."""
    return name if name is not None and _PLAIN_NAME.fullmatch(name) is not None else None


def read(message: BaseMessage) -> Reading:
    """Everything in a message that needs a judgement."""
    content = blocks.read(message.content, artifact=message.artifact if isinstance(message, ToolMessage) else None)
    if not isinstance(message, AIMessage):
        said = tuple(block for block in content if block.index != blocks.ARTIFACT)
        artifact = tuple(block for block in content if block.index == blocks.ARTIFACT)
        return Reading(said, (*artifact, *_extras(message.additional_kwargs), *_named(message)))
    return _read_ai(message, content)


def _named(message: BaseMessage) -> Iterator[Block]:
    if message.name and message.name.strip() and plain_name(message.name) is None:
        yield Block(Text(message.name), blocks.ARTIFACT)


def _read_ai(message: AIMessage, content: tuple[Block, ...]) -> Reading:
    calls = _calls(message)
    beside = (*_named(message), *_found(message.response_metadata))
    if not content and not calls and not message.additional_kwargs and not beside:
        return Reading()
    by_id = {call.id: call for call in calls if call.id}
    streaming = isinstance(message, AIMessageChunk) and bool(message.tool_call_chunks)
    said: list[Block] = []
    results: list[Block] = []
    more: list[Call] = []
    mirrors: dict[str, tuple[Block, ...]] = {}
    for block in content:
        raw = message.content[block.index] if block.index is not None else None
        kind = raw.get("type") if isinstance(raw, Mapping) else None
        if _is_client_call(raw, kind):
            identity = block.part.id if isinstance(block.part, ToolCall) else None
            if streaming and (identity is None or identity in by_id):
                continue  # while it streams, the call is read from the chunks of its arguments
            if isinstance(block.part, ToolCall):
                if identity in by_id and _is_call(by_id[identity], block.part.name, block.part.arguments):
                    mirrors[identity] = (*mirrors.get(identity, ()), block)
                    continue
                more.append(Call(block.part.name, block.part.arguments, identity, invalid=True))
                if identity:
                    mirrors[identity] = (*mirrors.get(identity, ()), block)
                continue
            if isinstance(block.part, Text) and any(same_arguments(call.args, block.part.text) for call in calls):
                continue  # the same arguments once more, as they came over the wire
        if _is_result(kind):
            results.append(block)
        else:
            said.append(block)
    mirrored = {"tool_calls", "function_call"} if streaming or _mirrored(message, by_id) else set()
    extras = _extras({key: value for key, value in message.additional_kwargs.items() if key not in mirrored})
    extras = (*extras, *beside)
    return Reading(tuple(said), extras, tuple(results), (*calls, *more), mirrors)


def _calls(message: AIMessage) -> tuple[Call, ...]:
    if isinstance(message, AIMessageChunk) and message.tool_call_chunks:
        return tuple(
            Call(chunk["name"] or "", chunk["args"] or "", chunk["id"])
            for chunk in message.tool_call_chunks
            if chunk["name"] or chunk["args"]
        )
    valid = [Call(call["name"], call["args"], call["id"]) for call in message.tool_calls]
    invalid = [
        Call(call["name"] or "", call["args"] or "", call["id"], invalid=True) for call in message.invalid_tool_calls
    ]
    return (*valid, *invalid)


def _is_client_call(raw: Any, kind: Any) -> bool:
    if isinstance(kind, str):
        return kind in _CLIENT_CALLS
    return isinstance(raw, Mapping) and any(isinstance(raw.get(key), Mapping) for key in _CLIENT_WRAPPERS)


def _is_result(kind: Any) -> bool:
    return isinstance(kind, str) and (kind.endswith(("_result", "_output")) or kind in _RAN_AND_ANSWERED)


def same_arguments(one: Any, other: Any) -> bool:
    """Whether two forms of arguments, text or parsed, say the same."""
    return bool(one == other or _loaded(one) == _loaded(other))


def _loaded(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        return arguments


def _is_call(call: Call, name: Any, arguments: Any) -> bool:
    return bool(name == call.name) and same_arguments(call.args, arguments)


def _mirrored(message: AIMessage, by_id: Mapping[Any, Call]) -> bool:
    """Whether the provider's own list of calls in `additional_kwargs` says the same as the parsed one, and no more."""
    raw = message.additional_kwargs.get("tool_calls") or []
    legacy = message.additional_kwargs.get("function_call")
    if not isinstance(raw, list):
        return False
    return all(
        isinstance(entry, Mapping)
        and set(entry) <= {"id", "type", "index", "function"}
        and _carriers.is_switch("type", entry.get("type"))
        and entry.get("id") in by_id
        and _is_function(entry.get("function"), [by_id[entry["id"]]])
        for entry in raw
    ) and (legacy is None or _is_function(legacy, by_id.values()))


def _is_function(given: Any, calls: Iterable[Call]) -> bool:
    """Whether a provider's function is one of these calls, with nothing beside it."""
    if not isinstance(given, Mapping) or not set(given) <= {"name", "arguments", "parsed_arguments"}:
        return False
    return any(
        _is_call(call, given.get("name"), given.get("arguments"))
        and ("parsed_arguments" not in given or same_arguments(call.args, given["parsed_arguments"]))
        for call in calls
    )


def _extras(fields: Mapping[str, Any]) -> tuple[Block, ...]:
    """Text, images and the like in fields beside the content, such as a provider's reasoning."""
    if not fields:
        return ()
    found: list[Block] = []
    for key, value in fields.items():
        if not _carriers.is_plain_key(key):
            found.append(Block(Text(key), blocks.ARTIFACT))
        if (key in _SEALS or "signature" in key or key == _CALL_IDS) and _is_seal(value):
            continue
        plain = _unsealed(value)
        if isinstance(plain, str):
            found += [Block(Text(plain), blocks.ARTIFACT)] if plain.strip() else []
        elif plain is not None and not isinstance(plain, (bool, int, float)):
            found += blocks.read(None, artifact=plain)
    return tuple(found)


def _found(metadata: Mapping[str, Any]) -> Iterator[Block]:
    for key in FOUND:
        if metadata.get(key):
            yield from blocks.read(None, artifact=metadata[key])


def _unsealed(value: Any) -> Any:
    """Without ids and encrypted seals, which say nothing that a moderator could read."""
    if isinstance(value, Mapping):
        return {key: _unsealed(item) for key, item in value.items() if key not in _SEALS or not _is_seal(item)}
    return [_unsealed(item) for item in value] if isinstance(value, list) else value


def _is_seal(value: Any) -> bool:
    """Whether it is made of ids, seals and tokens alone. Prose under a seal's name is content."""
    if isinstance(value, Mapping):
        return all(_is_seal(key) and _is_seal(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_seal, value))
    return _carriers.is_switch("signature", value)


# ---------------------------------------------------------------- telling one content from another


def fingerprint(stage: str, reading: Reading, context: Asked | None = None, *names: str) -> bytes:
    """A digest of all that would be judged, with the request that it is judged against."""
    digest = blake2b(digest_size=20)
    for word in (stage, *names):
        _feed(digest, word)
    for block in (*reading.own, *reading.results):
        _feed_part(digest, block.part)
    for call in reading.calls:
        _feed(digest, [call.name, call.args, call.id])
    if context is not None:
        _feed(digest, [context.text, *context.earlier])
        for image in context.images:
            _feed_part(digest, image)
    return digest.digest()


def _feed_part(digest: Any, part: Part) -> None:
    digest.update(part.kind.encode())
    if isinstance(part, Text):
        _feed(digest, part.text)
    elif isinstance(part, (Image, Document)):
        _feed(digest, part.source.tobytes() if hasattr(part.source, "tobytes") else part.source)
    elif isinstance(part, ToolCall):
        _feed(digest, [part.name, part.arguments])
    elif isinstance(part, Opaque):
        _feed(digest, part.cause)


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        digest.update(b"%d:" % len(value))
        digest.update(value)
    elif isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key, item in value.items():
            _feed(digest, str(key))
            _feed(digest, item)
    elif isinstance(value, (list, tuple)):
        digest.update(b"[%d" % len(value))
        for item in value:
            _feed(digest, item)
    else:
        _feed(digest, repr(value))
