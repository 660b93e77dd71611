"""Turnguard guards every step of an agent's turn with a content-safety model that you host yourself.

>>> from turnguard import Guard, Step
>>> guard = Guard.from_yaml("turnguard.yaml")            # doctest: +SKIP
>>> decision = guard.check(Step.input("How do I ..."))   # doctest: +SKIP
"""

from turnguard._version import __version__
from turnguard.core.decision import Decision
from turnguard.core.errors import (
    Blocked,
    ConfigError,
    ModeratorError,
    Rejected,
    ReviewError,
    StoreError,
    Timeout,
    TurnguardError,
    Unavailable,
    Unparseable,
)
from turnguard.core.policy import Policy
from turnguard.core.review import Review
from turnguard.core.step import Document, Image, Opaque, Step, Text, ToolCall
from turnguard.core.verdict import Coverage, Verdict
from turnguard.guard import Guard

__all__ = [
    "Blocked",
    "ConfigError",
    "Coverage",
    "Decision",
    "Document",
    "Guard",
    "Image",
    "ModeratorError",
    "Opaque",
    "Policy",
    "Rejected",
    "Review",
    "ReviewError",
    "Step",
    "StoreError",
    "Text",
    "Timeout",
    "ToolCall",
    "TurnguardError",
    "Unavailable",
    "Unparseable",
    "Verdict",
    "__version__",
]
