"""A fake server, and guards that ask it through each client: our own, the caller's, and our own behind a proxy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.core.proxy import proxying

from turnguard import Guard
from turnguard.testing import FakeVLLM

MakeGuard = Callable[..., Guard]


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with FakeVLLM() as server:
        yield server


@pytest.fixture(params=["own", "openai", "proxy"])
async def make_guard(request: pytest.FixtureRequest, fake: FakeVLLM) -> AsyncIterator[MakeGuard]:
    """Makes guards for settings; `moderator` keys beyond `base_url` may be given. Closed at the end."""
    import openai

    made: list[Guard] = []
    through = contextlib.ExitStack()
    proxy = through.enter_context(proxying()) if request.param == "proxy" else None
    clients: list[openai.AsyncOpenAI] = []

    def make(policy: dict[str, Any] | None = None, **moderator: Any) -> Guard:
        url = moderator.pop("base_url", fake.base_url)
        key = moderator.pop("api_key", "")
        client = None
        if request.param == "openai":
            client = openai.AsyncOpenAI(base_url=url, api_key=key or "none")
            clients.append(client)
        if proxy is not None:
            moderator["proxy"] = proxy.url
        settings = {"moderator": {"base_url": url, "api_key": key, **moderator}, "policy": policy or {}}
        made.append(Guard.from_dict(settings, client=client))
        return made[-1]

    yield make
    for guard in made:
        await guard.aclose()
    for client in clients:
        await client.close()
    through.close()
