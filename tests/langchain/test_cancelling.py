"""A run that is cancelled at any step of the event loop leaves nothing unsafe, nothing half-written and no task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, moderator, said, stored
from turnguard.langchain import TurnguardMiddleware

CONFIG: Any = {"configurable": {"thread_id": "1"}}
WAYS = ("invoke", "stream", "beside invoke", "beside stream", "beside invoke unsafe", "beside stream unsafe", "resume")
FEW = 9
"""How many steps apart the quick test cancels."""


class Pausing:
    """A moderator that yields to the loop a few times before it answers, so that there are awaits to be cancelled at."""

    def __init__(self) -> None:
        self._judge = moderator()

    async def judge(self, exchange: Any, deadline: Any) -> Any:
        """As the scripted one."""
        for _ in range(3):
            await asyncio.sleep(0)
        return await self._judge.judge(exchange, deadline)


class World:
    """An agent with unsafe content at every stage, and what one run of it has shown."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.shown: list[Any] = []
        self.saver = InMemorySaver()
        self.model = Scripted(
            script=[calls("cats", f"{UNSAFE} plan", "bad", text="Let me look."), f"A long answer with {UNSAFE} in it"]
        )

        @tool
        async def search(q: str) -> str:
            """Search."""
            await asyncio.sleep(0)
            return f"page {UNSAFE}" if q == "bad" else "found"

        judged = guard(
            Pausing(),  # type: ignore[arg-type]
            stream={"window": 10, "max_delay": 0.01},
            checks={"input": "beside"} if way.startswith("beside") else {},
            categories={"Violence": "review" if way == "resume" else "block"},
        )
        self.agent: Any = create_agent(
            self.model, [search], middleware=[TurnguardMiddleware(judged)], checkpointer=self.saver
        )

    async def run(self, given: Any) -> None:
        """One run in this way."""
        if "stream" in self.way:
            async for chunk in self.agent.astream(given, CONFIG, stream_mode=["messages", "updates"]):
                self.shown.append(chunk)
        else:
            await self.agent.ainvoke(given, CONFIG)


async def cancelled_after(way: str, steps: int) -> bool:
    """Cancel a run after so many steps of the loop, look at what it left, and go on. Whether it had ended before."""
    world = World(way)
    given: Any = said(UNSAFE if "unsafe" in way else "Hello")
    if way == "resume":
        await world.run(given)
        waiting = (await world.agent.aget_state(CONFIG)).interrupts[0].value["action_requests"]
        given = Command(resume={"decisions": [{"type": "reject"}] * len(waiting)})
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(world.run(given))
    for _ in range(steps):
        await asyncio.sleep(0)
    ended = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for _ in range(30):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before, "no task outlives its run"
    assert UNSAFE not in repr(world.shown)
    if "unsafe" not in way and way != "resume":  # LangGraph stores the input itself; an interrupt shows the arguments
        assert UNSAFE not in stored(world.saver)
    if way == "resume":
        if not ended:
            await world.agent.ainvoke(given, CONFIG)
        messages = (await world.agent.aget_state(CONFIG)).values["messages"]
        answered = [message.tool_call_id for message in messages if isinstance(message, ToolMessage)]
        assert sorted(answered) == ["call-0", "call-1", "call-2"], "each call was answered once"
        assert UNSAFE not in repr(messages) + repr(world.model.prompts)
        return ended
    world.model.script[:] = [f"More {UNSAFE} of it"]
    state = await world.agent.ainvoke(said("Go on"), CONFIG)
    assert UNSAFE not in repr(state)
    assert "hurt" in state["messages"][-1].content, "what is unsafe is still known to be"
    return ended


async def from_step(way: str, stride: int, first: int = 0) -> int:
    """Cancel ever later until the run ends by itself; the number of runs."""
    steps = first
    while not await cancelled_after(way, steps):
        steps += stride
    return (steps - first) // stride


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [0, pytest.param(4, marks=pytest.mark.exhaustive)])
async def test_a_run_cancelled_at_some_step_leaves_nothing(way: str, first: int) -> None:
    assert await from_step(way, FEW, first) > 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", WAYS)
async def test_a_run_cancelled_at_any_step_leaves_nothing(way: str) -> None:
    assert await from_step(way, 1) > 20


@pytest.mark.parametrize("mode", ["messages", "updates", "values", "custom"])
async def test_a_stream_that_is_left_early_leaves_no_task(mode: str) -> None:
    total = 0
    while True:
        world = World("stream")
        before = asyncio.all_tasks()
        stream = world.agent.astream(said(), CONFIG, stream_mode=mode)
        seen = 0
        async for _ in stream:
            seen += 1
            if seen > total:
                break
        await stream.aclose()
        for _ in range(30):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before
        assert UNSAFE not in stored(world.saver)
        if seen <= total:
            return
        total += 1
