"""An embedded stand-in for the GPU server: vLLM's wire format on loopback, small transparent rules, OCR on the CPU.

It is not the Nemotron model, and says so on every start and in every reply. `Sandbox` is the server; `judge` are its
rules for use in process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnguard.moderators.rules import RuleVerdict, judge
    from turnguard.sandbox.ocr import OcrUnavailable, Reader
    from turnguard.sandbox.server import Sandbox

__all__ = ["OcrUnavailable", "Reader", "RuleVerdict", "Sandbox", "judge"]


def __getattr__(name: str) -> Any:
    if name == "Sandbox":
        from turnguard.sandbox.server import Sandbox

        return Sandbox
    if name in {"OcrUnavailable", "Reader"}:
        from turnguard.sandbox import ocr

        return getattr(ocr, name)
    if name in {"RuleVerdict", "judge"}:
        from turnguard.moderators import rules

        return getattr(rules, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
