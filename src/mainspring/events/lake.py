"""The lake: one Delta table a source, written exactly once, read as polars frames.

Every commit carries the log offset it reaches as an application transaction of Delta, in the same atomic step as the
rows. Whoever is killed between a commit and anything else finds out from the table itself what is already in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from mainspring.core.errors import ConfigError, FormatError, UnavailableError
from mainspring.core.names import check_name
from mainspring.definitions.expressions import UTC_US
from mainspring.events.encoding import SAMPLE_ROWS, writer_properties
from mainspring.events.lake_damage import GONE, damaged, reading, refuse_empty, refuse_gone
from mainspring.events.mark import read_mark
from mainspring.events.reach import rows_and_reach
from mainspring.events.sums import CHANGED, FirstReads, changed, note_sums
from mainspring.events.unread import Unread, unread

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pa_dataset
    from deltalake import WriterProperties

APP = "mainspring-log"
META_SCHEMA: dict[str, Any] = {
    "_offset": pl.Int64(),
    "_id": pl.String(),
    "_time": UTC_US,
    "_known_at": UTC_US,
    "_ingested_at": UTC_US,
}
Fill = tuple[Sequence[str], pl.Expr]
_ATTEMPTS = 3
_CHECKPOINT = 100
"""Commits from before a checkpoint are not read any more; the library makes one after as many."""
_JOINED_BYTES = 104_857_600
"""Files below this size are joined into larger ones."""
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_STATISTICS = "delta.dataSkippingStatsColumns"
"""Columns whose ends the table's log has for each file; unasked they are the first 32, and ours are the last."""


@dataclass(frozen=True)
class Pin:
    """Rows that may not be deleted: up to an offset of the log, from an event time on (None: all)."""

    last_offset: int
    since_us: int | None = None


class _Table:
    """A Delta table's folder, and the table once there is one."""

    __slots__ = ("delta", "path")

    def __init__(self, path: Path, delta: DeltaTable | None) -> None:
        self.path = path
        self.delta = delta


class Lake:
    """The Delta tables under one folder. One process writes; any may read.

    Args:
        path: The folder.
        passes_over: For who only reads: ``frame`` has what can be read, and ``unread`` the files that it lacks.

    Raises:
        ConfigError: The folder's path holds a percent escape, which Delta's library would decode (MS-E309).
        FormatError: A file of a table cannot be read, in whatever looks at it (MS-E903).
    """

    def __init__(self, path: Path, *, passes_over: bool = False) -> None:
        self.passes_over = passes_over
        self.unread: dict[Path, Unread] = {}
        if _ESCAPE.search(str(path.resolve())):
            raise ConfigError("MS-E309", "a lake's folder cannot have a percent escape in its path", where=str(path))
        self.path = path
        self._tables: dict[str, _Table] = {}

    def sources(self) -> tuple[str, ...]:
        """Names of the sources that have a table, or had one whose log was taken away."""
        if not self.path.is_dir():
            return ()
        there = {p.name for p in self.path.iterdir() if (p / "_delta_log").is_dir()}
        return tuple(sorted(there | read_mark(self.path).tables))

    def append(
        self, source: str, frame: pl.DataFrame, last_offset: int, fills: Mapping[str, Fill] | None = None
    ) -> int:
        """Write the rows of ``frame`` that are not in yet, exactly once.

        Args:
            source: Name of the source, and of its table.
            frame: Columns of the source and those of ``META_SCHEMA``, in the order of ``_offset``.
            last_offset: The log offset that the source's table is complete up to once this is in.
            fills: What older rows hold in a column that the table does not have yet: what they have under one of these
                names, else this value; null in all others.

        Returns:
            How many rows were written; 0 when all were in.
        """
        for _ in range(_ATTEMPTS):
            self.refresh(source)
            known, rows = self.offset(source), as_lists(frame)
            if not rows.is_empty() and rows["_offset"][0] <= known:  # else nothing is copied
                rows = rows.filter(pl.col("_offset") > known)
            if last_offset <= known or rows.is_empty():
                return 0
            try:
                self._commit(source, rows, last_offset, fills or {})
            except CommitFailedError:
                continue  # another process was first: look again at what is in
            note_sums(self.path / source, self._files(source))
            return rows.height
        raise UnavailableError("MS-E310", f"others keep writing to the lake's table {source}", where=str(self.path))

    def _commit(self, source: str, rows: pl.DataFrame, last_offset: int, fills: Mapping[str, Fill]) -> None:
        table = self._table(source)
        # Without retries: Delta would put the same rows after another writer's, application transaction or not.
        properties = CommitProperties(app_transactions=[Transaction(APP, last_offset)], max_commit_retries=0)
        if table.delta is None:
            table.path.mkdir(parents=True, exist_ok=True)
            write_deltalake(
                str(table.path),
                _as_arrow(rows),
                mode="append",
                configuration={_STATISTICS: ",".join(_skipped_by(rows))},
                commit_properties=properties,
                writer_properties=writer_properties(rows),
            )
            table.delta = DeltaTable(str(table.path))
            return
        noted = table.delta.metadata().configuration.get(_STATISTICS, "").split(",")
        if set(_skipped_by(rows)) - set(noted):  # a time is new, or an earlier release made the table
            table.delta.alter.set_table_properties({_STATISTICS: ",".join(_skipped_by(rows))})
        known = {f.name: str(f.type) for f in table.delta.schema().fields}
        changes = [_filled(fill, known).alias(name) for name, fill in fills.items() if name not in known]
        widened = [name for name, dtype in rows.schema.items() if dtype == pl.Float64 and _is_int(known.get(name, ""))]
        older = None
        if changes or widened:
            self._refuse_changed(source, self._files(source))
            older = self.frame(source)
        if older is not None:
            # Once, in one step: afterwards a row without such a column looks like one that had null in it, and into a
            # column of whole numbers Delta would write the whole part of a float without a word.
            older = older.with_columns(*changes, pl.col(widened).cast(pl.Float64))
            rows = pl.concat([older, rows], how="diagonal_relaxed")
        write_deltalake(
            table.delta,
            _as_arrow(rows),
            mode="append" if older is None else "overwrite",
            schema_mode="overwrite" if widened else None if known.keys() == set(rows.columns) else "merge",
            commit_properties=properties,
            writer_properties=writer_properties(rows),
        )

    def offset(self, source: str) -> int:
        """The log offset up to which the source's table is complete; 0 without a table."""
        delta = self._table(source).delta
        return 0 if delta is None else delta.transaction_version(APP) or 0

    def version(self, source: str) -> int:
        """Delta version of the table: names exactly these rows for ever; -1 without a table."""
        delta = self._table(source).delta
        return -1 if delta is None else delta.version()

    def refresh(self, source: str) -> None:
        """See what another process has written since."""
        table = self._table(source)
        if table.delta is not None:
            known = table.delta.version()
            with reading(table.path):
                refuse_gone(table.path, known)
                table.delta.update_incremental()
                refuse_empty(table.path, known, table.delta.version())

    def frame(self, source: str, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """The table's rows in the order of ``_offset``; None without a table.

        Args:
            source: Name of the source.
            columns: Only these; one that no file has is missing from the answer too.
        """
        files = self._files(source)
        if not files:
            return None
        wanted = None if columns is None else {*columns, "_offset"}
        frames, first = [], FirstReads(self.path / source)
        for path in files:
            try:
                frames.append(self._read(source, path, wanted, first))
            except FormatError as error:
                if not self.passes_over:
                    raise
                self.unread[path] = unread(source, path, self._table(source).delta, error)
        if not frames:
            return None
        frames.sort(key=lambda f: f["_offset"].min() or 0)
        frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed", rechunk=False)
        if not frame["_offset"].is_sorted():  # compaction does not keep the order
            frame = frame.sort("_offset")
        return frame if columns is None else frame.select([name for name in columns if name in frame.columns])

    def _read(self, source: str, path: Path, wanted: Collection[str] | None, first: FirstReads) -> pl.DataFrame:
        """The rows of a file of a table."""
        table = self.path / source
        with reading(table, path):
            if first.is_changed(path):
                raise damaged(table, CHANGED, path)
            return _read(path, wanted)

    def _files(self, source: str, predicate: str | None = None) -> list[Path]:
        """The files of the table as it was last looked at, or those that may have rows for which a predicate holds."""
        table = self._table(source)
        if table.delta is None:
            return []
        # What lies below the table's folder is safe as it stands in a URI, also where the folder's own name is not.
        depth = 1 + len(table.delta.metadata().partition_columns)
        return [
            table.path.joinpath(*uri.split("/")[-depth:])
            for uri in table.delta.file_uris(file_pruning_predicate=predicate)
        ]

    def dataset(self, source: str) -> pa_dataset.Dataset | None:
        """The table as it was last looked at, to be scanned column by column and file by file; None without one."""
        from mainspring.events.scan import CheckedDataset

        table = self._table(source)
        return None if table.delta is None else CheckedDataset.of(table.delta, table.path)

    def count(self, source: str, reach_us: int | None = None) -> tuple[int, int]:
        """How many rows the source's table has, and how many of them are not older than ``reach_us`` before the newest.

        Both from what the table's log says of each file (`reach`). Of a file that lies partly within reach the
        share of its span is counted, so the second number is an estimate.
        """
        delta = self._table(source).delta
        if delta is None:
            return 0, 0
        with reading(self.path / source):
            files = rows_and_reach(delta, self.path / source)
        total = sum(n for n, _, _ in files)
        if reach_us is None:
            return total, total
        since_us = max((high for _, _, high in files), default=0) - reach_us
        near = 0.0
        for n, low, high in files:
            within = high >= since_us if high == low else (high - max(low, since_us)) / (high - low)
            near += n * max(within, 0.0)
        return total, round(near)

    def retain(self, source: str, since_us: int, pins: Sequence[Pin] = ()) -> int:
        """Delete the rows whose event time lies before a moment; their files go after a week.

        Args:
            source: Name of the source.
            since_us: Rows from then on stay.
            pins: What stays besides.

        Returns:
            How many rows were deleted.
        """
        delta = self._table(source).delta
        if delta is None:
            return 0
        kept = [
            f"NOT (_offset <= {pin.last_offset}" + (f" AND _time >= {_moment(pin.since_us)})" if pin.since_us else ")")
            for pin in pins
        ]
        predicate = " AND ".join([f"_time < {_moment(since_us)}", *kept])
        touched = self._files(source, predicate)
        if not touched:
            return 0
        before = self.count(source)[0]
        self._refuse_changed(source, touched)
        with reading(self.path / source):
            delta.delete(predicate, writer_properties=_properties_like(touched))
        note_sums(self.path / source, self._files(source))
        return before - self.count(source)[0]

    def compact(self, source: str) -> int:
        """Join the table's small files into larger ones. They, and what a killed writer left, go after a week.

        A version of the table can be read for as long.

        Returns:
            How many files were joined.
        """
        table = self._table(source)
        if table.delta is None:
            return 0
        small = [path for path in self._files(source) if path.exists() and path.stat().st_size < _JOINED_BYTES]
        self._refuse_changed(source, small)
        with reading(table.path):
            properties = _properties_like(small)
            done = table.delta.optimize.compact(target_size=_JOINED_BYTES, writer_properties=properties)
        table.delta.vacuum(dry_run=False)
        note_sums(table.path, self._files(source))
        return int(done["numFilesRemoved"])

    def _refuse_changed(self, source: str, files: Sequence[Path]) -> None:
        """Refuse to write rows anew that are read from changed bytes: their new file would be as good as any."""
        for path in changed(self.path / source, files):
            raise damaged(self.path / source, CHANGED, path)

    def _table(self, source: str) -> _Table:
        found = self._tables.get(source)
        if found is None or found.delta is None:
            path = self.path / check_name(source, "source")
            delta: DeltaTable | None = None
            with reading(path):
                with suppress(TableNotFoundError):  # killed before the first commit
                    delta = DeltaTable(str(path)) if (path / "_delta_log").is_dir() else None
                if delta is None and source in read_mark(self.path).tables:
                    raise damaged(path, GONE)
                if delta is not None:
                    refuse_empty(path, delta.version() - _CHECKPOINT, delta.version())
            found = self._tables[source] = _Table(path, delta)
        return found


def _is_int(kind: str) -> bool:
    return kind == 'PrimitiveType("long")'


def _filled(fill: Fill, known: Collection[str]) -> pl.Expr:
    names, value = fill
    stored = [name for name in names if name in known]
    return pl.coalesce(stored) if stored else value


def _moment(time_us: int) -> str:
    """A moment as the SQL of Delta's library says it."""
    return f"arrow_cast({time_us}, 'Timestamp(Microsecond, Some(\"UTC\"))')"


def _read(path: Path, columns: Collection[str] | None) -> pl.DataFrame:
    """A file, or those of ``columns`` that it has."""
    if columns is None:
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    has = pl.read_parquet_schema(path)
    return pl.read_parquet(path, columns=[c for c in has if c in columns], glob=False, hive_partitioning=False)


def _skipped_by(rows: pl.DataFrame) -> list[str]:
    """Columns by whose ends a query leaves files out: offset and times."""
    return ["_offset", *(name for name, dtype in rows.schema.items() if dtype == UTC_US)]


def _properties_like(files: Sequence[Path]) -> WriterProperties:
    """For a writer of rows that are read from these files."""
    some = [pl.read_parquet(path, n_rows=SAMPLE_ROWS, glob=False, hive_partitioning=False) for path in files[:1]]
    return writer_properties(some[0] if some else pl.DataFrame())


def _as_arrow(frame: pl.DataFrame) -> pa.Table:
    """``frame`` with text as strings: as string views, which polars hands over, pyarrow cannot compare it to a text."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def as_lists(frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with vectors as lists: Delta has no arrays of a fixed length, and a contract may change the length."""
    vectors = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Array)]
    return frame.with_columns(pl.col(vectors).arr.to_list()) if vectors else frame
