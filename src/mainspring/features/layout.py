"""A feature view, compiled: which float64 columns its events become, and how its answers are read from them.

Answers of ``kernels.read`` (sums, counts, extremes, latest and earliest values) are one plan, those of ``scans.answer``
(what needs the events themselves) another. Columns that the first plan reads come first: they alone have summaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mainspring.features import kernels as k
from mainspring.features import slides as s
from mainspring.features.columns import Column, columns_of
from mainspring.features.state import LONG_AGO

if TYPE_CHECKING:
    from mainspring.definitions import Aggregate, ViewDef

GRACE_US = 3_600_000_000
LONGEST_US = 1 << 62  # windows and moments are held within it, so that t − w stays an int64

READS: dict[str, tuple[int, int]] = {
    "count": (k.F_COUNT, k.COUNT),
    "sum": (k.F_SUM, k.SUM),
    "mean": (k.F_MEAN, k.SUM),
    "std": (k.F_STD, k.SUM | k.SQUARES),
    "var": (k.F_VAR, k.SUM | k.SQUARES),
    "min": (k.F_MIN, k.EXTREMES),
    "max": (k.F_MAX, k.EXTREMES),
    "last": (k.F_LAST, k.LATEST),
    "first": (k.F_FIRST, k.FIRST),
    "age": (k.F_AGE, k.LATEST),
    "rate": (k.F_RATE, k.COUNT),
}
SCANS: dict[str, int] = {
    "last_k": s.F_LAST_K,
    "ewma": s.F_EWMA,
    "trend": s.F_TREND,
    "distinct": s.F_DISTINCT,
    "approx_distinct": s.F_APPROX_DISTINCT,
    "quantile": s.F_QUANTILE,
    "top_k": s.F_TOP_K,
}
_OF_VECTORS = {"first": s.F_FIRST, "last": s.F_LAST}
_FROM_NOTHING = ("count", "rate", "distinct", "approx_distinct")  # are 0 where there are no events; all else is null


@dataclass(frozen=True, eq=False)
class Layout:
    """A compiled view.

    Attributes:
        columns: The float64 columns, C of them.
        windows: int64[W], distinct windows of ``plan`` in microseconds, shortest first, ``kernels.UNBOUNDED`` last if
            there is one.
        plan: int64[F, PLAN], what ``kernels.read`` gathers and where it puts the answers.
        parameters: float64[F], unit of time of each row of ``plan``.
        needs: int64[summed], what summaries of each of the first columns hold; the others have none.
        hop: What windows begin at multiples of, in microseconds; 1 is exact.
        scan_plan: int64[R, PLAN], what ``scans.answer`` reads and where it puts the answers.
        scan_parameters: float64[R], q, half-life or unit of time of each row of ``scan_plan``.
        scan_windows: int64[V], distinct windows of ``scan_plan``.
        keep_us: How far behind the folded clock events are kept, grace included.
        keeps_past: Whether what is let go of still counts: for a window since the beginning.
        keeps_all: Whether nothing may be let go of: a correction could still take it back.
    """

    view: ViewDef
    columns: tuple[Column, ...]
    windows: np.ndarray
    plan: np.ndarray
    parameters: np.ndarray
    needs: np.ndarray
    hop: int
    scan_plan: np.ndarray
    scan_parameters: np.ndarray
    scan_windows: np.ndarray
    keep_us: int
    keeps_past: bool
    keeps_all: bool

    @cached_property
    def width(self) -> int:
        """Number of values that it answers, S."""
        return sum(f.slots for f in self.view.features)

    @cached_property
    def null(self) -> np.ndarray:
        """What an entity without events answers: float64[S]."""
        nothing = [0.0 if f.function in _FROM_NOTHING else np.nan for f in self.view.features for _ in f.slot_names]
        return np.array(nothing)

    @cached_property
    def null_status(self) -> np.ndarray:
        """Status of ``null``: uint8[S]."""
        return np.where(np.isnan(self.null), k.MISSING, k.PRESENT).astype(np.uint8)

    @cached_property
    def makes_hops(self) -> bool:
        """Whether events are taken together, hop by hop, once no window can be cut within one (``hops``).

        Not those that a correction could still take out, nor vectors, of which the latest is looked for.
        """
        is_corrected = any(source.corrects for source in self.view.sources)
        return self.hop > 1 and not is_corrected and not any(f.dim > 1 for f in self.view.features)

    def horizon_us(self, clock_us: int) -> int:
        """Events before it are outside every window that may still be asked about, and nothing can bring them back."""
        return LONG_AGO if self.keeps_all else clock_us - self.keep_us

    def hops_before_us(self, clock_us: int) -> int:
        """Where hops end that no window is cut within any more, as of a folded clock."""
        return (max(clock_us, -LONGEST_US) - GRACE_US) // self.hop * self.hop if self.makes_hops else -LONGEST_US

    @cached_property
    def bounded_windows(self) -> np.ndarray:
        """Those of ``windows`` that have a beginning."""
        return np.asarray(self.windows[self.windows != k.UNBOUNDED])

    @cached_property
    def reach_us(self) -> int:
        """How far behind a moment any answer looks; ``kernels.UNBOUNDED`` for since the beginning."""
        reaches = [self.scan_reach_us] if self.scans else []
        reaches.append(int(self.bounded_windows.max(initial=0)) + self.hop - 1)
        return k.UNBOUNDED if k.UNBOUNDED in (*reaches, *self.windows.tolist()) else max(reaches)

    @property
    def scans(self) -> bool:
        """Whether some answers need the events themselves."""
        return len(self.scan_plan) > 0

    @cached_property
    def scan_reach_us(self) -> int:
        """How far behind a moment scans look; ``kernels.UNBOUNDED`` for since the beginning."""
        if k.UNBOUNDED in self.scan_windows:
            return k.UNBOUNDED
        return int(self.scan_windows.max(initial=0)) + self.hop - 1

    @property
    def scanned(self) -> tuple[Any, ...]:
        """The arguments of ``scans.answer`` that are the same for all keys."""
        return self.scan_plan, self.scan_parameters, self.scan_windows, self.hop

    @cached_property
    def worded(self) -> tuple[Column, ...]:
        """Columns whose texts may be answers."""
        features = [f for f in self.view.features if f.kind == "str"]
        return tuple({c.identity: c for f in features for c in columns_of(f)}.values())


_COMPILED: dict[tuple[str, str], Layout] = {}


def compile_view(view: ViewDef) -> Layout:
    """The compiled view, made once per name and version."""
    key = (view.name, view.version)
    if key not in _COMPILED:
        _COMPILED[key] = _compile(view)
    return _COMPILED[key]


def _compile(view: ViewDef) -> Layout:
    read = [f for f in view.features if not _is_scan(f)]
    scan = [f for f in view.features if _is_scan(f)]
    columns = {c.identity: c for f in read for c in columns_of(f)}
    summed = len(columns)
    for feature in scan:  # a vector's parts lie next to each other
        columns |= {c.identity: c for c in columns_of(feature) if c.identity not in columns}
    places = {identity: place for place, identity in enumerate(columns)}
    windows, scan_windows = _windows(read), _windows(scan)
    plan = _plan(view, read, places, windows)
    for row, wider in zip(plan[-2::-1], plan[:0:-1], strict=True):  # a wider window goes on where a narrow one ends
        if row[k.P_COLUMN] == wider[k.P_COLUMN]:
            row[k.P_GATHER] |= wider[k.P_GATHER]
    needs = [0] * summed
    for row in plan:
        needs[row[k.P_COLUMN]] |= row[k.P_GATHER]
    scan_plan = _plan(view, scan, places, scan_windows)
    unbounded = any(f.reach_us is None for f in view.features)
    reach = [min(us, LONGEST_US) for f in view.features for us in (f.reach_us, f.ttl_us) if us is not None]
    hop = view.hop_us or 1
    return Layout(
        view,
        tuple(columns.values()),
        np.array(windows, np.int64),
        *_arrays(plan),
        np.array(needs, np.int64),
        hop,
        *_arrays(scan_plan),
        np.array(scan_windows, np.int64),
        min(max(reach, default=0) + hop - 1 + GRACE_US, LONGEST_US),
        unbounded,
        unbounded and any(source.corrects for source in view.sources),
    )


def _is_scan(feature: Aggregate) -> bool:
    return feature.function in SCANS or (feature.value is not None and feature.value.kind == "vector")


def _windows(features: Sequence[Aggregate]) -> list[int]:
    spans = sorted({min(f.reach_us, LONGEST_US) for f in features if f.reach_us is not None})
    return [*spans, k.UNBOUNDED] if any(f.reach_us is None for f in features) else spans


def _plan(view: ViewDef, features: Sequence[Aggregate], places: dict[Any, int], windows: list[int]) -> list[list[Any]]:
    """Rows of a plan, each followed by its parameter, sorted by column, then by window."""
    rows: list[list[Any]] = []
    for feature, out in zip(view.features, view.first_slots, strict=True):
        if feature not in features:
            continue
        scan = _is_scan(feature)
        function, gather = (_OF_VECTORS.get(feature.function, -1), k.SCAN) if scan else READS[feature.function]
        function = SCANS.get(feature.function, function)
        window = k.UNBOUNDED if feature.reach_us is None else min(feature.reach_us, LONGEST_US)
        ttl = -1 if feature.ttl_us is None else min(feature.ttl_us, LONGEST_US)
        column = places[columns_of(feature)[0].identity]
        given = (feature.q, feature.half_life_us, feature.per_us)
        parameter = next((float(p) for p in given if p is not None), 0.0)
        rows.append([column, function, windows.index(window), ttl, out, gather, feature.slots, parameter])
    return sorted(rows, key=lambda row: (row[k.P_COLUMN], row[k.P_WINDOW]))


def _arrays(plan: list[list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([row[: k.PLAN] for row in plan], np.int64).reshape(-1, k.PLAN)
    return rows, np.array([row[k.PLAN] for row in plan], np.float64)
