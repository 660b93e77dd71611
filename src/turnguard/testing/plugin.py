"""Fixtures for adopters' own tests. Enable them in your `conftest.py`: `pytest_plugins = ["turnguard.testing.plugin"]`.

Needs pytest, which Turnguard itself does not install. Nothing here touches the network but loopback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from turnguard.core.policy import Policy
from turnguard.guard import Guard
from turnguard.moderators.base import Moderator
from turnguard.testing.fake_moderator import FakeModerator
from turnguard.testing.fake_vllm import FakeVLLM


class MakeGuard(Protocol):
    """Makes a guard for a policy; it is closed when the test ends."""

    def __call__(self, policy: Mapping[str, Any] | None = None, moderator: Moderator | None = None) -> Guard:
        """`policy`: what stands under `policy:` in the YAML. `moderator`: by default `turnguard_moderator`."""
        ...


@pytest.fixture
def turnguard_server() -> Iterator[FakeVLLM]:
    """A scripted vLLM on loopback: says "safe" until told otherwise."""
    with FakeVLLM() as server:
        yield server


@pytest.fixture
def turnguard_config(turnguard_server: FakeVLLM, tmp_path: Path) -> Path:
    """A `turnguard.yaml` with the default policy that names the test's `turnguard_server`."""
    file = tmp_path / "turnguard.yaml"
    file.write_text(f"moderator: {{base_url: '{turnguard_server.base_url}'}}\n", encoding="utf-8")
    return file


@pytest.fixture
def turnguard_moderator() -> FakeModerator:
    """A scripted moderator without any network: set `unsafe`, read `asked`, call `fail`."""
    return FakeModerator()


@pytest.fixture
def turnguard_guard(turnguard_moderator: FakeModerator) -> Iterator[MakeGuard]:
    """Makes guards: `turnguard_guard({"default": "flag"})`."""
    made: list[Guard] = []

    def make(policy: Mapping[str, Any] | None = None, moderator: Moderator | None = None) -> Guard:
        made.append(Guard(Policy.from_dict(policy), moderator or turnguard_moderator))
        return made[-1]

    yield make
    for guard in made:
        guard.close()
