"""A server of one's own: with a key, with a short queue, and stopped in the middle of its work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.contract.conftest import EVERY, real, sandboxed, scripted
from tests.contract.wire import MODEL, UNSAFE, Server, Wire, ask, product
from turnguard import Guard, Step
from turnguard.moderators.replies import failure
from turnguard.sandbox.server import Sandbox
from turnguard.sandbox.wire import errors
from turnguard.testing import FakeVLLM

KEY = "sesame"


@pytest.fixture(scope="module", params=EVERY)
def keyed(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Asks for a key, and is stopped by the last test here."""
    if request.param == "fake":
        with FakeVLLM(api_key=KEY) as fake:
            server = scripted(fake)
            fake.latency = 0.05
            yield server
    elif request.param == "sandbox":
        with Sandbox(api_key=KEY, announce=lambda _line: None) as sandbox:
            yield sandboxed(sandbox)
    else:
        from tests.vllm import server as vllm

        python: Path = request.getfixturevalue("vllm_python")
        with vllm.serve(python, "--api-key", KEY, "--max-num-seqs", "4", "--max-num-queued-reqs", "24") as running:
            found = real(running.base_url)
            yield Server(found.name, found.root, found.unsafe_picture, found.slow, running.process.terminate)


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
    if keyed_wire.server.name != "vllm":
        pytest.skip("this server has no queue; tests of the faults plant its 503")
    key = {"Authorization": f"Bearer {KEY}"}
    body = ask(max_tokens=60, ignore_eos=True)
    replies = await asyncio.gather(*(keyed_wire.chat(body, **key) for _ in range(48)))

    refused = [reply for reply in replies if reply.status != 200]
    assert 0 < len(refused) < len(replies)
    assert {reply.status for reply in refused} == {503}
    assert refused[0].json == errors.overloaded().body
    assert "retry-after" not in refused[0].headers
    assert failure(503, refused[0].body, None, MODEL).retry == "wait"


async def test_stopped_under_load_nothing_unsafe_is_allowed(keyed: Server) -> None:
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
        stopping = asyncio.create_task(asyncio.to_thread(keyed.stop))
        found = await asyncio.gather(*asking)
        await stopping
    verdicts = sum(map(len, found))
    assert verdicts == count >= 100
    assert sum(map(sum, found)) == len(asking)  # each came to its end by a failure, and by nothing else
