"""`/v1/check/stream`: both directions at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.service.conftest import CHECK, KEYS, served, settings
from turnguard import Guard
from turnguard.testing import FakeVLLM

GuardOf = Callable[..., Guard]


def _lines(*texts: str, prompt: str | None = None) -> bytes:
    rows: list[dict[str, Any]] = [{"text": text} for text in texts]
    if prompt is not None:
        rows[0]["prompt"] = prompt
    return b"\n".join(json.dumps(row).encode() for row in rows)


def _events(body: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in body.split("\n\n") if line]


def test_judged_text_comes_back_and_the_decision_last(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    with served(guard_of(), settings()) as service, service.client(KEYS[CHECK]) as client:
        answer = client.post("/v1/check/stream", content=_lines("Take ", "flour.", prompt="How do I bake?"))
    events = _events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "".join(event.get("text", "") for event in events) == "Take flour."
    assert events[-1]["decision"]["action"] == "allow"
    assert vllm.chats[-1].chat is not None
    assert vllm.chats[-1].chat.prompt == "How do I bake?"


def test_an_unsafe_stream_ends_in_the_refusal(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.when("poison", response="unsafe", categories=["Violence"], p_response=0.99)
    with served(guard_of()) as service, service.client() as client:
        answer = client.post("/v1/check/stream?prompt=Help", content=_lines("Take the ", "poison and run"))
    events = _events(answer.text)
    assert "poison" not in answer.text
    assert events[-1]["decision"]["action"] == "block"
    assert events[-2]["text"] == events[-1]["decision"]["message"]


async def test_text_is_released_while_more_is_still_to_come(guard_of: GuardOf) -> None:
    with served(guard_of()) as service:
        port = int(service.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = "POST /v1/check/stream HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode() + _chunk(_lines("first " * 50) + b"\n"))
        heard = b""
        while b"first" not in heard:  # comes although the body has not ended
            heard += await asyncio.wait_for(reader.read(1000), 20)
        writer.write(_chunk(_lines("second")) + b"0\r\n\r\n")
        while b"decision" not in heard:
            heard += await asyncio.wait_for(reader.read(1000), 20)
        writer.close()
    assert b"second" in heard


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b'{"txt": "a"}', 422), (b"[1]", 422)],
)
def test_a_wrong_first_line_is_refused(guard_of: GuardOf, body: bytes, status: int) -> None:
    with served(guard_of()) as service, service.client() as client:
        assert client.post("/v1/check/stream", content=body).status_code == status


def test_a_wrong_later_line_ends_the_stream_with_an_error(guard_of: GuardOf) -> None:
    with served(guard_of()) as service, service.client() as client:
        answer = client.post("/v1/check/stream", content=_lines("fine") + b'\n{"text": 3}\n')
        events = _events(answer.text)
    assert "error" in events[-1]
    assert not any("decision" in event for event in events)


def test_an_empty_stream_has_no_decision(guard_of: GuardOf) -> None:
    with served(guard_of()) as service, service.client() as client:
        assert _events(client.post("/v1/check/stream", content=b"").text) == [{"decision": None}]
