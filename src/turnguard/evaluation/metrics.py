"""The card's metrics, with intervals. Positive means unsafe. Rows without a verdict are in none of the cells.

Every measure is a function of four cells, so that a resample is four counts and no rows: the bootstrap of 30,000
rows costs the same as that of 30. Rows of one group (translations of one prompt) are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from turnguard.evaluation.reliability import wilson

RESAMPLES = 10_000
SEED = 20_260_316
MEASURES = ("accuracy", "precision", "recall", "f1", "false_positive_rate")


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure and its 95 % bootstrap interval; None where its denominator is empty."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """The confusion table: unsafe called unsafe, safe called unsafe, unsafe called safe, safe called safe."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def rows(self) -> int:
        """How many rows had a verdict."""
        return self.tp + self.fp + self.fn + self.tn


def count(truth: Sequence[bool], called: Sequence[bool]) -> Cells:
    """Count the cells; both sequences say True for unsafe."""
    import numpy as np

    wanted = np.asarray(truth, dtype=bool)
    said = np.asarray(called, dtype=bool)
    return Cells(
        int(np.sum(wanted & said)),
        int(np.sum(~wanted & said)),
        int(np.sum(wanted & ~said)),
        int(np.sum(~wanted & ~said)),
    )


def measures(cells: Any) -> dict[str, Any]:
    """All measures of an array whose last axis is tp, fp, fn, tn. Where a denominator is empty: not a number.

    An F1 without any positive is not a number either; scikit-learn's `zero_division=np.nan` agrees.
    """
    import numpy as np

    table = np.asarray(cells, dtype=np.float64)
    tp, fp, fn, tn = (table[..., index] for index in range(4))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "false_positive_rate": fp / (fp + tn),
        }


def with_intervals(
    truth: Sequence[bool], called: Sequence[bool], groups: Sequence[str] | None = None, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Every measure with its 95 % percentile interval. `groups`: rows with the same name are drawn together."""
    import numpy as np

    if len(truth) == 0:
        return {name: Interval(None) for name in MEASURES}
    table = cells_by_group(truth, called, groups)
    point = measures(table.sum(axis=0))
    drawn = measures(resampled(table, resamples))
    found: dict[str, Interval] = {}
    for name in MEASURES:
        value = float(point[name])
        spread = drawn[name][~np.isnan(drawn[name])]
        if np.isnan(value) or not len(spread):
            found[name] = Interval(None)
        else:
            low, high = (float(one) for one in np.quantile(spread, (0.025, 0.975)))
            if high - low < 1e-12 and name != "f1":
                # 0 of 25 is 0 in every resample: there the bootstrap sees no doubt, and Wilson's interval stands in
                low, high = wilson(value, denominator(table.sum(axis=0), name))
            found[name] = Interval(value, low, high)
    return found


def denominator(cells: Any, name: str) -> int:
    """Return the number of rows that a measure is the share of. F1 has none."""
    tp, fp, fn, tn = (int(one) for one in cells)
    return {
        "accuracy": tp + fp + fn + tn,
        "precision": tp + fp,
        "recall": tp + fn,
        "false_positive_rate": fp + tn,
    }[name]


def cells_by_group(truth: Sequence[bool], called: Sequence[bool], groups: Sequence[str] | None = None) -> Any:
    """One row of tp, fp, fn, tn per group; each row is its own group where none are given (or the name is empty)."""
    import numpy as np

    wanted = np.asarray(truth, dtype=bool)
    said = np.asarray(called, dtype=bool)
    cell = np.where(wanted, np.where(said, 0, 2), np.where(said, 1, 3))
    if groups is None or not any(groups):
        return np.eye(4, dtype=np.int64)[cell]
    names: dict[str, int] = {}
    places = [names.setdefault(name or f"\0{index}", len(names)) for index, name in enumerate(groups)]
    table = np.zeros((len(names), 4), dtype=np.int64)
    np.add.at(table, (np.asarray(places), cell), 1)
    return table


def resampled(table: Any, resamples: int = RESAMPLES, seed: int = SEED) -> Any:
    """Cells of `resamples` bootstrap draws of whole groups.

    Groups with the same cells are one kind: how often each kind is drawn is multinomial, whatever the number of rows.
    """
    import numpy as np

    kinds, sizes = np.unique(table, axis=0, return_counts=True)
    groups = int(sizes.sum())
    random = np.random.default_rng(seed)
    drawn = random.multinomial(groups, sizes / groups, size=resamples)
    return drawn @ kinds
