"""A fake server whose failures are planted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from turnguard.testing import FakeVLLM


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with FakeVLLM() as server:
        yield server
