"""Variances that do not cancel: from a summary's moments where that is certain, else about the mean."""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.exact import two_product, two_sum
from mainspring.features.tree import seen


@compiled("float64(float64, float64, float64, float64, float64, float64, boolean)", allocates=False)
def moment_var(n: float, s: float, c: float, r: float, q: float, qc: float, forced: bool) -> float:  # noqa: FBT001  a kernel's arguments have no names
    """Sample variance from a summary's s + c ± r and q + qc, or −1.0 where they cancel too much to be within 1e-13.

    n·Σx² − (Σx)² in double-double. An addition of a square, or of a node's squares, errs by at most 2^-53 of the low
    part, which is at most ``RUN``·2^-53 of the high one: 2^-98·Σx², and there are at most 1.4·n of them. So the error
    of the parts is bounded by n·2^-97·Σx² + 2·|Σx|·r/n.
    """
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
        return float(max(0.0, m) / (n - 1.0))
    if 1e-250 < q < 1e250 and bound < 1e-14 * m:
        return float(m / (n - 1.0))
    return -1.0


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

    Scaled so that no square over- or underflows.
    """
    if abs(mean) == np.inf:
        return 1.0, np.inf
    scale = 0.0
    for i in range(low, high):
        if values[column, i] == values[column, i] and seen(stamps, untils, i, limit):
            scale = max(scale, abs(values[column, i] * 0.5 - mean * 0.5))
    if scale == 0.0:
        return 0.0, 1.0
    scale *= 2.0
    d, dc, q, qc = 0.0, 0.0, 0.0, 0.0
    for i in range(low, high):
        x = values[column, i]
        if x == x and seen(stamps, untils, i, limit):
            away, rest = two_sum(x, -mean)
            y, yc = away / scale, rest / scale
            if abs(away) == np.inf:
                y, yc = x / scale - mean / scale, 0.0
            square, error = two_product(y, y)
            q, e = two_sum(q, square)
            q, qc = two_sum(q, qc + (e + error + 2.0 * y * yc))
            d, e = two_sum(d, y)
            dc += e + yc
    d += dc
    return max(0.0, (q + (qc - d * d / n)) / (n - 1.0)), scale
