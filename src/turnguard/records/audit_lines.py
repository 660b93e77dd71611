"""A line of an audit file → its evidence, to decide again, and its row, to import it into a database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError

from turnguard.core.action import Action
from turnguard.core.decision import Outcome, Reason
from turnguard.core.policy import Policy
from turnguard.core.step import Kind, Stage
from turnguard.core.verdict import Coverage, Failure, Judgement, Label, Side, Verdict
from turnguard.records.evidence import OTHER_OWN, Evidence, dump_reasons, sentence


class _Part(BaseModel):
    """Of a line, what decides; the rest of it is ignored."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class _Judged(_Part):
    parts: tuple[int, ...]
    detail: str
    kind: Kind
    decides: Side
    user: Label | None
    response: Label | None
    categories: tuple[str, ...]
    p_user: float | None
    p_response: float | None
    failure: Failure | None
    cause: str | None

    def judgement(self) -> Judgement:
        verdict = Verdict(
            user=self.user,
            response=self.response,
            categories=self.categories,
            p_user=self.p_user,
            p_response=self.p_response,
            failure=self.failure,
            cause=self.cause,
        )
        return Judgement(verdict, self.decides, self.parts, self.detail, self.kind)


class _Line(_Part):
    stage: Stage
    language_given: str | None = None
    judgements: tuple[_Judged, ...]
    coverage: Coverage
    evidence: str | None = None

    def made(self) -> Evidence:
        """What decides. Two looks at one content, and a policy's own categories, stand in `evidence` alone."""
        if self.evidence is not None:
            return Evidence.load(self.evidence)
        judgements = tuple(each.judgement() for each in self.judgements)
        return Evidence(judgements, self.coverage, self.language_given)


class _Whole(_Line):
    """A line with what else a record holds."""

    id: str = Field(min_length=1, max_length=40)
    time: datetime
    action: Action
    failed: bool = False
    remembered: bool = False
    latency: float = 0.0
    policy: str = Field("", max_length=64)
    model: str | None = Field(None, validation_alias=AliasPath("verdict", "model"))
    parts: list[Any] = Field(default_factory=list)
    reasons: tuple[Reason, ...] = ()


def replay(line: str | Mapping[str, Any], policy: Policy) -> Outcome:
    """Decide a recorded step again under `policy`, with the verdicts that were recorded.

    `line` is a line of the audit file, or what it parses to. Raises `ValueError` where it is none, or where the
    moderator was asked with other categories than `policy` defines. The outcome says what the policy asks for;
    whether a rewrite would have succeeded is not in the record.
    """
    found = _read(_Line, line)
    evidence = found.made()
    if not evidence.fits(policy):
        raise ValueError(OTHER_OWN)
    return evidence.decide(policy, found.stage)


def row(line: str) -> dict[str, Any]:
    """The row of an audit line. Raises `ValueError` where it is none."""
    from turnguard.records.schema import records

    found = _read(_Whole, line)
    decisive = [reason for reason in found.reasons if reason.action == found.action] or list(found.reasons[:1])
    asked = "rewrite" if found.action == "block" and found.reasons and not _asks(found, "block") else found.action
    coverage = found.coverage
    return {
        **dict.fromkeys(records.columns.keys()),
        "id": found.id,
        "time": int(found.time.timestamp() * 1000),
        "event": "check",
        "stage": found.stage,
        "action": found.action,
        "asked": asked,
        "failed": found.failed,
        "reduced": bool(coverage.reduced),
        "complete": not coverage.reduced and not any(each.counts or each.failed for each in coverage.not_judged),
        "remembered": found.remembered,
        "rule": decisive[0].rule if decisive else None,
        "category": decisive[0].category if decisive else None,
        "latency": found.latency,
        "policy": found.policy,
        "model": found.model,
        "language": found.language_given,
        "parts": json.dumps(found.parts),
        "reasons": dump_reasons(found.reasons),
        "evidence": found.made().dump(),
    }


def _asks(line: _Whole, action: Action) -> bool:
    return any(reason.action == action for reason in line.reasons)


L = TypeVar("L", bound=_Line)


def _read(model: type[L], line: str | Mapping[str, Any]) -> L:
    try:
        return model.model_validate_json(line) if isinstance(line, str) else model.model_validate(line)
    except ValidationError as error:
        raise ValueError(f"not a line of the audit file: {sentence(error)}") from None
