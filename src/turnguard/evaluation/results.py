"""The result of one example: read from a decision, written as a JSON line, read back for the measures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, TypedDict

from turnguard.core.decision import Decision
from turnguard.core.step import Stage
from turnguard.core.verdict import Label, Side
from turnguard.evaluation.examples import Example

TRANSPORT = frozenset({"unavailable", "timeout"})
"""Failures that say nothing about the model: such rows are asked again. An unparseable reply is the model's own."""


@dataclass(frozen=True, slots=True)
class Result:
    """One judged example.

    `called` is the deciding label: unsafe where any request of the step came back unsafe. It is None where any part of
    the step has no verdict, whatever the other parts say: `why` names the failure, "partly judged" or "not judged". `p`
    is the highest P(unsafe) of the deciding labels. `latency` is the step's, in seconds, queueing included. `tokens`
    counts those of all its requests and replies; None where the server does not count them. `looked` counts second
    looks, `unseen` those that failed; `first` and `second` are what the label would be by the first looks alone, and by
    the second ones wherever there is one. Both are None where nothing was looked at twice.
    """

    row: int
    status: str
    id: str
    stage: str
    side: Side
    label: Label | None
    called: Label | None
    p: float | None
    why: str | None
    cause: str | None
    action: str
    named: tuple[str, ...]
    categories: tuple[str, ...]
    attack: str | None
    language: str | None
    group: str
    latency: float
    remembered: bool
    model: str | None
    tokens: int | None = None
    first: Label | None = None
    second: Label | None = None
    looked: int = 0
    unseen: int = 0

    def line(self) -> bytes:
        """As a JSON line."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii") + b"\n"


def side_of(stage: Stage) -> Side:
    """Return the side whose label decides at a stage."""
    return "response" if stage in ("output", "tool_call") else "user"


def result_of(row: int, example: Example, decision: Decision) -> Result:
    """Read the result from a decision."""
    side = side_of(example.stage)
    judgements = decision.judgements
    labels = {judgement.verdict.label(judgement.decides) for judgement in judgements}
    ps = [p for p in (judgement.verdict.p(judgement.decides) for judgement in judgements) if p is not None]
    verdict = decision.verdict
    why: str | None = None
    cause: str | None = None
    called: Label | None = None
    failed = next((judgement.verdict for judgement in judgements if judgement.verdict.failure is not None), verdict)
    if failed.failure is not None:
        why, cause = failed.failure, failed.cause
    elif not decision.coverage.complete:
        why = "partly judged" if labels else "not judged"
        cause = next((entry.cause for entry in decision.coverage.not_judged if entry.counts), None)
    elif None in labels:
        why, cause = "unparseable", f"no {side} label"
    elif labels:
        called = "unsafe" if "unsafe" in labels else "safe"
    else:
        why, cause = "not judged", "nothing was judged"
    return Result(
        row=row,
        status="failed" if why in TRANSPORT else "judged",
        id=example.id,
        stage=example.stage,
        side=side,
        label=example.label,
        called=called,
        # one P per request, or none: a P of some requests would stand for the whole step
        p=max(ps) if called is not None and len(ps) == len(judgements) else None,
        why=why,
        cause=cause,
        action=decision.action,
        named=(*verdict.categories, *verdict.unknown_categories),
        categories=example.categories,
        attack=example.attack,
        language=example.language,
        group=example.group,
        latency=round(decision.latency, 6),
        remembered=decision.remembered,
        model=verdict.model,
        tokens=_tokens(decision),
        **_looks(decision, called),
    )


class _Looks(TypedDict, total=False):
    first: Label | None
    second: Label | None
    looked: int
    unseen: int


def _looks(decision: Decision, called: Label | None) -> _Looks:
    """What each of two looks would have called the row."""
    looked = [one for one in decision.judgements if one.verdict.looks is not None]
    if not looked or called is None:
        return {}
    by_first, by_second, unseen = set(), set(), 0
    for one in decision.judgements:
        looks = one.verdict.looks
        first = (one.verdict if looks is None else looks.first).label(one.decides)
        failed = looks is not None and looks.second.failure is not None
        unseen += failed
        by_first.add(first)
        by_second.add(first if looks is None or failed else looks.second.label(one.decides))
    return {
        "first": "unsafe" if "unsafe" in by_first else "safe",
        "second": "unsafe" if "unsafe" in by_second else "safe",
        "looked": len(looked),
        "unseen": unseen,
    }


def _tokens(decision: Decision) -> int | None:
    counted = [judgement.verdict.tokens for judgement in decision.judgements]
    return sum(sum(tokens) for tokens in counted if tokens is not None) if None not in counted else None


_NAMES = {entry.name for entry in fields(Result)}


def read(lines: Iterable[bytes]) -> list[Result]:
    """Results of a file's lines."""
    return [_read(json.loads(line)) for line in lines]


def _read(data: dict[str, Any]) -> Result:
    data = {key: value for key, value in data.items() if key in _NAMES}
    return Result(**{**data, "named": tuple(data["named"]), "categories": tuple(data["categories"])})
