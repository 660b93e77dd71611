"""Whether verdicts can be shared where the configuration says."""

from __future__ import annotations

import asyncio
import os
import time

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Verdict
from turnguard.doctor.findings import Told, failed, note, ok
from turnguard.moderators.base import Deadline
from turnguard.moderators.memory_shared import LONGEST, SharedMemory

_WAITS = 20
"""Looks for what was stored, 50 ms apart: it is written in the background."""


def shared_memory(config: Config) -> Told | None:
    """Say whether a verdict that was stored is found again; nothing where no shared memory is named. Blocks."""
    return None if config.memory.url is None else asyncio.run(_examine(config))


async def _examine(config: Config) -> Told | None:
    settings = config.memory
    if settings.url is None:
        return None
    try:
        memory = SharedMemory(settings.url.get_secret_value(), settings.key.get_secret_value(), 60.0)
    except ConfigError as error:
        return failed(str(error), "pip install 'turnguard[shared]'")
    try:
        return await _round_trip(memory)
    finally:
        await memory.aclose()


async def _round_trip(memory: SharedMemory) -> Told:
    content = os.urandom(32)
    memory.put("turnguard doctor", content, Verdict(user="safe"), None)
    for _ in range(_WAITS):
        started = time.perf_counter()
        found = await memory.get("turnguard doctor", content, Deadline.after(1.0))
        took = time.perf_counter() - started
        if found is not None:
            break
        await asyncio.sleep(0.05)
    else:
        if memory.counts["failed"] or memory.counts["lost"]:
            told = "the store cannot be reached, or refuses us; each worker remembers for itself"
            return failed(told, "Start it, or mend the address and the password in memory.url.")
        return failed("a verdict that was stored is not found again", "Give the store memory, and let it keep keys.")
    if took > LONGEST / 2:
        told = f"a look-up takes {took * 1000:.0f} ms; checks wait {LONGEST * 1000:.0f} ms at most"
        return note(told, "Put the store nearer to the workers.")
    return ok(f"a stored verdict is found again in {took * 1000:.1f} ms")
