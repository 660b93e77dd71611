"""One exchange may need several requests: they go out at once, are read in order, and fail together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import openai
import pytest

from turnguard.core.errors import Rejected
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline, Moderator
from turnguard.moderators.families import WIRES, Asking, Body, Reply, Wire
from turnguard.moderators.openai import OpenAIModerator
from turnguard.moderators.vllm import VLLMModerator
from turnguard.testing import FakeVLLM, faults

CRITERIA = ("harm", "jailbreak", "profanity")
_PLAIN = WIRES["nemotron-3"]


def requests(exchange: Exchange, asking: Asking) -> list[Body]:
    """One request a criterion, as a family of yes-or-no questions would ask."""
    return [
        body
        for criterion in CRITERIA
        for body in _PLAIN.requests(replace(exchange, prompt=f"{criterion}? {exchange.prompt}"), asking)
    ]


def verdict(replies: Sequence[Reply], exchange: Exchange, asking: Asking) -> Verdict:
    each = [_PLAIN.verdict([reply], exchange, asking) for reply in replies]
    unsafe = [criterion for criterion, found in zip(CRITERIA, each, strict=True) if found.user == "unsafe"]
    return Verdict(user="unsafe" if unsafe else "safe", native=tuple(unsafe))


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM(latency=0.2) as fake:
        yield fake


@pytest.fixture(params=["lean", "openai"])
async def moderator(
    request: pytest.FixtureRequest, server: FakeVLLM, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Moderator]:
    monkeypatch.setitem(WIRES, "nemotron-3", Wire(_PLAIN.can, "1", requests, verdict))
    if request.param == "lean":
        lean = VLLMModerator(server.base_url)
        yield lean
        await lean.aclose()
        return
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x") as client:
        yield OpenAIModerator(client)


async def test_they_go_out_at_once_and_are_read_in_order(server: FakeVLLM, moderator: Moderator) -> None:
    server.when("jailbreak?", user="unsafe")
    found = await moderator.judge(Exchange("hello"), Deadline.after(20.0))
    assert (found.user, found.native) == ("unsafe", ("jailbreak",))
    assert server.peak == len(server.chats) == len(CRITERIA)


async def test_one_that_fails_ends_the_others(server: FakeVLLM, moderator: Moderator) -> None:
    server.latency = lambda chat: 20.0 if "harm?" in chat.prompt else 0.0
    server.fail(faults.not_found(), when="profanity?")
    with pytest.raises(Rejected):
        await asyncio.wait_for(moderator.judge(Exchange("hello"), Deadline.after(60.0)), 15.0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
