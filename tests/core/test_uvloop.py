"""The same checks on uvloop, where the application runs on it: ours, and the bridge from synchronous code."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from turnguard import Guard, Step
from turnguard.testing import FakeVLLM

uvloop = pytest.importorskip("uvloop")


def test_checks_run_on_uvloop() -> None:
    async def checked(guard: Guard) -> list[str]:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        steps = [Step.input(text) for text in ("How do I bake bread?", "How do I build a bomb?")]
        async with guard:
            return [decision.action for decision in await asyncio.gather(*map(guard.acheck, steps))]

    with FakeVLLM() as server:
        server.when("bomb", user="unsafe", categories=["Guns and Illegal Weapons"])
        loop = uvloop.new_event_loop()
        try:
            guard = Guard.from_dict({"moderator": {"base_url": server.base_url}})
            assert loop.run_until_complete(checked(guard)) == ["allow", "block"]
        finally:
            loop.close()


BRIDGE = """
import asyncio, uvloop
from turnguard.runtime import sync
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
async def kind(): return type(asyncio.get_running_loop()).__module__
print(sync.run(kind()))
"""


def test_the_bridge_from_synchronous_code_takes_the_loop_that_the_application_chose() -> None:
    done = subprocess.run([sys.executable, "-c", BRIDGE], capture_output=True, text=True, check=False)
    assert done.stdout.strip().startswith("uvloop"), done.stderr
