"""What a decision was made from, as text: verdicts and coverage, never content. Deciding again needs no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from turnguard.core.decide import decide
from turnguard.core.decision import Decision, Outcome, Reason
from turnguard.core.policy import Policy
from turnguard.core.step import Stage
from turnguard.core.taxonomy import on_record
from turnguard.core.verdict import Coverage, Judgement, Looks, Verdict

OTHER_OWN = "the moderator was asked with other categories than the policy defines"
"""Why verdicts say nothing about a policy."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The arguments of `decide`, but for the policy and the stage. `language` is the one that was given. `own` is a
    digest of the categories that the policy defined then: the moderator was asked with them.
    """

    judgements: tuple[Judgement, ...]
    coverage: Coverage = field(default_factory=Coverage)
    language: str | None = None
    own: str | None = None

    @classmethod
    def of(cls, decision: Decision, language: str | None, policy: Policy) -> Evidence:
        """What `policy` made a decision from."""
        return cls(decision.judgements, decision.coverage, language, _own(policy))

    def fits(self, policy: Policy) -> bool:
        """Whether the moderator was asked with the categories that `policy` defines, and with no others."""
        return self.own == _own(policy) or not self.judgements

    def decide(self, policy: Policy, stage: Stage) -> Outcome:
        """What `policy` makes of it: the very function that decides live."""
        return decide(self.judgements, self.coverage, policy, stage, self.language)

    def with_verdicts(self, change: Callable[[Verdict], Verdict]) -> Evidence:
        """The same with every verdict changed, those of two looks too."""
        changed = (replace(each, verdict=_changed(each.verdict, change)) for each in self.judgements)
        return replace(self, judgements=tuple(changed))

    def dump(self) -> str:
        """JSON without what a model or a server wrote at length: raw replies, reasoning, names of no category."""
        kept = self
        if any(each.unknown_categories for judgement in self.judgements for each in said(judgement.verdict)):
            kept = self.with_verdicts(_named)
        return _evidence().serializer.to_json(kept, exclude=_left_out(), exclude_defaults=True).decode()

    @classmethod
    def load(cls, text: str) -> Evidence:
        """What `dump` made. Raises `ValueError` where the text is none of it."""
        try:
            found: Evidence = _evidence().validator.validate_json(text)
        except ValidationError as error:
            raise ValueError(sentence(error)) from None
        return found


def _own(policy: Policy) -> str | None:
    return None if policy.own is None else policy.own.digest.hex()[:16]


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


def said(verdict: Verdict) -> Iterator[Verdict]:
    """A verdict, and the two that it comes of where the moderator was asked twice."""
    yield verdict
    if verdict.looks is not None:
        yield from (verdict.looks.first, verdict.looks.second)


def _changed(verdict: Verdict, change: Callable[[Verdict], Verdict]) -> Verdict:
    looks = verdict.looks
    if looks is not None:
        verdict = replace(verdict, looks=replace(looks, first=change(looks.first), second=change(looks.second)))
    return change(verdict)


def _named(verdict: Verdict) -> Verdict:
    """A name that is no category is the model's own text, and may repeat what it read."""
    return replace(verdict, unknown_categories=tuple(dict.fromkeys(map(on_record, verdict.unknown_categories))))


@cache
def _evidence() -> TypeAdapter[Evidence]:
    """Used through its serializer and validator: its own methods cost half as much again."""
    return TypeAdapter(Evidence)


@cache
def _reasons() -> TypeAdapter[tuple[Reason, ...]]:
    return TypeAdapter(tuple[Reason, ...])


@cache
def _left_out() -> Mapping[str, Any]:
    """What of a verdict, and of the two looks in it, a model or a server wrote at length, or varies between runs."""
    plain: dict[str, Any] = dict.fromkeys(("raw", "reasoning", "tokens", "identity", "latency", "remembered"), True)
    looks = {each.name: plain for each in fields(Looks) if "Verdict" in str(each.type)}
    return {"judgements": {"__all__": {"verdict": {**plain, "looks": looks}}}}
