"""Judged once: verdicts remembered by content, and one request for identical checks under way.

A verdict is kept under the identity of the model that gave it and a keyed digest of everything that makes the request
(text, picture, response); never the policy, so that a changed policy needs no new call. It is found only while whoever
would be asked has that identity: where replicas differ, nothing is. Failures are not remembered. What this process does
not remember is looked up in the memory that workers share, where there is one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from turnguard.core.errors import ModeratorError, Timeout
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline, Moderator, Wrapper, about
from turnguard.runtime.caches import Cache
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from turnguard.moderators.memory_entries import Found
    from turnguard.moderators.memory_shared import SharedMemory

ENTRIES = 50_000
SECONDS = 3600.0
BYTES = 64_000_000
OVERHEAD = 600
"""Bytes that a remembered verdict holds beside its texts, roughly: the object with its key and entry."""

Key = tuple[str, bytes]
"""The identity of the model that answered, and the digest of what it was asked."""
Flights = dict[bytes, "asyncio.Future[Verdict | None] | None"]
"""Requests under way in one event loop, by the digest of what is asked. Each belongs to the task that began it, and no
other task is made for it; its future is made for the first who waits for the same. None comes out where whoever asked
has left.
"""


MOST_TENANTS = 8
"""Tenants that a verdict is known to have been shown to. Another one is told nothing of the others."""


@dataclass(slots=True)
class _Kept:
    """A verdict, whom it was shown to, and how it looks to those."""

    verdict: Verdict
    tenants: tuple[str | None, ...]
    again: Verdict | None = None

    def shown(self, tenant: str | None) -> Verdict:
        """The verdict, marked as remembered where this tenant has asked before."""
        if tenant not in self.tenants:
            self.tenants = (*self.tenants[1 - MOST_TENANTS :], tenant)
            return self.verdict
        if self.again is None:  # most verdicts are never asked for again
            self.again = replace(self.verdict, remembered=True)
        return self.again


class Remembering(Wrapper):
    """Remembers `inner`'s verdicts in memory: at most `entries`, at most `max_bytes`, each for `seconds`. `shared` is
    asked for what this process does not remember.
    """

    managed = True

    def __init__(
        self,
        inner: Moderator,
        entries: int = ENTRIES,
        seconds: float = SECONDS,
        max_bytes: int = BYTES,
        shared: SharedMemory | None = None,
    ) -> None:
        super().__init__(inner)
        self.shared = shared
        self._secret = os.urandom(32) if shared is None else shared.entries.content_key
        self._lock = threading.Lock()
        self._verdicts: Cache[Key, _Kept] = Cache(entries, weight=max_bytes, weigh=_size, seconds=seconds)
        # flights belong to the event loop that they run in, and go with it
        self._flights: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Flights] = weakref.WeakKeyDictionary()
        watch(self)

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """A remembered verdict at once (`remembered=True`), one that is under way, or a new one."""
        content = self._digest(exchange)
        who = (await about(self.inner, deadline)).identity
        kept = None if who is None else self._verdicts.get((who, content))
        if kept is not None:
            return kept.shown(exchange.tenant)
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            with self._lock:
                flights = self._flights.setdefault(loop, {})
        while True:
            if content not in flights:
                return await self._fly(flights, content, who, exchange, deadline)
            try:
                verdict = await _landing(flights, content)
            except Timeout:
                # that one had the deadline of whoever began it; with time of our own left, fly again
                if deadline.remaining <= 0.05:
                    raise
            else:
                if verdict is not None:
                    return verdict

    async def aclose(self) -> None:
        """Forget everything and close the inner moderator."""
        self._verdicts.clear()
        await super().aclose()
        if self.shared is not None:
            await self.shared.aclose()

    def _digest(self, exchange: Exchange) -> bytes:
        """Names everything that makes the request, and cannot be computed without the key."""
        digest = hashlib.blake2b(key=self._secret, digest_size=20)
        for piece in (exchange.prompt, exchange.response):
            data = b"" if piece is None else piece.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%d;" % (piece is not None, len(data)))
            digest.update(data)
        if exchange.picture is not None:
            digest.update(exchange.picture.digest)
        if exchange.own is not None:
            digest.update(b"own;" + exchange.own.digest)
        return digest.digest()

    def _after_fork(self) -> None:
        self._lock, self._flights = threading.Lock(), weakref.WeakKeyDictionary()

    async def _fly(
        self, flights: Flights, content: bytes, who: str | None, exchange: Exchange, deadline: Deadline
    ) -> Verdict:
        """Ask, in the task of whoever asked first, and give the answer to those who wait for the same."""
        flights[content] = None
        found: Found | None = None
        try:
            if self.shared is not None and who is not None:
                found = await self.shared.get(who, content, deadline)
            verdict = await self.inner.judge(exchange, deadline) if found is None else found.verdict
        except Exception as error:
            if (landing := flights.pop(content)) is not None and not landing.done():
                landing.set_exception(error)
                landing.exception()  # they may all have left
            raise
        except BaseException:  # cancelled: those who wait are not, and one of them asks in its place
            if (landing := flights.pop(content)) is not None and not landing.done():
                landing.set_result(None)
            raise
        if (landing := flights.pop(content)) is not None and not landing.done():
            landing.set_result(verdict)
        if found is not None and self.shared is not None and who is not None:
            known = found.tenant == self.shared.entries.tenant(exchange.tenant)
            kept = _Kept(verdict, (exchange.tenant,) if known else ())
            self._verdicts.put((who, content), kept, found.left)
            return kept.shown(exchange.tenant)
        decides = verdict.user if exchange.response is None else verdict.response
        if verdict.failure is None and decides is not None and (identity := verdict.identity or who) is not None:
            self._verdicts.put((identity, content), _Kept(verdict, (exchange.tenant,)))
            if self.shared is not None:
                self.shared.put(identity, content, verdict, exchange.tenant)
        return verdict


async def _landing(flights: Flights, content: bytes) -> Verdict | None:
    """The verdict of a request under way; None where whoever asked has left."""
    landing = flights[content]
    if landing is None:
        landing = flights[content] = asyncio.get_running_loop().create_future()
    try:
        return await asyncio.shield(landing)
    except ModeratorError as error:
        # several waiters share one exception object; a traceback must not grow with each of them
        raise error.with_traceback(None) from None


def _size(kept: _Kept) -> int:
    """Return roughly how many bytes a remembered verdict takes."""
    verdict = kept.verdict
    names = (*verdict.categories, *verdict.unknown_categories, *verdict.native)
    return OVERHEAD + len(verdict.raw or "") + len(verdict.reasoning or "") + sum(map(len, names))
