"""Fit calibration curves from P(unsafe) and labels: isotonic or Platt, whichever has the lower held-out log loss."""

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
    """The chosen curve. `losses` are log losses by method; they, the calibration errors and the bins are held out."""

    curve: Curve
    losses: dict[str, float]
    ece_before: float
    ece_after: float
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]


def fit(p: Sequence[float], truth: Sequence[bool], groups: Sequence[str] | None = None) -> Fit:
    """Fit both methods, score each on held-out folds, and keep the best; P itself may be the best.

    Rows of one group stay in one fold: a translation of a fitted row is not held out.
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
    """Apply the curve to an array."""
    import numpy as np

    return np.asarray([curve.at(float(one)) for one in p], dtype=np.float64)


def isotonic(p: Array, truth: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """Return the knots of the least-squares rising curve: P and calibrated P.

    An imagined unsafe row at the lowest P and a safe row at the highest keep the curve off 0 and 1: a finite sample
    never shows that a mistake is impossible.
    """
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    x = np.concatenate([p, [p.min(), p.max()]])
    y = np.concatenate([truth.astype(np.float64), [1.0, 0.0]])
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(x, y)
    return fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist()


def platt(p: Array, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and intercept of a logistic curve over the log odds of P.

    Each row counts as partly unsafe and partly safe, by Platt's smoothed targets. They keep separable data from an
    endless slope (Platt 1999).
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    kept = np.clip(p, EDGE, 1.0 - EDGE)
    odds = np.log(kept / (1.0 - kept))
    unsafe = int(truth.sum())
    target = np.where(truth, (unsafe + 1.0) / (unsafe + 2.0), 1.0 / (len(truth) - unsafe + 2.0))
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(
        np.concatenate([odds, odds])[:, None],
        np.repeat([1, 0], len(odds)),
        sample_weight=np.concatenate([target, 1.0 - target]),
    )
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def folds_of(truth: NDArray[np.bool_], groups: Sequence[str] | None) -> NDArray[np.int64]:
    """Return a fold per row: labels spread evenly, groups kept together, the same on every run."""
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
    """Return how many rows support a share of `goal` at 95 %: at a lower share, that many would hardly all succeed."""
    return math.ceil(math.log(0.05) / math.log(goal))
