"""The contracts hold for agents that are guarded at every door, and each open door is found by at least one of them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.testing_kit.agents import DOORS, HandWritten, Streaming
from turnguard import Guard
from turnguard.testing.contracts import Agent, AgentContract, ScriptedModel, ScriptedTool, Turn, langchain
from turnguard.testing.contracts.traces import holds


class TestHandWritten(AgentContract):
    """Without a framework."""

    def make_agent(self, guard: Guard, model: ScriptedModel, tools: Sequence[ScriptedTool]) -> Agent:
        return Streaming(guard, model, tools)


class LangChain:
    """An adapter for an agent of LangChain with the middleware."""

    def __init__(self, guard: Guard, model: ScriptedModel, tools: Sequence[ScriptedTool]) -> None:
        from langchain.agents import create_agent
        from langgraph.checkpoint.memory import InMemorySaver

        from turnguard.langchain import TurnguardMiddleware

        self.agent = create_agent(
            langchain.chat_model(model),
            langchain.tools(tools),
            middleware=[TurnguardMiddleware(guard)],
            checkpointer=InMemorySaver(),
        )
        self.config: Any = {"configurable": {"thread_id": "contract"}}

    async def run(self, text: str, image: bytes | None = None) -> Turn:
        content: Any = text
        if image is not None:
            import base64

            uri = "data:image/png;base64," + base64.b64encode(image).decode()
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": uri}}]
        message: Any = {"messages": [{"role": "user", "content": content}]}
        state = await self.agent.ainvoke(message, self.config, durability="exit")
        return Turn(state["messages"][-1].text, [message.model_dump() for message in state["messages"]])

    async def stream(self, text: str) -> AsyncIterator[str]:
        message: Any = {"messages": [{"role": "user", "content": text}]}
        chunk: Any
        async for chunk, _about in self.agent.astream(message, self.config, stream_mode="messages", durability="exit"):
            yield chunk.text


class TestLangChain(AgentContract):
    """The middleware over `create_agent`."""

    def make_agent(self, guard: Guard, model: ScriptedModel, tools: Sequence[ScriptedTool]) -> Agent:
        return LangChain(guard, model, tools)


def contracts(contract: AgentContract) -> list[str]:
    return [name for name, _ in inspect.getmembers(contract, callable) if name.startswith("test_")]


@pytest.mark.parametrize("door", DOORS)
def test_an_open_door_is_found(door: str) -> None:
    class Careless(AgentContract):
        def make_agent(self, guard: Guard, model: ScriptedModel, tools: Sequence[ScriptedTool]) -> Agent:
            return Streaming(guard, model, tools, open=door)

    contract = Careless()
    found = {}
    for name in contracts(contract):
        try:
            getattr(contract, name)()
        except AssertionError as error:
            found[name] = str(error).partition("\n")[0]
    assert found, f"no contract noticed that {door} is not guarded"


def test_an_agent_without_any_guard_fails_nearly_all() -> None:
    class Unguarded(AgentContract):
        def make_agent(self, guard: Guard, model: ScriptedModel, tools: Sequence[ScriptedTool]) -> Agent:
            async def unasked(door: str, step: Any) -> None:
                return None

            agent = Streaming(guard, model, tools, open="stream")
            agent._refused = unasked  # type: ignore[method-assign]
            return agent

    contract = Unguarded()
    passed = []
    for name in contracts(contract):
        try:
            getattr(contract, name)()
        except AssertionError:
            continue
        passed.append(name)
    assert sorted(passed) == [
        "test_a_harmless_stream_arrives_whole",
        "test_a_harmless_tool_loop_goes_through",
        "test_everything_works_again_afterwards",
    ]


def test_an_agent_that_does_not_stream_or_see_is_skipped_there() -> None:
    class Plain(AgentContract):
        takes_images = False

        def make_agent(self, guard: Guard, model: ScriptedModel, tools: Sequence[ScriptedTool]) -> Agent:
            return HandWritten(guard, model, tools)

    with pytest.raises(pytest.skip.Exception, match="no stream"):
        Plain().test_a_harmless_stream_arrives_whole()
    with pytest.raises(pytest.skip.Exception, match="takes_images"):
        Plain().test_an_unsafe_picture_never_reaches_the_model()
    Plain().test_an_unsafe_picture_from_a_tool_never_reaches_the_model()


def test_forgetting_make_agent_says_so() -> None:
    with pytest.raises(NotImplementedError, match="override make_agent"):
        AgentContract().test_a_harmless_turn_goes_through()


@pytest.mark.parametrize(
    "value",
    [
        "x needle y",
        b"x needle y",
        {"a": [{"b": ("needle",)}]},
        {"needle": 1},
        HandWritten(None, ScriptedModel(), [], messages=[{"content": "needle"}]),  # type: ignore[arg-type]
        Turn("", ["needle"]),
        "bmVlZGxl and more",
    ],
)
def test_contraband_is_found_anywhere(value: Any) -> None:
    assert holds(value, "needle") or holds(value, b"needle")
    assert not holds(value, "thread")


def test_a_value_that_holds_itself() -> None:
    knot: list[Any] = ["thread"]
    knot.append(knot)
    assert not holds(knot, "needle")
