from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mainspring.serving.router import assign, uniform

UNITS = [f"unit {i}" for i in range(20_000)]


def test_an_assignment_does_not_change_between_releases_of_the_code():
    """A unit that moved in the middle of a rollout would spoil its evidence."""
    assert uniform("rollout 1", "user 1") == 0.3648148948642639
    assert uniform("é" * 40, "\ud800") == uniform("é" * 32, "\ud800")


@given(st.text(max_size=20), st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_the_logged_probability_is_that_of_the_variant_given_and_never_zero(salt, unit, one, other):
    low, high = sorted((one, other))
    variant, probability = assign(salt, unit, low)
    assert probability == (low if variant == "challenger" else 1 - low)
    assert probability > 0
    assert variant == "champion" or assign(salt, unit, high)[0] == "challenger"


def test_units_are_spread_evenly():
    assert stats.kstest([uniform("rollout 1", unit) for unit in UNITS], "uniform").pvalue > 0.001


def test_a_unit_keeps_its_variant_and_only_ever_moves_to_the_challenger():
    before = set()
    for weight in (0.05, 0.25, 0.5, 1.0):
        now = {unit for unit in UNITS if assign("s", unit, weight)[0] == "challenger"}
        assert before <= now
        before = now
    assert len(before) == len(UNITS)


def test_shares_are_as_declared_and_rollouts_are_independent():
    first = {unit for unit in UNITS if assign("one", unit, 0.25)[0] == "challenger"}
    second = {unit for unit in UNITS if assign("two", unit, 0.25)[0] == "challenger"}
    assert len(first) / len(UNITS) == pytest.approx(0.25, abs=0.02)
    assert len(first & second) / len(UNITS) == pytest.approx(0.0625, abs=0.01)


def test_the_probability_is_that_of_the_assignment():
    counted = Counter(assign("s", unit, 0.25) for unit in UNITS)
    assert set(counted) == {("challenger", 0.25), ("champion", 0.75)}
    assert {assign("s", unit, 0.0) for unit in UNITS} == {("champion", 1.0)}
