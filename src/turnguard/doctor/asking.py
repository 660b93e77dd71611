"""Ask with the product's own client, and keep everything that a reply holds besides its verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from turnguard.config.settings import EndpointSettings
from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange, Picture
from turnguard.core.verdict import Verdict
from turnguard.moderators import build
from turnguard.moderators.base import Deadline
from turnguard.moderators.replies import parse
from turnguard.moderators.vllm import VLLMModerator, encode


@dataclass(frozen=True, slots=True)
class Question:
    """One request: an exchange, whether categories are asked for, and a second picture that no exchange could hold.

    `after` names the question whose answer must have come before this one is sent.
    """

    exchange: Exchange
    categories: bool = True
    second: Picture | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back. `status` None: no HTTP answer at all. `error` is set wherever `verdict` is not (but for questions
    that are not about a verdict). `seconds` is wall time."""

    seconds: float
    status: int | None = None
    reply: Mapping[str, Any] = field(default_factory=dict, repr=False)
    verdict: Verdict | None = None
    error: ModeratorError | None = None

    @property
    def cause(self) -> str:
        """Why there is no verdict."""
        return "" if self.error is None else self.error.cause

    @property
    def label(self) -> str | None:
        """The user label."""
        return None if self.verdict is None else self.verdict.user

    @property
    def prompt_tokens(self) -> int | None:
        """How many tokens the server counted, picture included."""
        usage = self.reply.get("usage")
        count = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    @property
    def choice(self) -> Mapping[str, Any]:
        """The reply's first choice; empty when there is none."""
        choices = self.reply.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        return first if isinstance(first, Mapping) else {}

    @property
    def text(self) -> str:
        """The text of the reply."""
        message = self.choice.get("message")
        content = message.get("content") if isinstance(message, Mapping) else None
        return content if isinstance(content, str) else ""

    @property
    def reasoning(self) -> str:
        """What a reasoning parser of the server split off."""
        message = self.choice.get("message")
        found = message if isinstance(message, Mapping) else {}
        split = (found.get(key) for key in ("reasoning_content", "reasoning"))
        return "".join(text for text in split if isinstance(text, str))

    @property
    def fingerprint(self) -> str | None:
        """The `system_fingerprint` of the reply."""
        found = self.reply.get("system_fingerprint")
        return found if isinstance(found, str) else None


class Endpoint(VLLMModerator):
    """The product's own client, except that it returns whatever happened and raises nothing."""

    def __init__(self, base_url: str, settings: EndpointSettings, folder: Path, *, api_key: str | None = None) -> None:
        asked = build.asking(settings, folder)
        super().__init__(base_url, **(asked if api_key is None else {**asked, "api_key": api_key}))

    async def ask(self, question: Question, seconds: float) -> Heard:
        """Put one question; wait at most `seconds`."""
        asking = replace(self._asking, categories=question.categories)
        body = self._family.requests(question.exchange, asking)[0]
        if question.second is not None:
            body["messages"][0]["content"].insert(
                0, {"type": "image_url", "image_url": {"url": question.second.data_uri}}
            )
            return await self._hear(self._chat, _json(body), seconds, question.exchange)
        return await self._hear(self._chat, encode(body, question.exchange), seconds, question.exchange)

    async def models(self, seconds: float) -> Heard:
        """What `GET /v1/models` says."""
        return await self._hear(self._list, None, seconds, None)

    async def _hear(self, head: bytes, body: bytes | None, seconds: float, about: Exchange | None) -> Heard:
        started = time.perf_counter()
        status: int | None = None
        reply: Mapping[str, Any] = {}
        verdict: Verdict | None = None
        error: ModeratorError | None = None
        took = 0.0
        try:
            answer = await self._send(head, body, Deadline.after(seconds))
            took = time.perf_counter() - started
            status = answer[0]
            reply = parse(*answer, self.model)
            verdict = None if about is None else self._family.verdict([reply], about, self._asking)
        except ModeratorError as raised:
            error = raised
        return Heard(took or time.perf_counter() - started, status, reply, verdict, error)


def _json(body: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(body, separators=(",", ":")).encode()
