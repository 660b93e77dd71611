"""A chat-completions server that answers at once: `python -m benchmarks.instant PORT`.

The moderator's work is left out, so that what is measured is everything around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.request import urlopen


def _token(text: str, p_safe: float | None = None) -> dict[str, object]:
    top = [{"token": text, "logprob": 0.0, "bytes": None}]
    if p_safe is not None:
        top = [
            {"token": " safe", "logprob": math.log(p_safe), "bytes": None},
            {"token": " unsafe", "logprob": math.log(1 - p_safe), "bytes": None},
        ]
    return {"token": text, "logprob": -0.001, "bytes": None, "top_logprobs": top}


def _reply(sides: list[str]) -> bytes:
    tokens = [
        token for side in sides for token in (_token(side), _token(" Safety"), _token(":"), _token(" safe", 0.99))
    ]
    body = {
        "id": "chatcmpl-instant",
        "object": "chat.completion",
        "created": 1,
        "model": "nemotron_moderator",
        "system_fingerprint": "instant",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "\n".join(f"{side} Safety: safe" for side in sides)},
                "logprobs": {"content": tokens},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 480, "completion_tokens": 5, "total_tokens": 485},
    }
    return _http(json.dumps(body).encode())


def _http(data: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


USER = _reply(["User"])
BOTH = _reply(["User", "Response"])
_MODELS = json.dumps(
    {"object": "list", "data": [{"id": "nemotron_moderator", "max_model_len": 8192, "root": "x"}]}
).encode()
MODELS = _http(_MODELS)


# what the peers in benchmarks/peers ask for: OpenAI's moderation endpoint, and a judge that answers in JSON
_NAMES: tuple[str, ...] = (
    "sexual",
    "hate",
    "harassment",
    "self-harm",
    "violence",
    "illicit",
    "sexual/minors",
    "hate/threatening",
)
_NAMES += (
    "harassment/threatening",
    "self-harm/intent",
    "self-harm/instructions",
    "violence/graphic",
    "illicit/violent",
)
_RESULT = {
    "flagged": False,
    "categories": dict.fromkeys(_NAMES, False),
    "category_scores": dict.fromkeys(_NAMES, 0.001),
    "category_applied_input_types": {name: ["text"] for name in _NAMES},
}
MODERATION = _http(json.dumps({"id": "m", "model": "omni-moderation-latest", "results": [_RESULT]}).encode())
JUDGE = _http(
    json.dumps(
        {
            "id": "chatcmpl-instant",
            "object": "chat.completion",
            "created": 1,
            "model": "judge",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {
                        "role": "assistant",
                        "content": '{"flagged": false, "confidence": 0.01, "reason": "fine"}',
                    },
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19},
        }
    ).encode()
)


def _answer(head: bytes, body: bytes) -> bytes:
    if b"/moderations" in head[:80]:
        return MODERATION
    if b"json_object" in body or b'"confidence' in body or b"confidence" in body[:20_000]:
        return JUDGE
    return BOTH if b'"assistant"' in body else USER


class Instant(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one canned reply per kind of request."""

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            body, self.data = self.data[end + 4 : end + 4 + length], self.data[end + 4 + length :]
            if head.startswith(b"get"):
                self.transport.write(MODELS)
            else:
                self.transport.write(_answer(head, body))


@contextlib.contextmanager
def server(port: int) -> Iterator[str]:
    """The server in a process of its own, on another core where there is one. Gives the base URL."""
    command = [sys.executable, "-m", "benchmarks.instant", str(port)]
    process = subprocess.Popen(command)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1):
                break
            time.sleep(0.05)
        pin(0)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def pin(core: int) -> None:
    """Keep this process on one core, where the system can."""
    with contextlib.suppress(AttributeError, OSError):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


async def _serve(port: int) -> None:
    listener = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", port)
    async with listener:
        await listener.serve_forever()


if __name__ == "__main__":
    pin(1)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1])))
