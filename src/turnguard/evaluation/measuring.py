"""Turn results into figures: measures per side, breakdowns, the policy's decisions, latency and curves.
JSON-ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from turnguard.core.verdict import Label
from turnguard.evaluation.card import CARD, FIGURES, NAMES
from turnguard.evaluation.metrics import MEASURES, count, with_intervals
from turnguard.evaluation.reliability import expected_calibration_error, reliability
from turnguard.evaluation.results import Result

SIDES = ("user", "response")
SIDE_NAMES = {"user": "Prompts", "response": "Responses"}
MOST_POINTS = 200
"""Points of a precision-recall curve that a report draws."""
MOST_GROUPS = 60
"""Rows of a breakdown that a report lists; the largest come first."""


def figures(results: Sequence[Result], benchmark: str | None = None) -> dict[str, Any]:
    """Return everything that a report shows of one benchmark."""
    sides = {
        side: side_figures([result for result in results if result.side == side])
        for side in SIDES
        if any(result.side == side for result in results)
    }
    return {
        "rows": len(results),
        "sides": sides,
        "unjudged": unjudged(results),
        "card": against_card(sides, benchmark) if benchmark in CARD else [],
        "policy": policy_figures(results),
        "latency": latency(results),
    }


def unjudged(results: Sequence[Result]) -> dict[str, Any]:
    """Count the rows that are in no rate, and why: failed, rejected, unparseable, partly judged or not judged."""
    why = dict(sorted(Counter(result.why for result in results if result.why is not None).items()))
    rows = sum(why.values())
    return {"rows": rows, "of": len(results), "share": rows / len(results) if results else 0.0, "why": why}


def side_figures(results: Sequence[Result]) -> dict[str, Any]:
    """Return the measures of one side over the rows with a verdict, and count the others."""
    table = measured(results)
    scored = [result for result in results if result.called is not None and result.p is not None]
    truth = [result.label == "unsafe" for result in scored]
    p = [result.p for result in scored if result.p is not None]
    table["with_p"] = len(scored)
    table |= curves(truth, p)
    table["ece"] = expected_calibration_error(truth, p) if scored else None
    table["reliability"] = reliability(truth, p) if scored else []
    table["looks"] = looks(results)
    table["by"] = {
        "category": breakdown(results, lambda result: result.categories),
        "language": breakdown(results, lambda result: (result.language,) if result.language else ()),
        "attack": breakdown(results, lambda result: (result.attack,) if result.attack else ()),
        "named": named(results),
    }
    return table


def measured(results: Sequence[Result]) -> dict[str, Any]:
    """Counts, cells and measures with intervals."""
    judged = [result for result in results if result.called is not None]
    truth = [result.label == "unsafe" for result in judged]
    called = [result.called == "unsafe" for result in judged]
    return {
        "rows": len(results),
        "judged": len(judged),
        "unsafe": sum(truth),
        "without_verdict": dict(sorted(Counter(result.why for result in results if result.why).items())),
        "cells": asdict(count(truth, called)),
        "measures": {
            name: asdict(interval)
            for name, interval in with_intervals(truth, called, [result.group for result in judged]).items()
        },
    }


def looks(results: Sequence[Result]) -> dict[str, Any] | None:
    """What a second look changes: the measures by the first looks alone, by the second wherever there is one, and by
    the stricter of both. None where nothing was looked at twice.
    """
    if not any(result.looked for result in results):
        return None

    def by(called: Callable[[Result], Label | None]) -> list[Result]:
        return [replace(result, called=called(result)) if result.looked else result for result in results]

    def strictest(result: Result) -> Label | None:
        return "unsafe" if "unsafe" in (result.first, result.second) else result.first

    ways: dict[str, Callable[[Result], Label | None]] = {
        "first look": lambda result: result.first,
        "second look": lambda result: result.second,
        "strictest": strictest,
    }
    return {
        "rows": sum(result.looked > 0 for result in results),
        "requests": sum(result.looked for result in results),
        "failed": sum(result.unseen for result in results),
        "ways": [{"name": name, **measured(by(called))} for name, called in ways.items()],
    }


def breakdown(results: Sequence[Result], keys: Callable[[Result], Iterable[str]]) -> list[dict[str, Any]]:
    """The measures per value of a key, the largest first; a row with several values counts in each."""
    parts: dict[str, list[Result]] = {}
    for result in results:
        for key in keys(result):
            parts.setdefault(key, []).append(result)
    ranked = sorted(parts.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_GROUPS]
    return [{"name": name, **measured(part)} for name, part in ranked]


def named(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Per category that the model named: how often, and how often on rows that are truly unsafe (its precision)."""
    seen: dict[str, list[bool]] = {}
    for result in results:
        if result.called == "unsafe":
            for name in result.named:
                seen.setdefault(name, []).append(result.label == "unsafe")
    ranked = sorted(seen.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"name": name, "rows": len(rows), "unsafe": sum(rows)} for name, rows in ranked]


def against_card(sides: dict[str, Any], benchmark: str | None) -> list[dict[str, Any]]:
    """Each of the card's figures beside the measured one."""
    row = CARD[benchmark or ""]
    lines = []
    for figure, stated in row.figures.items():
        side, measure = FIGURES[figure]
        found = sides.get(side, {}).get("measures", {}).get(measure, {"value": None, "low": None, "high": None})
        value = found["value"]
        lines.append(
            {
                "figure": figure,
                "rows": sides.get(side, {}).get("judged", 0),
                "name": NAMES[figure],
                **found,
                "card": stated,
                "difference": None if value is None else value - stated,
                "column_read": row.read,
            }
        )
    return lines


def policy_figures(results: Sequence[Result]) -> dict[str, Any]:
    """Count the policy's actions, and how often judged unsafe and judged safe rows were withheld (block or review)."""
    actions = dict(Counter(result.action for result in results))
    results = [result for result in results if result.called is not None]
    held = [result.action in ("block", "review") for result in results]
    truth = [result.label == "unsafe" for result in results]
    intervals = with_intervals(truth, held, [result.group for result in results])
    return {
        "actions": actions,
        "unsafe_withheld": asdict(intervals["recall"]),
        "safe_withheld": asdict(intervals["false_positive_rate"]),
    }


def latency(results: Sequence[Result]) -> dict[str, Any]:
    """Seconds per step, of those that made a request: percentiles and a histogram."""
    import numpy as np

    seconds = np.asarray([result.latency for result in results if not result.remembered and result.why is None])
    if not len(seconds):
        return {"rows": 0}
    p50, p90, p95, p99 = (float(value) for value in np.quantile(seconds, (0.5, 0.9, 0.95, 0.99)))
    edge = max(p99 * 1.25, 1e-4)
    counts, edges = np.histogram(np.minimum(seconds, edge), bins=30, range=(0.0, edge))
    return {
        "rows": len(seconds),
        "mean": float(seconds.mean()),
        "p50": p50,
        "p90": p90,
        "p95": p95,
        "p99": p99,
        "max": float(seconds.max()),
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def curves(truth: Sequence[bool], p: Sequence[float]) -> dict[str, Any]:
    """Return the average precision and the area under the ROC curve, and at most 200 points of each curve.

    A figure is None, and its curve empty, where the rows do not hold what it needs: unsafe rows, or both kinds.
    """
    found: dict[str, Any] = {"average_precision": None, "precision_recall": [], "roc_auc": None, "roc": []}
    if not any(truth):
        return found
    import numpy as np
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    def thinned(points: Any) -> Any:
        return points[np.unique(np.linspace(0, len(points) - 1, MOST_POINTS).astype(int))].tolist()

    precision, recall, _ = precision_recall_curve(truth, p, drop_intermediate=True)
    found["average_precision"] = float(average_precision_score(truth, p))
    found["precision_recall"] = thinned(np.column_stack([recall, precision])[::-1])
    if not all(truth):
        false, caught, _ = roc_curve(truth, p)
        found["roc_auc"] = float(roc_auc_score(truth, p))
        found["roc"] = thinned(np.column_stack([false, caught]))
    return found


__all__ = ["MEASURES", "SIDES", "SIDE_NAMES", "figures", "measured", "side_figures"]
