"""Whether verdicts can be shared where the configuration says."""

from __future__ import annotations

import asyncio
import os
import time

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Verdict
from turnguard.doctor.findings import Finding, failed, note, ok
from turnguard.moderators.base import Deadline
from turnguard.moderators.memory_shared import LONGEST, SharedMemory

_WAITS = 20
"""Looks for what was stored, 50 ms apart: it is written in the background."""
_NAME = "shared_memory"


async def examine(config: Config) -> tuple[Finding, ...]:
    """A verdict goes in and is looked up again; nothing where no shared memory is named."""
    settings = config.memory
    if settings.url is None:
        return ()
    try:
        memory = SharedMemory(settings.url.get_secret_value(), settings.key.get_secret_value(), 60.0)
    except ConfigError as error:
        return (failed(_NAME, str(error), "pip install 'turnguard[shared]'"),)
    try:
        return (await _round_trip(memory),)
    finally:
        await memory.aclose()


async def _round_trip(memory: SharedMemory) -> Finding:
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
            return failed(_NAME, told, "Start it, or mend the address and the password in memory.url.")
        return failed(
            _NAME, "a verdict that was stored is not found again", "Give the store memory, and let it keep keys."
        )
    if took > LONGEST / 2:
        told = f"a look-up takes {took * 1000:.0f} ms; checks wait {LONGEST * 1000:.0f} ms at most"
        return note(_NAME, told, "Put the store nearer to the workers.")
    return ok(_NAME, f"a stored verdict is found again in {took * 1000:.1f} ms")
