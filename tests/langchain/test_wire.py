"""What goes over the wire to a provider is the same, to the byte, with Turnguard and without."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from tests.langchain.kit import guard
from turnguard.langchain import TurnguardMiddleware, guard_model

pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
pytest.importorskip("langchain_anthropic", reason="langchain-anthropic is not installed")

OPENAI_CALL = {"id": "call-1", "type": "function", "function": {"name": "search", "arguments": '{"q": "cats"}'}}


class Reply(BaseModel):
    """A reply."""

    text: str


@tool
def search(q: str) -> str:
    """Search."""
    return f"pages about {q}"


def openai(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls the tool first, then answers; in JSON where a schema is asked for."""
    asked = any(message["role"] == "tool" for message in body["messages"])
    call = bool(body.get("tools")) and not asked and "response_format" not in body
    text = '{"text": "Fine."}' if "response_format" in body else "Fine."
    message: dict[str, Any] = {"role": "assistant", "content": None if call else text}
    if call:
        message["tool_calls"] = [OPENAI_CALL]
    why = "tool_calls" if call else "stop"
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    base = {"id": "1", "created": 1, "model": "gpt-test"}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": why}
        return [{**base, "object": "chat.completion", "choices": [choice], "usage": usage}]
    if call:
        message["tool_calls"] = [{"index": 0, **OPENAI_CALL}]
    return [
        {**base, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {**base, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": why}]},
    ]


def anthropic(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls the tool first, then answers."""
    asked = "tool_result" in json.dumps(body["messages"])
    tools = [one["name"] for one in body.get("tools", ())]
    block: dict[str, Any] = {"type": "text", "text": "Fine."}
    if tools == ["Reply"]:
        block = {"type": "tool_use", "id": "toolu_1", "name": "Reply", "input": {"text": "Fine."}}
    elif "search" in tools and not asked:
        block = {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {"q": "cats"}}
    why = "tool_use" if block["type"] == "tool_use" else "end_turn"
    usage = {"input_tokens": 3, "output_tokens": 4}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
    if not body.get("stream"):
        return [{**message, "content": [block], "stop_reason": why, "usage": usage}]
    empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
    text = {"type": "text_delta", "text": "Fine."}
    args = {"type": "input_json_delta", "partial_json": json.dumps(block.get("input"))}
    return [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": text if block["type"] == "text" else args},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": why, "stop_sequence": None}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]


@contextmanager
def provider() -> Iterator[tuple[str, list[bytes]]]:
    """A server of both providers' APIs on loopback, and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            bodies.append(raw)
            body = json.loads(raw)
            messages = self.path.endswith("/messages")
            answers = anthropic(body) if messages else openai(body)
            if not body.get("stream"):
                data, kind = json.dumps(answers[0]).encode(), "application/json"
            else:
                kind = "text/event-stream"
                lines = [
                    (f"event: {one['type']}\n" if messages else "") + f"data: {json.dumps(one)}\n\n" for one in answers
                ]
                data = ("".join(lines) + ("" if messages else "data: [DONE]\n\n")).encode()
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()


def chat(kind: str, url: str, **more: Any) -> Any:
    """A real provider's model that speaks to the server."""
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI

    if kind == "openai":
        return ChatOpenAI(model="gpt-test", api_key="k", base_url=f"{url}/v1", max_retries=0, **more)
    return ChatAnthropic(model="claude-test", api_key="k", base_url=url, max_retries=0, **more)


ASK: Any = {"messages": [HumanMessage("What about cats?")]}


def agent_of(model: Any, *, guarded: bool, **more: Any) -> Any:
    """An agent with Anthropic's prompt caching, as deepagents adds it too."""
    from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware

    own = [TurnguardMiddleware(guard())] if guarded else []
    caching = AnthropicPromptCachingMiddleware(unsupported_model_behavior="ignore")
    return create_agent(model, [search], middleware=[*own, caching], system_prompt="Be kind. " * 50, **more)


def invoked(kind: str, url: str, guarded: bool) -> Any:
    return agent_of(chat(kind, url), guarded=guarded).invoke(ASK)


def streamed(kind: str, url: str, guarded: bool) -> Any:
    return list(agent_of(chat(kind, url), guarded=guarded).stream(ASK, stream_mode="messages"))


def formed(kind: str, url: str, guarded: bool) -> Any:
    model = chat(kind, url)
    more = {"method": "json_schema", "strict": True} if kind == "openai" else {}
    chain = (guard_model(model, guard()) if guarded else model).with_structured_output(Reply, **more)
    assert chain.invoke("Say fine.") == Reply(text="Fine.")


def raw(kind: str, url: str, guarded: bool) -> Any:
    model = chat(kind, url, temperature=0.3)
    model = guard_model(model, guard()) if guarded else model
    system = SystemMessage([{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}])
    answer = model.bind_tools([search]).invoke([system, HumanMessage("cats")], stop=["END"])
    assert answer.usage_metadata["total_tokens"] == 7
    list(model.stream("hi"))


def configured(kind: str, url: str, guarded: bool) -> Any:
    more: dict[str, Any] = {"base_url": f"{url}/v1" if kind == "openai" else url, "api_key": "k"}
    model: Any = init_chat_model("first", model_provider=kind, configurable_fields=("model", "temperature"), **more)
    model = guard_model(model, guard()) if guarded else model
    config: Any = {"configurable": {"model": "second", "temperature": 0.7}}
    model.invoke("hi", config)
    model.bind_tools([search]).with_config(configurable={"model": "third"}).invoke("hi")
    own = [TurnguardMiddleware(guard())] if guarded else []
    create_agent(model, [search], middleware=own).invoke(ASK, config)


def deep(kind: str, url: str, guarded: bool) -> Any:
    deepagents = pytest.importorskip("deepagents", reason="deepagents is not installed")
    from turnguard.langchain import guard_deep_agent

    arguments: dict[str, Any] = {"model": chat(kind, url), "tools": [search]}
    agent = guard_deep_agent(guard(), **arguments) if guarded else deepagents.create_deep_agent(**arguments)
    agent.invoke(ASK)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("use", [invoked, streamed, formed, raw, configured, deep])
def test_request_bodies_are_the_same_to_the_byte(use: Callable[[str, str, bool], Any], kind: str) -> None:
    sent = []
    for guarded in (False, True):
        with provider() as (url, bodies):
            use(kind, url, guarded)
        sent.append(bodies)
    without, with_us = sent
    assert without
    assert with_us == without
    if kind == "anthropic" and use in (invoked, streamed, deep):
        assert b"cache_control" in without[0]
