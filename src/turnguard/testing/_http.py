"""A small HTTP/1.1 server side: enough for keep-alive, pipelining, chunked bodies, and a transport to misbehave on.

Not `aiohttp.web`, because faults need the transport itself (RST, a byte a second) and because the server must cost a
test far less than the client that it tests.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_HEAD = 64 * 1024


@dataclass(slots=True)
class HttpRequest:
    """One request as it came: header names in lower case, the body unread by anyone."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(slots=True)
class HttpReply:
    """A whole reply. `closes`: end the connection afterwards, without announcing it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    closes: bool = False

    def head(self) -> bytes:
        """Status line and headers, with the blank line."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", "server: uvicorn"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if "transfer-encoding" not in self.headers:
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client connection. `serve(request, connection)` answers by `reply()`, now or later, once per request."""

    def __init__(
        self, serve: Callable[[HttpRequest, Connection], None], open_connections: set[Connection], keep_alive: float
    ) -> None:
        self.transport: asyncio.Transport
        self._serve = serve
        self._open = open_connections
        self._keep_alive = keep_alive
        self._buffer = bytearray()
        self._head: HttpRequest | None = None
        self._busy = False
        self._idle_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.closed = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        self.transport = transport
        self._open.add(self)
        self._idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.gone.set()
        self._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def reply(self, answer: HttpReply) -> None:
        """Send a whole reply and take the next request of this connection."""
        if self.closed:
            return
        self.transport.write(answer.head() + answer.body)
        self.done(closes=answer.closes)

    def done(self, *, closes: bool = False) -> None:
        """The reply is out: close, or go on with what was pipelined."""
        self._busy = False
        if closes:
            self.transport.close()
            self.closed = True
            return
        self._idle()
        if self._buffer:
            self._loop.call_soon(self._advance)

    async def left_within(self, seconds: float) -> bool:
        """Wait that long: whether the client went meanwhile."""
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def drip(self, answer: HttpReply, seconds: float, *, head: bool) -> None:
        """Send a reply with its head, or else its body, a byte at a time: `seconds` between bytes."""
        first, slow, rest = (b"", answer.head(), answer.body) if head else (answer.head(), answer.body, b"")
        self.transport.write(first)
        for byte in slow:
            if self.closed:
                return
            self.transport.write(bytes((byte,)))
            if await self.left_within(seconds):
                return
        self.transport.write(rest)
        self.done()

    async def break_off(self, answer: HttpReply) -> None:
        """Send half of a reply, then RST."""
        self.transport.write(answer.head() + answer.body[: len(answer.body) // 2])
        await self.left_within(0.01)  # let the half arrive: RST discards what was not read
        self.abort()

    def abort(self) -> None:
        """End the connection with RST, as a crashed server or a full middlebox does."""
        if self.closed:
            return
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed = True
        self.transport.abort()

    def _idle(self) -> None:
        self._idle_since = self._loop.time()
        if self._timer is None and self._keep_alive > 0:
            self._timer = self._loop.call_later(self._keep_alive, self._expire)

    def _expire(self) -> None:
        """One timer per connection, armed again on expiry, instead of one per request."""
        self._timer = None
        left = self._idle_since + self._keep_alive - self._loop.time()
        if self._busy or left > 0:
            self._timer = self._loop.call_later(max(left, 0.05), self._expire)
        elif not self.closed:
            self.closed = True
            self.transport.close()

    def _advance(self) -> None:
        while not self._busy and not self.closed:
            request = self._take()
            if request is None:
                return
            self._busy = True
            self._serve(request, self)

    def _take(self) -> HttpRequest | None:
        """The next whole request in the buffer, if there is one."""
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD:
                    self._refuse()
                return None
            head = bytes(self._buffer[:end]).decode("latin-1")
            del self._buffer[: end + 4]
            self._head = _parse_head(head)
            if self._head is None:
                self._refuse()
                return None
            if self._head.headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = self._head
        if "chunked" in request.headers.get("transfer-encoding", ""):
            taken = _dechunk(self._buffer)
            if taken is None:
                return None
            request.body, used = taken
        else:
            used = int(request.headers.get("content-length") or 0)
            if len(self._buffer) < used:
                return None
            request.body = bytes(self._buffer[:used])
        del self._buffer[:used]
        self._head = None
        return request

    def _refuse(self) -> None:
        refusal = HttpReply(400, {"content-type": "text/plain"}, b"Invalid HTTP request received.")
        self.transport.write(refusal.head() + refusal.body)
        self.transport.close()
        self.closed = True


def _parse_head(head: str) -> HttpRequest | None:
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            return None
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        return None
    return HttpRequest(words[0], words[1].partition("?")[0], headers)


def _dechunk(buffer: bytearray) -> tuple[bytes, int] | None:
    """A whole chunked body at the start of `buffer` and how many bytes it took; None when more must come."""
    body, at = bytearray(), 0
    while True:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(bytes(buffer[at:end]).partition(b";")[0], 16)
        start = end + 2
        if len(buffer) < start + size + 2:
            return None
        if size == 0:
            return bytes(body), start + 2
        body += buffer[start : start + size]
        at = start + size + 2
