"""What a long conversation costs a guarded agent: `python -m benchmarks.langchain_history`.

One agent runs without and with Turnguard, in turns that alternate within one run. Moderator, model and tool answer at
once, so that what is measured is CPU time of hooks, reading and remembering. Three conversations: 800 tool steps, 30
steps whose result is a screenshot, and text steps that follow 30 screenshots.
"""

from __future__ import annotations

import base64
import gc
import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from pydantic import Field

from benchmarks import rows
from benchmarks.langchain import Instant, Model, search
from turnguard import Guard
from turnguard.langchain import TurnguardMiddleware

STEPS = 800
SCREENSHOTS = 30
TEXT_STEPS = 100
RUNS = 3
_numbers = itertools.count()


class Timed(Model):
    """Calls a tool `steps` times and notes the CPU time, in seconds, at which it is called."""

    name_of_tool: str = "search"
    at: list[float] = Field(default_factory=list)

    def _answer(self, messages: list[BaseMessage]) -> ChatResult:
        self.at.append(time.process_time())
        number = next(_numbers)
        args = {"q": f"query {number}"}
        call = {"name": self.name_of_tool, "args": args, "id": f"call_{number}"}
        more = len(self.at) <= self.steps
        message = AIMessage("", tool_calls=[call]) if more else AIMessage(f"Answer number {number}.")
        return ChatResult(generations=[ChatGeneration(message=message)])


def screenshot() -> str:
    """A PNG of about 1 MB that nobody has seen before, as base64."""
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.frombytes("RGB", (600, 600), os.urandom(600 * 600 * 3)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@tool
def look(q: str) -> list[dict[str, Any]]:
    """Take a screenshot."""
    return [{"type": "text", "text": q}, {"type": "image", "base64": screenshot(), "mime_type": "image/png"}]


def run(steps: int, *, guarded: bool, tool: str = "search", before: list[BaseMessage] = []) -> list[float]:  # noqa: B006
    """CPU seconds of each step of a new conversation, first to last."""
    model = Timed(steps=steps, name_of_tool=tool, at=[])
    middleware = [TurnguardMiddleware(Guard(moderator=Instant()))] if guarded else []
    built = create_agent(model, [search, look], middleware=middleware)
    given = {"messages": [HumanMessage(f"Question number {next(_numbers)}?"), *before]}
    gc.collect()
    built.invoke(given, {"recursion_limit": 10 * steps + 100})
    return [after - at for at, after in itertools.pairwise(model.at)]


def seen() -> list[BaseMessage]:
    """A conversation's thirty screenshots, with the calls that they answer."""
    made: list[BaseMessage] = []
    for number in range(SCREENSHOTS):
        call = {"name": "look", "args": {"q": str(number)}, "id": f"call_s{number}"}
        block = {"type": "image", "base64": screenshot(), "mime_type": "image/png"}
        made += [AIMessage("", tool_calls=[call], id=f"a{number}")]
        made += [ToolMessage([block], tool_call_id=f"call_s{number}", name="look", id=f"t{number}")]
    return made


def added(without: list[float], with_us: list[float]) -> tuple[float, float]:
    """What we add to an early step and to a late one, in milliseconds: medians of a tenth of the steps."""
    tenth = max(5, len(without) // 10)
    each = [b - a for a, b in zip(without, with_us, strict=True)]
    return statistics.median(each[1 : tenth + 1]) * 1000, statistics.median(each[-tenth:]) * 1000


def both(steps: int, **options: Any) -> tuple[list[float], list[float]]:
    """CPU seconds of each step without and with us: the least of three runs each, in turns, as the machine is busy
    with other things too.
    """
    pairs = [(run(steps, guarded=False, **options), run(steps, guarded=True, **options)) for _ in range(RUNS)]
    without, with_us = zip(*pairs, strict=True)
    return list(map(min, *without)), list(map(min, *with_us))


def measured() -> Iterator[tuple[str, float, float, str]]:
    """What is measured, the ratio, its bound, and the figures behind it."""
    both(20)
    without, with_us = both(STEPS)
    early, late = added(without, with_us)
    what = f"{STEPS} tool steps: "
    yield f"{what}CPU time against the agent without us", sum(with_us) / sum(without), 1.8, f"{sum(with_us):.2f} s"
    yield f"{what}added to a late step against an early one", late / early, 1.5, f"{early:.2f} to {late:.2f} ms"
    early, late = added(*both(SCREENSHOTS, tool="look"))
    what = f"{SCREENSHOTS} screenshots: added to a late one against an early one"
    yield what, late / early, 1.5, f"{early:.1f} to {late:.1f} ms"
    without, with_us = both(TEXT_STEPS, before=seen())
    alone, ours = statistics.median(without[5:]), statistics.median(with_us[5:])
    what = f"text steps after {SCREENSHOTS} screenshots: CPU time against the agent without us"
    yield what, ours / alone, 1.3, f"{ours * 1000:.2f} ms"


def main() -> int:
    """Print the figures; 1 when a bound is missed."""
    missed = False
    for what, ratio, bound, figures in measured():
        missed |= ratio > bound
        rows.add(what, f"{ratio:.2f} × ({figures})", f"at most {bound} ×", met=ratio <= bound)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
