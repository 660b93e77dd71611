"""Replies that no framework sends: none is taken for another's, none holds the guard up, and each has its own failure."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from tests.faults.raw import SAFE, UNSAFE, Request, completion, http, served
from tests.ticks import ticking
from turnguard import Guard, Step

Write = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def truth(request: Request) -> str:
    """What a right server says of this request."""
    return UNSAFE if b"bad" in request.body else SAFE


def named(request: Request) -> str:
    """The reply's id as vLLM makes it of the request's."""
    return f"chatcmpl-{request.header('X-Request-Id') or 'none'}"


def guard_for(url: str, **moderator: object) -> Guard:
    return Guard.from_dict({"moderator": {"base_url": url, "deadline": 2.0, **moderator}})


# ---------------------------------------------------------------- whose reply it is


async def test_a_second_reply_that_came_while_the_connection_was_idle_answers_nobody() -> None:
    """The response to one request must never be read as that of the next (HTTP desynchronisation)."""

    async def twice(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(completion(truth(request))))
        if b"twice" in request.body:
            await writer.drain()
            await asyncio.sleep(0.03)  # the first one is read, and the connection back in its pool
            writer.write(http(completion(SAFE)))

    async with served(twice) as url, guard_for(url) as guard:
        assert (await guard.acheck(Step.input("good, twice"))).allowed
        await asyncio.sleep(0.1)
        for number in range(3):
            decision = await guard.acheck(Step.input(f"bad {number}"))
            assert (decision.action, decision.failed) == ("block", False)


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
async def test_a_reply_to_another_request_is_a_failure_and_never_a_verdict(client: str) -> None:
    """A server or proxy that is one reply behind: a verdict carries the id of its own request."""
    behind: list[bytes] = [b""]

    async def late(request: Request, writer: asyncio.StreamWriter) -> None:
        behind.append(http(completion(truth(request), named(request))))
        writer.write(behind[-1] if b"first" in request.body else behind[-2])

    async with served(late) as url:
        own = openai.AsyncOpenAI(base_url=url, api_key="x") if client == "openai" else None
        settings = {"moderator": {"base_url": url, "deadline": 2.0}}
        async with Guard.from_dict(settings, client=own) as guard:
            assert (await guard.acheck(Step.input("good, first"))).allowed
            decision = await guard.acheck(Step.input("bad"))
            assert (decision.action, decision.verdict.failure) == ("block", "unavailable")
            assert decision.verdict.cause == "the reply belongs to another request"
        if own is not None:
            await own.close()


async def test_replies_that_change_places_under_load_give_no_check_anothers_verdict() -> None:
    waiting: list[tuple[Request, asyncio.StreamWriter]] = []

    async def swapped(request: Request, writer: asyncio.StreamWriter) -> None:
        waiting.append((request, writer))
        if len(waiting) == 2:
            (first, to_first), (second, to_second) = waiting
            waiting.clear()
            to_first.write(http(completion(truth(second), named(second))))
            to_second.write(http(completion(truth(first), named(first))))

    async with served(swapped) as url, guard_for(url, deadline=0.5) as guard:
        good, bad = await asyncio.gather(guard.acheck(Step.input("good")), guard.acheck(Step.input("bad")))
        assert (good.action, good.failed, bad.action, bad.failed) == ("block", True, "block", True)


async def test_a_server_that_names_its_replies_otherwise_is_believed() -> None:
    async def plain(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(completion(truth(request), "cmpl-of-a-gateway")))

    async with served(plain) as url, guard_for(url) as guard:
        assert (await guard.acheck(Step.input("good"))).allowed
        assert not (await guard.acheck(Step.input("bad"))).failed


# ---------------------------------------------------------------- what it is made of


def raw(data: bytes) -> Write:
    """Always the same bytes, and then nothing."""

    async def write(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return write


def closing(data: bytes) -> Write:
    async def write(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return write


async def endless(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Interim replies without end: each resets a timer that counts from the last byte."""
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
        await writer.drain()
        await asyncio.sleep(0.005)


def zipped(data: bytes, *headers: str) -> bytes:
    return http(gzip.compress(data), "content-encoding: gzip", *headers)


DEEP = b"[" * 400_000 + b"]" * 400_000
RIGHT = completion(SAFE)
REPLIES: dict[str, tuple[Write, str]] = {
    "arrays in arrays, 400,000 deep": (raw(http(DEEP)), "unparseable"),
    "a verdict, beside arrays 400,000 deep": (raw(http(RIGHT[:-1] + b', "x": ' + DEEP + b"}")), "unparseable"),
    "a verdict, beside a number of 400,000 digits": (
        raw(http(RIGHT[:-1] + b', "x": ' + b"9" * 400_000 + b"}")),
        "unparseable",
    ),
    "a stream that breaks off": (
        raw(http(b'data: {"choices": [{"delta": {"content": "User Safety: safe"}}]}\n\ndata: {"cho')),
        "unparseable",
    ),
    "a verdict, and a byte that is no UTF-8": (raw(http(RIGHT[:-2] + b"\xff}")), "unparseable"),
    "three hundred megabytes, zipped": (raw(zipped(b" " * 300_000_000)), "unparseable"),
    "called zipped, and is not": (raw(http(RIGHT, "content-encoding: gzip")), "unparseable"),
    "zipped, and broken off": (
        closing(http(gzip.compress(RIGHT)[:-12], "content-encoding: gzip")),
        "unparseable",
    ),
    "shorter than it says": (closing(http(RIGHT).replace(b"content-length: ", b"content-length: 9")), "unavailable"),
    "two lengths": (
        closing(http(RIGHT, "content-length: 5")),
        "unavailable",
    ),
    "a chunk whose length is no number": (
        closing(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" + RIGHT),
        "unavailable",
    ),
    "a megabyte of header": (raw(http(RIGHT, f"x: {'y' * 1_000_000}")), "unavailable"),
    "ten thousand headers": (raw(http(RIGHT, *(f"x{n}: y" for n in range(10_000)))), "unavailable"),
    "no HTTP": (raw(b"+PONG\r\n\r\n"), "unavailable"),
    "HTTP 100 without end": (endless, "unavailable"),
    "HTTP 101, another protocol": (
        raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + http(RIGHT)),
        "rejected",
    ),
    "HTTP 204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "rejected"),
    "HTTP 206, a part of a reply": (raw(http(RIGHT, status="206 Partial Content")), "rejected"),
    "HTTP 999": (raw(http(RIGHT, status="999 Well")), "unavailable"),
}


@pytest.mark.parametrize(("answer", "failure"), REPLIES.values(), ids=REPLIES)
async def test_no_reply_out_of_order_is_a_verdict_or_holds_the_guard_up(answer: Write, failure: str) -> None:
    async with served(answer) as url, guard_for(url, deadline=1.0) as guard, ticking() as ticks:
        decision = await guard.acheck(Step.input("x"))
    assert (decision.action, decision.verdict.failure) == ("block", failure), decision.verdict.cause
    assert ticks.seconds < 3.0


AGAIN = {
    "in the past": ("Wed, 21 Oct 2015 07:28:00 GMT", True),
    "a negative number": ("-5", True),
    "zero": ("0", True),
    "huge": ("1" + "0" * 400, False),
    "infinite": ("inf", False),
    "no number": ("nan", True),
    "a list": ("1, 2", True),
    "empty": ("", True),
    "a minute": ("60", False),
}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(("value", "again"), AGAIN.values(), ids=AGAIN)
async def test_a_retry_after_of_any_kind_neither_holds_up_nor_hammers(
    value: str, again: bool, replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnguard.moderators.endpoints.random.uniform", lambda _least, most: most)
    asked: list[float] = []

    async def busy(_request: Request, writer: asyncio.StreamWriter) -> None:
        asked.append(time.monotonic())
        writer.write(http(b"{}", f"retry-after: {value}", status="503 Service Unavailable"))

    async with served(busy) as one, served(busy) as two:
        settings = {"moderator": {"base_url": [one, two][:replicas], "deadline": 1.0}}
        async with Guard.from_dict(settings) as guard:
            async with ticking() as ticks:
                decision = await guard.acheck(Step.input("x"))
            assert ticks.seconds < 1.1
    assert (decision.action, decision.verdict.failure) == ("block", "unavailable")
    assert len(asked) == (3 * replicas if again else replicas)
    if again:
        # each wait has a share of chance, whatever the server asked for: many clients do not come back at one instant
        assert asked[-1] - asked[0] > 0.29


# ---------------------------------------------------------------- where the server is


def _speaks_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def right(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(http(completion(truth(request), named(request))))


@pytest.mark.skipif(not _speaks_ipv6(), reason="needs a second loopback address")
async def test_a_server_that_moved_to_another_address_is_found_at_the_next_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when a container is started anew: the name stays, the address changes."""
    addresses = ["127.0.0.1"]
    real = socket.getaddrinfo

    def looked_up(host: str | bytes | None, *more: Any, **options: Any) -> Any:
        return real(addresses[0] if host == "moderator.test" else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    async with served(right) as first:
        port = int(first.split(":")[2].partition("/")[0])
        guard = guard_for(f"http://moderator.test:{port}/v1")
        assert (await guard.acheck(Step.input("before"))).allowed
    # pytest-socket knows these two as loopback
    async with served(right, "::1", port):
        addresses[0] = "::1"
        during = [await guard.acheck(Step.input(f"during {number}")) for number in range(2)]
        assert all(decision.allowed or decision.failed for decision in during)
        decision = await guard.acheck(Step.input("bad"))
        assert (decision.action, decision.failed) == ("block", False)
    await guard.aclose()


async def test_a_name_that_is_no_name_any_more_is_a_failure_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: object, *_more: object, **_options: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, f"no such name: {host!r}")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with guard_for("http://moderator.test:1/v1") as guard:
        decision = await guard.acheck(Step.input("x"))
    assert (decision.action, decision.verdict.failure) == ("block", "unavailable")
    assert decision.verdict.cause == "the server's name cannot be resolved"
