"""How far P(unsafe) can be taken at its word: reliability bins, expected calibration error, log loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

BINS = 15
"""Of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)."""
EDGE = 1e-6
"""P is kept this far from 0 and 1 where a logarithm is taken: one sure mistake must not outweigh everything."""


def reliability(truth: Sequence[bool], p: Sequence[float], bins: int = BINS) -> list[dict[str, Any]]:
    """Per bin that holds rows: rows, mean P, share of unsafe with its 95 % Wilson interval."""
    import numpy as np

    wanted = np.asarray(truth, dtype=np.float64)
    said = np.asarray(p, dtype=np.float64)
    place = np.minimum((said * bins).astype(int), bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        rows = int(inside.sum())
        if rows:
            share = float(wanted[inside].mean())
            low, high = wilson(share, rows)
            found.append({"rows": rows, "p": float(said[inside].mean()), "share": share, "low": low, "high": high})
    return found


def expected_calibration_error(truth: Sequence[bool], p: Sequence[float], bins: int = BINS) -> float:
    """The mean distance between P and the share of unsafe, over bins weighted by their rows."""
    table = reliability(truth, p, bins)
    return float(sum(entry["rows"] * abs(entry["p"] - entry["share"]) for entry in table) / len(truth))


def log_loss(truth: Sequence[bool], p: Sequence[float]) -> float:
    """Mean negative log likelihood, in nats."""
    import numpy as np

    wanted = np.asarray(truth, dtype=bool)
    said = np.clip(np.asarray(p, dtype=np.float64), EDGE, 1.0 - EDGE)
    return float(-np.mean(np.where(wanted, np.log(said), np.log1p(-said))))


def wilson(share: float, rows: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    # at 0 and 1 the end is exact, whatever rounding says
    return (0.0 if share == 0.0 else middle - half), (1.0 if share == 1.0 else middle + half)
