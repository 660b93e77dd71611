"""How a moderator asks: what its settings fix for every request."""

from __future__ import annotations

from dataclasses import dataclass

from turnguard.core.verdict import Label

THINKING_TOKENS = 1024
"""What the makers' cookbook of Nemotron 3.5 leaves for a trace. A longer one is cut off, and there is no verdict."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How a model is asked.

    `model` is its served name. `categories` asks it to name categories, `reasoning` to reason first. `controversial`
    is the label that a "controversial" text gets. A family ignores what it has no choice of; the settings refuse that.
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
        """A string that changes with every setting here that can change a verdict."""
        reasons = "/reasoning" if self.reasoning else ""
        lax = "/controversial-safe" if self.controversial == "safe" else ""
        return f"{self.model}/{'categories' if self.categories else 'labels'}{reasons}{lax}"
