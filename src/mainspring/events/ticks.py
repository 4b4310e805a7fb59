"""Counts of a unit since 1970, as Arrow and Parquet have them, as microseconds."""

from __future__ import annotations

from collections.abc import Iterable

_US = {"d": 86_400_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}


def microseconds(ticks: Iterable[int | None], unit: str) -> list[int | None]:
    """Each count as microseconds; of any size, for the contract says what a time may be.

    Nanoseconds are rounded to the nearest microsecond, a half up, as those of an ISO 8601 text are.

    >>> microseconds([1, None], "s"), microseconds([1_499, 1_500, -500, -501], "ns")
    ([1000000, None], [1, 2, 0, -1])
    """
    if unit == "ns":
        return [None if t is None else (t + 500) // 1_000 for t in ticks]
    scale = _US[unit]
    return [None if t is None else t * scale for t in ticks]
