"""Streaming to a terminal: words appear as they are judged, and an unsafe turn of the answer is never shown.

`turnguard sandbox` in one terminal, this file in another. The model here is scripted so that this runs without any
key; pass your own chat model to `build`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessageChunk

from turnguard import Guard
from turnguard.langchain import TurnguardMiddleware

SAFE = "Paris is the capital of France. It lies on the Seine and has been the seat of government for a long time."
STORY = (
    "Of course. It is a quiet evening in the old town, and everybody is at home. Then somebody writes on the wall: "
    "I will kill you tomorrow, and nobody will find you."
)


def build(model: BaseChatModel, guard: Guard) -> Any:
    """An agent without tools."""
    return create_agent(model, [], middleware=[TurnguardMiddleware(guard)])


async def main() -> None:
    """Ask twice; the second answer turns unsafe half way, and ends with the refusal."""
    async with Guard.from_yaml(Path(__file__).with_name("turnguard.yaml")) as guard:
        agent = build(GenericFakeChatModel(messages=iter([SAFE, STORY])), guard)
        for question in ("What is the capital of France?", "Tell me a short story."):
            print(f"> {question}")
            async for chunk, _ in agent.astream({"messages": [("user", question)]}, stream_mode="messages"):
                if isinstance(chunk, AIMessageChunk):
                    print(chunk.text, end="", flush=True)
            print()


if __name__ == "__main__":
    asyncio.run(main())
