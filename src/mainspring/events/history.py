"""All events that are known: the lake and the tail of the log as one, each event once.

New records are decoded as they come and kept as frames a source; nothing is read twice. A process that writes the lake
calls ``flush``; one that only reads never does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.errors import NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.definitions.expressions import UTC_US, polars_type
from mainspring.definitions.values import Field, Project, SourceDef
from mainspring.events.lake import META_SCHEMA, Lake
from mainspring.events.log import Log
from mainspring.events.record import Record, Shape, known_length, stored_default
from mainspring.events.system import all_sources
from mainspring.events.versions import with_untils

_MARK = "_flushed"
_PAGE = 20_000
_MOST_FRAMES = 32
_COMPACT_AFTER = 64


class _Buffer:
    """One source: frames of what is known, rows that no frame holds yet, and the frame of those not in the lake."""

    __slots__ = ("commits", "fills", "frames", "lake_offset", "meta", "rows", "schema", "source", "unflushed", "whole")

    def __init__(self, source: SourceDef) -> None:
        self.source = source
        self.schema = {**{f.name: _type_of(f) for f in source.fields}, **META_SCHEMA}
        # Elsewhere null can only mean that a row is older than the column: `_fit` sees to it when it reads.
        self.fills = {f.name: _default(f) for f in source.fields if f.nullable and f.default is not None}
        self.frames: list[pl.DataFrame] = []
        self.unflushed: list[pl.DataFrame] = []
        self.whole: pl.DataFrame | None = None
        self.rows: list[tuple[Any, ...]] = []
        self.meta: list[tuple[Any, ...]] = []
        self.lake_offset = 0
        self.commits = 0

    def settle(self) -> None:
        """Make a frame of the rows that have come."""
        if not self.rows:
            return
        columns = list(zip(*self.rows, strict=True)) + list(zip(*self.meta, strict=True))
        frame = pl.DataFrame(
            [
                pl.Series(name, values, dtype=pl.Int64() if dtype == UTC_US else dtype, strict=True).cast(dtype)
                for (name, dtype), values in zip(self.schema.items(), columns, strict=True)
            ]
        )
        self.rows.clear()
        self.meta.clear()
        self.whole = None
        self.frames.append(frame)
        self.unflushed.append(frame)

    def frame(self) -> pl.DataFrame:
        """All that is known, as one frame."""
        self.settle()
        if self.whole is None:
            if len(self.frames) > _MOST_FRAMES:
                # Join the small ones at the end, and the large one in front only once they are a quarter of it.
                tail = pl.concat(self.frames[1:], rechunk=True)
                if tail.height * 4 > self.frames[0].height:
                    self.frames = [pl.concat([self.frames[0], tail], rechunk=True)]
                else:
                    self.frames = [self.frames[0], tail]
            if not self.frames:
                whole = pl.DataFrame(schema=self.schema)
            else:
                whole = self.frames[0] if len(self.frames) == 1 else pl.concat(self.frames, rechunk=False)
            self.whole = with_untils(whole, self.source)
        return self.whole


class History:
    """Lake and log tail of a project.

    Args:
        project: Its sources, and the system's own, are known here by name.
        log: Only read from.
        lake: Written to by ``flush`` only.
    """

    def __init__(self, project: Project, log: Log, lake: Lake) -> None:
        self._log = log
        self._lake = lake
        self._mark = lake.path / _MARK
        self._sources = all_sources(project.sources)
        self._buffers: dict[str, _Buffer] = {}
        self._offset = self._flushed = 0
        self._start()

    @property
    def offset(self) -> int:
        """The log offset up to which everything has been read."""
        return self._offset

    @property
    def flushed_offset(self) -> int:
        """The log offset up to which everything is in the lake: the log may be trimmed up to there."""
        return self._flushed

    def catch_up(self) -> int:
        """Read what is new in the log; returns the offset read up to."""
        while records := self._log.read(self._offset, _PAGE):
            if records[0].offset > self._offset + 1:
                # Another process has put what we were about to read into the lake, and trimmed the log.
                self._lake = Lake(self._lake.path)
                self._start()
                continue
            for record in records:
                self._take(record)
            self._offset = records[-1].offset
            if len(records) < _PAGE:
                break
        return self._offset

    def frame(self, source_name: str) -> pl.DataFrame:
        """All events of a source read so far, in the order of ``_offset``.

        Columns are those of the source as it is defined now (missing in an older version: the default, or null),
        ``_offset``, ``_id``, ``_time``, ``_known_at`` and ``_ingested_at``. Call ``catch_up`` first for the newest.

        A source with corrections has every version of every row, deletes too, with ``_until_known_at`` and
        ``_until_offset``: when the next version supersedes it (`events.versions`), null for never.

        Raises:
            NotFoundError: No such source (MS-E201).
        """
        return self._buffer(source_name).frame()

    def flush(self, *, least_rows: int = 1) -> int:
        """Write what is not there yet to the lake, exactly once: only the process that owns the lake.

        Args:
            least_rows: Wait until a source has as many; a source that waits holds ``flushed_offset`` back.

        Returns:
            How many rows were written.
        """
        written = 0
        waiting: list[int] = []
        for name, buffer in self._buffers.items():
            buffer.settle()
            if not buffer.unflushed:
                continue
            frame = pl.concat(buffer.unflushed) if len(buffer.unflushed) > 1 else buffer.unflushed[0]
            if frame.height < least_rows:
                waiting.append(int(frame["_offset"][0]) - 1)
                continue
            written += self._lake.append(name, frame, self._offset, buffer.fills)
            buffer.unflushed.clear()
            buffer.lake_offset = self._offset
            buffer.commits += 1
            if buffer.commits % _COMPACT_AFTER == 0:
                self._lake.compact(name)
        reached = min(waiting, default=self._offset)
        if reached > self._flushed:
            self._flushed = reached
            self._write_mark(reached)
        return written

    def _start(self) -> None:
        # The mark first: a lake that is written meanwhile is ahead of it, which each table knows of itself.
        self._flushed = max(self._read_mark(), self._log.first_offset() - 1)
        self._offset = self._flushed
        self._buffers = {name: _Buffer(source) for name, source in self._sources.items()}
        for buffer in self._buffers.values():
            self._load(buffer)

    def _load(self, buffer: _Buffer) -> None:
        name = buffer.source.name
        buffer.lake_offset = self._lake.offset(name)
        found = self._lake.frame(name)
        if found is not None:
            buffer.frames = [_fit(found, buffer.source)]
            self._lake.forget(name)

    def _take(self, record: Record) -> None:
        buffer = self._buffers.get(record.source)
        if buffer is None:  # a source that is no longer defined: its events are kept in the lake all the same
            buffer = _Buffer(_as_recorded(self._log.shape(record.source, record.version)))
            self._load(buffer)
            self._buffers[record.source] = buffer
        if record.offset <= buffer.lake_offset:
            return
        source = buffer.source
        buffer.rows.append(record.values if record.version == source.version else record.row_for(source))
        buffer.meta.append((record.offset, record.id, record.time_us, record.known_at_us, record.ingested_at_us))

    def _buffer(self, name: str) -> _Buffer:
        buffer = self._buffers.get(name)
        if buffer is None:
            raise NotFoundError("MS-E201", f"no source is named {name!r}", hint=did_you_mean(name, self._buffers))
        return buffer

    def _read_mark(self) -> int:
        """Where to read on. Losing the mark costs time, never an event: each table knows what it has."""
        try:
            text = self._mark.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            text = ""
        return int(text) if text.isdigit() else 0

    def _write_mark(self, offset: int) -> None:
        self._lake.path.mkdir(parents=True, exist_ok=True)
        scratch = Path(f"{self._mark}.{os.getpid()}")
        scratch.write_text(str(offset), encoding="ascii")
        scratch.replace(self._mark)


def _fit(frame: pl.DataFrame, source: SourceDef) -> pl.DataFrame:
    """``frame`` with the columns of ``source``, as `Record.row_for` does it: what a row did not have is the default."""
    columns = [_fitted(field, is_known=field.name in frame.columns) for field in source.fields]
    return frame.select(*columns, *(pl.col(name).cast(dtype) for name, dtype in META_SCHEMA.items()))


def _fitted(field: Field, *, is_known: bool) -> pl.Expr:
    if not is_known:
        return _default(field).alias(field.name)
    column = pl.col(field.name)
    if field.kind == "vector" and (length := known_length(field)) is not None:  # another under an older contract: null
        column = pl.when(column.list.len() == length).then(column)
    column = column.cast(_type_of(field))
    return column.fill_null(_default(field)) if field.has_default and not field.nullable else column


def _default(field: Field) -> pl.Expr:
    """What a row holds that is older than the column."""
    return pl.lit(stored_default(field)).cast(_type_of(field))


def _type_of(field: Field) -> Any:
    return pl.List(pl.Float64) if field.kind == "vector" and known_length(field) is None else polars_type(field)


def _as_recorded(shape: Shape) -> SourceDef:
    """A source as its records say it was."""
    fields = tuple(Field(n, k, nullable=True) for n, k in zip(shape.columns, shape.kinds, strict=True))
    return SourceDef(shape.source, fields, time="", id=shape.id)
