"""Send canaries to the configured server and examine its replies, to prove that the set-up works.

A rail that is set up wrong looks exactly like one that works: it answers, and lets things through. Framework-free;
`turnguard doctor` prints what `examine` finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnguard.doctor.findings import Examination, Finding, Report

if TYPE_CHECKING:
    from turnguard.doctor.canaries.service import Place
    from turnguard.doctor.examining import examine

__all__ = ["Examination", "Finding", "Place", "Report", "examine"]


def __getattr__(name: str) -> Any:
    if name in ("Place", "examine"):
        from turnguard.doctor import examining

        return getattr(examining, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
