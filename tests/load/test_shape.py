"""Arrivals: as many as the rates say, when they say."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.load.shape import Stage, arrivals, ramp, spike, steady

rates = st.floats(0.5, 5_000)
stages = st.lists(st.builds(Stage, st.just("x"), rates, rates, st.floats(0.1, 3)), min_size=1, max_size=4)


@given(stages, st.integers(0, 10_000))
def test_arrivals_rise_each_within_its_stage(made, seed):
    times, numbers = arrivals(made, seed)
    ends = np.cumsum([stage.seconds for stage in made])
    assert (np.diff(times) >= 0).all()
    for number, end in enumerate(ends):
        own = times[numbers == number]
        assert ((own >= end - made[number].seconds - 1e-9) & (own <= end + 1e-9)).all()


@pytest.mark.parametrize(("low", "high"), [(1_000, 1_000), (0.001, 2_000), (2_000, 0.001)])
def test_there_are_as_many_as_the_rate_says_and_where_it_says(low, high):
    stage = Stage("x", low, high, 100.0)
    times, _ = arrivals([stage], seed=3)
    assert len(times) == pytest.approx(100_000, abs=6 * 100_000**0.5)
    grid = np.linspace(0, 100, 11)[1:]
    found = np.searchsorted(times, grid)
    expected = low * grid + (high - low) * grid**2 / 200
    assert np.abs(found - expected).max() < 6 * 100_000**0.5


def test_gaps_of_a_steady_rate_are_those_of_a_poisson_process():
    times, _ = arrivals(steady(1_000, 100), seed=5)
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)


def test_a_seed_is_a_schedule():
    one, other, third = (arrivals(steady(100, 5), seed)[0] for seed in (1, 1, 2))
    assert one.tolist() == other.tolist() != third.tolist()


def test_a_ramp_goes_from_end_to_end_and_a_spike_comes_back():
    steps = ramp(100, 900, 8)
    assert (steps[0].low, steps[-1].high, sum(s.seconds for s in steps)) == (100, 900, 8)
    assert all(a.high == b.low for a, b in pairwise(steps))
    assert [s.rate for s in spike(10, 500, 10)] == [10, 500, 10]
    assert sum(s.seconds for s in spike(10, 500, 10)) == pytest.approx(10)
