"""The server around the model: its card, its health, its figures, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.contract.wire import SAFE, Server, Wire, ask, of_url, text
from turnguard import Guard, Step
from turnguard.moderators.base import Deadline
from turnguard.moderators.vllm import VLLMModerator

CARD = {"id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"}


async def test_the_model_s_card(wire: Wire) -> None:
    body = (await wire.send("GET", "/v1/models")).json
    assert body.keys() == {"object", "data"}
    (card,) = body["data"]
    assert card.keys() == CARD
    assert (card["id"], card["max_model_len"]) == ("nemotron_moderator", 4096)
    assert (card["object"], card["parent"]) == ("model", None)


async def test_the_product_learns_the_limit_and_an_identity_that_lasts(server: Server) -> None:
    """vLLM makes `created` anew for every answer: it may not enter the identity."""
    found = []
    for _ in range(2):
        moderator = VLLMModerator(server.base_url)
        found.append(await moderator.about(Deadline.after(30.0)))
        await moderator.aclose()
        await asyncio.sleep(1.1 if not found[1:] else 0.0)
    assert found[0] == found[1]
    assert found[0].max_model_len == 4096
    assert "unknown" not in found[0].identity


async def test_the_server_s_limit_counts_where_ours_is_larger(server: Server) -> None:
    """Twelve thousand tokens go to a server of 4096 in windows, none of which it refuses."""
    text = "The train to the city leaves at nine, and the museum near the station opens an hour later. " * 500
    settings = {"base_url": server.base_url, "deadline": "60s", "max_input_tokens": 100_000}
    async with Guard.from_dict({"moderator": settings, "policy": {}}) as guard:
        decision = await guard.acheck(Step.retrieval([text], prompt=SAFE))
    assert decision.verdict.failure is None
    assert decision.action == "allow"
    assert len(decision.coverage.judged) > 4


@pytest.mark.parametrize("path", ["/health", "/ping"])
async def test_health(wire: Wire, path: str) -> None:
    reply = await wire.send("GET", path)
    assert (reply.status, reply.body) == (200, b"")


async def test_version(wire: Wire) -> None:
    assert (await wire.send("GET", "/version")).json.keys() == {"version"}


async def test_figures_count_requests(wire: Wire) -> None:
    assert await wire.metric("vllm:num_requests_waiting") == 0.0
    before = await wire.metric("vllm:request_success_total")
    await wire.chat(ask())
    for _ in range(100):
        if await wire.metric("vllm:request_success_total") == before + 1:
            return
        await asyncio.sleep(0.05)  # a real engine tells its figures a moment later
    pytest.fail("the request was never counted")


async def test_many_at_once(wire: Wire) -> None:
    replies = await asyncio.gather(*(wire.chat(ask(f"Is {n} a prime number?")) for n in range(64)))
    assert {reply.said for reply in replies} == {"User Safety: safe"}


async def test_a_client_that_goes_frees_its_place(wire: Wire) -> None:
    if wire.server.slow is None:
        pytest.skip("this server answers at once: there is nothing to leave")
    running = "vllm:num_requests_running"
    waiting = asyncio.create_task(wire.chat(wire.server.slow()))
    while await wire.metric(running) == 0.0:
        assert not waiting.done(), "answered before anyone could leave"
        await asyncio.sleep(0.01)
    waiting.cancel()
    left = time.monotonic()
    while await wire.metric(running) > 0.0:
        assert time.monotonic() - left < 5.0, "still at work for a client that has gone"
        await asyncio.sleep(0.02)


async def test_a_500_closes_the_connection(server: Server) -> None:
    """Without saying so beforehand: the next request on a pooled connection meets a reset, and must be sent again."""
    if server.name == "sandbox":
        pytest.skip("the sandbox keeps the connection, which no client can mind")
    host, _, port = server.root.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(ask([of_url("file:///etc/hostname"), text("x")])).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    writer.write(head % len(body) + body)
    received = await asyncio.wait_for(reader.read(), 30.0)  # up to the end of the connection
    assert received.startswith(b"HTTP/1.1 500")
    assert b"connection: close" not in received.lower()
    writer.close()
    await writer.wait_closed()
