"""A guarded engine behind OpenAI's chat completions: `pip install 'turnguard[nemo]' fastapi uvicorn`, then

uvicorn --app-dir config_examples/nemo/guarded serve:app --port 9000
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from nemoguardrails import Guardrails, RailsConfig

from turnguard.nemo import guarded

HERE = Path(__file__).parent
PASSED_ON = ("temperature", "max_tokens", "top_p", "stop", "tools", "tool_choice", "parallel_tool_calls")
engine = guarded(Guardrails(RailsConfig.from_path(str(HERE))), HERE / "turnguard.yaml")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """The engine runs as long as the server does."""
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions", response_model=None)
async def chat(body: dict[str, Any]) -> Any:
    """One turn. What the client says of rails is not passed on, and would switch none of Turnguard's off."""
    options = {"llm_params": {name: body[name] for name in PASSED_ON if name in body}}
    messages = body["messages"]
    if body.get("stream"):
        return StreamingResponse(_events(messages, options), media_type="text/event-stream")
    answer = await engine.generate_async(messages=messages, options=options)
    message = dict(answer.response[-1])
    if answer.tool_calls:
        message["tool_calls"] = [_on_the_wire(call) for call in answer.tool_calls]
    return _completion("chat.completion", "message", message, "tool_calls" if answer.tool_calls else "stop")


async def _events(messages: list[Any], options: dict[str, Any]) -> AsyncIterator[str]:
    """The judged chunks. The last one may hold tool calls, as JSON; a refusal is a chunk like any other."""
    async for chunk in engine.stream_async(messages=messages, options=options):
        delta = json.loads(chunk) if chunk.startswith('{"tool_calls"') else {"content": chunk}
        yield f"data: {json.dumps(_completion('chat.completion.chunk', 'delta', delta, None))}\n\n"
    yield "data: [DONE]\n\n"


def _completion(kind: str, part: str, said: dict[str, Any], reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, part: said, "finish_reason": reason}
    made = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": "guarded"}
    return {**made, "choices": [choice]}


def _on_the_wire(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {**call, "function": {**call["function"], "arguments": written}}
