"""What is left to do with a row whose tight decoding has checked the rest: times, and what only Python can test.

Columns without work of their own are not looked at one by one. That all floats of a row are finite is seen from their
sum, that all its texts can be stored from the texts joined. Whatever is in doubt is left to the checks of ``bounds``,
column by column, which know what to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import itemgetter
from typing import Any

from mainspring.definitions.values import SourceDef
from mainspring.events.bounds import MAX_TIME_US, MIN_TIME_US, OutOfBoundsError, constraint_check, is_utf8
from mainspring.events.structs import JSON_TYPES, tightened

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


class Plan:
    """How rows of one source are finished.

    Args:
        source: Whose.
        is_json: Whether rows were decoded from JSON, which has no number that is not finite and no text but UTF-8.

    Attributes:
        is_idle: Whether a row whose time is known needs nothing.
    """

    def __init__(self, source: SourceDef, *, is_json: bool) -> None:
        kinds = [f.kind for f in source.fields]
        self._time = source.places[source.time]
        self._times = tuple(i for i, kind in enumerate(kinds) if kind == "datetime")
        floats = [i for i, kind in enumerate(kinds) if kind == "float"]
        if is_json:
            floats = [i for i in floats if (default := source.fields[i].default) and not math.isfinite(default)]
        self._floats = _picker(floats)
        self._texts = None if is_json else _picker([i for i, kind in enumerate(kinds) if kind == "str"])
        self._vectors = tuple((i, f.dim) for i, f in enumerate(source.fields) if f.kind == "vector")
        left = [(i, f, tightened(f, source, JSON_TYPES)[1]) for i, f in enumerate(source.fields)]
        self._checks = tuple((i, constraint_check(c, f.kind)) for i, f, constraints in left for c in constraints)
        self.is_idle = self._times == (self._time,) and not (
            self._floats or self._texts or self._vectors or self._checks
        )

    def finish(self, values: list[Any]) -> bool:
        """Make times of a decoded row microseconds, in place.

        Returns:
            Whether the row is whole. If not, it is as it was decoded, but for some times.
        """
        try:
            for i in self._times:
                value = values[i]
                if value is not None:
                    value = values[i] = _as_us(value)
                    if not MIN_TIME_US <= value <= MAX_TIME_US:
                        return False
            if not self._can_be_stored(values):
                return False
            for i, check in self._checks:
                if values[i] is not None:
                    check(values[i])
        except OutOfBoundsError:
            return False
        time_us = values[self._time]
        return time_us is None or time_us >= 0

    def finish_columns(self, columns: list[Sequence[Any]]) -> bool:
        """As ``finish``, of rows that are columns. For rows that were decoded from JSON.

        Returns:
            Whether all rows are whole.
        """
        try:
            for i in self._times:
                columns[i] = [None if v is None else _as_us(v) for v in columns[i]]
                known = [v for v in columns[i] if v is not None]
                if known and not MIN_TIME_US <= min(known) <= max(known) <= MAX_TIME_US:
                    return False
            if self._floats is not None and not math.isfinite(sum(filter(None, chain(*self._floats(columns))))):
                return False
            for i, dim in self._vectors:
                if not all(len(v) == dim and math.isfinite(sum(v)) for v in columns[i] if v is not None):
                    return False
            for i, check in self._checks:
                for value in columns[i]:
                    if value is not None:
                        check(value)
        except OutOfBoundsError:
            return False
        times_us = [v for v in columns[self._time] if v is not None]
        return not times_us or min(times_us) >= 0

    def _can_be_stored(self, values: list[Any]) -> bool:
        """Whether all floats are finite, all texts UTF-8 and all vectors of their length."""
        if self._floats is not None and not math.isfinite(sum(filter(None, self._floats(values)))):
            return False
        if self._texts is not None:
            joined = "".join(filter(None, self._texts(values)))
            if not is_utf8(joined):
                return False
        for i, dim in self._vectors:
            value = values[i]
            if value is not None and not (len(value) == dim and math.isfinite(sum(value))):
                return False
        return True


def _as_us(value: datetime | int) -> int:
    """Microseconds since 1970 UTC; without an offset a time is in UTC."""
    if isinstance(value, int):
        return value
    return ((value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _picker(places: list[int]) -> Pick | None:
    """Takes the values at ``places``, always as a tuple; None where there are none."""
    if not places:
        return None
    return itemgetter(*places, *places[:1]) if len(places) == 1 else itemgetter(*places)
