"""History that does not fit into memory: dealt by a hash of the entity into files, then answered a file at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mainspring.features.factorise import hashes_of
from mainspring.features.kernels import group

FILES = 128
"""Into how many files history is dealt."""
_SHARE = 8  # of the memory goes to a chunk that is being dealt


class Shelf:
    """Files of events, one a bucket of entities, in the order in which they came.

    Args:
        folder: An empty folder for them; their size is that of the columns that are read.
        entity: Columns that name the entity.
    """

    def __init__(self, folder: Path, entity: list[str]) -> None:
        self._folder = folder
        self._entity = entity
        self._writers: dict[int, Any] = {}
        self.rows = 0
        self.sizes = np.zeros(FILES, np.int64)

    def add(self, frame: pl.DataFrame) -> None:
        """Deal rows that all name an entity."""
        import pyarrow as pa

        if not frame.height:
            return
        order, ends = file_by_file(frame.select(self._entity))
        table = frame[order].to_arrow()
        for b, (first, after) in enumerate(pairwise(ends)):
            if first == after:
                continue
            if b not in self._writers:
                self._writers[b] = pa.ipc.new_stream(str(self._path(b)), table.schema)
            self._writers[b].write_table(table.slice(first, after - first))
            self.sizes[b] += after - first
        self.rows += frame.height

    def close(self) -> None:
        """No more rows come."""
        for writer in self._writers.values():
            writer.close()

    def take(self, b: int) -> pl.DataFrame | None:
        """The rows of one file, which is deleted; None if it has none."""
        if not self.sizes[b]:
            return None
        path = self._path(b)
        frame = pl.read_ipc_stream(path).rechunk()
        path.unlink()
        return frame

    def _path(self, b: int) -> Path:
        return self._folder / f"{b}.arrows"


def file_by_file(entities: pl.DataFrame) -> tuple[np.ndarray, list[int]]:
    """The rows of the first file, then of the next, by a hash of the entity's content (no nulls); in order within one.

    Returns:
        int64[n], rows; and where in it each file begins, and the end.
    """
    hashes = hashes_of(entities)
    # Not the bits that deal a file's rows into the buckets of the cache.
    which = (hashes & np.uint64(0xFFFFFFFF)) * np.uint64(FILES) >> np.uint64(32)
    order, starts = np.empty(len(which), np.int64), np.empty(FILES + 1, np.int64)
    group(which.view(np.int64), FILES, starts, order)
    return order, starts.tolist()


def chunks_of(
    events: pl.DataFrame | pl.LazyFrame | Iterable[pl.DataFrame], columns: list[str], memory_bytes: int
) -> Iterator[pl.DataFrame]:
    """Events in chunks that take a small share of ``memory_bytes`` each."""
    if isinstance(events, pl.LazyFrame):
        chosen = events.select(columns)
        rows = rows_a_chunk(chosen.head(1_000).collect(), memory_bytes)
        yield from chosen.collect_batches(chunk_size=rows, maintain_order=True, engine="streaming")
        return
    for frame in [events] if isinstance(events, pl.DataFrame) else events:
        yield from frame.select(columns).iter_slices(rows_a_chunk(frame.select(columns), memory_bytes))


def rows_a_chunk(frame: pl.DataFrame, memory_bytes: int) -> int:
    """How many rows like those of ``frame`` are dealt at once."""
    return max(1 << 12, int(memory_bytes / _SHARE / (3 * row_bytes(frame))))


def row_bytes(frame: pl.DataFrame) -> float:
    """Bytes of a row, at least 8 a column."""
    return max(8.0 * frame.width, frame.estimated_size() / max(1, frame.height))


def room(slots: int, rows: int, memory_bytes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Arrays for answers, float64[slots, rows] and uint8[slots, rows]: in a file if they take over half of the memory.

    The file has no name any more: it is gone once the arrays are.
    """
    shape = (slots, rows)
    if memory_bytes is None or 9 * slots * rows <= memory_bytes // 2:
        return np.empty(shape), np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as values, tempfile.TemporaryFile() as codes:
        return (
            np.memmap(values, np.float64, "w+", shape=shape).view(np.ndarray),
            np.memmap(codes, np.uint8, "w+", shape=shape).view(np.ndarray),
        )
