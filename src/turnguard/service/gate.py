"""In front of every route: who asks, how much they send, and whether they are still there.

Works on the bare protocol: whoever has no key sends no body, and a client that leaves cancels its check.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnguard.service.errors import Refusal
from turnguard.service.state import Service

STREAMS = frozenset({"/v1/check/stream"})
"""Paths that read their body as it comes."""


class Gate:
    """The outermost middleware. Gives the request's state a `caller`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # the lifespan; there are no web sockets
            return
        service = self._service
        if service.in_flight >= service.settings.limits.in_flight and not scope["path"].startswith("/health/"):
            await Refusal(503, "too many requests at once", {"retry-after": "1"}).response()(scope, receive, send)
            return
        service.in_flight += 1
        try:
            await self._serve(scope, receive, send)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
        finally:
            service.in_flight -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        scope.setdefault("state", {})["caller"] = self._service.access.admit(scope["path"], headers)
        limits = self._service.settings.limits
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "a compressed body is not accepted: send it as it is")
        if int(headers.get("content-length") or 0) > limits.body:
            raise _too_large(limits.body)
        if scope["path"] in STREAMS:
            await self._app(scope, _counted(receive, limits.body), send)
            return
        body = b""
        if scope["method"] not in ("GET", "HEAD"):
            try:
                async with asyncio.timeout(limits.read):
                    body = await _read(receive, limits.body)
            except TimeoutError:
                raise Refusal(408, f"the body did not arrive within {limits.read:g} seconds") from None
        async with _while_connected(receive):
            await self._app(scope, _replayed(body), send)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"a body has at most {limit:,} bytes")


async def _read(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises `asyncio.CancelledError` where the client leaves: there is nobody to answer."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _replayed(body: bytes) -> Receive:
    messages = iter(({"type": "http.request", "body": body, "more_body": False},))

    async def receive() -> Message:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()  # whether the client leaves is watched elsewhere
            raise AssertionError  # pragma: no cover
        return message

    return receive


def _counted(receive: Receive, limit: int) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return counted


@contextlib.asynccontextmanager
async def _while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel what runs inside as soon as the client has left."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()  # there is nobody to answer, and nothing went wrong
    finally:
        watcher.cancel()
