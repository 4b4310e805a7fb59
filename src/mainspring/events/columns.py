"""Columns of a file as columns of a source: pick the known ones, and make an id or a time of the row's place.

A file that people have rarely fits a contract: its header says "Sale Price", it has columns that a source does not
want, its rows have no id. Picking is said by whoever loads the file; without it an unknown column is an error.
"""

from __future__ import annotations

import csv
import keyword
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.errors import ContractError
from mainspring.core.names import did_you_mean, snake_case
from mainspring.definitions.values import Field, SourceDef
from mainspring.events.file_rows import FileRow, quoted, read_rows, separator_hint

ROW_ZERO_US = 946_684_800_000_000  # 2000-01-01: long ago, and later than 1970
HOUR_US = 3_600_000_000
_OTHER = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Pick:
    """How rows of a file become rows of a source.

    Attributes:
        id: Column of the source that is made of the file's name and the row's number.
        time: Column of the source that is made of the row's place, from 2000-01-01.
        step_us: Time from one row to the next, for such a column.
    """

    id: str | None = None
    time: str | None = None
    step_us: int = HOUR_US


def column_names(headers: Iterable[str]) -> list[str]:
    """Headers of a file as names of columns, as Python can write them; the same name a second time gets a number.

    >>> column_names(["Sale Price", "sale_price", "SqFt", "", "2nd", "class"])
    ['sale_price', 'sale_price_2', 'sq_ft', 'column', 'c_2nd', 'class_']
    """
    out: list[str] = []
    for header in headers:
        name = _OTHER.sub("_", snake_case(header.strip())).strip("_")[:90] or "column"
        name = f"c_{name}" if name[0].isdigit() else f"{name}_" if keyword.iskeyword(name) else name
        unique, n = name, 1
        while unique in out:
            n += 1
            unique = f"{name}_{n}"
        out.append(unique)
    return out


def picked_rows(path: Path, source: SourceDef, pick: Pick) -> Iterator[FileRow]:
    """The rows of a file with the columns of ``source`` alone, found by name or by their header as a name.

    Raises:
        ContractError: A column that the source needs is not there (MS-E405), or as `read_rows`.
    """
    for role, column in (("id", pick.id), ("time", pick.time)):
        if column is not None and column not in source.columns:
            hint = did_you_mean(column, source.columns)
            raise ContractError("MS-E405", f"{source.name} has no column {column!r} for {role}", hint=hint)
    suffix = path.suffix.lower()
    if suffix == ".parquet" and path.is_file() and path.stat().st_size:
        yield from _made(_parquet(path, source, pick), path, pick)
    elif suffix == ".csv" and path.is_file() and path.stat().st_size:
        yield from _made(_csv(path, source, pick), path, pick)
    else:
        yield from _made((_json(row, source) for row in read_rows(path, source)), path, pick)


def _made(rows: Iterable[FileRow], path: Path, pick: Pick) -> Iterator[FileRow]:
    """Rows with an id and a time of their place, where those are asked for."""
    for number, row in enumerate(rows, start=1):
        if row.fields is None:
            yield row
            continue
        made: dict[str, Any] = {}
        if pick.id is not None:
            made[pick.id] = f"{path.stem}-{number}"
        if pick.time is not None:
            made[pick.time] = ROW_ZERO_US + number * pick.step_us
        yield msgspec.structs.replace(row, fields=row.fields | made)


def _matched(headers: Sequence[str], path: Path, source: SourceDef, pick: Pick) -> dict[str, str]:
    """Header of the file by column of the source."""
    by_name = dict(zip(column_names(headers), headers, strict=True)) | {header: header for header in headers}
    found = {
        f.name: next(by_name[name] for name in (f.name, *f.aliases) if name in by_name)
        for f in source.fields
        if f.name not in (pick.id, pick.time) and not by_name.keys().isdisjoint((f.name, *f.aliases))
    }
    missing = [
        field.name
        for field in source.fields
        if field.name not in found
        and field.name not in (pick.id, pick.time)
        and not field.nullable
        and not field.has_default
    ]
    if missing:
        raise ContractError(
            "MS-E405",
            f"the file has no column {quoted(missing)} for {source.name}",
            where=str(path),
            hint=separator_hint(headers, path) or _missing_hint(missing, by_name, source),
        )
    return found


def _missing_hint(missing: Sequence[str], headers: Iterable[str], source: SourceDef) -> str:
    hints = [did_you_mean(missing[0], (header for header in headers if len(header) <= 40))]
    if source.id is not None and source.id in missing and source.columns[source.id].kind == "str":
        hints.append(f"--row-id {source.id} makes it of the row's number")
    if source.time in missing:
        hints.append(f"--row-time {source.time} makes it of the row's place")
    return "; ".join(filter(None, hints))


def _csv(path: Path, source: SourceDef, pick: Pick) -> Iterator[FileRow]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        headers = next(csv.reader(file), [])
    found = _matched(headers, path, source, pick)
    wanted = {header: source.columns[name] for name, header in found.items()}
    fields = [replace(wanted[h], name=h) if h in wanted else Field(h, "str", nullable=True) for h in headers]
    rename = _renamer(found)
    for row in read_rows(path, replace(source, fields=tuple(fields))):
        yield row if row.fields is None else msgspec.structs.replace(row, fields=rename(row.fields))


def _parquet(path: Path, source: SourceDef, pick: Pick) -> Iterator[FileRow]:
    import polars as pl

    headers = pl.scan_parquet(path, glob=False).collect_schema().names()
    found = _matched(headers, path, source, pick)
    given = tuple(field for field in source.fields if field.name in found)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / path.name
        pl.scan_parquet(path, glob=False).select(pl.col(h).alias(n) for n, h in found.items()).sink_parquet(part)
        yield from read_rows(part, replace(source, fields=given))


def _json(row: FileRow, source: SourceDef) -> FileRow:
    if row.raw is None or row.problem is not None:
        return row
    try:
        fields = msgspec.json.decode(row.raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return row  # the contract says what is wrong with it
    by_name = dict(zip(column_names(fields), fields, strict=True)) | {key: key for key in fields}
    return FileRow(row.line, {name: fields[by_name[name]] for name in source.names if name in by_name})


def _renamer(found: dict[str, str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    pairs = tuple(found.items())
    return lambda fields: {name: fields[header] for name, header in pairs}
