"""An audit line and another policy → what that policy would have made of it. No model is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from turnguard.core.decide import decide
from turnguard.core.decision import Outcome
from turnguard.core.policy import Policy
from turnguard.core.step import Kind, Stage
from turnguard.core.verdict import Coverage, Covered, Failure, Judgement, Label, Reduced, Side, Verdict


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


class _Coverage(_Part):
    judged: tuple[Covered, ...]
    not_judged: tuple[Covered, ...]
    reduced: tuple[Reduced, ...] = ()


class _Line(_Part):
    stage: Stage
    language_given: str | None = None
    judgements: tuple[_Judged, ...]
    coverage: _Coverage


def replay(line: str | Mapping[str, Any], policy: Policy) -> Outcome:
    """Decide a recorded step again under `policy`, with the verdicts that were recorded.

    `line` is a line of the audit file, or what it parses to. Raises `ValueError` where it is none. The outcome says
    what the policy asks for; whether a rewrite would have succeeded is not in the record.
    """
    try:
        record = _Line.model_validate_json(line) if isinstance(line, str) else _Line.model_validate(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise ValueError(f"not a line of the audit file: {where}: {first['msg']}") from None
    judgements = [each.judgement() for each in record.judgements]
    coverage = Coverage(record.coverage.judged, record.coverage.not_judged, record.coverage.reduced)
    return decide(judgements, coverage, policy, record.stage, record.language_given)
