"""A long run under faults and cancellations: `python -m benchmarks.soak [CHECKS]` (50,000 by default).

64 in flight; 5 % of the requests meet a fault, 1 % of the checks are cancelled. Every text says itself whether it is
unsafe, so a check that got another's verdict is found. Reach: none lost, none swapped, memory grows by less than 5 MB
after the first fifth.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from turnguard import Guard, Step
from turnguard.testing import FakeVLLM, faults

IN_FLIGHT = 64
FAULTS = (faults.reset(), faults.crash(), faults.busy(), faults.content("prose"), faults.finish_reason("abort"))


@dataclass
class Result:
    """What became of the checks. `grown` is in bytes of resident memory since the warm-up."""

    decided: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    cancelled: int = 0
    swapped: list[str] = field(default_factory=list)
    lost: int = 0
    grown: int = 0
    seconds: float = 0.0


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


async def soak(checks: int, *, entries: int = 2000) -> Result:
    """Run the checks. `entries` bounds the guard's memory of verdicts, so that it is full by the end of the warm-up."""
    result = Result()
    chance = random.Random(6)  # noqa: S311 - the same run every time
    numbers = iter(range(checks))
    warm = checks // 5
    base = 0
    started = time.perf_counter()
    with FakeVLLM(seed=6) as fake:
        fake.when(lambda chat: "unsafe" in chat.prompt, user="unsafe")
        for fault in FAULTS:
            fake.fail(fault, probability=0.05 / len(FAULTS))
        asked = {"base_url": fake.base_url, "deadline": "10s", "max_in_flight": IN_FLIGHT}
        async with Guard.from_dict({"moderator": asked, "memory": {"entries": entries}}) as guard:

            async def worker() -> None:
                nonlocal base
                for number in numbers:
                    if number == warm:
                        fake.requests.clear()
                        gc.collect()
                        base = resident()
                    if number % 512 == 0:
                        fake.requests.clear()
                    await _one(guard, number, chance.random() < 0.01, result)

            await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
            fake.requests.clear()
            gc.collect()
            result.grown = resident() - base
    result.lost = checks - sum(result.decided.values()) - result.cancelled
    result.seconds = time.perf_counter() - started
    return result


async def _one(guard: Guard, number: int, cancel: bool, result: Result) -> None:
    unsafe = number % 3 == 0
    # some texts stand for several checks at once, so that flights are shared and called off under passengers
    text = f"{'unsafe' if unsafe else 'fine'} text {number - number % 2 * 3 if number % 7 == 0 else number}"
    unsafe = text.startswith("unsafe")
    task = asyncio.ensure_future(guard.acheck(Step.input(text)))
    if cancel:
        await asyncio.sleep(0)
        task.cancel()
    try:
        decision = await task
    except asyncio.CancelledError:
        if not cancel:
            raise
        result.cancelled += 1
        return
    result.decided[decision.action] += 1
    if decision.failed:
        result.failed += 1
        if decision.action != "block":
            result.swapped.append(f"{number}: a failure that passed")
    elif (decision.action == "block") is not unsafe:
        result.swapped.append(f"{number}: {decision.action}")


def main() -> None:
    """Run, and print a line for each figure."""
    checks = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    result = asyncio.run(soak(checks))
    print(f"checks {checks}, in flight {IN_FLIGHT}, {checks / result.seconds:.0f} a second")
    print(f"decided {dict(result.decided)}, failed by policy {result.failed}, cancelled {result.cancelled}")
    print(f"lost {result.lost} (reach: 0), answered with another's verdict {len(result.swapped)} (reach: 0)")
    print(f"memory after the warm-up: {result.grown / 1e6:+.1f} MB (reach: under 5)")
    raise SystemExit(bool(result.lost or result.swapped or result.grown >= 5_000_000))


if __name__ == "__main__":
    main()
