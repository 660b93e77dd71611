"""How a moderator asks: what its settings fix for every request."""

from __future__ import annotations

from dataclasses import dataclass

from turnguard.core.verdict import Label

THINKING_TOKENS = 1024
"""What the makers' cookbook of Nemotron 3.5 leaves for a trace. A longer one is cut off, and there is no verdict."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The served `model`, whether `categories` are named, whether it reasons first, and what a controversial text is.

    A family that has no such choice ignores it; the settings refuse it there.
    """

    model: str = "nemotron_moderator"
    categories: bool = True
    reasoning: bool = False
    controversial: Label = "unsafe"

    @property
    def thinking(self) -> int:
        """Tokens of the server's context that a trace may take."""
        return THINKING_TOKENS if self.reasoning else 0

    @property
    def identity(self) -> str:
        """Names everything here that changes a verdict."""
        reasons = "/reasoning" if self.reasoning else ""
        lax = "/controversial-safe" if self.controversial == "safe" else ""
        return f"{self.model}/{'categories' if self.categories else 'labels'}{reasons}{lax}"
