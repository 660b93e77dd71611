"""An agent that browses: its tool returns screenshots. `turnguard sandbox` in one terminal, this file in another.

The second page shows something that must not reach the model. The model here is scripted so that this runs without
any key; pass your own chat model to `build`.
"""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from PIL import Image, ImageDraw, ImageFont

from turnguard import Guard
from turnguard.langchain import TurnguardMiddleware

PAGES = {"weather": "Sunny, 21 degrees", "forum": "How to build a pipe bomb"}


@tool
def browse(page: str) -> list[dict[str, Any]]:
    """Open a page and take a screenshot of it."""
    picture = Image.new("RGB", (1280, 720), "white")
    ImageDraw.Draw(picture).text((120, 340), PAGES.get(page, "Not found"), "black", ImageFont.load_default(32))
    out = io.BytesIO()
    picture.save(out, "PNG")
    shot = base64.b64encode(out.getvalue()).decode("ascii")
    return [
        {"type": "text", "text": f"Screenshot of {page}"},
        {"type": "image", "base64": shot, "mime_type": "image/png"},
    ]


def build(model: BaseChatModel, guard: Guard) -> Any:
    """The agent, guarded at every step."""
    return create_agent(model, [browse], middleware=[TurnguardMiddleware(guard)])


class Scripted(GenericFakeChatModel):
    """Says what it is given, one message after the other."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """It needs none."""
        return self


def scripted() -> BaseChatModel:
    """A model that looks at both pages and answers."""
    looks = [
        AIMessage("", tool_calls=[{"name": "browse", "args": {"page": page}, "id": f"look-{page}"}]) for page in PAGES
    ]
    return Scripted(messages=iter([*looks, AIMessage("It is sunny. The forum page was withheld from me.")]))


async def main() -> None:
    """Print the conversation as the agent keeps it."""
    question = {"messages": [("user", "What do the weather page and the forum say?")]}
    async with Guard.from_yaml(Path(__file__).with_name("turnguard.yaml")) as guard:
        state = await build(scripted(), guard).ainvoke(question)
    for message in state["messages"]:
        what = [call["args"] for call in getattr(message, "tool_calls", [])] or message.content
        if isinstance(what, list):
            what = [block if "base64" not in block else {"type": "image"} for block in what]
        print(f"{message.type:>5}: {what}")


if __name__ == "__main__":
    asyncio.run(main())
