"""Fetches a URL once, from an allowed place only, by the very address that was checked.

No proxy from the environment, no cookies, no credentials, no automatic redirect, no content encoding: each of them is
a way past the check or past the size limit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from turnguard.media.types import Unreadable

if TYPE_CHECKING:
    import aiohttp

    from turnguard.media.urls.allow import Allowed, Target

_REDIRECTS = 5
_REDIRECT = {301, 302, 303, 307, 308}
_CHUNK = 65536


async def fetch(url: str, allowed: Allowed, most: int) -> bytes:
    """The bytes at `url`, at most `most`; `Unreadable` with the cause where it may not be or cannot be fetched.

    Sets no deadline: the caller does.
    """
    target = allowed.check(url)
    import aiohttp

    connector = aiohttp.TCPConnector(resolver=_resolver(allowed), use_dns_cache=False, limit=1, force_close=True)
    try:
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "Accept": "image/*, application/pdf", "User-Agent": "turnguard"},
        ) as session:
            return await _follow(session, target, allowed, most)
    except TimeoutError:  # before OSError: it is one from Python 3.11 on
        raise Unreadable("fetching took too long") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, _Refused) or isinstance(getattr(error, "os_error", error.__cause__), _Refused):
            raise Unreadable("a private address") from None
        raise Unreadable(f"cannot be fetched ({type(error).__name__})") from None


async def _follow(session: aiohttp.ClientSession, target: Target, allowed: Allowed, most: int) -> bytes:
    from yarl import URL

    for _ in range(_REDIRECTS + 1):
        async with session.get(URL(target.url, encoded=True), allow_redirects=False) as response:
            if response.status in _REDIRECT and "Location" in response.headers:
                secure = target.scheme == "https"
                target = allowed.check(urljoin(target.url, response.headers["Location"]))
                if secure and target.scheme != "https":
                    raise Unreadable("a redirect from https to http")
                continue
            if response.status != 200:
                raise Unreadable(f"cannot be fetched (status {response.status})")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Unreadable("sent with a content encoding that was not asked for")
            return await _body(response, most)
    raise Unreadable(f"more than {_REDIRECTS} redirects")


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    if (response.content_length or 0) > most:
        raise Unreadable(f"more than {most:,} bytes")
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > most:
            raise Unreadable(f"more than {most:,} bytes")
    if not body:
        raise Unreadable("empty")
    return bytes(body)


class _Refused(OSError):
    """The name resolves to an address that may not be reached."""


def _resolver(allowed: Allowed) -> Any:
    """A resolver whose answers were checked: aiohttp connects to exactly what it returns, so nothing can rebind."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Checked(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
            results: list[ResolveResult] = []
            for kind, _, protocol, _, where in found:
                address = str(where[0])
                # One closed address is enough to refuse the name: which of them is used would be the attacker's choice.
                if "%" in address or not allowed.reachable(ipaddress.ip_address(address)):
                    raise _Refused
                flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
                results.append(
                    ResolveResult(hostname=host, host=address, port=port, family=kind, proto=protocol, flags=flags)
                )
            return results

        async def close(self) -> None:
            pass

    return Checked()
