"""History frames as the fold's columns: instants, order, entities as words, and the values that a view reads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.definitions import SOURCE, SourceDef, ViewDef
from mainspring.features import grouping
from mainspring.features.columns import Column
from mainspring.features.crew import ALONE, Crew
from mainspring.features.factorise import words_of
from mainspring.features.layout import Layout

KNOWN, OFFSET = 1, 2
"""What a stamp is, as places in the order (time, known_at, offset)."""
_UNTIL = {KNOWN: "_until_known_at", OFFSET: "_until_offset"}
_RISING, _SAME = 1, 2
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Events:
    """A view's events as columns, in the order of the frame.

    Attributes:
        words: int64[n], names of the entities.
        order: int64[n] each: time, known_at and offset; or time alone if the frame is in that order already.
        stamp: int64[n], what visibility is judged by; None if it is the time.
        until: int64[n], the stamp of the correction that supersedes the event, NEVER if none; None without corrections.
        values: float64[n] or int64[n] each, the view's columns; None for one that is 1.0 throughout.
    """

    words: np.ndarray
    order: tuple[np.ndarray, ...]
    stamp: np.ndarray | None
    until: np.ndarray | None
    values: tuple[np.ndarray | None, ...]


def stream(view: ViewDef, frame_of: Callable[[str], pl.DataFrame], only: pl.Expr | None = None) -> pl.DataFrame:
    """Events of all of a view's sources as one frame, with the features of the views that it uses at each event.

    Columns that a source does not have are null.

    Args:
        view: Whose sources.
        frame_of: History of a source by its name, such as ``History.frame``.
        only: Of the events, those for which this holds; over the columns of the sources.
    """
    frames = [with_known_columns(frame_of(s.name), s).with_columns(pl.lit(s.name).alias(SOURCE)) for s in view.sources]
    events = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")
    if only is not None:
        events = events.filter(only)
    if view.using:
        from mainspring.features.enrich import with_features

        events = with_features(view, events, frame_of)
    return events


def with_known_columns(frame: pl.DataFrame, source: SourceDef) -> pl.DataFrame:
    """``frame`` with a column of nulls for each that ``source`` knows and the frame has not: dropped since then."""
    gone = {name: dtype for name, dtype in source.schema.items() if name not in frame.columns}
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in gone.items()) if gone else frame


def instants(column: pl.Series) -> np.ndarray:
    """A datetime column as int64 microseconds, not copied if it can be."""
    return whole_numbers(column.cast(pl.Datetime("us")).to_physical())


def whole_numbers(column: pl.Series) -> np.ndarray:
    """An integer column as int64[n], contiguous, not copied if it can be."""
    return np.ascontiguousarray(column.cast(pl.Int64).to_numpy(), np.int64)


def known_entities(view: ViewDef, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that name an entity."""
    entity = list(view.entity)
    if any(frame[name].null_count() for name in entity):
        return frame.filter(pl.all_horizontal(pl.col(entity).is_not_null()))
    return frame


def columns_read(layout: Layout, stamp: int, available: Collection[str]) -> list[str]:
    """The columns of history that a replay of the view reads, of those there are."""
    entity, inputs = layout.view.entity, (name for c in layout.columns for name in c.inputs)
    wanted = dict.fromkeys([*entity, "_time", "_known_at", "_offset", _UNTIL[stamp], *inputs])
    return [name for name in wanted if name != _UNTIL[stamp] or name in available]


def read_events(layout: Layout, frame: pl.DataFrame, words: np.ndarray, stamp: int, crew: Crew) -> Events:
    """Events (the source's columns, ``_time``, ``_known_at``, ``_offset``) as columns.

    Args:
        layout: Of the view.
        frame: Rows that name an entity, in any order.
        words: Of their entities.
        stamp: ``KNOWN`` or ``OFFSET``.
        crew: Who looks at the order of the rows.
    """
    order = instants(frame["_time"]), instants(frame["_known_at"]), whole_numbers(frame["_offset"])
    bits = crew.share(crew.even(frame.height), lambda a, b: grouping.order_of(*order, a, b))
    until = None
    if _UNTIL[stamp] in frame.columns and frame[_UNTIL[stamp]].null_count() < frame.height:
        until = whole_numbers(frame[_UNTIL[stamp]].to_physical().fill_null(NEVER))
    return Events(
        words,
        order[:1] if all(b & _RISING for b in bits) else order,
        None if stamp == KNOWN and all(b & _SAME for b in bits) else order[stamp],
        until,
        _evaluate(frame, layout.columns),
    )


def _is_one(column: Column) -> bool:
    return column.value is None and column.where is None


def _evaluate(frame: pl.DataFrame, columns: tuple[Column, ...]) -> tuple[np.ndarray | None, ...]:
    """The columns over the frame's rows as float64[n], not copied if they can be; None for 1.0 throughout."""
    named = {f"_value_{i}": c for i, c in enumerate(columns) if not _is_one(c)}
    computed = frame.with_columns(**{n: c.unchecked if c.where is None else c.expr for n, c in named.items()})
    found = {name: np.ascontiguousarray(computed[name].to_numpy(), np.float64) for name in named}
    return tuple(found.get(f"_value_{i}") for i in range(len(columns)))


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


def group_events(layout: Layout, frame: pl.DataFrame) -> Grouped:
    """Bring events (the source's columns, ``_time``, ``_known_at``, ``_offset``) into the order of the fold."""
    frame = known_entities(layout.view, frame)
    entity = frame.select(layout.view.entity)
    words, _ = words_of(entity, entity.clear(), ALONE)
    place = np.empty(len(words), np.uint32)
    keys, starts = np.empty(len(words), np.int64), np.empty(len(words) + 1, np.int64)
    n = grouping.number(words, place, keys, starts)
    order = np.empty(len(words), np.int64)
    grouping.settle(np.arange(len(words)), place, order, 0, len(words))
    columns = [instants(frame["_time"]), instants(frame["_known_at"]), whole_numbers(frame["_offset"])]
    events = np.empty((3 + len(layout.columns), len(words)), np.int64)
    for row, column in enumerate(columns):
        events[row] = column[order]
    values = events[3:].view(np.float64)
    for row, value in enumerate(_evaluate(frame, layout.columns)):
        values[row] = 1.0 if value is None else np.where(np.isfinite(value), value + 0.0, np.nan)[order]
    grouping.sort_keys(events, starts[: n + 1].copy(), 0, n)
    return Grouped(events, starts[: n + 1].copy(), entity[order[starts[:n]]])
