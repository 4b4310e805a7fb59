"""How far windows lie from one another: a storm is no fault where storms are known, and a fault is one anyway."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mainspring.monitoring.references import reference
from mainspring.monitoring.scatter import FACTOR, Scatter, of_shares, of_values


def days(rng, shifts, n=300):
    """Values of as many days as there are shifts, and the day of each."""
    values = np.concatenate([rng.normal(shift, 1.0, n) for shift in shifts])
    return values, np.repeat(np.arange(len(shifts)), n)


def test_a_day_like_the_worst_before_is_ordinary_and_one_far_beyond_it_is_not():
    rng = np.random.default_rng(1)
    values, window = days(rng, [0.0] * 20 + [1.0] + [0.0] * 7)
    made = reference(values, window)
    far = of_values(made, values, window, rng.normal(1.0, 1.0, 300))
    assert far.is_ordinary
    assert far.before.argmax() == 20
    assert not of_values(made, values, window, 60.0 * rng.normal(0.0, 1.0, 300)).is_ordinary


def test_where_no_day_was_far_off_a_small_shift_is_out_of_the_ordinary():
    rng = np.random.default_rng(2)
    values, window = days(rng, [0.0] * 28)
    made = reference(values, window)
    assert not of_values(made, values, window, rng.normal(0.5, 1.0, 300)).is_ordinary


def test_distances_do_not_grow_with_the_number_of_rows():
    rng = np.random.default_rng(3)
    values, window = days(rng, [0.0] * 10, n=5_000)
    made = reference(values, window)
    few, many = (of_values(made, values, window, rng.normal(1.0, 1.0, n)).now for n in (300, 3_000))
    assert abs(few - many) < 0.2 * many


def test_shares_are_held_against_the_shares_of_single_windows():
    assert of_shares([1, 2, 40, 0], [100, 100, 100, 100], 50, 100).is_ordinary
    assert not of_shares([1, 2, 3, 0], [100, 100, 100, 100], 20, 100).is_ordinary
    assert (of_shares([], [], 0, 0).now, of_shares([], [], 0, 0).farthest) == (0.0, 0.0)


def test_texts_and_values_that_were_never_seen_have_distances_too():
    before = ["a"] * 90 + ["b"] * 90 + ["a"] * 20 + ["b"] * 20
    window = [i // 55 for i in range(220)]
    made = reference(before, window)
    assert of_values(made, before, window, ["a"] * 40).now > of_values(made, before, window, ["a", "b"] * 20).now
    assert of_values(made, before, window, ["new"] * 40).now == 0.0


@given(st.lists(st.floats(0, 10), max_size=30), st.floats(0, 100))
def test_the_rank_is_a_share_and_falls_with_distance(before, now):
    found = Scatter(now, np.array(before))
    assert 1 / (len(before) + 1) <= found.rank_p <= 1.0
    assert Scatter(now + 1.0, np.array(before)).rank_p <= found.rank_p
    assert found.is_ordinary == (now <= FACTOR * max(before, default=0.0))
