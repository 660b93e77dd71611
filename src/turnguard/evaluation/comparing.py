"""Compare two runs over the same examples: paired intervals, McNemar's test, disagreements. JSON-ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from turnguard.evaluation.measuring import latency, measured, policy_figures, unjudged
from turnguard.evaluation.metrics import MEASURES, RESAMPLES, Interval, cells_by_group, measures, resampled
from turnguard.evaluation.results import Result

WITHHELD = ("block", "review")
MOST_GROUPS = 40
"""Rows of a breakdown by language or category; the largest come first."""


def comparison(first: Sequence[Result], second: Sequence[Result]) -> dict[str, Any]:
    """Compare the rows that both runs judged. `second` minus `first`, so that more is an increase.

    A row that one of them has no verdict for is in no figure but its own run's count of such rows.
    """
    pairs = paired(first, second)
    return {
        "rows": len(first),
        "paired": len(pairs),
        "runs": [_run([pair[index] for pair in pairs], whole) for index, whole in enumerate((first, second))],
        **_differences(pairs),
        "by": {
            "language": _breakdown(pairs, lambda result: (result.language,) if result.language else ()),
            "category": _breakdown(pairs, lambda result: result.categories),
        },
        "disagreements": [
            {
                "id": one.id,
                "label": one.label,
                "called": [one.called, other.called],
                "action": [one.action, other.action],
                "p": [one.p, other.p],
                "named": [list(one.named), list(other.named)],
                "row": one.row,
            }
            for one, other in pairs
            if one.called != other.called or one.action != other.action
        ],
    }


def paired(first: Sequence[Result], second: Sequence[Result]) -> list[tuple[Result, Result]]:
    """The rows that both runs have a verdict for, in order."""
    others = {result.row: result for result in second if result.called is not None}
    return [(result, others[result.row]) for result in first if result.called is not None and result.row in others]


def _run(judged: Sequence[Result], whole: Sequence[Result]) -> dict[str, Any]:
    counted = [result.tokens for result in judged if result.tokens is not None]
    policy = policy_figures(judged)
    held = {name: policy[name] for name in ("unsafe_withheld", "safe_withheld")}
    return {
        "measures": {**measured(judged)["measures"], **held},
        "unjudged": unjudged(whole),
        "latency": latency(whole),
        # a row that was remembered cost nothing in this run, and would cost as much as the others elsewhere
        "tokens": {"rows": len(counted), "sum": sum(counted), "mean": sum(counted) / len(counted) if counted else None},
    }


def _differences(pairs: Sequence[tuple[Result, Result]]) -> dict[str, Any]:
    """The differences of all measures of the labels, and of what the policies withhold."""
    called = difference(pairs, lambda result: result.called == "unsafe")
    held = difference(pairs, lambda result: result.action in WITHHELD)
    return {
        "difference": {
            **{name: asdict(interval) for name, interval in called.items()},
            "unsafe_withheld": asdict(held["recall"]),
            "safe_withheld": asdict(held["false_positive_rate"]),
        },
        "mcnemar": mcnemar(pairs),
    }


def difference(
    pairs: Sequence[tuple[Result, Result]], unsafe: Callable[[Result], bool], resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """The difference of each measure with its 95 % interval: both runs are resampled together, in whole groups."""
    import numpy as np

    if not pairs:
        return {name: Interval(None) for name in MEASURES}
    truth = [one.label == "unsafe" for one, _ in pairs]
    groups = [one.group for one, _ in pairs]
    tables = [cells_by_group(truth, [unsafe(pair[index]) for pair in pairs], groups) for index in (0, 1)]
    table = np.hstack(tables)
    drawn = resampled(table, resamples)

    def of(cells: Any) -> dict[str, Any]:
        before, after = measures(cells[..., :4]), measures(cells[..., 4:])
        return {name: after[name] - before[name] for name in MEASURES}

    point, spread = of(table.sum(axis=0)), of(drawn)
    found: dict[str, Interval] = {}
    for name in MEASURES:
        known = spread[name][~np.isnan(spread[name])]
        value = float(point[name])
        if np.isnan(value) or not len(known):
            found[name] = Interval(None)
        else:
            low, high = np.quantile(known, (0.025, 0.975))
            found[name] = Interval(value, float(low), float(high))
    return found


def mcnemar(pairs: Sequence[tuple[Result, Result]]) -> dict[str, Any]:
    """McNemar's exact test on the rows that one run gets right and the other wrong.

    `p` is the two-sided probability of a split at least as uneven where both are equally good; None where they never
    differ. It takes rows as independent: translations of one prompt are not, and the bootstrap's intervals are the
    honest ones there.
    """
    from scipy.stats import binomtest

    first = sum(one.called == one.label != other.called for one, other in pairs)
    second = sum(other.called == other.label != one.called for one, other in pairs)
    found = {"only_first_right": first, "only_second_right": second}
    return {**found, "p": float(binomtest(first, first + second).pvalue) if first + second else None}


def _breakdown(pairs: Sequence[tuple[Result, Result]], keys: Callable[[Result], Iterable[str]]) -> list[dict[str, Any]]:
    """The differences per value of a key, the largest part first; a row with several values counts in each."""
    parts: dict[str, list[tuple[Result, Result]]] = {}
    for pair in pairs:
        for key in keys(pair[0]):
            parts.setdefault(key, []).append(pair)
    ranked = sorted(parts.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_GROUPS]
    return [{"name": name, "paired": len(part), **_differences(part)} for name, part in ranked]
