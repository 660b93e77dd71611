"""A fake server whose failures are planted, and worlds of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.faults.faulty import World, worlds
from tests.faults.measuring import nothing_left
from turnguard.testing import FakeVLLM
from turnguard.text import language


@pytest.fixture(scope="session", autouse=True)
def _languages_are_read() -> None:
    """The first guess of a process reads a model in a thread of its own, which would look like one left behind."""
    language.guess("Guten Morgen, wie geht es dir heute?")


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with FakeVLLM() as server:
        yield server


@pytest.fixture(scope="module")
def world() -> Iterator[dict[int, World]]:
    """One that asks a single server, and one that asks two."""
    with worlds() as made:
        yield made


@pytest.fixture
async def leaks_nothing(world: dict[int, World]) -> AsyncIterator[None]:
    """Fails a test that leaves a task, a thread, a socket or a connection in use behind."""
    async with nothing_left(world.values()):
        yield
