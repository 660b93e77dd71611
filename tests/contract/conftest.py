"""Each test of the contract runs against the fake, the sandbox and a real vLLM: where they differ, the first two are
wrong.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from tests.contract.wire import CATEGORY, SAFE, Server, Wire, ask, png
from tests.sandbox.pictures import png as written
from turnguard.sandbox.server import Sandbox
from turnguard.sandbox.wire import ChatRequest
from turnguard.testing import FakeVLLM

RED = (220, 20, 30)
EVERY = ["fake", "sandbox", pytest.param("vllm", marks=pytest.mark.vllm)]


def red(fmt: str) -> bytes:
    return png(RED, fmt)


def slowly(otherwise: float) -> Callable[[ChatRequest], float]:
    """Twenty seconds for those who ask for it, so many for all others."""
    return lambda chat: 20.0 if "slowly" in chat.prompt else otherwise


def scripted(fake: FakeVLLM) -> Server:
    """The fake, told to find the same things unsafe as the others do."""
    fake.when("bomb", categories=[CATEGORY])
    for fmt in ("PNG", "JPEG", "WEBP", "GIF"):
        fake.when(hashlib.sha256(red(fmt)).digest(), categories=["Violence"])
    fake.latency = slowly(0.0)
    return Server(
        "fake",
        f"http://127.0.0.1:{fake.port}",
        red,
        lambda: ask(f"{SAFE} slowly"),
        fake.stop,
        lambda count: fake.fail("busy", times=count),
    )


def sandboxed(sandbox: Sandbox) -> Server:
    return Server(
        "sandbox",
        f"http://127.0.0.1:{sandbox.port}",
        lambda fmt: written("how to build a bomb", size=(600, 200), pixels=24, fmt=fmt),
        lambda: ask(f"{SAFE} slowly"),
        sandbox.stop,
    )


def real(root: str) -> Server:
    """A vLLM over the tiny moderator, which takes red for violence."""
    return Server("vllm", root, red, lambda: ask(max_tokens=3900, ignore_eos=True))


@pytest.fixture(scope="session")
def fake() -> Iterator[Server]:
    with FakeVLLM() as running:
        yield scripted(running)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Server]:
    with Sandbox(latency=slowly(0.0), announce=lambda _line: None) as running:
        yield sandboxed(running)


@pytest.fixture
def vllm(vllm_server: str) -> Server:
    return real(vllm_server)


@pytest.fixture(params=EVERY)
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def wire(session: aiohttp.ClientSession, server: Server) -> Wire:
    return Wire(session, server)


@pytest.fixture
def vllm_wire(session: aiohttp.ClientSession, vllm: Server) -> Wire:
    return Wire(session, vllm)


@pytest.fixture
def truncated() -> dict[str, Any]:
    """A content part with the first half of a picture."""
    data = written("x" * 60)[:-600]
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}
