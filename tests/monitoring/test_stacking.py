"""Weights of a stack are pulled towards equal ones, and given on rows that their fit never saw."""

import numpy as np
import pytest
from scipy import optimize, special

from mainspring.definitions.values import DAY_US
from mainspring.definitions.weights import Weights, weights_from
from mainspring.monitoring.stacking import (
    MIN_FIT_ROWS,
    PRIOR_ROWS,
    Heard,
    fit,
    proofs,
    proved,
    weighted,
)

NAMES = ("a", "b")
BINARY = "binary_classification"


def world(days, each, noise=(0.3, 2.0), seed=1, horizon_days=1):
    """Outcomes of a known chance; each member sees its log-odds through noise of its own."""
    random = np.random.default_rng(seed)
    n = days * each
    truth = random.normal(0.0, 1.5, n)
    y = (random.random(n) < special.expit(truth)).astype(float)
    said = special.expit(truth[:, None] + random.normal(size=(n, len(noise))) * np.asarray(noise))
    time_us = np.arange(n) * (DAY_US // each) + 20_000 * DAY_US
    return Heard(said, y, time_us, time_us + horizon_days * DAY_US)


def found(heard, serving=None, after_us=0):
    return list(proofs(NAMES, BINARY, heard, "log_loss", serving, after_us))


def test_a_single_answer_and_a_column_of_answers_are_one_formula():
    random = np.random.default_rng(5)
    said = np.vstack([random.random((50, 2)), [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
    for scale in ("log_odds", "linear"):
        weights = Weights(NAMES, (0.7, 0.1), -0.25, scale)
        assert weighted(said, weights) == pytest.approx([weights.of(row) for row in said.tolist()], rel=1e-12)
        assert weights_from(weights.describe()) == weights
    assert weighted(said, None) == pytest.approx(said.mean(axis=1))
    assert 0.0 < Weights(NAMES, (20.0, 20.0), 0.0, "log_odds").of([0.0, 0.0]) < 1e-200
    assert Weights(NAMES, (400.0, 400.0), 0.0, "log_odds").of([0.0, 0.0]) == 0.0  # nothing overflows


def objective(unknown, x, y, is_binary):
    """What `fit` says that it minimises, written down once more."""
    intercept, apart = unknown[0], unknown[1:]
    answer = x.mean(axis=1) + intercept + (x - x.mean()) @ apart
    if is_binary:
        loss = -np.sum(y * special.log_expit(answer) + (1.0 - y) * special.log_expit(-answer))
        chance = special.expit(x.mean(axis=1))
        curvature = np.mean(chance * (1.0 - chance))
    else:
        loss, curvature = 0.5 * np.sum(np.square(answer - y)), 1.0
    return loss + PRIOR_ROWS / 2 * curvature * (intercept**2 + np.sum(np.square(apart) * x.var(axis=0)))


@pytest.mark.parametrize("task", [BINARY, "regression"])
def test_a_fit_is_the_minimum_that_it_says(task):
    heard = world(4, 100, noise=(0.5, 1.0, 3.0), seed=2)
    is_binary = task == BINARY
    x = special.logit(heard.said) if is_binary else 30.0 + 4.0 * special.logit(heard.said)
    y = heard.y if is_binary else 10.0 + 0.8 * x[:, 0] + np.random.default_rng(3).normal(size=len(x))
    weights = fit(("a", "b", "c"), task, heard.said if is_binary else x, y)
    apart = np.asarray(weights.weights) - 1 / 3
    ours = objective(np.array([weights.intercept + x.mean() * apart.sum(), *apart]), x, y, is_binary)
    least = [(None, None)] + [(-1 / 3, None)] * 3
    other = optimize.minimize(objective, np.zeros(4), (x, y, is_binary), bounds=least, method="SLSQP", tol=1e-12)
    assert ours <= other.fun + 1e-6 * abs(other.fun)
    assert min(weights.weights) >= 0.0


def test_a_fit_of_values_does_not_depend_on_the_labels_unit():
    heard = world(4, 100, seed=4)
    minutes = 30.0 * heard.said
    y = minutes[:, 0] + np.random.default_rng(6).normal(size=len(minutes))
    one, other = (fit(NAMES, "regression", unit * minutes, unit * y) for unit in (1.0, 60.0))
    assert other.weights == pytest.approx(one.weights, abs=1e-4)
    assert other.intercept == pytest.approx(60.0 * one.intercept, abs=0.01)


def test_few_outcomes_mean_nearly_the_mean_and_many_find_the_better_member():
    heard = world(40, 500)
    few = fit(NAMES, BINARY, heard.said[:10], heard.y[:10])
    assert few.weights == pytest.approx((0.5, 0.5), abs=0.1)
    many = fit(NAMES, BINARY, heard.said, heard.y)
    assert many.weights[0] > 0.8
    assert 0.0 <= many.weights[1] < 0.2


def test_a_member_that_is_wrong_weighs_nothing_rather_than_less():
    heard = world(10, 500)
    against = np.column_stack((heard.said[:, 0], 1.0 - heard.said[:, 0] ** 0.5))
    assert fit(NAMES, BINARY, against, heard.y).weights[1] == 0.0


def test_weights_are_given_once_they_are_shown_to_be_better_after_their_fit():
    heard = world(14, 200)
    assert proved(iter(found(heard.where(heard.day < heard.day[0] + 13)))) is None  # six blocks after a week of fitting
    proof = proved(iter(found(heard)))
    since = heard.day[0] + 7
    past = heard.mature_us <= since * DAY_US
    assert proof.until_us == since * DAY_US
    assert (proof.rows, proof.tested) == (int(past.sum()), int((heard.day >= since).sum()))
    assert proof.weights == fit(NAMES, BINARY, heard.said[past], heard.y[past])
    assert 0.0 < proof.better_by.lower < proof.better_by.mean < proof.better_by.upper
    assert proof.better_by.blocks == 7


def test_values_are_weighed_by_their_absolute_error():
    heard = world(14, 200)
    minutes = Heard(30.0 * heard.said, 25.0 * heard.said[:, 0] + 3.0, heard.time_us, heard.mature_us)
    (proof,) = proofs(NAMES, "regression", minutes, "absolute_error", None, 0)
    assert proof.weights.weights == pytest.approx((25 / 30, 0.0), abs=0.1)
    assert proof.better_by.lower > 0.0


def test_what_comes_after_a_fit_changes_nothing_of_it_and_labels_that_were_not_mature_are_not_in_it():
    heard = world(14, 200)
    changed = Heard(heard.said, heard.y.copy(), heard.time_us, heard.mature_us)
    changed.y[heard.mature_us > (heard.day[0] + 7) * DAY_US] = 0.0
    assert [one.weights for one in found(heard)] == [one.weights for one in found(changed)]


def test_what_is_older_than_what_serves_or_was_taken_back_is_not_tried():
    heard = world(28, 200)
    starts = [one.until_us for one in found(heard)]
    assert starts == [int((heard.day[0] + 7 * j) * DAY_US) for j in (1, 2, 3)]
    assert [one.until_us for one in found(heard, after_us=starts[0])] == starts[1:]
    assert [one.alpha for one in found(heard)] == [0.05 / 2, 0.05 / 6, 0.05 / 12]


def test_too_few_or_one_sided_outcomes_make_no_weights():
    few = world(30, 30, horizon_days=1)
    assert all(one.rows >= MIN_FIT_ROWS for one in found(few))
    assert len(found(few)) == 3  # not the first, which has six days of thirty
    same = Heard(few.said, np.zeros_like(few.y), few.time_us, few.mature_us)
    assert found(same) == []
    nothing = Heard(np.empty((0, 2)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    assert found(nothing) == []


def test_a_stack_that_is_no_better_is_hardly_ever_given_weights_though_it_is_looked_at_again_and_again():
    """Both members know the chance itself, so nothing beats their mean; above 5 of 30 worlds has p < .01 at .05."""
    wrong = 0
    for seed in range(30):
        heard = world(35, 60, noise=(0.0, 0.0), seed=seed)
        looks = (heard.where(heard.day < heard.day[0] + days) for days in (14, 28, 35))
        wrong += any(proved(iter(found(one))) is not None for one in looks)
    assert wrong <= 5
