"""Verdicts that several workers share through Redis or Valkey, behind each one's own memory.

The store may be slow, full, down or hostile: a check waits for it only briefly, and believes what it gives only where
that is authentic.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from urllib.parse import urlsplit

from turnguard import telemetry
from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import HERE, Deadline
from turnguard.moderators.endpoints import Breaker
from turnguard.moderators.memory_entries import Entries, Found, Refused
from turnguard.runtime.loops import PerLoop

SHARE = 0.1
LONGEST = 0.05
"""A look-up takes at most this share of the deadline, and at most this many seconds."""
LOG_SECONDS = 60.0

log = logging.getLogger("turnguard")


class SharedMemory:
    """The shared part of the memory. Never raises, and gives nothing where it is in doubt.

    `counts` says what became of look-ups (`hit`, `miss`, `refused`, `failed`), of verdicts on their way in (`stored`,
    `lost`), and how often the store was left alone because it failed lately (`skipped`).
    """

    def __init__(self, url: str, secret: str, seconds: float) -> None:
        try:
            from turnguard.moderators.memory_link import Link
        except ImportError:
            raise ConfigError("memory.url needs redis: pip install 'turnguard[shared]'") from None
        self.entries = Entries(secret, seconds)
        self.counts: Counter[str] = Counter()
        where, kept = url.replace("valkey", "redis", 1), max(1, round(seconds * 1000))
        self._links = PerLoop(lambda: Link(where, kept, self._stored))
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
        answer = await self._links.get().ask(name, min(LONGEST, deadline.remaining * SHARE))
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

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        if telemetry.listening():
            telemetry.shared_memory(what, 1)

    def _stored(self, reply: object) -> None:
        """Count what became of a verdict on its way in."""
        if isinstance(reply, Exception):
            self._count("lost")
            self._tell(reply)
        else:
            self._count("stored")

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
