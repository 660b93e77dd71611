"""Find thresholds for a stated goal: a recall, a false-positive rate or a category's precision, with intervals.

A threshold t on the calibrated P becomes `unsafe_above: t` (what the model calls safe is unsafe above t) and
`default: {action: block, above: t, otherwise: flag}` (what it calls unsafe is blocked above t only), whichever can
matter. Together they withhold exactly the rows whose score is above t, which is what this module measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from turnguard.core.calibration import Calibration
from turnguard.core.errors import TurnguardError
from turnguard.core.step import STAGES
from turnguard.core.taxonomy import canonical, nearest
from turnguard.evaluation.fitting import FOLDS, folds_of, rows_needed
from turnguard.evaluation.metrics import SEED, with_intervals
from turnguard.evaluation.results import Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RESAMPLES = 1_000
KEEPS = 6
"""Decimals of a threshold."""


class Refused(TurnguardError):
    """The data do not support the request; the message says what they lack."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`recall` of at least, or `false_positives` of at most `share` at a stage; `precision` of at least in a
    category.
    """

    kind: Literal["recall", "false_positives", "precision"]
    where: str
    share: float

    @classmethod
    def parse(cls, kind: Literal["recall", "false_positives", "precision"], text: str) -> Goal:
        """Read `input=0.95` or `Violence=0.9`. Raises `ValueError` with a sentence."""
        where, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        where = where.strip()
        if not where or not 0.0 < share < 1.0:
            raise ValueError(f"{text!r}: a goal is written NAME=SHARE with a share between 0 and 1, such as input=0.95")
        if kind == "precision":
            known = canonical(where)
            if known is None:
                raise ValueError(f"unknown category {where!r}; did you mean {nearest(where)!r}?")
            where = known
        elif where not in STAGES:
            raise ValueError(f"unknown stage {where!r}: one of {', '.join(STAGES)}")
        return cls(kind, where, share)

    def __str__(self) -> str:
        names = {"recall": "recall of at least", "false_positives": "false-positive rate of at most"}
        return f"{names.get(self.kind, 'precision of at least')} {self.share:g} for {self.where}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A found threshold on the calibrated P. `held_out` is the goal's measure where t was chosen on other rows."""

    goal: tuple[Goal, ...]
    at: float
    low: float
    high: float
    measures: dict[str, Any]
    held_out: dict[str, float | None]
    rows: int
    curve: list[list[float]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "goal": [str(goal) for goal in self.goal]}


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows of one stage: what the rail compares with t, the truth, and groups."""

    score: Array
    unsafe: NDArray[np.bool_]
    groups: list[str]


def scored(results: Sequence[Result], calibration: Calibration) -> Scored:
    """The score that the rail compares with t.

    A row that the model calls unsafe never scores below the value at which labels turn, one it calls safe never
    above: the label itself decides on those sides.
    """
    import numpy as np

    score = []
    for result in results:
        assert result.p is not None  # noqa: S101 - the caller has left out rows without P
        p = calibration.p(result.side, result.p, None, result.language)
        turns = calibration.p(result.side, 0.5, None, result.language)
        assert p is not None  # noqa: S101 - the side was fitted on these rows
        assert turns is not None  # noqa: S101
        score.append(max(p, turns) if result.called == "unsafe" else min(p, turns))
    unsafe = np.asarray([result.label == "unsafe" for result in results], dtype=bool)
    return Scored(np.asarray(score), unsafe, [result.group for result in results])


def for_stage(goals: Sequence[Goal], rows: Scored) -> Threshold:
    """The threshold that meets every goal of a stage. Raises `Refused`."""
    for goal in goals:
        _supported(goal, rows)
    t = Cuts(rows.score, rows.unsafe).choose(goals)
    told = " and ".join(str(goal) for goal in goals)
    if t is None:
        raise Refused(f"no threshold gives a {told}: {_best(goals, rows)}")
    if not (rows.score > t).any():
        raise Refused(f"a {told} would withhold nothing at all: the surest rows are false alarms too often")
    kept = _rounded(t, rows)
    called = (rows.score > kept).tolist()
    low, high = _spread(goals, rows)
    measures = with_intervals(rows.unsafe.tolist(), called, rows.groups)
    return Threshold(
        tuple(goals),
        kept,
        min(low, kept),
        max(high, kept),
        {name: asdict(one) for name, one in measures.items()},
        _held_out(goals, rows),
        len(rows.score),
        trade_off(rows),
    )


class Cuts:
    """Every place at which rows can be cut in two by their score: below all, between neighbours, above all."""

    def __init__(self, score: Array, unsafe: NDArray[np.bool_]) -> None:
        import numpy as np

        levels = np.unique(score)
        self.at = np.concatenate([[levels[0] / 2], (levels[:-1] + levels[1:]) / 2, [(levels[-1] + 1.0) / 2]])
        self._unsafe = unsafe
        self._place = np.searchsorted(self.at, score, side="left")  # a score above cut k stands at a place > k

    def choose(self, goals: Sequence[Goal], weights: Any = None) -> float | None:
        """The cut that meets the goals; None where none does. `weights` counts each row so often.

        A recall goal takes the highest cut that keeps it, a false-positive goal the lowest: each gives up as little of
        the other as it can. With both, the lowest that meets the false-positive goal, if recall allows.
        """
        import numpy as np

        recall = self._share(self._unsafe, weights)
        rate = self._share(~self._unsafe, weights)
        fits = np.ones(len(self.at), dtype=bool)
        for goal in goals:
            fits &= recall >= goal.share - 1e-12 if goal.kind == "recall" else rate <= goal.share + 1e-12
        if not fits.any():
            return None
        found = self.at[fits]
        return float(found[0] if any(goal.kind == "false_positives" for goal in goals) else found[-1])

    def _share(self, rows: NDArray[np.bool_], weights: Any) -> Array:
        """The share of some rows above each cut."""
        import numpy as np

        weighed = None if weights is None else weights[rows]
        counted = np.bincount(self._place[rows], weights=weighed, minlength=len(self.at) + 1)
        above = counted[::-1].cumsum()[::-1][1:]
        return np.asarray(above / max(float(counted.sum()), 1e-12))


def _supported(goal: Goal, rows: Scored) -> None:
    unsafe = int(rows.unsafe.sum())
    have, what = (unsafe, "unsafe") if goal.kind == "recall" else (len(rows.unsafe) - unsafe, "safe")
    need = rows_needed(goal.share if goal.kind == "recall" else 1.0 - goal.share)
    if have < need:
        raise Refused(f"a {goal} needs at least {need:,} {what} rows at that stage, and there are {have:,}")


def _rounded(t: float, rows: Scored) -> float:
    """Fewer decimals where that changes no row."""
    short = round(t, KEEPS)
    same = ((rows.score > short) == (rows.score > t)).all()
    return short if same and 0.0 < short < 1.0 else t


def _spread(goals: Sequence[Goal], rows: Scored) -> tuple[float, float]:
    """How far the threshold itself moves when the rows are drawn again (whole groups): its 95 % interval."""
    import numpy as np

    names: dict[str, int] = {}
    place = np.asarray([names.setdefault(name or f"\0{row}", len(names)) for row, name in enumerate(rows.groups)])
    random = np.random.default_rng(SEED)
    cuts = Cuts(rows.score, rows.unsafe)
    found = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(random.integers(0, len(names), len(names)), minlength=len(names))[place]
        t = cuts.choose(goals, drawn)
        if t is not None:
            found.append(t)
    if not found:
        return 0.0, 1.0
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _held_out(goals: Sequence[Goal], rows: Scored) -> dict[str, float | None]:
    """The measures at thresholds that were chosen without the rows that they are measured on."""
    import numpy as np

    fold = folds_of(rows.unsafe, rows.groups)
    called = np.zeros(len(rows.score), dtype=bool)
    for index in range(FOLDS):
        inside = fold == index
        t = Cuts(rows.score[~inside], rows.unsafe[~inside]).choose(goals)
        if t is None:
            return {"recall": None, "false_positive_rate": None}
        called[inside] = rows.score[inside] > t
    found = with_intervals(rows.unsafe.tolist(), called.tolist(), rows.groups, resamples=1)
    return {name: found[name].value for name in ("recall", "false_positive_rate")}


def _best(goals: Sequence[Goal], rows: Scored) -> str:
    recall = next((goal for goal in goals if goal.kind == "recall"), None)
    if recall is None:
        return "even the strictest lets too much through"
    t = Cuts(rows.score, rows.unsafe).choose([recall])
    rate = float((rows.score[~rows.unsafe] > (t or 0.0)).mean())
    return f"with that recall, the lowest false-positive rate on these rows is {rate:.3f}"


def trade_off(rows: Scored, points: int = 120) -> list[list[float]]:
    """Return points of threshold, recall and false-positive rate: the curve that a report draws."""
    import numpy as np

    cuts = np.linspace(0.0, 1.0, points + 1)
    unsafe, safe = np.sort(rows.score[rows.unsafe]), np.sort(rows.score[~rows.unsafe])
    recall = 1.0 - np.searchsorted(unsafe, cuts, side="right") / max(1, len(unsafe))
    rate = 1.0 - np.searchsorted(safe, cuts, side="right") / max(1, len(safe))
    return [[float(one) for one in row] for row in zip(cuts, recall, rate, strict=True)]


# ---------------------------------------------------------------- precision in one category


def for_category(goal: Goal, results: Sequence[Result], calibration: Calibration) -> Threshold:
    """The lowest threshold from which rows that the model names `goal.where` are unsafe as often as wanted.

    Truth is the row's label: whether acting on it was right. Raises `Refused`.
    """
    import numpy as np

    rows = [result for result in results if result.called == "unsafe" and goal.where in result.named]
    need = rows_needed(goal.share)
    if len(rows) < need:
        raise Refused(
            f"a {goal} needs at least {need:,} rows that the model gave that category, and there are {len(rows):,}"
        )
    score = np.asarray([_category_p(result, goal.where, calibration) for result in rows])
    unsafe = np.asarray([result.label == "unsafe" for result in rows], dtype=bool)
    groups = [result.group for result in rows]
    t = _precise(goal.share, score, unsafe, need)
    if t is None:
        raise Refused(
            f"no threshold gives a {goal} on at least {need:,} rows; over all {len(rows):,} it is {unsafe.mean():.3f}"
        )
    short = round(t, KEEPS)
    t = short if ((score > short) == (score > t)).all() else t
    random = np.random.default_rng(SEED)
    found = []
    for _ in range(RESAMPLES):
        drawn = random.integers(0, len(rows), len(rows))
        again = _precise(goal.share, score[drawn], unsafe[drawn], need)
        if again is not None:
            found.append(again)
    low, high = (float(one) for one in np.quantile(found, (0.025, 0.975))) if found else (0.0, 1.0)
    measures = with_intervals(unsafe.tolist(), (score > t).tolist(), groups)
    told = {name: asdict(one) for name, one in measures.items()}
    return Threshold((goal,), t, min(low, t), max(high, t), told, {"precision": None}, len(rows), [])


def _category_p(result: Result, category: str, calibration: Calibration) -> float:
    assert result.p is not None  # noqa: S101 - the caller has left out rows without P
    p = calibration.p(result.side, result.p, category, result.language)
    assert p is not None  # noqa: S101 - the side was fitted
    return p


def _precise(share: float, score: Array, unsafe: Any, least: int) -> float | None:
    import numpy as np

    order = np.argsort(score)
    level, hit = score[order], unsafe[order]
    cuts = np.concatenate([[0.0], (level[:-1] + level[1:]) / 2])
    real = np.concatenate([[True], level[:-1] != level[1:]])
    left = len(level) - np.arange(len(level))
    precision = hit[::-1].cumsum()[::-1] / left
    fits = real & (precision >= share) & (left >= least)
    return float(cuts[fits][0]) if fits.any() else None
