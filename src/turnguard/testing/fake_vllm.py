"""`FakeVLLM`: a vLLM server that serves a scripted moderator, on loopback, in its own thread."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnguard.sandbox.wire import (
    CHAT_PATH,
    Answer,
    ChatRequest,
    Completion,
    Counters,
    Label,
    ServerInfo,
    WireError,
    authorise,
    complete,
    parse_chat,
    route,
)
from turnguard.testing import faults as _faults
from turnguard.testing._http import Connection, HttpReply, HttpRequest

if TYPE_CHECKING:
    from turnguard.testing.faults import Fault

Matcher = str | bytes | Callable[[ChatRequest], bool]
"""Text that stands in the prompt or the response, an image's bytes (or its SHA-256 digest), or a predicate."""


@dataclass(slots=True)
class RecordedRequest:
    """One request as the server saw it. `at` is `time.monotonic()`; `body` is parsed JSON, None where it is none; `chat` is the
    request as the model would read it, None for other paths and for what was refused."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes = field(repr=False)
    at: float
    body: Any = field(default=None, repr=False)
    chat: ChatRequest | None = None
    fault: Fault | None = None
    status: int | None = None


@dataclass(slots=True)
class _Script:
    """What to answer when: `match` None is always; `left` None is for ever."""

    match: Matcher | None
    answer: Callable[[ChatRequest], Answer | str | None]
    left: int | None = None


@dataclass(slots=True)
class _Planted:
    fault: Fault
    match: Matcher | None
    left: int | None
    probability: float


class FakeVLLM:
    """A scripted vLLM on `http://127.0.0.1:<port>/v1`: `with FakeVLLM() as fake:` or `async with`, from sync and async tests alike.

    Says "safe" unless told otherwise. `latency` is in seconds. The switches mimic a server or a proxy that is set up wrong:
    `logprobs=False`, `drop_categories` (a proxy that strips unknown fields), `drop_images` (SGLang without its flag),
    `drop_response` (a template that never rates the response), `image_limit` above 1. They may be changed while it runs.

    Errors that a real server would give (wrong key, unknown model, bad image, a prompt above `max_model_len` tokens) come by
    themselves; anything else is planted with `fail`.
    """

    def __init__(
        self,
        *,
        model: str = "nemotron_moderator",
        root: str = "nvidia/Nemotron-3-Content-Safety",
        api_key: str | None = None,
        max_model_len: int = 4096,
        image_limit: int = 1,
        latency: float | Callable[[ChatRequest], float] = 0.0,
        logprobs: bool = True,
        drop_categories: bool = False,
        drop_images: bool = False,
        drop_response: bool = False,
        decode_images: bool = True,
        keep_alive: float = 5.0,
        seed: int = 0,
        port: int = 0,
    ) -> None:
        self.info = ServerInfo(model, root, max_model_len, image_limit, api_key)
        self.latency = latency
        self.logprobs = logprobs
        self.drop_categories = drop_categories
        self.drop_images = drop_images
        self.drop_response = drop_response
        self.decode_images = decode_images
        self.keep_alive = keep_alive
        self.port = port
        self.requests: list[RecordedRequest] = []
        self.peak = 0
        """The most chat requests that were open at once."""
        self.counters = Counters()
        self._random = random.Random(seed)  # noqa: S311 - which request fails is no secret
        self._default = _Script(None, lambda chat: _verdict(chat, None, None, (), None, None))
        self._scripts: list[_Script] = []
        self._planted: list[_Planted] = []
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
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
        times: int | None = None,
    ) -> None:
        """Say this from now on, or for the next `times` requests that no `when` answers.

        `p` is P(unsafe) of the user label, `p_response` of the response label; `response` None means safe, and is only said
        when an assistant turn was sent. `raw` is any text instead of a verdict.
        """
        script = _Script(None, _answering(user, response, categories, p, p_response, raw), times)
        with self._lock:
            if times is None:
                self._default = script
            else:
                self._scripts.append(script)

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
        times: int | None = None,
    ) -> None:
        """Say this when `match` fits; the newest rule that fits wins.

        With neither `user` nor `response` given, the side on which the text stands is unsafe: `fake.when("bomb")`.
        """
        said = _answering(user, response, categories, p, p_response, raw)
        if user is None and response is None and raw is None:
            said = _where_it_stands(match, categories, p, p_response)
        with self._lock:
            self._scripts.append(_Script(match, said, times))

    def fail(
        self, fault: Fault | str, *, times: int | None = None, when: Matcher | None = None, probability: float = 1.0
    ) -> None:
        """Plant a fault (of `turnguard.testing.faults`, or the name of one that needs no argument): for the next `times` chat
        requests or for ever, only those that `when` fits, each with `probability` (seeded). The oldest that fits comes first."""
        made = _faults.NAMED[fault]() if isinstance(fault, str) else fault
        with self._lock:
            self._planted.append(_Planted(made, when, times, probability))

    def heal(self) -> None:
        """Take back every planted fault."""
        with self._lock:
            self._planted.clear()

    def reset(self) -> None:
        """Forget scripts, faults and records."""
        with self._lock:
            self._scripts.clear()
            self._planted.clear()
            self._default = _Script(None, lambda chat: _verdict(chat, None, None, (), None, None))
        self.requests.clear()
        self.peak = 0

    @property
    def base_url(self) -> str:
        """What a client takes as `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def chats(self) -> list[RecordedRequest]:
        """The recorded requests to the chat endpoint."""
        return [request for request in self.requests if request.path == CHAT_PATH]

    def start(self) -> FakeVLLM:
        """Listen; returns when it does. `with` does this."""
        if self._thread is not None:
            raise RuntimeError("this FakeVLLM is running already")
        ready: list[BaseException] = []
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(up, ready), name="turnguard-fake-vllm", daemon=True)
        self._thread.start()
        up.wait()
        if ready:
            self._thread.join()
            self._thread = None
            raise ready[0]
        return self

    def stop(self) -> None:
        """Close the listener and every connection; the thread is gone when this returns."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None
        self._loop = None

    @contextmanager
    def down(self) -> Iterator[None]:
        """A dead server for the length of the block: no listener, open connections reset; the same port afterwards."""
        self._call(self._go_down)
        try:
            yield
        finally:
            self._call(self._listen)

    def __enter__(self) -> FakeVLLM:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> FakeVLLM:
        return self.start()

    async def __aexit__(self, *exc: object) -> None:
        self.stop()

    def _call(self, work: Callable[[], Any]) -> None:
        """Run a coroutine function on the server's loop and wait for it."""
        if self._loop is None:
            raise RuntimeError("this FakeVLLM is not running")
        asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    def _run(self, up: threading.Event, failed: list[BaseException]) -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._listen())
        except OSError as failure:
            failed.append(failure)
            loop.close()
            up.set()
            return
        self._loop = loop
        up.set()
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(self._shut())
            loop.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._serve, self._connections, self.keep_alive), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _go_down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _shut(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._go_down()
        # Closing a transport takes two turns of the loop: connection_lost, then the socket.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _serve(self, request: HttpRequest, connection: Connection) -> None:
        record = RecordedRequest(request.method, request.path, request.headers, request.body, time.monotonic())
        self.requests.append(record)
        try:
            authorise(self.info, request.path, request.headers)
            if request.path != CHAT_PATH or request.method != "POST":
                kind, body = route(self.info, self.counters, request.method, request.path)
                self._send(connection, record, HttpReply(200, {"content-type": kind}, body))
                return
            try:
                record.body = json.loads(request.body)
            except ValueError:
                record.body = None
            fault = self._fault_for(None)
            if fault is None:
                record.chat = self._parse(request.body)
                fault = self._fault_for(record.chat)
        except WireError as failure:
            headers = {"content-type": "application/json", **failure.headers}
            self._send(connection, record, HttpReply(failure.status, headers, failure.payload, failure.closes))
            return
        record.fault = fault
        self.counters.running += 1
        self.peak = max(self.peak, self.counters.running)
        delay = self.latency(record.chat) if callable(self.latency) and record.chat is not None else self.latency
        if fault is None and not delay:
            self._send(connection, record, self._completion_reply(record))
            self._finished()
            return
        task = asyncio.get_running_loop().create_task(self._later(connection, record, fault, delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _later(
        self, connection: Connection, record: RecordedRequest, fault: Fault | None, delay: float | Callable[..., float]
    ) -> None:
        try:
            if not callable(delay) and delay:
                await asyncio.sleep(delay)
            if fault is None:
                self._send(connection, record, self._completion_reply(record))
            else:
                await self._misbehave(connection, record, fault)
        finally:
            self._finished()

    def _finished(self) -> None:
        self.counters.running -= 1

    def _parse(self, raw: bytes) -> ChatRequest:
        return parse_chat(
            raw,
            model=self.info.model,
            max_model_len=self.info.max_model_len,
            image_limit=self.info.image_limit,
            drop_images=self.drop_images,
            decode_images=self.decode_images,
        )

    def _send(self, connection: Connection, record: RecordedRequest, answer: HttpReply) -> None:
        record.status = answer.status
        connection.reply(answer)

    def _completion(self, record: RecordedRequest, fault: Fault | None = None) -> Completion:
        chat = record.chat
        if chat is None:
            chat = self._parse(record.raw)
            record.chat = chat
        answer: Answer | str | None = self._answer_for(chat)
        if self.drop_response and isinstance(answer, Answer):
            answer = Answer(answer.user, None, answer.categories, answer.p_user, None)
        if fault is not None and fault.replaces_content:
            answer = fault.content
        return complete(
            chat,
            answer,
            fingerprint=self.info.fingerprint,
            finish_reason=fault.finish_reason if fault is not None else None,
            with_logprobs=self.logprobs,
            with_categories=not self.drop_categories,
            request_id=record.headers.get("x-request-id"),
        )

    def _completion_reply(self, record: RecordedRequest, fault: Fault | None = None) -> HttpReply:
        completion = self._completion(record, fault)
        self.counters.finish(completion.finish_reason or "stop")
        extra = dict(fault.headers) if fault is not None else {}
        if completion.request.stream:
            body = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in completion.events()) + b"0\r\n\r\n"
            headers = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
            return HttpReply(200, {**headers, **extra}, body)
        body = json.dumps(completion.body(), ensure_ascii=False, separators=(",", ":")).encode()
        return HttpReply(200, {"content-type": "application/json", **extra}, body)

    async def _misbehave(self, connection: Connection, record: RecordedRequest, fault: Fault) -> None:
        if fault.kind == "refused":
            connection.abort()
            if self._server is not None:
                await self._go_down()
                await asyncio.sleep(fault.seconds)
                await self._listen()
            return
        if fault.kind == "reset":
            connection.abort()
            return
        if fault.kind == "hang":
            while not connection.closed:
                await asyncio.sleep(0.02)
            return
        if fault.kind == "reply":
            self._send(connection, record, HttpReply(fault.status, fault.headers, fault.body, fault.closes))
            return
        try:
            whole = self._completion_reply(record, fault)
        except WireError as failure:
            whole = HttpReply(failure.status, {"content-type": "application/json"}, failure.payload, failure.closes)
        if fault.kind == "truncated":
            whole = HttpReply(200, whole.headers, whole.body[: len(whole.body) // 2])
        elif fault.kind == "empty_choices":
            body = {**self._completion(record).body(), "choices": []}
            whole = HttpReply(200, whole.headers, json.dumps(body).encode())
        if fault.kind in {"slow_headers", "slow_body", "reset_during_reply"}:
            record.status = whole.status
            await self._drip(connection, whole, fault)
            return
        self._send(connection, record, whole)

    async def _drip(self, connection: Connection, whole: HttpReply, fault: Fault) -> None:
        """Send a reply badly: half of it and then RST, or its head or its body a byte at a time."""
        head = whole.head()
        if fault.kind == "reset_during_reply":
            connection.transport.write(head + whole.body[: len(whole.body) // 2])
            await asyncio.sleep(0.01)  # let the half arrive: RST discards what was not read
            connection.abort()
            return
        slow, rest = (head, whole.body) if fault.kind == "slow_headers" else (whole.body, b"")
        if fault.kind == "slow_body":
            connection.transport.write(head)
        for byte in slow:
            if connection.closed:
                return
            connection.transport.write(bytes((byte,)))
            await asyncio.sleep(fault.seconds)
        if not connection.closed:
            connection.transport.write(rest)
            connection.done()

    def _answer_for(self, chat: ChatRequest) -> Answer | str | None:
        with self._lock:
            chosen = self._default
            queued = [script for script in self._scripts if script.match is None]
            fitting = [s for s in reversed(self._scripts) if s.match is not None and _fits(s.match, chat)]
            if fitting or queued:
                chosen = (fitting or queued)[0]
                if chosen.left is not None:
                    chosen.left -= 1
                    if chosen.left <= 0:
                        self._scripts.remove(chosen)
        return chosen.answer(chat)

    def _fault_for(self, chat: ChatRequest | None) -> Fault | None:
        """The planted fault for this request. Those without a matcher come before the body is read (`chat` None)."""
        with self._lock:
            for planted in self._planted:
                if (planted.match is None) != (chat is None):
                    continue
                if chat is not None and planted.match is not None and not _fits(planted.match, chat):
                    continue
                if planted.probability < 1.0 and self._random.random() >= planted.probability:
                    continue
                if planted.left is not None:
                    planted.left -= 1
                    if planted.left <= 0:
                        self._planted.remove(planted)
                return planted.fault
        return None


def _fits(match: Matcher, chat: ChatRequest) -> bool:
    if isinstance(match, str):
        return match in chat.prompt or match in (chat.response or "")
    if isinstance(match, bytes):
        return any(match in (image, hashlib.sha256(image).digest()) for image in chat.images)
    return match(chat)


def _verdict(
    chat: ChatRequest,
    user: Label | None,
    response: Label | None,
    categories: Sequence[str],
    p: float | None,
    p_response: float | None,
) -> Answer:
    rated = (response or "safe") if chat.response is not None else None
    return Answer(user or "safe", rated, tuple(categories), p, p_response)


def _answering(
    user: Label | None,
    response: Label | None,
    categories: Sequence[str],
    p: float | None,
    p_response: float | None,
    raw: str | None,
) -> Callable[[ChatRequest], Answer | str | None]:
    if raw is not None:
        return lambda chat: raw
    return lambda chat: _verdict(chat, user, response, categories, p, p_response)


def _where_it_stands(
    match: Matcher, categories: Sequence[str], p: float | None, p_response: float | None
) -> Callable[[ChatRequest], Answer]:
    def answer(chat: ChatRequest) -> Answer:
        in_prompt = not isinstance(match, str) or match in chat.prompt
        in_response = isinstance(match, str) and match in (chat.response or "")
        user: Label = "unsafe" if in_prompt else "safe"
        response: Label = "unsafe" if in_response else "safe"
        return _verdict(chat, user, response, categories, p if in_prompt else None, p_response if in_response else None)

    return answer
