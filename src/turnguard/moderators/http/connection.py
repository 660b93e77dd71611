"""Pooled HTTP/1.1 connections to one server in one event loop. Each carries one request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast
from urllib.parse import quote, urlsplit

from turnguard.moderators.http.dial import Address, dial, numeric, resolve
from turnguard.moderators.http.framing import BrokenReply, Reader, Reply

IDLE_SECONDS = 4.0
"""An idle connection is dropped before vLLM's uvicorn does so at 5.0 s; at equal times both sides race."""
_ONE_WRITE = 65_536
"""Bytes of body that are sent with the head; more would be copied for nothing."""


@dataclass(frozen=True)
class Origin:
    """Where a server is: what stands before the path of a base URL, and that path."""

    secure: bool
    host: str
    port: int
    name: bytes
    path: bytes

    @classmethod
    def of(cls, base_url: str) -> Origin:
        """Raises `ValueError` for what is no `http(s)://host...`; the text does not repeat it."""
        try:
            parts = urlsplit(base_url)
            host, port = parts.hostname or "", parts.port
            if ":" in host:
                named = host.replace("%25", "%", 1)  # a link's zone is escaped in a URL (RFC 6874)
            else:
                named = host if host.isascii() else host.encode("idna").decode("ascii")
        except ValueError as error:  # of UnicodeError's kind too, for a name that no DNS can hold
            raise ValueError("a base URL names a host, and a port from 1 to 65535 where it names one") from error
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise ValueError("a base URL begins with http:// or https:// and names a host")
        if parts.query or parts.fragment:
            raise ValueError("a base URL has no query and no fragment: a path is put behind it")
        secure = parts.scheme == "https"
        shown = f"[{named.partition('%')[0]}]" if ":" in named else named
        if port is not None:
            shown = f"{shown}:{port}"
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=-._~")
        return cls(secure, named, port or (443 if secure else 80), shown.encode("ascii"), path.encode("ascii"))

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """The system's trusted roots; None without TLS."""
        if not self.secure:
            return None
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def head(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        """The beginning of a request, up to headers that differ from one to the next. Raises `ValueError` for a value
        that would break out of its line.
        """
        lines = [b"%s %s%s HTTP/1.1" % (method.encode("ascii"), self.path, path.encode("ascii")), b"Host: " + self.name]
        for name, value in headers.items():
            if any(char in value for char in "\r\n\0"):
                raise ValueError(f"the header {name} holds a line break")
            lines.append(f"{name}: {value}".encode())
        return b"\r\n".join(lines) + b"\r\n"


class Unreachable(Exception):
    """No connection could be made; the text says why, and is safe to log."""


class Connection(asyncio.Protocol):
    """One connection. It answers one request at a time; what comes without having been asked for ends it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader: Reader | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self.open = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """By asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        """By asyncio."""
        reader, waiting = self._reader, self._reply
        if reader is None or waiting is None or waiting.done():
            # a second reply, or one to a request that nobody waits for: the next request must not be answered by it
            self.abort()
            return
        try:
            reply = reader.feed(data)
        except BrokenReply as error:
            waiting.set_exception(error)
            self.abort()
            return
        if reply is not None:
            waiting.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        """By asyncio."""
        self.open = False
        reader, waiting = self._reader, self._reply
        if reader is None or waiting is None or waiting.done():
            return
        if not reader.begun:
            waiting.set_exception(ConnectionResetError())
            return
        try:
            if error is not None:
                raise BrokenReply("cut off")
            waiting.set_result(reader.end())
        except BrokenReply as cut:
            waiting.set_exception(cut)

    async def ask(self, head: bytes, body: bytes | None, deadline: float) -> Reply:
        """Send a request and give its reply. Raises `BrokenReply`, `ConnectionResetError` where nothing came, or
        `TimeoutError` at `deadline`, a moment of `time.monotonic()`; the pool then ends the connection.
        """
        transport = self._transport
        assert transport is not None  # noqa: S101 - made by the pool, which waits for it
        self._reader = Reader()
        waiting = self._reply = self._loop.create_future()
        alarm = self._loop.call_later(max(0.0, deadline - time.monotonic()), _expire, waiting)
        try:
            if body is None:
                transport.write(head + b"\r\n")
            elif len(body) <= _ONE_WRITE:
                transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body))
            else:
                transport.write(b"%sContent-Length: %d\r\n\r\n" % (head, len(body)))
                transport.write(body)
            reply: Reply = await waiting
        finally:
            alarm.cancel()
            self._reader = self._reply = None
        if not reply.reusable or transport.get_write_buffer_size():
            self.abort()
        return reply

    def abort(self) -> None:
        """Close at once: nothing more is said or heard."""
        self.open = False
        with contextlib.suppress(RuntimeError):  # its loop is closed: the socket goes when it is collected
            if self._reply is not None and not self._reply.done():
                # what ended here is not what the server ended: half a reply must not pass for a whole one
                self._reply.set_exception(ConnectionResetError())
            if self._transport is not None:
                self._transport.abort()


def _expire(waiting: asyncio.Future[Reply]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


class Pool:
    """Connections to `origin`: the youngest idle one is used again, those that were idle too long are closed."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._lookup: asyncio.Task[list[Address]] | None = None

    @property
    def in_use(self) -> int:
        """Connections that a request has taken and not given back."""
        return len(self._busy)

    async def ask(
        self, head: bytes, body: bytes | None, deadline: float, check: Callable[[bytes], None] | None = None
    ) -> Reply:
        """The reply to a request, over an idle connection or a new one. Raises as `Connection.ask` does, and
        `Unreachable` where none can be made. `check` may refuse a reply's body by raising: that ends its connection.
        """
        connection = self._taken() or await self._connect(deadline)
        self._busy.add(connection)
        try:
            reply = await connection.ask(head, body, deadline)
            if check is not None:
                check(reply.body)
        except BaseException as error:
            connection.abort()
            if isinstance(error, ConnectionResetError):
                # a server that closed one without saying so has closed others: the next attempt takes a new one
                self._drop_idle()
            raise
        finally:
            self._busy.discard(connection)
            if connection.open:
                self._give_back(connection)
        return reply

    def _taken(self) -> Connection | None:
        youngest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.open and connection.idle_since > youngest:
                return connection
            connection.abort()
        return None

    async def _connect(self, deadline: float) -> Connection:
        origin, loop = self.origin, self._loop
        name = origin.host if origin.secure else None
        try:
            tls = origin.tls
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                # uvloop dials itself, one address after the other: a socket of ours it would close twice when cancelled
                where: dict[str, Any] = {"host": origin.host, "port": origin.port}
                if isinstance(loop, asyncio.BaseEventLoop):
                    where = {"sock": await dial(await self._addresses())}
                _, connection = await loop.create_connection(
                    lambda: Connection(loop), ssl=tls, server_hostname=name, **where
                )
        except TimeoutError:
            raise
        except socket.gaierror:
            raise Unreachable("the server's name cannot be resolved") from None
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise Unreachable(f"cannot connect ({type(error).__name__})") from None
        if self.closed:
            connection.abort()
            raise ConnectionResetError
        return connection

    async def _addresses(self) -> list[Address]:
        """Looked up anew for each connection, so that a server that moved is found; a burst shares one look-up."""
        written = numeric(self.origin.host, self.origin.port)
        if written is not None:
            return [written]
        if self._lookup is None or self._lookup.done():
            self._lookup = self._loop.create_task(resolve(self.origin.host, self.origin.port))
        return await asyncio.shield(self._lookup)

    def _give_back(self, connection: Connection) -> None:
        if self.closed:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long, and come again while there is anything."""
        self._sweeper = None
        youngest = time.monotonic() - IDLE_SECONDS
        kept = [each for each in self._idle if each.open and each.idle_since > youngest]
        for connection in self._idle:
            if connection not in kept:
                connection.abort()
        self._idle = kept
        if kept:
            self._sweeper = self._loop.call_later(IDLE_SECONDS / 4, self._sweep)

    async def aclose(self) -> None:
        """Close all connections; requests under way end with `ConnectionResetError`, those that have no connection yet
        as soon as they have one: nothing is sent any more.
        """
        self.drop()
        # a transport lets go of its socket in the loop's next turn
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def drop(self) -> None:
        """The same where the loop may be closed and nothing can be waited for."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._drop_idle()
        for connection in tuple(self._busy):
            connection.abort()

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()
