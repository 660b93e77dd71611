"""One decision as a person reads it: each rule with its line in the policy, P beside the threshold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnguard.core.decision import Reason
from turnguard.core.policy import Policy
from turnguard.core.rules import Rule, StagePolicy
from turnguard.core.step import Stage
from turnguard.core.verdict import Judgement
from turnguard.records.evidence import Evidence, load_reasons

AROUND = 2
"""Lines of the policy that are shown before and after a rule's own."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What a record was decided from. `metadata` is what has no column of its own. A damaged record is empty."""

    stage: Stage
    reasons: tuple[Reason, ...]
    shadow_reasons: tuple[Reason, ...]
    evidence: Evidence
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, row: Any) -> Whole:
        """The parts of a row that are text."""
        try:
            evidence = Evidence.load(row.evidence) if row.evidence else Evidence(())
            metadata = json.loads(row._mapping["metadata"] or "{}")
            return cls(row.stage, load_reasons(row.reasons), load_reasons(row.shadow_reasons), evidence, metadata)
        except ValueError:
            return cls(row.stage, (), (), Evidence(()), {})


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that fired, where it is written, and the lines around it: number, text, and whether it is the one."""

    reason: Reason
    place: str | None
    lines: Sequence[tuple[int, str, bool]]


@dataclass(frozen=True, slots=True)
class Scale:
    """One judgement's P(unsafe), and the thresholds that rules compare it with."""

    judgement: Judgement
    p: float | None
    thresholds: Sequence[tuple[float, str]]


def fired(reasons: Sequence[Reason], policy: Policy | None) -> list[Fired]:
    """The rules with their lines, as the policy was written when the decision was made."""
    return [_placed(reason, policy) for reason in reasons]


def _placed(reason: Reason, policy: Policy | None) -> Fired:
    origin = policy.origin if policy is not None else None
    line = origin.line(reason.rule) if origin is not None else None
    if origin is None or line is None:
        return Fired(reason, None, ())
    text = origin.text.splitlines()
    at = line - origin.first
    if not 0 <= at < len(text):
        return Fired(reason, f"{origin.file}:{line}", ())
    first, last = max(0, at - AROUND), min(len(text), at + AROUND + 1)
    shown = [(origin.first + index, text[index], index == at) for index in range(first, last)]
    return Fired(reason, f"{origin.file}:{line}", shown)


def scales(whole: Whole, policy: Policy | None) -> list[Scale]:
    """P of each judgement, with the thresholds of the rules that it could reach."""
    stage = policy.stages.get(whole.stage) if policy is not None else None
    return [_scale(judgement, stage) for judgement in whole.evidence.judgements]


def _scale(judgement: Judgement, stage: StagePolicy | None) -> Scale:
    verdict = judgement.verdict
    found: dict[str, float] = {}
    if stage is not None:
        for name in verdict.categories:
            _above(found, stage.rule(name))
        if not verdict.categories:
            _above(found, stage.default)
        if stage.unsafe_above is not None:
            found["unsafe_above"] = stage.unsafe_above
    return Scale(judgement, verdict.p(judgement.decides), [(value, label) for label, value in found.items()])


def _above(found: dict[str, float], rule: Rule) -> None:
    if rule.above is not None:
        found["above"] = rule.above


@dataclass(frozen=True, slots=True)
class Cell:
    """What one stage does with one category, live and under the shadow. `own` is false where the default decides."""

    rule: Rule
    shadow: Rule | None
    own: bool

    @property
    def live(self) -> str:
        """The live action."""
        return short(self.rule)

    @property
    def condition(self) -> str:
        """When another action takes its place."""
        rule = self.rule
        if rule.above is None:
            return ""
        return f"above {rule.above:g}" + (f", else {short(rule.otherwise)}" if rule.otherwise is not None else "")

    @property
    def beside(self) -> str:
        """What the shadow does, where that is something else."""
        if self.shadow is None or _same(self.rule, self.shadow):
            return ""
        limit = f" above {self.shadow.above:g}" if self.shadow.above is not None else ""
        return short(self.shadow) + limit


def matrix(policy: Policy) -> list[tuple[str, list[Cell]]]:
    """A row per category, the policy's own included: the cells of the stages. The last rows are what none decides."""
    stages = policy.stages.items()
    rows = [(name, [_cell(stage, policy, key, name) for key, stage in stages]) for name in policy.categories]
    rows.append(("any other, or none", [_cell(stage, policy, key, None) for key, stage in stages]))
    failing = [
        Cell(stage.on_failure, policy.shadow.stages[key].on_failure if policy.shadow is not None else None, True)
        for key, stage in stages
    ]
    return [*rows, ("moderator failed", failing)]


def _cell(stage: StagePolicy, policy: Policy, key: Stage, name: str | None) -> Cell:
    def rule_of(rules: StagePolicy) -> Rule:
        return rules.default if name is None else rules.rule(name)

    rule = rule_of(stage)
    other = rule_of(policy.shadow.stages[key]) if policy.shadow is not None else None
    return Cell(rule, other, name is None or rule.path != stage.default.path)


def _same(one: Rule | None, other: Rule | None) -> bool:
    """Whether two rules do the same, wherever they are written."""
    if one is None or other is None:
        return one is other
    alike = (one.action, one.way, one.above) == (other.action, other.way, other.above)
    return alike and _same(one.otherwise, other.otherwise)


def short(rule: Rule) -> str:
    """A rule's action in a word: the way for `redact` and `drop`."""
    return rule.way if rule.action == "rewrite" and rule.way != "replace" else rule.action
