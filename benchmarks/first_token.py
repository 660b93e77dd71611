"""What `checks: {input: beside}` adds to the time to the first token: `python -m benchmarks.first_token`.

The same LangChain agent with and without us, streamed, turn by turn: a check takes 0.3 s, the model says its first word
after 0.4 s. The output's own windows are judged after the model has spoken, which is not what is measured here.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from benchmarks import rows
from benchmarks.langchain import Instant, Model
from turnguard import Guard
from turnguard.config.settings import ChecksSettings
from turnguard.langchain import TurnguardMiddleware

CHECK = 0.3
MODEL = 0.4
ROUNDS = 15
_numbers = itertools.count()


class Streaming(Model):
    """Says one word after a while, then the rest."""

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        await asyncio.sleep(MODEL)
        for word in ("One ", "two ", "three."):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


async def first_token(agent: Any) -> float:
    """Seconds until the first word of the answer is shown."""
    given = {"messages": [HumanMessage(f"Question number {next(_numbers)}?")]}
    began = time.perf_counter()
    async for message, _ in agent.astream(given, stream_mode="messages"):
        if isinstance(message, AIMessageChunk) and message.content:
            return time.perf_counter() - began
    raise AssertionError("nothing was said")


async def measure() -> list[float]:
    """What a turn with us takes longer than the one without, seconds, round by round."""
    guard = Guard(moderator=Instant(CHECK), checks=ChecksSettings(input="beside"))
    plain = create_agent(Streaming(), [])
    ours = create_agent(Streaming(), [], middleware=[TurnguardMiddleware(guard, check_output=False)])
    for agent in (plain, ours):
        await first_token(agent)
    added = []
    for _ in range(ROUNDS):
        without = await first_token(plain)
        added.append(await first_token(ours) - without)
    await guard.aclose()
    return added


def main() -> int:
    """Print the line; 1 when it is missed."""
    added = sorted(asyncio.run(measure()))
    middle = statistics.median(added)
    shown = f"{middle / CHECK:.1%} of the check ({added[0] / CHECK:.1%} to {added[-1] / CHECK:.1%})"
    met = middle <= 0.05 * CHECK
    rows.add(
        "safe input, input: beside, model slower than the check: added to first token", shown, "at most 5 %", met=met
    )
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
