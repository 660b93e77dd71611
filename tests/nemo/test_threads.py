"""Several threads, each with an event loop and an app of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter

from tests.nemo.lab import QUIET, Lab, user

pytestmark = QUIET


def test_turns_in_several_threads() -> None:
    """`ast.parse` fails in several threads at once, and the engine parses each expression anew (cpython#106905)."""
    answers: Counter[str] = Counter()

    async def talk(lab: Lab) -> None:
        for number in range(10):
            try:
                answers[(await lab.say(user(f"hello {number}")))["content"]] += 1
            except Exception as error:  # noqa: BLE001 - counted, and reported below
                answers[repr(error)] += 1

    labs = [Lab("yes") for _ in range(4)]
    threads = [threading.Thread(target=lambda lab=lab: asyncio.run(talk(lab))) for lab in labs]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert answers == {"yes": 40}
