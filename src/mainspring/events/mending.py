"""Mend a table of the lake of which a file is damaged: the log is the truth, and what it no longer has is in the files.

What the log still has comes from the log again. Of what it has not, every row that can still be read is taken: from the
table's files, and where one of them cannot be read from those that it was made of, which stay for a week. The damaged
table is moved aside and nothing is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from polars.exceptions import PolarsError

from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.core.names import did_you_mean
from mainspring.events.lake import APP, Lake
from mainspring.events.log import Log
from mainspring.events.mark import Mark, read_mark, write_mark
from mainspring.events.sums import CHANGED, NAME, are_damaged, changed, read_sums

ASIDE = "_damaged"
_LOG = "_delta_log"


@dataclass(frozen=True)
class Fault:
    """A file that cannot be read, or is not there.

    Attributes:
        path: In the table's folder.
        why: What is wrong, in the words of the reader.
        rows: Rows that it should have; None if nobody knows.
    """

    path: str
    why: str
    rows: int | None = None


@dataclass(frozen=True)
class Mended:
    """What became of a table.

    Attributes:
        rows: Rows from before the log's beginning that the new table has; the worker adds what the log has.
        from_log: The offset that the log is read from again.
        lost: Rows from before it that no file has any more; None if nobody knows how many there were.
        aside: Where the damaged table is; None when its folder was gone.
    """

    source: str
    rows: int
    from_log: int
    lost: int | None
    aside: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _File:
    """A data file that a commit added or removed.

    Attributes:
        changes: Whether rows came or went with it: compaction only moves them.
        rows: That it should have; None if nobody knows.
    """

    commit: int
    path: str
    is_add: bool
    changes: bool
    rows: int | None


@dataclass(frozen=True)
class _Commits:
    """What can be read of a table's own log.

    Attributes:
        files: Added and removed, in the order of the commits.
        offset: The offset of the log up to which the last readable commit says that the table is complete.
        faults: Commits that cannot be read.
        present: Files that the table consists of.
    """

    files: tuple[_File, ...]
    offset: int
    faults: tuple[Fault, ...]
    present: tuple[tuple[str, int | None], ...]


def faults(lake: Lake, source: str) -> list[Fault]:
    """Read a whole table; what is damaged of it, or nothing.

    Raises:
        NotFoundError: The lake has no such table (MS-E313).
    """
    folder = _folder(lake, source)
    return _faults(folder, _commits(folder))


def unsummed(lake: Lake, source: str) -> int:
    """How many files of a table have no checksum yet: changed bytes of theirs may not be seen.

    Raises:
        NotFoundError: The lake has no such table (MS-E313).
    """
    folder = _folder(lake, source)
    known = read_sums(folder)
    return sum(path not in known for path, _ in _commits(folder).present)


def rebuild(lake: Lake, source: str, log: Log, now_us: int) -> Mended:
    """Make a damaged table anew. Only while no process writes the lake; the next worker reads the log again.

    Args:
        lake: The lake.
        source: Whose table.
        log: Only read from.
        now_us: For the name of the folder that the damaged table goes to.

    Raises:
        NotFoundError: The lake has no such table (MS-E313).
        RefusedError: It is not damaged (MS-E314).
    """
    folder = _folder(lake, source)
    commits = _commits(folder)
    if not _faults(folder, commits):
        hint = "mainspring lake check reads every table"
        raise RefusedError("MS-E314", f"the lake's table {source} is not damaged", where=str(folder), hint=hint)
    found = _salvaged(folder, commits)
    first_offset = log.first_offset()
    kept = found.filter(pl.col("_offset") < first_offset)
    lost = None
    counts = [rows for _, rows in commits.present if rows is not None]
    if not commits.faults and len(counts) == len(commits.present):
        there = {*found["_offset"].to_list(), *_offsets(log, source, commits.offset)}
        lost = max(sum(counts) - len(there), 0)
    tables = read_mark(lake.path).tables
    write_mark(lake.path, Mark(0, tables))  # first: whoever is killed below, the log is read from its beginning
    aside = lake.path / ASIDE / f"{source}-{now_us}"
    scratch = lake.path / ASIDE / f"{source}-{now_us}.new"
    scratch.mkdir(parents=True)
    if kept.height:
        Lake(scratch).append(source, kept, first_offset - 1)
    was_there = folder.exists()
    if was_there:
        folder.rename(aside)
    if kept.height:
        (scratch / source).rename(folder)
    else:
        write_mark(lake.path, Mark(0, tables - {source}))
    scratch.rmdir()
    return Mended(source, kept.height, first_offset, lost, str(aside) if was_there else None)


def _folder(lake: Lake, source: str) -> Path:
    if source not in lake.sources():
        hint = did_you_mean(source, lake.sources())
        raise NotFoundError("MS-E313", f"the lake has no table {source!r}", where=str(lake.path), hint=hint)
    return lake.path / source


def _commits(folder: Path) -> _Commits:
    files: list[_File] = []
    broken: list[Fault] = []
    offset = 0
    log = folder / _LOG
    expected = None if any(log.glob("*.checkpoint*.parquet")) else 0  # before a checkpoint, commits may have gone
    for path in sorted(p for p in log.glob("*.json") if p.stem.isdigit()):
        if expected is not None and int(path.stem) != expected:
            broken.append(Fault(f"{_LOG}/{expected:020d}.json", "the commit is missing"))
        expected = int(path.stem) + 1
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            files += [file for line in lines for file in _files(int(path.stem), line)]
            claims = [line["txn"]["version"] for line in lines if line.get("txn", {}).get("appId") == APP]
            offset = max(offset, *claims, 0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            broken.append(Fault(f"{_LOG}/{path.name}", f"the commit cannot be read: {_short(error)}"))
            continue
        if not lines:
            broken.append(Fault(f"{_LOG}/{path.name}", "the commit is empty"))
    try:
        added = pl.DataFrame(DeltaTable(str(folder)).get_add_actions(flatten=True))
        present = tuple(zip(map(unquote, added["path"].to_list()), added["num_records"].to_list(), strict=True))
    except (DeltaError, PolarsError, OSError) as error:
        broken += [] if broken else [Fault(_LOG, _short(error))]
        now = {one.path: one for one in files if one.is_add}
        gone = {one.path for one in files if not one.is_add}
        present = tuple((path, one.rows) for path, one in now.items() if path not in gone)
    return _Commits(tuple(files), offset, tuple(broken), present)


def _files(commit: int, line: Mapping[str, Any]) -> Iterator[_File]:
    for kind in ("add", "remove"):
        if kind in line:
            said = line[kind]
            rows = json.loads(said.get("stats") or "{}").get("numRecords")
            yield _File(commit, unquote(said["path"]), kind == "add", bool(said["dataChange"]), rows)


def _faults(folder: Path, commits: _Commits) -> list[Fault]:
    found = list(commits.faults)
    if are_damaged(folder):
        found.append(Fault(NAME, "the checksums are damaged: whether the bytes of files have changed cannot be said"))
    wrong = {*changed(folder, [folder / path for path, _ in commits.present])}
    for path, rows in commits.present:
        if folder / path in wrong:
            found.append(Fault(path, CHANGED, rows))
            continue
        try:
            n = pl.read_parquet(folder / path, glob=False, hive_partitioning=False).height
        except (PolarsError, OSError) as error:
            found.append(Fault(path, _short(error), rows))
            continue
        if rows is not None and n != rows:
            found.append(Fault(path, f"it has {n} rows", rows))
    return found


def _salvaged(folder: Path, commits: _Commits) -> pl.DataFrame:
    """Every row of the table that can still be read, once, in the order of ``_offset``.

    A file that only compaction removed holds rows of the table, for as long as nothing was deleted after it. Where a
    commit cannot be read, a file that no other one names may be of it: of a writer that was killed, its rows came
    again, and an event is known by its offset. Of these the newest says what holds: a later one may have been made anew
    of earlier ones. A file whose bytes have changed says nothing: what it would be read as nobody wrote.
    """
    named = {one.path for one in commits.files}
    present = [path for path, _ in commits.present]
    deleted = max((one.commit for one in commits.files if not one.is_add and one.changes), default=-1)
    merged = [f.path for f in commits.files if not f.is_add and not f.changes and f.commit > deleted]
    others = [p for p in folder.glob("*.parquet") if p.name not in named] if commits.faults else []
    unnamed = [p.name for p in sorted(others, key=lambda p: p.stat().st_mtime_ns, reverse=True)]
    paths = list(dict.fromkeys((*present, *merged, *unnamed)))
    wrong = {*changed(folder, [folder / path for path in paths])}
    frames = []
    for path in paths:
        if folder / path in wrong:
            continue
        try:
            frames.append(pl.read_parquet(folder / path, glob=False, hive_partitioning=False))
        except (PolarsError, OSError):
            continue
    if not frames:
        return pl.DataFrame(schema={"_offset": pl.Int64()})
    return pl.concat(frames, how="diagonal_relaxed").unique("_offset", keep="first").sort("_offset")


def _offsets(log: Log, source: str, upto: int) -> Iterator[int]:
    """Offsets of a source's events that the log has."""
    after = 0
    while after < upto and (records := log.read(after)):
        yield from (one.offset for one in records if one.source == source and one.offset <= upto)
        after = records[-1].offset


def _short(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
