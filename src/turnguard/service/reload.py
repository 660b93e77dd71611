"""Takes over a changed configuration: the new one is read and checked whole before anything of it counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from turnguard.config.document import Config
from turnguard.config.files import load
from turnguard.config.service import ServiceSettings
from turnguard.core.errors import ConfigError
from turnguard.service.access import Access
from turnguard.service.state import Service, check_policies, over_http

log = logging.getLogger("turnguard.service")

SECONDS = 1.0
"""How often the files are looked at."""

Mark = dict[Path, tuple[int, int, int] | None]
"""What tells one state of files from another: when each was written, its size, and which file it is."""


def watching(path: Path, settings: Callable[[Config], ServiceSettings]) -> Callable[[Service], asyncio.Future[None]]:
    """What begins to watch a configuration and the files that it names. `settings` gives those of the service."""
    return lambda service: asyncio.ensure_future(_watch(path, service, settings))


async def _watch(path: Path, service: Service, settings: Callable[[Config], ServiceSettings]) -> None:
    files = {path}
    await asyncio.to_thread(_load, path, files)
    seen = _mark(files)
    while True:
        await asyncio.sleep(SECONDS)
        now = _mark(files)
        if now == seen:
            continue
        seen = now
        try:
            config = await asyncio.to_thread(_load, path, files)
            take_over(service, config, settings(config))
            log.warning("%s: taken over, policy %s", path.name, config.policy.digest)
        except ConfigError as error:
            log.error("not taken over; what was loaded before stays: %s", error)  # noqa: TRY400 - a sentence of ours
        seen = _mark(files)


def take_over(service: Service, config: Config, settings: ServiceSettings) -> None:
    """Use other policies and keys from now on, all of them or none. What is under way ends as it began.

    Raises `ConfigError`, and changes nothing, where more than those has changed.
    """
    check_policies(config.policies, settings)
    access = Access(settings, service.workers)
    service.guard.reload(config)
    service.access, service.settings = access, settings


def _load(path: Path, files: set[Path]) -> Config:
    return over_http(load(path, read=files))


def _mark(files: Iterable[Path]) -> Mark:
    found: Mark = {}
    for file in files:
        try:
            status = file.stat()
            found[file] = status.st_mtime_ns, status.st_size, status.st_ino
        except OSError:
            found[file] = None
    return found
