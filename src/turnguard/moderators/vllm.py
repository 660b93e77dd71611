"""The lean client: one exchange, one POST to a vLLM server, over aiohttp.

aiohttp because the `openai` client alone costs about 1 ms of CPU per call and aiohttp 0.07 ms (measured side by side by
`benchmarks/`). Environment proxies are not used: what is judged goes to the configured server and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from turnguard._compat import timeout
from turnguard.errors import ModeratorError, Timeout, Unavailable
from turnguard.exchange import Exchange
from turnguard.moderators.base import About, Deadline
from turnguard.moderators.families import Family, family
from turnguard.moderators.replies import ID_HEADER, MAX_REPLY, belongs, new_id, not_ours, parse
from turnguard.moderators.sessions import Sessions
from turnguard.verdict import Verdict

if TYPE_CHECKING:
    import aiohttp

IDLE_SECONDS = 4.0
"""An idle connection is dropped before vLLM's uvicorn does so at 5.0 s; at equal times both sides race."""
ABOUT_SECONDS = 30.0
"""How long what `/v1/models` said counts. A changed `system_fingerprint` in a reply ends it at once."""
ABOUT_WAIT = 0.5
"""Seconds that `/v1/models` may take, and a quarter of the deadline at most."""


class VLLMModerator:
    """Judges over HTTP against one endpoint that speaks vLLM's chat completions. `base_url` ends in `/v1`."""

    def __init__(
        self,
        base_url: str,
        *,
        model: str = "nemotron_moderator",
        family: str = "nemotron-3",
        api_key: str = "",
        categories: bool = True,
    ) -> None:
        import aiohttp  # noqa: F401 - here, so that the first check's deadline does not pay for the import

        self.base_url = base_url.rstrip("/")
        self.model = model
        self.categories = categories
        self._family = _family(family)
        self._url = f"{self.base_url}/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._sessions = Sessions(_session)
        self._identity = Identity(self._family, model, categories)

    def __repr__(self) -> str:
        return f"VLLMModerator({self.base_url!r}, model={self.model!r})"

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Ask once; a pooled connection that turns out to be closed is replaced and the question asked again."""
        started = time.perf_counter()
        body = encode(self._family.request(exchange, self.model, self.categories), exchange)
        reply = parse(*await self._send("POST", self._url, body, deadline), self.model)
        verdict = self._family.verdict(reply, exchange)
        self._identity.saw(reply.get("system_fingerprint"))
        return replace(verdict, model=verdict.model or self.model, latency=time.perf_counter() - started)

    async def about(self, deadline: Deadline) -> About:
        """What `/v1/models` says of the served model. Asked for once in a while; a failure leaves the limit unknown."""
        return await self._identity.current(lambda: self._models(deadline))

    async def _models(self, deadline: Deadline) -> Any:
        # a server that answers verdicts but hangs here must not eat the deadline of the check
        brief = deadline.within(min(ABOUT_WAIT, deadline.remaining / 4))
        try:
            return parse(*await self._send("GET", f"{self.base_url}/models", None, brief), self.model)
        except ModeratorError:
            return {}

    async def aclose(self) -> None:
        """Close the connections that belong to this event loop; those of others close with their loops."""
        await self._sessions.aclose()

    async def _send(
        self, method: str, url: str, body: bytes | None, deadline: Deadline
    ) -> tuple[int, bytes, str | None]:
        import aiohttp

        remaining = deadline.remaining
        if remaining <= 0.0:
            raise Timeout("the deadline passed")
        name = new_id()
        headers = {**self._headers, ID_HEADER: name}
        try:
            async with (
                timeout(remaining),
                self._sessions.get().request(
                    method, url, data=_payload(body), headers=headers, allow_redirects=False
                ) as response,
            ):
                data = await _read(response)
                if not belongs(data, name):
                    response.close()  # whatever comes next on this connection is not ours either
                    raise not_ours()
                return (
                    response.status,
                    data,
                    response.headers.get("Retry-After"),
                )
        except asyncio.TimeoutError:
            raise Timeout("no answer before the deadline") from None
        except aiohttp.ClientConnectorDNSError:
            raise Unavailable("the server's name cannot be resolved") from None
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"cannot connect ({type(getattr(error, 'os_error', error)).__name__})") from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
            raise Unavailable("the connection was reset", retry="now") from None
        except (aiohttp.ClientError, ValueError) as error:
            # a reply that breaks HTTP itself: truncated body, illegal header or encoding
            raise Unavailable(f"the reply broke off ({type(error).__name__})", retry="now") from None
        except OSError as error:
            raise Unavailable(f"no connection ({type(error).__name__})") from None


class Identity:
    """What is known of the model behind an endpoint, and until when. Shared by both clients."""

    def __init__(self, family: Family, model: str, categories: bool) -> None:
        self._base = f"{family.name}/{family.version}/{model}/{'categories' if categories else 'labels'}"
        self._model = model
        self._until = 0.0
        self._fingerprint: Any = None
        self._generation = 0
        self._locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self.about = About(f"{self._base}/unknown")

    async def current(self, ask: Callable[[], Awaitable[Any]]) -> About:
        """What is known, asked for anew with `ask` when that is due. A burst of checks asks once per event loop."""
        if self.fresh:
            return self.about
        loop = asyncio.get_running_loop()
        lock = self._locks.setdefault(loop, asyncio.Lock())
        try:
            async with lock:
                if not self.fresh:
                    self.learn(await ask())
        finally:
            if not lock.locked():
                self._locks.pop(loop, None)  # a lock that was waited for holds its loop
        return self.about

    @property
    def fresh(self) -> bool:
        """Whether what was learned still counts."""
        return time.monotonic() < self._until

    def learn(self, reply: Any) -> None:
        """Take what `/v1/models` said. `created` is left out: vLLM makes it anew for every answer."""
        cards = reply.get("data") if isinstance(reply, dict) else None
        cards = cards if isinstance(cards, list) else []
        card: dict[str, Any] = next((c for c in cards if isinstance(c, dict) and c.get("id") == self._model), {})
        limit = card.get("max_model_len")
        digest = hashlib.sha256(
            json.dumps([card.get("root"), card.get("parent"), card.get("owned_by"), limit], default=str).encode()
        ).hexdigest()[:16]
        whole = isinstance(limit, int) and not isinstance(limit, bool)
        self.about = About(f"{self._base}/{digest}/{self._generation}", limit if whole else None)
        self._until = time.monotonic() + ABOUT_SECONDS

    def saw(self, fingerprint: Any) -> None:
        """A reply's `system_fingerprint`: a changed one means that another server answers now."""
        if fingerprint != self._fingerprint:
            if self._fingerprint is not None:
                self._until = 0.0
                self._generation += 1
                self.about = About(f"{self._base}/unknown/{self._generation}", self.about.max_model_len)
            self._fingerprint = fingerprint


@cache
def _connector() -> type[aiohttp.TCPConnector]:
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        """Gives out no pooled connection on which something was said after the last reply.

        aiohttp (3.14) looks only whether it is open, and would read that as the reply to the next request. The OpenAI
        client's transport drops such a connection by itself.
        """

        async def connect(self, *args: Any, **options: Any) -> Any:
            try:
                connection = await super().connect(*args, **options)
            except BaseException:  # refused, or no answer by the deadline
                self.clear_dns_cache()  # the server may have moved: its name is looked up anew
                raise
            if connection.protocol is not None and connection.protocol.should_close:
                connection.close()
                raise aiohttp.ServerDisconnectedError
            return connection

    return Connector


def _session() -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        connector=_connector()(limit=0, keepalive_timeout=IDLE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None),  # the deadline bounds everything
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """aiohttp warns of bytes above a megabyte (an error under some filters); it sends a file object without a word."""
    return io.BytesIO(body) if body is not None and len(body) > 2**20 else body


def encode(body: dict[str, Any], exchange: Exchange) -> bytes:
    """The body as JSON bytes. A picture's base64 is spliced in as it is: escaping a megabyte costs milliseconds."""
    if exchange.picture is None:
        return json.dumps(body, separators=(",", ":")).encode()
    part = body["messages"][0]["content"][0]["image_url"]
    part["url"] = ""
    # the picture's URL is the first value of the body (families put messages first, and the image before the text)
    head, _, tail = json.dumps(body, separators=(",", ":")).partition('"url":""')
    return b"".join((head.encode(), b'"url":"', exchange.picture.data_uri.encode("ascii"), b'"', tail.encode()))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to one byte more than any verdict has."""
    length = response.content_length
    if length is not None and length <= MAX_REPLY and "Content-Encoding" not in response.headers:
        return await response.read()
    chunks = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        chunks += chunk
        if len(chunks) > MAX_REPLY:
            break
    return bytes(chunks)


def _family(name: str) -> Family:
    return family(name)
