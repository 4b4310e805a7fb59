"""A project made from a file: what its columns are, what to predict, what cannot be. Its files: ``templates.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mainspring.core.errors import ContractError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.events.columns import column_names

if TYPE_CHECKING:
    import polars as pl

MOST_ROWS = 100_000
MOST_CATEGORIES = 1_000


@dataclass(frozen=True)
class Column:
    """A column of a file.

    Attributes:
        name: As definitions name it.
        kind: ``str``, ``int``, ``float``, ``bool`` or ``datetime``; empty for a type that no source has.
        distinct: How many values there are in the rows looked at.
    """

    header: str
    name: str
    kind: str
    nullable: bool
    distinct: int


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        rows: Rows that were looked at.
        all_rows: Rows that there are.
    """

    path: Path
    rows: int
    all_rows: int
    columns: tuple[Column, ...]
    frame: pl.DataFrame

    def column(self, name: str, role: str) -> Column:
        """A column by its name or header.

        Raises:
            NotFoundError: There is none (MS-C070).
        """
        for column in self.columns:
            if name in (column.name, column.header):
                return column
        hint = did_you_mean(name, [c.name for c in self.columns])
        raise NotFoundError("MS-C070", f"the file has no column {name!r} for {role}", where=str(self.path), hint=hint)


@dataclass(frozen=True)
class Choice:
    """What a user wants of a table.

    Attributes:
        name: Of the project and of the source of requests.
        time: None makes a time of the row's place.
        id: None makes an id of the row's number.
        within: The label's horizon.
    """

    name: str
    target: Column
    time: Column | None
    id: Column | None
    within: str


def look(path: Path) -> Table:
    """Read what a CSV or Parquet file holds.

    Raises:
        NotFoundError: No such file (MS-C071).
        ContractError: It cannot be read, or holds no rows (MS-C072).
    """
    import polars as pl

    from mainspring.definitions.expressions import kind_of

    if not path.is_file():
        raise NotFoundError("MS-C071", "no such file", where=str(path))
    try:
        options: dict[str, Any] = {"infer_schema_length": None, "try_parse_dates": True, "glob": False}
        if path.suffix.lower() == ".parquet":
            lazy = pl.scan_parquet(path, glob=False)
            frame = lazy.head(MOST_ROWS).collect()
        elif path.suffix.lower() == ".csv":
            lazy = pl.scan_csv(path, truncate_ragged_lines=True, infer_schema=False, glob=False)
            frame = pl.read_csv(path, n_rows=MOST_ROWS, truncate_ragged_lines=True, **options)
        elif path.suffix.lower() in (".jsonl", ".ndjson"):
            lazy = pl.scan_ndjson(path, infer_schema_length=MOST_ROWS)
            frame = _instants(lazy.head(MOST_ROWS).collect())
        else:
            what = f"{path.name} is neither CSV, JSON Lines nor Parquet"
            raise ContractError("MS-C072", what, hint="name it .csv, .jsonl or .parquet")
        all_rows = int(lazy.select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        why = str(error).splitlines()[0]
        raise ContractError("MS-C072", "the file cannot be read", where=str(path), why=why) from None
    if frame.is_empty() or not frame.columns:
        raise ContractError("MS-C072", "the file has no rows", where=str(path))
    columns = []
    for header, name in zip(frame.columns, column_names(frame.columns), strict=True):
        values = frame[header]
        kind = "datetime" if values.dtype == pl.Date else kind_of(values.dtype) or ""
        if isinstance(values.dtype, pl.Categorical | pl.Enum):
            kind = "str"
        nullable = values.has_nulls() or (kind == "float" and bool(values.is_nan().any()))
        distinct = values.n_unique() if kind else 0
        columns.append(Column(header, name, kind, nullable, distinct))
    names = dict(zip(frame.columns, (c.name for c in columns), strict=True))
    return Table(path, frame.height, max(all_rows, frame.height), tuple(columns), frame.rename(names))


def _instants(frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with those texts as instants that all are ISO 8601: JSON has no other way to say one."""
    import polars as pl

    for name in frame.select(pl.col(pl.String)).columns:
        texts = frame[name].drop_nulls()
        if len(texts) and texts.str.contains(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d").all():
            read = frame[name].str.to_datetime(time_zone="UTC", strict=False)
            frame = frame.with_columns(read) if read.null_count() == frame[name].null_count() else frame
    return frame


def guess_time(table: Table) -> Column | None:
    """The first column of instants that is always there."""
    return next((c for c in table.columns if c.kind == "datetime" and not c.nullable), None)


def guess_id(table: Table, target: Column | None) -> Column | None:
    """A column that names rows: called id, each value once."""
    for column in table.columns:
        is_key = column.kind in ("str", "int") and not column.nullable and column.distinct == table.rows
        if is_key and column is not target and (column.name == "id" or column.name.endswith("_id")):
            return column
    return None


def check(table: Table, choice: Choice) -> None:
    """Refuse what no project could be made of.

    Raises:
        ContractError: The target, time or id cannot be what they should be (MS-C073).
    """
    target, where = choice.target, str(table.path)
    values = target.distinct - target.nullable
    if target.kind in ("", "datetime") or (target.kind == "str" and values != 2) or values < 2:
        why = f"it holds {values:,} values of kind {target.kind or 'unknown'}"
        raise ContractError(
            "MS-C073",
            f"{target.name} cannot be predicted",
            where=where,
            why=why,
            hint="this release predicts one of two values, or a number",
        )
    if choice.time is not None and (choice.time.kind != "datetime" or choice.time.nullable):
        why = f"it is {choice.time.kind or 'of an unknown kind'}" + (" and has gaps" if choice.time.nullable else "")
        hint = "ISO 8601 such as 2024-05-01T12:00:00Z, in every row; or leave --time out"
        raise ContractError("MS-C073", f"{choice.time.name} is no time of a row", where=where, why=why, hint=hint)
    if choice.id is not None and (choice.id.kind not in ("str", "int") or choice.id.nullable):
        raise ContractError(
            "MS-C073", f"{choice.id.name} is no id of a row", where=where, why="an id is text or int, never empty"
        )
    if choice.id is not None and choice.id.distinct != table.rows:
        why = f"{table.rows - choice.id.distinct:,} rows repeat an id"
        hint = "leave --id out: an id is made of the row's number"
        raise ContractError("MS-C073", f"{choice.id.name} is no id of a row", where=where, why=why, hint=hint)
    chosen = {c.name for c in (choice.target, choice.time, choice.id) if c is not None}
    if len(chosen) != 1 + (choice.time is not None) + (choice.id is not None):
        raise ContractError("MS-C073", "target, time and id must be different columns", where=where)
    if not features(table, choice):
        raise ContractError("MS-C073", "no column is left to predict from", where=where)


def features(table: Table, choice: Choice) -> list[Column]:
    """The columns to predict from: neither constant nor a value of their own in most rows."""
    roles = (choice.target, choice.time, choice.id)
    return [
        c
        for c in table.columns
        if c not in roles
        and c.distinct > 1
        and (
            c.kind in ("int", "float", "bool")
            or (c.kind == "str" and c.distinct <= min(MOST_CATEGORIES, table.rows // 2))
        )
    ]
