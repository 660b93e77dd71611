"""One whole conversation in each dialect, with a marker at each place that can hold words."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as Pillow


def png(colour: str = "red") -> str:
    buffer = io.BytesIO()
    Pillow.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


B64 = png()
SIGNATURE = base64.b64encode(bytes(range(7, 250, 3))).decode()


@dataclass(frozen=True)
class Dialect:
    """`conversation(m)` is a list of messages in which `m(NAME)` stands at each place. `valid` raises for a list of
    messages that the provider's own package does not accept.
    """

    conversation: Callable[[Callable[[str], str]], list[dict[str, Any]]]
    valid: Callable[[Sequence[Any]], None]
    stages: Mapping[str, str]


def _typed(kind: Callable[[], Any]) -> Callable[[Sequence[Any]], None]:
    def valid(messages: Sequence[Any]) -> None:
        from pydantic import TypeAdapter

        adapter = TypeAdapter(kind())
        for message in messages:
            adapter.validate_python(message)

    return valid


def _chat_param() -> Any:
    from openai.types.chat import ChatCompletionMessageParam

    return ChatCompletionMessageParam


def openai_chat(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "name": m("user name"), "content": [
            {"type": "text", "text": m("user text")},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}", "detail": "auto"}},
        ]},
        {"role": "assistant", "content": m("assistant text"), "refusal": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {
                "name": m("tool name").replace(" ", "_"), "arguments": '{"q": "' + m("tool argument") + '"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "other", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": m("tool result")},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": m("second result")}]},
        {"role": "assistant", "content": [{"type": "text", "text": m("answer")}]},
        {"role": "user", "content": m("next question")},
    ]  # fmt: skip


def _chat_valid(messages: Sequence[Any]) -> None:
    _typed(_chat_param)(messages)
    pending: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in pending, "a result without its call"
            pending.discard(message["tool_call_id"])
        else:
            assert not pending, f"calls without a result: {pending}"
        if message["role"] == "assistant":
            assert message.get("content") or message.get("tool_calls"), "an empty message"
            pending = {call["id"] for call in message.get("tool_calls", ())}
        elif message["role"] == "user":
            assert message["content"], "an empty message"
    assert not pending


def _responses_param() -> Any:
    from openai.types.responses import ResponseInputItemParam

    return ResponseInputItemParam


def openai_responses(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [
            {"type": "input_text", "text": m("user text")},
            {"type": "input_image", "image_url": f"data:image/png;base64,{B64}", "detail": "auto"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": m("reasoning summary")}],
         "encrypted_content": SIGNATURE},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": m("tool name").replace(" ", "_"),
         "arguments": '{"q": "' + m("tool argument") + '"}', "status": "completed"},
        {"type": "function_call_output", "call_id": "call_1", "output": m("tool result")},
        {"type": "web_search_call", "id": "ws_1", "status": "completed",
         "action": {"type": "search", "query": m("search query")}},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": m("answer"), "annotations": [
                {"type": "url_citation", "url": "https://x.example/a", "title": m("citation title"),
                 "start_index": 0, "end_index": 1}]}]},
        {"type": "mcp_call", "id": "mcp_1", "name": "look", "server_label": "s1", "arguments": '{"q": "a"}',
         "output": m("mcp output")},
        {"role": "user", "content": m("next question")},
    ]  # fmt: skip


def _responses_valid(messages: Sequence[Any]) -> None:
    _typed(_responses_param)(messages)
    called = {item["call_id"] for item in messages if item.get("type") == "function_call"}
    answered = {item["call_id"] for item in messages if item.get("type") == "function_call_output"}
    assert called == answered, "a call without its result"
    for at, item in enumerate(messages):
        if item.get("type") == "reasoning":
            following = messages[at + 1] if at + 1 < len(messages) else {}
            assert following.get("type") in ("function_call", "web_search_call", "message"), "reasoning stands alone"


def _anthropic_param() -> Any:
    from anthropic.types.beta import BetaMessageParam

    return BetaMessageParam


def anthropic(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [
            {"type": "text", "text": m("user text")},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
            {"type": "document", "title": m("document title"), "context": m("document context"),
             "source": {"type": "text", "media_type": "text/plain", "data": m("document text")}},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": m("thinking"), "signature": SIGNATURE},
            {"type": "redacted_thinking", "data": SIGNATURE},
            {"type": "text", "text": m("assistant text")},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": m("search query")}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
                {"type": "web_search_result", "title": m("search title"), "url": "https://x.example/a",
                 "encrypted_content": SIGNATURE}]},
            {"type": "tool_use", "id": "toolu_1", "name": m("tool name").replace(" ", "_"),
             "input": {"q": m("tool argument")}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                {"type": "text", "text": m("tool result")},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}}]},
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": m("answer")}]},
        {"role": "user", "content": m("next question")},
    ]  # fmt: skip


def _anthropic_valid(messages: Sequence[Any]) -> None:
    _typed(_anthropic_param)(messages)
    pending: set[str] = set()
    for message in messages:
        content = message["content"]
        assert content, "an empty message"
        blocks = [] if isinstance(content, str) else content
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        assert results == pending, f"{results} answer {pending}"
        pending = {block["id"] for block in blocks if block["type"] == "tool_use"}
        ran = {block["id"] for block in blocks if block["type"] == "server_tool_use"}
        assert ran == {block["tool_use_id"] for block in blocks if block["type"] == "web_search_tool_result"}
        for block in blocks:
            assert block.get("signature", SIGNATURE) == SIGNATURE
    assert not pending


def gemini(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "parts": [
            {"text": m("user text")}, {"inlineData": {"mimeType": "image/png", "data": B64}}]},
        {"role": "model", "parts": [
            {"text": m("thought"), "thought": True},
            {"text": m("assistant text")},
            {"functionCall": {"name": m("tool name").replace(" ", "_"), "args": {"q": m("tool argument")}},
             "thoughtSignature": SIGNATURE},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": m("tool name").replace(" ", "_"), "response": {"result": m("tool result")}}}]},
        {"role": "model", "parts": [
            {"executableCode": {"language": "PYTHON", "code": m("code")}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": m("code output")}},
            {"text": m("answer")}]},
        {"role": "user", "parts": [{"text": m("next question")}]},
    ]  # fmt: skip


def _gemini_valid(messages: Sequence[Any]) -> None:
    from google.genai.types import Content

    for message in messages:
        assert message["parts"], "an empty message"
        Content.model_validate(message)
    for at, message in enumerate(messages):
        calls = [part for part in message["parts"] if "functionCall" in part]
        after = messages[at + 1]["parts"] if at + 1 < len(messages) else []
        assert len(calls) == len([part for part in after if "functionResponse" in part])
        code = [part for part in message["parts"] if "executableCode" in part]
        assert len(code) == len([part for part in message["parts"] if "codeExecutionResult" in part])


def bedrock(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [
            {"text": m("user text")},
            {"image": {"format": "png", "source": {"bytes": base64.b64decode(B64)}}},
            {"document": {"format": "txt", "name": m("document name"), "source": {"bytes": m("document text").encode()}}},
        ]},
        {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": m("reasoning"), "signature": SIGNATURE}}},
            {"text": m("assistant text")},
            {"toolUse": {"toolUseId": "tooluse_1", "name": m("tool name").replace(" ", "_"),
                         "input": {"q": m("tool argument")}}},
        ]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "tooluse_1", "status": "success", "content": [
            {"json": {"a": m("json result")}}, {"text": m("tool result")},
            {"image": {"format": "png", "source": {"bytes": base64.b64decode(B64)}}}]}}]},
        {"role": "assistant", "content": [{"text": m("answer")}]},
        {"role": "user", "content": [{"text": m("next question")}]},
    ]  # fmt: skip


def _bedrock_valid(messages: Sequence[Any]) -> None:
    pending: set[str] = set()
    for message in messages:
        assert message["content"], "an empty message"
        for block in message["content"]:
            assert len(block) == 1, f"a union has one member: {sorted(block)}"
        results = {b["toolResult"]["toolUseId"] for b in message["content"] if "toolResult" in b}
        assert results == pending
        pending = {b["toolUse"]["toolUseId"] for b in message["content"] if "toolUse" in b}
    assert not pending


def vercel(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"id": "1", "role": "user", "parts": [
            {"type": "text", "text": m("user text")},
            {"type": "file", "mediaType": "image/png", "url": f"data:image/png;base64,{B64}", "filename": m("file name")},
        ]},
        {"id": "2", "role": "assistant", "parts": [
            {"type": "step-start"},
            {"type": "reasoning", "text": m("reasoning"), "state": "done"},
            {"type": "tool-weather", "toolCallId": "call_1", "state": "output-available",
             "input": {"q": m("tool argument")}, "output": {"answer": m("tool result")}},
            {"type": "source-url", "sourceId": "1", "url": "https://x.example/a", "title": m("source title")},
            {"type": "text", "text": m("answer"), "state": "done"},
        ]},
        {"id": "3", "role": "user", "parts": [{"type": "text", "text": m("next question")}]},
    ]  # fmt: skip


def a2a(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"kind": "message", "messageId": "m1", "role": "user", "parts": [
            {"kind": "text", "text": m("user text")},
            {"kind": "file", "file": {"bytes": B64, "mimeType": "image/png", "name": m("file name")}},
            {"kind": "data", "data": {"a": m("data")}},
        ]},
        {"kind": "message", "messageId": "m2", "role": "agent", "parts": [{"kind": "text", "text": m("answer")}]},
    ]  # fmt: skip


def haystack(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "name": None, "meta": {}, "content": [
            {"text": m("user text")}, {"image": {"base64_image": B64, "mime_type": "image/png"}}]},
        {"role": "assistant", "meta": {}, "content": [
            {"reasoning": {"reasoning_text": m("reasoning")}},
            {"tool_call": {"id": "call_1", "tool_name": "search", "arguments": {"q": m("tool argument")}}}]},
        {"role": "tool", "meta": {}, "content": [
            {"tool_call_result": {"result": m("tool result"), "error": False,
                                  "origin": {"id": "call_1", "tool_name": "search", "arguments": {}}}}]},
        {"role": "assistant", "meta": {}, "content": [{"text": m("answer")}]},
    ]  # fmt: skip


def cohere(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [{"type": "text", "text": m("user text")}]},
        {"role": "assistant", "tool_plan": m("tool plan"), "tool_calls": [
            {"id": "call_1", "type": "function", "function": {
                "name": "search", "arguments": '{"q": "' + m("tool argument") + '"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": [
            {"type": "document", "document": {"id": "1", "data": m("document data")}}]},
        {"role": "assistant", "content": [{"type": "text", "text": m("answer")}]},
    ]  # fmt: skip


def mistral(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [
            {"type": "text", "text": m("user text")},
            {"type": "image_url", "image_url": f"data:image/png;base64,{B64}"},
            {"type": "document_url", "document_url": "data:text/plain;base64,"
             + base64.b64encode(m("document text").encode()).decode(), "document_name": m("document name")},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": m("thinking")}]},
            {"type": "text", "text": m("answer")}]},
    ]  # fmt: skip


def mcp(m: Callable[[str], str]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "look"},
        {"isError": False, "structuredContent": {"a": m("structured")}, "content": [
            {"type": "text", "text": m("tool result")},
            {"type": "image", "data": B64, "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///a.txt", "mimeType": "text/plain", "text": m("resource")}},
            {"type": "resource_link", "uri": "https://x.example/a", "name": m("link name")},
        ]},
    ]  # fmt: skip


def langchain(m: Callable[[str], str]) -> list[dict[str, Any]]:
    """LangChain's v1 blocks, as `content_blocks` gives them."""
    return [
        {"role": "user", "content": [
            {"type": "text", "text": m("user text")},
            {"type": "image", "base64": B64, "mime_type": "image/png", "id": "lc_1"},
            {"type": "text-plain", "text": m("plain text"), "mime_type": "text/plain"},
        ]},
        {"role": "assistant", "content": [
            {"type": "reasoning", "reasoning": m("reasoning"), "extras": {"signature": SIGNATURE}},
            {"type": "text", "text": m("assistant text"), "annotations": [
                {"type": "citation", "title": m("citation"), "url": "https://x.example/a"}]},
            {"type": "server_tool_call", "id": "ws_1", "name": "web_search", "args": {"q": m("search query")}},
            {"type": "server_tool_result", "tool_call_id": "ws_1", "status": "success",
             "output": [{"title": m("search title")}]},
            {"type": "tool_call", "id": "call_1", "name": "look", "args": {"q": m("tool argument")}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": m("tool result"), "artifact": {"a": m("artifact")}},
        {"role": "assistant", "content": m("answer")},
    ]  # fmt: skip


def _any(messages: Sequence[Any]) -> None:
    """No package of the provider's is at hand: no block and no message is empty, and calls have their results."""
    for message in messages:
        for key in ("content", "parts"):
            if key in message and not message.get("tool_calls"):
                assert message[key], f"an empty {key}"


DIALECTS: dict[str, Dialect] = {
    "openai chat": Dialect(openai_chat, _chat_valid, {}),
    "openai responses": Dialect(openai_responses, _responses_valid, {}),
    "anthropic": Dialect(anthropic, _anthropic_valid, {}),
    "gemini": Dialect(gemini, _gemini_valid, {}),
    "bedrock": Dialect(bedrock, _bedrock_valid, {}),
    "vercel": Dialect(vercel, _any, {}),
    "a2a": Dialect(a2a, _any, {}),
    "haystack": Dialect(haystack, _any, {}),
    "cohere": Dialect(cohere, _any, {}),
    "mistral": Dialect(mistral, _any, {}),
    "mcp": Dialect(mcp, _any, {}),
    "langchain": Dialect(langchain, _any, {}),
}


def places(name: str) -> list[str]:
    """The names of the places of a dialect's conversation."""
    found: list[str] = []

    def note(place: str) -> str:
        if place not in found:
            found.append(place)
        return place

    DIALECTS[name].conversation(note)
    return found
