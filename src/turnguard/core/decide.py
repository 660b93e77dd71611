"""Verdicts + coverage + policy → what to do. A pure function: no network, no clock, no framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from turnguard.core.action import SEVERITY
from turnguard.core.decision import Outcome, Reason, Shadow
from turnguard.core.policy import Policy
from turnguard.core.rules import Rule, StagePolicy
from turnguard.core.step import Stage
from turnguard.core.taxonomy import MINOR, on_record
from turnguard.core.verdict import Coverage, Covered, Failure, Judgement, Verdict

if TYPE_CHECKING:
    from turnguard.core.calibration import Calibration

ALLOWED = Outcome("allow")


def decide(
    judgements: Sequence[Judgement], coverage: Coverage, policy: Policy, stage: Stage, language: str | None = None
) -> Outcome:
    """Decide each exchange on its own and take the strictest; a failure decides where nothing asks for something
    stricter.

    `language` is the one that was given, never a guess: it may choose the curve where the policy names a calibration.
    Nothing judged and nothing listed is itself uncheckable: silence is never an allow.
    """
    rules = policy.stages[stage]
    reasons: list[Reason] = []
    escalates = False
    for judgement in judgements:
        verdict = judgement.verdict
        for deciding in (verdict,) if verdict.looks is None else verdict.looks.deciding:
            reasons.extend(_judged(judgement, deciding, rules, policy.calibration, language))
        if judgement.decides == "response" and verdict.user == "unsafe" and verdict.failure is None:
            escalates = True
    for entry in coverage.not_judged:
        if entry.counts:
            reasons.append(_uncheckable(entry, rules, judgements))
    for coarse in coverage.reduced:
        rule = rules.on_reduced[coarse.kind]
        parts = () if coarse.part is None else (coarse.part,)
        cause = f"shown at {coarse.scale:.2f} of its size"
        reasons.append(Reason("reduced", None, rule.path, rule.action, parts=parts, cause=cause))
    if not judgements and not coverage.not_judged:
        rule = rules.on_uncheckable["other"]
        reasons.append(Reason("uncheckable", None, rule.path, rule.action, cause="nothing was judged"))
    if not reasons:
        return Outcome("allow", escalates=True) if escalates else ALLOWED
    unique = tuple(dict.fromkeys(reasons))
    action = max((reason.action for reason in unique), key=SEVERITY.__getitem__)
    decisive = tuple(reason for reason in unique if reason.action == action)
    if action == "review" and any(MINOR in judgement.verdict.categories for judgement in judgements):
        action = "block"  # a review would keep the content, which is never done with content of this category
    failed = any(reason.kind == "failure" for reason in decisive)
    return Outcome(action, unique, failed, escalates, decisive)


def in_shadow(
    judgements: Sequence[Judgement], coverage: Coverage, policy: Policy, stage: Stage, language: str | None = None
) -> Shadow | None:
    """What the policy's shadow makes of the same verdicts; None where it has none."""
    if policy.shadow is None:
        return None
    outcome = decide(judgements, coverage, policy.shadow, stage, language)
    return Shadow(outcome.action, outcome.reasons)


def _uncheckable(entry: Covered, rules: StagePolicy, judgements: Sequence[Judgement]) -> Reason:
    rule = rules.on_uncheckable[entry.kind]
    action = rule.action
    if rule.way == "trim" and (not entry.trims or any(judgement.verdict.failure for judgement in judgements)):
        action = "block"  # there is nothing judged that could stand by itself
    parts = () if entry.part is None else (entry.part,)
    return Reason("uncheckable", None, rule.path, action, rule.way, parts, cause=entry.cause)


def _judged(
    judgement: Judgement, verdict: Verdict, rules: StagePolicy, calibration: Calibration | None, language: str | None
) -> Iterator[Reason]:
    if verdict.failure is not None:
        yield _failure(judgement, rules, verdict.failure, verdict.cause)
        return
    side = judgement.decides
    raw = verdict.p(side)
    if raw is not None and not 0.0 <= raw <= 1.0:
        raw = None  # NaN and what is no probability: as good as none

    def p(category: str | None) -> float | None:
        """The P that a rule's threshold is compared with."""
        return raw if raw is None or calibration is None else calibration.p(side, raw, category, language)

    label = verdict.label(side)
    if label not in ("safe", "unsafe"):
        # a moderator that did not rate the side that decides has not judged it, whatever else it said
        yield _failure(judgement, rules, "unparseable", f"no {side} label")
    elif label == "unsafe":
        names: tuple[str | None, ...] = (*verdict.categories, *verdict.unknown_categories)
        both = verdict.user == "unsafe" and verdict.response == "unsafe"
        for name in names or (None,):
            rule = rules.default if name is None else rules.rule(name)
            # a category's own curve is for its own rule: the default's threshold is on the scale of all
            p_unsafe = p(name if name in rules.categories else None)
            fired = rule.fired(p_unsafe)
            if both:
                # the one category list cannot be attributed to either side, so a lax category rule may be the other
                # side's
                floor = rules.default.fired(p(None))
                if SEVERITY[floor.action] > SEVERITY[fired.action]:
                    fired = floor
            # an unknown name is the model's own text, and may repeat what it read
            shown = name if name is None or name in rules.categories else on_record(name)
            yield _reason(judgement, shown, fired, p_unsafe)
    elif rules.unsafe_above is not None:
        p_unsafe = p(None)
        if p_unsafe is None:
            cause = "no_logprobs" if raw is None else f"the calibration does not cover the {side} side"
            yield _failure(judgement, rules, "unparseable", cause)
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
