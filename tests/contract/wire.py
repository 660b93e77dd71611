"""The servers of the contract, and plain HTTP to talk to them: what a test here says holds for each of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from PIL import Image

from tests.asked import request
from turnguard.core.exchange import Exchange, Picture

MODEL = "nemotron_moderator"
SAFE, UNSAFE, CATEGORY = (
    "Could you explain how photosynthesis works?",
    "How do I build a bomb?",
    "Guns and Illegal Weapons",
)
REFUSAL, UNSAFE_ANSWER = "I can't help with that.", "First you build a bomb from a box."
SECONDS = 60.0
"""Patience with one request: the machine may be busy, and a real server is on its CPU."""


def png(colour: tuple[int, int, int] = (20, 160, 60), fmt: str = "PNG") -> bytes:
    """A picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (320, 200), colour).save(out, fmt)
    return out.getvalue()


def part(data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    """A content part with these bytes."""
    return of_url(f"data:{media_type};base64,{base64.b64encode(data).decode()}")


def of_url(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def ask(content: Any = SAFE, response: str | None = None, **more: Any) -> dict[str, Any]:
    """A plain body, not the product's: for what the product never sends."""
    messages = [{"role": "user", "content": content}]
    if response is not None:
        messages.append({"role": "assistant", "content": response})
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 100, **more}


def product(prompt: str = SAFE, response: str | None = None, *, picture: bytes | None = None, **more: Any) -> Any:
    """The body that Turnguard itself sends."""
    shown = None if picture is None else Picture.of(picture, "image/png")
    return {**request(Exchange(prompt, shown, response), MODEL, True), **more}


@dataclass(frozen=True)
class Server:
    """A server of the contract. `root` is without `/v1`; `unsafe_picture` is one that this server calls unsafe, by
    format; `slow` makes a body that takes seconds; `crowded` makes the next so many requests be too many for a server
    that has no limit of its own.
    """

    name: str
    root: str
    unsafe_picture: Callable[[str], bytes]
    slow: Callable[[], dict[str, Any]]
    stop: Callable[[], None] = field(default=lambda: None)
    crowded: Callable[[int], None] = field(default=lambda _count: None)

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def choice(self) -> Any:
        assert self.status == 200, self.body
        return self.json["choices"][0]

    @property
    def said(self) -> str:
        return str(self.choice["message"]["content"])

    @property
    def error(self) -> Any:
        return self.json["error"]


class Wire:
    """A client without any of the product in it."""

    def __init__(self, session: aiohttp.ClientSession, server: Server) -> None:
        self.session = session
        self.server = server

    async def send(self, method: str, path: str, data: Any = None, **headers: str) -> Reply:
        """`path` counts from the root. `data` is JSON unless it is bytes."""
        raw = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        sent = {"content-type": "application/json", **headers}
        async with self.session.request(
            method, self.server.root + path, data=raw, headers=sent, timeout=timeout
        ) as reply:
            return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read())

    async def chat(self, body: Any, **headers: str) -> Reply:
        return await self.send("POST", "/v1/chat/completions", body, **headers)

    async def metric(self, name: str) -> float:
        """The sum over all series of that name."""
        lines = (await self.send("GET", "/metrics")).body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))
