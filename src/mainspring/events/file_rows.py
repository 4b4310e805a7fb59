"""Rows of CSV, JSON Lines and Parquet files, for the batch connector.

A row that breaks goes to quarantine with its line number and the rest goes on. What is wrong with the file as a whole
(it is empty, lacks a column, has one that the source does not know) is an error before anything is loaded.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.errors import ContractError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.core.times import from_datetime, parse_time
from mainspring.definitions.values import Field, Kind, SourceDef
from mainspring.events.ticks import microseconds

_MOST_LINES = 1_000  # that a quoted text of a CSV row may run over
_NAME_CHARACTERS = 40  # of a column's name that a message quotes
_INFINITE = frozenset({math.inf, -math.inf})
_csv_field_bytes = 16_777_216


class FileRow(msgspec.Struct, frozen=True):
    """One row of a file: its fields, or its bytes and why there are no fields.

    Attributes:
        line: Line in the file, from 1; row number in a Parquet file.
        fields: Values by column; times as int64 microseconds or text, numbers as numbers where they are numbers.
        raw: The bytes of a row that could not be split into fields, or of a JSON line.
    """

    line: int
    fields: dict[str, Any] | None = None
    raw: bytes | None = None
    problem: ContractError | None = None


def read_rows(path: Path, source: SourceDef) -> Iterator[FileRow]:
    """The rows of a file, in order. The kind of file is its ending: ``.csv``, ``.jsonl`` or ``.ndjson``, ``.parquet``.

    An empty field of a CSV file is null where the column is nullable, or not a text.

    Raises:
        NotFoundError: No such file (MS-E400).
        ContractError: It is empty (MS-E401), lacks or has columns (MS-E402), is of another kind (MS-E403), or a CSV
            file has a column that is a vector (MS-E407).
    """
    if not path.is_file():
        raise NotFoundError("MS-E400", "no such file", where=str(path))
    readers: dict[str, Callable[[Path, SourceDef], Iterator[FileRow]]] = {
        ".csv": _csv_rows,
        ".jsonl": _json_rows,
        ".ndjson": _json_rows,
        ".parquet": _parquet_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ContractError(
            "MS-E403",
            f"{path.suffix or 'a file without an ending'} is not read",
            where=str(path),
            hint="use " + ", ".join(readers),
        )
    if path.stat().st_size == 0:
        raise _empty(path)
    rows = reader(path, source)
    first = next(rows, None)
    if first is None:
        raise _empty(path)
    return _chain(first, rows)


def _chain(first: FileRow, rest: Iterator[FileRow]) -> Iterator[FileRow]:
    yield first
    yield from rest


def _empty(path: Path) -> ContractError:
    return ContractError("MS-E401", "the file has no rows", where=str(path), hint="check what wrote it")


def quoted(columns: Sequence[str]) -> str:
    """The first eight names for a message, each cut to 40 characters: in a file that is no text they know no end.

    >>> quoted(["a", "b" * 50])
    "'a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…'"
    """
    shown = [repr(name) for name in columns[:8]]
    return ", ".join(text if len(text) <= _NAME_CHARACTERS + 2 else _cut(text) for text in shown)


def _cut(text: str) -> str:
    return f"{text[: _NAME_CHARACTERS + 1]}…{text[0]}"


def separator_hint(columns: Sequence[str], path: Path) -> str:
    """What to do about a CSV file whose header is one column because another separator is in it; empty for others.

    >>> separator_hint(["id;price"], Path("a.csv"))
    "the separator is a comma; this header has ';'"
    """
    if path.suffix.lower() != ".csv" or len(columns) != 1:
        return ""
    found = next((name for sign, name in ((";", "';'"), ("\t", "tabs")) if sign in columns[0]), None)
    return f"the separator is a comma; this header has {found}" if found else ""


def _check_columns(columns: Sequence[str], path: Path, source: SourceDef) -> None:
    known = source.names
    doubles = sorted({c for c in columns if columns.count(c) > 1})
    if doubles:
        raise ContractError("MS-E402", f"the file has column {quoted(doubles[:1])} twice", where=str(path))
    strange = [c for c in columns if c not in known]
    if strange:
        more = len(columns) > len(source.fields)
        other = "load only those with --pick" if more else "leave the column out of the file"
        raise ContractError(
            "MS-E402",
            f"{source.name} has no column {quoted(strange)}",
            where=str(path),
            why="a column that nobody declared would be lost without a word",
            hint=separator_hint(columns, path) or f"{did_you_mean(strange[0], known)}, or {other}",
        )
    given = {known[c].name for c in columns}
    twice = [f.name for f in source.fields if sum(name in columns for name in {f.name, *f.aliases}) > 1]
    if twice:
        raise ContractError("MS-E402", f"the file has column {quoted(twice[:1])} under two names", where=str(path))
    missing = [f.name for f in source.fields if f.name not in given and not f.nullable and not f.has_default]
    if missing:
        raise ContractError("MS-E402", f"the file has no column {quoted(missing)}", where=str(path))


# --- CSV --------------------------------------------------------------------------------------------------------------


class _Lines:
    """Lines of a file that can be given back, and those that the current row took."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._returned: list[str] = []
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= _MOST_LINES:
            raise StopIteration
        line = self._returned.pop() if self._returned else next(self._lines)
        self.taken.append(line)
        self.number += 1
        return line

    def give_back(self) -> str:
        """Keep the first line that was taken and return the others to be read again."""
        first, *others = self.taken
        self._returned += reversed(others)
        self.number -= len(others)
        self.taken = []
        return first


def _csv_rows(path: Path, source: SourceDef) -> Iterator[FileRow]:
    csv.field_size_limit(_csv_field_bytes)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _Lines(file)
        reader = csv.reader(lines)
        header = next(reader, None)
        if header is None:
            return
        _check_columns(header, path, source)
        vectors = [name for name in header if source.names[name].kind == "vector"]
        if vectors:
            raise ContractError(
                "MS-E407",
                f"a CSV file cannot hold the vector {quoted(vectors)}",
                where=str(path),
                why="a field of it is one value",
                hint="load it from JSON Lines or Parquet",
            )
        fields = [source.names[name] for name in header]
        converters = [_converter(field.kind, nullable=field.nullable) for field in fields]
        width = len(header)
        while True:
            lines.taken = []
            line = lines.number + 1
            broken = ""
            row: list[str] | None = None
            try:
                row = next(reader, None)
            except csv.Error as error:
                broken = str(error)
            if row is None and not lines.taken:
                return
            if row is not None and len(row) == width:
                pairs = zip(header, converters, row, strict=True)
                yield FileRow(line, {name: convert(text) for name, convert, text in pairs})
                continue
            if row == [] and len(lines.taken) == 1:  # a blank line
                continue
            # A quote that is never closed takes all that follows: only the line where it was opened is broken.
            raw = lines.give_back()
            reader = csv.reader(lines)
            found = len(row) if row is not None else 0
            what = f"no CSV row: {broken}" if broken else f"{found} fields where the header has {width}"
            yield FileRow(line, None, raw.rstrip("\r\n").encode("utf-8", "surrogateescape"), _broken(what))


def _broken(what: str) -> ContractError:
    return ContractError("MS-E406", what, where="$")


def _converter(kind: str, *, nullable: bool) -> Callable[[str], Any]:
    """Text of a CSV field to a value; what does not convert stays text, for the contract to refuse by name."""
    convert = _CONVERTERS[kind]
    if kind == "str":
        return (lambda text: text or None) if nullable else (lambda text: text)

    def run(text: str) -> Any:
        if not text:
            return None
        try:
            return convert(text)
        except ValueError:
            return text

    return run


def _number(kind: type[int | float]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        if "_" in text or not text.isascii():  # Python's own digits separator, and digits of other scripts
            raise ValueError(text)
        number = kind(text)
        if number in _INFINITE and "n" not in text.lower():  # "1e999": a number, but none of a float
            raise ValueError(text)
        return number

    return convert


def _flag(text: str) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower())
    if known is None:
        raise ValueError(text)
    return known


def _moment(text: str) -> int:
    """A time as JSON has it, or in another form of ISO 8601: a date alone, without seconds."""
    try:
        return from_datetime(msgspec.convert(text, datetime))
    except msgspec.ValidationError:
        return parse_time(text)


_CONVERTERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _number(int),
    "float": _number(float),
    "bool": _flag,
    "datetime": _moment,
}


# --- JSON Lines and Parquet -------------------------------------------------------------------------------------------


def _json_rows(path: Path, _source: SourceDef) -> Iterator[FileRow]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if raw.strip():
                yield FileRow(line, None, raw.strip())


def _parquet_rows(path: Path, source: SourceDef) -> Iterator[FileRow]:
    import polars as pl

    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise ContractError(
            "MS-E403", "this is no Parquet file", where=str(path), why=str(error).splitlines()[0]
        ) from None
    _check_columns(schema.names(), path, source)
    columns: list[pl.Expr] = []
    units: dict[str, str] = {}
    for name, dtype in schema.items():
        field, column = source.names[name], pl.col(name)
        kind = _kind_in_file(dtype, field)
        widens = kind == "int" and field.kind == "float"
        if dtype != pl.Null and kind != field.kind and not widens:
            raise ContractError(
                "MS-E402", f"column {name!r} holds {dtype}, {source.name} declares {field.kind}", where=str(path)
            )
        if field.kind == "datetime" and dtype != pl.Null:
            column = column.to_physical()  # counts: of a time that it cannot show, polars makes no error but its end
            units[name] = dtype.time_unit if isinstance(dtype, pl.Datetime) else "d"
        elif kind == "str":
            column = column.cast(pl.String)
        elif kind == "vector":
            column = column.cast(pl.List(pl.Float64))
        columns.append(column)
    try:
        rows = frame.select(columns).collect()
    except pl.exceptions.PolarsError as error:
        raise ContractError(
            "MS-E403", "the Parquet file cannot be read", where=str(path), why=str(error).splitlines()[0]
        ) from None
    number = 0
    for part in rows.iter_slices(5_000):
        times = {name: microseconds(part[name].to_list(), unit) for name, unit in units.items()}
        for place, fields in enumerate(part.to_dicts()):
            number += 1
            yield FileRow(number, fields | {name: moments[place] for name, moments in times.items()})


def _kind_in_file(dtype: Any, field: Field) -> Kind | None:
    """The kind that a column of a Parquet file holds, as a column of the source may take it."""
    import polars as pl

    from mainspring.definitions.expressions import kind_of

    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return "str"
    if isinstance(dtype, (pl.Array, pl.List)):
        return "vector" if dtype.inner.is_numeric() or dtype.inner == pl.Null else None
    return "datetime" if dtype == pl.Date and field.kind == "datetime" else kind_of(dtype)


def chunks(rows: Iterator[FileRow], size: int) -> Iterator[list[FileRow]]:
    """Rows in lists of ``size``; the last one is shorter."""
    while chunk := list(islice(rows, size)):
        yield chunk
