"""The published error rates, on few seeds: type I at most alpha + 3 standard errors, and the power that was promised.

A long run of the same belongs to ``bench/``.
"""

import math

import numpy as np
import pytest

from mainspring.rollout import (
    LOSSES,
    binary_harm_eprocess,
    block_upper_bound,
    day_blocks,
    first_failures,
    log_rate_evalue,
    log_sample_ratio_evalue,
    paired_eprocess,
)

ALPHA = 0.05
ACTS = math.log(1 / ALPHA)


def allowed(seeds, alpha=ALPHA):
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / seeds)


def test_a_healthy_canary_is_rarely_rolled_back_however_the_weights_and_the_error_rate_move():
    """Ramp 5 % -> 25 % -> 50 % while the errors common to both arms grow tenfold: a pooled z-test rejects always."""
    seeds, wrong = 500, 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        weight = np.repeat([0.05, 0.25, 0.5], 4_000)
        rate = np.linspace(0.005, 0.05, len(weight))
        canary = rng.random(len(weight)) < weight
        failed = rng.random(len(weight)) < rate
        wrong += binary_harm_eprocess(canary[failed], weight[failed]).max(initial=0) >= ACTS
    assert wrong / seeds <= allowed(seeds)


def test_doubled_errors_are_found_within_the_published_number_of_requests():
    """2 % -> 4 % at 10 % of traffic: median 4.9 k requests in the prototype."""
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        canary = rng.random(40_000) < 0.1
        failed = np.flatnonzero(rng.random(40_000) < np.where(canary, 0.04, 0.02))
        running = binary_harm_eprocess(canary[failed], 0.1)
        found.append(failed[np.argmax(running >= ACTS)] if running.max() >= ACTS else 40_000)
    assert 3_500 < np.median(found) < 6_500


def test_counting_the_first_failure_of_each_sticky_unit_keeps_the_error_rate_and_counting_all_does_not():
    seeds, first, every = 300, 0, 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        users = rng.zipf(1.3, 4_000) % 2_000
        fragile = rng.random(2_000) < 0.05  # a few users fail on either model, often
        canary = rng.random(2_000) < 0.1
        failed = users[fragile[users] & (rng.random(4_000) < 0.5)]
        every += binary_harm_eprocess(canary[failed], 0.1).max(initial=0) >= ACTS
        one_each = failed[first_failures(failed)]
        first += binary_harm_eprocess(canary[one_each], 0.1).max(initial=0) >= ACTS
    assert first / seeds <= allowed(seeds)
    assert every / seeds > 2 * ALPHA


def test_a_rate_exactly_at_its_ceiling_rarely_passes_for_lower_or_higher():
    seeds, below, above = 400, 0, 0
    for seed in range(seeds):
        failed = np.cumsum(np.random.default_rng(seed).random(4_000) < 0.01)
        looks = range(100, 4_001, 100)
        below += any(log_rate_evalue(int(failed[n - 1]), n, 0.01, "below") >= ACTS for n in looks)
        above += any(log_rate_evalue(int(failed[n - 1]), n, 0.01, "above") >= ACTS for n in looks)
    assert below / seeds <= allowed(seeds)
    assert above / seeds <= allowed(seeds)


@pytest.mark.parametrize("mean", [0.01, 0.0])
def test_paired_independent_losses_at_the_tolerated_harm_rarely_roll_back(mean):
    seeds, wrong = 300, 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        d = np.clip(rng.normal(0, 0.2, 3_000), -0.9, 0.9) + mean
        wrong += paired_eprocess(d, 0.02, 1.0, rollback_margin=0.01).log_rollback.max() >= ACTS
    assert wrong / seeds <= allowed(seeds)


def harmful_by_the_margin(seed, days=40, a_day=900, shock=0.02):
    """Differences with mean exactly at the margin and a shock that all labels of a day share."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), a_day)
    d = 0.02 + rng.normal(0, shock, days)[day] + rng.normal(0, 0.2, len(day))
    return np.clip(d, -1, 1), day


def test_day_shocks_fool_label_by_label_promotion_and_day_blocks_hold_it():
    """.40 at a shock of .02 in the prototype; both together keep alpha."""
    seeds, alone, both = 300, 0, 0
    for seed in range(seeds):
        d, day = harmful_by_the_margin(seed)
        by_label = paired_eprocess(d, 0.02, 1.0).log_promotion >= ACTS
        alone += by_label.any()
        by_block = block_upper_bound(day_blocks(d, day)) < 0.02
        ends = np.flatnonzero(np.diff(day, append=day[-1] + 1))
        both += (by_label[ends] & by_block).any()
    assert alone / seeds > 3 * ALPHA
    assert both / seeds <= allowed(seeds)


def test_the_bound_over_normal_day_blocks_keeps_alpha_at_every_look():
    seeds = 2_000
    means = np.random.default_rng(1).normal(0, 1, (seeds, 60))
    wrong = sum((block_upper_bound(row) < 0).any() for row in means)
    assert wrong / seeds <= allowed(seeds)


@pytest.mark.parametrize(
    ("mean", "spread", "promoted"),
    [(-0.013, 0.04, (7, 14)), (0.0, 0.008, (7, 7)), (0.1, 0.08, None)],
    ids=["retrained", "other seed", "labels flipped"],
)
def test_the_table_of_challengers_on_flights(mean, spread, promoted):
    """evidence.md: retrained after 7 to 24 days, another seed after 7, a model of flipped labels never."""
    days = []
    for seed in range(100):
        passed = block_upper_bound(np.random.default_rng(seed).normal(mean, spread, 60)) < 0.02
        days.append(int(np.argmax(passed)) + 1 if passed.any() else None)
    if promoted is None:
        assert days == [None] * 100
    else:
        low, high = promoted
        assert low <= np.median([61 if d is None else d for d in days]) <= high


def test_flipped_labels_are_rolled_back_within_hundreds_of_labels():
    """A champion that knows the probability, and a challenger trained on 30 % flipped labels, on log loss."""
    loss, found = LOSSES["log_loss"], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.beta(1, 3, 6_000)
        y = (rng.random(6_000) < truth).astype(float)
        d = loss.difference(0.3 + 0.4 * truth, truth, y)
        running = paired_eprocess(d, 0.02, loss.bound, rollback_margin=0.01).log_rollback
        found.append(int(np.argmax(running >= ACTS)) if running.max() >= ACTS else 6_000)
    assert 50 < np.median(found) < 600


def test_weights_that_are_kept_rarely_look_like_a_mismatch_and_a_broken_split_is_found():
    seeds, wrong, found = 400, 0, 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        fair = np.cumsum(rng.random(5_000) < 0.25)
        broken = np.cumsum(rng.random(5_000) < 0.20)
        looks = range(100, 5_001, 100)
        wrong += any(
            log_sample_ratio_evalue([((int(fair[n - 1]), int(n - fair[n - 1])), (0.25, 0.75))]) >= ACTS for n in looks
        )
        found += log_sample_ratio_evalue([((int(broken[-1]), int(5_000 - broken[-1])), (0.25, 0.75))]) >= math.log(
            1_000
        )
    assert wrong / seeds <= allowed(seeds)
    assert found == seeds
