"""The lean client's connections, against servers written byte by byte: what is sent, which connection is used again,
and which never is.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faults.raw import SAFE, UNSAFE, Request, completion, http

from turnguard import Guard, Step
from turnguard.core.errors import ConfigError, Timeout, Unavailable
from turnguard.core.exchange import Exchange, Picture
from turnguard.moderators.base import Deadline
from turnguard.moderators.http import connection as connections
from turnguard.moderators.http import dial as dialling
from turnguard.moderators.http.connection import Origin, Pool
from turnguard.moderators.http.dial import Address
from turnguard.moderators.vllm import VLLMModerator

PEM = Path(__file__).parent / "tls" / "localhost.pem"
"""A certificate for 127.0.0.1 and localhost that signs itself, with its key: for these tests alone."""


class Listener:
    """Answers chats as `reply` says, and remembers every connection and request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.opened = 0
        self.closed = 0
        self.url = ""
        self.reply: Callable[[Request], bytes] = lambda _request: http(completion(SAFE))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(Request(head, b"").header("content-length") or 0)
                request = Request(head, await reader.readexactly(length))
                if head.startswith(b"GET"):
                    writer.write(http(b'{"data": []}'))
                    continue
                self.requests.append(request)
                data = self.reply(request)
                if not data:
                    await reader.read()  # until the client goes
                    return
                writer.write(data)
                if b"\r\nconnection: close" in data.lower() or b"HTTP/1.0" in data[:8]:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


@asynccontextmanager
async def listening(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, host, 0, ssl=tls, limit=2**24)
    port = server.sockets[0].getsockname()[1]
    listener.url = f"{'https' if tls else 'http'}://{host}:{port}/v1"
    try:
        yield listener
    finally:
        server.close()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client_of(url: str, **options: str) -> AsyncIterator[VLLMModerator]:
    client = VLLMModerator(url, **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.aclose()


async def ask(client: VLLMModerator, text: str = "hello", seconds: float = 2.0) -> str | None:
    return (await client.judge(Exchange(text), Deadline.after(seconds))).user


async def until(condition: object, seconds: float = 2.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came about")


# ---------------------------------------------------------------- what is sent


async def test_the_request_as_it_stands_on_the_wire() -> None:
    async with listening() as server, client_of(server.url, api_key="sesame") as client:
        await ask(client)
        (request,) = server.requests
        lines = request.head.decode().split("\r\n")
        port = server.url.split(":")[2].split("/")[0]
        assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
        assert dict(line.split(": ", 1) for line in lines[1:] if line) == {
            "Host": f"127.0.0.1:{port}",
            "User-Agent": "turnguard",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": "Bearer sesame",
            "Content-Type": "application/json",
            "X-Request-Id": request.header("x-request-id"),
            "Content-Length": str(len(request.body)),
        }


async def test_a_picture_of_megabytes_arrives_whole() -> None:
    picture = Picture.of(bytes(range(256)) * 12_000, "image/png")
    async with listening() as server, client_of(server.url) as client:
        for _ in range(2):
            await client.judge(Exchange("hello", picture), Deadline.after(5.0))
        assert [picture.data_uri.encode() in request.body for request in server.requests] == [True, True]
        assert server.opened == 1


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("http://moderator:8000/v1", b"moderator:8000", b"/v1/x"),
        ("https://moderator.example/a%20b/v1/", b"moderator.example", b"/a%20b/v1/x"),
        ("http://[::1]:8000/v1", b"[::1]:8000", b"/v1/x"),
        ("http://m\u00fcnchen.example/\u00fc", b"xn--mnchen-3ya.example", b"/%C3%BC/x"),
        ("http://h", b"h", b"/x"),
    ],
)
def test_where_it_is_sent(url: str, host: bytes, path: bytes) -> None:
    head = Origin.of(url).head("GET", "/x", {})
    assert head == b"GET %s HTTP/1.1\r\nHost: %s\r\n" % (path, host)


@pytest.mark.parametrize("written", ["fe80::1%25lo", "fe80::1%lo"])
def test_a_links_zone_is_for_this_machine_alone(written: str) -> None:
    origin = Origin.of(f"http://[{written}]:8000/v1")
    assert (origin.host, origin.name) == ("fe80::1%lo", b"[fe80::1]:8000")


def test_no_header_breaks_out_of_its_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        VLLMModerator("http://h/v1", api_key="x\r\nHost: evil")
    with pytest.raises(ValueError, match="begins with http"):
        VLLMModerator("ftp://h/v1")


@pytest.mark.parametrize(
    "url",
    [
        "http://h:99999/v1",
        "http://h:0/v1",
        "http://h:secret/v1",
        "http://[::1/v1",
        "http://\u00fc..example/v1",
        "http://h/v1?key=secret",
        "http://h/v1#secret",
    ],
)
def test_a_base_url_that_cannot_be_used_as_given_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url: a base URL") as refused:
        Guard.from_dict({"moderator": {"base_url": url}})
    assert "secret" not in str(refused.value)


# ---------------------------------------------------------------- which connection


async def test_checks_one_after_the_other_share_a_connection_and_those_at_once_do_not() -> None:
    async with listening() as server, client_of(server.url) as client:
        for number in range(5):
            assert await ask(client, f"{number}") == "safe"
        assert server.opened == 1
        assert await asyncio.gather(*(ask(client, f"at once {number}") for number in range(8))) == ["safe"] * 8
        assert server.opened == 8
        assert sum(pool.in_use for pool in client._pools.all()) == 0


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 50] for at in range(0, len(body), 50)]
    return CHUNKED + b"".join(b"%x;x=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nT: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "connections_opened"),
    [
        (chunked(completion(SAFE)), 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(completion(SAFE)), 1),
        (http(completion(SAFE), "connection: close"), 3),
        (b"HTTP/1.0 200 OK\r\n\r\n" + completion(SAFE), 3),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + completion(SAFE), 3),
        (http(completion(SAFE)) + b"x", 3),
        (http(completion(SAFE)) + http(completion(UNSAFE)), 3),
        (chunked(completion(SAFE)) + chunked(completion(UNSAFE)), 3),
    ],
    ids=["chunked", "interim", "close", "1.0", "until the end", "a byte more", "a reply more", "a chunked one more"],
)
async def test_a_connection_is_used_again_only_when_nothing_is_left_on_it(data: bytes, connections_opened: int) -> None:
    async with listening() as server, client_of(server.url) as client:
        server.reply = lambda _request: data
        assert [await ask(client, f"{number}") for number in range(3)] == ["safe"] * 3
        assert server.opened == connections_opened


@pytest.mark.parametrize("left", ["timeout", "cancelled"])
async def test_what_was_not_waited_for_is_never_read_by_another(left: str) -> None:
    async with listening() as server, client_of(server.url) as client:
        server.reply = lambda request: b"" if b"slow" in request.body else http(completion(SAFE))
        if left == "timeout":
            with pytest.raises(Exception, match="no answer before the deadline"):
                await ask(client, "slow", 0.1)
        else:
            task = asyncio.create_task(ask(client, "slow"))
            await until(lambda: server.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await ask(client) == "safe"
        assert server.opened == 2
        await until(lambda: server.closed == 1)
        assert sum(pool.in_use for pool in client._pools.all()) == 0


async def test_idle_connections_are_closed_though_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.15)
    async with listening() as server, client_of(server.url) as client:
        await asyncio.gather(*(ask(client, f"{number}") for number in range(4)))
        assert (server.opened, server.closed) == (4, 0)
        await until(lambda: server.closed == 4)
        assert await ask(client, "again") == "safe"


async def test_a_server_that_closes_an_idle_connection_costs_no_check() -> None:
    async with listening() as server, client_of(server.url) as client:
        server.reply = lambda _request: http(completion(SAFE), "connection: close")
        for number in range(4):
            assert await ask(client, f"{number}") == "safe"
            await asyncio.sleep(0.01)


async def test_a_pool_full_of_connections_that_died_unnoticed_costs_no_check() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one chat and, without having said so, goes away when the next one comes."""
        for reply in (http(completion(SAFE)), b""):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(Request(head, b"").header("content-length") or 0))
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with Guard.from_dict({"moderator": {"base_url": url, "deadline": "5s"}, "policy": {}}) as guard:
        for turn in range(2):
            checks = (guard.acheck(Step.input(f"{turn} {number}")) for number in range(8))
            assert not any(decision.failed for decision in await asyncio.gather(*checks))
        assert not (await guard.acheck(Step.input("alone"))).failed
    server.close()
    await asyncio.sleep(0.01)


# ---------------------------------------------------------------- making a connection


async def test_leaving_at_any_moment_of_connecting_leaves_no_socket() -> None:
    before = _sockets()
    async with listening() as server:
        for turns in range(14):
            async with client_of(server.url) as client:
                task = asyncio.create_task(ask(client))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)  # a socket lost here warns, and warnings are errors
        gc.collect()
        await until(lambda: server.closed == server.opened)
    assert _sockets() == before


async def test_a_burst_looks_the_name_up_once_and_each_later_connection_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = 0
    loop = asyncio.get_running_loop()

    async def slowly(_host: str, port: int, **_options: object) -> object:
        nonlocal looked_up
        looked_up += 1
        await asyncio.sleep(0.05)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", slowly)
    async with listening() as server, client_of(server.url.replace("127.0.0.1", "moderator.test")) as client:
        with pytest.raises(Timeout):
            await ask(client, "in haste", 0.01)  # takes the others' look-up along for nobody
        assert await asyncio.gather(*(ask(client, f"{number}") for number in range(20))) == ["safe"] * 20
        assert (looked_up, server.opened) == (1, 20)
        pool = client._pools.get()
        assert isinstance(pool, Pool)
        pool._idle.clear()
        assert await ask(client, "later") == "safe"
        assert looked_up == 2


async def test_what_has_no_connection_yet_is_not_sent_after_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    real = loop.create_connection

    async def slowly(*things: Any, **options: Any) -> Any:
        started.set()
        await go.wait()
        return await real(*things, **options)

    monkeypatch.setattr(loop, "create_connection", slowly)
    async with listening() as server, client_of(server.url) as client:
        task = asyncio.create_task(ask(client))
        await started.wait()
        await client.aclose()
        go.set()
        with pytest.raises(Unavailable, match="reset"):
            await task
        await until(lambda: server.closed == 1)
        assert server.requests == []


async def test_a_reply_that_we_cut_ourselves_is_no_reply() -> None:
    answered = asyncio.Event()

    async def never_ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + completion(SAFE))
        answered.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(never_ending, "127.0.0.1", 0)
    async with client_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as client:
        task = asyncio.create_task(ask(client))
        await answered.wait()
        await asyncio.sleep(0.05)
        await client.aclose()
        with pytest.raises(Unavailable, match="reset"):
            await task
    server.close()
    await asyncio.sleep(0.01)


def _silent() -> tuple[socket.socket, list[socket.socket], Address]:
    """A port that answers no connection: its queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(3):
        each = socket.socket()
        each.setblocking(False)
        each.connect_ex(listener.getsockname())
        waiting.append(each)
    return listener, waiting, (socket.AF_INET, listener.getsockname())


@pytest.mark.parametrize("order", ["refused first", "silent first", "all", "the other connects too"])
async def test_one_address_that_answers_will_do(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "DELAY", 0.05)
    before = _sockets()
    listener, waiting, silent = _silent()
    refused = (socket.AF_INET, ("127.0.0.1", 1))
    async with listening() as server:
        good = (socket.AF_INET, ("127.0.0.1", int(server.url.split(":")[2].split("/")[0])))
        addresses: dict[str, list[Address]] = {
            "refused first": [refused, good],
            "silent first": [silent, good],
            "all": [refused, silent, refused, good],
            "the other connects too": [good, good],
        }
        (await asyncio.wait_for(dialling.dial(addresses[order]), 1.0)).close()
        await asyncio.sleep(0.02)
    for each in (listener, *waiting):
        each.close()
    with pytest.raises(ConnectionRefusedError):
        await dialling.dial([refused, refused])
    gc.collect()
    assert _sockets() == before


async def test_a_connection_that_is_never_answered_ends_at_the_deadline() -> None:
    listener, waiting, (_, address) = _silent()
    try:
        for scheme in ("http", "https"):
            async with client_of(f"{scheme}://127.0.0.1:{address[1]}/v1") as client, asyncio.timeout(5.0):
                with pytest.raises(Timeout):
                    await ask(client, seconds=0.2)
    finally:
        for each in (listener, *waiting):
            each.close()


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("10.0.0.1", (socket.AF_INET, ("10.0.0.1", 80))),
        ("::1", (socket.AF_INET6, ("::1", 80, 0, 0))),
        ("fe80::1%eth0", None),
        ("localhost", None),
        ("1.2.3", None),
        ("1.2.3.4\0", None),
    ],
)
def test_only_a_name_is_looked_up(host: str, found: object) -> None:
    assert dialling.numeric(host, 80) == found


def _sockets() -> int:
    links = []
    files = Path("/proc/self/fd")
    for each in files.iterdir() if files.exists() else ():  # elsewhere only the warnings tell
        with contextlib.suppress(OSError):
            links.append(str(each.readlink()))
    return sum(link.startswith("socket:") for link in links)


# ---------------------------------------------------------------- TLS


def served_with_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


async def test_over_tls_with_a_certificate_that_the_system_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    async with listening(tls=served_with_tls()) as server:
        settings = {"moderator": {"base_url": server.url, "deadline": "5s"}, "policy": {}}
        async with Guard.from_dict(settings) as guard:
            decisions = [await guard.acheck(Step.input(f"{number}")) for number in range(3)]
        assert [decision.action for decision in decisions] == ["allow"] * 3
        assert server.opened == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "moderator.test"])
async def test_no_content_goes_to_a_server_with_another_certificate(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host == "127.0.0.1":
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)  # nobody signed it but itself
    else:
        monkeypatch.setenv("SSL_CERT_FILE", str(PEM))  # trusted, for other names
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo
        monkeypatch.setattr(loop, "getaddrinfo", lambda _host, *more, **options: real("127.0.0.1", *more, **options))
    async with listening(tls=served_with_tls()) as server:
        settings = {"moderator": {"base_url": server.url.replace("127.0.0.1", host), "deadline": "5s"}}
        async with Guard.from_dict(settings) as guard:
            decision = await guard.acheck(Step.input("hello"))
        assert (decision.action, decision.failed) == ("block", True)
        assert decision.verdict.cause == "cannot connect (SSLCertVerificationError)"
        assert server.requests == []
