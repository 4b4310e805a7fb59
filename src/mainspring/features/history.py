"""History frames as the fold's columns: times, order and entity codes of a frame of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.definitions import SOURCE, ViewDef
from mainspring.features import kernels as k
from mainspring.features.layout import Layout, SourceLayout


@dataclass(frozen=True, eq=False)
class Grouped:
    """Events of a view, key after key, each key's in the order (time, known_at, offset).

    Attributes:
        events: int64[3 + C, n] as in ``state``: time, known_at, offset, then the bits of the columns.
        starts: int64[keys + 1], first event of each key.
        keys: The entities' columns, one row a key.
    """

    events: np.ndarray
    starts: np.ndarray
    keys: pl.DataFrame

    @property
    def values(self) -> np.ndarray:
        """The view's columns, float64[C, n]."""
        return self.events[3:].view(np.float64)


def stream(view: ViewDef, frame_of: Callable[[str], pl.DataFrame]) -> pl.DataFrame:
    """Events of all of a view's sources as one frame: null in columns that a source does not have.

    Args:
        view: Whose sources.
        frame_of: History of a source by its name, such as ``History.frame``.
    """
    frames = [frame_of(s.name).with_columns(pl.lit(s.name).alias(SOURCE)) for s in view.sources]
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")


def instants(column: pl.Series) -> np.ndarray:
    """A datetime column as int64 microseconds."""
    return column.cast(pl.Datetime("us")).cast(pl.Int64).to_numpy().astype(np.int64, copy=True)


def codes_of(frame: pl.DataFrame, keys: pl.DataFrame) -> np.ndarray:
    """For each row of ``frame`` the row of ``keys`` with the same entity, −1 if null or unknown: int64[n]."""
    known = keys.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_code"))
    asked = frame.select([pl.col(name).cast(dtype) for name, dtype in keys.schema.items()])
    joined = asked.join(known, on=keys.columns, how="left", maintain_order="left")
    return joined["_code"].fill_null(-1).to_numpy().astype(np.int64, copy=True)


def group_events(layout: Layout, frame: pl.DataFrame) -> Grouped:
    """Bring events (the source's columns, ``_time``, ``_known_at``, ``_offset``) into the order of the fold."""
    view = layout.view
    entity = frame.select(view.entity)
    keys = entity.drop_nulls().unique(maintain_order=True)
    codes = codes_of(entity, keys)
    times, knowns = instants(frame["_time"]), instants(frame["_known_at"])
    offsets = frame["_offset"].cast(pl.Int64).to_numpy()
    (values,) = SourceLayout(view.sources[0], [layout]).values(frame)
    before = None
    if not _in_order(times, knowns, offsets):
        before = np.lexsort((offsets, knowns, times))
        codes = codes[before]
    starts = np.empty(len(keys) + 1, np.int64)
    order = np.empty(int(np.count_nonzero(codes >= 0)), np.int64)
    k.group(codes, len(keys), starts, order)
    if before is not None:
        order = before[order]
    events = np.empty((3 + len(layout.columns), len(order)), np.int64)
    for row, column in enumerate((times, knowns, offsets, *values.view(np.int64))):
        np.take(column, order, out=events[row])
    return Grouped(events, starts, keys)


def _in_order(times: np.ndarray, knowns: np.ndarray, offsets: np.ndarray) -> bool:
    t, kn, o = np.diff(times), np.diff(knowns), np.diff(offsets)
    return bool(np.all((t > 0) | ((t == 0) & ((kn > 0) | ((kn == 0) & (o > 0))))))
