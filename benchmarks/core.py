"""What a check costs beside the bare clients: `python -m benchmarks.core`. Ratios in one run, rounds alternating."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks import rows
from benchmarks.instant import server
from benchmarks.media import SCREENS, screenshot
from turnguard import Guard, Step
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline
from turnguard.moderators.families import Asking
from turnguard.moderators.families.nemotron3 import requests
from turnguard.moderators.http.connection import Origin, Pool
from turnguard.moderators.vllm import VLLMModerator

ROUNDS = 9
CALLS = 400
PORT = 18_431

Call = Callable[[int], Awaitable[object]]


async def cpu(call: Call, start: int, calls: int = CALLS) -> float:
    """CPU milliseconds per call, one after the other."""
    began = time.process_time()
    for number in range(start, start + calls):
        await call(number)
    return (time.process_time() - began) / calls * 1000


async def each(call: Call) -> float:
    """The median time of one call, milliseconds."""
    seconds = []
    for number in range(CALLS):
        began = time.perf_counter()
        await call(number)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


async def rate(call: Call, start: int, in_flight: int = 64, total: int = 1600) -> float:
    """Calls a second with `in_flight` open at once."""
    numbers = iter(range(start, start + total))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return total / (time.perf_counter() - began)


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, str]:
    """The median of the rounds' ratios, and the same with their spread to show."""
    ratios = sorted(our / their for our, their in zip(ours, theirs, strict=True))
    middle = statistics.median(ratios)
    return middle, f"{middle:.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f})"


class Counted(VLLMModerator):
    """The lean client, counting what is asked of it."""

    asked = 0

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The server's verdict."""
        self.asked += 1
        return await super().judge(exchange, deadline)


async def identical(url: str) -> int:
    """Requests that 64 identical checks at once make."""
    counted = Counted(url)
    async with Guard(moderator=counted) as guard:
        await asyncio.gather(*(guard.acheck(Step.input("the same")) for _ in range(64)))
    return counted.asked


async def screenshot_again(url: str) -> tuple[float, int, float]:
    """The same 4K screenshot with the same text in the next step: milliseconds (median), requests, megabytes of PNG."""
    counted, png = Counted(url), screenshot(SCREENS["4K"])
    async with Guard(moderator=counted) as guard:
        await guard.acheck(Step.tool_result("look", "The page.", images=[png]))
        counted.asked, seconds = 0, []
        for _ in range(25):
            again = bytes(bytearray(png))  # another object, as the next step brings it
            began = time.perf_counter()
            decision = await guard.acheck(Step.tool_result("look", "The page.", images=[again]))
            seconds.append(time.perf_counter() - began)
            assert decision.allowed
    return statistics.median(seconds) * 1000, counted.asked, len(png) / 1e6


def report(costs: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    """The rows of one check: against bare clients, and from memory."""
    middle, shown = ratio(costs["ours"], costs["raw"])
    rows.add("one uncached text check, CPU, against raw aiohttp doing the same", shown, "at most 4 ×", met=middle <= 4)
    middle, shown = ratio(rates["ours"], rates["bare"])
    rows.add(
        "checks a second at 64 in flight, one core, against bare openai", shown, "at least 2.5 ×", met=middle >= 2.5
    )
    hit = statistics.median(costs["hit"])
    rows.add("cache hit, text under 1 kB, median", f"{hit:.3f} ms", "under 0.05 ms", met=hit < 0.05)


async def main() -> None:
    import aiohttp
    import openai

    with server(PORT) as url:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
        guard = Guard.from_dict({"moderator": {"base_url": url, "max_in_flight": 256, "deadline": "30s"}})

        async def raw(number: int) -> None:
            body = json.dumps(requests(Exchange(f"hello number {number}, how are you today?"), Asking())[0])
            async with session.post(f"{url}/chat/completions", data=body.encode()) as response:
                json.loads(await response.read())

        origin = Origin.of(url)
        pool, head = Pool(origin), origin.head("POST", "/chat/completions", {"Content-Type": "application/json"})

        async def lean(number: int) -> None:
            body = json.dumps(requests(Exchange(f"hello number {number}, how are you today?"), Asking())[0])
            json.loads((await pool.ask(head, body.encode(), time.monotonic() + 30.0)).body)

        async def bare(number: int) -> None:
            body = requests(Exchange(f"hello number {number}, how are you today?"), Asking())[0]
            extra = {"chat_template_kwargs": body.pop("chat_template_kwargs")}
            await client.chat.completions.create(**body, extra_body=extra)

        async def ours(number: int) -> None:
            assert (await guard.acheck(Step.input(f"hello number {number}, how are you today?"))).allowed

        async def hit(_number: int) -> None:
            assert (await guard.acheck(Step.input("hello, how are you today?"))).allowed

        for warm in (raw, lean, bare, ours, hit):
            await cpu(warm, -CALLS)
        costs: dict[str, list[float]] = {"raw": [], "lean": [], "bare": [], "ours": [], "hit": []}
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        for turn in range(ROUNDS):
            start = turn * 10_000
            costs["raw"].append(await cpu(raw, start))
            costs["lean"].append(await cpu(lean, start))
            costs["ours"].append(await cpu(ours, start))
            costs["bare"].append(await cpu(bare, start))
            costs["hit"].append(await each(hit))
            rates["bare"].append(await rate(bare, start + 2000))
            rates["ours"].append(await rate(ours, start + 2000))
        await guard.aclose()
        await pool.aclose()
        await client.close()
        await session.close()
        once = await identical(url)
        again, asked, megabytes = await screenshot_again(url)
    report(costs, rates)
    rows.add("64 identical checks at once", f"{once} request", "1 request", met=once == 1)
    rows.add(
        "the same 4K screenshot with the same text in the next step",
        f"{again:.2f} ms ({megabytes:.1f} MB of PNG), {asked} requests",
        "under 2 ms, no request",
        met=again < 2 and asked == 0,
    )
    print("  one request and its JSON by our own client, CPU, against aiohttp:", ratio(costs["lean"], costs["raw"])[1])
    print("  one check, CPU, against the openai client:", ratio(costs["ours"], costs["bare"])[1])
    print(
        "  ms of CPU per call (hit: by the clock):",
        {name: round(statistics.median(values), 3) for name, values in costs.items()},
    )


def imports() -> None:
    """`import turnguard` beside `from pydantic import BaseModel`, each in fresh processes, alternating."""
    seconds: dict[str, list[float]] = {"from pydantic import BaseModel": [], "import turnguard": []}
    for _ in range(15):
        for statement, times in seconds.items():
            code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
            times.append(float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    base, ours = (statistics.median(times) * 1000 for times in seconds.values())
    print(
        f"import turnguard: {ours - base:.0f} ms more than pydantic's BaseModel ({ours:.0f} - {base:.0f}); at most 60"
    )


if __name__ == "__main__":
    imports()
    asyncio.run(main())
