"""The guard beside raw aiohttp, over the same real server with the same bodies: `python -m benchmarks.vllm_throughput`.

Both keep 16 requests in flight. Rounds are short and alternate, and so does which of the two goes first, so that a
machine that is busy by turns meets both; a round of each is one pair. The two of a pair send the same texts, all of
them shorter than a block of the server's prefix cache, and the guard never sees one twice.

The server is TURNGUARD_BENCH_URL (`http://host:port/v1`), or else the tiny moderator under TURNGUARD_VLLM_PYTHON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

IN_FLIGHT = 16
WORDS = ("train", "museum", "station", "hour", "city", "opens", "leaves", "later", "near", "every", "nine", "we", "our")

Call = Callable[[int], Awaitable[None]]


def text(number: int) -> str:
    """Twenty words and a number: no two alike."""
    words = random.Random(number)  # noqa: S311 - the same for both, no secret
    return f"Number {number}: " + " ".join(words.choice(WORDS) for _ in range(20))


async def rate(call: Call, numbers: range) -> float:
    """Calls a second."""
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return len(numbers) / (time.perf_counter() - began)


def bound(ratios: list[float]) -> tuple[float, float]:
    """The geometric mean of paired ratios, and the lower end of its 95 % interval (bootstrap over the pairs)."""
    logs = [math.log(ratio) for ratio in ratios]
    draw = random.Random(0)  # noqa: S311
    means = sorted(statistics.fmean(draw.choices(logs, k=len(logs))) for _ in range(10_000))
    return math.exp(statistics.fmean(logs)), math.exp(means[len(means) * 25 // 1000])


async def measure(url: str, rounds: int, calls: int) -> None:
    """Alternate, and print every pair."""
    import aiohttp

    from turnguard import Guard, Step
    from turnguard.core.exchange import Exchange
    from turnguard.moderators.families import Asking
    from turnguard.moderators.families.nemotron3 import requests
    from turnguard.moderators.vllm import encode

    settings = {"base_url": url, "max_in_flight": 64, "deadline": "60s"}
    async with (
        Guard.from_dict({"moderator": settings, "policy": {}}) as guard,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):

        async def raw(number: int) -> None:
            exchange = Exchange(text(number))
            body = encode(requests(exchange, Asking())[0], exchange)
            headers = {"content-type": "application/json"}
            async with session.post(f"{url}/chat/completions", data=body, headers=headers) as reply:
                assert (await reply.json())["choices"][0]["finish_reason"] == "stop"

        async def ours(number: int) -> None:
            assert not (await guard.acheck(Step.input(text(number)))).failed

        await rate(raw, range(-calls, 0))
        await rate(ours, range(-2 * calls, -calls))
        ratios = []
        for turn in range(rounds):
            numbers = range(turn * calls, (turn + 1) * calls)
            first, second = (raw, ours) if turn % 2 else (ours, raw)
            found = {first: await rate(first, numbers), second: await rate(second, numbers)}
            ratios.append(found[ours] / found[raw])
            print(f"pair {turn + 1:2}: raw {found[raw]:6.1f}/s   guard {found[ours]:6.1f}/s   ratio {ratios[-1]:.3f}")
    mean, lower = bound(ratios)
    print(f"guard / raw aiohttp, {IN_FLIGHT} in flight, {rounds} pairs of {calls} calls: {mean:.3f}")
    print(f"lower 95 % bound: {lower:.3f}")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL that was named, or a server over the tiny moderator."""
    if named := os.environ.get("TURNGUARD_BENCH_URL"):
        yield named.rstrip("/")
        return
    python = os.environ.get("TURNGUARD_VLLM_PYTHON")
    if python is None:
        raise SystemExit("set TURNGUARD_BENCH_URL, or TURNGUARD_VLLM_PYTHON as scripts/vllm_env.py prints it")
    from tests.vllm.server import serve

    with serve(Path(python)) as running:
        yield f"{running.base_url}/v1"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=64)
    options = parser.parse_args()
    with server() as url:
        asyncio.run(measure(url, options.rounds, options.calls))


if __name__ == "__main__":
    main()
