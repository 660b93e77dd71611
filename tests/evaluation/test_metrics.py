"""The measures are the card's, and scikit-learn agrees."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from turnguard.evaluation.measuring import curves
from turnguard.evaluation.metrics import MEASURES, cells_by_group, count, measures, resampled, with_intervals
from turnguard.evaluation.reliability import expected_calibration_error, log_loss, reliability, wilson

ROWS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 20)), min_size=1, max_size=60)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_measures_equal_scikit_learns(rows: list[tuple[bool, bool, int]]) -> None:
    truth = [row[0] for row in rows]
    called = [row[1] for row in rows]
    cells = count(truth, called)
    found = measures([cells.tp, cells.fp, cells.fn, cells.tn])
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, called), abs=1e-12)
    if any(truth) or any(called):
        assert found["f1"] == pytest.approx(sk.f1_score(truth, called, zero_division=np.nan), abs=1e-12)
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score)):
        expected = score(truth, called, zero_division=np.nan)
        assert found[name] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    tn, fp, fn, tp = sk.confusion_matrix(truth, called, labels=[False, True]).ravel()
    assert (cells.tp, cells.fp, cells.fn, cells.tn) == (tp, fp, fn, tn)
    if fp + tn:
        assert found["false_positive_rate"] == pytest.approx(fp / (fp + tn), abs=1e-12)


def test_curves_rise_from_the_surest_rows() -> None:
    found = curves([True, True, False, True], [0.9, 0.8, 0.7, 0.6])
    assert found["precision_recall"][0] == [0.0, 1.0]
    assert found["precision_recall"][-1] == [1.0, 0.75]
    assert found["average_precision"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert found["roc"] == [[0.0, 0.0], [0.0, 1 / 3], [0.0, 2 / 3], [1.0, 2 / 3], [1.0, 1.0]]
    assert found["roc_auc"] == pytest.approx(2 / 3)
    assert curves([False], [0.5]) == {"average_precision": None, "precision_recall": [], "roc_auc": None, "roc": []}
    assert curves([True], [0.5])["roc_auc"] is None


def test_log_loss_equals_scikit_learns() -> None:
    random = np.random.default_rng(1)
    truth = (random.random(500) < 0.3).tolist()
    p = random.random(500).tolist()
    assert log_loss(truth, p) == pytest.approx(sk.log_loss(truth, p), abs=1e-12)


def test_the_bootstrap_of_cells_is_the_bootstrap_of_rows() -> None:
    """Drawing four counts gives the same spread as drawing the rows one by one."""
    random = np.random.default_rng(2)
    truth = random.random(400) < 0.4
    called = np.where(random.random(400) < 0.85, truth, ~truth)
    found = with_intervals(truth.tolist(), called.tolist())
    drawn = [random.integers(0, 400, 400) for _ in range(2_000)]
    scores = [measures(cells_by_group(truth[rows].tolist(), called[rows].tolist()).sum(axis=0))["f1"] for rows in drawn]
    slow = np.quantile(scores, (0.025, 0.975))
    assert found["f1"].low == pytest.approx(slow[0], abs=0.006)
    assert found["f1"].high == pytest.approx(slow[1], abs=0.006)


def test_translations_of_one_row_widen_the_interval() -> None:
    """Ten copies of fifty rows know what fifty rows know, and not what five hundred would."""
    truth = [True] * 500
    called = [index % 5 > 0 for index in range(50) for _ in range(10)]
    groups = [str(index) for index in range(50) for _ in range(10)]
    alone = with_intervals(truth, called)["recall"]
    together = with_intervals(truth, called, groups)["recall"]
    once = with_intervals(truth[:50], [index % 5 > 0 for index in range(50)])["recall"]
    assert alone.value == together.value == once.value == 0.8
    assert together.low == pytest.approx(once.low, abs=1e-9)
    assert alone.low is not None
    assert together.low is not None
    assert alone.low > together.low + 0.05


def test_no_spread_is_not_no_doubt() -> None:
    found = with_intervals([True] * 25, [False] * 25)["recall"]
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(wilson(0.0, 25)[1])
    assert 0.13 < wilson(0.0, 25)[1] < 0.14


def test_an_empty_denominator_is_no_figure() -> None:
    found = with_intervals([True, True], [True, False])
    assert found["false_positive_rate"].value is None
    assert found["f1"].value == pytest.approx(2 / 3)
    assert all(one.value is None for one in with_intervals([], []).values())
    assert set(found) == set(MEASURES)


def test_ten_thousand_resamples_of_thirty_thousand_rows_take_about_a_second() -> None:
    random = np.random.default_rng(3)
    truth = (random.random(30_000) < 0.5).tolist()
    called = (random.random(30_000) < 0.5).tolist()
    groups = [str(index // 17) for index in range(30_000)]
    for given_groups in (None, groups):
        started = time.process_time()
        with_intervals(truth, called, given_groups)
        assert time.process_time() - started < 2.0
    table = cells_by_group(truth, called, groups)
    assert resampled(table, 100).shape == (100, 4)


def test_reliability_counts_every_row_once() -> None:
    truth = [False, False, True, True, True]
    p = [0.0, 0.05, 0.5, 0.95, 1.0]
    bins = reliability(truth, p)
    assert sum(entry["rows"] for entry in bins) == 5
    assert bins[-1] == {"rows": 2, "p": 0.975, "share": 1.0, "low": wilson(1.0, 2)[0], "high": 1.0}
    expected = (2 * 0.025 + 1 * 0.5 + 2 * 0.025) / 5
    assert expected_calibration_error(truth, p) == pytest.approx(expected)
