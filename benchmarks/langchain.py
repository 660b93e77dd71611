"""What Turnguard costs an agent's turn: `python -m benchmarks.langchain`. The same agent with and without it, turn by
turn.

Checks are answered at once, in process, and every turn is new, so that what is measured is everything of ours: hooks,
reading messages, deciding. Model and tools answer at once too. The targets are those of the project: at most 1.5 ms
for a turn without tools, 7 ms for one with three tool steps, on the machine where they were set. Milliseconds compare
between machines only through something that both ran, so the targets are scaled by what the same agent takes without
us, here and there. With `checks: {input: beside}`, a turn whose check and model call take 0.3 s each should take at
most 1.05 times that.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from benchmarks import rows
from turnguard import Guard
from turnguard.config.settings import ChecksSettings
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.langchain import TurnguardMiddleware
from turnguard.moderators.base import Deadline

TURNS = 150
TARGETS = {0: 1.5, 3: 7.0}
WITHOUT = {("sync", 0): 0.52, ("async", 0): 0.74, ("sync", 3): 3.71, ("async", 3): 3.95}
"""Milliseconds of the agent without us where the targets were set: medians of 150 turns."""
_numbers = itertools.count()


class Instant:
    """A moderator that finds everything safe, after `delay` seconds."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Safe."""
        if self.delay:
            await asyncio.sleep(self.delay)
        return Verdict(
            user="safe", response=None if exchange.response is None else "safe", p_user=0.01, p_response=0.01
        )


class Model(BaseChatModel):
    """Calls a tool `steps` times, then answers. Never says the same twice."""

    steps: int = 0
    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "instant"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _answer(self, messages: list[BaseMessage]) -> ChatResult:
        done = sum(message.type == "tool" for message in messages)
        number = next(_numbers)
        call = {"name": "search", "args": {"q": f"query {number}"}, "id": f"call-{number}"}
        message = AIMessage("", tool_calls=[call]) if done < self.steps else AIMessage(f"Answer number {number}.")
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kw: Any
    ) -> ChatResult:
        return self._answer(messages)

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kw: Any
    ) -> ChatResult:
        await asyncio.sleep(self.delay)
        return self._answer(messages)


@tool
def search(q: str) -> str:
    """Search."""
    return f"result of {q}"


def agent(steps: int, *, guarded: bool) -> Any:
    """The same agent, with or without us."""
    middleware = [TurnguardMiddleware(Guard(moderator=Instant()))] if guarded else []
    return create_agent(Model(steps=steps), [search], middleware=middleware)


def question() -> dict[str, Any]:
    """A new question."""
    return {"messages": [HumanMessage(f"Question number {next(_numbers)}?")]}


def sync_turn(built: Any) -> float:
    """Milliseconds of one synchronous turn."""
    given = question()
    began = time.perf_counter()
    built.invoke(given)
    return (time.perf_counter() - began) * 1000


async def async_turn(built: Any) -> float:
    """Milliseconds of one asynchronous turn."""
    given = question()
    began = time.perf_counter()
    await built.ainvoke(given)
    return (time.perf_counter() - began) * 1000


def compare(turn: Callable[[Any], float], steps: int) -> tuple[list[float], list[float]]:
    """Turns of both, alternating, after a warm-up."""
    plain, ours = agent(steps, guarded=False), agent(steps, guarded=True)
    for _ in range(20):
        turn(plain), turn(ours)
    without: list[float] = []
    with_us: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(TURNS):
            without.append(turn(plain))
            with_us.append(turn(ours))
    finally:
        gc.enable()
    return without, with_us


def turns() -> Iterator[tuple[str, float, float, float, float]]:
    """Name, median without us, median with us, median of the differences, target on this machine."""
    loop = asyncio.new_event_loop()
    ways: dict[str, Callable[[Any], float]] = {
        "sync": sync_turn,
        "async": lambda built: loop.run_until_complete(async_turn(built)),
    }
    for steps, target in TARGETS.items():
        for way, turn in ways.items():
            without, with_us = compare(turn, steps)
            added = statistics.median(b - a for a, b in zip(without, with_us, strict=True))
            alone = statistics.median(without)
            scaled = target * alone / WITHOUT[way, steps]
            yield f"{way}, {steps} tool steps", alone, statistics.median(with_us), added, scaled
    loop.close()


async def beside() -> float:
    """How many times 0.3 s a turn takes whose check runs beside its model call; the median of five."""
    # the output is checked after the model has spoken, which is not what is measured here
    built = create_agent(
        Model(delay=0.3),
        [],
        middleware=[
            TurnguardMiddleware(
                Guard(moderator=Instant(0.3), checks=ChecksSettings(input="beside")), check_output=False
            )
        ],
    )
    return statistics.median([await async_turn(built) / 300 for _ in range(5)])


def main() -> int:
    """Print the table; 1 when a target is missed."""
    missed = False
    print(f"  {'a turn, ms (medians)':24s} {'without':>8s} {'with us':>8s}")
    for name, without, with_us, added, target in turns():
        missed |= added > target
        print(f"  {name:24s} {without:8.2f} {with_us:8.2f}")
        rows.add(
            f"own cost of a LangChain agent's turn, {name}",
            f"{added:.2f} ms ({added / without:.1f} × the turn without us)",
            f"at most {target:.1f} ms on this machine ({TARGETS[int(name.split()[1])]} ms where it was set)",
            met=added <= target,
        )
    ratio = asyncio.run(beside())
    missed |= ratio > 1.05
    what = "input: beside, check and model call of 0.3 s each: the turn against the slower"
    rows.add(what, f"{ratio:.3f} ×", "at most 1.05 ×", met=ratio <= 1.05)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
