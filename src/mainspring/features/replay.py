"""The offline driver: the features of any moments, from history, by the functions that serve them live."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.errors import ConfigError
from mainspring.definitions import ViewDef
from mainspring.features.buckets import answer
from mainspring.features.crew import THREADS, Crew, crew
from mainspring.features.factorise import words_of
from mainspring.features.grouping import answer_rows
from mainspring.features.history import (
    KNOWN,
    NEVER,
    OFFSET,
    columns_read,
    instants,
    known_entities,
    read_events,
    whole_numbers,
)
from mainspring.features.kernels import M_LIMIT, M_ROW, M_T
from mainspring.features.layout import LONGEST_US, Layout, compile_view
from mainspring.features.shares import Progress
from mainspring.features.spill import Shelf, chunks_of, file_by_file, room

Frames = pl.DataFrame | pl.LazyFrame | Iterable[pl.DataFrame]
LEAST_MEMORY_BYTES = 64 << 20


def replay(
    view: ViewDef,
    events: Frames,
    keys: pl.DataFrame,
    t_us: Any,
    known_us: Any = None,
    known_offset: Any = None,
    threads: int = THREADS,
    memory_bytes: int | None = None,
    progress: Progress | None = None,
    folder: str | Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Answer moments (t, k) from history.

    An event counts if ``t − window <= time < t`` and it was known: ``known_at < known_us`` for historical rows, or
    ``_offset <= known_offset`` for what was served live; and if no correction that was known supersedes it.

    Without ``memory_bytes`` history is answered in memory: about 60 bytes an event for a view of one column, 16 more
    for each other column, besides ``events`` and the answers (9 bytes a value). With it, history that would take more
    is dealt into files by a hash of the entity, in chunks, and answered a file at a time; the answers are bit for bit
    the same. What must fit is one of the files: 1/128 of history, or the busiest entity.

    Args:
        view: Whose features.
        events: History of the view's sources: their columns, ``_time``, ``_known_at``, ``_offset`` and, if anything is
            corrected, ``_until_known_at`` and ``_until_offset`` (null for never); any order. A frame, a scan of files,
            or frames one after another.
        keys: The entity's columns, one row a moment; nulls name no entity.
        t_us: int64[n], microseconds since 1970 UTC, or a datetime column.
        known_us: int64[n], a datetime column or one number; this or ``known_offset``.
        known_offset: int64[n] or one number.
        threads: How many work at once.
        memory_bytes: What may be used besides ``keys`` and the moments; at least 64 MB.
        progress: Called now and then, by the thread that called; events count twice if they are dealt into files first.
        folder: Where the files go: as much room as the columns that the view reads; the system's folder for temporary
            files by default.

    Returns:
        Values float64[n, S], NaN for null, and status uint8[n, S], in the order of ``view.column_names``. Transposed
        views: each feature's values lie together. Mapped from a file that is gone with them if they would take more
        than half of ``memory_bytes``.

    Raises:
        ConfigError: Neither or both of ``known_us`` and ``known_offset`` (MS-F102), or too little memory (MS-F103).
    """
    if (known_us is None) == (known_offset is None):
        raise ConfigError(
            "MS-F102", "a moment needs known_us= or known_offset=, one of them", where=f"view {view.name}"
        )
    if memory_bytes is not None and memory_bytes < LEAST_MEMORY_BYTES:
        what = f"memory_bytes={memory_bytes:,} is too little"
        raise ConfigError("MS-F103", what, where=f"view {view.name}", hint=f"give it {LEAST_MEMORY_BYTES:,} or more")
    layout = compile_view(view)
    n = len(keys)
    keys = keys.select(view.entity)
    named = known_entities(view, keys.with_row_index("_row"))
    rows = named["_row"].cast(pl.Int64).to_numpy()
    moments = np.empty((3, len(rows)), np.int64)
    moments[M_T] = np.clip(_whole(t_us, n), -LONGEST_US, LONGEST_US)[rows]
    if known_us is None:
        moments[M_LIMIT] = np.minimum(_whole(known_offset, n), NEVER - 1)[rows]
    else:
        moments[M_LIMIT] = (np.maximum(_whole(known_us, n), -NEVER) - 1)[rows]
    moments[M_ROW] = rows
    out, status = room(layout.width, n, memory_bytes)
    with crew(threads) as hands:
        work = _Work(layout, KNOWN if known_offset is None else OFFSET, hands, out, status)
        _replay(work, events, named.select(view.entity), moments, memory_bytes, progress, folder)
        work.answer_nothing(len(rows), n)
        places = np.empty(n, np.uint32)
        places[np.concatenate((moments[M_ROW], np.setdiff1d(np.arange(n), rows, assume_unique=True)))] = np.arange(n)
        hands.share(range(layout.width + 1), lambda a, b: answer_rows(out, status, places, a, b))
    return out.T, status.T


class _Work:
    """What is the same for all events of a replay."""

    def __init__(self, layout: Layout, stamp: int, hands: Crew, out: np.ndarray, status: np.ndarray) -> None:
        self.layout, self.stamp, self.hands, self.out, self.status = layout, stamp, hands, out, status

    def answer(self, events: pl.DataFrame, keys: pl.DataFrame, moments: np.ndarray, first: int, step: Any) -> None:
        """Answer moments from all events of their entities, into the places from ``first`` on."""
        entity = list(self.layout.view.entity)
        words, asked = words_of(events.select(entity), keys, self.hands)
        columns = read_events(self.layout, events, words, self.stamp, self.hands)
        answer(self.layout, columns, asked, moments, first, self.out, self.status, self.hands, step)

    def answer_nothing(self, first: int, after: int) -> None:
        """Answer what entities without events do."""
        self.out[:, first:after] = self.layout.null[:, None]
        self.status[:, first:after] = self.layout.null_status[:, None]


def _replay(
    work: _Work,
    events: Frames,
    keys: pl.DataFrame,
    moments: np.ndarray,
    memory_bytes: int | None,
    progress: Progress | None,
    folder: str | Path | None,
) -> None:
    view = work.layout.view
    done = 0

    def step(rows: int, total: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    if not isinstance(events, pl.DataFrame | pl.LazyFrame):
        frames = iter(events)
        head = next(frames, None)
        if head is None:
            work.answer_nothing(0, moments.shape[1])
            return
        available = head.columns
        events = chain([head], frames)
    else:
        available = events.collect_schema().names()
    columns = columns_read(work.layout, work.stamp, available)
    fits = memory_bytes is None or (
        isinstance(events, pl.DataFrame) and bytes_in_memory(work.layout, events) <= memory_bytes
    )
    if memory_bytes is None or fits:
        if isinstance(events, pl.LazyFrame):
            events = events.select(columns).collect()
        elif not isinstance(events, pl.DataFrame):
            events = pl.concat([frame.select(columns) for frame in events])
        frame = known_entities(view, events.select(columns))
        work.answer(frame, keys, moments, 0, lambda rows: step(rows, frame.height))
        return
    total = events.height if isinstance(events, pl.DataFrame) else 0
    if isinstance(events, pl.LazyFrame):
        total = int(events.select(pl.len()).collect(engine="streaming").item())
    with tempfile.TemporaryDirectory(prefix="mainspring-replay-", dir=folder) as place:
        shelf = Shelf(Path(place), list(view.entity))
        for chunk in chunks_of(events, columns, memory_bytes):
            shelf.add(known_entities(view, chunk))
            step(chunk.height, 2 * max(total, done + chunk.height))
        shelf.close()
        dealt = done
        _answer_files(work, shelf, keys, moments, lambda rows: step(rows, dealt + shelf.rows))


def _answer_files(work: _Work, shelf: Shelf, keys: pl.DataFrame, moments: np.ndarray, step: Any) -> None:
    """Answer the moments of one file after the other."""
    order, ends = file_by_file(keys)
    moments[:] = moments[:, order]
    keys = keys[order]
    for b, (first, after) in enumerate(pairwise(ends)):
        frame = shelf.take(b)
        own = np.ascontiguousarray(moments[:, first:after])
        if frame is not None and first < after:
            work.answer(frame, keys[first:after], own, first, step)
            moments[:, first:after] = own
        elif frame is not None:
            step(frame.height)
        else:
            work.answer_nothing(first, after)


def bytes_in_memory(layout: Layout, events: pl.DataFrame) -> int:
    """About what a replay in memory takes besides the events themselves."""
    return events.height * (60 + 16 * len(layout.columns))


def _whole(numbers: Any, n: int) -> np.ndarray:
    """Instants or offsets as int64[n]."""
    if isinstance(numbers, pl.Series):
        numbers = instants(numbers) if isinstance(numbers.dtype, pl.Datetime) else whole_numbers(numbers)
    return np.broadcast_to(np.asarray(numbers, np.int64), n)
