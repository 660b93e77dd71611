"""What the rail said of one example: read from a decision, written as a JSON line, read back for the measures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from turnguard.core.decision import Decision
from turnguard.core.step import Stage
from turnguard.core.verdict import Label, Side
from turnguard.evaluation.examples import Example

TRANSPORT = frozenset({"unavailable", "timeout"})
"""Failures that say nothing about the model: they are asked again. An unparseable reply is the model's own and
stays.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One judged example.

    `called` is what the rail took the deciding label to be: unsafe where any request of the step came back unsafe;
    None where there was no verdict on the whole of it (`why` says what happened). It is never safe by default. `p` is
    the highest P(unsafe) of the deciding labels, as the model gave it. `latency` is the step's, in seconds, waiting
    for a free place included.
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

    def line(self) -> bytes:
        """As a JSON line."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii") + b"\n"


def side_of(stage: Stage) -> Side:
    """Whose label decides at a stage."""
    return "response" if stage in ("output", "tool_call") else "user"


def result_of(row: int, example: Example, decision: Decision) -> Result:
    """Read a decision."""
    side = side_of(example.stage)
    judgements = decision.judgements
    labels = {judgement.verdict.label(judgement.decides) for judgement in judgements}
    ps = [p for p in (judgement.verdict.p(judgement.decides) for judgement in judgements) if p is not None]
    verdict = decision.verdict
    why: str | None = None
    cause: str | None = None
    called: Label | None = None
    if "unsafe" in labels:
        called = "unsafe"
    elif verdict.failure is not None:
        why, cause = verdict.failure, verdict.cause
    elif not decision.coverage.complete:
        why = "not judged"
        cause = next((entry.cause for entry in decision.coverage.not_judged if entry.counts), None)
    elif labels == {"safe"}:
        called = "safe"
    else:
        why, cause = ("unparseable", f"no {side} label") if labels else ("not judged", "nothing was judged")
    return Result(
        row=row,
        status="failed" if why in TRANSPORT else "judged",
        id=example.id,
        stage=example.stage,
        side=side,
        label=example.label,
        called=called,
        # a P of some requests only would stand for the whole step
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
    )


_NAMES = {entry.name for entry in fields(Result)}


def read(lines: Iterable[bytes]) -> list[Result]:
    """Results of a file's lines."""
    return [_read(json.loads(line)) for line in lines]


def _read(data: dict[str, Any]) -> Result:
    data = {key: value for key, value in data.items() if key in _NAMES}
    return Result(**{**data, "named": tuple(data["named"]), "categories": tuple(data["categories"])})
