"""From a name to a connected socket: all its addresses are tried, a new one whenever the last takes long (RFC 8305).

By aiohappyeyeballs, as aiohttp does it, and not by asyncio's own `happy_eyeballs_delay`: whoever is cancelled there
just when a socket connects loses it unclosed (`staggered_race` of CPython 3.11).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from aiohappyeyeballs import start_connection

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
    """The addresses of a name. Raises `socket.gaierror`, or `UnicodeError` for what is no name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def dial(addresses: list[Address]) -> socket.socket:
    """A socket that is connected to the first address that answers. Raises `OSError` where none does; whatever happens,
    no other socket is left open.
    """
    found = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for family, address in addresses]
    sock = await start_connection(found, happy_eyeballs_delay=DELAY)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
