"""Verdicts + coverage + policy → what to do. A pure function: no network, no clock, no framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from turnguard.content import Stage
from turnguard.policy import SEVERITY, WAYS, Action, Policy, Rule, StagePolicy, Way
from turnguard.verdict import Coverage, Failure, Judgement

ReasonKind = Literal["verdict", "failure", "uncheckable"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule that fired: the category (None: no category named), the rule's path in the YAML, and its action.

    `parts` are indexes into the step's parts. `cause` says which failure or why something was uncheckable. `p_unsafe`
    is the probability that the rule saw.
    """

    kind: ReasonKind
    category: str | None
    rule: str
    action: Action
    way: Way = "replace"
    parts: tuple[int, ...] = ()
    cause: str | None = None
    failure: Failure | None = None
    p_unsafe: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy made of the verdicts of one step."""

    action: Action
    reasons: tuple[Reason, ...] = ()
    failed: bool = False
    escalates: bool = False
    decisive: tuple[Reason, ...] = field(default=())

    @property
    def uncheckable(self) -> bool:
        """True when what could not be judged decided, and nothing else asked for the same."""
        return bool(self.decisive) and all(reason.kind == "uncheckable" for reason in self.decisive)

    def ways(self) -> dict[int, Way]:
        """How each offending part is rewritten; the strictest way where several rules rewrite one part."""
        ways: dict[int, Way] = {}
        for reason in self.reasons:
            if reason.action == "rewrite":
                for part in reason.parts:
                    ways[part] = max(ways.get(part, "redact"), reason.way, key=WAYS.index)
        return ways


ALLOWED = Outcome("allow")


def decide(judgements: Sequence[Judgement], coverage: Coverage, policy: Policy, stage: Stage) -> Outcome:
    """Decide each exchange on its own and take the strictest; a failure decides where nothing asks for something
    stricter.

    Nothing judged and nothing listed is itself uncheckable: silence is never an allow.
    """
    rules = policy.stages[stage]
    reasons: list[Reason] = []
    for judgement in judgements:
        reasons.extend(_judged(judgement, rules))
    for entry in coverage.not_judged:
        if entry.counts:
            rule = rules.on_uncheckable[entry.kind]
            parts = () if entry.part is None else (entry.part,)
            reasons.append(Reason("uncheckable", None, rule.path, rule.action, parts=parts, cause=entry.cause))
    if not judgements and not coverage.not_judged:
        rule = rules.on_uncheckable["other"]
        reasons.append(Reason("uncheckable", None, rule.path, rule.action, cause="nothing was judged"))
    escalates = any(
        judgement.decides == "response" and judgement.verdict.user == "unsafe" and judgement.verdict.failure is None
        for judgement in judgements
    )
    if not reasons:
        return Outcome("allow", escalates=True) if escalates else ALLOWED
    unique = tuple(dict.fromkeys(reasons))
    action = max((reason.action for reason in unique), key=SEVERITY.__getitem__)
    decisive = tuple(reason for reason in unique if reason.action == action)
    failed = any(reason.kind == "failure" for reason in decisive)
    return Outcome(action, unique, failed, escalates, decisive)


def _judged(judgement: Judgement, rules: StagePolicy) -> Iterator[Reason]:
    verdict = judgement.verdict
    if verdict.failure is not None:
        yield _failure(judgement, rules, verdict.failure, verdict.cause)
        return
    side = judgement.decides
    p_unsafe = verdict.p(side)
    label = verdict.label(side)
    if label is None:
        # a moderator that did not rate the side that decides has not judged it, whatever else it said
        yield _failure(judgement, rules, "unparseable", f"no {side} label")
    elif label == "unsafe":
        names: tuple[str | None, ...] = (*verdict.categories, *verdict.unknown_categories)
        both = verdict.user == "unsafe" and verdict.response == "unsafe"
        for name in names or (None,):
            rule = rules.default if name is None else rules.rule(name)
            fired = rule.fired(p_unsafe)
            if both:
                # the one category list cannot be attributed to either side, so a lax category rule may be the other
                # side's
                floor = rules.default.fired(p_unsafe)
                if SEVERITY[floor.action] > SEVERITY[fired.action]:
                    fired = floor
            yield _reason(judgement, name, fired, p_unsafe)
    elif rules.unsafe_above is not None:
        if p_unsafe is None:
            yield _failure(judgement, rules, "unparseable", "no_logprobs")
        elif p_unsafe > rules.unsafe_above:
            # made unsafe by P alone: the model named no category for it
            yield _reason(judgement, None, rules.default.fired(p_unsafe), p_unsafe, rules.unsafe_above_path)


def _reason(
    judgement: Judgement, category: str | None, rule: Rule, p_unsafe: float | None, cause: str | None = None
) -> Reason:
    return Reason(
        "verdict", category, rule.path, rule.action, rule.way, judgement.parts, cause=cause, p_unsafe=p_unsafe
    )


def _failure(judgement: Judgement, rules: StagePolicy, failure: Failure, cause: str | None) -> Reason:
    rule = rules.on_failure
    return Reason("failure", None, rule.path, rule.action, parts=judgement.parts, cause=cause, failure=failure)
