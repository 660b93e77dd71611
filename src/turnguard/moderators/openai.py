"""The client for those who bring their own `openai.AsyncOpenAI`: proxies, gateways, the hosted endpoint.

It costs about 1 ms of CPU more per check than the lean client, and behaves like it otherwise: one test suite holds
both.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ModeratorError, Timeout, Unavailable, Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.base import About, Deadline
from turnguard.moderators.families import Asking, Body, Reply
from turnguard.moderators.families import family as family_of
from turnguard.moderators.replies import ID_HEADER, failure, new_id, parse, refuse_others
from turnguard.moderators.vllm import ABOUT_WAIT, Identity, together
from turnguard.runtime.quiet import at_work, hush

if TYPE_CHECKING:
    from openai import AsyncOpenAI


_SPEAKS_OF_BODIES = ("openai._base_client", "openai._legacy_response", "openai._response")
"""Loggers that write whole requests down at DEBUG."""


class OpenAIModerator:
    """Judges through an `AsyncOpenAI` that the caller made and closes. Its retries are off: ours know the deadline."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        model: str = "nemotron_moderator",
        family: str = "nemotron-3",
        categories: bool = True,
        reasoning: bool = False,
        controversial: Label = "unsafe",
    ) -> None:
        self.model = model
        self._asking = Asking(model, categories, reasoning, controversial)
        self._client = client.with_options(max_retries=0)
        # the client imports its resources when they are first touched: not inside the first check's deadline
        self._create: Any = self._client.chat.completions.with_raw_response.create
        hush(*_SPEAKS_OF_BODIES)
        self._family = family_of(family)
        self._identity = Identity(self._family, self._asking)

    def __repr__(self) -> str:
        return f"OpenAIModerator(model={self.model!r})"

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Ask once."""
        started = time.perf_counter()
        bodies = self._family.requests(exchange, self._asking)
        replies = await together(self._ask(body, deadline) for body in bodies)
        verdict = self._family.verdict(replies, exchange, self._asking)
        identity = self._identity.of(replies[0].get("system_fingerprint"))
        took = time.perf_counter() - started
        return replace(verdict, model=verdict.model or self.model, latency=took, identity=identity)

    async def _ask(self, body: Body, deadline: Deadline) -> Reply:
        own = body.pop("chat_template_kwargs", None)  # not a parameter of OpenAI's
        extra = {} if own is None else {"chat_template_kwargs": own}
        return parse(*await self._send(body, extra, deadline), self.model)

    async def about(self, deadline: Deadline) -> About:
        """What `/v1/models` says of the served model; a failure leaves the limit unknown."""
        if time.monotonic() < self._identity.until:
            return self._identity.about
        return await self._identity.current(lambda: self._models(deadline))

    async def _models(self, deadline: Deadline) -> Any:
        try:
            async with asyncio.timeout(min(ABOUT_WAIT, deadline.remaining / 4)):
                answer = await self._client.models.with_raw_response.list()
            return parse(answer.status_code, answer.content, None, self.model)
        except (ModeratorError, TimeoutError):
            return {}
        except Exception as error:
            if not _is_openai(error):
                raise
            return {}

    async def _send(
        self, body: dict[str, object], extra: dict[str, object], deadline: Deadline
    ) -> tuple[int, bytes, str | None]:
        import openai

        remaining = deadline.remaining
        if remaining <= 0.0:
            raise Timeout("the deadline passed")
        name = new_id()
        try:
            with at_work():
                async with asyncio.timeout(remaining):
                    answer = await self._create(
                        **body, extra_body=extra, extra_headers={ID_HEADER: name}, timeout=remaining + 1.0
                    )
        except (TimeoutError, openai.APITimeoutError):
            raise Timeout("no answer before the deadline") from None
        except openai.APIConnectionError as error:
            name = type(error.__cause__).__name__
            reset = name in ("ReadError", "WriteError", "RemoteProtocolError", "CloseError", "ClientOSError")
            cause = "the connection was reset" if reset else f"cannot connect ({name})"
            raise Unavailable(cause, retry="now" if reset else "never") from None
        except openai.APIStatusError as error:
            retry_after = error.response.headers.get("Retry-After")
            raise failure(error.status_code, error.response.content, retry_after, self.model) from None
        except openai.APIError as error:
            raise Unparseable(f"the client could not read the reply ({type(error).__name__})") from None
        refuse_others(name, answer.content)
        return answer.status_code, answer.content, None


def _is_openai(error: Exception) -> bool:
    import openai

    return isinstance(error, openai.OpenAIError)
