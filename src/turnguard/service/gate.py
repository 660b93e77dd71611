"""In front of every route: who asks, how much they send, and whether they are still there.

Works on the bare protocol: whoever has no key sends no body, and a client that leaves cancels its check.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnguard.service import errors
from turnguard.service.errors import Refusal
from turnguard.service.state import Service

log = logging.getLogger("turnguard.service")

Handler = Callable[[Request], Awaitable[Response]]

STREAMS = frozenset({"/v1/check/stream"})
"""Paths that read their body as it comes."""
FORM = 64_000
"""Bytes of a form of the console, which anybody may send."""


class Gate:
    """The outermost middleware. Gives the request's state a `caller` and, where it was read, the `body`.

    The routes in `direct` need nothing but those, and are called without FastAPI's routing and injection, which cost
    as much as the guard.
    """

    def __init__(self, app: ASGIApp, service: Service, direct: Mapping[str, Handler]) -> None:
        self._app = app
        self._service = service
        self._direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # the lifespan; there are no web sockets
            return
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        self._service.in_flight += 1
        try:
            await self._serve(scope, receive, sent)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not scope["state"].get("left") or task is None:
                raise
            task.uncancel()  # the client has left: there is nobody to answer, and nothing went wrong
        except Exception as failure:  # noqa: BLE001 - a server's own traceback may quote content
            if not isinstance(failure, errors.KNOWN):
                log.error("a request ended in %s", type(failure).__name__)  # noqa: TRY400
            if not begun:  # else the answer stays unfinished, and the connection is closed on it
                await errors.response(failure)(scope, receive, send)
        finally:
            self._service.in_flight -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, limits, headers = scope["path"], self._service.settings.limits, Headers(scope=scope)
        if self._service.in_flight > limits.in_flight and not path.startswith("/health/"):
            raise Refusal(503, "too many requests at once", {"retry-after": "1"})
        state = scope.setdefault("state", {})
        state["caller"] = self._service.access.admit(path, headers)
        most = FORM if path.startswith("/console") else limits.body
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "a compressed body is not accepted: send it as it is")
        if int(headers.get("content-length") or 0) > most:
            raise _too_large(most)
        if path in STREAMS:
            await self._app(scope, _counted(receive, most), send)
            return
        state["body"] = b""
        if scope["method"] not in ("GET", "HEAD"):
            try:
                async with asyncio.timeout(limits.read):
                    state["body"] = await _read(scope, receive, most)
            except TimeoutError:
                raise Refusal(408, f"the body did not arrive within {limits.read:g} seconds") from None
        watcher = asyncio.ensure_future(cancel_when_gone(scope, receive))
        try:
            direct = self._direct.get(path) if scope["method"] == "POST" else None
            if direct is None:
                await self._app(scope, _replayed(state["body"]), send)
            else:
                answer = await direct(Request(scope, _replayed(state["body"])))
                await answer(scope, receive, send)
        finally:
            watcher.cancel()


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"a body has at most {limit:,} bytes")


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises `asyncio.CancelledError` where the client leaves."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            scope["state"]["left"] = True
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


def cancel_when_gone(
    scope: Scope, receive: Receive, task: asyncio.Task[Any] | None = None
) -> Coroutine[None, None, None]:
    """Wait until the client leaves, and cancel `task`, by default the one that this is called in."""
    task = task or asyncio.current_task()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope["state"]["left"] = True
        if task is not None:
            task.cancel()

    return watch()
