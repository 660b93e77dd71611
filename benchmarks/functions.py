"""How many functions of ours one uncached text check runs through: `python -m benchmarks.functions`."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import turnguard
from turnguard import Guard, Step
from turnguard.testing import FakeVLLM

HOME = str(Path(turnguard.__file__).parent)
APART = str(Path(HOME, "testing"))


def walked(url: str) -> Counter[str]:
    """Calls by function of one check that asks a server, after others have warmed everything up."""
    calls: Counter[str] = Counter()

    def seen(frame: FrameType, event: str, _what: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(HOME) and not code.co_filename.startswith(APART):
            calls[f"{Path(code.co_filename).relative_to(HOME)}:{code.co_qualname}"] += 1

    async def check() -> None:
        async with Guard.from_dict({"moderator": {"base_url": url}}) as guard:
            for number in range(3):
                await guard.acheck(Step.input(f"What is the capital of country {number}?"))
            step = Step.input("What is the capital of France?")
            sys.setprofile(seen)
            try:
                decision = await guard.acheck(step)
            finally:
                sys.setprofile(None)
            assert decision.allowed
            assert not decision.remembered

    asyncio.run(check())
    return calls


def main() -> None:
    with FakeVLLM() as server:
        calls = walked(server.base_url)
    for name, times in sorted(calls.items()):
        print(f"{times:3} {name}")
    print(f"{len(calls)} functions, {sum(calls.values())} calls")


if __name__ == "__main__":
    main()
