"""From a name to a connected socket: all its addresses are tried, a new one whenever the last takes long (RFC 8305).

Not asyncio's own `happy_eyeballs_delay`: whoever is cancelled there just when a socket connects loses it unclosed
(`staggered_race` of CPython 3.11).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import defaultdict
from typing import Any

DELAY = 0.25
"""Seconds after which the next address is tried beside those that have not answered; RFC 8305's recommendation."""

Address = tuple[int, Any]
"""A family and what its sockets connect to."""


def numeric(host: str, port: int) -> Address | None:
    """The address of a host that is written as one; None for a name, which has to be looked up."""
    for family, address in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return family, address
    return None


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a name, families in turn. Raises `socket.gaierror`, or `UnicodeError` for what is no name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ranks: defaultdict[int, int] = defaultdict(int)
    ranked: list[tuple[int, Address]] = []
    for family, _, _, _, address in found:
        ranked.append((ranks[family], (family, address)))
        ranks[family] += 1
    return [each for _, each in sorted(ranked, key=lambda pair: pair[0])]


async def dial(addresses: list[Address]) -> socket.socket:
    """A socket that is connected to the first address that answers. Raises the first one's `OSError` where none does;
    whatever happens, no other socket is left open.
    """
    loop = asyncio.get_running_loop()
    if len(addresses) == 1:
        return await _connected(loop, addresses[0])
    tasks: list[asyncio.Task[socket.socket]] = []
    won: asyncio.Task[socket.socket] | None = None
    try:
        while won is None:
            if len(tasks) < len(addresses):
                tasks.append(loop.create_task(_connected(loop, addresses[len(tasks)])))
            pending = [task for task in tasks if not task.done()]
            if pending:
                last = len(tasks) == len(addresses)
                await asyncio.wait(pending, timeout=None if last else DELAY, return_when=asyncio.FIRST_COMPLETED)
            won = next((task for task in tasks if task.done() and task.exception() is None), None)
            if won is None and len(tasks) == len(addresses) and all(task.done() for task in tasks):
                raise tasks[0].exception() or OSError()
        return won.result()
    finally:
        for task in tasks:
            if task is not won:
                task.cancel()
                task.add_done_callback(_discard)


async def _connected(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address[1])
    except BaseException:
        sock.close()
        raise
    return sock


def _discard(task: asyncio.Task[socket.socket]) -> None:
    """Close what connected too late, or for nobody."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
