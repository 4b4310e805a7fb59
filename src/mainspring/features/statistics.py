"""Statistics of what a view's columns hold, kept by the fold: a row for each day on which events became known.

They say what came, before any model sees it. A day's statistics depend on its events alone, not on their order or on
how they were cut into batches: counts are whole numbers, extremes and sketches merge exactly, and the sum is kept as a
whole number of 2^-1074. So a replay of history gives the same bytes, and days can be merged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from mainspring.definitions.values import DAY_US

if TYPE_CHECKING:
    from mainspring.features.layout import Layout

T = TypeVar("T")
KEEP_DAYS = 35
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
QUANTILE_ERROR = 1 / 128
"""Of a quantile, relative: half the width of a bucket."""
_BITS = 46  # of 52 bits of a float64's fraction six are left: 64 buckets an octave
_UNIT = 1074  # sums are whole numbers of 2^-1074, the least float64 above 0
_HALF = 27
_DAY = struct.Struct(">Iq")
_FEED = struct.Struct(">I")
_FEED_MARK = b"\xff"  # sorts after every day
_FIRST = 1 << 40  # added to days, so that those before 1970 sort first


@dataclass(slots=True)
class ColumnStatistics:
    """Statistics of one column; ``add`` and ``merge`` change it, everything else reads.

    Attributes:
        values: How many values it holds.
        nulls: Events in which it is null, not finite, or its ``where`` does not hold.
        low: Least value; NaN without any.
        high: Greatest value; NaN without any.
        units: Exact sum, in units of 2^-1074.
        codes: int32[m], rising: the buckets that hold something (`bucket_codes`).
        counts: int64[m], values in each.
    """

    values: int = 0
    nulls: int = 0
    low: float = float("nan")
    high: float = float("nan")
    units: int = 0
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def mean(self) -> float | None:
        """The correctly rounded mean; None without values."""
        return self.units / (self.values << _UNIT) if self.values else None

    def add(self, column: np.ndarray, *, measured: bool) -> None:
        """Take in float64[n], NaN for null; with ``measured`` false (words, marks) only whether they are there."""
        seen = column[~np.isnan(column)]
        self.values += len(seen)
        self.nulls += len(column) - len(seen)
        if not measured or not len(seen):
            return
        self.low, self.high = float(np.fmin(self.low, seen.min())), float(np.fmax(self.high, seen.max()))
        self.units += exact_units(seen)
        self._count(*np.unique(bucket_codes(seen), return_counts=True))

    def merge(self, other: ColumnStatistics) -> None:
        """Take in the statistics of other events."""
        self.values += other.values
        self.nulls += other.nulls
        self.low, self.high = float(np.fmin(self.low, other.low)), float(np.fmax(self.high, other.high))
        self.units += other.units
        self._count(other.codes, other.counts)

    def quantile(self, q: float) -> float | None:
        """The value of rank ``floor(q · (n − 1))``, within ``QUANTILE_ERROR`` of it, relative; None without values."""
        if not len(self.counts):
            return None
        total = int(self.counts.sum())
        place = int(np.searchsorted(np.cumsum(self.counts), int(q * (total - 1)), side="right"))
        return float(min(max(_middle(int(self.codes[place])), self.low), self.high))

    def to_dict(self) -> dict[str, Any]:
        """As JSON: numbers that are not there are None."""
        shown = {f"p{round(q * 100):02d}": self.quantile(q) for q in QUANTILES}
        low, high = (None if np.isnan(x) else x for x in (self.low, self.high))
        is_measured = bool(len(self.counts))
        mean = self.mean if is_measured else None
        return {"values": self.values, "nulls": self.nulls, "min": low, "max": high, "mean": mean} | shown

    def _count(self, codes: np.ndarray, counts: np.ndarray) -> None:
        """Count values of different buckets, in rising order."""
        places = np.searchsorted(self.codes, codes)
        known = np.zeros(len(codes), np.bool_)
        inside = places < len(self.codes)
        known[inside] = self.codes[places[inside]] == codes[inside]
        self.counts[places[known]] += counts[known]
        if not known.all():
            self.codes = np.insert(self.codes, places[~known], codes[~known])
            self.counts = np.insert(self.counts, places[~known], counts[~known])


@dataclass(frozen=True)
class Feed:
    """What a view has had of one source.

    Attributes:
        events: How many it folded.
        newest_time_us: Greatest event time.
        newest_known_us: Greatest moment of becoming known.
    """

    events: int
    newest_time_us: int
    newest_known_us: int


class Statistics:
    """Statistics of all views in a store, as the folding process keeps them.

    What was read or written last is remembered, so that a batch changes a row without decoding it.

    Args:
        database: Of the online store: keys begin with a view's four-byte prefix.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self._days: dict[tuple[int, int], list[ColumnStatistics]] = {}
        self._newest: dict[int, int] = {}

    def forget(self) -> None:
        """Remember nothing: a transaction was aborted, or somebody else has written."""
        self._days.clear()
        self._newest.clear()

    def add(
        self,
        txn: Any,
        view: int,
        layout: Layout,
        source: str,
        times: np.ndarray,
        knowns: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Take in events of a view: those of one commit, or years of history.

        Args:
            txn: Of the fold that they belong to.
            view: Its prefix in the store.
            layout: The compiled view.
            source: Name of the source that they are of.
            times: int64[n], event times.
            knowns: int64[n], when they became known.
            values: float64[C, n], the view's columns.
        """
        if not len(times):
            return
        self._add_feed(txn, view, source, Feed(len(times), int(times.max()), int(knowns.max())))
        days = knowns // DAY_US
        newest = max(self._newest_day(txn, view), int(days.max()))
        oldest = newest - KEEP_DAYS + 1
        for day in np.unique(days[days >= oldest]).tolist():
            row = self._day(txn, view, day, len(layout.columns))
            which = days == day
            for column, one, numbers in zip(layout.columns, row, values, strict=True):
                one.add(numbers if which.all() else numbers[which], measured=column.is_number)
            txn.put(_key(view, day), _pack(row), db=self._database)
        if newest != self._newest_day(txn, view):
            self._drop_before(txn, view, oldest)
        self._newest[view] = newest

    def drop(self, txn: Any, view: int) -> None:
        """Remove all that is kept of a view."""
        self.forget()
        _delete(txn, self._database, _FEED.pack(view), _FEED.pack(view + 1))

    def _add_feed(self, txn: Any, view: int, source: str, more: Feed) -> None:
        key = _FEED.pack(view) + _FEED_MARK + source.encode()
        raw = txn.get(key, db=self._database)
        if raw is not None:
            old = msgspec.msgpack.decode(raw, type=tuple[int, int, int])
            more = Feed(old[0] + more.events, max(old[1], more.newest_time_us), max(old[2], more.newest_known_us))
        packed = (more.events, more.newest_time_us, more.newest_known_us)
        txn.put(key, msgspec.msgpack.encode(packed), db=self._database)

    def _day(self, txn: Any, view: int, day: int, columns: int) -> list[ColumnStatistics]:
        row = self._days.get((view, day))
        if row is None:
            raw = txn.get(_key(view, day), db=self._database)
            row = [ColumnStatistics() for _ in range(columns)] if raw is None else _unpack(raw)
            if len(self._days) > 4 * KEEP_DAYS:
                self._days.clear()
            self._days[view, day] = row
        return row

    def _newest_day(self, txn: Any, view: int) -> int:
        found = self._newest.get(view)
        if found is None:
            days = [day for day, _ in _rows(txn, self._database, view, values=False)]
            found = self._newest[view] = max(days, default=-_FIRST)
        return found

    def _drop_before(self, txn: Any, view: int, day: int) -> None:
        for old in [d for d, _ in _rows(txn, self._database, view, values=False) if d < day]:
            txn.delete(_key(view, old), db=self._database)
            self._days.pop((view, old), None)


def read_days(txn: Any, database: Any, view: int) -> dict[int, list[ColumnStatistics]]:
    """Statistics of a view by day (whole days since 1970 UTC), each in the order of the layout's columns."""
    return {day: _unpack(raw) for day, raw in _rows(txn, database, view)}


def read_feeds(txn: Any, database: Any, view: int) -> dict[str, Feed]:
    """What a view has had of each of its sources that it has had something of."""
    prefix = _FEED.pack(view) + _FEED_MARK
    out = {}
    with txn.cursor(database) as cursor:
        found = cursor.set_range(prefix)
        while found and bytes(cursor.key()).startswith(prefix):
            numbers = msgspec.msgpack.decode(cursor.value(), type=tuple[int, int, int])
            out[bytes(cursor.key())[len(prefix) :].decode()] = Feed(*numbers)
            found = cursor.next()
    return out


def merged(days: Iterable[list[ColumnStatistics]]) -> list[ColumnStatistics]:
    """Statistics of several days together."""
    out: list[ColumnStatistics] = []
    for row in days:
        if not out:
            out = [ColumnStatistics() for _ in row]
        for one, other in zip(out, row, strict=True):
            one.merge(other)
    return out


def replayed(layout: Layout, knowns: np.ndarray, values: np.ndarray) -> dict[int, list[ColumnStatistics]]:
    """What `read_days` answers once these events have been folded, in whatever batches.

    Args:
        layout: The compiled view.
        knowns: int64[n], when they became known.
        values: float64[C, n].
    """
    days = knowns // DAY_US
    out: dict[int, list[ColumnStatistics]] = {}
    for day in np.unique(days).tolist()[-KEEP_DAYS:]:
        if day > int(days.max()) - KEEP_DAYS:
            out[day] = row = [ColumnStatistics() for _ in layout.columns]
            for column, one, numbers in zip(layout.columns, row, values, strict=True):
                one.add(numbers[days == day], measured=column.is_number)
    return out


def by_feature(layout: Layout, row: Sequence[T]) -> dict[str, T]:
    """What is known of each column, by the names of the aggregates that read it (of several columns the first)."""
    from mainspring.features.kernels import P_COLUMN, P_OUT

    columns = {int(line[P_OUT]): int(line[P_COLUMN]) for plan in (layout.plan, layout.scan_plan) for line in plan}
    view = layout.view
    return {f.name: row[columns[place]] for f, place in zip(view.features, view.first_slots, strict=True)}


def bucket_codes(values: np.ndarray) -> np.ndarray:
    """Bucket of each finite float64, as int32 in the order of the values: 64 buckets an octave, 0 for zero.

    A bucket is made of the upper bits of the float itself (a DDSketch whose logarithm is linear between powers of two),
    so that no rounding of a logarithm can put the same value into two buckets.
    """
    codes = ((np.abs(values).view(np.int64) >> _BITS) + 1).astype(np.int32)
    return np.where(values < 0, -codes, np.where(values == 0, 0, codes)).astype(np.int32)


def exact_units(values: np.ndarray) -> int:
    """The exact sum of finite float64 in units of 2^-1074."""
    fractions, exponents = np.frexp(values)
    whole = (fractions * 9007199254740992.0).astype(np.int64)  # 53 bits and a sign
    least = int(exponents.min())
    places = exponents - least
    # Weights are float64: halves of 27 bits and fewer add up exactly for up to 2^26 values.
    total = 0
    for start in range(0, len(values), 1 << 25):
        part = slice(start, start + (1 << 25))
        highs = np.bincount(places[part], weights=(whole[part] >> _HALF).astype(np.float64))
        lows = np.bincount(places[part], weights=(whole[part] & ((1 << _HALF) - 1)).astype(np.float64))
        for place in np.flatnonzero((highs != 0) | (lows != 0)).tolist():
            total += ((int(highs[place]) << _HALF) + int(lows[place])) << place
    shift = least - 53 + _UNIT
    return total << shift if shift >= 0 else total >> -shift


def _middle(code: int) -> float:
    if code == 0:
        return 0.0
    low, high = (np.int64(b << _BITS).view(np.float64) for b in (abs(code) - 1, abs(code)))
    middle = float(low) + (float(high) - float(low)) / 2 if np.isfinite(high) else float(low)
    return -middle if code < 0 else middle


def _pack(row: list[ColumnStatistics]) -> bytes:
    return msgspec.msgpack.encode(
        [
            (
                one.values,
                one.nulls,
                one.low,
                one.high,
                one.units.to_bytes(one.units.bit_length() // 8 + 1, "little", signed=True),
                one.codes.tobytes(),
                one.counts.tobytes(),
            )
            for one in row
        ]
    )


def _unpack(raw: Any) -> list[ColumnStatistics]:
    return [
        ColumnStatistics(
            values,
            nulls,
            low,
            high,
            int.from_bytes(units, "little", signed=True),
            np.frombuffer(codes, np.int32).copy(),
            np.frombuffer(counts, np.int64).copy(),
        )
        for values, nulls, low, high, units, codes, counts in msgspec.msgpack.decode(raw)
    ]


def _key(view: int, day: int) -> bytes:
    return _DAY.pack(view, day + _FIRST)


def _rows(txn: Any, database: Any, view: int, *, values: bool = True) -> list[tuple[int, bytes]]:
    prefix = _FEED.pack(view)
    out = []
    with txn.cursor(database) as cursor:
        found = cursor.set_range(prefix)
        while found and (key := bytes(cursor.key()))[:4] == prefix and key[4:5] != _FEED_MARK:
            out.append((_DAY.unpack(key)[1] - _FIRST, bytes(cursor.value()) if values else b""))
            found = cursor.next()
    return out


def _delete(txn: Any, database: Any, first: bytes, after: bytes) -> None:
    with txn.cursor(database) as cursor:
        found = cursor.set_range(first)
        while found and bytes(cursor.key()) < after:
            found = cursor.delete()
