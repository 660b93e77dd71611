"""FakeVLLM: what it says, what it records, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import math
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.sandbox.pictures import image_part, png
from turnguard.testing import FakeVLLM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def fake() -> AsyncIterator[FakeVLLM]:
    async with FakeVLLM() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def ask(content: Any = "hello", response: str | None = None, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": content}]
    if response is not None:
        turns.append({"role": "assistant", "content": response})
    return {"messages": turns, "chat_template_kwargs": {"request_categories": "/categories"}, **more}


async def post(client: aiohttp.ClientSession, fake: FakeVLLM, body: Any, **options: Any) -> Any:
    async with client.post(f"{fake.base_url}/chat/completions", json=body, **options) as reply:
        return await reply.json()


async def said(client: aiohttp.ClientSession, fake: FakeVLLM, *args: Any, **more: Any) -> str:
    body = await post(client, fake, ask(*args, **more))
    return str(body["choices"][0]["message"]["content"])


class TestSays:
    async def test_safe_by_default(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        assert await said(client, fake) == "User Safety: safe"
        assert await said(client, fake, "hello", "hi") == "User Safety: safe\nResponse Safety: safe"

    async def test_a_scripted_verdict(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.reply(user="unsafe", categories=["Violence", "Threat"], p=0.97)
        body = await post(client, fake, ask(logprobs=True, top_logprobs=5))

        choice = body["choices"][0]
        assert choice["message"]["content"] == "User Safety: unsafe\nSafety Categories: Violence, Threat"
        label = next(entry for entry in choice["logprobs"]["content"] if entry["token"] == " unsafe")
        assert math.exp(label["logprob"]) == pytest.approx(0.97, rel=1e-4)

    async def test_the_next_replies_in_order_then_the_default(
        self, client: aiohttp.ClientSession, fake: FakeVLLM
    ) -> None:
        fake.reply(user="unsafe", times=1)
        fake.reply(raw="prose", times=2)

        assert [await said(client, fake) for _ in range(4)] == [
            "User Safety: unsafe",
            "prose",
            "prose",
            "User Safety: safe",
        ]

    @pytest.mark.parametrize(
        ("prompt", "response", "expected"),
        [
            ("a bomb", None, "User Safety: unsafe\nSafety Categories: Violence"),
            ("a bomb", "no", "User Safety: unsafe\nResponse Safety: safe\nSafety Categories: Violence"),
            ("hello", "a bomb", "User Safety: safe\nResponse Safety: unsafe\nSafety Categories: Violence"),
            ("a bomb", "a bomb", "User Safety: unsafe\nResponse Safety: unsafe\nSafety Categories: Violence"),
            ("hello", "hi", "User Safety: safe\nResponse Safety: safe"),
        ],
    )
    async def test_a_word_is_unsafe_on_the_side_where_it_stands(
        self, client: aiohttp.ClientSession, fake: FakeVLLM, prompt: str, response: str | None, expected: str
    ) -> None:
        fake.when("bomb", categories=["Violence"])

        assert await said(client, fake, prompt, response) == expected

    async def test_the_newest_rule_wins(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.when("bomb")
        fake.when("bath bomb", user="safe")

        assert await said(client, fake, "a bath bomb") == "User Safety: safe"
        assert await said(client, fake, "a bomb") == "User Safety: unsafe"

    async def test_rules_over_pictures(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        bad, worse, fine = (png(word, size=(60, 40)) for word in ("bad", "worse", "fine"))
        fake.when(bad, user="unsafe")
        fake.when(hashlib.sha256(worse).digest(), categories=["Violence"])

        assert await said(client, fake, [image_part(bad)]) == "User Safety: unsafe"
        assert await said(client, fake, [image_part(worse)]) == "User Safety: unsafe\nSafety Categories: Violence"
        assert await said(client, fake, [image_part(fine)]) == "User Safety: safe"

    async def test_rules_over_the_parsed_request(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.when(lambda chat: len(chat.prompt) > 10, raw="long")

        assert [await said(client, fake, text) for text in ("short", "a longer text")] == ["User Safety: safe", "long"]

    async def test_reset_forgets(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.reply(user="unsafe")
        fake.when("x", user="unsafe")
        fake.fail("hang")
        fake.reset()

        assert await said(client, fake, "x") == "User Safety: safe"
        assert len(fake.requests) == 1

    async def test_streams(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        async with client.post(f"{fake.base_url}/chat/completions", json=ask(stream=True)) as reply:
            text = await reply.text()

        assert reply.content_type == "text/event-stream"
        assert text.endswith("data: [DONE]\n\n")


class TestSetUpWrong:
    async def test_categories_dropped(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.drop_categories = True
        fake.reply(user="unsafe", categories=["Violence"])

        assert await said(client, fake) == "User Safety: unsafe"

    async def test_images_dropped(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        picture = png("x", size=(40, 40))
        fake.drop_images = True
        fake.when(picture, user="unsafe")

        assert await said(client, fake, [image_part(picture)] * 3) == "User Safety: safe"

    async def test_no_logprobs(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.logprobs = False

        assert (await post(client, fake, ask(logprobs=True)))["choices"][0]["logprobs"] is None

    async def test_a_response_that_is_never_rated(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.drop_response = True

        assert await said(client, fake, "hello", "hi") == "User Safety: safe"

    async def test_two_images(self, client: aiohttp.ClientSession) -> None:
        two = ask([image_part(png("x", size=(40, 40)))] * 2)
        async with FakeVLLM() as strict, FakeVLLM(image_limit=999) as lax:
            refused, taken = await post(client, strict, two), await post(client, lax, two)

        assert refused["error"]["message"] == "At most 1 image(s) may be provided in one prompt. (parameter=image)"
        assert taken["choices"]

    async def test_key_model_and_length(self, client: aiohttp.ClientSession) -> None:
        async with FakeVLLM(api_key="sesame", model="mine", max_model_len=600) as fake:
            key = {"authorization": "Bearer sesame"}
            assert await post(client, fake, ask()) == {"error": "Unauthorized"}
            unknown = await post(client, fake, ask(model="other"), headers=key)
            long = await post(client, fake, ask("word " * 500), headers=key)
            async with client.get(f"{fake.base_url}/models", headers=key) as models:
                card = (await models.json())["data"][0]

        assert "Valid aliases: mine." in unknown["error"]["message"]
        assert long["error"]["message"].startswith("This model's maximum context length is 600 tokens.")
        assert (card["id"], card["max_model_len"]) == ("mine", 600)

    async def test_images_are_decoded_unless_told_not_to(self, client: aiohttp.ClientSession) -> None:
        broken = ask([image_part(png("x" * 60)[:-600])])
        async with FakeVLLM() as real, FakeVLLM(decode_images=False) as quick:
            assert "truncated" in (await post(client, real, broken))["error"]["message"]
            assert (await post(client, quick, broken))["choices"]


class TestRecords:
    async def test_everything_that_came(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        before = time.monotonic()
        await post(client, fake, ask("hello", user="me"), headers={"X-Request-Id": "abc"})
        async with client.get(f"{fake.base_url}/models"):
            pass

        chat, models = fake.requests
        assert (chat.method, chat.path, chat.status) == ("POST", "/v1/chat/completions", 200)
        assert chat.body["user"] == "me"
        assert json.loads(chat.raw) == chat.body
        assert chat.headers["x-request-id"] == "abc"
        assert chat.chat is not None
        assert chat.chat.prompt == "hello"
        assert before <= chat.at <= time.monotonic()
        assert (models.path, models.body) == ("/v1/models", None)
        assert fake.chats == [chat]

    async def test_peak_concurrency(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.latency = 0.1
        await asyncio.gather(*(said(client, fake) for _ in range(7)))
        await said(client, fake)

        assert fake.peak == 7

    async def test_latency_may_depend_on_the_request(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.latency = lambda chat: 0.5 if "slow" in chat.prompt else 0.0
        slow = asyncio.ensure_future(said(client, fake, "slow"))
        await said(client, fake, "quick")

        assert not slow.done()
        await slow

    async def test_a_client_that_goes_is_not_answered(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        fake.latency = 5.0
        with pytest.raises(TimeoutError):
            await post(client, fake, ask(), timeout=aiohttp.ClientTimeout(total=0.1))
        for _ in range(200):
            if not fake.counters.running:
                break
            await asyncio.sleep(0.01)

        assert fake.counters.running == 0
        assert fake.requests[0].status is None


class TestLife:
    def test_from_a_sync_test(self) -> None:
        with FakeVLLM() as fake:
            connection = http.client.HTTPConnection("127.0.0.1", fake.port)
            connection.request("POST", "/v1/chat/completions", json.dumps(ask()))
            body = json.load(connection.getresponse())
            connection.close()

        assert body["choices"][0]["message"]["content"] == "User Safety: safe"

    def test_leaves_no_thread_and_no_listener(self) -> None:
        before = set(threading.enumerate())
        with FakeVLLM() as fake:
            idle = socket.create_connection(("127.0.0.1", fake.port))
        with idle, pytest.raises(ConnectionResetError):
            idle.recv(1)
        assert set(threading.enumerate()) <= before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", fake.port), timeout=1)

    async def test_stops_with_requests_open(self, client: aiohttp.ClientSession) -> None:
        async with FakeVLLM(latency=60) as fake:
            waiting = asyncio.create_task(said(client, fake))
            while not fake.requests:
                await asyncio.sleep(0.005)
        with pytest.raises(aiohttp.ClientError):
            await waiting

    def test_may_be_started_again(self) -> None:
        fake = FakeVLLM()
        for _ in range(2):
            with fake:
                socket.create_connection(("127.0.0.1", fake.port)).close()

    def test_not_twice_at_once(self) -> None:
        with FakeVLLM() as fake, pytest.raises(RuntimeError, match="running already"):
            fake.start()

    def test_a_taken_port_is_an_error(self) -> None:
        with FakeVLLM() as fake, pytest.raises(OSError, match="in use"):
            FakeVLLM(port=fake.port).start()

    async def test_down_for_a_while(self, client: aiohttp.ClientSession, fake: FakeVLLM) -> None:
        await said(client, fake)
        with fake.down(), pytest.raises(aiohttp.ClientConnectionError):
            await said(client, fake)
        assert await said(client, fake) == "User Safety: safe"

    async def test_idle_connections_are_closed(self) -> None:
        async with FakeVLLM(keep_alive=0.1) as fake:
            reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            await writer.wait_closed()


class TestHttp:
    async def exchange(self, fake: FakeVLLM, sent: list[bytes], replies: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        received = b""
        while received.count(b"HTTP/1.1 2") + received.count(b"HTTP/1.1 4") < replies:
            piece = await asyncio.wait_for(reader.read(65536), 5)
            if not piece:
                break
            received += piece
        writer.close()
        await writer.wait_closed()
        return received

    async def test_pipelined_requests_and_heads_in_pieces(self, fake: FakeVLLM) -> None:
        one = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
        received = await self.exchange(fake, [one + one[:9], one[9:] + one], 3)

        assert received.count(b"HTTP/1.1 200 OK") == 3

    async def test_a_chunked_body(self, fake: FakeVLLM) -> None:
        body = json.dumps(ask("chunked")).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = b"%x\r\n%s\r\n" % (10, body[:10]), b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) - 10, body[10:])
        received = await self.exchange(fake, [head, *chunks], 1)

        assert b"User Safety: safe" in received
        assert fake.requests[0].body["messages"][0]["content"] == "chunked"

    @pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"])
    async def test_nonsense_is_refused(self, fake: FakeVLLM, sent: bytes) -> None:
        received = await self.exchange(fake, [sent], 1)
        assert re.match(rb"HTTP/1\.[01] 400", received)
