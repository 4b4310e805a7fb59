"""Batches of the log as columns: views over the same sources together, so that a batch passes through polars once.

The events of several sources are one stream, in the order (time, known_at, offset), null in columns that a source does
not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.core.ids import hash128
from mainspring.definitions.features import SOURCE, event_schema
from mainspring.features.words import texts_in

if TYPE_CHECKING:
    from mainspring.definitions import SourceDef, ViewDef
    from mainspring.events.record import Record
    from mainspring.features.columns import Column
    from mainspring.features.layout import Layout


@dataclass(eq=False)
class Batch:
    """Events of a stream in the order (time, known_at, offset).

    Attributes:
        stamps: int64[3, n]: time, known_at, offset.
        frame: What the views read of them; features of used views come to it later (`enrich`).
        source: int64[n], place of each event's source in the stream's ``sources``.
        ids: For each event of a corrected source 16 bytes that stand for its source and id; empty if none is corrected.
        deletes: bool[n]: events that take the row with their id away.
    """

    stamps: np.ndarray
    frame: pl.DataFrame
    source: np.ndarray
    ids: list[bytes | None]
    deletes: np.ndarray


class Stream:
    """Views over the same sources.

    Args:
        layouts: Compiled views, all over the same sources.

    Attributes:
        using: The views whose features the events of this stream carry.
        is_corrected: Whether any of the sources has corrections.
    """

    def __init__(self, layouts: Iterable[Layout]) -> None:
        self.layouts = tuple(layouts)
        views = [layout.view for layout in self.layouts]
        self.sources: tuple[SourceDef, ...] = views[0].sources
        used = {(v.name, v.version): v for view in views for v in view.using}
        self.using: tuple[ViewDef, ...] = tuple(used.values())
        self._corrects = [None if s.corrects is None else list(s.columns).index(s.corrects) for s in self.sources]
        self.is_corrected = any(place is not None for place in self._corrects)
        distinct: dict[Any, Column] = {c.identity: c for layout in self.layouts for c in layout.columns}
        places = {identity: place for place, identity in enumerate(distinct)}
        self._worded = tuple({c.identity: c for layout in self.layouts for c in layout.worded}.values())
        self._rows = [np.array([places[c.identity] for c in layout.columns], np.intp) for layout in self.layouts]
        self._names = [f"_{place}" for place in places.values()]
        self._exprs = [c.expr.alias(name) for c, name in zip(distinct.values(), self._names, strict=True)]
        needed = {*(e for view in (*views, *self.using) for e in view.entity)}
        needed |= {name for c in distinct.values() for name in c.inputs}
        schema = event_schema(self.sources, ())
        time = self.sources[0].time  # of events that nothing is read of there is still a number
        self._schema = {name: schema[name] for name in schema if name != SOURCE and (name in needed or name == time)}
        self._says_source = SOURCE in needed

    def batch(self, records: Sequence[Record]) -> Batch | None:
        """The events of the stream's sources among ``records``, None if there are none."""
        parts = []
        for place, source in enumerate(self.sources):
            mine = [r for r in records if r.source == source.name]
            if mine:
                parts.append((place, mine, rows_of(mine, source)))
        if not parts:
            return None
        ordered = [r for _, mine, _ in parts for r in mine]
        stamps = np.array(
            (
                [r.time_us for r in ordered],
                [r.known_at_us for r in ordered],
                [r.offset for r in ordered],
            ),
            np.int64,
        )
        frames = [self._frame(self.sources[place], rows) for place, _, rows in parts]
        origins = np.repeat([place for place, _, _ in parts], [len(rows) for _, _, rows in parts]).astype(np.int64)
        frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
        ids: list[bytes | None] = []
        deletes = np.zeros(len(ordered), np.bool_)
        if self.is_corrected:
            flags: list[bool] = []
            for place, mine, rows in parts:
                name, at = self.sources[place].name, self._corrects[place]
                ids += [None if at is None or r.id is None else row_name(name, r.id) for r in mine]
                flags += [at is not None and row[at] == "delete" for row in rows]
            deletes = np.array(flags, np.bool_)
        if not in_order(*stamps):
            order = np.lexsort((stamps[2], stamps[1], stamps[0]))
            stamps, frame = np.ascontiguousarray(stamps[:, order]), frame[order]
            deletes, origins = deletes[order], origins[order]
            ids = [ids[i] for i in order.tolist()] if ids else ids
        return Batch(stamps, frame, origins, ids, deletes)

    def values(self, frame: pl.DataFrame) -> list[np.ndarray]:
        """For each view, its columns over the rows of ``frame``: float64[C, n]."""
        computed = frame.with_columns(self._exprs).select(self._names)
        every = np.ascontiguousarray(computed.to_numpy(order="fortran").T) + 0.0  # −0.0 becomes 0.0; polars drops this
        return [every[rows] for rows in self._rows]

    def texts(self, frame: pl.DataFrame) -> dict[float, str]:
        """Words and texts of everything in ``frame`` that a view may answer with."""
        return texts_in(self._worded, frame)

    def _frame(self, source: SourceDef, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
        columns = list(zip(*rows, strict=True))
        place = {name: i for i, name in enumerate(source.columns)}
        series = [
            _series(name, columns[place[name]], dtype)
            if name in place
            else pl.repeat(None, len(rows), dtype=dtype, eager=True).alias(name)
            for name, dtype in self._schema.items()
        ]
        frame = pl.DataFrame(series)
        return frame.with_columns(pl.lit(source.name).alias(SOURCE)) if self._says_source else frame


def _series(name: str, values: Sequence[Any], dtype: Any) -> pl.Series:
    if isinstance(dtype, pl.Datetime):
        return pl.Series(name, values, pl.Int64).cast(dtype)
    try:
        return pl.Series(name, values, dtype)
    except TypeError:
        if dtype != pl.Int64:
            raise
        # Of a definition from before the column was widened: what comes now is not cut to whole numbers.
        return pl.Series(name, values, pl.Float64, strict=False)


def row_name(source: str, ident: str) -> bytes:
    """16 bytes that stand for the row of a source with an id."""
    return hash128(source.encode(), ident.encode())


def rows_of(records: Sequence[Record], source: SourceDef) -> list[tuple[Any, ...]]:
    """The records' rows in the order of ``source``'s columns, whatever contract version they were written under."""
    return [r.values if r.version == source.version else r.row_for(source) for r in records]


def in_order(times: np.ndarray, knowns: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether events are in the order (time, known_at, offset)."""
    t, kn, o = np.diff(times), np.diff(knowns), np.diff(offsets)
    return bool(np.all((t > 0) | ((t == 0) & ((kn > 0) | ((kn == 0) & (o > 0))))))


def streams_of(layouts: Iterable[Layout]) -> tuple[Stream, ...]:
    """The streams of some views: a view that is used by another comes before it."""
    groups: dict[tuple[int, tuple[str, ...], tuple[tuple[str, str], ...]], list[Layout]] = {}
    for layout in layouts:
        used = tuple(sorted((v.name, v.version) for v in layout.view.using))  # two versions of one name are two columns
        key = depth(layout.view), tuple(s.version for s in layout.view.sources), used
        groups.setdefault(key, []).append(layout)
    return tuple(Stream(groups[key]) for key in sorted(groups, key=lambda k: k[0]))


def depth(view: ViewDef) -> int:
    """How many views deep ``using=`` goes: 0 for a view of events alone."""
    return max((1 + depth(used) for used in view.using), default=0)


def with_used(views: Iterable[ViewDef]) -> list[ViewDef]:
    """Views and all that they use, however deep, each version once; the used ones first."""
    found: dict[tuple[str, str], ViewDef] = {}
    for view in views:
        for one in (*with_used(view.using), view):
            found.setdefault((one.name, one.version), one)
    return list(found.values())
