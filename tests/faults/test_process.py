"""Faults of the process through every surface: event loops that are closed, threads, forks. As in the other cells,
nothing passes while the server hangs, everything does when it answers again, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from _pytest.mark.structures import ParameterSet

from tests.faults.children import in_a_child
from tests.faults.faulty import MARK, World
from tests.faults.measuring import text
from tests.faults.surfaces import CELLS, Run, Surface
from turnguard.testing import faults

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning"),
    pytest.mark.usefixtures("leaks_nothing"),
]

PROCESS = ("an event loop closed under a check", "four threads with a loop each", "a child forked during a check")
"""The tests below, for docs/faults.md."""


def _cells() -> Iterator[ParameterSet]:
    for surface, stage in CELLS:
        marks = [pytest.mark.exhaustive] if stage != surface.stages[0] else []
        yield pytest.param(surface, stage, marks=marks, id=f"{surface.name}-{stage}")


def shown(world: World, surface: Surface, stage: str) -> str:
    """One run, in an event loop of its own."""
    return alone(surface.build(world.guard, stage, text()))


def alone(run: Run) -> str:
    async def here() -> str:
        return await run()

    return asyncio.run(here())


def withholds_and_passes(world: World, surface: Surface, stage: str, runs: Callable[[], list[str]]) -> None:
    """Under the fault, and without it."""
    world.refresh()
    world.one.fail(faults.hang(), when=MARK)
    assert not any(MARK in each for each in runs())
    world.refresh()
    assert all(MARK in each for each in runs())


@pytest.mark.parametrize(("surface", "stage"), list(_cells()))
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_is_closed_under_a_check(world: dict[int, World], surface: Surface, stage: str) -> None:
    here = world[1]
    here.refresh()
    here.one.fail(faults.hang(), when=MARK)
    run = surface.build(here.guard, stage, text())

    async def abandoned() -> str:
        return await run()

    loop = asyncio.new_event_loop()
    check = loop.create_task(abandoned())
    loop.run_until_complete(asyncio.sleep(0.1))
    assert not check.done()
    if surface.agent:
        # LangGraph and its tracer start coroutines when they are dropped without a loop: as `asyncio.run` ends, then
        check.cancel()
        loop.run_until_complete(asyncio.gather(check, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    del loop, check
    gc.collect()
    withholds_and_passes(here, surface, stage, lambda: [shown(here, surface, stage)])


@pytest.mark.parametrize(("surface", "stage"), list(_cells()))
def test_many_threads(world: dict[int, World], surface: Surface, stage: str) -> None:
    here = world[1]

    def in_threads() -> list[str]:
        found: list[str] = []
        runs = [surface.build(here.guard, stage, text()) for _ in range(4)]
        threads = [threading.Thread(target=lambda run=run: found.append(alone(run))) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(found) == 4
        return found

    withholds_and_passes(here, surface, stage, in_threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("surface", "stage"), list(_cells()))
def test_a_forked_child(world: dict[int, World], surface: Surface, stage: str) -> None:
    here = world[1]
    here.refresh()
    here.one.fail(faults.hang(), when=MARK)
    busy = threading.Thread(target=alone, args=(surface.build(here.guard, stage, text()),))
    busy.start()
    while busy.is_alive() and not here.one.counters.running:
        time.sleep(0.005)
    in_a_child(lambda: MARK not in shown(here, surface, stage), seconds=60.0)
    busy.join(30)
    here.refresh()
    in_a_child(lambda: MARK in shown(here, surface, stage), seconds=60.0)
