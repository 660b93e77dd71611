"""The sandbox's server: vLLM's wire format on loopback, answered by rules. Every reply says that it is no model."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

from aiohttp import web

from turnguard.core.families import DEFAULT, FAMILIES
from turnguard.moderators.rules import judge
from turnguard.moderators.rules.load import rule_book
from turnguard.sandbox import own
from turnguard.sandbox.ocr import OcrUnavailable, Reader, available
from turnguard.sandbox.queue import Queue
from turnguard.sandbox.wire import Answer, ChatRequest, ServerInfo, complete, parse_chat
from turnguard.sandbox.wire import errors as wire_errors
from turnguard.sandbox.wire.server import WireServer


def notice(family: str = DEFAULT) -> str:
    """Say what the sandbox is and is not, as whom it speaks, and whether it reads pictures here."""
    reads = "small rules and OCR on the CPU"
    blind = "small rules on the CPU, without OCR (requests with pictures are refused; pip install 'turnguard[sandbox]')"
    can = FAMILIES[family]
    mute = f"small rules on the CPU ({can.title} judges no pictures)"
    speaks = "It is NOT the Nemotron model" if family == DEFAULT else f"It speaks as {can.title}, and is NOT that model"
    found = mute if not can.images else reads if available() else blind
    return f"This is the Turnguard sandbox: {found}. {speaks}, and its verdicts are no substitute for it."


HEADERS = {"x-turnguard-sandbox": "not-the-nemotron-model"}
FINGERPRINT = "turnguard-sandbox"


class Sandbox(WireServer):
    """A stand-in for the GPU server: `with Sandbox() as sandbox:` serves on `sandbox.base_url` from a thread of its
    own.

    `family` is whose requests it takes and whose replies it gives. `port` 0 takes a free one. `image_limit` is the most
    images in one request (as `--limit-mm-per-prompt`; None: what the family takes), `max_model_len` the context length
    in tokens. `latency` is what each answer takes beyond its judging, in seconds or as a function of the request;
    `max_running` requests are at work at once (as `--max-num-seqs`) while `max_queued` wait (as
    `--max-num-queued-reqs`), both without limit by default. `announce` gets the notice on every start (default: one
    line on stderr). Without OCR (the `sandbox` extra), a request with an image is answered with HTTP 501: never judged
    blind.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        model: str = "nemotron_moderator",
        family: str = DEFAULT,
        api_key: str | None = None,
        max_model_len: int = 4096,
        image_limit: int | None = None,
        latency: float | Callable[[ChatRequest], float] = 0.0,
        max_running: int | None = None,
        max_queued: int | None = None,
        ocr_threads: int | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        info = ServerInfo.of(
            family,
            model=model,
            root=FINGERPRINT,
            max_model_len=max_model_len,
            image_limit=image_limit,
            api_key=api_key,
            version=FINGERPRINT,
            fingerprint=FINGERPRINT,
        )
        super().__init__(info, host=host, port=port, headers=HEADERS)
        self._latency = latency
        self._limits = max_running, max_queued
        self._queue: Queue | None = None
        self._ocr_threads = ocr_threads
        self._reader: Reader | None = None
        self._announce = announce or _to_stderr

    async def _serve(self, listening: Callable[[], None]) -> None:
        self._reader = Reader(threads=self._ocr_threads)
        self._queue = Queue(self.counters, *self._limits)
        await asyncio.to_thread(rule_book)  # now, not within the first request's deadline

        def announced() -> None:
            self._announce(f"{notice(self.info.family)} Serving on {self.base_url}")
            listening()

        try:
            await super()._serve(announced)
        finally:
            await asyncio.to_thread(self._reader.close)

    async def _answer(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        return await self._routed(request, lambda: self._chat(request, raw))

    async def _chat(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        assert self._queue is not None  # noqa: S101 - set before the server listens
        info = self.info
        chat = await asyncio.to_thread(
            parse_chat,
            raw,
            model=info.model,
            max_model_len=info.max_model_len,
            image_limit=info.image_limit,
            family=info.family,
        )
        async with self._queue.place():
            delay = self._latency(chat) if callable(self._latency) else self._latency
            if delay > 0.0:
                await asyncio.sleep(delay)
            answer = await self._judge(chat)
        completion = complete(chat, answer, fingerprint=FINGERPRINT, request_id=request.headers.get("x-request-id"))
        self.counters.finish(completion.finish_reason or "stop")
        if chat.stream:
            response = web.StreamResponse(headers={**HEADERS, "content-type": "text/event-stream; charset=utf-8"})
            await response.prepare(request)
            for event in completion.events():
                await response.write(event)
            await response.write_eof()
            return response
        body = json.dumps(completion.body(), ensure_ascii=False, separators=(",", ":")).encode()
        return self._response(body, {"content-type": "application/json"})

    async def _judge(self, chat: ChatRequest) -> Answer:
        assert self._reader is not None  # noqa: S101 - set before the server listens
        try:
            texts = await asyncio.gather(*map(self._reader.aread, chat.images))
        except OcrUnavailable as failure:
            raise wire_errors.error(501, f"{failure}. The sandbox does not judge what it cannot see.") from None
        read = "\n".join(texts)
        if chat.policy is not None:
            return self._by_policy(chat.policy, chat, read)
        verdict = await asyncio.to_thread(judge, chat.prompt, chat.response, read or None)
        of_prompt = own.found(chat.taxonomy, f"{chat.prompt}\n{read}")
        of_response = own.found(chat.taxonomy, chat.response or "")
        return Answer(
            "unsafe" if of_prompt else verdict.user,
            "unsafe" if of_response else verdict.response,
            tuple(dict.fromkeys((*verdict.categories, *of_prompt, *of_response))),
            max(verdict.p_user, own.P_UNSAFE) if of_prompt else verdict.p_user,
            max(verdict.p_response or 0.0, own.P_UNSAFE) if of_response else verdict.p_response,
        )

    @staticmethod
    def _by_policy(policy: str, chat: ChatRequest, read: str) -> Answer:
        """The policy takes the place of all other rules, and the reply names no category."""
        user = own.breaks(policy, f"{chat.prompt}\n{read}")
        response = chat.response is not None and own.breaks(policy, chat.response)
        p_user, p_response = (own.P_UNSAFE if each else own.P_SAFE for each in (user, response))
        return Answer(
            "unsafe" if user else "safe",
            None if chat.response is None else "unsafe" if response else "safe",
            p_user=p_user,
            p_response=None if chat.response is None else p_response,
        )


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
