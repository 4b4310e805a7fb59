"""Metrics against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mainspring.definitions import METRICS
from mainspring.training.evaluate import better, evaluate

pairs = st.lists(st.tuples(st.booleans(), st.floats(0, 1).map(lambda p: round(p, 2))), min_size=2, max_size=40)


@given(pairs)
def test_classification_metrics_equal_those_of_scikit_learn(rows):
    y = np.array([float(a) for a, _ in rows])
    p = np.array([b for _, b in rows])
    said = evaluate("binary_classification", y, p)
    assert set(said) == set(METRICS["binary_classification"])
    if len(set(y)) == 2:
        assert said["roc_auc"] == pytest.approx(oracle.roc_auc_score(y, p))
    else:
        assert math.isnan(said["roc_auc"])
    assert said["log_loss"] == pytest.approx(oracle.log_loss(y, np.clip(p, 1e-15, 1 - 1e-15), labels=[0, 1]))
    assert said["brier"] == pytest.approx(np.mean((y - p) ** 2))
    assert said["accuracy"] == pytest.approx(oracle.accuracy_score(y, p >= 0.5))


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=30))
def test_regression_metrics_equal_those_of_scikit_learn(rows):
    y, p = np.array(rows).T
    said = evaluate("regression", y, p)
    assert said["absolute_error"] == pytest.approx(oracle.mean_absolute_error(y, p))
    assert said["rmse"] == pytest.approx(oracle.root_mean_squared_error(y, p))
    if np.var(y) > 1e-6:
        assert said["r2"] == pytest.approx(oracle.r2_score(y, p))


def test_a_certain_mistake_is_a_large_loss_and_not_infinity():
    said = evaluate("binary_classification", np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert said["log_loss"] == pytest.approx(-math.log(1e-15), rel=1e-3)


def test_better_knows_each_metrics_direction_and_never_likes_nan():
    assert better("binary_classification", "roc_auc", 0.8, 0.7)
    assert better("binary_classification", "log_loss", 0.3, 0.4)
    assert not better("regression", "rmse", 2.0, 2.0)
    assert not better("binary_classification", "roc_auc", float("nan"), 0.7)
