"""Events as polars frames: of rows, of rows that lie by column, and of what an earlier version of a source wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from mainspring.core.errors import FormatError
from mainspring.definitions.expressions import UTC_US, polars_type
from mainspring.definitions.values import Field, SourceDef
from mainspring.events.cells import ARRAYS, FLOATS, INTS, NUMBERED, SAME, Cells, joined
from mainspring.events.json_arrays import array_texts
from mainspring.events.lake import META_SCHEMA
from mainspring.events.record import Shape, known_length, stored_default
from mainspring.events.record_batch import Stored


def frame_of(parts: Sequence[Stored], schema: Mapping[str, Any]) -> pl.DataFrame:
    """Rows that lie by column as a frame: no value becomes an object where both sides have it in the same form.

    Args:
        parts: One after the other, at least one, of the version that their source has now.
        schema: Columns of the source, and after them ``_offset``, ``_id``, ``_time``, ``_known_at``, ``_ingested_at``.
    """
    sizes = [part.size for part in parts]
    n, columns = sum(sizes), []
    for (name, dtype), *cells in zip(schema.items(), *(part.columns for part in parts), strict=False):
        cut = list(zip(cells, sizes, strict=True))
        if any(one.form == ARRAYS for one in cells):
            columns.append(array_texts(cut).alias(name))
        else:
            columns.append(_of_cells(name, joined(cut), n, dtype))
    first = parts[0]
    ids = pl.repeat(None, n, dtype=pl.String(), eager=True) if first.id_at is None else columns[first.id_at]
    meta: dict[str, Any] = {
        "_offset": np.concatenate([np.arange(part.first, part.first + part.size) for part in parts]),
        "_id": ids.cast(pl.String()),
        "_time": columns[first.time_at],
        "_known_at": np.concatenate([np.arange(part.known_us, part.known_us + part.size) for part in parts]),
        "_ingested_at": np.repeat([part.ingested_us for part in parts], sizes),
    }
    return pl.DataFrame([*columns, *(pl.Series(name, values).cast(schema[name]) for name, values in meta.items())])


def _of_cells(name: str, cells: Cells, n: int, dtype: Any) -> pl.Series:
    held = pl.Int64() if dtype == UTC_US else dtype
    if cells.form == SAME:
        series = pl.Series(name, [cells.data], dtype=held, strict=True).new_from_index(0, n)
    elif cells.form == INTS:
        series = pl.Series(name, cells.numbers())
    elif cells.form == NUMBERED:
        series = (pl.Series([f"{cells.more}-"]) + pl.Series(cells.numbers()).cast(pl.String)).alias(name)
    elif cells.form == FLOATS:
        series = pl.Series(name, np.frombuffer(cells.data, np.float64), nan_to_null=True)
    else:
        series = pl.Series(name, cells.values(n), dtype=held, strict=True)
    return series.cast(dtype)


def series_of(source: SourceDef, column: tuple[str, Any], values: Sequence[Any]) -> pl.Series:
    """Values of a column, with its name and type.

    Raises:
        FormatError: They are not of the type (MS-E904).
    """
    name, dtype = column
    try:
        return pl.Series(name, values, dtype=pl.Int64() if dtype == UTC_US else dtype, strict=True).cast(dtype)
    except (TypeError, PolarsError) as error:
        raise FormatError(
            "MS-E904",
            f"stored events of {source.name} are not what its definition says: column {name}",
            where=str(source.place),
            why=str(error).strip().splitlines()[0],
            hint="give the column its earlier type; mainspring plan says what else has changed",
        ) from error


def fitted(frame: pl.DataFrame, source: SourceDef, names: Sequence[str]) -> pl.DataFrame:
    """Columns of ``frame`` as ``source`` has them, as `Record.row_for` does it: what is missing is the default."""
    exprs = (
        pl.col(name).cast(META_SCHEMA[name]) if name in META_SCHEMA else _fitted(source.columns[name], frame.columns)
        for name in names
    )
    return frame.select(exprs)


def _fitted(field: Field, stored: Collection[str]) -> pl.Expr:
    """A column as it is defined now, out of the columns that are stored.

    A row has its value under the name that the column had when it was written, and null under the others.
    """
    names = names_stored(field, stored)
    if not names:
        return default_of(field).alias(field.name)
    columns = [pl.col(name) for name in names]
    if field.kind == "vector" and (length := known_length(field)) is not None:  # another under an older contract: null
        columns = [pl.when(column.list.len() == length).then(column) for column in columns]
    column = pl.coalesce([column.cast(type_of(field)) for column in columns]).alias(field.name)
    return column.fill_null(default_of(field)) if field.has_default and not field.nullable else column


def names_stored(field: Field, stored: Collection[str]) -> list[str]:
    """Names under which a lake table may have a column's values: of a row at most one is not null."""
    names = [name for name in (field.name, *field.aliases) if name in stored]
    # A column that may be None and has a default was filled in the lake when it came: null is null.
    return names[:1] if field.name in stored and field.nullable and field.default is not None else names


def with_earlier_names(frame: pl.DataFrame, now: Mapping[str, str], asked: Collection[str] | None) -> pl.DataFrame:
    """``frame`` with its columns again under the names that they had before: nothing is copied.

    Args:
        frame: By the names of now.
        now: The name of now, by the earlier one.
        asked: Only these; all if None.
    """
    if not now:
        return frame
    found = frame.with_columns(pl.col(name).alias(alias) for alias, name in now.items() if name in frame.columns)
    return found if asked is None else found.select([name for name in found.columns if name in asked])


def default_of(field: Field) -> pl.Expr:
    """What a row holds that is older than the column."""
    return pl.lit(stored_default(field)).cast(type_of(field))


def type_of(field: Field) -> Any:
    """The type that frames have of a column."""
    return pl.List(pl.Float64) if field.kind == "vector" and known_length(field) is None else polars_type(field)


def as_recorded(shape: Shape) -> SourceDef:
    """A source as its records say it was."""
    fields = tuple(Field(n, k, nullable=True) for n, k in zip(shape.columns, shape.kinds, strict=True))
    return SourceDef(shape.source, fields, time="", id=shape.id)
