"""What a step costs whose history was judged before: `python -m benchmarks.transcripts`.

CPU milliseconds, best of five.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks import rows
from turnguard import Guard
from turnguard.testing import FakeModerator

ROUNDS = 5
Messages = list[dict[str, Any]]


def talk(messages: int) -> Messages:
    """A conversation of short turns."""
    return [
        {"role": "user" if at % 2 == 0 else "assistant", "content": f"turn {at} " + "with some words " * 15}
        for at in range(messages)
    ]


def screens(count: int) -> Messages:
    """A conversation with screenshots of about 1.4 MB of base64 each."""
    from benchmarks.media import screenshot

    plain = screenshot((1280, 800))
    return [
        {
            "role": "tool",
            "tool_call_id": f"call_{at}",
            "content": [{"type": "image_url", "image_url": {"url": _uri(at, plain)}}],
        }
        for at in range(count)
    ]


def _uri(number: int, picture: bytes) -> str:
    # a comment chunk behind the picture's end makes each of them different and as large as a real one
    return "data:image/png;base64," + base64.b64encode(picture + os.urandom(1_000_000) + bytes([number])).decode()


async def step(messages: Messages, renew: Callable[[Messages], Messages]) -> float:
    """One more turn behind a history that was judged before."""
    guard = Guard(moderator=FakeModerator())
    await guard.acheck_messages(messages)
    best = float("inf")
    for number in range(ROUNDS):
        history = renew(messages)
        new = {"role": "user", "content": f"new {number}"}
        began = time.process_time()
        await guard.acheck_messages([*history, new])
        best = min(best, time.process_time() - began)
    return best * 1000


async def blocks(count: int) -> float:
    """One message of many blocks, never seen before."""
    best = float("inf")
    for _ in range(ROUNDS):
        guard = Guard(moderator=FakeModerator())
        message = {"role": "user", "content": [{"type": "text", "text": f"block {at}"} for at in range(count)]}
        began = time.process_time()
        await guard.acheck_messages([message])
        best = min(best, time.process_time() - began)
    return best * 1000


def _digest(messages: Messages) -> float:
    data = json.dumps(messages).encode()
    began = time.process_time()
    hashlib.blake2b(data).digest()
    return (time.process_time() - began) * 1000


def _same(messages: Messages) -> Messages:
    return messages


def _equal(messages: Messages) -> Messages:
    renewed: Messages = json.loads(json.dumps(messages))
    return renewed


async def main() -> None:
    """Print a row for each measurement."""
    small, large = await step(talk(250), _same), await step(talk(1000), _same)
    rows.add("a step behind 1,000 known messages, the same objects", f"{large:.1f} ms", "3 ms", met=large <= 3.0)
    ratio = large / small
    rows.add("the same behind 1,000 against 250", f"{ratio:.1f} times", "under 5", met=ratio < 5)
    pictures = screens(20)
    seen = await step(pictures, _same)
    rows.add("a step behind 20 known screenshots, the same objects", f"{seen:.1f} ms", "3 ms", met=seen <= 3.0)
    equal, digest = await step(pictures, _equal), min(_digest(pictures) for _ in range(ROUNDS))
    rows.add(
        "the same, equal but new objects",
        f"{equal:.0f} ms",
        f"two digests: {2 * digest:.0f} ms",
        met=equal <= 2 * digest,
    )
    few, many = await blocks(3_000), await blocks(12_000)
    rows.add("one message of 12,000 blocks", f"{many:.0f} ms", "1,000 ms", met=many <= 1000)
    rows.add("the same against 3,000 blocks", f"{many / few:.1f} times", "under 5", met=many < 5 * few)


if __name__ == "__main__":
    asyncio.run(main())
