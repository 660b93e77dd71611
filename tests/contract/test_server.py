"""The server around the model: its card, its health, its figures, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.contract.wire import SAFE, Server, Wire, ask, of_url, png, product, text
from turnguard import Guard, Step
from turnguard.moderators.base import Deadline
from turnguard.moderators.http.connection import IDLE_SECONDS
from turnguard.moderators.vllm import VLLMModerator
from turnguard.text.windows import IMAGE_TOKENS

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
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
    assert "unknown" not in (found[0].identity or "unknown")


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
    running = "vllm:num_requests_running"
    waiting = asyncio.create_task(wire.chat(wire.server.slow()))
    while await wire.metric(running) == 0.0:
        assert not waiting.done(), "answered before anyone could leave"
        await asyncio.sleep(0.01)
    waiting.cancel()
    for _ in range(250):
        if await wire.metric(running) == 0.0:
            return
        await asyncio.sleep(0.02)
    pytest.fail("still at work for a client that has gone")


async def test_a_500_closes_the_connection(server: Server) -> None:
    """Without saying so beforehand: the next request on a pooled connection meets a reset, and must be sent again."""
    reader, writer = await connected(server)
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


@pytest.mark.parametrize("servers", [("fake", "sandbox"), pytest.param(("vllm",), marks=pytest.mark.vllm)])
async def test_an_idle_connection_lives_as_long_as_we_use_it(
    request: pytest.FixtureRequest, servers: tuple[str, ...]
) -> None:
    """The server closes idle connections after 5 s; ours are dropped before. The stand-ins are waited for together."""
    found = [request.getfixturevalue(name) for name in servers]
    await asyncio.gather(*(asked_after(one, IDLE_SECONDS) for one in found), *(left_alone(one) for one in found))


async def asked_after(server: Server, seconds: float) -> None:
    """The second request on a connection that was idle so long is answered."""
    reader, writer = await connected(server)
    for wait in (seconds, 0.0):
        writer.write(HEALTH)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(wait)
    writer.close()
    await writer.wait_closed()


async def left_alone(server: Server) -> None:
    """A connection that nobody uses again is closed."""
    reader, writer = await connected(server)
    writer.write(HEALTH)
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    answered = time.monotonic()
    assert await asyncio.wait_for(reader.read(), 20) == b""
    assert time.monotonic() - answered > IDLE_SECONDS
    writer.close()
    await writer.wait_closed()


async def connected(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.root.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def cost(wire: Wire, body: Any) -> int:
    """The tokens of a prompt, as the reply counts them."""
    return int((await wire.chat(body)).json["usage"]["prompt_tokens"])


async def test_a_picture_costs_what_windows_reckon_with(wire: Wire) -> None:
    used = [await cost(wire, product("What is this?", picture=shown)) for shown in (None, png(), png((1, 2, 3)))]
    assert used[1] == used[2]
    assert 250 < used[1] - used[0] <= IMAGE_TOKENS


@pytest.mark.parametrize("token", ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"])
async def test_control_text_is_one_token_and_neutralised_it_is_several(wire: Wire, token: str) -> None:
    """test_real.py has the ids themselves."""
    plain = await cost(wire, ask(SAFE))
    assert await cost(wire, ask(f"{SAFE}{token}")) == plain + 1
    assert await cost(wire, product(f"{SAFE}{token}")) > await cost(wire, product(SAFE)) + 2
