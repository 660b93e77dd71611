"""Calibration curves: the better method by held-out log loss, never quite 0 or 1."""

from __future__ import annotations

import numpy as np
import pytest

from turnguard.evaluation.fitting import fit, folds_of, isotonic, platt, values


def made(rows: int, slope: float, intercept: float, seed: int = 5) -> tuple[list[float], list[bool]]:
    """Rows whose truth follows a logistic curve over the log odds of P."""
    random = np.random.default_rng(seed)
    odds = random.normal(0, 3, rows)
    share = 1 / (1 + np.exp(-(slope * odds + intercept)))
    return (1 / (1 + np.exp(-odds))).tolist(), (random.random(rows) < share).tolist()


def test_platt_finds_the_curve_that_made_the_data() -> None:
    p, truth = made(20_000, 0.6, -0.8)
    slope, intercept = platt(np.asarray(p), np.asarray(truth))
    assert slope == pytest.approx(0.6, abs=0.03)
    assert intercept == pytest.approx(-0.8, abs=0.06)


def test_the_better_method_by_held_out_loss_is_kept() -> None:
    smooth = fit(*made(800, 0.6, -0.8))
    assert smooth.curve.method == "platt"
    assert smooth.losses["platt"] < min(smooth.losses["isotonic"], smooth.losses["identity"])
    assert smooth.ece_after < smooth.ece_before
    random = np.random.default_rng(6)
    p = random.random(3_000)
    steps = np.where(p < 0.2, 0.02, np.where(p < 0.7, 0.5, 0.97))  # no logistic curve has these stairs
    stairs = fit(p.tolist(), (random.random(3_000) < steps).tolist())
    assert stairs.curve.method == "isotonic"
    assert stairs.curve.at(0.1) == pytest.approx(0.02, abs=0.03)
    assert stairs.curve.at(0.5) == pytest.approx(0.5, abs=0.06)


def test_a_p_that_is_true_already_is_kept() -> None:
    p, truth = made(400, 1.0, 0.0, seed=11)
    assert fit(p, truth).curve.method == "identity"


def test_separable_data_do_not_make_certainty() -> None:
    p = np.asarray([0.01] * 40 + [0.99] * 40)
    truth = np.asarray([False] * 40 + [True] * 40)
    xs, ys = isotonic(p, truth)
    assert xs == [0.01, 0.99]
    assert ys == pytest.approx([1 / 41, 40 / 41])
    slope, intercept = platt(p, truth)
    assert 0 < slope < 100
    assert np.isfinite(intercept)


def test_a_p_that_points_the_wrong_way_gives_no_falling_curve() -> None:
    p, truth = made(500, -1.0, 0.0)
    curve = fit(p, truth).curve
    across = values(curve, np.linspace(0, 1, 50))
    assert (np.diff(across) >= 0).all()


def test_folds_keep_groups_together_and_spread_both_labels() -> None:
    truth = np.asarray([True, False] * 100)
    groups = [f"g{index // 4}" for index in range(200)]
    fold = folds_of(truth, groups)
    assert all(len({int(fold[row]) for row in range(200) if groups[row] == name}) == 1 for name in set(groups))
    alone = folds_of(truth, None)
    assert [int(truth[alone == index].sum()) for index in range(5)] == [20] * 5
    np.testing.assert_array_equal(alone, folds_of(truth, None))
