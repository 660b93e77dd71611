"""Verdicts that several workers share through Redis or Valkey, behind each one's own memory.

The store may be slow, full, down or hostile: a check waits for it only briefly, and believes what it gives only where
that is authentic. Look-ups of the same moment go out as one request, and so do verdicts on their way in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from turnguard import telemetry
from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import HERE, Deadline
from turnguard.moderators.endpoints import Breaker
from turnguard.moderators.memory_entries import Entries, Found, Refused
from turnguard.runtime.loops import PerLoop

if TYPE_CHECKING:
    from redis.asyncio import Redis

SHARE = 0.1
LONGEST = 0.05
"""A look-up takes at most this share of the deadline, and at most this many seconds."""
PATIENCE = 1.0
"""Seconds that the store may take to answer before the connection is given up. Nobody waits beyond `LONGEST`, but
a connection that takes longer to be made is there for the next look-up.
"""
WAITING = 1024
"""Verdicts that wait for the store in one event loop. What is beyond that stays in this process's memory alone."""
LOG_SECONDS = 60.0

log = logging.getLogger("turnguard")

_Answer = bytes | Exception | None


class SharedMemory:
    """The shared part of the memory. Never raises, and gives nothing where it is in doubt.

    `counts` says what became of look-ups (`hit`, `miss`, `refused`, `failed`), of verdicts on their way in (`stored`,
    `lost`), and how often the store was left alone because it failed lately (`skipped`).
    """

    def __init__(self, url: str, secret: str, seconds: float) -> None:
        try:
            import redis.asyncio  # noqa: F401
        except ImportError:
            raise ConfigError("memory.url needs redis: pip install 'turnguard[shared]'") from None
        self.entries = Entries(secret, seconds)
        self.counts: Counter[str] = Counter()
        where, kept = url.replace("valkey", "redis", 1), max(1, round(seconds * 1000))
        self._links: PerLoop[_Link] = PerLoop(lambda: _Link(self, where, kept))
        place = urlsplit(url)
        self._place = f"{place.hostname}:{place.port or 6379}"
        self._reads = Breaker()
        self._next_line = 0.0

    async def get(self, identity: str, content: bytes, deadline: Deadline) -> Found | None:
        """What the model `identity` said of `content`."""
        if identity.startswith(HERE):
            return None
        if not self._reads.admits():
            self._count("skipped")
            return None
        name = self.entries.name(identity, content)
        asked = self._links.get().ask(name)
        await asyncio.wait((asked,), timeout=min(LONGEST, deadline.remaining * SHARE))
        answer: _Answer = asked.result() if asked.done() else TimeoutError()
        if isinstance(answer, Exception):
            self._reads.failed()
            self._count("failed")
            self._tell(answer)
            return None
        self._reads.succeeded()
        if answer is None:
            self._count("miss")
            return None
        try:
            found = self.entries.open(name, answer, time.time())
        except Refused as refusal:
            self._count("refused")
            self._tell(refusal)
            return None
        self._count("hit")
        return found

    def put(self, identity: str, content: bytes, verdict: Verdict, tenant: str | None) -> None:
        """Store a verdict that the model `identity` gave; returns at once."""
        if identity.startswith(HERE):
            return
        if not self._reads.closed:
            self._count("skipped")
            return
        name = self.entries.name(identity, content)
        try:
            entry = self.entries.seal(name, verdict, self.entries.tenant(tenant), time.time())
        except ValueError:  # half of a surrogate pair in the model's reply
            self._count("lost")
            return
        if not self._links.get().keep(name, entry):
            self._count("lost")

    async def aclose(self) -> None:
        """Store what waits, and close the connections that belong to this event loop."""
        await self._links.aclose()

    def _count(self, what: str, times: int = 1) -> None:
        self.counts[what] += times
        if telemetry.listening():
            telemetry.shared_memory(what, times)

    def stored(self, results: list[Any]) -> None:
        """Count what became of verdicts on their way in."""
        lost = [each for each in results if isinstance(each, Exception)]
        if len(results) > len(lost):
            self._count("stored", len(results) - len(lost))
        if lost:
            self._count("lost", len(lost))
            self._tell(lost[0])

    def _tell(self, error: Exception) -> None:
        """One line a minute. A server's own words stay out of it, but for the code that they begin with."""
        now = time.monotonic()
        if now < self._next_line:
            return
        self._next_line = now + LOG_SECONDS
        if isinstance(error, Refused):
            log.warning(
                "shared memory: %s gave an entry that is not authentic (%s); it counts as not found",
                self._place,
                error,
            )
            return
        code = str(error).split(" ", 1)[0]
        why = f"{type(error).__name__} {code}" if code.isupper() and code.isalpha() else type(error).__name__
        log.warning("shared memory: %s failed (%s); verdicts are remembered by this process alone", self._place, why)


class _Link:
    """One event loop's connections to the store."""

    def __init__(self, memory: SharedMemory, url: str, milliseconds: int) -> None:
        self._memory = memory
        self._client = _client(url)
        self._milliseconds = milliseconds
        self._asked: dict[bytes, asyncio.Future[_Answer]] = {}
        self._kept: dict[bytes, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.Task[None] | None = None

    def ask(self, name: bytes) -> asyncio.Future[_Answer]:
        """Return the value under `name`, or the reason that it is unknown.

        Names that are asked for in one turn of the event loop are fetched in one request.
        """
        answer = self._asked.get(name)
        if answer is None:
            loop = asyncio.get_running_loop()
            if not self._asked:
                loop.call_soon(self._send)
            answer = self._asked[name] = loop.create_future()
        return answer

    def keep(self, name: bytes, entry: bytes) -> bool:
        """Store an entry soon. False where too many wait already."""
        if len(self._kept) >= WAITING:
            return False
        self._kept[name] = entry
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())
        return True

    async def aclose(self) -> None:
        """Store what waits, as far as the store takes it, and close."""
        for task in list(self._tasks):
            task.cancel()
        if self._writer is not None and not self._writer.done():
            await asyncio.wait((self._writer,), timeout=PATIENCE)
            self._writer.cancel()
        if self._kept:
            await self._write()
        await self._client.aclose()

    def drop(self) -> None:
        """The sockets close as they are collected; the loop that could close them is gone."""

    def _send(self) -> None:
        asked, self._asked = self._asked, {}
        task = asyncio.get_running_loop().create_task(self._read(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, asked: dict[bytes, asyncio.Future[_Answer]]) -> None:
        try:
            found: list[Any] = list(await self._client.mget(list(asked)))
        except Exception as error:  # noqa: BLE001 - whatever the store does, a check goes on without it
            found = [error] * len(asked)
        for answer, value in zip(asked.values(), found, strict=False):
            if not answer.done():
                answer.set_result(value)

    async def _write(self) -> None:
        while self._kept:
            kept, self._kept = self._kept, {}
            try:
                pipeline = self._client.pipeline(transaction=False)
                for name, entry in kept.items():
                    pipeline.set(name, entry, px=self._milliseconds)
                results = await pipeline.execute(raise_on_error=False)
            except Exception as error:  # noqa: BLE001 - as above
                results = [error] * len(kept)
            self._memory.stored(results)


def _client(url: str) -> Redis:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis.from_url(
        url,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),  # the breaker decides when to ask again
        protocol=2,  # what every server of either kind speaks
        decode_responses=False,
        client_name="turnguard",
    )
