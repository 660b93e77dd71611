"""One event loop's connection to Redis or Valkey. Needs `redis` with `hiredis`.

Commands go out at once over a single connection, and replies come back in the same order. redis-py reads the URL and
hiredis the replies; a client of redis-py, with its pool, tasks and timers, costs several times the CPU of a look-up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio import Connection, ConnectionPool, SSLConnection

PATIENCE = 1.0
"""Seconds that the store may take to answer before the connection is given up. No check waits that long, but a
connection that takes longer to be made is there for the next look-up.
"""
WAITING = 1024
"""Commands that wait for a reply. A verdict beyond that stays in this process's memory alone."""
LONGEST_REPLY = 1_000_000

Reply = Any
"""What the store replied, of whatever type it chose, or the exception that came instead."""
Command = tuple[str | bytes | int, ...]
_MORE = object()


class Link:
    """Looks names up and stores entries for `milliseconds`. `stored` is told what became of each."""

    def __init__(self, url: str, milliseconds: int, stored: Callable[[Reply], None]) -> None:
        pool = cast("Any", ConnectionPool.from_url(url, decode_responses=False))
        self._where: Connection = pool.make_connection()  # never connected: it holds what the URL says
        self._milliseconds = milliseconds
        self._stored = stored
        self._wire: _Wire | None = None
        self._early: list[tuple[Command, asyncio.Future[Reply]]] = []
        self._dialling: asyncio.Task[None] | None = None

    async def ask(self, name: bytes, seconds: float) -> Reply:
        """What lies under `name`; `TimeoutError` where that is not known within `seconds`."""
        answer = self._send(("GET", name))
        late = asyncio.get_running_loop().call_later(seconds, self._late, answer)
        try:
            return await answer
        finally:
            late.cancel()

    def keep(self, name: bytes, entry: bytes) -> bool:
        """Store an entry. False where too many commands wait already."""
        if len(self._early) + (0 if self._wire is None else len(self._wire.due)) >= WAITING:
            return False
        self._send(("SET", name, entry, "PX", self._milliseconds)).add_done_callback(self._kept)
        return True

    async def aclose(self) -> None:
        """Wait for what is under way, as far as the store takes it, and close."""
        if self._early:
            if self._dialling is None or self._dialling.done():  # the loop is ending, and has cancelled it
                await self._dial()
            else:
                await asyncio.wait((self._dialling,), timeout=2 * PATIENCE)
        if self._wire is not None:
            if waiting := [answer for _, answer in self._wire.due if not answer.done()]:
                await asyncio.wait(waiting, timeout=PATIENCE)
            self._wire.close()
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn

    def drop(self) -> None:
        """The socket closes as it is collected; the loop that could close it is gone."""

    def _send(self, command: Command) -> asyncio.Future[Reply]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        if self._wire is not None and not self._wire.lost:
            self._wire.send(command, answer)
            return answer
        self._early.append((command, answer))
        if self._dialling is None or self._dialling.done():
            self._dialling = loop.create_task(self._dial())
        return answer

    def _late(self, answer: asyncio.Future[Reply]) -> None:
        _give(answer, TimeoutError())
        if self._wire is not None:
            self._wire.hurry()

    def _kept(self, answer: asyncio.Future[Reply]) -> None:
        self._stored(answer.result())

    async def _dial(self) -> None:
        wire: _Wire | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                wire = await self._connected()
                for command in self._greeting():
                    if isinstance(reply := await wire.ask(command), Exception):
                        raise reply
        except Exception as error:  # noqa: BLE001 - whatever the store does, a check goes on without it
            if wire is not None:
                wire.close()
            early, self._early = self._early, []
            for _, answer in early:
                _give(answer, error)
            return
        self._wire = wire
        early, self._early = self._early, []
        for command, answer in early:
            if not answer.done():
                wire.send(command, answer)

    async def _connected(self) -> _Wire:
        where = self._where
        secure = where.ssl_context.get() if isinstance(where, SSLConnection) else None
        dialled = await asyncio.get_running_loop().create_connection(_Wire, where.host, where.port, ssl=secure)
        return dialled[1]

    def _greeting(self) -> list[Command]:
        where = self._where
        named = (where.username,) if where.username else ()
        commands: list[Command] = [("AUTH", *named, where.password)] if where.password else []
        return [*commands, ("SELECT", int(where.db))] if where.db else commands


class _Wire(asyncio.Protocol):
    """`due` holds who waits for a reply, and since when."""

    def __init__(self) -> None:
        self.due: deque[tuple[float, asyncio.Future[Reply]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                _give(self.due.popleft()[1], reply)
        except (hiredis.HiredisError, IndexError):  # no reply, or one that nobody asked for
            self.close()
        if self._reader.len() > LONGEST_REPLY:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        for _, answer in self.due:
            _give(answer, error or ConnectionResetError("the store closed the connection"))

    @property
    def lost(self) -> bool:
        return self._transport.is_closing()

    def send(self, command: Command, answer: asyncio.Future[Reply]) -> None:
        if self.lost:  # what is written now would go nowhere
            _give(answer, ConnectionResetError("the store closed the connection"))
            return
        self.due.append((self._loop.time(), answer))
        self._transport.write(hiredis.pack_command(cast("Any", command)))

    async def ask(self, command: Command) -> Reply:
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self.send(command, answer)
        return await answer

    def hurry(self) -> None:
        """Give the connection up where the oldest command has waited for too long."""
        if self.due and self._loop.time() - self.due[0][0] > PATIENCE:
            self.close()

    def close(self) -> None:
        self._transport.abort()


def _give(answer: asyncio.Future[Reply], reply: Reply) -> None:
    if not answer.done():
        answer.set_result(reply)
