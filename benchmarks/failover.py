"""One of two replicas killed under load: `python -m benchmarks.failover [SECONDS]` (10 before, 10 after, by default).

Each replica serves a verdict in 20 ms and 16 at a time, so one carries 800 a second; the load is 40 % of what this
machine was seen to carry with one replica, and at most 320 a second. Reach: no failed check, and the p99 after the
kill at most twice the p99 before it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from turnguard import Guard, Step
from turnguard.testing import FakeVLLM

LATENCY = 0.02


async def _load(guard: Guard, rate: float, seconds: float, label: str, failed: list[str]) -> list[float]:
    """Checks at a steady rate (an open loop: a slow one delays no other). Seconds that each took."""
    times: list[float] = []

    async def one(number: int) -> None:
        started = time.perf_counter()
        decision = await guard.acheck(Step.input(f"{label} {number}"))
        times.append(time.perf_counter() - started)
        if not decision.allowed:
            failed.append(decision.summary())

    tasks = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(number)))
    await asyncio.gather(*tasks)
    return times


async def capacity(seconds: float = 2.0) -> float:
    """Checks a second that one replica and this machine carry, 16 in flight."""
    with FakeVLLM(latency=LATENCY) as fake:
        async with Guard.from_dict({"moderator": {"base_url": fake.base_url, "deadline": "10s"}}) as guard:
            until = time.perf_counter() + seconds
            done = 0

            async def worker(which: int) -> None:
                nonlocal done
                number = 0
                while time.perf_counter() < until:
                    await guard.acheck(Step.input(f"{which} {number}"))
                    number += 1
                    done += 1

            await asyncio.gather(*(worker(which) for which in range(16)))
    return done / seconds


async def failover(seconds: float) -> tuple[list[float], list[float], list[str], float]:
    """Seconds per check before and after the kill, what failed, and the rate."""
    rate = 0.4 * min(800.0, await capacity())
    failed: list[str] = []
    with FakeVLLM(latency=LATENCY) as one, FakeVLLM(latency=LATENCY) as two:
        async with Guard.from_dict({"moderator": {"base_url": [one.base_url, two.base_url]}}) as guard:
            await _load(guard, rate, 1.0, "warm", failed)
            before = await _load(guard, rate, seconds, "before", failed)
            load = asyncio.ensure_future(_load(guard, rate, seconds, "after", failed))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(one.stop)  # with whatever it had in flight
            after = await load
    return before, after, failed, rate


def p99(times: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(times, n=100)[98]


def main() -> None:
    """Run, and print a line for each figure."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    before, after, failed, rate = asyncio.run(failover(seconds))
    ratio = p99(after) / p99(before)
    print(f"{rate:.0f} checks a second, {len(before)} before and {len(after)} after the kill")
    print(f"failed {len(failed)} (reach: 0)")
    print(f"p99 before {1000 * p99(before):.1f} ms, after {1000 * p99(after):.1f} ms: {ratio:.2f} x (reach: at most 2)")
    raise SystemExit(bool(failed) or ratio > 2)


if __name__ == "__main__":
    main()
