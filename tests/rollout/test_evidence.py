"""E-processes and confidence sequences: hand-computed cases, oracles, properties."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats

from mainspring.core.errors import ContractError, DefinitionError
from mainspring.rollout import (
    at_risk_share,
    binary_harm_eprocess,
    block_index,
    block_lower_bound,
    block_upper_bound,
    day_blocks,
    first_failures,
    log_rate_evalue,
    log_sample_ratio_evalue,
    paired_eprocess,
    rate_upper_bound,
)

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
differences = st.lists(st.floats(-1, 1), max_size=40)
failures = st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), max_size=40)


def mixture_by_hand(factors_of):
    """Mean over the bets of the products, in plain numbers: the oracle of the vectorised logarithms."""
    return sum(math.prod(factors_of(f)) for f in FRACTIONS) / len(FRACTIONS)


# --- paired ----------------------------------------------------------------------------------------------------------


@given(differences, st.floats(0, 0.5), st.floats(0, 0.5))
def test_paired_evidence_is_the_mean_over_bets_of_the_products(d, margin, tolerated):
    process = paired_eprocess(d, margin, 1.0, rollback_margin=tolerated)
    for n in range(1, len(d) + 1):
        rollback = mixture_by_hand(lambda f, n=n: [1 + f * (x - tolerated) / (1 + tolerated) for x in d[:n]])
        promotion = mixture_by_hand(lambda f, n=n: [1 + f * (margin - x) / (1 - margin) for x in d[:n]])
        assert math.exp(process.log_rollback[n - 1]) == pytest.approx(rollback, rel=1e-9)
        assert math.exp(process.log_promotion[n - 1]) == pytest.approx(promotion, rel=1e-9)


@given(st.floats(0, 0.9), st.floats(-1, 1))
def test_a_single_factor_has_mean_one_exactly_at_the_margin(margin, low):
    """A fair bet at the null: two-point losses with mean exactly at the margin."""
    assume(low < margin)
    chance = (1 - margin) / (1 - low)  # of the low value; else 1
    rollback, promotion = (
        chance * math.exp(log_e([low])) + (1 - chance) * math.exp(log_e([1.0]))
        for log_e in (
            lambda d: paired_eprocess(d, margin, 1.0).log_rollback[-1],
            lambda d: paired_eprocess(d, margin, 1.0).log_promotion[-1],
        )
    )
    assert rollback == pytest.approx(1.0)
    assert promotion == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.5)), min_size=1, max_size=30))
def test_larger_losses_never_speak_less_for_rollback_or_more_for_promotion(rows):
    d = np.array([x for x, _ in rows])
    worse = np.minimum(d + np.array([more for _, more in rows]), 1.0)
    before, after = paired_eprocess(d, 0.02, 1.0), paired_eprocess(worse, 0.02, 1.0)
    assert np.all(after.log_rollback >= before.log_rollback - 1e-12)
    assert np.all(after.log_promotion <= before.log_promotion + 1e-12)


@given(st.permutations([0.3, -0.2, 0.9, -1.0, 0.0, 0.5]))
def test_the_last_value_does_not_depend_on_the_order(d):
    expected = paired_eprocess(sorted(d), 0.02, 1.0)
    assert paired_eprocess(d, 0.02, 1.0).log_rollback[-1] == pytest.approx(expected.log_rollback[-1])


@given(differences, differences)
def test_evidence_already_gathered_does_not_change_when_more_comes(first, more):
    whole = paired_eprocess(first + more, 0.02, 1.0)
    assert whole.log_rollback[: len(first)] == pytest.approx(paired_eprocess(first, 0.02, 1.0).log_rollback)


def test_a_million_labels_do_not_overflow():
    process = paired_eprocess(np.full(1_000_000, 0.9), 0.0, 1.0)
    assert np.isfinite(process.log_rollback).all()
    assert process.log_rollback[-1] > 300_000


@pytest.mark.parametrize("bad", [1.1, -1.1, math.nan, math.inf])
def test_a_difference_outside_its_bound_is_refused(bad):
    with pytest.raises(ContractError, match="MS-R104"):
        paired_eprocess([0.0, bad], 0.02, 1.0)


@pytest.mark.parametrize("margin", [-0.1, 1.0, math.nan])
def test_a_margin_that_cannot_be_tested_is_refused(margin):
    with pytest.raises(DefinitionError, match="MS-R103"):
        paired_eprocess([0.0], margin, 1.0)


# --- failures --------------------------------------------------------------------------------------------------------


@given(failures, st.floats(0.5, 3.0))
def test_binary_evidence_is_the_mean_over_bets_of_the_products(rows, ratio):
    x, rho = [canary for canary, _ in rows], [share for _, share in rows]
    running = binary_harm_eprocess(x, rho, ratio)
    p = [share * ratio / (share * ratio + 1 - share) for share in rho]
    for n in range(1, len(rows) + 1):
        by_hand = mixture_by_hand(lambda f, n=n: [1 + f / q * (one - q) for one, q in zip(x[:n], p[:n], strict=True)])
        assert math.exp(running[n - 1]) == pytest.approx(by_hand, rel=1e-9)


@given(failures.filter(bool), st.floats(1.0, 3.0))
def test_a_larger_tolerated_ratio_never_gives_more_evidence_of_harm_from_canary_failures(rows, ratio):
    rho = [share for _, share in rows]
    all_canary = [True] * len(rows)
    assert binary_harm_eprocess(all_canary, rho, ratio)[-1] <= binary_harm_eprocess(all_canary, rho, 1.0)[-1] + 1e-12


def test_three_failures_in_a_row_of_a_canary_with_five_percent_of_traffic():
    """By hand: each multiplies a bet f by 1 + 19 f; at f = .5 that is 10.5."""
    by_hand = sum((1 + 19 * f) ** 3 for f in FRACTIONS) / 6
    assert math.exp(binary_harm_eprocess([True] * 3, 0.05)[-1]) == pytest.approx(by_hand)


@pytest.mark.parametrize("rho", [0.0, 1.0, math.nan])
def test_a_failure_that_was_not_randomised_is_refused(rho):
    with pytest.raises(ContractError, match="MS-R105"):
        binary_harm_eprocess([True], [rho])


@given(st.lists(st.sampled_from("abcde"), max_size=30))
def test_the_first_failure_of_each_unit_is_kept_in_order(units):
    seen, expected = set(), []
    for i, unit in enumerate(units):
        if unit not in seen:
            seen.add(unit)
            expected.append(i)
    assert first_failures(units).tolist() == expected


def test_the_share_at_risk_leaves_out_units_that_failed_before():
    shares = at_risk_share([True, False, True], [10, 10, 20], [10, 10, 20])
    assert shares.tolist() == [10 / 20, 9 / 19, 19 / 38]


# --- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n", "rate"), [(0, 50, 0.05), (3, 200, 0.03), (10, 100, 0.05)])
@pytest.mark.parametrize("side", ["below", "above"])
def test_a_rate_e_value_is_the_integral_of_the_likelihood_ratio(k, n, rate, side):
    low, high = (0.0, rate) if side == "below" else (rate, 1.0)
    prior = stats.beta(0.5, 0.5)
    weight = prior.cdf(high) - prior.cdf(low)

    def integrand(root):  # theta = root^2 takes the pole of the prior at 0 away
        theta = root * root
        ratio = (theta / rate) ** k * ((1 - theta) / (1 - rate)) ** (n - k)
        return ratio * prior.pdf(theta) * 2 * root

    by_integral, _ = integrate.quad(integrand, math.sqrt(low) + 1e-12, math.sqrt(high) - 1e-9, limit=200)
    assert math.exp(log_rate_evalue(k, n, rate, side)) == pytest.approx(by_integral / weight, rel=1e-3)


@given(st.integers(0, 50), st.integers(1, 5_000))
def test_the_anytime_bound_of_a_rate_lies_above_clopper_pearson(k, n):
    assume(k < n)
    clopper_pearson = stats.beta.isf(0.05, k + 1, n - k)
    assert clopper_pearson <= rate_upper_bound(k, n) <= 1.0


@given(st.integers(0, 20), st.integers(30, 5_000))
def test_the_bound_of_a_rate_rises_with_failures_and_falls_with_exposures(k, n):
    assert rate_upper_bound(k, n) <= rate_upper_bound(k + 1, n)
    assert rate_upper_bound(k, n + 100) <= rate_upper_bound(k, n)


def test_every_rate_above_the_bound_is_rejected_and_none_between_it_and_the_estimate():
    bound = rate_upper_bound(5, 1_000)
    grid = np.linspace(0.005, 0.2, 400)
    rejected = [log_rate_evalue(5, 1_000, rate, "below") >= math.log(20) for rate in grid]
    assert rejected == (grid > bound).tolist()


@pytest.mark.parametrize(("k", "n"), [(0, 0), (5, 5)])
def test_nothing_seen_or_nothing_right_bounds_nothing(k, n):
    assert rate_upper_bound(k, n) == 1.0


# --- sample ratio ----------------------------------------------------------------------------------------------------


def test_sample_ratio_evidence_is_the_product_of_predictive_ratios():
    """Polya's urn: one unit at a time, predicted by (a_i + n_i) / (100 + n) against rho_i."""
    rho, arms = (0.25, 0.75), [0, 1, 1, 0, 1, 0, 0]
    counts, e = [0, 0], 1.0
    for arm in arms:
        e *= (100 * rho[arm] + counts[arm]) / (100 + sum(counts)) / rho[arm]
        counts[arm] += 1
    assert math.exp(log_sample_ratio_evalue([(counts, rho)])) == pytest.approx(e)


def test_counts_restart_with_the_weights_and_pooling_them_would_alarm():
    ramp = [((500, 9_500), (0.05, 0.95)), ((5_000, 5_000), (0.5, 0.5))]
    assert log_sample_ratio_evalue(ramp) < 0
    pooled = [((5_500, 14_500), (0.5, 0.5))]
    assert log_sample_ratio_evalue(pooled) > math.log(1_000)


def test_an_arm_without_weight_may_be_empty_but_not_exposed():
    assert log_sample_ratio_evalue([((0, 100), (0.0, 1.0))]) == pytest.approx(0.0)
    with pytest.raises(ContractError, match="MS-R106"):
        log_sample_ratio_evalue([((1, 100), (0.0, 1.0))])
    with pytest.raises(ContractError, match="MS-R106"):
        log_sample_ratio_evalue([((1, 1), (0.5, 0.6))])


# --- day blocks ------------------------------------------------------------------------------------------------------

unit_days = st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 8)), max_size=60)


@given(unit_days, st.integers(1, 10))
def test_blocks_are_whole_days_in_order_with_enough_units_each(rows, least):
    values, days = [x for x, _ in rows], [day for _, day in rows]
    index = block_index(days, least)
    means = day_blocks(values, days, least)
    used = sorted({int(i) for i in index if i >= 0})
    assert used == list(range(len(means)))
    for block in used:
        members = [i for i, one in enumerate(index) if one == block]
        assert len(members) >= least
        assert means[block] == pytest.approx(np.mean([values[i] for i in members]))
    for day in set(days):
        assert len({int(one) for one, when in zip(index, days, strict=True) if when == day}) == 1
    by_day = [b for _, b in sorted({(day, int(b)) for day, b in zip(days, index, strict=True)}) if b >= 0]
    assert all(a <= b for a, b in pairwise(by_day))


@given(unit_days, unit_days, st.integers(1, 10))
def test_later_days_do_not_change_earlier_blocks(rows, more, least):
    later = rows + [(x, day + 100) for x, day in more]
    before = day_blocks([x for x, _ in rows], [day for _, day in rows], least)
    after = day_blocks([x for x, _ in later], [day for _, day in later], least)
    assert after[: len(before)] == pytest.approx(before)


def test_the_bound_over_blocks_computed_by_hand():
    means = [0.1, -0.1, 0.3, 0.0]
    rho2 = (-2 * math.log(0.1) + math.log(-2 * math.log(0.1) + 1)) / 14
    t, sd = 4, np.std(means, ddof=1)
    width = math.sqrt(2 * (t * rho2 + 1) / (t * t * rho2) * math.log(1 + math.sqrt(t * rho2 + 1) / 0.1))
    bound = block_upper_bound(means, min_blocks=2)
    assert bound[-1] == pytest.approx(np.mean(means) + sd * width)
    assert np.isinf(bound[0])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(-5, 5))
def test_bounds_over_blocks_shift_mirror_and_wait(means, shift):
    upper, lower = block_upper_bound(means), block_lower_bound(means)
    assert np.isinf(upper[:6]).all()
    assert np.all(lower <= upper)
    finite = np.isfinite(upper)
    assert block_upper_bound(np.array(means) + shift)[finite] == pytest.approx(upper[finite] + shift, abs=1e-6)
    running = np.cumsum(means) / np.arange(1, len(means) + 1)
    assert np.all(lower <= running + 1e-12)
    assert np.all(running - 1e-12 <= upper)


def test_the_bound_is_tightest_near_the_days_it_is_tuned_for():
    def bound_after(t, tuned_for):
        wave = np.where(np.arange(t) % 2 == 0, 1.0, -1.0)
        return block_upper_bound(wave, 0.05, tuned_for)[-1]

    assert bound_after(14, 14) < bound_after(14, 200)
    assert bound_after(200, 200) < bound_after(200, 14)
