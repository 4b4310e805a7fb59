"""What came on a day against what came on the days before: drift of a source before any model sees it.

It reads the statistics that the fold keeps, so it costs nothing per event. It is an effect, not a test: events of a
day are not independent, and a day is compared with few others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mainspring.features.statistics import ColumnStatistics, merged
from mainspring.monitoring.references import BINS


@dataclass(frozen=True)
class Inflow:
    """One column on one day.

    Attributes:
        day: Whole days since 1970 UTC.
        values: Values that came on the day, and ``before`` on the days before.
        null_share: Share of events without a value, and ``null_share_before``.
        psi: Population stability index over ten bins of equal weight before; None when either side has no numbers.
    """

    day: int
    values: int
    before: int
    null_share: float
    null_share_before: float
    psi: float | None


def newest_inflow(days: Mapping[int, list[ColumnStatistics]]) -> list[Inflow]:
    """The newest day of each column against all days before it; nothing before there are two days.

    Args:
        days: ``features.statistics.read_days``.
    """
    if len(days) < 2:
        return []
    newest = max(days)
    before = merged(row for day, row in days.items() if day != newest)
    return [inflow(newest, one, past) for one, past in zip(days[newest], before, strict=True)]


def inflow(day: int, one: ColumnStatistics, before: ColumnStatistics) -> Inflow:
    """One column of one day against its past."""
    shares = [s.nulls / max(s.values + s.nulls, 1) for s in (one, before)]
    return Inflow(day, one.values, before.values, shares[0], shares[1], _psi(one, before))


def _psi(one: ColumnStatistics, before: ColumnStatistics) -> float | None:
    """``sum (b − a) ln(b / a)`` over the shares of bins, each count raised by a half against empty ones."""
    if not len(one.counts) or not len(before.counts):
        return None
    below = np.cumsum(before.counts)
    # Edges lie between buckets of the sketch: after the bucket with which a tenth, two tenths … are reached.
    reached = np.searchsorted(below, below[-1] * np.arange(1, BINS) / BINS, side="left")
    edges = np.unique(before.codes[reached])
    counts = [
        np.bincount(np.searchsorted(edges, s.codes, side="left"), weights=s.counts, minlength=len(edges) + 1)
        for s in (before, one)
    ]
    a, b = ((c + 0.5) / (c.sum() + 0.5 * len(c)) for c in counts)
    return float(np.sum((b - a) * np.log(b / a)))
