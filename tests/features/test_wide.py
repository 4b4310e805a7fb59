"""Whole numbers of any size: exact under any additions, whatever their signs and order."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mainspring.features.wide import UNIT, add_product, add_whole, leading, make_positive, quotient, settle

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)


def number_of(digits):
    return sum(int(d) << (32 * i) for i, d in enumerate(digits))


@given(st.lists(st.tuples(FINITE, WHOLE, WHOLE, st.integers(0, 200), st.booleans()), max_size=8))
def test_sums_of_products_are_exact_and_what_is_taken_away_leaves_no_trace(terms):
    digits, total = np.zeros(90, np.int64), Fraction(0)
    for x, a, b, shift, negative in terms:
        add_product(digits, x, a, shift, negative)
        add_whole(digits, a, b, shift, negative)
        total += (-1 if negative else 1) * 2**shift * (Fraction(x) * a + Fraction(a * b, 2**UNIT))
    settle(digits)
    assert Fraction(number_of(digits), 2**UNIT) == total
    own = digits.copy()
    assert make_positive(own) == (total < 0)
    assert number_of(own) == abs(number_of(digits))
    for x, a, b, shift, negative in terms:
        add_product(digits, x, a, shift, not negative)
        add_whole(digits, a, b, shift, not negative)
    settle(digits)
    assert not digits.any()


@given(st.integers(1, 2**300), st.integers(1, 200))
def test_a_quotient_is_rounded_once_wherever_the_digits_begin(number, other):
    def digits(n):
        return np.array([(n >> (32 * i)) & 0xFFFFFFFF for i in range(18)], np.int64)

    f, g, e = leading(digits(number))
    assert abs((Fraction(f) + Fraction(g)) * Fraction(2) ** e - number) <= Fraction(number, 2**104)
    want = float(Fraction(number, other) * 8)
    for shift in (0, 1, 31, 70):
        assert quotient(digits(number << shift), digits(other << shift), 1.0, 3) == want
