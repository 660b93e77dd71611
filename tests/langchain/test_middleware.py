"""The middleware in an agent: what is blocked is replaced, nothing runs that was not judged, and unrelated messages
stay.
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, moderator, said
from turnguard.langchain import TurnguardMiddleware


class World:
    """An agent with one tool that records what it was asked."""

    def __init__(self, *script: Any, results: dict[str, Any] | None = None, agent: Any = None, **policy: Any) -> None:
        self.ran: list[str] = []
        self.moderator = moderator()
        self.model = Scripted(script=list(script))
        self.results = results or {}
        self.middleware = TurnguardMiddleware(guard(self.moderator, **policy))

        @tool
        def search(q: str) -> Any:
            """Search."""
            self.ran.append(q)
            return self.results.get(q, f"result of {q}")

        self.agent: Any = create_agent(self.model, [search], middleware=[self.middleware], **(agent or {}))

    async def turn(self, way: str, text: Any = "Hello") -> list[Any]:
        """One turn; all messages of the state after it."""
        state = self.agent.invoke(said(text)) if way == "sync" else await self.agent.ainvoke(said(text))
        messages: list[Any] = state["messages"]
        return messages


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> str:
    """From synchronous and from asynchronous code."""
    return str(request.param)


async def test_a_safe_turn_is_untouched(way: str) -> None:
    world = World(calls("cats"), "They are fine.")
    messages = await world.turn(way)
    assert [message.content for message in messages] == ["Hello", "", "result of cats", "They are fine."]
    assert all("turnguard" not in message.response_metadata for message in messages)
    assert world.ran == ["cats"]


async def test_a_blocked_input_is_replaced_and_refused_in_the_persons_language(way: str) -> None:
    world = World("never said")
    messages = await world.turn(way, f"Ich möchte bitte wissen, wie das mit dem {UNSAFE} geht, und zwar sofort.")
    assert world.model.prompts == []
    assert UNSAFE not in repr(messages)
    assert len(messages) == 2
    assert "verletzen" in messages[1].content or "nicht" in messages[1].content


async def test_a_blocked_output_is_replaced_not_followed(way: str) -> None:
    world = World(f"first {UNSAFE} then")
    messages = await world.turn(way)
    assert len(messages) == 2
    assert UNSAFE not in repr(messages)
    assert messages[1].response_metadata["turnguard"]["action"] == "block"


async def test_one_blocked_call_of_several_is_answered_and_the_agent_goes_on(way: str) -> None:
    world = World(calls("cats", f"{UNSAFE} plan"), "Done.")
    messages = await world.turn(way)
    assert world.ran == ["cats"]
    assert UNSAFE not in repr(messages)
    proposed = next(message for message in messages if isinstance(message, AIMessage) and message.tool_calls)
    assert [call["args"] for call in proposed.tool_calls] == [{"q": "cats"}, {}]
    answers = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    assert set(answers) == {"call-0", "call-1"}
    assert "Violence" in answers["call-1"].content
    assert answers["call-1"].status == "error"
    assert messages[-1].content == "Done."


async def test_a_blocked_result_is_a_notice_and_the_agent_goes_on(way: str) -> None:
    world = World(calls("bad", "cats"), "Done.", results={"bad": f"page {UNSAFE}"})
    messages = await world.turn(way)
    assert world.ran == ["bad", "cats"] or sorted(world.ran) == ["bad", "cats"]
    assert UNSAFE not in repr(messages)
    assert UNSAFE not in repr(world.model.prompts)
    assert messages[-1].content == "Done."


async def test_unrelated_messages_are_never_touched(way: str) -> None:
    world = World(f"oh {UNSAFE}")
    history = [HumanMessage("One", id="1"), AIMessage("Two", id="2"), HumanMessage("Three", id="3")]
    run = {"messages": history}
    state = world.agent.invoke(run) if way == "sync" else await world.agent.ainvoke(run)
    assert [(m.id, m.content) for m in state["messages"][:3]] == [("1", "One"), ("2", "Two"), ("3", "Three")]
