"""Judged once: verdicts remembered by content, and one request for identical checks under way.

The key is a keyed digest of everything that makes the request (text, picture, response) and of the moderator's
identity; never the policy, so that a changed policy needs no new call. A verdict belongs to its exact combination of
text and pixels. Failures are not remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass, replace

from turnguard.core.errors import ModeratorError, Timeout
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import About, Deadline, Moderator, Wrapper, about
from turnguard.runtime.fork import watch

ENTRIES = 50_000
SECONDS = 3600.0
BYTES = 64_000_000
OVERHEAD = 600
"""Bytes that a remembered verdict holds beside its texts, roughly: the object with its key and entry."""

Key = bytes
Flights = dict[Key, "asyncio.Future[Verdict | None] | None"]
"""Requests under way in one event loop. Each belongs to the task that began it, and no other task is made for it; its
future is made for the first who waits for the same. None comes out where whoever asked has left.
"""


@dataclass(slots=True)
class _Entry:
    until: float
    verdict: Verdict
    size: int


class Remembering(Wrapper):
    """Remembers `inner`'s verdicts in memory: at most `entries`, at most `max_bytes`, each for `seconds`."""

    managed = True

    def __init__(
        self, inner: Moderator, entries: int = ENTRIES, seconds: float = SECONDS, max_bytes: int = BYTES
    ) -> None:
        super().__init__(inner)
        self.entries = entries
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.hits = 0
        self._secret = os.urandom(32)
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[Key, _Entry] = OrderedDict()
        self._bytes = 0
        # flights belong to the event loop that they run in, and go with it
        self._flights: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Flights] = weakref.WeakKeyDictionary()
        watch(self)

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """A remembered verdict at once (`remembered=True`), one that is under way, or a new one."""
        key = self._key(exchange, await about(self.inner, deadline))
        found = self._find(key)
        if found is not None:
            return found
        flights = self._under_way()
        while True:
            if key not in flights:
                return await self._fly(flights, key, exchange, deadline)
            try:
                verdict = await _landing(flights, key)
            except Timeout:
                # that one had the deadline of whoever began it; with time of our own left, fly again
                if deadline.remaining <= 0.05:
                    raise
            else:
                if verdict is not None:
                    return verdict

    async def aclose(self) -> None:
        """Forget everything and close the inner moderator."""
        with self._lock:
            self._verdicts.clear()
            self._bytes = 0
        await super().aclose()

    def _key(self, exchange: Exchange, who: About) -> Key:
        digest = hashlib.blake2b(key=self._secret, digest_size=20)
        digest.update(who.identity.encode())
        for piece in (exchange.prompt, exchange.response):
            data = b"" if piece is None else piece.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%d;" % (piece is not None, len(data)))
            digest.update(data)
        if exchange.picture is not None:
            digest.update(exchange.picture.digest)
        return digest.digest()

    def _find(self, key: Key) -> Verdict | None:
        with self._lock:
            entry = self._verdicts.get(key)
            if entry is None:
                return None
            if entry.until < time.monotonic():
                self._drop(key)
                return None
            self._verdicts.move_to_end(key)
            self.hits += 1
            if not entry.verdict.remembered:  # marked when it is first asked for again, which most never are
                entry.verdict = replace(entry.verdict, remembered=True)
            return entry.verdict

    def _keep(self, key: Key, verdict: Verdict) -> None:
        with self._lock:
            if key in self._verdicts:
                self._drop(key)
            names = sum(map(len, (*verdict.categories, *verdict.unknown_categories)))
            size = OVERHEAD + len(verdict.raw or "") + names
            self._verdicts[key] = _Entry(time.monotonic() + self.seconds, verdict, size)
            self._bytes += size
            while len(self._verdicts) > self.entries or self._bytes > self.max_bytes:
                self._drop(next(iter(self._verdicts)))

    def _drop(self, key: Key) -> None:
        self._bytes -= self._verdicts.pop(key).size

    def _after_fork(self) -> None:
        self._lock, self._flights = threading.Lock(), weakref.WeakKeyDictionary()

    def _under_way(self) -> Flights:
        """The flights of this event loop."""
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            with self._lock:
                flights = self._flights.setdefault(loop, {})
        return flights

    async def _fly(self, flights: Flights, key: Key, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Ask, in the task of whoever asked first, and give the answer to those who wait for the same."""
        flights[key] = None
        try:
            verdict = await self.inner.judge(exchange, deadline)
        except Exception as error:
            if (landing := flights.pop(key)) is not None and not landing.done():
                landing.set_exception(error)
                landing.exception()  # they may all have left
            raise
        except BaseException:  # cancelled: those who wait are not, and one of them asks in its place
            if (landing := flights.pop(key)) is not None and not landing.done():
                landing.set_result(None)
            raise
        if (landing := flights.pop(key)) is not None and not landing.done():
            landing.set_result(verdict)
        decides = verdict.user if exchange.response is None else verdict.response
        if verdict.failure is None and decides is not None:
            self._keep(key, verdict)
        return verdict


async def _landing(flights: Flights, key: Key) -> Verdict | None:
    """The verdict of a request under way; None where whoever asked has left."""
    landing = flights[key]
    if landing is None:
        landing = flights[key] = asyncio.get_running_loop().create_future()
    try:
        return await asyncio.shield(landing)
    except ModeratorError as error:
        # several waiters share one exception object; a traceback must not grow with each of them
        raise error.with_traceback(None) from None
