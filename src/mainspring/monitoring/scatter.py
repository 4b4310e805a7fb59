"""How far windows lie from one another: what a new window is held against besides a test.

A test with a dispersion takes days to differ as by chance. Real days do not: one in twenty is a storm, and drift at any
level. So a window is out of the ordinary only when it is also farther off than any before it, and by a factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.monitoring.references import FloatArray, Reference, Values, bin_codes, merged_groups

FACTOR = 2.0
"""A window is out of the ordinary when its distance is more than so many times that of the farthest one before."""


@dataclass(frozen=True)
class Scatter:
    """Distance of a window from those before it, and of each of those from the others.

    Attributes:
        now: Of the window.
        before: Of each window before, shape (k,).
    """

    now: float
    before: NDArray[np.float64]

    @property
    def farthest(self) -> float:
        """The largest distance that was seen before; 0 for none."""
        return float(self.before.max(initial=0.0))

    @property
    def is_ordinary(self) -> bool:
        """Whether windows like it were there before."""
        return self.now <= FACTOR * self.farthest

    @property
    def rank_p(self) -> float:
        """The share of windows that are as far off, this one counted: a p-value for windows in no particular order.

        >>> Scatter(2.0, np.array([1.0, 3.0, 0.5])).rank_p
        0.5
        """
        return float((1 + np.count_nonzero(self.before >= self.now)) / (1 + len(self.before)))


def of_values(reference: Reference, before: Values, windows: ArrayLike, now: Values) -> Scatter:
    """Distances phi squared over the reference's bins: Pearson's X^2 of two samples, less its mean, by rows.

    Args:
        reference: Made of ``before``.
        before: Values of the windows before, shape (n,).
        windows: The window of each, shape (n,).
        now: Values of the window.
    """
    table = _table(reference, before, windows)
    window = _table(reference, now, np.zeros(len(np.asarray(now, dtype=object))))
    groups = merged_groups(table.sum(axis=0) / max(len(table), 1))
    merge = np.eye(int(groups.max()) + 1)[groups]
    table, window = table @ merge, window @ merge
    rest = table.sum(axis=0)
    before_it = np.array([_phi2(rest - own, own) for own in table], dtype=np.float64)
    return Scatter(_phi2(rest, window.sum(axis=0)), before_it)


def of_shares(counts: ArrayLike, sizes: ArrayLike, count: int, size: int) -> Scatter:
    """Distances of shares, such as that of nulls.

    Args:
        counts: Of each window before, shape (k,).
        sizes: Rows of each window before, shape (k,).
        count: Of the window.
        size: Its rows.
    """
    k, n = np.asarray(counts, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    rest = (k.sum() - k) / np.maximum(n.sum() - n, 1.0)
    before = np.abs(k / np.maximum(n, 1.0) - rest)
    return Scatter(abs(count / max(size, 1) - float(k.sum() / max(n.sum(), 1.0))), before)


def _table(reference: Reference, values: Values, windows: ArrayLike) -> FloatArray:
    """Counts by window and bin; unseen values count in no bin."""
    code = bin_codes(reference, values)
    _, index = np.unique(np.asarray(windows), return_inverse=True)
    table = np.zeros((int(index.max(initial=0)) + 1, len(reference.counts)))
    np.add.at(table, (index[code >= 0], code[code >= 0]), 1.0)
    return table


def _phi2(rest: FloatArray, own: FloatArray) -> float:
    n, m = rest.sum(), own.sum()
    both = rest + own
    if n == 0 or m == 0 or len(rest) < 2:
        return 0.0
    x2 = np.sum(np.square(np.sqrt(m / n) * rest - np.sqrt(n / m) * own)[both > 0] / both[both > 0])
    return float(max(0.0, x2 - (np.count_nonzero(both) - 1)) * (n + m) / (n * m))
