"""A server that is written byte by byte: for replies that no framework would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

SAFE, UNSAFE = "User Safety: safe", "User Safety: unsafe"


@dataclass(frozen=True)
class Request:
    """One request: its head as it came, header names in any case, and its body."""

    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, empty where there is none."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name.lower():
                return value.strip()
        return ""


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def completion(text: str, name: str = "chatcmpl-x") -> bytes:
    """The JSON of a reply that says this."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": name, "object": "chat.completion", "choices": [choice]}).encode()


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole reply."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@asynccontextmanager
async def served(answer: Answer, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The `base_url` of a server that answers chats with `answer`, and `/v1/models` with nothing much."""
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = Request(head, b"").header("content-length")
                    request = Request(head, await reader.readexactly(int(length or 0)))
                    if head.startswith(b"GET"):
                        writer.write(http(b'{"data": []}'))
                    else:
                        await answer(request, writer)
        finally:
            open_now.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, host, port, limit=2**22)
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in list(open_now):
            writer.close()
        await asyncio.sleep(0)
