"""The HTTP side of the stand-ins: `aiohttp.web` on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Self

from aiohttp import web

from turnguard.sandbox.wire.endpoints import CHAT_PATH, Counters, ServerInfo, authorise, route
from turnguard.sandbox.wire.errors import WireError


class WireServer:
    """Serve vLLM's endpoints on `base_url`; a subclass answers the chats.

    `port` 0 takes a free one. Idle connections are closed after `keep_alive` seconds, and `headers` are part of every
    reply. `with` and `async with` start and stop the server.
    """

    def __init__(
        self,
        info: ServerInfo,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_alive: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.info = info
        self.host = host
        self.port = port
        self.keep_alive = keep_alive
        self.counters = Counters()
        self._headers = dict(headers or {})
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._listener: asyncio.Server | None = None
        self._http: web.Server | None = None

    @property
    def base_url(self) -> str:
        """What a client takes as `base_url`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return 0 if self._http is None else len(self._http.connections)

    def start(self) -> Self:
        """Serve from a background thread; returns when it listens. Raises OSError when the port is taken."""
        if self._thread is not None:
            raise RuntimeError(f"this {type(self).__name__} is running already")
        listening: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(listening,), name=f"turnguard-{type(self).__name__.lower()}", daemon=True
        )
        self._thread.start()
        try:
            listening.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise
        return self

    def stop(self) -> None:
        """Close the listener, reset every connection and end the thread."""
        if self._thread is None:
            return
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = None

    def serve_forever(self) -> None:
        """Serve in this thread until interrupted (Ctrl-C)."""
        try:
            asyncio.run(self._serve(lambda: None))
        except KeyboardInterrupt:
            return

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *exc: object) -> None:
        self.stop()

    def _call(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function on the server's loop and wait for it."""
        if self._loop is None:
            raise RuntimeError(f"this {type(self).__name__} is not running")
        asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    def _run(self, listening: Future[None]) -> None:
        try:
            asyncio.run(self._serve(lambda: listening.set_result(None)))
        except BaseException as failure:
            if listening.done():
                raise
            listening.set_exception(failure)

    async def _serve(self, listening: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        # A request whose client leaves is cancelled, as a real server aborts it.
        self._http = web.Server(
            self._handle, handler_cancellation=True, access_log=None, keepalive_timeout=self.keep_alive
        )
        await self._listen()
        try:
            listening()
            await self._stopping.wait()
        finally:
            await self._go_down()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._http is not None  # noqa: S101 - set before the first call
        self._listener = await loop.create_server(self._http, self.host, self.port, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _go_down(self) -> None:
        if self._listener is not None:
            listener, self._listener = self._listener, None
            # Stop accepting first: asyncio never closes a connection that it accepted just before `Server.close`.
            for accepting in listener.sockets:
                asyncio.get_running_loop().remove_reader(accepting.fileno())
            await _turns(3)
            listener.close()
        if self._http is not None:
            for connection in self._http.connections:
                if connection.transport is not None:
                    reset(connection.transport)
        await _turns(2)  # an aborted transport closes its socket in the turn after next

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._answer(request, await request.content.read())  # request.read() has a limit of 1 MiB

    async def _answer(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        """Answer a request, through `_routed`."""
        raise NotImplementedError

    async def _routed(
        self, request: web.BaseRequest, chat: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer a chat with `chat` and any other path as vLLM does. A `WireError` becomes the reply."""
        try:
            authorise(self.info, request.path, lowered(request))
            if request.path == CHAT_PATH and request.method == "POST":
                return await chat()
            kind, body = route(self.info, self.counters, request.method, request.path)
        except WireError as failure:
            return self._refusal(request, failure)
        return self._response(body, {"content-type": kind})

    def _response(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> web.Response:
        return web.Response(body=body, status=status, headers={**self._headers, **headers})

    def _refusal(self, request: web.BaseRequest, failure: WireError) -> web.Response:
        if failure.closes:
            close_unannounced(request)
        headers = {"content-type": "application/json", **failure.headers}
        return self._response(failure.payload, headers, failure.status)


def lowered(request: web.BaseRequest) -> dict[str, str]:
    """The request's headers, with names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}


def close_unannounced(request: web.BaseRequest) -> None:
    """Close the connection after the reply, without `Connection: close` in it."""
    request.protocol.close()


def reset(transport: asyncio.BaseTransport) -> None:
    """End a connection with RST, as a crashed server or a full middlebox does."""
    assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
