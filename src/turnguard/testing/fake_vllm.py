"""`FakeVLLM`: a vLLM server that serves a scripted moderator, on loopback, in its own thread."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from turnguard.core.families import DEFAULT, FAMILIES
from turnguard.sandbox.wire import (
    CHAT_PATH,
    Answer,
    ChatRequest,
    Completion,
    Label,
    ServerInfo,
    WireError,
    complete,
    parse_chat,
)
from turnguard.sandbox.wire.server import WireServer, close_unannounced, lowered, reset
from turnguard.testing import _sending, faults
from turnguard.testing._requests import RecordedRequest
from turnguard.testing._scripts import Matcher, Said, Scripts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turnguard.testing.faults import Fault


class FakeVLLM(WireServer):
    """A scripted vLLM on `http://127.0.0.1:<port>/v1`: `with FakeVLLM() as fake:` or `async with`.

    Says "safe" unless told otherwise. `family` is whose requests it takes and whose replies it gives. `latency` is in
    seconds. The switches, which may be changed while it runs, mimic another set-up, or a wrong one: `splits_reasoning`
    (a reasoning parser), `logprobs=False`, `drop_categories` (a proxy that strips unknown fields), `drop_images`
    (SGLang without its flag), `drop_response` (a template that never rates it), `image_limit` above the family's.

    Errors that a real server would give (wrong key, unknown model, bad image, a prompt above `max_model_len` tokens)
    come by themselves; anything else is planted with `fail`.
    """

    def __init__(
        self,
        *,
        model: str = "nemotron_moderator",
        family: str = DEFAULT,
        root: str | None = None,
        api_key: str | None = None,
        max_model_len: int = 4096,
        image_limit: int | None = None,
        latency: float | Callable[[ChatRequest], float] = 0.0,
        logprobs: bool = True,
        drop_categories: bool = False,
        drop_images: bool = False,
        drop_response: bool = False,
        splits_reasoning: bool = False,
        decode_images: bool = True,
        keep_alive: float = 5.0,
        seed: int = 0,
        port: int = 0,
    ) -> None:
        info = ServerInfo.of(
            family,
            model=model,
            root=root or FAMILIES[family].hub,
            max_model_len=max_model_len,
            image_limit=image_limit,
            api_key=api_key,
        )
        super().__init__(info, port=port, keep_alive=keep_alive, headers={"server": "uvicorn"})
        self.latency = latency
        self.logprobs = logprobs
        self.drop_categories = drop_categories
        self.drop_images = drop_images
        self.drop_response = drop_response
        self.splits_reasoning = splits_reasoning
        self.decode_images = decode_images
        self.requests: list[RecordedRequest] = []
        self.peak = 0
        """The most chat requests that were open at once."""
        self._scripts = Scripts(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    def reply(
        self,
        *,
        user: Label = "safe",
        response: Label | None = None,
        categories: Sequence[str] = (),
        p: float | None = None,
        p_response: float | None = None,
        raw: str | None = None,
        reasoning: str | None = None,
        times: int | None = None,
    ) -> None:
        """Say this from now on, or for the next `times` requests that no `when` answers.

        `p` is P(unsafe) of the user label, `p_response` of the response label; `response` None means safe, and is only
        said when an assistant turn was sent. `raw` is any text instead of a verdict, `reasoning` what the model thinks
        before it where the request asks for that.
        """
        said = Said(user, response, tuple(categories), p, p_response, raw, reasoning)
        if times is None:
            self._scripts.by_default(said)
        else:
            self._scripts.add(None, said, times)

    def when(
        self,
        match: Matcher,
        *,
        user: Label | None = None,
        response: Label | None = None,
        categories: Sequence[str] = (),
        p: float | None = None,
        p_response: float | None = None,
        raw: str | None = None,
        reasoning: str | None = None,
        times: int | None = None,
    ) -> None:
        """Say this when `match` fits: text that stands in the prompt or the response, an image's bytes (or their
        SHA-256 digest), or a predicate over the parsed request. The newest rule that fits wins.

        With neither `user` nor `response` given, the side on which the text stands is unsafe: `fake.when("bomb")`.
        """
        self._scripts.add(match, Said(user, response, tuple(categories), p, p_response, raw, reasoning), times)

    def fail(
        self, fault: Fault | str, *, times: int | None = None, when: Matcher | None = None, probability: float = 1.0
    ) -> None:
        """Plant a fault: one of `turnguard.testing.faults`, or the name of one that needs no argument.

        For the next `times` chat requests or for ever, only those that `when` fits, each with `probability` (seeded).
        The oldest that fits comes first.
        """
        self._scripts.plant(faults.NAMED[fault]() if isinstance(fault, str) else fault, when, times, probability)

    def heal(self) -> None:
        """Take back every planted fault."""
        self._scripts.heal()

    def reset(self) -> None:
        """Forget scripts, faults and records."""
        self._scripts.forget()
        self.requests.clear()
        self.peak = 0

    @property
    def chats(self) -> list[RecordedRequest]:
        """The recorded requests to the chat endpoint."""
        return [request for request in self.requests if request.path == CHAT_PATH]

    @contextmanager
    def down(self) -> Iterator[None]:
        """A dead server for the length of the block: no listener, open connections reset; the same port afterwards."""
        self._call(self._go_down)
        try:
            yield
        finally:
            self._call(self._listen)

    async def _answer(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        record = RecordedRequest(request.method, request.path, lowered(request), raw, time.monotonic())
        self.requests.append(record)
        response = await self._routed(request, lambda: self._chat(request, record))
        record.status = response.status
        return response

    async def _chat(self, request: web.BaseRequest, record: RecordedRequest) -> web.StreamResponse:
        try:
            record.body = json.loads(record.raw)
        except ValueError:
            record.body = None
        fault = self._scripts.fault_for(None)
        if fault is None:
            record.chat = self._parse(record.raw)
            fault = self._scripts.fault_for(record.chat)
        record.fault = fault
        self.counters.running += 1
        self.peak = max(self.peak, self.counters.running)
        try:
            if delay := self._delay(record.chat):
                await asyncio.sleep(delay)  # cancelled when the client goes
            return self._completed(record) if fault is None else await self._misbehave(request, record, fault)
        finally:
            self.counters.running -= 1

    def _delay(self, chat: ChatRequest | None) -> float:
        if callable(self.latency):
            return 0.0 if chat is None else self.latency(chat)
        return self.latency

    def _parse(self, raw: bytes) -> ChatRequest:
        return parse_chat(
            raw,
            model=self.info.model,
            max_model_len=self.info.max_model_len,
            image_limit=self.info.image_limit,
            drop_images=self.drop_images,
            decode_images=self.decode_images,
            family=self.info.family,
        )

    def _completion(self, record: RecordedRequest, fault: Fault | None = None) -> Completion:
        chat = record.chat
        if chat is None:
            chat = self._parse(record.raw)
            record.chat = chat
        answer: Answer | str | None = self._scripts.answer_to(chat)
        if self.drop_response and isinstance(answer, Answer):
            answer = replace(answer, response=None, p_response=None)
        answer = fault.content if fault is not None and fault.replaces_content else answer
        return complete(
            chat,
            answer,
            fingerprint=self.info.fingerprint,
            finish_reason=fault.finish_reason if fault is not None else None,
            with_logprobs=self.logprobs,
            with_categories=not self.drop_categories,
            splits_reasoning=self.splits_reasoning,
            request_id=record.headers.get("x-request-id"),
        )

    def _completed(self, record: RecordedRequest, fault: Fault | None = None) -> web.Response:
        completion = self._completion(record, fault)
        self.counters.finish(completion.finish_reason or "stop")
        extra = dict(fault.headers) if fault is not None else {}
        if not completion.request.stream:
            return self._response(_json(completion.body()), {"content-type": "application/json", **extra})
        headers = {"content-type": "text/event-stream; charset=utf-8", **extra}
        response = self._response(b"".join(completion.events()), headers)
        response.enable_chunked_encoding()
        return response

    async def _misbehave(self, request: web.BaseRequest, record: RecordedRequest, fault: Fault) -> web.StreamResponse:
        if fault.kind in {"refused", "reset", "hang"}:
            if fault.kind != "hang" and request.transport is not None:
                reset(request.transport)
            if fault.kind == "refused":
                self._tasks.add(task := asyncio.create_task(self._away(fault.seconds)))
                task.add_done_callback(self._tasks.discard)
            return await asyncio.Future()  # cancelled when the connection is gone
        if fault.kind == "reply":
            if fault.closes:
                close_unannounced(request)
            return self._response(fault.body, fault.headers, fault.status)
        try:
            whole = self._completed(record, fault)
        except WireError as failure:
            whole = self._refusal(request, failure)
        body = whole.body if isinstance(whole.body, bytes) else b""
        if fault.kind == "truncated":
            return self._response(body[: len(body) // 2], whole.headers)
        if fault.kind == "empty_choices":
            return self._response(_json({**self._completion(record).body(), "choices": []}), whole.headers)
        if fault.kind == "chat":
            return whole
        record.status = whole.status
        return await _sending.send(request, whole, body, fault)

    async def _away(self, seconds: float) -> None:
        """Refuse connections for a while."""
        await self._go_down()
        await asyncio.sleep(seconds)
        await self._listen()


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
