"""The URLs of one step: each is fetched once, a few at a time, all before one deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnguard.media.types import Unreadable

if TYPE_CHECKING:
    from turnguard.config.settings import MediaSettings
    from turnguard.media.urls.allow import Allowed

FEW = 4
"""Fetches open at once."""
_LONGEST = 10.0  # seconds for all of them
_OF_DEADLINE = 2 / 3  # what was fetched must still be read and judged


class Fetches:
    """Fetches for one step, inside one event loop. Making one is cheap."""

    def __init__(self, allowed: Allowed, settings: MediaSettings) -> None:
        self._allowed, self._settings = allowed, settings
        self._tasks: dict[str, asyncio.Future[bytes]] = {}
        self._room = asyncio.Semaphore(FEW)
        self._until: float | None = None

    async def get(self, url: str) -> bytes:
        """The bytes at `url`, fetched by whoever asks first; `Unreadable` with the cause for everyone."""
        task = self._tasks.get(url)
        if task is None:
            most = self._settings.max_urls
            if len(self._tasks) >= most:
                raise Unreadable(f"more than {most} addresses in one step")
            task = self._tasks[url] = asyncio.ensure_future(self._fetched(url))
        return await task

    async def _fetched(self, url: str) -> bytes:
        from turnguard.media.urls.fetch import fetch

        loop = asyncio.get_running_loop()
        if self._until is None:
            self._until = loop.time() + min(_LONGEST, self._settings.deadline * _OF_DEADLINE)
        try:
            async with asyncio.timeout_at(self._until), self._room:
                return await fetch(url, self._allowed, self._settings.max_bytes)
        except TimeoutError:
            raise Unreadable("fetching took too long") from None
