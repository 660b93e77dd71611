"""A forward proxy on loopback: tunnels for https, absolute URLs for http, a password where one is asked for."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    def __init__(self, password: str | None) -> None:
        self.url = ""
        self.asked: list[str] = []
        self._wanted = None if password is None else "Basic " + base64.b64encode(password.encode()).decode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *headers = head.strip().split("\r\n")
            method, target, _ = line.split(" ")
            self.asked.append(f"{method} {target}")
            given = {name.lower(): value for name, value in (header.split(": ", 1) for header in headers)}
            if self._wanted is not None and given.get("proxy-authorization") != self._wanted:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            elif method == "CONNECT":
                host, port = target.rsplit(":", 1)
                ahead, away = await asyncio.open_connection(host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _joined(reader, writer, ahead, away)
            else:
                where = urlsplit(target)
                ahead, away = await asyncio.open_connection(where.hostname, where.port)
                kept = [header for header in headers if not header.lower().startswith(("proxy-", "connection"))]
                away.write("\r\n".join([f"{method} {where.path} HTTP/1.1", *kept, "", ""]).encode("latin-1"))
                # one request a connection, which the reply says
                answer = asyncio.ensure_future(_headed(ahead, writer))
                await _joined(reader, writer, ahead, away, answer)
        writer.close()


async def _headed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass a reply on, with a header that says that the connection ends."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n")
        writer.write(head + b"Connection: close\r\n")


async def _joined(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    ahead: asyncio.StreamReader,
    away: asyncio.StreamWriter,
    answer: asyncio.Future[None] | None = None,
) -> None:
    """Pass bytes both ways until one side ends; back, what `answer` passes on comes first."""

    async def back() -> None:
        if answer is not None:
            await answer
        await _pump(ahead, writer)

    ways = [asyncio.ensure_future(_pump(reader, away)), asyncio.ensure_future(back())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        away.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextmanager
def proxying(password: str | None = None) -> Iterator[Proxy]:
    """A proxy in a thread of its own, which asks for `user:password` where one is given."""
    proxy = Proxy(password)
    stop: list[Callable[[], object]] = []
    ready = threading.Event()

    async def run() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = f"http://{'' if password is None else password + '@'}127.0.0.1:{port}"
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait(10.0)
    try:
        yield proxy
    finally:
        stop[0]()
        thread.join()
