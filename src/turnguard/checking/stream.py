"""Streams that never show what was not judged.

Text is released in windows bounded by characters and by time; the next check overlaps generation. Each check judges the
whole response so far, so that nothing hides across a seam and the last check is the full text's own; windows that were
judged before are remembered and cost no request.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from turnguard.config.settings import StreamSettings
from turnguard.core.decision import Decision

C = TypeVar("C")

AHEAD = 4096
"""Chunks that generation may run ahead of what was released."""
BLANK = 2000
"""Characters of white space in a row that are judged; an endless row of them says nothing more and is not kept."""


@dataclass(frozen=True, slots=True)
class _Held(Generic[C]):
    """A chunk that waits, the length of all text up to and including it, and when it arrived."""

    chunk: C
    end: int
    arrived: float


class Released(Generic[C]):
    """The source's own chunks, each as soon as the text up to and including it was judged.

    `text_of` gives a chunk's text (empty for chunks without any; they keep their place). `judge` decides the whole text
    so far. A decision other than allow or flag ends the iteration: a rewrite or a review cannot be carried out on half
    a text, so both withhold. `decision` is the last one made, None when there was nothing to judge; `withheld` says
    whether it ended the stream. An error of the source is raised where it occurs, and what was not judged by then is
    never shown.
    """

    def __init__(
        self,
        source: AsyncIterable[C],
        text_of: Callable[[C], str],
        judge: Callable[[str], Awaitable[Decision]],
        settings: StreamSettings,
    ) -> None:
        self.decision: Decision | None = None
        self.withheld = False
        self.text = ""
        self._source = source
        self._text_of = text_of
        self._judge = judge
        self._settings = settings
        self._buffer: deque[_Held[C]] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended = False
        self._judged = 0
        self._half = ""
        self._blank = 0

    async def __aiter__(self) -> AsyncIterator[C]:
        puller = asyncio.ensure_future(self._pull())
        check: asyncio.Future[Decision] | None = None
        checked = 0
        try:
            while True:
                if check is None and not self.text[self._judged :].strip():
                    self._judged = len(self.text)  # white space alone is nothing to judge
                if check is None and self._due():
                    checked = len(self.text)
                    check = asyncio.ensure_future(self._judge(self.text))
                if check is None and (self._ended or not self._unjudged):
                    for chunk in self._take():
                        yield chunk
                    if self._ended and not self._unjudged:
                        await puller  # an error of the source is the caller's to see
                        return
                await self._wait(check)
                if puller.done() and not puller.cancelled() and puller.exception() is not None:
                    await puller
                if check is not None and check.done():
                    self.decision = check.result()
                    check = None
                    if not self.decision.allowed:
                        self.withheld = True
                        return
                    self._judged = checked
                    for chunk in self._take():
                        yield chunk
        finally:
            await _settle(puller, check)

    @property
    def _unjudged(self) -> int:
        return len(self.text) - self._judged

    @property
    def _patience(self) -> float:
        """Seconds until the oldest unjudged text has waited for `max_delay`."""
        oldest = next((held.arrived for held in self._buffer if held.end > self._judged), time.monotonic())
        return max(0.0, oldest + self._settings.max_delay - time.monotonic())

    def _due(self) -> bool:
        fresh = self._unjudged
        if not fresh:
            return False
        return self._ended or fresh >= self._settings.window or self._patience <= 0.0

    def _take(self) -> list[C]:
        taken: list[C] = []
        while self._buffer and self._buffer[0].end <= self._judged:
            taken.append(self._buffer.popleft().chunk)
        if len(self._buffer) < AHEAD:
            self._room.set()
        return taken

    async def _wait(self, check: asyncio.Future[Decision] | None) -> None:
        """Until something arrives, the check is done, or the oldest text has waited long enough."""
        patience = None
        if check is None and self._unjudged:
            patience = self._patience
        if self._ended and check is not None:
            await asyncio.wait({check})
            return
        arrival = asyncio.ensure_future(self._arrived.wait())
        try:
            awaited: set[asyncio.Future[Any]] = {arrival, check} if check is not None else {arrival}
            await asyncio.wait(awaited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrival.cancel()
        self._arrived.clear()

    async def _pull(self) -> None:
        """Read the source in one task of its own: generators may hold scopes that must not change tasks."""
        try:
            async for chunk in self._source:
                self._hear(self._text_of(chunk))
                self._buffer.append(_Held(chunk, len(self.text) + len(self._half), time.monotonic()))
                self._arrived.set()
                if len(self._buffer) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self.text += self._half
            self._half = ""
            self._ended = True
            self._arrived.set()

    def _hear(self, more: str) -> None:
        """Add to the text. Half of a surrogate pair waits for the other half: joined, they are one character."""
        if not more:
            return
        if self._half or "\ud800" <= more[-1] <= "\udbff":
            more = (self._half + more).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
            self._half = more[-1] if "\ud800" <= more[-1] <= "\udbff" else ""
            more = more[: len(more) - len(self._half)]
        words = more.strip()
        if words:
            self._blank = len(more) - len(more.rstrip())
        else:
            more = more[: max(0, BLANK - self._blank)]
            self._blank += len(more)
        self.text += more


async def _settle(puller: asyncio.Future[None], check: asyncio.Future[Decision] | None) -> None:
    """Cancel what still runs and see it end: no task outlives its stream."""
    running = [task for task in (puller, check) if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


class GuardedStream:
    """What `Guard.astream` returns: an async iterable of text. On a block the last chunk is the refusal.

    `decision` holds the decision once the stream has ended; None when there was no text at all.
    """

    def __init__(
        self,
        chunks: AsyncIterable[str],
        judge: Callable[[str], Awaitable[Decision]],
        refusal: Callable[[Decision], Awaitable[str]],
        settings: StreamSettings,
    ) -> None:
        self._refusal = refusal
        self._released = Released(_texts(chunks), str, judge, settings)

    @property
    def decision(self) -> Decision | None:
        """The last decision made; the one that withheld, when one did."""
        return self._released.decision

    async def __aiter__(self) -> AsyncIterator[str]:
        async for chunk in self._released:
            yield chunk
        decision = self._released.decision
        if self._released.withheld and decision is not None:
            yield decision.message or await self._refusal(decision)


async def _texts(chunks: AsyncIterable[object]) -> AsyncIterator[str]:
    """Without the deltas of None that servers send at the beginning and the end."""
    source = chunks.__aiter__()
    try:
        async for chunk in source:
            if isinstance(chunk, str):
                yield chunk
            elif chunk is not None:
                kind = type(chunk).__name__
                raise TypeError(f"astream takes text (str), not {kind}: pass the text of each chunk")
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
