"""A chat-completions server that answers at once: `python -m benchmarks.instant PORT`. The moderator's work is left out, so that
what is measured is everything around it."""

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
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


USER = _reply(["User"])
BOTH = _reply(["User", "Response"])
_MODELS = json.dumps(
    {"object": "list", "data": [{"id": "nemotron_moderator", "max_model_len": 8192, "root": "x"}]}
).encode()
MODELS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_MODELS), _MODELS)


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
                self.transport.write(BOTH if b'"assistant"' in body else USER)


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
