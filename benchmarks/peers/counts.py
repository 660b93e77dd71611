"""How often each guard asks its moderator in one agent run of four model calls and three tool calls.

    python -m benchmarks.peers.counts

The run has eight steps that are new to a guard: the user's message, three tool calls, three tool results, the answer.
Printed are the requests, how many of them were alike to the byte, and how many of the eight steps were in any request
at all. Every contestant runs in its own environment (see setup.sh) with a model and tools that say the same.
"""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import rows
from benchmarks.instant import BOTH, JUDGE, MODELS, MODERATION, USER

PEERS = Path(__file__).parents[2] / ".venv-peers"
CONTESTANTS = {
    "turnguard": ("Turnguard, TurnguardMiddleware", sys.executable),
    "langchain": ("LangChain, OpenAIModerationMiddleware", str(PEERS / "langchain/bin/python")),
    "langchain_results": ("the same with check_tool_results=True", str(PEERS / "langchain/bin/python")),
    "nemo": ("NeMo Guardrails, GuardrailsMiddleware, content-safety rails", sys.executable),
    "openai_guardrails": ("openai-guardrails, GuardrailsAsyncOpenAI in a loop", str(PEERS / "guardrails/bin/python")),
}
QUESTION = "markquestion: which of the three shops is open?"
ANSWER = "markanswer: all three are."
STEPS = ["markquestion", *(f"mark{kind}{at}" for at in (1, 2, 3) for kind in ("call", "result")), "markanswer"]


def arguments(at: int) -> dict[str, str]:
    """What the model asks its tool in step `at`."""
    return {"shop": f"markcall{at}"}


def result(shop: str) -> str:
    """What the tool says."""
    return f"It is open: markresult{shop[-1]}."


class Server(ThreadingHTTPServer):
    """Answers as the moderators that the contestants ask; keeps what they asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[bytes] = []
        self.turns = 0

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """What `/v1/models` says."""
        self.wfile.write(MODELS)

    def do_POST(self) -> None:
        """The main model's next turn, or a moderator's verdict."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b'"model":"main"' in body.replace(b'": "', b'":"'):
            self.wfile.write(self._main())
            return
        self.server.asked.append(body)
        if "moderations" in self.path:
            self.wfile.write(MODERATION)
        elif b"confidence" in body:
            self.wfile.write(JUDGE)
        else:
            self.wfile.write(BOTH if b'"assistant"' in body else USER)

    def _main(self) -> bytes:
        self.server.turns += 1
        at = self.server.turns
        message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
        if at <= 3:
            function = {"name": "look_up", "arguments": json.dumps(arguments(at))}
            call = {"id": f"call_{at}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "finish_reason": "tool_calls" if at <= 3 else "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        reply = {"id": "x", "object": "chat.completion", "created": 1, "model": "main", "choices": [choice]}
        data = json.dumps({**reply, "usage": usage}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Server]:
    """The server, in a thread."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def agent(middleware: list[Any]) -> Any:
    """LangChain's agent with a scripted model and one tool."""
    from langchain.agents import create_agent
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.tools import tool

    class Scripted(BaseChatModel):
        """Asks its tool three times, then answers."""

        @property
        def _llm_type(self) -> str:
            return "scripted"

        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            """Itself."""
            return self

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            at = sum(message.type == "tool" for message in messages) + 1
            call = {"name": "look_up", "args": arguments(at), "id": f"call_{at}"}
            message = AIMessage("", tool_calls=[call]) if at <= 3 else AIMessage(ANSWER)
            return ChatResult(generations=[ChatGeneration(message=message)])

    @tool
    def look_up(shop: str) -> str:
        """Look a shop up."""
        return result(shop)

    return create_agent(Scripted(), [look_up], middleware=middleware)


async def turnguard(url: str) -> None:
    """Ours."""
    from turnguard import Guard
    from turnguard.langchain import TurnguardMiddleware

    async with Guard.from_dict({"moderator": {"base_url": url}}) as guard:
        await agent([TurnguardMiddleware(guard)]).ainvoke({"messages": [("user", QUESTION)]})


async def langchain(url: str, **options: Any) -> None:
    """LangChain's own; its client reads the URL from the environment."""
    os.environ.update(OPENAI_BASE_URL=url, OPENAI_API_KEY="x")
    from langchain_openai.middleware import OpenAIModerationMiddleware

    await agent([OpenAIModerationMiddleware(**options)]).ainvoke({"messages": [("user", QUESTION)]})


async def langchain_results(url: str) -> None:
    """LangChain's own, tool results too."""
    await langchain(url, check_tool_results=True)


async def nemo(url: str) -> None:
    """NeMo's own middleware with its own rail. Its `config_yaml` option reads Colang (0.24.1), so a folder it is."""
    from nemoguardrails.integrations.langchain.middleware import GuardrailsMiddleware

    from benchmarks.peers.worker import NEMO

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yml").write_text(NEMO.format(url=url))
        await agent([GuardrailsMiddleware(config_path=folder)]).ainvoke({"messages": [("user", QUESTION)]})


async def openai_guardrails(url: str) -> None:
    """openai-guardrails' client, driven as its users drive the plain one."""
    from guardrails import GuardrailsAsyncOpenAI

    check = {
        "version": 1,
        "guardrails": [{"name": "Jailbreak", "config": {"model": "judge", "confidence_threshold": 0.7}}],
    }
    client = GuardrailsAsyncOpenAI(config={"version": 1, "input": check, "output": check}, base_url=url, api_key="x")
    parameters = {"type": "object", "properties": {"shop": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "look_up", "description": "x", "parameters": parameters}}]
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    while True:
        answer = await client.chat.completions.create(model="main", messages=messages, tools=tools)
        said = answer.choices[0].message
        messages.append(said.model_dump(exclude_none=True))
        if not said.tool_calls:
            return
        for call in said.tool_calls:
            content = result(json.loads(call.function.arguments)["shop"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})


def measure(name: str) -> dict[str, int]:
    """Run one contestant here: requests, how many were alike, and steps that were in any of them."""
    with serving() as server:
        run: Callable[[str], Any] = globals()[name]
        asyncio.run(run(server.url))
        counted = collections.Counter(server.asked)
        seen = b"\n".join(server.asked)
    steps = sum(step.encode() in seen for step in STEPS)
    return {"requests": sum(counted.values()), "alike": sum(counted.values()) - len(counted), "steps": steps}


def main() -> None:
    """Every contestant, in its own environment."""
    print(f"{'':62}{'requests':>9}{'alike':>7}{'of 8 steps seen':>17}")
    found: dict[str, dict[str, int]] = {}
    for name, (told, python) in CONTESTANTS.items():
        if not Path(python).exists():
            print(f"{told}: skipped, run benchmarks/peers/setup.sh", file=sys.stderr)
            continue
        command = [python, str(Path(__file__)), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PEERS.parent)
        if done.returncode:
            print(f"{told}: failed\n{done.stderr[-2000:]}", file=sys.stderr)
            continue
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{told:62}{found[name]['requests']:9}{found[name]['alike']:7}{found[name]['steps']:17}")
    ours = found.pop("turnguard")
    peers = ", ".join(f"{name} {row['requests']} (saw {row['steps']} of 8 steps)" for name, row in found.items())
    rows.add(
        "agent of 4 model and 3 tool steps: moderator calls",
        f"{ours['requests']}, saw {ours['steps']} of 8 steps; peers: {peers}",
        "8",
        met=ours == {"requests": 8, "alike": 0, "steps": 8},
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        warnings.filterwarnings("ignore")
        logging.disable(logging.CRITICAL)
        os.environ.update(NEMO_GUARDRAILS_NO_USAGE_STATS="1", DO_NOT_TRACK="1", LANGSMITH_TRACING="false")
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
