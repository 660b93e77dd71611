"""A server of one's own: with a key, with a short queue, and stopped in the middle of its work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.asked import verdict
from tests.contract.conftest import EVERY, real, sandboxed, scripted, slowly
from tests.contract.wire import MODEL, UNSAFE, Server, Wire, ask, product
from turnguard import Guard, Step
from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange
from turnguard.moderators.replies import failure
from turnguard.sandbox.server import Sandbox
from turnguard.testing import FakeVLLM

KEY = "sesame"
BROKEN = {"TimeoutError", "ServerDisconnectedError", "ClientOSError", "ClientConnectorError", "ClientPayloadError"}
"""How a reply that never came, or not whole, looks to aiohttp."""


@pytest.fixture(scope="module", params=EVERY)
def keyed(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Asks for a key, and is stopped by the last test here."""
    if request.param == "fake":
        with FakeVLLM(api_key=KEY) as fake:
            server = scripted(fake)
            fake.latency = slowly(0.05)
            yield server
    elif request.param == "sandbox":
        with Sandbox(
            api_key=KEY, max_running=4, max_queued=24, latency=slowly(0.05), announce=lambda _line: None
        ) as sandbox:
            yield sandboxed(sandbox)
    else:
        from tests.vllm import server as vllm

        python: Path = request.getfixturevalue("vllm_python")
        with vllm.serve(python, "--api-key", KEY, "--max-num-seqs", "4", "--max-num-queued-reqs", "24") as running:
            stop = running.process.terminate
            yield replace(real(running.base_url), stop=stop)


@pytest.fixture
def keyed_wire(session: aiohttp.ClientSession, keyed: Server) -> Wire:
    return Wire(session, keyed)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/v1/models")])
async def test_without_the_key(keyed_wire: Wire, method: str, path: str, headers: dict[str, str]) -> None:
    reply = await keyed_wire.send(method, path, ask() if method == "POST" else None, **headers)

    assert (reply.status, reply.json) == (401, {"error": "Unauthorized"})
    assert "the API key was refused" in str(failure(reply.status, reply.body, None, MODEL))


async def test_with_the_key(keyed_wire: Wire) -> None:
    assert (await keyed_wire.chat(product(), Authorization=f"Bearer {KEY}")).said == "User Safety: safe"


@pytest.mark.parametrize("path", ["/health", "/metrics", "/version"])
async def test_what_needs_no_key(keyed_wire: Wire, path: str) -> None:
    assert (await keyed_wire.send("GET", path)).status == 200


async def test_a_full_queue(keyed_wire: Wire) -> None:
    """24 may wait in the real one and the sandbox; the fake is told to refuse."""
    keyed_wire.server.crowded(20)
    key = {"Authorization": f"Bearer {KEY}"}
    body = ask(max_tokens=60, ignore_eos=True)
    replies = await asyncio.gather(*(keyed_wire.chat(body, **key) for _ in range(48)))

    refused = [reply for reply in replies if reply.status != 200]
    assert 0 < len(refused) < len(replies)
    assert {reply.status for reply in refused} == {503}
    assert refused[0].json == {
        "error": {
            "message": "The engine is currently busy and cannot accept new requests. "
            "Please try again later or on a different instance.",
            "type": "Service Unavailable",
            "param": None,
            "code": 503,
        }
    }
    assert "retry-after" not in refused[0].headers
    assert failure(503, refused[0].body, None, MODEL).retry == "wait"


async def left_by_a_stop(wire: Wire, body: dict[str, Any]) -> str:
    """What came of a request that the server was working on when it was stopped; never a verdict."""
    try:
        reply = await asyncio.wait_for(wire.chat(body, Authorization=f"Bearer {KEY}"), 15.0)
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__
    if reply.status != 200:
        assert failure(reply.status, reply.body, None, MODEL).retry is not None
        return str(reply.status)
    reason = str(reply.choice["finish_reason"])
    with pytest.raises(Unparseable, match=f"finish_reason {reason}"):
        verdict(reply.json, Exchange(UNSAFE))
    return reason


async def test_stopped_under_load_nothing_unsafe_is_allowed(keyed: Server, keyed_wire: Wire) -> None:
    """A real server answers 200 with `finish_reason: abort`, or 500, or never. None of them may pass for a verdict."""
    settings = {"base_url": keyed.base_url, "api_key": KEY, "deadline": "6s", "max_in_flight": 24}
    count = 0
    async with Guard.from_dict({"moderator": settings, "policy": {}}) as guard:

        async def keep_asking() -> list[bool]:
            nonlocal count
            failed: list[bool] = []
            while not failed or not failed[-1]:
                count += 1
                decision = await guard.acheck(Step.input(f"{UNSAFE} Number {count}."))
                assert decision.action == "block"
                assert decision.failed == (decision.verdict.user is None)
                assert decision.content == ()
                failed.append(decision.failed)
                if decision.failed:
                    assert decision.verdict.failure in {"unavailable", "timeout", "unparseable"}
            return failed

        asking = [asyncio.create_task(keep_asking()) for _ in range(24)]
        while count < 100:
            await asyncio.sleep(0.01)
        cut = [asyncio.create_task(left_by_a_stop(keyed_wire, keyed.slow())) for _ in range(2)]
        await asyncio.sleep(0.5)
        stopping = asyncio.create_task(asyncio.to_thread(keyed.stop))
        found = await asyncio.gather(*asking)
        await stopping
        assert set(await asyncio.gather(*cut)) <= {"abort", "500", "503", *BROKEN}
    verdicts = sum(map(len, found))
    assert verdicts == count >= 100
    assert sum(map(sum, found)) == len(asking)  # each came to its end by a failure, and by nothing else
