"""One model call under guard: what may be shown of a stream, and what becomes of the whole message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from turnguard.checking.stream import Released
from turnguard.core.decide import ALLOWED
from turnguard.core.decision import Decision
from turnguard.core.verdict import Coverage
from turnguard.langchain import notices
from turnguard.langchain.deadlines import Attempts
from turnguard.langchain.judge import Judging
from turnguard.langchain.messages import FOUND
from turnguard.langchain.rulings import Ruling, Surface
from turnguard.transcripts.conversation import Request
from turnguard.transcripts.fields import is_switch

T = TypeVar("T")

NOTHING = Decision("output", "allow", ALLOWED, (), Coverage(), ())
"""Said of a stretch of a stream that holds nothing to judge."""


@dataclass
class Turn:
    """Judges one model call's answer. `gate`, where given, is the verdict on its input, still under way.

    `again` says that the model may try once more when its answer is refused: then no refusal is shown yet. `seen` are
    the messages that were judged before this call. `given` are digests of what `rulings` put in place.
    """

    judging: Judging
    request: Request
    surface: Surface
    gate: asyncio.Task[Decision | None] | None = None
    again: bool = False
    seen: list[Any] = field(default_factory=list)
    rulings: list[Ruling] = field(default_factory=list)
    given: list[bytes] = field(default_factory=list)

    async def before(self, messages: list[BaseMessage]) -> tuple[list[BaseMessage], AIMessage | None]:
        """What to send, or what to answer instead of sending anything."""
        new = self.unseen(messages)
        if not new:
            return messages, None
        sent = list(messages)
        for one in self.judging.unknown(messages):
            if any(one.message is each for each in new):
                sent[one.at] = (await self.judging.rule(one.message, one.request)).message
        return sent, None

    def unseen(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        """What middleware between us and the model has put in of its own, such as documents it found."""
        count = len(self.seen)
        if count and messages[-count:] == self.seen:  # the very objects, mostly: Python compares those by identity
            messages = messages[:-count]
        elif count:
            seen = set(map(id, self.seen))
            messages = [message for message in messages if id(message) not in seen]
        return [message for message in messages if self.judging.concerns(message)]

    async def rule(self, message: Any, attempts: Attempts | None = None) -> AIMessage:
        """What stands in the place of a whole answer. `attempts` are the checks of its beginnings, as it streamed."""
        stopped = await self.stopped()
        if stopped is not None:
            return await self._refused(message, stopped)
        return self._ruled(await self.judging.rule(message, self.request, self.surface, attempts))

    async def stopped(self) -> Decision | None:
        """The decision that the input was refused, once it is known."""
        return None if self.gate is None else await self.gate

    async def race(self, answer: Awaitable[T]) -> T | None:
        """The model's answer; None when the input was refused first, and the call is then cancelled."""
        if self.gate is None:
            return await answer
        call: asyncio.Future[T] = asyncio.ensure_future(answer)
        try:
            racing: set[asyncio.Future[Any]] = {call, self.gate}
            await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            if await self._refused_already():
                return None
            return await call
        finally:
            if not call.done():
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)

    async def _refused_already(self) -> bool:
        return self.gate is not None and self.gate.done() and await self.gate is not None

    async def stream(self, source: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
        """The source's chunks as they pass; at the end the ruling stands in `rulings`."""
        heard = _Heard(self, source)
        released = Released(heard.chunks(), heard.measure, heard.judge, self.judging.guard.stream_settings)
        shown: list[AIMessageChunk] = []
        try:
            async with aclosing(aiter_(released)) as passing:
                async for chunk in passing:
                    shown.append(chunk)
                    yield chunk
            stopped = await self.stopped()
            if stopped is None and released.withheld and released.decision is not None:
                if released.decision.stage == "output":
                    stopped = released.decision
                else:
                    await (
                        heard.rest()
                    )  # a call or a result was withheld, not the message: the agent goes on with the rest
            if stopped is None and not heard.all:
                return
            for last in await self._closed(heard, shown, stopped, released.withheld):
                yield last
        finally:
            await heard.aclose()

    async def _closed(
        self, heard: _Heard, shown: list[AIMessageChunk], stopped: Decision | None, withheld: bool
    ) -> list[AIMessageChunk]:
        """Settle the ruling; what is still to be shown of it."""
        whole = heard.merged(len(heard.all))
        if stopped is not None:
            refusal = await self._refused(whole, stopped, shown)
        else:
            ruled = await self.rule(whole, heard.attempts)
            if self.rulings[-1].ended is None:
                return [] if shown or not withheld else [as_chunk(ruled)]
            refusal = ruled
        if self.again and (stopped is None or stopped.stage != "input"):
            return [] if shown else [AIMessageChunk(content="", id=refusal.id)]  # the next try speaks in its place
        text = self.rulings[-1].refusal
        last = AIMessageChunk(content=text, id=refusal.id, response_metadata=_mark(refusal), chunk_position="last")
        return [AIMessageChunk(content="\n\n", id=refusal.id), last] if shown else [last]

    async def _refused(self, message: Any, decision: Decision, shown: list[AIMessageChunk] = []) -> AIMessage:  # noqa: B006
        """A refusal in place of the message, with what was shown before it where the settings keep that."""
        original = message if isinstance(message, AIMessage) else None
        refusal = await self.judging.refusal(decision)
        text = refusal
        if self.judging.guard.stream_settings.keep_shown_prefix and decision.stage == "output":
            said = "".join(str(chunk.text) for chunk in shown)
            text = f"{said}\n\n{refusal}" if said.strip() else refusal
        seen = () if decision.stage == "input" else (decision,)
        ruling = Ruling(notices.ai(original, text, notices.about(decision)), seen, ended=decision, refusal=refusal)
        self.judging.accept(ruling.message, self.request)
        return self._ruled(ruling)

    def _ruled(self, ruling: Ruling) -> AIMessage:
        message: AIMessage = ruling.message
        self.rulings.append(ruling)
        self.given.append(self.judging.digest(message, self.request))
        return message

    def ruling(self, message: BaseMessage) -> Ruling | None:
        """The newest ruling on a message. LangChain names a message without an id after it was ruled on, and builds a
        streamed one anew, so that one may have any id.
        """
        for ruling in reversed(self.rulings):
            if ruling.message is message or ruling.message.id in (None, message.id):
                return ruling
        return None

    def unchanged(self, message: AIMessage) -> bool:
        """Whether a message has the content that was ruled on: whoever holds the object may have written into it."""
        return self.judging.digest(message, self.request) in self.given


class _Heard:
    """What a model has said so far, read in a task of its own so that it can be heard out when showing has ended."""

    def __init__(self, turn: Turn, source: AsyncIterator[Any]) -> None:
        self.all: list[AIMessageChunk] = []
        self.attempts = Attempts()
        self._turn = turn
        self._source = source
        self._queue: asyncio.Queue[AIMessageChunk | None] = asyncio.Queue()
        self._lengths: list[int] = []
        self._merged: AIMessageChunk | None = None
        self._count = 0
        self._task = asyncio.ensure_future(self._listen())
        if turn.gate is not None:
            turn.gate.add_done_callback(self._gate_closed)

    async def _listen(self) -> None:
        try:
            async for said in self._source:
                chunk = as_chunk(said)
                self.all.append(chunk)
                self._queue.put_nowait(chunk)
        finally:
            self._queue.put_nowait(None)

    def _gate_closed(self, gate: asyncio.Task[Decision | None]) -> None:
        if gate.cancelled() or gate.exception() is not None or gate.result() is not None:
            self._task.cancel()

    async def chunks(self) -> AsyncIterator[AIMessageChunk]:
        """The chunks in order; an error of the model is raised after the last."""
        while (chunk := await self._queue.get()) is not None:
            yield chunk
        if not self._task.cancelled() and self._task.done() and self._task.exception() is not None:
            await self._task

    def measure(self, chunk: AIMessageChunk) -> str:
        """As many characters as there is new content in a chunk, whatever its kind."""
        text = _content_of(chunk.content) + _content_of(chunk.additional_kwargs)
        if chunk.response_metadata:
            text += _content_of({key: chunk.response_metadata[key] for key in FOUND if key in chunk.response_metadata})
        for call in chunk.tool_call_chunks:
            text += (call["name"] or "") + (call["args"] or "")
        self._lengths.append((self._lengths[-1] if self._lengths else 0) + len(text))
        return text

    async def judge(self, text: str) -> Decision:
        """Judge everything up to that many characters."""
        stopped = await self._turn.stopped()
        if stopped is not None:
            return stopped
        count = next(at for at, length in enumerate(self._lengths, 1) if length >= len(text))
        message = self.merged(count)
        if message is None:
            return NOTHING
        turn = self._turn
        return await turn.judging.prefix(message, turn.request, turn.surface, self.attempts) or NOTHING

    def merged(self, count: int) -> AIMessageChunk | None:
        """The first `count` chunks as one. Request for in rising order."""
        if count < self._count:
            self._merged, self._count = None, 0
        for chunk in self.all[self._count : count]:
            self._merged = chunk if self._merged is None else self._merged + chunk
        self._count = max(self._count, count)
        return self._merged

    async def rest(self) -> None:
        """Hear the model out."""
        await self._task

    async def aclose(self) -> None:
        """Stop listening, and see it end."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await asyncio.gather(close(), return_exceptions=True)


def aiter_(released: Released[Any]) -> Any:
    """The async generator behind an iteration, so that it can be closed."""
    return released.__aiter__()


_USUAL = {"text", "thinking", "reasoning", "reasoning_content", "content", "summary", "partial_json", "annotations"}


def _content_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return "".join(
            ("" if key in _USUAL else str(key)) + _content_of(value)
            for key, value in content.items()
            if not (key in ("type", "index", "id") and is_switch(key, value))
        )
    if isinstance(content, list):
        return "".join(map(_content_of, content))
    return "" if content is None or isinstance(content, (bool, int, float)) else "\ufffc"


def _mark(message: AIMessage) -> dict[str, Any]:
    return {notices.KEY: dict(notices.marked(message))}


def as_chunk(message: Any) -> AIMessageChunk:
    """A chunk of a stream; of what cannot stream, the whole message or text as the only one."""
    if isinstance(message, AIMessageChunk):
        return message
    if isinstance(message, str):
        return AIMessageChunk(content=message)
    return AIMessageChunk(
        content=message.content,
        additional_kwargs=message.additional_kwargs,
        id=message.id,
        name=message.name,
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        tool_calls=message.tool_calls,
        invalid_tool_calls=message.invalid_tool_calls,
        chunk_position="last",
    )
