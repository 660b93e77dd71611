"""`nemoguardrails server` started for real, with the examples, and `RunnableRails`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.nemo.lab import BAD, BLUE, QUIET, RED, REFUSAL, Lab, leaks, user
from turnguard.testing import FakeVLLM

pytest.importorskip("fastapi", reason="the nemo-server extra is not installed")
pytestmark = QUIET

EXAMPLES = Path(__file__).parents[2] / "config_examples" / "nemo"


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def moderator() -> Iterator[FakeVLLM]:
    """Unsafe by word or by picture."""
    import base64

    with FakeVLLM() as fake:
        fake.when(BAD, user="unsafe", response="unsafe", categories=["Violence"])
        red = base64.b64decode(RED.split(",")[1])
        fake.when(lambda chat: any(_red(image) for image in chat.images), user="unsafe", categories=["Violence"])
        assert red
        yield fake


def _red(image: bytes) -> bool:
    import io

    from PIL import Image

    pixel = Image.open(io.BytesIO(image)).convert("RGB").getpixel((32, 34))
    assert isinstance(pixel, tuple)
    return bool(pixel[0] > 150 > pixel[2])


class Served:
    """The server's address, and what the main model behind it was sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prompts: list[Any] = []
        self.reply = "all fine"

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON."""
        async with aiohttp.ClientSession() as session, session.post(self.url + path, json=body) as response:
            return response.status, await response.json()

    async def chat(self, *messages: Any, config: str = "minimal", **more: Any) -> tuple[int, Any]:
        """`/v1/chat/completions`."""
        guardrails = {"config_id": config, **more.pop("guardrails", {})}
        body = {"model": "main", "messages": list(messages), "guardrails": guardrails, **more}
        return await self.post("/v1/chat/completions", body)


@pytest.fixture
async def served(moderator: FakeVLLM) -> AsyncIterator[Served]:
    """The real server on loopback, its main model a stub."""
    port = free_port()
    server = Served(f"http://127.0.0.1:{port}")

    async def main(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        server.prompts.append(body["messages"])
        if not body.get("stream"):
            message = {"role": "assistant", "content": server.reply}
            return web.json_response(
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "main",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for word in server.reply.split(" "):
            choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
            event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "main", "choices": [choice]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application(client_max_size=10**8)
    app.router.add_post("/v1/chat/completions", main)
    runner = web.AppRunner(app)
    await runner.setup()
    main_port = free_port()
    await web.TCPSite(runner, "127.0.0.1", main_port).start()
    source = Path(__file__).parents[2] / "src"
    environment = {
        **os.environ,
        "COLANGPATH": str(source),
        "NEMO_GUARDRAILS_NO_USAGE_STATS": "1",
        "TURNGUARD_BASE_URL": moderator.base_url,
        "MAIN_MODEL_BASE_URL": f"http://127.0.0.1:{main_port}/v1",
        "MAIN_MODEL_ENGINE": "openai",
        "OPENAI_API_KEY": "none",
    }
    command = [
        str(Path(sys.executable).with_name("nemoguardrails")),
        "server",
        "--config",
        str(EXAMPLES),
        "--port",
        str(port),
        "--disable-chat-ui",
    ]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _answers(port, process)
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await runner.cleanup()


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.returncode is None, "the server ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.2)
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise AssertionError("the server does not answer")


async def test_the_server(served: Served) -> None:
    """One start for all of it: it takes seconds."""
    status, answer = await served.chat(user("hi"))
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "all fine")
    for message in (user(BAD), user("look", RED), {"role": "system", "content": BAD}):
        prompts = len(served.prompts)
        status, answer = await served.chat(*([message] if message["role"] == "user" else [message, user("hi")]))
        assert "can't" in answer["choices"][0]["message"]["content"], message["role"]
        assert len(served.prompts) == prompts
    status, answer = await served.chat(user("look", BLUE))
    assert answer["choices"][0]["message"]["content"] == "all fine"
    # a history with tools, which the server hands on as messages
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    past = [user("go"), {"role": "assistant", "content": None, "tool_calls": [call]}]
    status, answer = await served.chat(*past, {"role": "tool", "tool_call_id": "c", "content": BAD})
    assert "can't" in answer["choices"][0]["message"]["content"]
    status, answer = await served.chat(*past, {"role": "tool", "tool_call_id": "c", "content": "ok"}, user(BAD))
    assert "can't" in answer["choices"][0]["message"]["content"]
    # clients cannot switch rails off
    prompts = len(served.prompts)
    switches: tuple[dict[str, Any], ...] = (
        {"options": {"rails": {"input": False}}},
        {"options": {"rails": {"output": False}}},
        {"context": {"skip_output_rails": True}},
    )
    for guardrails in switches:
        status, _ = await served.chat(user(BAD), guardrails=guardrails)
        assert status >= 400
    assert len(served.prompts) == prompts
    # an unsafe answer, with everything that a client may ask to see
    served.reply = f"here is a {BAD}"
    log = {"activated_rails": True, "llm_calls": True, "internal_events": True, "colang_history": True}
    status, answer = await served.chat(user("hi"), guardrails={"options": {"log": log, "llm_output": True}})
    assert status == 200
    assert not leaks(answer)
    # the check endpoint
    for message, expected in ((user("hi"), "passed"), (user(BAD), "blocked"), (user("x", BLUE), "passed")):
        asked = {"model": "main", "messages": [message], "guardrails": {"config_id": "minimal"}}
        status, answer = await served.post("/v1/checks", asked)
        assert (status, answer["status"]) == (200, expected)
    # streaming
    body: dict[str, Any] = {
        "model": "main",
        "messages": [user("hi")],
        "stream": True,
        "guardrails": {"config_id": "streaming"},
    }
    async with aiohttp.ClientSession() as session, session.post(served.url + "/v1/chat/completions", json=body) as got:
        text = await got.text()
    assert "can't help" in text
    assert not leaks(text)
    assert not leaks(served.prompts)


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute:DeprecationWarning")  # NeMo's own
async def test_runnable_rails() -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from nemoguardrails.integrations.langchain.runnable_rails import RunnableRails

    lab = Lab()
    runnable = RunnableRails(lab.rails.config, llm=None)
    runnable.rails = lab.rails
    assert (await runnable.ainvoke([HumanMessage("hi")])).content == "fine"
    assert (await runnable.ainvoke([HumanMessage(BAD)])).content == REFUSAL
    image = {"type": "image_url", "image_url": {"url": RED}}
    assert (await runnable.ainvoke([HumanMessage([{"type": "text", "text": "look"}, image])])).content == REFUSAL
    call = {"name": "shot", "args": {}, "id": "c1", "type": "tool_call"}
    past = [HumanMessage("go"), AIMessage("", tool_calls=[call])]
    assert (await runnable.ainvoke([*past, ToolMessage([image], tool_call_id="c1")])).content == REFUSAL
    assert (await runnable.ainvoke([*past, ToolMessage("ok", tool_call_id="c1"), HumanMessage(BAD)])).content == REFUSAL
    assert not leaks(lab.main.seen)
