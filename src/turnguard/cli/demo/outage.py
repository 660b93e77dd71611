"""The moderator goes away in mid-run, and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from turnguard.cli.demo._world import Line, Skipped, World
from turnguard.core.step import Step


async def scene(world: World) -> AsyncIterator[Line | Skipped]:
    """Fail closed, say that it was a failure and not a verdict, and recover by itself."""
    world.sandbox.stop()
    try:
        yield await world.judge(
            "a harmless question while the moderator is down",
            Step.input("When does the library open?"),
            "block",
            failed=True,
        )
    finally:
        world.sandbox.start()
    yield await world.judge("another one when it is back", Step.input("When does the library close?"), "allow")
