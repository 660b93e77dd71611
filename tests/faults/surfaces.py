"""Every surface: one run of a step whose content is marked, and whether anything of it got through.

A surface is a function of a guard, a stage and a text. It builds what the run needs and gives back the run, which is what
is timed; and the run gives back what passed: the text where the agent, its model, its tool or the person could see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from turnguard import Guard, Step

STAGES = ("input", "retrieval", "tool_call", "tool_result", "output")
Run = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Surface:
    """`without` says why a stage has no cell. `agent`: a framework's whole turn stands around the check."""

    name: str
    build: Callable[[Guard, str, str], Run]
    without: dict[str, str]
    agent: bool = False

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that it has."""
        return tuple(stage for stage in STAGES if stage not in self.without)


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


def python(guard: Guard, stage: str, text: str) -> Run:
    """`acheck`."""

    async def run() -> str:
        decision = await guard.acheck(step(stage, text))
        return repr(decision.to_dict(content=True)["content"])

    return run


def python_sync(guard: Guard, stage: str, text: str) -> Run:
    """`check`, from a thread."""

    async def run() -> str:
        decision = await asyncio.to_thread(guard.check, step(stage, text))
        return repr(decision.to_dict(content=True)["content"])

    return run


def python_stream(guard: Guard, stage: str, text: str) -> Run:
    """`astream`."""

    async def run() -> str:
        return "".join([chunk async for chunk in guard.astream(_words(text), prompt="And?")])

    return run


def python_messages(guard: Guard, stage: str, text: str) -> Run:
    """`acheck_messages`."""
    message: dict[str, Any] = {"role": "user", "content": text}
    if stage == "output":
        message["role"] = "assistant"
    elif stage == "tool_result":
        message = {"role": "tool", "tool_call_id": "1", "content": text}
    elif stage == "tool_call":
        function = {"name": "search", "arguments": f'{{"q": "{text}"}}'}
        message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}

    async def run() -> str:
        (decision,) = await guard.acheck_messages([message])
        return repr(decision.to_dict(content=True)["content"])

    return run


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


def langchain(guard: Guard, stage: str, text: str) -> Run:
    """The middleware, `ainvoke`."""
    passed: list[str] = []
    agent, model = _agent(guard, stage, text, passed)

    async def run() -> str:
        result = await agent.ainvoke({"messages": [("user", text if stage == "input" else "Hello")]})
        return _left(stage, model, result, passed)

    return run


def langchain_stream(guard: Guard, stage: str, text: str) -> Run:
    """The middleware, `astream(stream_mode="messages")`."""
    passed: list[str] = []
    agent, model = _agent(guard, stage, text, passed)

    async def run() -> str:
        said = {"messages": [("user", text if stage == "input" else "Hello")]}
        shown = [chunk async for chunk in agent.astream(said, stream_mode="messages")]
        # LangGraph streams the person's own message back to the person: that is no release
        shown = [chunk for chunk in shown if getattr(chunk[0], "type", "") != "human"]
        return _left(stage, model, shown, passed)

    return run


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
    yaml: dict[str, Any] = {"models": [], "custom_data": unused, "passthrough": True, "rails": rails}
    if stage == "retrieval":
        prompt = "{{ relevant_chunks }}\n{{ history | user_assistant_sequence }}"
        yaml |= {"passthrough": False, "prompts": [{"task": "general", "models": ["unknown"], "content": prompt}]}
    app = checked_rails(RailsConfig.from_content(yaml_content=json.dumps(yaml)), guard, llm=main)
    messages = [user(text if stage == "input" else "Hello")]
    if stage == "tool_result":
        messages += [called(name="search"), result(text)]
    if stage == "retrieval":
        messages = [{"role": "context", "content": {"relevant_chunks": text}}, *messages]
    return app, main, messages


def _seen(stage: str, main: Any) -> str:
    """What the main model was sent, where that is what the cell is about."""
    return main.seen if stage in ("input", "retrieval", "tool_result") else ""


def nemo(guard: Guard, stage: str, text: str) -> Run:
    """`LLMRails.generate_async` with the drop-in rails."""
    app, main, messages = _app(guard, stage, text)

    async def run() -> str:
        answer = await app.generate_async(messages=messages)
        return _seen(stage, main) + repr(answer)

    return run


def nemo_stream(guard: Guard, stage: str, text: str) -> Run:
    """`LLMRails.stream_async` with the drop-in rails."""
    app, main, messages = _app(guard, stage, text)

    async def run() -> str:
        shown = [chunk async for chunk in app.stream_async(messages=messages)]
        return _seen(stage, main) + repr(shown)

    return run


NO_RETRIEVAL = {"retrieval": "transcripts have no such messages: what was retrieved stands in a tool's result"}
A_TOOL = {"retrieval": "LangChain's agents retrieve by tools, whose results are judged"}
OUTPUT_ONLY = dict.fromkeys(STAGES[:4], "only answers are streamed")
NO_CALLS = {"tool_call": "NeMo's streams carry no tool calls"}
SURFACES = [
    Surface("Python, `acheck`", python, {}),
    Surface("Python, `check`", python_sync, {}),
    Surface("Python, `acheck_messages`", python_messages, NO_RETRIEVAL),
    Surface("Python, `astream`", python_stream, OUTPUT_ONLY),
]
if find_spec("langchain") is not None:
    SURFACES += [
        Surface("LangChain middleware", langchain, A_TOOL, agent=True),
        Surface("LangChain middleware, streaming", langchain_stream, A_TOOL, agent=True),
    ]
if find_spec("nemoguardrails") is not None:
    SURFACES += [
        Surface("NeMo Guardrails", nemo, {}, agent=True),
        Surface("NeMo Guardrails, streaming", nemo_stream, NO_CALLS, agent=True),
    ]
CELLS = [(surface, stage) for surface in SURFACES for stage in surface.stages]
