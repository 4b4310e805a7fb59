"""Performance on mature labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from mainspring.core.errors import ContractError
from mainspring.monitoring import (
    advantage,
    advantage_test,
    calibration,
    daily_metrics,
    difference_interval,
    metrics,
    roc_auc,
    slice_metrics,
)
from mainspring.rollout import block_lower_bound, day_blocks

scored = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60)


def columns(rows):
    return (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))


@given(scored)
def test_the_area_under_the_curve_is_the_share_of_pairs_ranked_right(rows):
    p, y = columns(rows)
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y > 0.5] for b in p[y < 0.5]]
    assert roc_auc(p, y) == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.random(5_000).round(2)
    y = (rng.random(5_000) < p).astype(int)
    found = metrics(p, y)
    assert found.roc_auc == pytest.approx(roc_auc_score(y, p))
    assert found.brier == pytest.approx(brier_score_loss(y, p))
    assert found.base_rate == y.mean()
    assert found.calibration_error < 0.05


@given(scored)
def test_calibration_bins_hold_every_row_once(rows):
    p, y = columns(rows)
    bins = calibration(p, y)
    assert sum(one.rows for one in bins) == len(p)
    assert sum(one.rows * one.mean_y for one in bins) == pytest.approx(y.sum())
    for one in bins:
        assert one.lower - 1e-12 <= one.mean_p <= one.upper + 1e-12


@given(scored, st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_days_and_slices_together_hold_every_row_once(rows, days):
    p, y = columns(rows)
    day = np.array(days[: len(p)])
    by_day = daily_metrics(p, y, day)
    by_slice = slice_metrics(p, y, [f"day {one}" for one in day])
    assert list(by_day) == sorted(by_day)
    assert sum(one.rows * one.log_loss for one in by_day.values()) == pytest.approx(len(p) * metrics(p, y).log_loss)
    assert {f"day {one}": found for one, found in by_day.items()} == by_slice


def test_rows_without_a_slice_are_left_out():
    assert list(slice_metrics([0.5, 0.5], [0, 1], ["a", None])) == ["a"]


@pytest.mark.parametrize(("p", "y"), [([0.5], [0, 1]), ([np.nan], [0]), ([0.5], [np.nan]), ([], [])])
def test_predictions_that_cannot_be_scored_are_refused(p, y):
    with pytest.raises(ContractError, match="MS-R203"):
        metrics(p, y)


# --- against a baseline ----------------------------------------------------------------------------------------------


def history(days, shrink_from=None, shrink=0.0, *, seed=0, a_day=200, season=0.2, shock=0.03):
    """Losses of a model and of its baseline: a large season common to both, an advantage of .06 with a daily shock."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), a_day)
    common = 0.4 + season * np.sin(day / 20) + rng.normal(0, 0.1, len(day))
    gain = 0.06 + rng.normal(0, shock, days)[day]
    if shrink_from is not None:
        gain = gain - shrink * (day >= shrink_from)
    return common - gain, common, day


def first_worse(model, baseline, day, **options):
    for today in range(7, int(day.max()) + 2):
        seen = day < today
        found = advantage_test(model[seen], baseline[seen], day[seen], 0.06, 0.01, **options)
        if found.worse:
            return today, found
    return None, None


def test_a_season_that_makes_every_model_lose_more_is_not_worse():
    model, baseline, day = history(120)
    assert np.ptp(daily_means(model, day)) > 0.3
    assert first_worse(model, baseline, day)[0] is None


def daily_means(values, day):
    return day_blocks(values, day)


def test_an_advantage_that_shrank_within_what_is_tolerated_is_not_worse():
    wrong = sum(first_worse(*history(60, 0, 0.01, seed=seed, a_day=30))[0] is not None for seed in range(40))
    assert wrong <= 0.05 * 40 + 3 * np.sqrt(40 * 0.05 * 0.95)


@pytest.mark.parametrize("seed", range(4))
def test_a_loss_of_advantage_is_found_after_long_good_times_and_dated(seed):
    today, found = first_worse(*history(120, 60, 0.05, seed=seed))
    assert 64 <= today <= 100
    assert found.shrunk_by_lower > found.by
    assert found.shrunk_by > found.shrunk_by_lower
    assert 40 <= found.since_day <= today - 14


def test_the_first_start_is_the_confidence_sequence_over_all_days():
    model, baseline, day = history(10)
    found = advantage_test(model, baseline, day, 0.06, 0.01)
    by_hand = block_lower_bound(day_blocks(0.06 - (baseline - model), day), 0.05 / 2)[-1]
    assert found.shrunk_by_lower == pytest.approx(by_hand)
    assert (found.blocks, found.since_day) == (10, 0)


def test_too_few_days_say_nothing():
    model, baseline, day = history(6, 0, 1.0)
    found = advantage_test(model, baseline, day, 0.06, 0.01)
    assert (found.worse, found.shrunk_by_lower, found.blocks) == (False, -np.inf, 6)
    empty = advantage_test([], [], [], 0.06, 0.01)
    assert (empty.worse, empty.blocks) == (False, 0)


def test_an_uncertain_reference_asks_for_more():
    model, baseline, day = history(30, 0, 0.04)
    sure = advantage_test(model, baseline, day, 0.06, 0.01)
    unsure = advantage_test(model, baseline, day, 0.06, 0.01, reference_se=0.02)
    assert sure.worse
    assert not unsure.worse
    assert unsure.shrunk_by_lower < sure.shrunk_by_lower - 0.02


def test_half_of_alpha_goes_to_the_reference_when_it_is_uncertain():
    model, baseline, day = history(10)
    found = advantage_test(model, baseline, day, 0.06, 0.01, reference_se=0.02)
    by_hand = block_lower_bound(day_blocks(0.06 - (baseline - model), day), 0.025 / 2)[-1] - 1.959964 * 0.02
    assert found.shrunk_by_lower == pytest.approx(by_hand, abs=1e-6)


def test_the_advantage_at_evaluation_has_a_mean_and_an_error_over_days():
    model, baseline, day = history(40)
    found = advantage(model, baseline, day)
    assert found.mean == pytest.approx(0.06, abs=0.02)
    assert found.standard_error == pytest.approx(0.03 / np.sqrt(40), rel=0.3)
    assert found.blocks == 40
    with pytest.raises(ContractError, match="MS-R204"):
        advantage([0.1], [0.2], [1])


def test_the_interval_of_a_difference_holds_the_truth_and_mirrors():
    model, baseline, day = history(30)
    found, mirrored = difference_interval(baseline, model, day), difference_interval(model, baseline, day)
    assert found.lower < 0.06 < found.upper
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-found.upper, -found.lower))
    assert difference_interval([], [], []).upper == np.inf


def test_a_missing_loss_is_refused():
    with pytest.raises(ContractError, match="MS-R205"):
        advantage_test([np.nan], [0.1], [0], 0.06, 0.01)
