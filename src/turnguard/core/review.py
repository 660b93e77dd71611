"""A step that waits for a person, and what became of it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from turnguard.core.decision import Reason
from turnguard.core.policy import Policy
from turnguard.core.step import Part, Stage

Status = Literal["waiting", "approved", "rejected", "expired"]


@dataclass(frozen=True, slots=True)
class Review:
    """A step under review. `content` is what to pass on: the parts as they were judged once approved, else empty.

    `by` is the name that the reviewer gave: a claim, which nothing checks. `decision` is the id of the decision that
    asked for the review, and `digest` that of the content that an answer is bound to. Times are UTC.
    """

    id: str
    status: Status
    stage: Stage
    decision: str
    reasons: tuple[Reason, ...]
    digest: str
    created: datetime
    expires: datetime
    tenant: str | None = None
    by: str | None = None
    note: str | None = None
    answered: datetime | None = None
    content: tuple[Part, ...] = field(default=(), repr=False)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the rules that fired, in order."""
        return tuple(dict.fromkeys(reason.category for reason in self.reasons if reason.category))

    @property
    def rules(self) -> tuple[str, ...]:
        """The paths of the rules that fired, in order."""
        return tuple(dict.fromkeys(reason.rule for reason in self.reasons))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without content."""
        return {
            "id": self.id,
            "status": self.status,
            "stage": self.stage,
            "decision": self.decision,
            "categories": list(self.categories),
            "rules": list(self.rules),
            "digest": self.digest,
            "tenant": self.tenant,
            "created": self.created.isoformat(timespec="milliseconds"),
            "expires": self.expires.isoformat(timespec="milliseconds"),
            "answered": self.answered and self.answered.isoformat(timespec="milliseconds"),
            "by": self.by,
            "note": self.note,
        }


def can_review(policy: Policy) -> bool:
    """Whether any rule of the policy can end in a review."""
    rules = (
        rule
        for stage in policy.stages.values()
        for rule in (
            stage.default,
            stage.on_failure,
            *stage.categories.values(),
            *stage.on_uncheckable.values(),
            *stage.on_reduced.values(),
        )
    )
    return any("review" in (rule.action, rule.otherwise.action if rule.otherwise else "") for rule in rules)
