"""Curves from P(unsafe) and labels: isotonic (pool adjacent violators) and Platt, the better one by held-out log
loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnguard.core.calibration import EDGE, Curve
from turnguard.evaluation.reliability import expected_calibration_error, log_loss, reliability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FOLDS = 5
SEED = 20_260_414
ENOUGH_FOR_ALL = 50
"""Rows of each label that a side's own curve needs."""
ENOUGH_FOR_PART = 30
"""Rows of each label that a curve of one category or one language needs; with fewer, the wider curve serves."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A chosen curve and how it did. `losses` are held-out log losses by method; ECE and bins are held out too."""

    curve: Curve
    losses: dict[str, float]
    ece_before: float
    ece_after: float
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]


def fit(p: Sequence[float], truth: Sequence[bool], groups: Sequence[str] | None = None) -> Fit:
    """Fit both methods, judge each on folds that it has not seen, and keep the better; neither, where P itself is best.

    Rows of one group stay in one fold: a translation of a row that was fitted on is not held out.
    """
    import numpy as np

    given = np.asarray(p, dtype=np.float64)
    wanted = np.asarray(truth, dtype=bool)
    fold = folds_of(wanted, groups)
    held_out = {"identity": given, "isotonic": np.empty_like(given), "platt": np.empty_like(given)}
    for index in range(FOLDS):
        inside = fold == index
        seen = ~inside
        for method in ("isotonic", "platt"):
            curve = _fitted(method, given[seen], wanted[seen])
            held_out[method][inside] = values(curve, given[inside])
    losses = {method: log_loss(truth, predicted.tolist()) for method, predicted in held_out.items()}
    best = min(losses, key=lambda method: (losses[method], method != "identity"))
    curve = _fitted(best, given, wanted)
    after = held_out[best].tolist()
    return Fit(
        curve=curve,
        losses=losses,
        ece_before=expected_calibration_error(truth, p),
        ece_after=expected_calibration_error(truth, after),
        before=reliability(truth, p),
        after=reliability(truth, after),
    )


def _fitted(method: str, p: Array, truth: NDArray[np.bool_]) -> Curve:
    counts: dict[str, Any] = {"rows": len(p), "unsafe": int(truth.sum())}
    if method == "isotonic":
        xs, ys = isotonic(p, truth)
        return Curve(method="isotonic", p=tuple(xs), calibrated=tuple(ys), **counts)
    if method == "platt":
        slope, intercept = platt(p, truth)
        if slope > 0:
            return Curve(method="platt", slope=slope, intercept=intercept, **counts)
    return Curve(method="identity", **counts)


def values(curve: Curve, p: Array) -> Array:
    """The curve over an array."""
    import numpy as np

    return np.asarray([curve.at(float(one)) for one in p], dtype=np.float64)


def isotonic(p: Array, truth: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """Knots of the best rising step curve, least squares.

    One imagined unsafe row at the lowest P and one safe row at the highest keep the curve off 0 and 1: a finite
    sample never shows that a mistake is impossible.
    """
    import numpy as np

    x = np.concatenate([p, [p.min(), p.max()]])
    y = np.concatenate([truth.astype(np.float64), [1.0, 0.0]])
    levels, inverse = np.unique(x, return_inverse=True)
    weights = np.bincount(inverse).astype(np.float64)
    means = np.bincount(inverse, weights=y) / weights
    pooled = pool_adjacent_violators(means, weights)
    # only the ends of each flat piece are needed: between them the line is flat
    ends = np.ones(len(levels), dtype=bool)
    if len(levels) > 2:
        ends[1:-1] = (pooled[1:-1] != pooled[:-2]) | (pooled[1:-1] != pooled[2:])
    return levels[ends].tolist(), np.clip(pooled[ends], 0.0, 1.0).tolist()


def pool_adjacent_violators(values_: Array, weights: Array) -> Array:
    """The nearest never-falling sequence in weighted least squares (Ayer et al. 1955)."""
    import numpy as np

    means: list[float] = []
    heavy: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values_.tolist(), weights.tolist(), strict=True):
        mean, total, size = value, weight, 1
        while means and means[-1] >= mean:
            before, before_weight = means.pop(), heavy.pop()
            mean = (before * before_weight + mean * total) / (before_weight + total)
            total += before_weight
            size += sizes.pop()
        means.append(mean)
        heavy.append(total)
        sizes.append(size)
    return np.repeat(np.asarray(means), sizes)


def platt(p: Array, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept over the log odds of P, by Newton's method.

    Targets are Platt's smoothed ones, which keep separable data from an endless slope (Platt 1999; Lin, Lin and Weng
    2007).
    """
    import numpy as np

    kept = np.clip(p, EDGE, 1.0 - EDGE)
    odds = np.log(kept / (1.0 - kept))
    unsafe = int(truth.sum())
    safe = len(truth) - unsafe
    target = np.where(truth, (unsafe + 1.0) / (unsafe + 2.0), 1.0 / (safe + 2.0))
    slope, intercept = 1.0, 0.0
    loss = _platt_loss(odds, target, slope, intercept)
    for _ in range(100):
        predicted = 1.0 / (1.0 + np.exp(-np.clip(slope * odds + intercept, -700, 700)))
        wrong = predicted - target
        weight = predicted * (1.0 - predicted) + 1e-12
        gradient = np.array([np.dot(wrong, odds), wrong.sum()])
        hessian = np.array([[np.dot(weight, odds * odds), np.dot(weight, odds)], [np.dot(weight, odds), weight.sum()]])
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        size = 1.0
        while size > 1e-8:  # halve until the loss falls
            trial = (slope - size * step[0], intercept - size * step[1])
            found = _platt_loss(odds, target, *trial)
            if found <= loss:
                break
            size /= 2
        else:
            break
        moved = max(abs(trial[0] - slope), abs(trial[1] - intercept))
        slope, intercept, loss = float(trial[0]), float(trial[1]), found
        if moved < 1e-10:
            break
    return slope, intercept


def _platt_loss(odds: Array, target: Array, slope: float, intercept: float) -> float:
    import numpy as np

    z = slope * odds + intercept
    return float(np.sum(np.logaddexp(0.0, z) - target * z))


def folds_of(truth: NDArray[np.bool_], groups: Sequence[str] | None) -> NDArray[np.int64]:
    """A fold per row: both labels spread evenly, whole groups together, the same on every run."""
    import numpy as np

    names = [name or f"\0{index}" for index, name in enumerate(groups or [""] * len(truth))]
    label = {name: bool(value) for name, value in zip(names, truth.tolist(), strict=True)}
    random = np.random.default_rng(SEED)
    place: dict[str, int] = {}
    for wanted in (True, False):
        members = [name for name, value in label.items() if value is wanted]
        for index, position in enumerate(random.permutation(len(members))):
            place[members[position]] = index % FOLDS
    return np.asarray([place[name] for name in names], dtype=np.int64)


def rows_needed(goal: float) -> int:
    """How many rows it takes to state a share of `goal` at 95 %: were it lower, as many rows would not all fit by
    chance.
    """
    return math.ceil(math.log(0.05) / math.log(goal))
