"""Operations of compiled expressions on instants and durations: int64 microseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mainspring.features.operations import Operation, Values

_DAY_US = 86_400_000_000


def _days(us: Values) -> Values:
    return us.astype("M8[us]").astype("M8[D]")


PARTS: dict[str, tuple[str, Callable[[Values], Values]]] = {
    "Hour": ("i1", lambda us: us % _DAY_US // 3_600_000_000),
    "Minute": ("i1", lambda us: us % 3_600_000_000 // 60_000_000),
    "Second": ("i1", lambda us: us % 60_000_000 // 1_000_000),
    "WeekDay": ("i1", lambda us: (us // _DAY_US + 3) % 7 + 1),
    "Day": ("i1", lambda us: (_days(us) - _days(us).astype("M8[M]")).astype(np.int64) + 1),
    "Month": ("i1", lambda us: us.astype("M8[us]").astype("M8[M]").astype(np.int64) % 12 + 1),
    "Quarter": ("i1", lambda us: us.astype("M8[us]").astype("M8[M]").astype(np.int64) % 12 // 3 + 1),
    "Year": ("i4", lambda us: us.astype("M8[us]").astype("M8[Y]").astype(np.int64) + 1970),
    "OrdinalDay": ("i2", lambda us: (_days(us) - _days(us).astype("M8[Y]")).astype(np.int64) + 1),
}
"""Part of an instant: the numpy type that polars gives it, and how it is got."""

TOTALS = {
    "TotalDays": _DAY_US,
    "TotalHours": 3_600_000_000,
    "TotalMinutes": 60_000_000,
    "TotalSeconds": 1_000_000,
    "TotalMilliseconds": 1_000,
    "TotalMicroseconds": 1,
}
"""Microseconds in each unit that a duration is counted in."""


def part(name: str) -> Operation:
    """Hour, weekday … of an instant."""
    dtype, function = PARTS[name]
    return lambda a: (function(a[0]).astype(dtype), a[1])


def total(unit_us: int, *, fractional: bool) -> Operation:
    """A duration in whole units towards zero, or in units as a float."""
    if fractional:
        return lambda a: (a[0].astype(np.float64) * (1.0 / unit_us), a[1])
    return lambda a: (_towards_zero(a[0], unit_us), a[1])


def _towards_zero(values: Values, unit: int) -> Any:
    whole = values // unit
    return whole + ((values < 0) & (whole * unit != values))


def timestamp(unit: str) -> Operation:
    """Since 1970, in the unit named, towards minus infinity."""
    if unit == "Nanoseconds":
        return lambda a: (a[0] * 1_000, a[1])
    if unit == "Milliseconds":
        return lambda a: (a[0] // 1_000, a[1])
    return lambda a: a
