"""Findings of an examination, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Status = Literal["ok", "note", "failed", "skipped"]
"""`note`: works, but somebody should know. `skipped`: could not be told, and why."""


class Told(NamedTuple):
    """What one canary shows. `what` is one sentence on what was seen, `change` one on what to change."""

    status: Status
    what: str
    change: str | None = None


def ok(what: str) -> Told:
    """It works."""
    return Told("ok", what)


def failed(what: str, change: str) -> Told:
    """It does not work: what is wrong, and what to change."""
    return Told("failed", what, change)


def note(what: str, change: str | None = None) -> Told:
    """It works, with something worth knowing."""
    return Told("note", what, change)


def skipped(why: str) -> Told:
    """The canary could not be judged."""
    return Told("skipped", why)


@dataclass(frozen=True, slots=True)
class Finding:
    """One canary's result. `canary` is a stable name for scripts; `what` and `change` are a sentence each."""

    canary: str
    status: Status
    what: str
    change: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"canary": self.canary, "status": self.status, "what": self.what, "change": self.change}


@dataclass(frozen=True, slots=True)
class Examination:
    """One endpoint's findings. `role` is `moderator`, `fallback`, `second look` or `service`; `answered` is whether it
    gave any HTTP answer.
    """

    base_url: str
    role: str
    findings: tuple[Finding, ...]
    answered: bool
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return not any(finding.status == "failed" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "base_url": self.base_url,
            "role": self.role,
            "answered": self.answered,
            "healthy": self.healthy,
            "seconds": round(self.seconds, 3),
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was examined."""

    examinations: tuple[Examination, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 all good, 1 something failed, 3 no moderator answers (nor a service, where no moderator was examined)."""
        moderators = [each for each in self.examinations if each.role != "service"]
        if not any(each.answered for each in moderators or self.examinations):
            return 3
        return 0 if all(examination.healthy for examination in self.examinations) else 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "healthy": self.exit_code == 0,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "endpoints": [examination.to_dict() for examination in self.examinations],
        }
