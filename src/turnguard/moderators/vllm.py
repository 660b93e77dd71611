"""The lean client: one exchange, one POST to a vLLM server.

Its own connections because the `openai` client alone costs about 1 ms of CPU per call (measured side by side by
`benchmarks/`). Environment proxies are not used: what is judged goes to the configured server and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic_core import to_json

from turnguard.core.errors import ModeratorError, Timeout, Unavailable, Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.base import HERE, About, Deadline
from turnguard.moderators.families import Asking, Body, Reply, Wire
from turnguard.moderators.families import family as family_of
from turnguard.moderators.http.connection import Origin, Unreachable
from turnguard.moderators.http.connection import Pool as OwnPool
from turnguard.moderators.http.framing import BrokenReply
from turnguard.moderators.http.pool import Pool
from turnguard.moderators.replies import ID_HEADER, new_id, parse, refuse_others
from turnguard.runtime.loops import PerLoop

ABOUT_SECONDS = 30.0
"""How long what `/v1/models` said counts. A changed `system_fingerprint` in a reply ends it at once."""
ABOUT_WAIT = 0.5
"""Seconds that `/v1/models` may take, and a quarter of the deadline at most."""


class VLLMModerator:
    """Judges over HTTP against one endpoint that speaks vLLM's chat completions. `base_url` ends in `/v1`.

    `headers` go along with every request; the client's own win over those of the same name. `pool` opens the
    connections of one event loop to the server; None opens the lean client's.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str = "nemotron_moderator",
        family: str = "nemotron-3",
        api_key: str = "",
        categories: bool = True,
        reasoning: bool = False,
        controversial: Label = "unsafe",
        headers: Mapping[str, str] | None = None,
        pool: Callable[[Origin], Pool] = OwnPool,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self._asking = Asking(model, categories, reasoning, controversial)
        self._family = family_of(family)
        sent = {**(headers or {}), "User-Agent": "turnguard", "Accept": "application/json"}
        sent["Accept-Encoding"] = "identity"
        if api_key:
            sent["Authorization"] = f"Bearer {api_key}"
        origin = Origin.of(self.base_url)
        self._chat = origin.head("POST", "/chat/completions", {**sent, "Content-Type": "application/json"})
        self._list = origin.head("GET", "/models", sent)
        self._pools = PerLoop(partial(pool, origin))
        self._identity = Identity(self._family, self._asking)

    def __repr__(self) -> str:
        return f"VLLMModerator({self.base_url!r}, model={self.model!r})"

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Send the exchange, again on a new connection if the pooled one turns out to be closed. Return the verdict."""
        started = time.perf_counter()
        bodies = self._family.requests(exchange, self._asking)
        if len(bodies) == 1:  # as every family asks today, through no function more
            data = encode(bodies[0], exchange)
            replies = [parse(*await self._send(self._chat, data, deadline), self.model)]
        else:
            replies = await together(self._ask(body, exchange, deadline) for body in bodies)
        verdict = self._family.verdict(replies, exchange, self._asking)
        identity = self._identity.of(replies[0].get("system_fingerprint"))
        took = time.perf_counter() - started
        return replace(verdict, model=verdict.model or self.model, latency=took, identity=identity)

    async def _ask(self, body: Body, exchange: Exchange, deadline: Deadline) -> Reply:
        return parse(*await self._send(self._chat, encode(body, exchange), deadline), self.model)

    async def about(self, deadline: Deadline) -> About:
        """Return what `/v1/models` says about the model, cached for a while. After a failure the limit is unknown."""
        if time.monotonic() < self._identity.until:
            return self._identity.about
        return await self._identity.current(lambda: self._models(deadline))

    async def _models(self, deadline: Deadline) -> Any:
        # a server that answers verdicts but hangs here must not eat the deadline of the check
        try:
            return await self.served(deadline.within(min(ABOUT_WAIT, deadline.remaining / 4)))
        except ModeratorError:
            return {}

    async def served(self, deadline: Deadline) -> Mapping[str, Any]:
        """What `/v1/models` says, as it says it. Raises `ModeratorError`."""
        return parse(*await self._send(self._list, None, deadline), self.model)

    async def aclose(self) -> None:
        """Close the connections that belong to this event loop; those of others close with their loops."""
        await self._pools.aclose()

    async def _send(self, head: bytes, body: bytes | None, deadline: Deadline) -> tuple[int, bytes, str | None]:
        deadline.check()
        name = new_id()

        try:
            asked = b"%s%s: %s\r\n" % (head, ID_HEADER.encode("ascii"), name.encode("ascii"))
            reply = await self._pools.get().ask(asked, body, deadline.at, partial(refuse_others, name))
        except TimeoutError:
            raise Timeout("no answer before the deadline") from None
        except Unreachable as error:
            raise Unavailable(str(error)) from None
        except ConnectionResetError:
            raise Unavailable("the connection was reset", retry="now") from None
        except BrokenReply as error:
            raise Unavailable(f"the reply broke off ({error})", retry="now") from None
        if reply.coding is not None:
            raise Unparseable("the reply is compressed, which was not asked for")
        return reply.status, reply.body, reply.retry_after


async def together(asked: Iterable[Coroutine[Any, Any, Reply]]) -> list[Reply]:
    """The replies to all the requests of one exchange, at once and in order. The first failure ends the others.

    Not a task group: that cancels the task it runs in, which a check takes for a cancellation by its caller.
    """
    first, *others = asked
    if not others:
        return [await first]
    tasks = [asyncio.ensure_future(one) for one in (first, *others)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Identity:
    """What is known of the model behind an endpoint, and until when. Shared by both clients."""

    def __init__(self, family: Wire, asking: Asking) -> None:
        self._base = f"{family.name}/{family.version}/{asking.identity}"
        self._model = asking.model
        self._images = family.can.images
        self._thinking = asking.thinking
        self.until = 0.0
        self._served: str | None = None
        self._fingerprint: str | None = None
        self._locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self.about = About(self._named(), None, self._images)

    async def current(self, ask: Callable[[], Awaitable[Any]]) -> About:
        """What is known, asked for anew with `ask` when that is due. A burst of checks asks once per event loop."""
        loop = asyncio.get_running_loop()
        lock = self._locks.setdefault(loop, asyncio.Lock())
        try:
            async with lock:
                if time.monotonic() >= self.until:
                    self.learn(await ask())
        finally:
            if not lock.locked():
                self._locks.pop(loop, None)  # a lock that was waited for holds its loop
        return self.about

    def learn(self, reply: Any) -> None:
        """Take what `/v1/models` said. `created` is left out: vLLM makes it anew for every answer."""
        cards = reply.get("data") if isinstance(reply, dict) else None
        cards = cards if isinstance(cards, list) else []
        card: dict[str, Any] = next((c for c in cards if isinstance(c, dict) and c.get("id") == self._model), {})
        limit = card.get("max_model_len")
        digest = hashlib.sha256(
            json.dumps([card.get("root"), card.get("parent"), card.get("owned_by"), limit], default=str).encode()
        ).hexdigest()[:16]
        room = limit - self._thinking if isinstance(limit, int) and not isinstance(limit, bool) else None
        self._served = digest
        self.about = About(self._named(), room, self._images)
        self.until = time.monotonic() + ABOUT_SECONDS

    def of(self, fingerprint: Any) -> str:
        """The identity behind a reply with this `system_fingerprint`: a changed one is another server's."""
        seen = fingerprint[:120] if isinstance(fingerprint, str) else None
        if seen != self._fingerprint:
            if self._fingerprint is not None:
                self.until = 0.0
                self._served = None
            self._fingerprint = seen
            self.about = About(self._named(), self.about.max_model_len, self._images)
        return self.about.identity or ""

    def _named(self) -> str:
        named = f"{HERE}{self._base}" if self._served is None else f"{self._base}/{self._served}"
        return named if self._fingerprint is None else f"{named}/{self._fingerprint}"


def encode(body: Body, exchange: Exchange) -> bytes:
    """The body as JSON bytes. A picture's base64 is spliced in as it is: escaping a megabyte costs milliseconds."""
    if exchange.picture is not None:
        body["messages"][0]["content"][0]["image_url"]["url"] = ""
    try:
        data = to_json(body)
    except ValueError:  # half of a surrogate pair, which only an escape can carry
        data = json.dumps(body, separators=(",", ":")).encode("ascii")
    if exchange.picture is None:
        return data
    # the picture's URL is the first value of the body (families put messages first, and the image before the text)
    head, _, tail = data.partition(b'"url":""')
    return b"".join((head, b'"url":"', exchange.picture.data_uri.encode("ascii"), b'"', tail))
