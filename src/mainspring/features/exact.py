"""Sums without rounding error: error-free transformations, and an exact accumulator.

Formulas: two_sum is Knuth's, two_product a fused multiply-add (Ogita, Rump, Oishi: Accurate sum and dot product, SIAM
J. Sci. Comput. 26, 2005). The accumulator is a fixed-point number of 68 digits of 32 bits whose unit is
2^-1074, so that every float64 and every sum of them is a whole number of units (Kulisch); digits are int64 and carries
are put off.
"""

from __future__ import annotations

import math

import numpy as np

from mainspring.features.compiled import compiled, fused

DIGITS = 68
_MASK = (1 << 32) - 1


@compiled("UniTuple(float64, 2)(float64, float64)", allocates=False)
def two_sum(a: float, b: float) -> tuple[float, float]:
    """The rounded sum and its error: exactly ``a + b`` together."""
    s = a + b
    z = s - a
    return s, (a - (s - z)) + (b - z)


@compiled("UniTuple(float64, 2)(float64, float64)", allocates=False)
def two_product(a: float, b: float) -> tuple[float, float]:
    """The rounded product and its error: exactly ``a · b`` together, short of overflow and underflow.

    One fused multiply-add gives the error at once (Ogita, Rump, Oishi, algorithm 3.5).
    """
    p = a * b
    return p, fused(a, b, -p)  # type: ignore[call-arg]


@compiled("UniTuple(float64, 3)(float64, float64, float64, float64)", allocates=False)
def add(s: float, c: float, r: float, x: float) -> tuple[float, float, float]:
    """Add ``x`` to a double-double ``s + c`` whose exact sum is at most about ``r`` away (see ``certified``)."""
    s, e = two_sum(s, x)
    c, e = two_sum(c, e)
    return s, c, r + abs(e)


@compiled("UniTuple(float64, 2)(float64, float64, float64)", allocates=False)
def certified(s: float, c: float, r: float) -> tuple[float, float]:
    """``(sum, 1.0)`` if ``s + c ± r`` rounds to one float64, else ``(_, 0.0)``.

    Rounding is monotone: if both ends of an interval round to one number, so does all between. ``r`` was itself added
    up with at most n roundings; doubling it covers them for any n below 2^52. Overflow anywhere makes the answer
    uncertain, never wrong.
    """
    if not (abs(s) < 1e308 and abs(c) < 1e308 and r < 1e308):
        return 0.0, 0.0
    if r == 0.0:
        return s + c + 0.0, 1.0
    low = s + np.nextafter(c - 2.0 * r, -np.inf)
    high = s + np.nextafter(c + 2.0 * r, np.inf)
    return low + 0.0, 1.0 if low == high else 0.0


@compiled("void(int64[::1], float64)", allocates=False)
def accumulate(digits: np.ndarray, x: float) -> None:
    """Add a finite ``x`` to an accumulator. Call ``carry`` at least once each 2^30 additions."""
    if x == 0.0:
        return
    fraction, exponent = math.frexp(abs(x))
    whole = np.uint64(np.int64(fraction * 9007199254740992.0))  # 53 bits
    place = exponent - 53 + 1074
    if place < 0:  # subnormal: the low bits are zero
        whole = whole >> np.uint64(-place)
        place = 0
    i = place >> 5
    shift = np.uint64(place & 31)
    mask = np.uint64(_MASK)
    low = np.int64((whole << shift) & mask)
    rest = whole >> (np.uint64(32) - shift)
    middle = np.int64(rest & mask)
    high = np.int64(rest >> np.uint64(32))
    if x > 0.0:
        digits[i] += low
        digits[i + 1] += middle
        digits[i + 2] += high
    else:
        digits[i] -= low
        digits[i + 1] -= middle
        digits[i + 2] -= high


@compiled("void(int64[::1])", allocates=False)
def carry(digits: np.ndarray) -> None:
    """Bring every digit but the top one to 0 … 2^32 − 1; the top one keeps the sign."""
    for i in range(DIGITS - 1):
        digits[i + 1] += digits[i] >> 32
        digits[i] &= _MASK


@compiled("float64(int64[::1])")
def rounded(digits: np.ndarray) -> float:
    """The accumulator rounded to the nearest float64, ties to even; infinity beyond its range; never −0.0."""
    own = digits.copy()
    carry(own)
    negative = own[DIGITS - 1] < 0
    if negative:
        for i in range(DIGITS):
            own[i] = -own[i]
        carry(own)
    top = 0.0
    i = DIGITS
    while i > 0:  # as CPython's math.fsum rounds its partials
        i -= 1
        if own[i] == 0:
            continue
        before = top
        part = math.ldexp(float(own[i]), 32 * i - 1074)
        top = before + part
        if top == np.inf:
            break
        low = part - (top - before)
        if low != 0.0:
            rest = False
            for j in range(i):
                rest = rest or own[j] != 0
            if low > 0.0 and rest:
                twice = low * 2.0
                if (top + twice) - top == twice:
                    top += twice
            break
    return -top if negative else top


@compiled("UniTuple(float64, 3)(int64[::1])")
def expansion(digits: np.ndarray) -> tuple[float, float, float]:
    """An accumulator as double-double and a bound on what that leaves out, for ``certified``."""
    own = digits.copy()
    s = rounded(own)
    if abs(s) == np.inf:
        return s, 0.0, 0.0
    accumulate(own, -s)
    c = rounded(own)
    accumulate(own, -c)
    return s, c, abs(rounded(own))
