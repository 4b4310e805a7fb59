"""A day's events against the days before, from the fold's statistics alone."""

import numpy as np
import pytest

from mainspring.features.statistics import ColumnStatistics
from mainspring.monitoring.inflow import inflow, newest_inflow

RNG = np.random.default_rng(5)


def column(values, nulls=0):
    one = ColumnStatistics()
    one.add(np.concatenate((np.asarray(values, np.float64), np.full(nulls, np.nan))), measured=True)
    return one


def test_the_same_distribution_has_next_to_no_effect_and_a_shift_has_one():
    before = column(RNG.normal(0, 1, 20_000))
    same = inflow(3, column(RNG.normal(0, 1, 5_000)), before)
    moved = inflow(3, column(RNG.normal(1, 1, 5_000)), before)
    scaled = inflow(3, column(RNG.normal(0, 1, 5_000) * 60), before)
    assert 0 <= same.psi < 0.02
    assert moved.psi > 0.5
    assert scaled.psi > 1.0


def test_psi_is_that_of_the_bins_written_out():
    before, day = column([1.0] * 50 + [2.0] * 50), column([1.0] * 10 + [2.0] * 90)
    # Up to 1, up to 2, and more than there ever was; each count raised by a half.
    a, b = np.array([50.5, 50.5, 0.5]) / 101.5, np.array([10.5, 90.5, 0.5]) / 101.5
    assert inflow(1, day, before).psi == pytest.approx(np.sum((b - a) * np.log(b / a)))


def test_nulls_are_shares_and_nothing_is_no_number():
    found = inflow(1, column([1.0], nulls=3), column([1.0, 2.0, 3.0], nulls=1))
    assert (found.null_share, found.null_share_before, found.before) == (0.75, 0.25, 3)
    assert inflow(1, column([], nulls=3), column([1.0])).psi is None
    assert inflow(1, ColumnStatistics(), ColumnStatistics()).null_share == 0.0


def test_the_newest_day_is_compared_with_all_before_it():
    days = {9: [column([2.0, 2.0])], 7: [column([1.0])], 8: [column([1.0], nulls=2)]}
    (found,) = newest_inflow(days)
    assert (found.day, found.values, found.before, found.null_share_before) == (9, 2, 2, 0.5)
    assert newest_inflow({7: [column([1.0])]}) == []
