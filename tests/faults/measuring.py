"""One cell: what passed, what was decided, how late, and whether anything is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.faulty import FDS, MARK, Case, World
from tests.faults.surfaces import Surface
from tests.ticks import ticking
from turnguard import Decision, Guard, Step
from turnguard.core.action import Action
from turnguard.moderators.vllm import VLLMModerator
from turnguard.runtime import sync
from turnguard.testing import FakeVLLM

SLACK = 0.5
"""Seconds of the event loop's time that a decision may come after its deadline."""
ROUNDS = 5
_numbers = count()


@dataclass(frozen=True)
class Outcome:
    """One run of a cell. `over` is the loop's time beyond the deadline, in seconds; below zero is early."""

    passed: bool
    decisions: tuple[Decision, ...]
    over: float


def text() -> str:
    """Content that meets the fault; no beginning of it, as it is streamed, meets the fault twice."""
    return f"number {next(_numbers)}, a {MARK} text"


@contextmanager
def overheard(guard: Guard) -> Iterator[list[tuple[bool, Decision]]]:
    """The guard's decisions as they are recorded, and whether each is on marked content."""
    heard: list[tuple[bool, Decision]] = []

    class Hearing:
        async def keep(self, step: Step, parts: Iterable[Any], _policy: Any, decision: Decision, _seconds: Any) -> None:
            told = (*step.parts, *parts)
            said = [getattr(part, "text", "") or repr(getattr(part, "arguments", "")) for part in told]
            heard.append((any(MARK in each for each in said), decision))

    with mock.patch.object(guard._whole, "kept", Hearing()):
        yield heard


async def once(world: World, surface: Surface, stage: str, case: Case | None, action: Action) -> Outcome:
    """Run the cell, without a fault where no case is given."""
    guard = world.under(action)
    world.refresh()
    cold = case is not None and case.cold
    if cold:
        await quiet([world])
    else:
        await guard.acheck(Step.input(f"warm {next(_numbers)}"))
    run = surface.build(guard, stage, text())
    with overheard(guard) as heard, case.plant(world, guard) if case else contextlib.nullcontext():
        async with ticking(0.05) as ticks:
            shown = await run()
    checks = 1
    if case is not None and action in ("flag", "allow"):
        # the agent goes on, and what follows (an answer to the marked request) meets the fault again
        checks = max(1, sum(decision.failed for _, decision in heard))
    about = tuple(decision for marked, decision in heard if (decision.failed if cold else marked))
    return Outcome(MARK in shown, about, ticks.seconds - checks * guard.moderator_settings.deadline)


async def measured(world: World, surface: Surface, stage: str, case: Case, action: Action) -> Outcome:
    """Run the cell. Repeat it where a slow machine missed the deadline before the marked content was reached."""
    for _ in range(ROUNDS):
        outcome = await once(world, surface, stage, case, action)
        if outcome.decisions:
            return outcome
    raise AssertionError("no decision on the marked content")


# ---------------------------------------------------------------- what is left behind


@asynccontextmanager
async def nothing_left(worlds: Iterable[World]) -> AsyncIterator[None]:
    """No task, thread or socket more than before, and no connection taken from a pool and never given back."""
    await asyncio.to_thread(sync.run, asyncio.sleep(0))  # the process's bridge lives as long as the process
    await quiet(worlds)
    tasks, threads, open_before = asyncio.all_tasks(), _threads(), sockets()
    yield
    guards = [guard for world in worlds for guard in world.guards.values()]
    await _soon(lambda: sum(map(in_use, guards)), 0, "connections are still in use")
    await quiet(worlds)
    this = {asyncio.current_task()}
    await _soon(lambda: len(asyncio.all_tasks() - tasks - this), 0, "tasks are left behind")
    await _soon(lambda: sum((_threads() - threads).values()), 0, "threads are left behind")
    await _soon(lambda: sockets() > open_before, False, "sockets are left behind")


async def quiet(worlds: Iterable[World]) -> None:
    """Close the guards' connections; they open again when they are needed."""
    for world in worlds:
        world.refresh()  # a listener that is about to come back is no leak
        for guard in world.guards.values():
            await guard.aclose()
    servers: list[FakeVLLM] = [server for world in worlds for server in (world.one, world.two)]
    await _soon(lambda: sum(server.connections for server in servers), 0, "connections are not closed")


async def _soon(figure: Any, expected: object, otherwise: str) -> None:
    for attempt in range(200):
        if figure() == expected:
            return
        if attempt == 50:
            gc.collect()
        await asyncio.sleep(0.01)
    raise AssertionError(f"{figure()} {otherwise}")


def _threads() -> Counter[str]:
    """Threads by name, without those of the loop's own pool, which live as long as the loop, and the process's bridge."""
    names = (thread.name for thread in threading.enumerate())
    return Counter(name for name in names if not name.startswith(("asyncio_", "turnguard-sync")))


def sockets() -> int:
    """Sockets that this process has open; none where that cannot be told."""
    return sum("socket:" in _link(entry) for entry in FDS.iterdir()) if FDS.is_dir() else 0


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def in_use(guard: Guard) -> int:
    """Connections that some request of the guard has taken and not given back."""
    return sum(pool.in_use for client in _clients(guard.moderator) for pool in client._pools.all())


def _clients(moderator: Any) -> Iterator[VLLMModerator]:
    if isinstance(moderator, VLLMModerator):
        yield moderator
        return
    for name in ("inner", "first", "second", "moderator"):
        if (inner := getattr(moderator, name, None)) is not None:
            yield from _clients(inner)
    for endpoint in getattr(moderator, "endpoints", ()):
        yield from _clients(endpoint)
