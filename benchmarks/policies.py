"""What a shadow and ten named policies add to a check: `python -m benchmarks.policies`. CPU, rounds alternating."""

from __future__ import annotations

import asyncio
from itertools import cycle

from benchmarks import rows
from benchmarks.core import cpu, ratio
from benchmarks.instant import server
from turnguard import Guard, Policy, Step
from turnguard.core.decision import Decision
from turnguard.moderators.vllm import VLLMModerator

ROUNDS = 15
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
            await cpu(one, 0)
            await cpu(many, 0)
            costs: dict[str, list[float]] = {"one": [], "many": []}
            for turn in range(ROUNDS):
                pair = (("one", one), ("many", many))
                for name, call in pair if turn % 2 else reversed(pair):
                    costs[name].append(await cpu(call, (turn + 1) * 1000))
    middle, shown = ratio(costs["many"], costs["one"])
    rows.add(
        "one uncached check under one of ten policies with a shadow, CPU", shown, "at most 1.05 ×", met=middle <= 1.05
    )


if __name__ == "__main__":
    asyncio.run(main())
