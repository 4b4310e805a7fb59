"""All events that are known: the lake and the tail of the log as one, each event once.

New records are decoded as they come and kept as frames a source; nothing is read twice. A process that writes the lake
calls ``flush``; one that only reads never does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from mainspring.core.collector import paused
from mainspring.core.errors import FormatError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.definitions.values import Project, SourceDef
from mainspring.events.frames import as_recorded, default_of, fitted, frame_of, series_of, type_of, with_earlier_names
from mainspring.events.lake import META_SCHEMA, Lake, Pin
from mainspring.events.log import Log
from mainspring.events.mark import Mark, read_mark, write_mark
from mainspring.events.record import Record
from mainspring.events.record_batch import Stored
from mainspring.events.system import all_sources
from mainspring.events.versions import UNTIL_SCHEMA, with_untils

_PAGE = 20_000
_MOST_FRAMES = 32
_SETTLED_ROWS = 4_096
"""Rows are made a frame while the processor's cache still has them: a page at once takes up to four times as long."""
_SETTLED_BY_COLUMN = 8_192
"""As many of rows that lie by column, which take less room until then."""
_log = logging.getLogger(__name__)
_COMPACT_AFTER = 64
_FEW_ROWS = 64
"""Of fewer rows that lie by column it is cheaper to make rows than a frame of those that wait."""


class _Buffer:
    """One source: its rows in the lake, of which only the columns that were asked for are in memory, and the others.

    ``lake_offset`` divides them. Rows beyond it are kept whole until they are flushed; then they are let go of but for
    the columns that somebody has asked for in this process.
    """

    __slots__ = (
        *("asked", "commits", "fills", "frames", "lake_offset", "loaded", "meta"),
        *("rows", "schema", "source", "stored", "stored_rows", "unflushed", "whole"),
    )

    def __init__(self, source: SourceDef) -> None:
        self.source = source
        self.schema = {**{f.name: type_of(f) for f in source.fields}, **META_SCHEMA}
        # Elsewhere null can only mean that a row is older than the column: `fitted` sees to it when it reads.
        self.fills = {f.name: (f.aliases, default_of(f)) for f in source.fields if f.nullable and f.default is not None}
        self.asked: frozenset[str] = frozenset()
        self.loaded = False
        self.frames: list[pl.DataFrame] = []
        self.unflushed: list[pl.DataFrame] = []
        self.whole: dict[frozenset[str], pl.DataFrame] = {}
        self.rows: list[tuple[Any, ...]] = []
        self.meta: list[tuple[Any, ...]] = []
        self.stored: list[Stored] = []
        self.stored_rows = 0
        self.lake_offset = 0
        self.commits = 0

    def settle(self) -> None:
        """Make a frame of the rows that have come: of those in ``rows``, or of those in ``stored``."""
        if self.rows:
            columns = list(zip(*self.rows, strict=True)) + list(zip(*self.meta, strict=True))
            series = (series_of(self.source, *one) for one in zip(self.schema.items(), columns, strict=True))
            self.unflushed.append(pl.DataFrame(list(series)))
            self.rows.clear()
            self.meta.clear()
            self.whole.clear()
        if self.stored:
            self.unflushed.append(frame_of(self.stored, self.schema))
            self.stored.clear()
            self.stored_rows = 0
            self.whole.clear()

    def flushed(self, offset: int) -> None:
        """What had not been in the lake is there now: keep the columns that were asked for."""
        if self.loaded:
            names = self.names(self.asked)
            self.frames += [frame.select(names) for frame in self.unflushed]
            self._join()
        self.unflushed.clear()
        self.whole.clear()
        self.lake_offset = offset

    def names(self, columns: frozenset[str]) -> list[str]:
        """Columns in the order of the schema."""
        return [name for name in self.schema if name in columns]

    def tail(self) -> pl.DataFrame:
        """What is not in the lake."""
        self.settle()
        if len(self.unflushed) > _MOST_FRAMES:
            self.unflushed = [pl.concat(self.unflushed, rechunk=True)]
        return pl.concat(self.unflushed, rechunk=False) if self.unflushed else pl.DataFrame(schema=self.schema)

    def frame(self, columns: frozenset[str]) -> pl.DataFrame:
        """These columns of all that is known, as one frame; those of the lake have been loaded."""
        self.settle()
        if columns not in self.whole:
            names = self.names(columns)
            parts = [frame.select(names) for frame in (*self.frames, self.tail())]
            self.whole[columns] = pl.concat(parts, rechunk=False)
        return self.whole[columns]

    def _join(self) -> None:
        """Join the small frames at the end, and the large one in front only once they are a quarter of it."""
        if len(self.frames) <= _MOST_FRAMES:
            return
        tail = pl.concat(self.frames[1:], rechunk=True)
        if tail.height * 4 > self.frames[0].height:
            self.frames = [pl.concat([self.frames[0], tail], rechunk=True)]
        else:
            self.frames = [self.frames[0], tail]


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
        self._sources = all_sources(project.sources)
        self._buffers: dict[str, _Buffer] = {}
        self._offset = self._flushed = 0
        self._start()

    @property
    def lake(self) -> Lake:
        """The lake as it was found: what `tail` says continues that, whatever has been written since."""
        return self._lake

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
        while True:
            with paused():
                found = self._log.page(self._offset, _PAGE)
                if found and found[0].first > self._offset + 1:
                    # Another process has put what we were about to read into the lake, and trimmed the log.
                    self._lake = Lake(self._lake.path, passes_over=self._lake.passes_over)
                    self._start()
                    continue
                for one in found:
                    if isinstance(one, Stored):
                        self._take_together(one)
                    else:
                        self._take(one)
            before = self._offset
            if found:
                self._offset = found[-1].last
            if self._offset - before < _PAGE:
                return self._offset

    def frame(self, source_name: str, columns: Iterable[str] | None = None) -> pl.DataFrame:
        """All events of a source read so far, in the order of ``_offset``.

        What the lake has is read from it when it is first asked for, and only the columns that are.

        Columns are those of the source as it is defined now (missing in an older version: the default, or null), the
        same again under the names that they had before, for definitions of then, and ``_offset``, ``_id``, ``_time``,
        ``_known_at`` and ``_ingested_at``. Call ``catch_up`` first for the newest.

        A source with corrections has every version of every row, deletes too, with ``_until_known_at`` and
        ``_until_offset``: when the next version supersedes it (`events.versions`), null for never.

        Args:
            source_name: Name of the source.
            columns: Only these, and in the frame's own order; all if None.

        Raises:
            NotFoundError: No such source (MS-E201).
        """
        buffer = self._buffer(source_name)
        asked = None if columns is None else frozenset(columns)
        now = {alias: f.name for f in buffer.source.fields for alias in f.aliases}
        wanted = frozenset(buffer.schema) if asked is None else frozenset(now.get(name, name) for name in asked)
        if buffer.source.corrects is not None and (asked is None or wanted & UNTIL_SCHEMA.keys()):
            found = self._with_untils(buffer, wanted, columns)
        else:
            self._load(buffer, wanted)
            found = buffer.frame(wanted)
        return with_earlier_names(found, now, asked)

    def _with_untils(self, buffer: _Buffer, wanted: frozenset[str], columns: Iterable[str] | None) -> pl.DataFrame:
        needed = frozenset(wanted | {"_id", "_known_at", "_offset", buffer.source.corrects or ""}) - {*UNTIL_SCHEMA}
        self._load(buffer, needed)
        buffer.settle()  # what was made of earlier rows is let go of
        key = needed | {*UNTIL_SCHEMA}
        if key not in buffer.whole:
            buffer.whole[key] = with_untils(buffer.frame(needed), buffer.source)
        found = buffer.whole[key]
        return found if columns is None else found.select([name for name in found.columns if name in wanted])

    def tail(self, source_name: str) -> tuple[pl.DataFrame, int]:
        """The events that are not in the lake, and the offset up to which its table is complete.

        Raises:
            NotFoundError: No such source (MS-E201).
        """
        buffer = self._buffer(source_name)
        return buffer.tail(), buffer.lake_offset

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
            buffer.flushed(self._offset)
            buffer.commits += 1
            if buffer.commits % _COMPACT_AFTER == 0:
                self.compact(name)
        reached = min(waiting, default=self._offset)
        if reached > self._flushed:
            self._flushed = reached
            tables = {name for name, buffer in self._buffers.items() if buffer.lake_offset}
            write_mark(self._lake.path, Mark(reached, read_mark(self._lake.path).tables | tables))
        return written

    def compact(self, source_name: str) -> None:
        """Join small files of a table: only the process that owns the lake. A damaged one is told of, and left."""
        try:
            self._lake.compact(source_name)
        except FormatError as error:
            _log.error("files of the lake are not joined: %s", error)

    def retain(self, source_name: str, since_us: int, pins: Sequence[Pin] = ()) -> int:
        """Delete what is older from the lake and from here: only the process that owns the lake.

        A damaged table is told of, and left.

        Returns:
            How many rows were deleted.
        """
        try:
            deleted = self._lake.retain(source_name, since_us, pins)
        except FormatError as error:
            _log.error("what is not kept any more is not deleted: %s", error)
            return 0
        if deleted:
            buffer = self._buffer(source_name)
            buffer.loaded, buffer.frames = False, []
            buffer.whole.clear()
        return deleted

    def _start(self) -> None:
        # The mark first: a lake that is written meanwhile is ahead of it, which each table knows of itself.
        self._flushed = max(read_mark(self._lake.path).offset, self._log.first_offset() - 1)
        self._offset = self._flushed
        self._buffers = {name: _Buffer(source) for name, source in self._sources.items()}
        for name, buffer in self._buffers.items():
            buffer.lake_offset = self._lake.offset(name)

    def _load(self, buffer: _Buffer, columns: frozenset[str]) -> None:
        """Have these columns of the rows in the lake in memory, as they are in it up to ``lake_offset``."""
        if buffer.loaded and columns <= buffer.asked:
            return
        buffer.asked |= columns
        names = buffer.names(buffer.asked)
        earlier = (alias for f in buffer.source.fields if f.name in buffer.asked for alias in f.aliases)
        found = self._lake.frame(buffer.source.name, list(dict.fromkeys((*names, *earlier, "_offset"))))
        buffer.frames = []
        if found is not None:
            known = found.filter(pl.col("_offset") <= buffer.lake_offset)
            buffer.frames = [fitted(known, buffer.source, names)]
        buffer.loaded = True
        buffer.whole.clear()

    def _take_together(self, stored: Stored) -> None:
        """Take rows that lie by column: as they lie, unless rows wait before them and they are few."""
        buffer = self._buffer_of(stored.shape.source, stored.shape.version)
        is_ours = stored.shape.version == buffer.source.version and stored.first > buffer.lake_offset
        if not is_ours or (buffer.rows and stored.size < _FEW_ROWS):
            for record in stored.records():
                self._take(record)
            return
        if buffer.rows:
            buffer.settle()
        buffer.stored.append(stored)
        buffer.stored_rows += stored.size
        if buffer.stored_rows >= _SETTLED_BY_COLUMN:
            buffer.settle()

    def _buffer_of(self, name: str, version: str) -> _Buffer:
        buffer = self._buffers.get(name)
        if buffer is None:  # a source that is no longer defined: its events are kept in the lake all the same
            buffer = self._buffers[name] = _Buffer(as_recorded(self._log.shape(name, version)))
            buffer.lake_offset = self._lake.offset(name)
        return buffer

    def _take(self, record: Record) -> None:
        buffer = self._buffer_of(record.source, record.version)
        if record.offset <= buffer.lake_offset:
            return
        if buffer.stored:
            buffer.settle()
        source = buffer.source
        buffer.rows.append(record.values if record.version == source.version else record.row_for(source))
        buffer.meta.append((record.offset, record.id, record.time_us, record.known_at_us, record.ingested_at_us))
        if len(buffer.rows) >= _SETTLED_ROWS:
            buffer.settle()

    def _buffer(self, name: str) -> _Buffer:
        buffer = self._buffers.get(name)
        if buffer is None:
            raise NotFoundError("MS-E201", f"no source is named {name!r}", hint=did_you_mean(name, self._buffers))
        return buffer
