"""What a decision was made from, as text: verdicts and coverage, never content. Deciding again needs no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from turnguard.core.decide import decide
from turnguard.core.decision import Outcome, Reason
from turnguard.core.policy import Policy
from turnguard.core.step import Stage
from turnguard.core.taxonomy import on_record
from turnguard.core.verdict import Coverage, Judgement, Verdict


@dataclass(frozen=True, slots=True)
class Evidence:
    """The arguments of `decide`, but for the policy and the stage. `language` is the one that was given."""

    judgements: tuple[Judgement, ...]
    coverage: Coverage = field(default_factory=Coverage)
    language: str | None = None

    def decide(self, policy: Policy, stage: Stage) -> Outcome:
        """What `policy` makes of it: the very function that decides live."""
        return decide(self.judgements, self.coverage, policy, stage, self.language)

    def dump(self) -> str:
        """JSON without what a model or a server wrote at length: raw replies, reasoning, names of no category."""
        kept = self
        if any(judgement.verdict.unknown_categories for judgement in self.judgements):
            kept = replace(self, judgements=tuple(map(_named, self.judgements)))
        return _evidence().dump_json(kept, exclude=_left_out(), exclude_defaults=True).decode()

    @classmethod
    def load(cls, text: str) -> Evidence:
        """What `dump` made. Raises `ValueError` where the text is none of it."""
        try:
            return _evidence().validate_json(text)
        except ValidationError as error:
            raise ValueError(sentence(error)) from None


def dump_reasons(reasons: tuple[Reason, ...]) -> str | None:
    """The rules that fired, as JSON; None where none did."""
    return _reasons().dump_json(reasons, exclude_defaults=True).decode() if reasons else None


def load_reasons(text: str | None) -> tuple[Reason, ...]:
    """What `dump_reasons` made. Raises `ValueError` where the text is none of it."""
    try:
        return () if text is None else _reasons().validate_json(text)
    except ValidationError as error:
        raise ValueError(sentence(error)) from None


def sentence(error: ValidationError) -> str:
    """The first of pydantic's complaints, without the value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the record'}: {first['msg']}"


def _named(judgement: Judgement) -> Judgement:
    """A name that is no category is the model's own text, and may repeat what it read."""
    verdict = judgement.verdict
    unknown = tuple(dict.fromkeys(map(on_record, verdict.unknown_categories)))
    return replace(judgement, verdict=replace(verdict, unknown_categories=unknown))


@cache
def _evidence() -> TypeAdapter[Evidence]:
    return TypeAdapter(Evidence)


@cache
def _reasons() -> TypeAdapter[tuple[Reason, ...]]:
    return TypeAdapter(tuple[Reason, ...])


@cache
def _left_out() -> Mapping[str, Any]:
    """Of a verdict, and of a verdict inside it, what a model or a server wrote, and what varies between runs."""
    plain: dict[str, Any] = dict.fromkeys(("raw", "reasoning", "tokens", "identity", "latency", "remembered"), True)
    inner = {each.name: plain for each in fields(Verdict) if "Verdict" in str(each.type)}
    return {"judgements": {"__all__": {"verdict": {**plain, **inner}}}}
