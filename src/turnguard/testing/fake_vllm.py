"""`FakeVLLM`: a vLLM server that serves a scripted moderator, on loopback, in its own thread."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from turnguard.core.families import DEFAULT, FAMILIES
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
from turnguard.testing import faults
from turnguard.testing._http import Connection, HttpReply, HttpRequest
from turnguard.testing._requests import RecordedRequest
from turnguard.testing._scripts import Matcher, Said, Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from turnguard.testing.faults import Fault


class FakeVLLM:
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
        self.info = ServerInfo.of(
            family,
            model=model,
            root=root or FAMILIES[family].hub,
            max_model_len=max_model_len,
            image_limit=image_limit,
            api_key=api_key,
        )
        self.latency = latency
        self.logprobs = logprobs
        self.drop_categories = drop_categories
        self.drop_images = drop_images
        self.drop_response = drop_response
        self.splits_reasoning = splits_reasoning
        self.decode_images = decode_images
        self.keep_alive = keep_alive
        self.port = port
        self.requests: list[RecordedRequest] = []
        self.peak = 0
        """The most chat requests that were open at once."""
        self.counters = Counters()
        self._scripts = Scripts(seed)
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
            server, self._server = self._server, None
            # Stop accepting first: asyncio never closes a connection that it accepted just before `Server.close`.
            for listener in server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
            await _turns(3)
            server.close()
        for connection in list(self._connections):
            connection.abort()
        await _turns(2)  # an aborted transport closes its socket in the turn after next

    async def _shut(self) -> None:
        await self._go_down()  # first: what comes in meanwhile would begin a task that nobody ends
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
            fault = self._scripts.fault_for(None)
            if fault is None:
                record.chat = self._parse(request.body)
                fault = self._scripts.fault_for(record.chat)
        except WireError as failure:
            headers = {"content-type": "application/json", **failure.headers}
            self._send(connection, record, HttpReply(failure.status, headers, failure.payload, failure.closes))
            return
        record.fault = fault
        self.counters.running += 1
        self.peak = max(self.peak, self.counters.running)
        delay = self._delay(record.chat)
        if fault is None and not delay:
            try:
                self._send(connection, record, self._completion_reply(record))
            finally:
                self.counters.running -= 1
            return
        task = asyncio.get_running_loop().create_task(self._later(connection, record, fault, delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _later(self, connection: Connection, record: RecordedRequest, fault: Fault | None, delay: float) -> None:
        try:
            if delay and await connection.left_within(delay):
                return  # as a real server aborts when its client goes
            if fault is None:
                self._send(connection, record, self._completion_reply(record))
            else:
                await self._misbehave(connection, record, fault)
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

    def _send(self, connection: Connection, record: RecordedRequest, answer: HttpReply) -> None:
        record.status = answer.status
        connection.reply(answer)

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
            await connection.gone.wait()
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
        record.status = whole.status
        if fault.kind == "reset_during_reply":
            await connection.break_off(whole)
        elif fault.kind in {"slow_headers", "slow_body"}:
            await connection.drip(whole, fault.seconds, head=fault.kind == "slow_headers")
        else:
            connection.reply(whole)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
