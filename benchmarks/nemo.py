"""What Turnguard costs a turn in NeMo Guardrails: `python -m benchmarks.nemo`.

`guarded` around IORails beside the same engine alone, with no earlier turns and with 30; then the rails of the drop-in
beside rails that do nothing in the same LLMRails. The main model and the moderator answer at once, so that what is left
is CPU time of this process, our two requests to the moderator included: each turn's texts are new. Rounds alternate
within one run; the medians of their differences are printed. Every turn's messages are new objects, as from a server.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

os.environ["NEMO_GUARDRAILS_NO_USAGE_STATS"] = "1"

from nemoguardrails import Guardrails, LLMRails, RailsConfig
from nemoguardrails.actions.rail_outcome import RailOutcome
from nemoguardrails.types import LLMResponse

from benchmarks import rows
from benchmarks.instant import server
from turnguard import Guard
from turnguard.nemo import checked_rails, guard_of, guarded

PORT = 18_437
ROUNDS = 60
TURNS = 4
EARLIER = (0, 30)
TARGET = 1.5
"""Milliseconds of CPU that `guarded` may add to a turn."""
SPREAD = 20
"""Kilobytes by which the peaks of two like turns differ."""
RAIL_TARGET = 0.6
NOOP_THERE = 4.15
"""Milliseconds of a rail of the drop-in beyond one that does nothing, and what that one took where this was set."""
NOOP = "".join(
    f"define flow nothing {side}\n  $outcome = execute nothing\n  if $outcome.is_blocked\n    stop\n\n"
    for side in ("in", "out")
)
Turn = Callable[[list[Any]], Awaitable[Any]]


class Instant:
    """A main model for LLMRails that answers at once, each time something else."""

    model_name = "instant"
    provider_name = "none"
    provider_url = None

    def __init__(self) -> None:
        self._numbers = itertools.count()

    async def generate_async(self, _prompt: Any, **_options: Any) -> LLMResponse:
        """The answer."""
        return LLMResponse(content=f"The answer is {next(self._numbers)}.")

    async def stream_async(self, _prompt: Any, **_options: Any) -> Any:
        """Not used."""
        raise NotImplementedError
        yield


_numbers = itertools.count()


def messages(earlier: int) -> list[Any]:
    """A conversation with this many turns before the newest question, as new objects."""
    past = [
        {"role": role, "content": f"{text} number {turn}. " + "It goes on for a while, as conversations do. " * 4}
        for turn in range(earlier)
        for role, text in (("user", "A question"), ("assistant", "An answer"))
    ]
    made: list[Any] = json.loads(json.dumps([*past, {"role": "user", "content": f"What is {next(_numbers)} and one?"}]))
    return made


async def cpu(turn: Turn, earlier: int) -> float:
    """Milliseconds of CPU per turn. The first is not counted: it pays for what others left in the caches."""
    asked = [messages(earlier) for _ in range(TURNS + 1)]
    await turn(asked.pop())
    started = time.process_time()
    for each in asked:
        await turn(each)
    return (time.process_time() - started) / TURNS * 1000


async def compared(turns: dict[str, Turn], earlier: int) -> dict[str, list[float]]:
    """Rounds of each, alternating."""
    for turn in turns.values():
        await cpu(turn, earlier)
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(ROUNDS):
        gc.collect()
        for name in list(turns) if number % 2 else reversed(list(turns)):
            taken[name].append(await cpu(turns[name], earlier))
    return taken


def beyond(taken: dict[str, list[float]], one: str, other: str) -> float:
    """The median of the rounds' differences."""
    return statistics.median(a - b for a, b in zip(taken[one], taken[other], strict=True))


async def peak(turn: Turn, earlier: int) -> float:
    """Kilobytes allocated at once during a turn."""
    for _ in range(3):
        await turn(messages(earlier))
    asked = messages(earlier)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await turn(asked)
    high = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (high - before) / 1000


async def iorails(base_url: str) -> None:
    """`guarded` beside the engine alone."""
    model = {"type": "main", "engine": "openai", "model": "nemotron_moderator"}
    model["parameters"] = {"base_url": base_url, "api_key": "none"}  # type: ignore[assignment]
    config = RailsConfig.from_content(yaml_content=json.dumps({"models": [model]}))
    guard = Guard.from_dict({"moderator": {"base_url": base_url}})
    async with Guardrails(config, require_iorails=True) as engine:
        ours = guarded(engine, guard)
        turns: dict[str, Turn] = {
            "alone": lambda asked: engine.generate_async(messages=asked),
            "guarded": lambda asked: ours.generate_async(messages=asked),
        }
        for earlier in EARLIER:
            taken = await compared(turns, earlier)
            extra = beyond(taken, "guarded", "alone")
            rows.add(
                f"guarded over IORails, {earlier} earlier turns, beyond the engine alone",
                f"{extra:.2f} ms of CPU ({statistics.median(taken['alone']):.2f} alone)",
                f"at most {TARGET} ms",
                met=extra <= TARGET,
            )
        grown = [await peak(turns["guarded"], each) - await peak(turns["alone"], each) for each in EARLIER]
        rows.add(
            "guarded over IORails, allocated at once beyond the engine alone",
            f"{grown[0]:.0f} kB with no earlier turns, {grown[1]:.0f} kB with 30",
            f"no more with 30, within {SPREAD} kB",
            met=grown[1] - grown[0] <= SPREAD,
        )
    await guard.aclose()


async def drop_in(base_url: str) -> None:
    """Our input and output rails beside two that do nothing."""

    async def nothing() -> RailOutcome:
        return RailOutcome.allow()

    rails = {"input": {"flows": ["nothing in"]}, "output": {"flows": ["nothing out"]}}
    settings = {"models": [], "passthrough": True}
    none = LLMRails(RailsConfig.from_content(yaml_content=json.dumps(settings)), llm=Instant())
    idle = LLMRails(RailsConfig.from_content(NOOP, json.dumps({**settings, "rails": rails})), llm=Instant())
    idle.register_action(nothing, "nothing")
    guard = Guard.from_dict({"moderator": {"base_url": base_url}})
    plain = RailsConfig.from_content(yaml_content=json.dumps(settings))
    ours = checked_rails(plain, guard, stages=("input", "output"), llm=Instant())
    turns: dict[str, Turn] = {
        name: lambda asked, app=app: app.generate_async(messages=asked)  # type: ignore[misc]
        for name, app in (("none", none), ("idle", idle), ("ours", ours))
    }
    for earlier in EARLIER:
        taken = await compared(turns, earlier)
        print(
            f"  {earlier:2} earlier turns: " + ", ".join(f"{n} {statistics.median(t):.1f} ms" for n, t in taken.items())
        )
        if earlier == 0:
            noop = beyond(taken, "idle", "none") / 2
            extra, scaled = beyond(taken, "ours", "idle") / 2, RAIL_TARGET * noop / NOOP_THERE
            rows.add(
                "own cost of a rail of the NeMo drop-in beyond a no-op one",
                f"{extra:.2f} ms of CPU",
                f"at most {scaled:.1f} ms on this machine ({RAIL_TARGET} ms where it was set)",
                met=extra <= scaled,
            )
    await guard_of(ours).aclose()


async def main() -> None:
    """Both ways."""
    with server(PORT) as base_url:
        await iorails(base_url)
        await drop_in(base_url)


if __name__ == "__main__":
    asyncio.run(main())
