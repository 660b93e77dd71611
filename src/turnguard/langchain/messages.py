"""A LangChain message as the transcript engine reads it: the fields of the message, under the names of its dialect.

The engine finds the parts, cuts them into steps and writes decisions back. What only LangChain knows stands here: which
fields hold no words, that a streamed call comes in pieces, and that a parsed call stands beside its raw form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage

from turnguard.core.step import Document, Image, Opaque, Part, Stage, Step, Text, ToolCall
from turnguard.runtime.caches import Cache
from turnguard.transcripts.calls import identity
from turnguard.transcripts.conversation import NOTHING_ASKED, Request, next_request
from turnguard.transcripts.message import SPEAKERS, Reading, read_message
from turnguard.transcripts.names import is_identifier
from turnguard.transcripts.seen import Unfreezable, feed, frozen_copy

FOUND = ("grounding_metadata", "groundingMetadata", "citation_metadata", "citations", "search_results")
"""Where providers put what they found on the web beside their answer: keys of `response_metadata`."""
RAW_CALLS = ("tool_calls", "function_call")
"""Keys of `additional_kwargs` that hold the calls as the provider wrote them."""
_READ_BY_NAME = {
    *("content", "name", "type", "role", "additional_kwargs", "response_metadata"),
    *("tool_calls", "invalid_tool_calls", "tool_call_chunks"),
}
_ITEM_IDS = "__openai_function_call_ids__"
"""A key of `additional_kwargs` with the provider's identifier of each call, by the call's own."""
_WORDLESS = {"id", "status", "example", "usage_metadata", "chunk_position"}
_PIECES = {*("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function_call"), "custom_tool_call"}
_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "tool"}
_PLAIN_NAME = re.compile(r"[\w.@:/+\-]{1,64}")

_recent: Cache[int, tuple[BaseMessage, Any, Reading]] = Cache(32)
"""Messages that were read a moment ago, as copies of what they held."""


def role(message: BaseMessage) -> str:
    """The role as OpenAI's transcripts name it."""
    return message.role if isinstance(message, ChatMessage) else _ROLES.get(message.type, message.type)


def stage_of(message: BaseMessage) -> Stage:
    """Where in the turn a message stands. A role that is not known is read as the person's."""
    stages: dict[str, Stage] = {"assistant": "output", "tool": "tool_result"}
    return stages.get(SPEAKERS.get(role(message), "person"), "input")


def plain_name(name: str | None) -> str | None:
    """A message's name where it is a name; prose in its place is content."""
    return name if name is not None and _PLAIN_NAME.fullmatch(name) is not None else None


def as_mapping(message: BaseMessage) -> dict[str, Any]:
    """Every field of a message that can hold words, those of a class of the user's own included.

    Parsed calls come before raw ones, so that a raw one that says the same is read as the parsed one's mirror. The
    name of a tool or an agent is the application's; a person's name is theirs.
    """
    fields: dict[str, Any] = {"role": role(message), "content": message.content}
    if message.name and (plain_name(message.name) is None or stage_of(message) == "input"):
        fields["name"] = message.name
    extras = message.additional_kwargs
    if isinstance(message, AIMessage):
        streaming = isinstance(message, AIMessageChunk) and bool(message.tool_call_chunks)
        if streaming:
            fields["content"], calls = _streamed(message)
        else:
            calls = [*map(dict, message.tool_calls), *_raw(extras)]
            if message.invalid_tool_calls:
                fields["invalid_tool_calls"] = message.invalid_tool_calls
        if calls:
            fields["tool_calls"] = calls
        if streaming or isinstance(extras.get("tool_calls", []), list):
            extras = {key: value for key, value in extras.items() if key not in RAW_CALLS}
    extras = {key: value for key, value in extras.items() if key != _ITEM_IDS or not _are_ids(value)}
    if extras:
        fields["additional_kwargs"] = extras
    for key in FOUND:
        if message.response_metadata.get(key):
            fields[key] = message.response_metadata[key]
    every = {**message.__dict__, **(message.model_extra or {})}
    known = _READ_BY_NAME | _WORDLESS
    return fields | {key: value for key, value in every.items() if key not in known and value is not None}


def _are_ids(value: Any) -> bool:
    return isinstance(value, Mapping) and all(is_identifier(str(each)) for pair in value.items() for each in pair)


def _raw(extras: Mapping[str, Any]) -> list[Any]:
    listed = extras.get("tool_calls")
    legacy = extras.get("function_call")
    return [*(listed if isinstance(listed, list) else ()), *([{"function": legacy}] if legacy is not None else ())]


def _streamed(message: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The content and calls of a chunk. A call is read from the pieces of its arguments, not from its block as well."""
    calls = [
        {"name": chunk["name"] or "", "args": chunk["args"] or "", "id": chunk["id"]}
        for chunk in message.tool_call_chunks
        if chunk["name"] or chunk["args"]
    ]
    named = {call["id"] for call in calls}

    def is_piece(block: Any) -> bool:
        kind = block.get("type") if isinstance(block, Mapping) else None
        return kind == "input_json_delta" or (kind in _PIECES and identity(block) in {None, *named})

    content = message.content
    return [block for block in content if not is_piece(block)] if isinstance(content, list) else content, calls


def read(message: BaseMessage) -> Reading:
    """Everything in a message that needs a judgement. The same object while the message holds the same: several hooks
    look at a new message, one after the other.
    """
    now = {**message.__dict__, **(message.model_extra or {}), "id": None}  # which LangGraph gives it later
    known = _recent.get(id(message))
    if known is not None and known[0] is message and known[1] == now:
        return known[2]
    reading = read_message(as_mapping(message))
    with suppress(Unfreezable):
        _recent.put(id(message), (message, frozen_copy(now)[0], reading))
    return reading


def newest_other(messages: Sequence[BaseMessage]) -> int:
    """Where the newest message of the model or of a tool stands: what follows it is the person's newest input."""
    behind = range(len(messages) - 1, -1, -1)
    return next((at for at in behind if stage_of(messages[at]) != "input"), -1)


def asked(messages: Sequence[Any], history: int = 0, begin: Request = NOTHING_ASKED) -> Request:
    """The newest request in a list of messages; `history` earlier turns of the person are kept."""
    for message in messages:
        if isinstance(message, BaseMessage) and stage_of(message) == "input":
            begin = next_request(begin, read(message), history)
    return begin


def call_step(call: ToolCall, request: Request) -> Step:
    """A call that no message brought in this form, judged against the request before it runs."""
    return Step("tool_call", (call,), prompt=request.text, prompt_images=request.images, tool=call.name)


def call_of(call: Mapping[str, Any]) -> ToolCall:
    """A call in LangChain's form."""
    return ToolCall(str(call["name"]), call["args"], call["id"])


# ---------------------------------------------------------------- telling one content from another


def fingerprint(*told: Any) -> bytes:
    """A digest of parts, requests and words; like no other where an object in them can change unnoticed."""
    digest = blake2b(digest_size=20)
    try:
        feed(digest, [_told(each) for each in told])
    except Unfreezable:
        return os.urandom(20)
    return digest.digest()


def _told(value: Any) -> Any:
    if isinstance(value, Reading):
        return [[_told(leaf.block.part), leaf.block.region] for leaf in value.leaves]
    if isinstance(value, Request):
        return [value.text, *value.earlier, *map(_told, value.images)]
    return _part(value) if isinstance(value, (Text, ToolCall, Image, Document, Opaque)) else value


def _part(part: Part) -> list[Any]:
    if isinstance(part, Text):
        return ["text", part.text]
    if isinstance(part, ToolCall):
        return ["call", part.name, part.arguments, part.id]
    if isinstance(part, Opaque):
        return ["opaque", part.kind, part.cause]
    source: Any = getattr(part, "source", None)
    return [part.kind, source.tobytes() if hasattr(source, "tobytes") else source]
