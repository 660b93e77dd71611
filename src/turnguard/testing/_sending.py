"""Replies that `aiohttp.web` does not send by itself: cut off by a reset, or byte by byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from turnguard.sandbox.wire.server import reset

if TYPE_CHECKING:
    from turnguard.testing.faults import Fault


async def send(request: web.BaseRequest, whole: web.Response, body: bytes, fault: Fault) -> web.StreamResponse:
    """Send a reply as `reset_during_reply`, `slow_headers` or `slow_body` ask for it."""
    transport = request.transport
    assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
    if fault.kind == "slow_headers":
        # aiohttp writes a head in one piece
        lines = [
            f"HTTP/1.1 {whole.status} {whole.reason}",
            *(f"{name}: {value}" for name, value in whole.headers.items()),
        ]
        lines += [f"content-length: {len(body)}", "connection: close", "", ""]
        for byte in "\r\n".join(lines).encode("latin-1"):
            transport.write(bytes((byte,)))
            await asyncio.sleep(fault.seconds)
        transport.write(body)
        transport.close()
        return await asyncio.Future()  # cancelled when the connection is gone
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    response.content_length = len(body)
    await response.prepare(request)
    if fault.kind == "slow_body":
        for byte in body:
            await response.write(bytes((byte,)))
            await asyncio.sleep(fault.seconds)
        await response.write_eof()
        return response
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(0.01)  # let the half arrive: RST discards what was not read
    reset(transport)
    return await asyncio.Future()
