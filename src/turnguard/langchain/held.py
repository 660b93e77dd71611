"""What a surface remembers between hooks: content that passed, and content that waits for a reviewer. Both are
bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from langchain_core.messages import BaseMessage, ToolMessage

from turnguard.core.decision import Decision
from turnguard.core.step import ToolCall
from turnguard.runtime.caches import Cache

PASSED = 50_000
HELD = 1_000


@dataclass(frozen=True, slots=True)
class Held:
    """What waits for a reviewer: a whole message (with answers to its calls that were blocked), or one call of a
    message.
    """

    decision: Decision
    message: BaseMessage | None = field(default=None, repr=False)
    answers: tuple[ToolMessage, ...] = field(default=(), repr=False)
    call: ToolCall | None = field(default=None, repr=False)


class Holding(Cache[str, Held]):
    """Held content under ids that cannot be guessed."""

    def __init__(self, most: int = HELD) -> None:
        super().__init__(most)

    def hold(self, held: Held) -> str:
        """Keep it and name it."""
        identity = uuid4().hex
        self.put(identity, held)
        return identity
