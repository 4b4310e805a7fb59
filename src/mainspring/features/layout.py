"""A feature view, compiled: which float64 columns its events become, and how its answers are read from them.

Every distinct pair of value and ``where`` is one column: numbers as float64 (integers beyond 2^53 are rounded to the
nearest float64, bools are 0 and 1), NaN where the value is null or not finite or ``where`` does not hold; what is only
counted is 1.0. −0.0 becomes 0.0, so that extremes do not depend on order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.definitions.expressions import POLARS_TYPES
from mainspring.features import kernels as k

if TYPE_CHECKING:
    from mainspring.definitions import Aggregate, Expression, SourceDef, ViewDef
    from mainspring.events.record import Record

GRACE_US = 3_600_000_000
LONGEST_US = 1 << 62  # windows and moments are held within it, so that t − w stays an int64

FUNCTIONS: dict[str, tuple[int, int]] = {
    "count": (k.F_COUNT, k.COUNT),
    "sum": (k.F_SUM, k.SUM),
    "mean": (k.F_MEAN, k.SUM),
    "std": (k.F_STD, k.SUM | k.SQUARES),
    "min": (k.F_MIN, k.EXTREMES),
    "max": (k.F_MAX, k.EXTREMES),
    "last": (k.F_LAST, k.LATEST),
    "age": (k.F_AGE, k.LATEST),
}


@dataclass(frozen=True)
class Column:
    """One float64 column: a value, or None to mark events, seen where ``where`` holds."""

    value: Expression | None
    where: Expression | None
    marks: bool

    @property
    def expr(self) -> pl.Expr:
        """The column as polars computes it, for a micro-batch and for years of history alike."""
        if self.value is None:
            out, seen = pl.lit(1.0), pl.lit(value=True)
        elif self.marks:
            out, seen = pl.lit(1.0), self.value.expr.is_not_null()
        else:
            out = self.value.expr.cast(pl.Float64)
            seen = out.is_finite()
        if self.where is not None:
            seen &= self.where.expr
        return pl.when(seen).then(out).otherwise(pl.lit(float("nan")))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of the source that it reads."""
        return tuple(name for e in (self.value, self.where) if e is not None for name in e.inputs)

    @property
    def identity(self) -> tuple[str | None, str | None, bool]:
        """Equal for columns that hold the same numbers."""
        return (self.value.json if self.value else None, self.where.json if self.where else None, self.marks)


def _column_of(feature: Aggregate) -> Column:
    marks = feature.value is None or (feature.function == "count" and feature.value.kind in ("str", "datetime"))
    return Column(feature.value, feature.where, marks)


@dataclass(frozen=True, eq=False)
class Layout:
    """A compiled view.

    Attributes:
        columns: The float64 columns, C of them.
        windows: int64[W], distinct windows in microseconds, shortest first, ``kernels.UNBOUNDED`` last if there is one.
        plan: int64[F, 6], what ``kernels.read`` gathers and where it puts the answers.
        keep_us: How far behind the folded clock events are kept, grace included.
        keeps_past: Whether what is let go of still counts: for a window since the beginning.
    """

    view: ViewDef
    columns: tuple[Column, ...]
    windows: np.ndarray
    plan: np.ndarray
    keep_us: int
    keeps_past: bool

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.view.features)

    @cached_property
    def null(self) -> np.ndarray:
        """What an entity without events answers: float64[F]."""
        return np.array([0.0 if f.function == "count" else np.nan for f in self.view.features])

    @cached_property
    def null_status(self) -> np.ndarray:
        """Status of ``null``: uint8[F]."""
        return np.array([k.PRESENT if f.function == "count" else k.MISSING for f in self.view.features], np.uint8)


_COMPILED: dict[tuple[str, str], Layout] = {}


def compile_view(view: ViewDef) -> Layout:
    """The compiled view, made once per name and version."""
    key = (view.name, view.version)
    if key not in _COMPILED:
        _COMPILED[key] = _compile(view)
    return _COMPILED[key]


def _compile(view: ViewDef) -> Layout:
    columns: dict[Any, Column] = {}
    for feature in view.features:
        column = _column_of(feature)
        columns.setdefault(column.identity, column)
    spans = sorted({min(f.window_us, LONGEST_US) for f in view.features if f.window_us is not None})
    unbounded = any(f.window_us is None for f in view.features)
    windows: list[int] = [*spans, k.UNBOUNDED] if unbounded else spans
    places = list(columns)
    plan = []
    for place, feature in enumerate(view.features):
        identity = _column_of(feature).identity
        window = k.UNBOUNDED if feature.window_us is None else min(feature.window_us, LONGEST_US)
        ttl = -1 if feature.ttl_us is None else min(feature.ttl_us, LONGEST_US)
        function, gather = FUNCTIONS[feature.function]
        plan.append([places.index(identity), function, windows.index(window), ttl, place, gather])
    plan.sort(key=lambda row: (row[k.P_COLUMN], row[k.P_WINDOW]))
    for row, wider in zip(
        plan[-2::-1], plan[:0:-1], strict=True
    ):  # a wider window's walk begins where a narrower one's ends
        if row[k.P_COLUMN] == wider[k.P_COLUMN]:
            row[k.P_GATHER] |= wider[k.P_GATHER]
    reach = [*spans, *(min(f.ttl_us, LONGEST_US) for f in view.features if f.ttl_us is not None)]
    return Layout(
        view,
        tuple(columns.values()),
        np.array(windows, np.int64),
        np.array(plan, np.int64).reshape(-1, 6),
        min(max(reach, default=0) + GRACE_US, LONGEST_US),
        unbounded,
    )


class SourceLayout:
    """The views on one source together, so that a batch of its events passes through polars once.

    Args:
        source: Whose events.
        layouts: Compiled views on it.
    """

    def __init__(self, source: SourceDef, layouts: Iterable[Layout]) -> None:
        self.source = source
        self.layouts = tuple(layouts)
        distinct: dict[Any, Column] = {c.identity: c for layout in self.layouts for c in layout.columns}
        places = {identity: place for place, identity in enumerate(distinct)}
        self._rows = [np.array([places[c.identity] for c in layout.columns], np.intp) for layout in self.layouts]
        self._names = [f"_{place}" for place in places.values()]
        self._exprs = [c.expr.alias(name) for c, name in zip(distinct.values(), self._names, strict=True)]
        order = [f.name for f in source.fields]
        entities = [name for layout in self.layouts for name in layout.view.entity]
        needed = {source.time, *entities, *(name for c in distinct.values() for name in c.inputs)}
        self.inputs = tuple(name for name in order if name in needed)
        self.entity_places = [tuple(order.index(e) for e in layout.view.entity) for layout in self.layouts]
        self._series = [(f.name, order.index(f.name), POLARS_TYPES[f.kind]) for f in source.fields if f.name in needed]

    def frame(self, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
        """Rows of the source as a frame of the columns that the views read."""
        columns = list(zip(*rows, strict=True))
        series = []
        for name, place, dtype in self._series:
            if isinstance(dtype, pl.Datetime):
                series.append(pl.Series(name, columns[place], pl.Int64).cast(dtype))
            else:
                series.append(pl.Series(name, columns[place], dtype))
        return pl.DataFrame(series)

    def values(self, frame: pl.DataFrame) -> list[np.ndarray]:
        """For each view, its columns over the rows of ``frame``: float64[C, n]."""
        computed = frame.select(self.inputs).with_columns(self._exprs).select(self._names)
        every = (
            np.ascontiguousarray(computed.to_numpy(order="fortran").T) + 0.0
        )  # −0.0 becomes 0.0; polars would drop this
        return [every[rows] for rows in self._rows]


def rows_of(records: Sequence[Record], source: SourceDef) -> list[tuple[Any, ...]]:
    """The records' rows in the order of ``source``'s columns, whatever contract version they were written under."""
    return [r.values if r.version == source.version else r.row_for(source) for r in records]
