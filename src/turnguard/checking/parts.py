"""A step that was decided as a whole → a decision for each of its parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from turnguard.checking.apply import message
from turnguard.checking.check import Check
from turnguard.core.decide import decide, in_shadow
from turnguard.core.decision import Decision, Outcome
from turnguard.core.step import Part
from turnguard.core.verdict import Coverage, Judgement

Place = tuple[int, int] | None


def of_parts(check: Check, whole: Decision, places: Sequence[Place]) -> list[Decision]:
    """One decision for each part, in order. A part takes what its own exchanges ask for.

    The work grows with the number of parts and of what was asked about each, never with their product.
    """
    judgements: dict[int, list[Judgement]] = defaultdict(list)
    for judgement in check.judgements:
        for index in judgement.parts:
            judgements[index].append(judgement)
    # what belongs to no part is told with the first
    covered: dict[str, dict[int, list[Any]]] = {each.name: defaultdict(list) for each in fields(Coverage)}
    for name, by_part in covered.items():
        for entry in getattr(check.coverage, name):
            by_part[entry.part or 0].append(entry)
    decided: dict[tuple[int, ...], Outcome] = {}
    worded: dict[Any, str] = {}

    def word(outcome: Outcome) -> str:
        why = tuple((reason.kind, reason.category, reason.cause, reason.failure) for reason in outcome.decisive)
        if why not in worded:
            worded[why] = message(check.setup, check.policy, outcome, whole.language)
        return worded[why]

    out: list[Decision] = []
    for index, place in enumerate(places):
        coverage = Coverage(**{name: tuple(by_part.get(index, ())) for name, by_part in covered.items()})
        own = tuple(judgements[index])
        key = tuple(map(id, own))
        shared = not any(index in by_part for name, by_part in covered.items() if name != "judged")
        outcome = decided.get(key) if shared else None
        if outcome is None:
            outcome = decide(own, coverage, check.policy, check.step.stage, check.step.language)
            if shared:
                decided[key] = outcome
        out.append(_of_part(check, whole, index, place, own, coverage, outcome, word))
    return out


def _of_part(
    check: Check,
    whole: Decision,
    index: int,
    where: Place,
    judgements: tuple[Judgement, ...],
    coverage: Coverage,
    outcome: Outcome,
    word: Callable[[Outcome], str],
) -> Decision:
    pinned = check.plan.parts[index]
    part: Part | None = pinned
    if outcome.action == "rewrite":
        # what became of it was worked out for the whole step; without an acceptable rewrite it is withheld
        part = whole.parts[index]
        if whole.action != "rewrite":
            outcome = replace(outcome, action="block")
    elif whole.action == "rewrite" and whole.parts[index] != pinned and outcome.action in ("allow", "flag"):
        # rewriting found that it offends beside what stands there now
        part = whole.parts[index]
        outcome = replace(outcome, action="rewrite", decisive=whole.outcome.decisive)
    withheld = outcome.action in ("block", "review")
    return replace(
        whole,
        action=outcome.action,
        outcome=outcome,
        judgements=judgements,
        coverage=coverage,
        parts=(None,) if withheld else (part,),
        message=word(outcome) if withheld else None,
        held=(pinned,) if outcome.action == "review" else (),
        id=f"{whole.id}-{index}",
        where=where,
        shadow=in_shadow(judgements, coverage, check.policy, check.step.stage, check.step.language),
    )
