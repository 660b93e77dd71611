"""Connections through a proxy, or with certificates of one's own: by the HTTP stack of the `openai` client.

It takes the place of the lean client's connections and costs about 1 ms of CPU more a check. Redirects are not
followed, and the environment's proxies and certificates are not used.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turnguard.config.settings import EndpointSettings, TLSSettings
from turnguard.core.errors import ConfigError
from turnguard.moderators.http.connection import Origin, Unreachable
from turnguard.moderators.http.framing import MAX_REPLY, Reply
from turnguard.moderators.http.pool import Pool


def gateway(settings: EndpointSettings, folder: Path) -> Callable[[Origin], Pool] | None:
    """What opens connections as the settings ask for; None where the lean client's are enough.

    Raises `ConfigError` for a certificate that cannot be read.
    """
    if settings.tls is None and settings.proxy is None:
        return None
    context = _context(settings.tls or TLSSettings(), folder)
    proxy = None if settings.proxy is None else settings.proxy.get_secret_value()
    return lambda origin: GatewayPool(origin, context, proxy)


def _context(tls: TLSSettings, folder: Path) -> ssl.SSLContext:
    """The trusted authorities and the client's certificate."""

    def found(key: str, name: str) -> Path:
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"moderator.tls.{key}: there is no file {name}")
        return path

    context = ssl.create_default_context(cafile=None)
    if tls.ca is not None:
        path = found("ca", tls.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(path)
        except (ssl.SSLError, OSError):
            raise ConfigError(f"moderator.tls.ca: {tls.ca} holds no certificate in PEM form") from None
    if tls.cert is not None:
        key = None if tls.key is None else found("key", tls.key)
        try:
            # a password would be asked for on the terminal: an empty one fails instead
            context.load_cert_chain(found("cert", tls.cert), key, password="")
        except (ssl.SSLError, OSError):
            named = tls.cert if tls.key is None else f"{tls.cert} and {tls.key}"
            raise ConfigError(
                f"moderator.tls.cert: {named} do not hold a certificate and its key in PEM form, without a password"
            ) from None
    return context


class GatewayPool:
    """The connections of one event loop, held by the client's own HTTP client."""

    def __init__(self, origin: Origin, context: ssl.SSLContext, proxy: str | None) -> None:
        import openai

        scheme = "https" if origin.secure else "http"
        self._server = f"{scheme}://{origin.name.decode('ascii')}"
        self._client: Any = openai.DefaultAsyncHttpxClient(
            verify=context, proxy=proxy, trust_env=False, follow_redirects=False, timeout=None
        )
        self._busy = 0

    @property
    def in_use(self) -> int:
        """Requests under way."""
        return self._busy

    async def ask(
        self, head: bytes, body: bytes | None, deadline: float, check: Callable[[bytes], None] | None = None
    ) -> Reply:
        """The reply to a request, as the lean client's pool gives it."""
        line, *headers = head.decode("utf-8").removesuffix("\r\n").split("\r\n")
        method, path, _ = line.split(" ")
        named = [tuple(header.split(": ", 1)) for header in headers]
        request = self._client.build_request(method, self._server + path, headers=named, content=body)
        self._busy += 1
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                answer = await self._client.send(request, stream=True)
                try:
                    read = bytearray()
                    async for chunk in answer.aiter_raw():
                        read += chunk
                        if len(read) > MAX_REPLY:
                            break
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - the stack's own classes are httpx's or httpx2's, as openai has it
            raise _told(error) from None
        finally:
            self._busy -= 1
        reply = bytes(read[: MAX_REPLY + 1])
        if check is not None:
            check(reply)
        return Reply(
            answer.status_code,
            reply,
            answer.headers.get("Retry-After"),
            answer.headers.get("Content-Encoding"),
            reusable=True,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def drop(self) -> None:
        """Nothing can be waited for: the sockets are closed when they are collected."""


def _told(error: Exception) -> Exception:
    """An error of the HTTP stack, in the lean client's terms. The stack's text may name the proxy's password."""
    name = type(error).__name__
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and isinstance(cause, Exception):
        causes.append(cause)
    certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if name == "ConnectError" and certificate is not None:
        return Unreachable(f"cannot connect ({type(certificate).__name__})")
    if name in ("ReadError", "WriteError", "CloseError", "RemoteProtocolError"):
        return ConnectionResetError()
    if name == "ProxyError":
        return Unreachable("the proxy refused the connection")
    if name in ("ConnectError", "UnsupportedProtocol", "LocalProtocolError") or isinstance(error, OSError):
        return Unreachable(f"cannot connect ({name})")
    return error
