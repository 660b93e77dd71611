"""The custom events that a tool writes while it runs, each shown once it is judged, in order."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import aclosing
from datetime import date, time, timedelta
from enum import Enum
from functools import partial
from numbers import Number
from typing import Any
from uuid import UUID

from turnguard.checking.stream import Released
from turnguard.core.decision import Decision
from turnguard.core.step import Part, Step, Text
from turnguard.langchain.judge import Judging
from turnguard.langchain.private_names import AMBIENT
from turnguard.langchain.results import plain
from turnguard.langchain.turn import aiter_
from turnguard.runtime import sync
from turnguard.transcripts import blocks
from turnguard.transcripts.conversation import Request
from turnguard.transcripts.fields import is_plain_key

Place = tuple[str | int, ...]
Event = tuple[tuple[Part, ...], tuple[tuple[Place, str], ...], Callable[[], Any]]
"""What an event holds to judge, its strings and where they stand in it, and what shows it."""

KEPT = 16_384
"""Characters of what was judged before that a check takes in again, at least: a tool may tell without end."""


class Telling:
    """Stands in the place of a tool's own stream writer. Safe to call from any thread.

    Events are judged like a streamed answer, in the windows of the guard's stream settings: each check is on all that
    the tool has told so far, so that nothing hides across two events; of long ones on their last `KEPT` characters and
    what is new. One without words or images is shown in its turn
    and costs no check. When a check withholds, nothing more is shown. `unjudged` is the writer itself, for our own
    events.
    """

    def __init__(
        self, judging: Judging, write: Callable[[Any], None], request: Callable[[], Request], tool: str
    ) -> None:
        self.unjudged = write
        self._judging = judging
        self._request = request
        self._tool = tool
        self._around = contextvars.copy_context()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[Event | None] | None = None
        self._showing: Future[Decision | None] | None = None
        self._told: list[Event] = []
        self._lengths: list[int] = []
        self._first = 0
        self._judged = 0

    def __call__(self, event: Any) -> None:
        """Show an event once it is judged."""
        event = as_it_is(event)
        self.tell(event, partial(self.unjudged, event))

    def tell(self, content: Any, show: Callable[[], Any]) -> None:
        """Call `show`, and await what it gives where that can be awaited, once the content is judged."""
        data = _data(plain(content))
        parts = tuple(block.part for block in blocks.read(None, artifact=_content(data)))
        strings = tuple((place, text) for place, text in _found(data) if isinstance(text, str))
        # LangGraph's writer asks for the run that it is called in, of which a tool's own threads know nothing
        context = contextvars.copy_context() if AMBIENT.get() else self._around.copy()
        here = partial(context.run, show)
        with self._lock:
            if self._loop is None or self._queue is None:
                if sync.loop_if_running() is None:
                    sync.run(asyncio.sleep(0))  # the bridge is there from now on
                self._loop, self._queue = sync.loop_if_running(), asyncio.Queue()
                assert self._loop is not None  # noqa: S101
                self._showing = asyncio.run_coroutine_threadsafe(self._show(self._queue), self._loop)
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (parts, strings, here))

    async def finished(self) -> Decision | None:
        """Wait until all is shown; the decision that withheld, None where none did."""
        if self._loop is None or self._queue is None or self._showing is None:
            return None
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)
        return await asyncio.wrap_future(self._showing)

    def abandon(self) -> None:
        """Show no more."""
        if self._showing is not None:
            self._showing.cancel()

    async def _show(self, queue: asyncio.Queue[Event | None]) -> Decision | None:
        async def events() -> AsyncIterator[Event]:
            while (event := await queue.get()) is not None:
                yield event

        released = Released(events(), self._measure, self._judge, self._judging.guard.stream_settings)
        async with aclosing(aiter_(released)) as passing:
            async for *_, show in passing:
                shown = show()
                if inspect.isawaitable(shown):
                    await shown
        return released.decision if released.withheld else None

    def _measure(self, event: Event) -> str:
        text = "".join(part.text if isinstance(part, Text) else "\ufffc" for part in event[0])
        self._told.append(event)
        self._lengths.append((self._lengths[-1] if self._lengths else 0) + len(text))
        return text

    async def _judge(self, text: str) -> Decision:
        count = next(at for at, length in enumerate(self._lengths, 1) if length >= len(text))
        self._leave_behind(count)
        told = self._told[self._first : count]
        parts = [part for event in told for part in event[0]]
        # words are joined as they came: a tool may tell what a model says, token by token
        words = "".join(part.text for part in parts if isinstance(part, Text))
        texts = [text for text in (words, _by_place(told)) if text.strip()]
        whole = (*map(Text, texts), *(part for part in parts if not isinstance(part, Text)))
        decision = await self._judging.check(Step("tool_result", whole, prompt=self._request().text, tool=self._tool))
        self._judged = count
        return decision

    def _leave_behind(self, count: int) -> None:
        """Leave judged events out that are far back. Seldom: checks that begin at one place share their windows."""
        ends = self._lengths
        if ends[count - 1] - (ends[self._first - 1] if self._first else 0) > 2 * KEPT:
            far = ends[self._judged - 1] - KEPT if self._judged else 0
            self._first = max(self._first, next(at for at, end in enumerate(ends) if end > far) if far > 0 else 0)


def as_it_is(event: Any) -> Any:
    """The event as it is now: what is shown is what was judged, whatever the tool writes into its own object later."""
    try:
        return copy.deepcopy(event)
    except Exception:  # noqa: BLE001 - what cannot be copied says so in ways of its own
        return event


def _by_place(told: list[Event]) -> str:
    """The words of events of several strings, each joined to what stood at its place before: of
    `{"type": "token", "content": "half a wo"}` the reader joins the contents alone.
    """
    if all(len(strings) < 2 for _, strings, _ in told):
        return ""
    places: dict[Place, list[str]] = {}
    for _, strings, _ in told:
        for place, text in strings:
            places.setdefault(place, []).append(text)
    return "\n".join("".join(texts) for texts in places.values() if len(set(texts)) > 1)


def _data(event: Any) -> Any:
    """An event with nothing in place of times, ids and numbers of other kinds, which hold no words."""
    if isinstance(event, Mapping):
        return {key: _data(item) for key, item in event.items()}
    if isinstance(event, (list, tuple)):
        return [_data(item) for item in event]
    if isinstance(event, Enum):
        return _data(event.value)
    if isinstance(event, (bool, int, float)):
        return event
    return None if isinstance(event, (Number, date, time, timedelta, UUID)) else event


def _content(event: Any) -> Any:
    """What of an event is content: nothing where it holds numbers alone; its one string where it has one, so that it is
    joined to that of the next event; else all of it.
    """
    found = [item for _, item in _found(event)]
    return None if not found else found[0] if len(found) == 1 and isinstance(found[0], str) else event


def _found(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not is_plain_key(str(key)):
                yield (*place, ""), key
            yield from _found(item, (*place, str(key)))
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from _found(item, (*place, at))
    elif value is not None and not isinstance(value, (bool, int, float)):
        yield place, value
