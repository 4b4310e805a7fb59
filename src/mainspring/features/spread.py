"""Variances that do not cancel: from a summary's moments where that is certain, else about the mean."""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.exact import two_product, two_sum
from mainspring.features.tree import seen

HALF_RANGE = 2.0**1022
"""Twice a number below it is finite."""


@compiled("float64(float64, float64, float64, float64, float64, float64, boolean)", allocates=False)
def moment_var(n: float, s: float, c: float, r: float, q: float, qc: float, forced: bool) -> float:  # noqa: FBT001  a kernel's arguments have no names
    """Sample variance from a summary's s + c ± r and q + qc, or −1.0 where they cancel too much to be within 1e-13.

    n·Σx² − (Σx)² in double-double. An addition of a square, or of a node's squares, errs by at most 2^-53 of the low
    part, which is at most ``RUN``·2^-53 of the high one: 2^-98·Σx², and there are at most 1.4·n of them. So the error
    of the parts is bounded by n·2^-97·Σx² + 2·|Σx|·r/n. Where ``forced`` there is no second look: the variance is
    infinite once Σx² is.
    """
    unit = 1.0
    if forced and not q <= 1e250:
        if not q < np.inf:  # or NaN, which a sum beyond the range has become
            return np.inf
        unit = 2.0**-300
        s, c, q, qc = s * unit, c * unit, q * unit * unit, qc * unit * unit
    s, c = two_sum(s, c)
    square, error = two_product(s, s)
    error += 2.0 * s * c
    mean_square = square / n
    back, back_error = two_product(mean_square, n)
    mean_error = ((square - back) - back_error + error) / n
    m, e = two_sum(q, -mean_square)
    m += e + (qc - mean_error)
    bound = n * 2.0**-97 * q + 2.0 * abs(s) * r / n
    if forced:
        return float(max(0.0, m) / (n - 1.0) / unit / unit)
    if 1e-250 < q < 1e250 and bound < 1e-14 * m:
        return float(m / (n - 1.0))
    return -1.0


@compiled("float64(float64[:, ::1], int64[::1], int64[::1], int64, int64, int64, int64, float64)", allocates=False)
def spare_mean(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    column: int,
    low: int,
    high: int,
    limit: int,
    n: float,
) -> float:
    """The mean, nearly, of values whose sum is beyond the range."""
    s, c = 0.0, 0.0
    for i in range(low, high):
        x = values[column, i]
        if x == x and seen(stamps, untils, i, limit):
            s, e = two_sum(s, x * 2.0**-60)
            c += e
    return (s + c) / n * 2.0**60


@compiled(
    "UniTuple(float64, 2)(float64[:, ::1], int64[::1], int64[::1], int64, int64, int64, int64, float64, float64)",
    allocates=False,
)
def two_pass_var(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    column: int,
    low: int,
    high: int,
    limit: int,
    n: float,
    mean: float,
) -> tuple[float, float]:
    """Sample variance about a mean that is known to a rounding, as ``(v, scale)`` for v · scale².

    Scaled so that no square over- or underflows, and about a mean of its own where the sum of the values did.
    """
    if abs(mean) == np.inf:
        mean = spare_mean(values, stamps, untils, column, low, high, limit, n)
    scale = 0.0
    for i in range(low, high):
        if values[column, i] == values[column, i] and seen(stamps, untils, i, limit):
            scale = max(scale, abs(values[column, i] * 0.5 - mean * 0.5))
    if scale == 0.0:
        return 0.0, 1.0
    part = 1.0 if scale < HALF_RANGE else 0.5  # of each value: a distance may be beyond the range, half of it is not
    scale *= 2.0 * part
    d, dc, q, qc = 0.0, 0.0, 0.0, 0.0
    for i in range(low, high):
        x = values[column, i]
        if x == x and seen(stamps, untils, i, limit):
            away, rest = two_sum(x * part, -mean * part)
            y, yc = away / scale, rest / scale
            square, error = two_product(y, y)
            q, e = two_sum(q, square)
            q, qc = two_sum(q, qc + (e + error + 2.0 * y * yc))
            d, e = two_sum(d, y)
            dc += e + yc
    d += dc
    return max(0.0, (q + (qc - d * d / n)) / (n - 1.0)) / (part * part), scale
