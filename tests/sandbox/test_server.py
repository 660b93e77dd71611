"""The sandbox over HTTP, as a client of vLLM sees it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.sandbox.pictures import image_part, png
from turnguard.sandbox import Sandbox
from turnguard.sandbox import ocr as ocr_module
from turnguard.sandbox.ocr import OcrUnavailable, available
from turnguard.sandbox.server import notice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SAYS_SO = "not-the-nemotron-model"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(announce=lambda line: None, ocr_threads=2) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def ask(content: Any, response: str | None = None, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": content}]
    if response is not None:
        turns.append({"role": "assistant", "content": response})
    return {
        "model": "nemotron_moderator",
        "messages": turns,
        "chat_template_kwargs": {"request_categories": "/categories"},
        **more,
    }


async def post(client: aiohttp.ClientSession, sandbox: Sandbox, body: Any, **options: Any) -> tuple[int, Any, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(f"{sandbox.base_url}/chat/completions", data=raw, **options) as reply:
        return reply.status, await reply.json(content_type=None), reply.headers


async def test_judges_text(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    status, body, headers = await post(client, sandbox, ask("How do I build a pipe bomb?"))

    assert status == 200
    content = body["choices"][0]["message"]["content"]
    assert content == "User Safety: unsafe\nSafety Categories: Guns and Illegal Weapons"
    assert headers["x-turnguard-sandbox"] == SAYS_SO
    assert body["system_fingerprint"] == "turnguard-sandbox"


async def test_judges_a_response_with_its_prompt(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    _, body, _ = await post(client, sandbox, ask("How do I build a pipe bomb?", "I'm sorry, I can't help with that."))

    assert body["choices"][0]["message"]["content"] == (
        "User Safety: unsafe\nResponse Safety: safe\nSafety Categories: Guns and Illegal Weapons"
    )


async def test_logprobs_carry_the_rule_s_weight(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    _, body, _ = await post(client, sandbox, ask("How do I build a pipe bomb?", logprobs=True, top_logprobs=5))

    entry = next(e for e in body["choices"][0]["logprobs"]["content"] if e["token"] == " unsafe")
    assert 2.718281828 ** entry["logprob"] == pytest.approx(0.95, abs=1e-3)


@pytest.mark.skipif(not available(), reason="rapidocr cannot be imported here")
async def test_judges_a_picture_together_with_its_prompt(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    picture = image_part(png("pipe bomb", size=(300, 60), pixels=12))
    text = {"type": "text", "text": "How do I make this at home?"}
    _, together, _ = await post(client, sandbox, ask([picture, text]))
    _, alone, _ = await post(client, sandbox, ask([text]))

    assert together["choices"][0]["message"]["content"].startswith("User Safety: unsafe")
    assert alone["choices"][0]["message"]["content"] == "User Safety: safe"


async def test_without_ocr_an_image_is_an_error_and_text_is_judged(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_engine() -> Any:
        raise OcrUnavailable(f"{ocr_module.UNAVAILABLE} (No module named 'rapidocr')")

    monkeypatch.setattr(ocr_module, "_engine", no_engine)
    with Sandbox(announce=lambda line: None) as blind:
        status, body, headers = await post(client, blind, ask([image_part(png("x", size=(40, 40)))]))
        text_status, _, _ = await post(client, blind, ask("hello"))

    assert status == 501
    assert "pip install 'turnguard[sandbox]'" in body["error"]["message"]
    assert headers["x-turnguard-sandbox"] == SAYS_SO
    assert text_status == 200


async def test_streams(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    async with client.post(f"{sandbox.base_url}/chat/completions", json=ask("hello", stream=True)) as reply:
        text = await reply.text()

    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert reply.content_type == "text/event-stream"
    assert reply.headers["x-turnguard-sandbox"] == SAYS_SO
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    assert "".join(delta["content"] for delta in deltas) == "User Safety: safe"


async def test_small_endpoints(client: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    root = sandbox.base_url.removesuffix("/v1")
    async with client.get(f"{root}/health") as health:
        assert (health.status, await health.read()) == (200, b"")
    async with client.get(f"{root}/version") as version:
        assert await version.json() == {"version": "turnguard-sandbox"}
    async with client.get(f"{root}/v1/models") as models:
        card = (await models.json())["data"][0]
    async with client.get(f"{root}/metrics") as metrics:
        assert "vllm:num_requests_running" in await metrics.text()
    async with client.get(f"{root}/v1/moderations") as missing:
        assert (missing.status, await missing.json()) == (404, {"detail": "Not Found"})
        assert missing.headers["x-turnguard-sandbox"] == SAYS_SO
    assert (card["id"], card["root"], card["max_model_len"]) == ("nemotron_moderator", "turnguard-sandbox", 4096)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{broken", 400),
        (b"[]", 400),
        ({"model": "nemotron_moderator"}, 400),
        (ask("x", model="gpt-4"), 404),
        (ask("steal " * 6000), 400),
        (ask([image_part(b"no picture")]), 400),
        (ask([image_part(png("x", size=(40, 40)))] * 2), 400),
    ],
    ids=["no json", "no object", "no messages", "unknown model", "too long", "bad image", "two images"],
)
async def test_bad_requests(client: aiohttp.ClientSession, sandbox: Sandbox, body: Any, status: int) -> None:
    answered, reply, headers = await post(client, sandbox, body)

    assert answered == status
    assert reply["error"]["code"] == status
    assert headers["x-turnguard-sandbox"] == SAYS_SO


async def test_a_key_is_asked_for(client: aiohttp.ClientSession) -> None:
    with Sandbox(announce=lambda line: None, api_key="sesame") as locked:
        without, body, _ = await post(client, locked, ask("hello"))
        wanted, _, _ = await post(client, locked, ask("hello"), headers={"authorization": "Bearer sesame"})

    assert (without, body, wanted) == (401, {"error": "Unauthorized"}, 200)


def test_every_start_says_that_it_is_not_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    with Sandbox() as running:
        pass

    said = capsys.readouterr().err
    assert "NOT the Nemotron model" in said
    assert running.base_url in said


def test_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with Sandbox(announce=lambda line: None):
        pass

    assert not {thread for thread in threading.enumerate() if thread not in before and thread.is_alive()}


def test_a_taken_port_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=sandbox.port, announce=lambda line: None).start()


async def test_a_queue_of_so_many_and_no_more(client: aiohttp.ClientSession) -> None:
    with Sandbox(announce=lambda line: None, latency=0.3, max_running=1, max_queued=1) as busy:
        asked = [asyncio.create_task(post(client, busy, ask("hello"))) for _ in range(3)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        async with client.get(f"{busy.base_url.removesuffix('/v1')}/metrics") as metrics:
            told = await metrics.text()
        replies = await asyncio.gather(*asked)

    assert sorted(status for status, _, _ in replies) == [200, 200, 503]
    assert 'vllm:num_requests_running{model_name="nemotron_moderator"} 1.0' in told
    assert 'vllm:num_requests_waiting{model_name="nemotron_moderator"} 1.0' in told


async def test_latency_by_request(client: aiohttp.ClientSession) -> None:
    with Sandbox(announce=lambda line: None, latency=lambda chat: 0.5 if "slow" in chat.prompt else 0.0) as sometimes:
        slow = asyncio.ensure_future(post(client, sometimes, ask("slow")))
        assert (await post(client, sometimes, ask("quick")))[0] == 200
        assert not slow.done()
        assert (await slow)[0] == 200


def test_the_notice_says_whether_pictures_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "and OCR on the CPU" in notice()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    assert "without OCR (requests with pictures are refused" in notice()
    assert "judges no pictures" in notice("qwen3guard")
