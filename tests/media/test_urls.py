"""What may be fetched, and that what was judged is what is passed on. Servers stand on loopback."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.media.drawing import counted, encoded, page, prepare
from tests.media.pdfs import pdf, words
from tests.media.test_pictures import lines
from turnguard import Decision, Guard, Step
from turnguard.config.settings import MediaSettings
from turnguard.core.errors import ConfigError
from turnguard.core.step import Image
from turnguard.media import Media, Prepared
from turnguard.media.types import Unreadable
from turnguard.media.urls.allow import Allowed, parse
from turnguard.media.urls.once import FEW
from turnguard.testing import FakeModerator

LARGE = encoded(lines((1500, 1300)))
PNG = encoded(page())
LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://CDN.Example.COM/a", "https://cdn.example.com/a"),
        ("https://cdn.example.com:443", "https://cdn.example.com/"),
        ("http://cdn.example.com:80/a?b=c#d", "http://cdn.example.com/a?b=c"),
        ("https://cdn.example.com./a", "https://cdn.example.com/a"),
        ("https://cdn.example.com/a/../b/./c", "https://cdn.example.com/b/c"),
        ("https://cdn.example.com/../../b", "https://cdn.example.com/b"),
        ("https://cdn.example.com/%61%2D%7E%20", "https://cdn.example.com/a-~%20"),
        ("https://bücher.example/a", "https://xn--bcher-kva.example/a"),
        ("https://[::1]/a", "https://[::1]/a"),
        ("https://[0:0:0:0:0:0:0:1]:8443/", "https://[::1]:8443/"),
        (" https://cdn.example.com/a\n", "https://cdn.example.com/a"),
    ],
)
def test_urls_are_normalised(url: str, normal: str) -> None:
    assert parse(url).url == normal
    assert parse(parse(url).url).url == normal


@pytest.mark.parametrize(
    "url",
    [
        "https://user@cdn.example.com/",
        "https://cdn.example.com:pass@evil.example/",
        "https://cdn.example.com@evil.example/",
        "https://cdn.example.com\\@evil.example/",
        "https:\\\\cdn.example.com/",
        "https://cdn.example.com\\.evil.example/",
        "https://cdn.example.com/a%2f..%2fb",
        "https://cdn.example.com/%2e%2e/b",
        "https://cdn.example.com/a%5cb",
        "https://cdn.example.com/a%00b",
        "https://cdn.example.com/%252e%252e/",
        "https://cdn.example.com/a b",
        "https://cdn.example.com/a\tb",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://[fe80::1%25eth0]/",
        "https://exa mple.com/",
        "https://-bad.example/",
        "https://%63dn.example.com/",
        "https:///a",
        "https://",
        "https://cdn.example.com:0/",
        "https://cdn.example.com:99999/",
        "https://[::1/",
        "ftp://cdn.example.com/",
        "file:///etc/passwd",
        "gopher://cdn.example.com/",
        "//cdn.example.com/",
    ],
)
def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(Unreadable):
        Allowed(["https://cdn.example.com/", "http://127.0.0.1/"], LOOPBACK).check(url)


@pytest.mark.parametrize(
    ("prefix", "url", "expected"),
    [
        ("https://cdn.example.com/", "https://cdn.example.com/a.png", True),
        ("https://cdn.example.com", "https://cdn.example.com/a.png", True),
        ("https://CDN.example.com/Pics", "https://cdn.EXAMPLE.com/Pics/a.png", True),
        ("https://cdn.example.com/pics", "https://cdn.example.com/pics", True),
        ("https://cdn.example.com/pics/", "https://cdn.example.com/pics/a", True),
        ("https://cdn.example.com/pics", "https://cdn.example.com/pics-evil/a", False),
        ("https://cdn.example.com/pics", "https://cdn.example.com/Pics/a", False),
        ("https://cdn.example.com/pics/", "https://cdn.example.com/pics/../private", False),
        ("https://cdn.example.com/pics/", "https://cdn.example.com/", False),
        ("https://cdn.example.com/", "http://cdn.example.com/a", False),
        ("https://cdn.example.com/", "https://cdn.example.com:8443/a", False),
        ("https://cdn.example.com:8443/", "https://cdn.example.com:8443/a", True),
        ("https://cdn.example.com/", "https://cdn.example.com.evil.example/a", False),
        ("https://cdn.example.com/", "https://evil-cdn.example.com/a", False),
        ("https://cdn.example.com/", "https://evil.example/?https://cdn.example.com/", False),
        ("https://bücher.example/", "https://xn--bcher-kva.example/a", True),
    ],
)
def test_prefixes_match_at_path_boundaries(prefix: str, url: str, expected: bool) -> None:
    allowed = Allowed([prefix], [])
    if expected:
        allowed.check(url)
    else:
        with pytest.raises(Unreadable, match="allow_urls"):
            allowed.check(url)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("::ffff:93.184.216.34", True),
        *[
            (closed, False)
            for closed in (
                *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),  # noqa: S104
                *("192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "203.0.113.1"),
                *("::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1", "2001::1"),
                *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
                *("2002:a9fe:a9fe::", "64:ff9b:1::1"),
            )
        ],
    ],
)
def test_only_public_addresses_are_reachable(address: str, expected: bool) -> None:
    assert Allowed([], []).reachable(ipaddress.ip_address(address)) is expected


def test_allow_private_opens_its_ranges_only() -> None:
    allowed = Allowed([], ["10.1.0.0/16", "fd00::/8"])
    for address, expected in (("10.1.2.3", True), ("10.2.0.1", False), ("fd12::1", True), ("::ffff:10.1.0.1", True)):
        assert allowed.reachable(ipaddress.ip_address(address)) is expected


@pytest.mark.parametrize(
    "settings",
    [
        {"allow_urls": ("cdn.example.com",)},
        {"allow_urls": ("https://user:secret@cdn.example.com/",)},
        {"allow_urls": ("https://cdn.example.com/?a=b",)},
        {"allow_urls": ("*",)},
        {"allow_private": ("10.0.0.0/99",)},
        {"allow_private": ("10.0.0.1/8",)},
    ],
)
def test_a_list_that_cannot_be_read_is_the_developers_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"media\.allow_"):
        Media(MediaSettings(**settings))


# ---------------------------------------------------------------- fetching

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server on loopback that answers everything with one handler; gives its address."""
    runners: list[web.ServerRunner] = []

    async def start(handler: Handler) -> str:
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)  # type: ignore[arg-type]
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def fetch(url: str, *allow: str, **settings: Any) -> Prepared:
    settings.setdefault("allow_private", LOOPBACK)
    return await prepare(Image(url), allow_urls=allow, **settings)


async def png(request: web.Request) -> web.Response:
    return web.Response(body=PNG, content_type="text/html")


async def test_the_judged_bytes_are_passed_on(serve: Serve) -> None:
    asked: list[web.Request] = []

    async def once(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(body=PNG, headers={"Set-Cookie": "a=b"})

    base = await serve(once)
    prepared = await fetch(f"{base}/a.png", base)
    assert prepared.pinned == Image(f"data:image/png;base64,{base64.b64encode(PNG).decode()}", "image/png")
    assert [view.picture for view in prepared.views] == [view.picture for view in (await prepare(PNG)).views]
    assert len(asked) == 1
    assert "Cookie" not in asked[0].headers
    assert "Authorization" not in asked[0].headers


async def test_what_the_list_does_not_name_is_not_asked_for(serve: Serve) -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=PNG)

    base = await serve(note)
    part = Image(f"{base}/a.png")
    variants: list[dict[str, Any]] = [
        {},
        {"allow_urls": (f"{base}/pics",)},
        {"allow_urls": (base,), "allow_private": ()},
    ]
    for settings in variants:
        prepared = await prepare(part, **{"allow_private": LOOPBACK, **settings})
        assert prepared.pinned is part
        assert not prepared.views
        assert len(counted(prepared)) == 1
    assert not asked


async def test_a_name_that_resolves_to_a_private_address_is_refused(serve: Serve) -> None:
    base = (await serve(png)).replace("127.0.0.1", "localhost")
    assert counted(await fetch(f"{base}/a", base, allow_private=())) == [("", "a private address")]
    assert (await fetch(f"{base}/a", base)).views


async def test_the_address_that_was_checked_is_the_one_that_is_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently the second time (rebinding) gains nothing: it is resolved once."""
    base = await serve(png)
    port = int(base.rpartition(":")[2])
    answers = ["127.0.0.1", "127.0.0.9"]
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def rebinding(host: Any, *more: Any, **named: Any) -> Any:
        if host != "rebind.example":
            return await real(host, *more, **named)
        asked.append(answers.pop(0))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (asked[-1], port))]

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    allow = f"http://rebind.example:{port}/"
    assert (await fetch(f"{allow}a", allow, allow_private=("127.0.0.1/32",))).views
    assert asked == ["127.0.0.1"]
    assert counted(await fetch(f"{allow}a", allow, allow_private=("127.0.0.1/32",))) == [("", "a private address")]


async def test_redirects_are_followed_within_the_list_and_checked_again(serve: Serve) -> None:
    async def hop(request: web.Request) -> web.Response:
        if request.path == "/a":
            return web.Response(status=302, headers={"Location": "/b/../c"})
        if request.path.startswith("/away"):
            return web.Response(status=307, headers={"Location": request.query["to"]})
        if request.path == "/loop":
            return web.Response(status=301, headers={"Location": "/loop"})
        return web.Response(body=PNG)

    base = await serve(hop)
    assert (await fetch(f"{base}/a", base)).views
    assert counted(await fetch(f"{base}/loop", base)) == [("", "more than 5 redirects")]
    for target in ("http://169.254.169.254/latest", "https://evil.example/", "file:///etc/passwd", "http://a@b/"):
        prepared = await fetch(f"{base}/away?to={target}", base)
        assert not prepared.views
        assert "address" in counted(prepared)[0][1]
    other = await serve(png)
    assert counted(await fetch(f"{base}/away?to={other}/x", base)) == [("", "an address that allow_urls does not list")]
    assert (await fetch(f"{base}/away?to={other}/x", base, other)).views


async def test_size_time_status_and_encoding_are_bounded(serve: Serve) -> None:
    async def bad(request: web.Request) -> web.StreamResponse:
        if request.path == "/missing":
            raise web.HTTPNotFound
        if request.path == "/long":
            return web.Response(body=bytes(5000))
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(10_000):
                await response.write(bytes(1000))
            return response
        if request.path == "/gzip":
            return web.Response(body=gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})
        if request.path == "/empty":
            return web.Response()
        await asyncio.sleep(30)
        return web.Response(body=PNG)

    base = await serve(bad)
    for path, cause in (
        ("/missing", "cannot be fetched (status 404)"),
        ("/long", "more than 4,000 bytes"),
        ("/endless", "more than 4,000 bytes"),
        ("/gzip", "sent with a content encoding that was not asked for"),
        ("/empty", "empty"),
        ("/slow", "fetching took too long"),
    ):
        assert counted(await fetch(base + path, base, max_bytes=4000, deadline=0.5)) == [("", cause)]


async def test_an_address_where_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{free.getsockname()[1]}"
    ((_, cause),) = counted(await fetch(f"{base}/a", base))
    assert cause.startswith("cannot be fetched")


async def test_the_environments_proxy_is_not_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    base = await serve(png)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await fetch(f"{base}/a", base)).views


async def test_a_document_behind_an_image_address_is_read_as_one(serve: Serve) -> None:
    pytest.importorskip("pypdfium2")

    async def document(request: web.Request) -> web.Response:
        return web.Response(body=pdf(words("words in it")))

    base = await serve(document)
    prepared = await fetch(f"{base}/a.png", base)
    assert "words in it" in prepared.texts[0][1]
    assert str(prepared.pinned.source).startswith("data:application/pdf;base64,")


async def test_cancelling_a_fetch_cancels_it(serve: Serve) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    base = await serve(slow)
    task = asyncio.create_task(fetch(f"{base}/a", base))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---------------------------------------------------------------- the URLs of one step


async def judged(step: Step, base: str, **settings: Any) -> Decision:
    media = MediaSettings(allow_urls=(base,), allow_private=LOOPBACK, **settings)
    async with Guard(moderator=FakeModerator(), media=media) as guard:
        return await guard.acheck(step)


async def test_one_url_is_fetched_once_for_a_step(serve: Serve) -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=LARGE)

    base = await serve(note)
    again = [f"{base}/a.png"] * 4
    decision = await judged(Step.output("Here.", images=again, prompt="Draw", prompt_images=again[:1]), base)
    assert decision.action == "allow"
    assert asked == ["/a.png"]
    asked.clear()
    # what needs more than its share is read again, and not fetched again
    await judged(Step.input("x", images=[f"{base}/{at}" for at in range(6)]), base, max_requests=20)
    assert sorted(asked) == [f"/{at}" for at in range(6)]


async def test_urls_beyond_the_bound_are_uncheckable_and_not_fetched(serve: Serve) -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=PNG)

    base = await serve(note)
    decision = await judged(Step.input("x", images=[f"{base}/{at}" for at in range(300)]), base)
    assert decision.action == "block"
    assert len(asked) == 16
    causes = [entry.cause for entry in decision.coverage.not_judged if entry.counts]
    assert causes.count("more than 16 addresses in one step") == 284


async def test_few_are_fetched_at_a_time_and_all_before_one_deadline(serve: Serve) -> None:
    open_now, most = 0, 0

    async def slow(request: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            await asyncio.sleep(0.02 if request.path < "/8" else 60)
        finally:
            open_now -= 1
        return web.Response(body=PNG)

    base = await serve(slow)
    decision = await judged(Step.input("x", images=[f"{base}/{at}" for at in range(10)]), base, deadline=9.0)
    assert most == FEW
    late = [entry.part for entry in decision.coverage.not_judged if entry.cause == "fetching took too long"]
    assert late == [9, 10]
    assert {entry.part for entry in decision.coverage.judged if entry.kind == "image"} == set(range(1, 9))
