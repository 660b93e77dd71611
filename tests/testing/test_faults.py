"""Every fault, as a client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from turnguard.testing import FakeVLLM, Fault, faults

Ask = Callable[..., Awaitable[tuple[int, bytes, Any]]]
ASKED = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def fake() -> AsyncIterator[FakeVLLM]:
    async with FakeVLLM() as running:
        yield running


@pytest.fixture
def ask(fake: FakeVLLM) -> Ask:
    """One request on a fresh connection: status, body, headers."""

    async def asking(text: str = "hello", seconds: float = 5.0) -> tuple[int, bytes, Any]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as client:
            body = {"messages": [{"role": "user", "content": text}]}
            async with client.post(f"{fake.base_url}/chat/completions", json=body) as reply:
                return reply.status, await reply.read(), reply.headers

    return asking


def content(body: bytes) -> Any:
    return json.loads(body)["choices"][0]["message"]["content"]


class TestConnection:
    async def test_refused_while_the_listener_is_closed(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail(faults.refused(seconds=0.3), times=1)
        with pytest.raises(aiohttp.ClientError):
            await ask()
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask()
        await asyncio.sleep(0.4)
        assert (await ask())[0] == 200

    async def test_reset_before_the_reply(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("reset", times=1)
        with pytest.raises(aiohttp.ClientOSError, match="reset"):
            await ask()
        assert (await ask())[0] == 200

    async def test_reset_during_the_reply(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("reset_during_reply", times=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask()

    async def test_slow_headers(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail(faults.slow_headers(0.001), times=1)
        status, body, _ = await ask()
        assert (status, content(body)) == (200, "User Safety: safe")

    async def test_slow_body_sends_its_headers_at_once(self, fake: FakeVLLM) -> None:
        fake.fail("slow_body")
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{fake.base_url}/chat/completions", json=ASKED) as reply,
        ):
            assert reply.status == 200
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reply.read(), 0.1)

    async def test_hang(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("hang", times=1)
        with pytest.raises(TimeoutError):
            await ask(seconds=0.1)
        assert fake.requests[0].body == ASKED

    async def test_a_crash_closes_without_saying_so(self, fake: FakeVLLM) -> None:
        fake.fail("crash", times=1)
        raw = json.dumps(ASKED).encode()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(raw), raw)
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
        writer.write(request)
        received = await asyncio.wait_for(reader.read(), 5)  # to the end of the connection
        writer.close()
        await writer.wait_closed()

        assert received.startswith(b"HTTP/1.1 500")
        assert b"connection: close" not in received.lower()


class TestErrorReplies:
    @pytest.mark.parametrize(
        ("fault", "status", "message"),
        [
            (faults.busy(), 503, "The engine is currently busy"),
            (faults.too_many_requests(), 429, "Rate limit"),
            (faults.crash(), 500, "EngineCore encountered an issue"),
            (faults.unknown_model(), 404, "Valid aliases: nemotron_moderator."),
            (faults.prompt_too_long(), 400, "maximum context length is 4096"),
            (faults.bad_image(), 400, "cannot identify image file"),
            (faults.too_many_images(), 400, "At most 1 image(s)"),
            (faults.image_too_large(), 500, "decompression bomb"),
            (faults.status(418), 418, "planted by the test"),
        ],
        ids=lambda value: value.name if isinstance(value, Fault) else "",
    )
    async def test_in_vllm_s_envelope(self, fake: FakeVLLM, ask: Ask, fault: Fault, status: int, message: str) -> None:
        fake.fail(fault)
        answered, body, headers = await ask()

        error = json.loads(body)["error"]
        assert (answered, error["code"]) == (status, status)
        assert set(error) == {"message", "type", "param", "code"}
        assert message in error["message"]
        assert "retry-after" not in headers
        assert fake.requests[0].status == status

    async def test_a_missing_key_is_a_string(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("unauthorized")
        assert (await ask())[:2] == (401, b'{"error":"Unauthorized"}')

    async def test_an_unknown_path(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("not_found")
        assert (await ask())[:2] == (404, b'{"detail":"Not Found"}')

    @pytest.mark.parametrize("fault", [faults.busy(2), faults.too_many_requests(2), faults.status(503, retry_after=2)])
    async def test_retry_after(self, fake: FakeVLLM, ask: Ask, fault: Fault) -> None:
        fake.fail(fault)
        assert (await ask())[2]["retry-after"] == "2"


class TestRepliesThatAreWrong:
    async def test_a_page(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("html")
        status, body, headers = await ask()
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert body.startswith(b"<!doctype html>")

    async def test_truncated_json(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("truncated_json")
        status, body, _ = await ask()
        assert status == 200
        with pytest.raises(ValueError, match=r"."):
            json.loads(body)

    async def test_other_json(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail(faults.json_body([1, 2]))
        assert (await ask())[:2] == (200, b"[1, 2]")

    async def test_wrong_content_type(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("wrong_content_type")
        status, body, headers = await ask()
        assert (status, headers["content-type"], content(body)) == (200, "text/plain", "User Safety: safe")

    async def test_no_choices(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("empty_choices")
        assert json.loads((await ask())[1])["choices"] == []

    async def test_null_content(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("null_content")
        choice = json.loads((await ask())[1])["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (None, "length")

    @pytest.mark.parametrize("text", ["I think it is safe.", "", "User Safety: maybe"])
    async def test_any_text(self, fake: FakeVLLM, ask: Ask, text: str) -> None:
        fake.fail(faults.content(text))
        assert content((await ask())[1]) == text

    @pytest.mark.parametrize("reason", ["abort", "length", "content_filter", "nonsense"])
    async def test_any_finish_reason(self, fake: FakeVLLM, ask: Ask, reason: str) -> None:
        fake.fail(faults.finish_reason(reason))
        choice = json.loads((await ask())[1])["choices"][0]
        assert (choice["finish_reason"], choice["stop_reason"]) == (reason, None)
        assert choice["message"]["content"] == "User Safety: safe"


class TestWhen:
    async def test_the_next_n_in_the_order_planted(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail(faults.status(503), times=2)
        fake.fail(faults.status(429), times=1)
        assert [(await ask())[0] for _ in range(4)] == [503, 503, 429, 200]

    async def test_only_what_fits(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail(faults.status(503), when="hel", times=1)
        assert [(await ask(text))[0] for text in ("other", "hello", "hello")] == [200, 503, 200]

    async def test_with_a_probability_that_repeats_for_a_seed(self) -> None:
        async def run(seed: int) -> list[int]:
            statuses = []
            async with FakeVLLM(seed=seed) as fake, aiohttp.ClientSession() as client:
                fake.fail(faults.status(503), probability=0.5)
                for _ in range(24):
                    async with client.post(f"{fake.base_url}/chat/completions", json=ASKED) as reply:
                        statuses.append(reply.status)
            return statuses

        first = await run(7)
        assert first == await run(7)
        assert set(first) == {200, 503}

    async def test_healed(self, fake: FakeVLLM, ask: Ask) -> None:
        fake.fail("hang")
        fake.heal()
        assert (await ask())[0] == 200

    async def test_other_paths_are_spared(self, fake: FakeVLLM) -> None:
        fake.fail("hang")
        async with aiohttp.ClientSession() as client, client.get(f"{fake.base_url}/models") as reply:
            assert reply.status == 200

    @pytest.mark.parametrize("name", faults.NAMED)
    async def test_by_name(self, fake: FakeVLLM, ask: Ask, name: str) -> None:
        fake.fail(name, times=1)
        try:
            status, body, headers = await ask(seconds=0.15)
        except (aiohttp.ClientError, TimeoutError):
            assert faults.NAMED[name]().kind in {
                "refused",
                "reset",
                "reset_during_reply",
                "slow_headers",
                "slow_body",
                "hang",
            }
        else:
            right = status == 200 and headers["content-type"] == "application/json" and body.startswith(b"{")
            assert not right or name in {"truncated_json", "empty_choices", "null_content"}
        assert fake.requests[0].fault is None or fake.requests[0].fault.name == name
