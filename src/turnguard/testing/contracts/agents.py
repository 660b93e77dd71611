"""What an adapter returns to the contracts: a turn, and everything that the agent keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as a person and the application see it. `answer` is what the person reads; `kept` is whatever the agent
    keeps for later (messages, state, memory, checkpoints): it is searched to any depth."""

    answer: str
    kept: Any = ()


class Agent(Protocol):
    """An agent under test. Later calls continue the same conversation."""

    async def run(self, text: str, image: bytes | None = None) -> Turn:
        """One turn for what a person sends: a text, and perhaps a PNG. A turn that is refused by an exception is
        caught by the adapter: `answer` is then what the application would show."""
        ...


@runtime_checkable
class StreamingAgent(Protocol):
    """An agent that can also stream."""

    def stream(self, text: str) -> AsyncIterator[str]:
        """The same turn, piece by piece, exactly as it is shown to the person."""
        ...
