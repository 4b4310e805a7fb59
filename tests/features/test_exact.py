"""Sums without rounding error, against ``math.fsum`` and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mainspring.features import exact, tree
from mainspring.features import kernels as k

WIDE = st.floats(allow_nan=False, allow_infinity=False)
NASTY = st.one_of(
    WIDE,
    st.floats(-1e9, 1e9),
    st.sampled_from(
        [1e50, 1.0, 1e25, -1e50, -1e25, 2.0**53, 1.0 - 2.0**-53, 5e-324, -5e-324, 2.0**-1022, 1.7e308, -1.7e308]
    ),
)


def dekker(a, b):
    """The product and its error without a fused multiply-add, by splitting each factor in two halves."""
    p = a * b
    halves = []
    for x in (a, b):
        t = 134217729.0 * x
        high = t - (t - x)
        halves.append((high, x - high))
    (ah, al), (bh, bl) = halves
    return p, al * bl - (((p - ah * bh) - al * bh) - ah * bl)


@given(st.floats(-1e140, 1e140), st.floats(-1e140, 1e140))
def test_a_fused_product_has_the_error_that_dekker_found(a, b):
    assume(abs(a * b) > 1e-280)
    assert exact.two_product(a, b) == dekker(a, b)
    p, e = exact.two_product(a, b)
    assert Fraction(a) * Fraction(b) == Fraction(p) + Fraction(e)


@given(st.lists(st.lists(NASTY, min_size=1, max_size=12), min_size=1, max_size=6))
def test_summaries_merged_in_any_grouping_hold_the_exact_sum_within_their_bound(runs):
    values = np.array([[x for run in runs for x in run]])
    needs = np.array([tree.SUM | tree.SQUARES | tree.EXTREMES])
    merged, one = np.zeros(tree.SUMMARY), np.empty((1, tree.SUMMARY))
    merged[tree.S_MIN], merged[tree.S_MAX] = np.inf, -np.inf
    low = 0
    for run in runs:
        tree.summarise(values, needs, low, low + len(run), one)
        tree.merge(merged, one[0])
        low += len(run)
    flat = values[0].tolist()
    assert merged[tree.S_N] == len(flat)
    assert (merged[tree.S_MIN], merged[tree.S_MAX]) == (min(flat), max(flat))
    s, c, r = merged[[tree.S_S, tree.S_C, tree.S_R]]
    if np.isfinite([s, c, r]).all():
        assert abs(sum(map(Fraction, flat), Fraction(0)) - Fraction(s) - Fraction(c)) <= 2 * Fraction(r)
    total, sure = exact.certified(s, c, r)
    if sure:
        assert total == nearest(flat)


def accumulated(values):
    digits = np.zeros(exact.DIGITS, np.int64)
    for x in values:
        exact.accumulate(digits, x)
    return digits


def nearest(values):
    """The correctly rounded sum by whole numbers; infinity beyond the range, as IEEE 754 rounds."""
    total = sum(map(Fraction, values), Fraction(0))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


@given(st.lists(NASTY, max_size=60))
def test_the_accumulator_rounds_once(values):
    assert exact.rounded(accumulated(values)) == nearest(values)


@given(st.lists(NASTY, max_size=60))
def test_a_certified_double_double_is_the_exact_sum_and_says_so_only_when_it_is(values):
    s, c, r = 0.0, 0.0, 0.0
    for x in values:
        s, c, r = exact.add(s, c, r, x)
    total, sure = exact.certified(s, c, r)
    if sure:
        assert total == nearest(values)


@given(st.lists(st.integers(-(10**8), 10**8).map(lambda cents: cents / 100), max_size=200))
def test_everyday_sums_are_certified_without_the_slow_path(values):
    s, c, r = 0.0, 0.0, 0.0
    for x in values:
        s, c, r = exact.add(s, c, r, x)
    total, sure = exact.certified(s, c, r)
    assert sure
    assert total == math.fsum(values)


@given(st.lists(NASTY, max_size=60))
def test_an_expansion_of_an_accumulator_is_within_its_bound(values):
    s, c, r = exact.expansion(accumulated(values))
    if math.isfinite(s):
        assert abs(sum(map(Fraction, values), Fraction(0)) - Fraction(s) - Fraction(c)) <= 2 * Fraction(r)


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([1e50, 1.0, 1e25, -1e50, -1e25], 1.0),
        ([1.0, 2.0**-53, 2.0**-1074], 1.0 + 2.0**-52),  # a tie that the smallest number breaks
        ([1.0, 2.0**-53], 1.0),
        ([1.0 + 2.0**-52, 2.0**-53], 1.0 + 2.0**-51),
        ([-1.0, -(2.0**-53), -(2.0**-1074)], -1.0 - 2.0**-52),
        ([1.7e308, 1.7e308, -1.7e308], 1.7e308),  # overflows on the way only
        ([1.7e308, 1.7e308], math.inf),
        ([-1.7e308, -1.7e308], -math.inf),
        ([5e-324] * 3, 1.5e-323),
        ([0.1] * 10, 1.0),
        ([-0.0, -0.0], 0.0),
        ([], 0.0),
    ],
)
def test_sums_that_break_plain_addition(values, total):
    got = exact.rounded(accumulated(values))
    assert got == total
    assert math.copysign(1.0, got) == math.copysign(1.0, total)


def test_carries_may_wait_for_a_long_time():
    digits = np.zeros(exact.DIGITS, np.int64)
    for _ in range(5_000):
        exact.accumulate(digits, -(1.0 - 2.0**-53))
        exact.accumulate(digits, 1e300)
        exact.accumulate(digits, -1e300)
    before = exact.rounded(digits)
    exact.carry(digits)
    assert exact.rounded(digits) == before == nearest([-(1.0 - 2.0**-53)] * 5_000)


@given(st.lists(WIDE, min_size=1, max_size=40))
def test_what_a_key_lets_go_of_is_summed_exactly_in_any_order(values):
    n = len(values)
    columns = np.array([values])
    triples = [np.arange(n), np.arange(n), np.arange(n)]
    whole = np.zeros((1, k.PAST)), np.zeros((1, k.PAST_INTS), np.int64)
    k.absorb(*triples, columns, *whole)
    piecewise = np.zeros((1, k.PAST)), np.zeros((1, k.PAST_INTS), np.int64)
    for i in reversed(range(n)):
        k.absorb(*(t[i : i + 1] for t in triples), np.ascontiguousarray(columns[:, i : i + 1]), *piecewise)
    assert exact.rounded(whole[1][0, k.PAST_DIGITS :]) == exact.rounded(piecewise[1][0, k.PAST_DIGITS :])
    assert exact.rounded(whole[1][0, k.PAST_DIGITS :]) == nearest(values)
    for place in (tree.S_N, tree.S_MIN, tree.S_MAX, k.P_LAST, k.P_FIRST):
        assert whole[0][0, place] == piecewise[0][0, place]
    assert whole[0][0, k.P_LAST] == values[-1]
    assert whole[0][0, k.P_FIRST] == values[0]
