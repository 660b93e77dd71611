"""What our rails cost beside rails that do nothing, in the same NeMo engine: `python -m benchmarks.nemo`.

Input and output rails, one turn after another, against a server that answers at once; rounds alternate within one
run. The engine's own cost is printed beside ours, and that of a rail that does nothing but one bare `aiohttp` request.
Moderator calls are part of ours: each turn's texts are new, so that none is remembered.
The target is 0.6 ms on the machine where it was set, scaled by what a rail that does nothing costs there and here.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import statistics
import time
from typing import Any

os.environ["NEMO_GUARDRAILS_NO_USAGE_STATS"] = "1"

import aiohttp
from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.actions.rail_outcome import RailOutcome
from nemoguardrails.types import LLMResponse

from benchmarks import rows
from benchmarks.instant import server
from turnguard import Guard
from turnguard.nemo import checked_rails, guard_of

PORT = 18_437
ROUNDS = 120
TURNS = 4
RAILS = 2
TARGET = 0.6
NOOP_THERE = {False: 4.15, True: 2.65}
"""Milliseconds of a no-op rail where the target was set, sequential and parallel: medians of 200 turns."""
NOOP = """
define flow nothing in
  $outcome = execute nothing
  if $outcome.is_blocked
    bot refuse to respond
    stop

define flow nothing out
  $outcome = execute nothing
  if $outcome.is_blocked
    bot refuse to respond
    stop
"""


class Instant:
    """A main model that answers at once, each time something else."""

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


async def nothing() -> RailOutcome:
    """A rail that does nothing."""
    return RailOutcome.allow()


def _config(parallel: bool, **flows: str) -> RailsConfig:
    rails = {kind: {"flows": [flow], "parallel": parallel} for kind, flow in flows.items()}
    yaml = json.dumps({"models": [], "passthrough": True, "rails": rails})
    return RailsConfig.from_content(NOOP if flows else None, yaml)


def _doing(does: Any, parallel: bool) -> LLMRails:
    """An app whose two rails do this."""
    rails = LLMRails(_config(parallel, input="nothing in", output="nothing out"), llm=Instant())
    rails.register_action(does, "nothing")
    return rails


async def _turn(rails: LLMRails, numbers: Any) -> None:
    await rails.generate_async(messages=[{"role": "user", "content": f"What is {next(numbers)} plus one?"}])


async def _turns(rails: LLMRails, numbers: Any) -> tuple[float, float]:
    """Milliseconds per turn: wall and CPU. A first turn is not counted: it pays for what the other apps put out of the
    processor's caches.
    """
    await _turn(rails, numbers)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(TURNS):
        await _turn(rails, numbers)
    return (time.perf_counter() - wall) / TURNS * 1000, (time.process_time() - cpu) / TURNS * 1000


async def measure(base_url: str, *, parallel: bool) -> None:
    """Alternate, and print the medians of the rounds' differences."""
    numbers = itertools.count()
    session = aiohttp.ClientSession()

    async def post() -> RailOutcome:
        async with session.post(f"{base_url}/chat/completions", data=b'{"messages":[]}') as response:
            await response.read()
        return RailOutcome.allow()

    idle, asking = (_doing(does, parallel) for does in (nothing, post))
    none = LLMRails(RailsConfig.from_content(yaml_content='{"models": [], "passthrough": true}'), llm=Instant())
    guard = Guard.from_dict({"moderator": {"base_url": base_url}})
    ours = checked_rails(_config(parallel), guard, stages=("input", "output"), llm=Instant())
    ours.config.rails.input.parallel = ours.config.rails.output.parallel = parallel
    apps = {"none": none, "idle": idle, "asking": asking, "ours": ours}
    for app in apps.values():
        await _turns(app, numbers)
    rounds: list[dict[str, tuple[float, float]]] = []
    for number in range(ROUNDS):
        order = list(apps) if number % 2 else list(reversed(apps))
        gc.collect()
        rounds.append({name: await _turns(apps[name], numbers) for name in order})
    for at, clock in enumerate(("wall", "CPU")):
        medians = {name: statistics.median(each[name][at] for each in rounds) for name in apps}
        extra = _beyond(rounds, "ours", at)
        engine = (medians["idle"] - medians["none"]) / RAILS
        way = "parallel" if parallel else "sequential"
        print(
            f"  {way:10} {clock:4}  a turn without rails {medians['none']:6.2f} ms   "
            f"a no-op rail {engine:5.2f} ms   "
            f"beyond that: one bare request {_beyond(rounds, 'asking', at):5.2f}, ours {extra:5.2f} ms a rail"
        )
        if clock == "CPU":
            scaled = TARGET * engine / NOOP_THERE[parallel]
            rows.add(
                f"own cost of a NeMo rail beyond a no-op one, {way}",
                f"{extra:.2f} ms of CPU",
                f"at most {scaled:.1f} ms on this machine ({TARGET} ms where it was set)",
                met=extra <= scaled,
            )
    await session.close()
    await guard_of(ours).aclose()


def _beyond(rounds: list[dict[str, tuple[float, float]]], name: str, at: int) -> float:
    """What a rail costs beyond one that does nothing, milliseconds: the median of the rounds' differences."""
    return statistics.median((each[name][at] - each["idle"][at]) / RAILS for each in rounds)


async def main() -> None:
    """Both modes."""
    with server(PORT) as base_url:
        for parallel in (False, True):
            await measure(base_url, parallel=parallel)


if __name__ == "__main__":
    asyncio.run(main())
