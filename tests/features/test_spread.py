"""Standard deviations where moments cancel, overflow or vanish, against exact fractions."""

import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from streams import feature, fold_all, frame, keys_frame, make_view, read_live, record

from mainspring.features.replay import replay

VIEW = make_view(feature("std", "std", "x", 10_000_000))
EVER = make_view(feature("std", "std", "x"), name="ever")


def std_of(values, view=VIEW):
    records = [record(i + 1, "a", float(x), i) for i, x in enumerate(values)]
    return replay(view, frame(records), keys_frame([("a",)]), np.array([len(values)]), known_offset=1 << 60)[0][0, 0]


@given(
    st.floats(-1e15, 1e15),
    st.lists(st.floats(-1, 1), min_size=2, max_size=300),
    st.sampled_from([1.0, 1e-6, 1e-290, 1e290]),
)
def test_a_std_far_from_zero_is_within_1e_12(mean, values, scale):
    values = [(mean + x) * scale for x in values]
    try:
        want = statistics.stdev(values)
    except OverflowError:
        assume(False)
    assert abs(std_of(values) - want) <= 1e-12 * want


@pytest.mark.parametrize(
    "values",
    [
        [1e15, 1e15 + 1],
        [1e9 + x for x in (4, 7, 13, 16)],
        [1e9 + i % 7 for i in range(1_000)],
        [3.3] * 500,
        [0.0] * 100,
        [1e-200, 2e-200, 5e-200],
        [1e200, -1e200, 3e200],
        [5e-324, 1e-323],
        [1.0, -1.0] * 200,
        [1e16, 1.0, -1e16, 2.0],
    ],
)
def test_spreads_that_break_the_textbook_formula(values):
    want = statistics.stdev(values)
    assert abs(std_of(values) - want) <= 1e-12 * want


def test_equal_values_have_no_spread_at_all():
    assert std_of([0.1] * 1_000) == 0.0
    assert std_of([123456789.123] * 64) == 0.0


def test_the_spread_of_values_long_let_go_of_is_kept(store):
    hour_us = 3_600_000_000
    values = np.random.default_rng(7).normal(1e4, 3.0, 1_500).tolist()
    records = [record(i + 1, "a", x, i * hour_us) for i, x in enumerate(values)]
    fold_all(store, [EVER], records, range(0, 1_500, 100))
    got = read_live(store, EVER, [("a",)], [1_500 * hour_us])[0][0, 0]
    want = statistics.stdev(values)
    assert abs(got - want) <= 1e-12 * want
