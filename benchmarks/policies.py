"""What a shadow and ten named policies add to a check: `python -m benchmarks.policies`. CPU, rounds alternating.

A round is the median of many short turns: what else the machine does costs more than the difference that is measured.
"""

from __future__ import annotations

import asyncio
import statistics
from itertools import cycle

from benchmarks import rows
from benchmarks.core import cpu, ratio
from benchmarks.instant import server
from turnguard import Guard, Policy, Step
from turnguard.core.decision import Decision
from turnguard.moderators.vllm import VLLMModerator

ROUNDS = 12
TURNS = 40
CALLS = 30
PORT = 18_437
RULES = {
    "categories": {"Profanity": "flag", "Guns and Illegal Weapons": {"action": "block", "above": 0.85}},
    "stages": {"output": {"unsafe_above": 0.35}},
}


async def main() -> None:
    with server(PORT) as url:
        plain = Policy.from_dict(RULES)
        tried = Policy.from_dict({**RULES, "default": "review"})
        tenants = {f"team-{n}": Policy.from_dict({**RULES, "shadow": "next.yaml"}, shadow=tried) for n in range(10)}
        names = cycle(tenants)
        async with (
            Guard(plain, VLLMModerator(url)) as alone,
            Guard(plain, VLLMModerator(url), policies=tenants) as among,
        ):

            async def one(number: int) -> Decision:
                return await alone.acheck(Step.input(f"What is the capital of country {number}?"))

            async def many(number: int) -> Decision:
                step = Step.input(f"What is the capital of country {number}?")
                return await among.acheck(step, policy=next(names))

            assert (await many(-1)).shadow is not None
            for warm in range(10):
                await cpu(one, -warm * 1000, CALLS)
                await cpu(many, -warm * 1000, CALLS)
            costs: dict[str, list[float]] = {"one": [], "many": []}
            for start in range(0, ROUNDS * 1_000_000, 1_000_000):
                turns: dict[str, list[float]] = {"one": [], "many": []}
                for turn in range(TURNS):
                    pair = (("one", one), ("many", many))
                    for name, call in pair if turn % 2 else reversed(pair):
                        turns[name].append(await cpu(call, start + turn * 1000, CALLS))
                for name, found in turns.items():
                    costs[name].append(statistics.median(found))
    middle, shown = ratio(costs["many"], costs["one"])
    rows.add(
        "one uncached check under one of ten policies with a shadow, CPU", shown, "at most 1.05 ×", met=middle <= 1.05
    )


if __name__ == "__main__":
    asyncio.run(main())
