"""Whole numbers of any size, for sums that must not depend on order: what is added can be taken away without a trace.

A number is an int64 array of digits of 32 bits, the least first; digits may be negative or too large until ``settle``
brings all but the top one to 0 … 2^32 − 1. The top digit keeps the sign. A digit takes 2^29 additions between two calls
of ``settle``.
"""

from __future__ import annotations

import math

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.exact import two_product, two_sum

UNIT = 1074
"""Sums of float64 count in units of 2^-1074, so that every float64 is a whole number."""
_MASK = (1 << 32) - 1
_I = "int64[::1]"


@compiled(f"void({_I})", allocates=False)
def settle(digits: np.ndarray) -> None:
    """Carry, so that every digit but the top one is 0 … 2^32 − 1."""
    for i in range(digits.shape[0] - 1):
        digits[i + 1] += digits[i] >> 32
        digits[i] &= _MASK


@compiled(f"void({_I}, int64, int64, int64, int64, int64, boolean)", allocates=False)
def add_parts(digits: np.ndarray, at: int, d0: int, d1: int, d2: int, whole: int, negative: bool) -> None:  # noqa: FBT001  a kernel's arguments have no names
    """Add (d0 + 2^32·d1 + 2^64·d2) · 2^(32·at) · |whole|, or take it away; each d is 0 … 2^32 − 1."""
    w = np.uint64(abs(whole))
    mask = np.uint64(_MASK)
    for k in range(2):
        part = (w >> np.uint64(32 * k)) & mask
        if part == np.uint64(0):
            continue
        for j in range(3):
            digit = d0 if j == 0 else (d1 if j == 1 else d2)
            product = np.uint64(digit) * part
            low, high = np.int64(product & mask), np.int64(product >> np.uint64(32))
            if negative:
                digits[at + j + k] -= low
                digits[at + j + k + 1] -= high
            else:
                digits[at + j + k] += low
                digits[at + j + k + 1] += high


@compiled(f"void({_I}, float64, int64, int64, boolean)", allocates=False)
def add_product(digits: np.ndarray, x: float, whole: int, shift: int, negative: bool) -> None:  # noqa: FBT001
    """Add ``x · whole · 2^shift`` in units of 2^-1074, or take it away; ``x`` is finite, ``shift`` is 0 or more."""
    if x == 0.0 or whole == 0:
        return
    fraction, exponent = math.frexp(abs(x))
    number = np.uint64(np.int64(fraction * 9007199254740992.0))  # 53 bits
    place = exponent - 53 + UNIT
    if place < 0:  # subnormal: the low bits are zero
        number = number >> np.uint64(-place)
        place = 0
    place += shift
    bits = np.uint64(place & 31)
    mask = np.uint64(_MASK)
    d0 = np.int64((number << bits) & mask)
    rest = number >> (np.uint64(32) - bits)
    d1, d2 = np.int64(rest & mask), np.int64(rest >> np.uint64(32))
    add_parts(digits, place >> 5, d0, d1, d2, whole, (x < 0.0) ^ (whole < 0) ^ negative)


@compiled(f"void({_I}, int64, int64, int64, boolean)", allocates=False)
def add_whole(digits: np.ndarray, a: int, b: int, shift: int, negative: bool) -> None:  # noqa: FBT001
    """Add ``a · b · 2^shift``, or take it away; ``shift`` is 0 or more."""
    number = np.uint64(abs(a))
    bits = np.uint64(shift & 31)
    mask = np.uint64(_MASK)
    d0 = np.int64((number << bits) & mask)
    rest = number >> (np.uint64(32) - bits)
    d1, d2 = np.int64(rest & mask), np.int64(rest >> np.uint64(32))
    add_parts(digits, shift >> 5, d0, d1, d2, b, (a < 0) ^ (b < 0) ^ negative)


@compiled(f"boolean({_I})", allocates=False)
def make_positive(digits: np.ndarray) -> bool:
    """Settle and drop the sign; whether it was negative."""
    settle(digits)
    negative = digits[digits.shape[0] - 1] < 0
    if negative:
        for i in range(digits.shape[0]):
            digits[i] = -digits[i]
        settle(digits)
    return bool(negative)


@compiled(f"void({_I}, {_I}, {_I}, boolean)", allocates=False)
def add_long_product(digits: np.ndarray, a: np.ndarray, b: np.ndarray, negative: bool) -> None:  # noqa: FBT001
    """Add the product of two positive settled numbers, or take it away."""
    mask = np.uint64(_MASK)
    for j in range(b.shape[0]):
        if b[j] == 0:
            continue
        for i in range(a.shape[0]):
            if a[i] == 0:
                continue
            product = np.uint64(a[i]) * np.uint64(b[j])
            low, high = np.int64(product & mask), np.int64(product >> np.uint64(32))
            if negative:
                digits[i + j] -= low
                digits[i + j + 1] -= high
            else:
                digits[i + j] += low
                digits[i + j + 1] += high


@compiled(f"Tuple((float64, float64, int64))({_I})", allocates=False)
def leading(digits: np.ndarray) -> tuple[float, float, int]:
    """A positive settled number as ``(f + g) · 2^e``, a double-double within 2^-104; zeros for zero."""
    top = digits.shape[0] - 1
    while top > 0 and digits[top] == 0:
        top -= 1
    f, g, unit = 0.0, 0.0, 1.0
    for below in range(6):
        if below <= top:
            f, error = two_sum(f, float(digits[top - below]) * unit)
            g += error
        unit *= 2.0**-32
    f, g = two_sum(f, g)
    return f, g, 32 * top


@compiled(f"float64({_I}, {_I}, float64, int64)", allocates=False)
def quotient(a: np.ndarray, b: np.ndarray, factor: float, exponent: int) -> float:
    """``a / b · factor · 2^exponent`` of two positive settled numbers; ``b`` is not zero.

    Within one unit in the last place, half a one if ``factor`` is a power of two: the quotient of the leading parts is
    mended by what they leave over.
    """
    fa, ga, ea = leading(a)
    fb, gb, eb = leading(b)
    q = fa / fb
    product, error = two_product(q, fb)
    q += ((fa - product - error) + (ga - q * gb)) / fb
    return math.ldexp(q * factor, ea - eb + exponent)
