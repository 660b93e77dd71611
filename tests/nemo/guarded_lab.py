"""Guarded engines with a scripted moderator, and a main model over HTTP that keeps every request it was sent."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nemoguardrails import Guardrails, LLMRails, RailsConfig
from nemoguardrails.types import LLMResponse

from tests.nemo.lab import POLICY, UNSAFE, Main, Message, sees
from turnguard import Guard, Policy
from turnguard.config.settings import ChecksSettings, StreamSettings
from turnguard.nemo import guarded
from turnguard.testing import FakeModerator

ENGINES = ("IORails", "Guardrails, fallback", "LLMRails")


class MainServer:
    """An OpenAI-style server on loopback. `replies` are assistant messages, used in turn; the last one is repeated."""

    def __init__(self) -> None:
        self.replies: list[Message] = [{"role": "assistant", "content": "fine"}]
        self.requests: list[Any] = []
        self.status = 200
        self.delay = 0.0
        self.pause = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        self.requests.append(body)
        time.sleep(self.delay)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        head = {"id": "chatcmpl-1", "created": 1, "model": "main"}
        try:
            if self.status != 200 or not body.get("stream"):
                choice = {"index": 0, "message": reply, "finish_reason": "stop"}
                made = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
                self._send(handler, "application/json", json.dumps(made).encode())
                return
            handler.send_response(200)
            handler.send_header("content-type", "text/event-stream")
            handler.end_headers()
            words = re.findall(r"\S+\s*|\s+", reply.get("content") or "")
            deltas: list[Any] = [{"content": word} for word in words]
            if reply.get("tool_calls"):
                deltas.append({"tool_calls": [{"index": 0, **reply["tool_calls"][0]}]})
            for delta in deltas:
                choice = {"index": 0, "delta": delta, "finish_reason": None}
                chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
                handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                handler.wfile.flush()
                time.sleep(self.pause)
            choice = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if reply.get("tool_calls") else "stop"}
            chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")
        except OSError:
            pass  # the client went away

    def _send(self, handler: BaseHTTPRequestHandler, kind: str, data: bytes) -> None:
        handler.send_response(self.status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@contextmanager
def main_server() -> Iterator[MainServer]:
    """A main model for as long as this lasts."""
    server = MainServer()
    try:
        yield server
    finally:
        server.close()


class GuardedLab:
    """`engine` is the guarded engine under test, `moderator` what Turnguard asks."""

    def __init__(
        self,
        kind: str,
        server: MainServer,
        *replies: str | Message,
        policy: Mapping[str, Any] = POLICY,
        policies: Mapping[str, Mapping[str, Any]] | None = None,
        colang: str | None = None,
        rails: Mapping[str, Any] | None = None,
        passthrough: bool = True,
        window: int = 12,
        choose: Any = None,
        checks: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        made = [_reply(reply) for reply in replies or ("fine",)]
        self.kind, self.server = kind, server
        server.replies, server.status, server.delay, server.pause = list(made), 200, 0.0, 0.0
        server.requests.clear()
        self.main = Main(*[_response(reply) for reply in made])
        if kind == "IORails":
            self.main.prompts = server.requests
        self.moderator = FakeModerator(UNSAFE, script=sees)
        self.guard = Guard(
            Policy.from_dict(policy),
            self.moderator,
            policies={name: Policy.from_dict(each) for name, each in (policies or {}).items()},
            stream=StreamSettings(window=window),
            checks=ChecksSettings(**(checks or {})),
        )
        yaml: dict[str, Any] = {"models": [], **settings}
        if kind == "IORails":
            parameters = {"base_url": server.url, "api_key": "none"}
            yaml["models"] = [{"type": "main", "engine": "openai", "model": "main", "parameters": parameters}]
        else:
            yaml["passthrough"] = passthrough
        if rails:
            yaml["rails"] = rails
        config = RailsConfig.from_content(colang_content=colang, yaml_content=json.dumps(yaml))
        if kind == "IORails":
            self.bare: Any = Guardrails(config, require_iorails=True)
        elif kind == "LLMRails":
            self.bare = LLMRails(config, llm=self.main)
        else:
            self.bare = Guardrails(config, llm=self.main)
        self.engine: Any = guarded(self.bare, self.guard, policy=choose)
        self.rails = self.engine

    @property
    def prompts(self) -> list[Any]:
        """What the main model was sent."""
        return self.main.prompts

    @property
    def seen(self) -> str:
        """Everything that was sent to the main model, as one text."""
        return repr(self.prompts)

    async def say(self, *messages: Message, **options: Any) -> Any:
        """One turn through `generate_async`."""
        return await self.engine.generate_async(messages=list(messages), **options)

    async def stream(self, *messages: Message, **options: Any) -> list[Any]:
        """One turn through `stream_async`."""
        return [chunk async for chunk in self.engine.stream_async(messages=list(messages), **options)]

    @property
    def asked(self) -> list[tuple[str, str | None, bool]]:
        """What the moderator was asked: prompt, response, whether with a picture."""
        return [(each.prompt, each.response, each.picture is not None) for each in self.moderator.asked]

    async def aclose(self) -> None:
        """Let go of everything."""
        if self.kind == "IORails":
            await self.bare.shutdown()
        await self.guard.aclose()


def _reply(reply: str | Message) -> Message:
    return {"role": "assistant", "content": reply} if isinstance(reply, str) else reply


def as_message(response: LLMResponse) -> Message:
    """What a main model says, as a message on the wire."""
    message: Message = {"role": "assistant", "content": response.content}
    if response.tool_calls:
        message["tool_calls"] = [
            {
                "id": each.id,
                "type": "function",
                "function": {"name": each.function.name, "arguments": json.dumps(each.function.arguments)},
            }
            for each in response.tool_calls
        ]
    return message


def _response(reply: Message) -> LLMResponse:
    from nemoguardrails.types import ToolCall, ToolCallFunction

    calls = [
        ToolCall(
            id=call["id"],
            type="function",
            function=ToolCallFunction(
                name=call["function"]["name"], arguments=json.loads(call["function"]["arguments"])
            ),
        )
        for call in reply.get("tool_calls") or ()
    ]
    return LLMResponse(
        content=reply.get("content") or "", tool_calls=calls or None, reasoning=reply.get("reasoning_content")
    )
