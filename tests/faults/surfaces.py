"""Every surface: one run of a step whose content is marked, and whether anything of it got through.

A surface is a function of a guard, a stage and a text. It gives back what passed: the text where the agent, its model, its
tool or the person could see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from turnguard import Guard, Step

PYTHON = ("input", "retrieval", "tool_call", "tool_result", "output")
AGENT = ("input", "tool_call", "tool_result", "output")


@dataclass(frozen=True)
class Surface:
    """`run` gives what passed and how many seconds the guard may take beyond one deadline: none where it checks once."""

    name: str
    stages: tuple[str, ...]
    run: Callable[[Guard, str, str], Awaitable[str]]
    checks: int = 1


def step(stage: str, text: str) -> Step:
    """A step of this stage that holds the text."""
    if stage == "input":
        return Step.input(text)
    if stage == "retrieval":
        return Step.retrieval([text])
    if stage == "tool_call":
        return Step.tool_call("search", {"q": text}, prompt="Find it.")
    if stage == "tool_result":
        return Step.tool_result("search", text)
    return Step.output(text, prompt="And?")


async def python(guard: Guard, stage: str, text: str) -> str:
    """`acheck`."""
    decision = await guard.acheck(step(stage, text))
    assert decision.failed is (decision.action == "block")
    return repr(decision.to_dict(content=True)["content"])


async def python_sync(guard: Guard, stage: str, text: str) -> str:
    """`check`, from a thread."""
    decision = await asyncio.to_thread(guard.check, step(stage, text))
    return repr(decision.to_dict(content=True)["content"])


async def python_stream(guard: Guard, stage: str, text: str) -> str:
    """`astream`."""
    return "".join([chunk async for chunk in guard.astream(_words(text), prompt="And?")])


async def python_messages(guard: Guard, stage: str, text: str) -> str:
    """`acheck_messages`."""
    message: dict[str, Any] = {"role": "user", "content": text}
    if stage == "output":
        message["role"] = "assistant"
    elif stage == "tool_result":
        message = {"role": "tool", "tool_call_id": "1", "content": text}
    elif stage == "tool_call":
        function = {"name": "search", "arguments": f'{{"q": "{text}"}}'}
        message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}
    (decision,) = await guard.acheck_messages([message])
    return repr(decision.to_dict(content=True)["content"])


async def _words(text: str) -> AsyncIterator[str]:
    for word in text.split(" "):
        yield word + " "


# ---------------------------------------------------------------- LangChain


def _agent(guard: Guard, stage: str, text: str, passed: list[str]) -> tuple[Any, Any]:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    from tests.langchain.kit import Scripted, calls
    from turnguard.langchain import TurnguardMiddleware

    @tool
    def search(q: str) -> str:
        """Search."""
        passed.append(f"tool:{q}" if stage == "tool_call" else "")
        return text if stage == "tool_result" else "fine"

    called = calls("search", text if stage == "tool_call" else "cats")
    called.tool_calls[0]["name"] = "search"
    script: list[Any] = [text] if stage == "output" else ["Fine."] if stage == "input" else [called, "Done."]
    model = Scripted(script=script)
    return create_agent(model, [search], middleware=[TurnguardMiddleware(guard)]), model


def _left(stage: str, model: Any, result: Any, passed: list[str]) -> str:
    """What could be seen: by the model, by the tool, and by whoever reads the result."""
    seen = repr(model.prompts) if stage in ("input", "tool_result") else ""
    answer = repr(result) if stage in ("tool_result", "output") else ""
    return seen + answer + "".join(passed)


async def langchain(guard: Guard, stage: str, text: str) -> str:
    """The middleware, `ainvoke`."""
    passed: list[str] = []
    agent, model = _agent(guard, stage, text, passed)
    said = {"messages": [("user", text if stage == "input" else "Hello")]}
    result = await agent.ainvoke(said)
    return _left(stage, model, result, passed)


async def langchain_stream(guard: Guard, stage: str, text: str) -> str:
    """The middleware, `astream(stream_mode="messages")`."""
    passed: list[str] = []
    agent, model = _agent(guard, stage, text, passed)
    said = {"messages": [("user", text if stage == "input" else "Hello")]}
    shown = [chunk async for chunk in agent.astream(said, stream_mode="messages")]
    # LangGraph streams the person's own message back to the person: that is no release
    shown = [chunk for chunk in shown if getattr(chunk[0], "type", "") != "human"]
    return _left(stage, model, shown, passed)


# ---------------------------------------------------------------- NeMo Guardrails


def _app(guard: Guard, stage: str, text: str) -> tuple[Any, Any, list[dict[str, Any]]]:
    import json

    from nemoguardrails import RailsConfig

    from tests.nemo.lab import Main, call, called, result, user
    from turnguard.nemo import checked_rails

    reply: Any = text if stage == "output" else call("search", {"q": text}) if stage == "tool_call" else "Fine."
    main = Main(reply)
    unused = {"turnguard": {"moderator": {"base_url": "http://127.0.0.1:9/v1"}}}
    rails = {"output": {"streaming": {"enabled": True}}}
    yaml = {"models": [], "custom_data": unused, "passthrough": True, "rails": rails}
    app = checked_rails(RailsConfig.from_content(yaml_content=json.dumps(yaml)), guard, llm=main)
    messages = [user(text if stage == "input" else "Hello")]
    if stage == "tool_result":
        messages += [called(name="search"), result(text)]
    return app, main, messages


async def nemo(guard: Guard, stage: str, text: str) -> str:
    """`LLMRails.generate_async` with the drop-in rails."""
    app, main, messages = _app(guard, stage, text)
    answer = await app.generate_async(messages=messages)
    return (main.seen if stage in ("input", "tool_result") else "") + repr(answer)


async def nemo_stream(guard: Guard, stage: str, text: str) -> str:
    """`LLMRails.stream_async` with the drop-in rails."""
    app, main, messages = _app(guard, stage, text)
    shown = [chunk async for chunk in app.stream_async(messages=messages)]
    return (main.seen if stage in ("input", "tool_result") else "") + repr(shown)


SURFACES = [
    Surface("Python, `acheck`", PYTHON, python),
    Surface("Python, `check`", PYTHON, python_sync),
    Surface("Python, `acheck_messages`", AGENT, python_messages),
    Surface("Python, `astream`", ("output",), python_stream),
]
if find_spec("langchain") is not None:
    SURFACES += [
        Surface("LangChain middleware", AGENT, langchain, checks=2),
        Surface("LangChain middleware, streaming", AGENT, langchain_stream, checks=2),
    ]
if find_spec("nemoguardrails") is not None:
    SURFACES += [
        Surface("NeMo Guardrails", AGENT, nemo, checks=2),
        Surface("NeMo Guardrails, streaming", ("input", "output"), nemo_stream, checks=2),
    ]
