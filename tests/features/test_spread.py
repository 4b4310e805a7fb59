"""Standard deviations where moments cancel, overflow or vanish, against exact fractions."""

import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import spread
from streams import feature, fold_all, frame, keys_frame, make_view, read_live, record

from mainspring.features.replay import replay
from mainspring.features.status import Status

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
        [1.7e308, -1.7e308, 1.7e308, 0.0],
        [1.7e308, 1.7e308],
        [1.7976931348623157e308] * 3,
        [8e307, 8e307, 1e308],
        [1.7976931348623157e308, -1.7976931348623157e308],
        [1.7e308, 1.6e308, 0.0, 5e-324] * 20,
    ],
)
def test_spreads_that_break_the_textbook_formula(values):
    got, want = std_of(values), spread("stdev", values)
    assert got == want or abs(got - want) <= 1e-12 * want


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


BOTH = make_view(feature("std", "std", "x", 10_000_000), feature("var", "var", "x", 10_000_000), name="both")
MOST = 1.7976931348623157e308
LARGE = st.floats(1e306, MOST) | st.floats(-MOST, -1e306)


@given(st.lists(LARGE | st.sampled_from([0.0, 1.0, 8e307, -1.7e308]), min_size=2, max_size=40))
def test_a_spread_at_the_edge_of_the_range_is_a_number_or_infinite(values):
    records = [record(i + 1, "a", x, i) for i, x in enumerate(values)]
    at = np.array([len(values)])
    std, var = replay(BOTH, frame(records), keys_frame([("a",)]), at, known_offset=1 << 60)[0][0].tolist()
    for got, want in ((std, spread("stdev", values)), (var, spread("variance", values))):
        assert got == want or abs(got - want) <= 1e-12 * want


def test_a_live_spread_at_the_edge_of_the_range_is_the_replayed_one(store):
    first = 1
    for values in ([1.7e308, -1.7e308, 1.7e308, 0.0], [1.7e308, 1.7e308], [8e307, 8e307, 1e308]):
        key = str(values)
        records = [record(first + i, key, x, i) for i, x in enumerate(values)]
        first += len(values)
        fold_all(store, [BOTH], records)
        live = read_live(store, BOTH, [(key,)], [len(values)])[0][0].tolist()
        found = replay(BOTH, frame(records), keys_frame([(key,)]), np.array([len(values)]), known_offset=1 << 60)
        assert live == found[0][0].tolist()


@pytest.mark.parametrize("scale", [1e147, 1e200])
def test_a_spread_of_values_long_let_go_of_is_infinite_once_their_squares_are(store, scale):
    hour_us = 3_600_000_000
    values = [x * scale for x in np.random.default_rng(7).normal(1e4, 3.0, 1_500).tolist()]
    fold_all(store, [EVER], [record(i + 1, "a", x, i * hour_us) for i, x in enumerate(values)], range(0, 1_500, 100))
    got, status = (part[0, 0] for part in read_live(store, EVER, [("a",)], [1_500 * hour_us])[:2])
    assert status == Status.PRESENT
    assert got == np.inf if scale == 1e200 else got == pytest.approx(statistics.stdev(values), rel=1e-12)
