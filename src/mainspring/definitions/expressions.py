"""Row-level polars expressions in definitions: checked when written, stored as JSON.

Only elementwise expressions are row-level: a shift, an aggregate or a window over other rows could see the future.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from mainspring.core.errors import DefinitionError, FormatError
from mainspring.core.names import did_you_mean
from mainspring.definitions.mention import mention
from mainspring.definitions.values import Expression, Field, Kind

UTC_US = pl.Datetime("us", "UTC")
POLARS_TYPES: dict[str, Any] = {
    "str": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "datetime": UTC_US,
}


def polars_type(field: Field) -> Any:
    """The polars type of a column: of its kind, or an array of as many numbers as a vector has."""
    return pl.Array(pl.Float64, field.dim) if field.kind == "vector" else POLARS_TYPES[field.kind]


def renamed(text: str, columns: Mapping[str, str]) -> str:
    """An expression's JSON with other JSON in the place of the columns named: a column or a whole expression.

    Args:
        text: JSON of an expression.
        columns: JSON of an expression by the column's name; columns that it does not name stay.
    """
    found = {name: json.loads(other) for name, other in columns.items()}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            if set(node) == {"Column"} and node["Column"] in found:
                return found[node["Column"]]
            return {key: walk(part) for key, part in node.items()}
        return [walk(part) for part in node] if isinstance(node, list) else node

    return json.dumps(walk(json.loads(text)), separators=(",", ":"))


def parse(text: str) -> pl.Expr:
    """The polars expression that ``text`` is the JSON of.

    Raises:
        FormatError: It holds a Python function, which would be unpickled (MS-D171).
    """
    if _holds_code(json.loads(text)):
        raise FormatError("MS-D171", "an expression holds a Python function", why="nothing is unpickled from data")
    return pl.Expr.deserialize(io.StringIO(text), format="json")


def kind_of(dtype: pl.DataType) -> Kind | None:
    """The kind that a polars type is stored as, or None when definitions have no such kind."""
    if dtype == pl.Boolean:
        return "bool"
    if dtype.is_integer():
        return "int"
    if dtype.is_float():
        return "float"
    if dtype == pl.String:
        return "str"
    if isinstance(dtype, pl.Datetime):
        return "datetime"
    if isinstance(dtype, pl.Array):
        return "vector"
    return None


def expression(value: str | pl.Expr, schema: Mapping[str, Any], *, of: str, where: str, name: str = "") -> Expression:
    """Check a column name or polars expression against ``schema`` and freeze it.

    Args:
        value: A column's name or an expression over columns of ``schema``.
        schema: Polars types by column name.
        of: What the columns belong to, for errors: ``"source arrived"``.
        where: File and line, for errors.
        name: Name of the result; the expression's own output name if empty.

    Raises:
        DefinitionError: Unknown column (MS-D102), not row-level (MS-D103), does not type-check (MS-D104), calls a
            Python function (MS-D105).
    """
    if isinstance(value, str):
        value = pl.col(value)
    if not isinstance(value, pl.Expr):
        raise DefinitionError("MS-D104", f"{mention(value)} is neither a column's name nor an expression", where=where)
    inputs = tuple(dict.fromkeys(value.meta.root_names()))
    for column in inputs:
        if column not in schema:
            raise DefinitionError(
                "MS-D102", f"{of} has no column {column!r}", where=where, hint=did_you_mean(column, schema)
            )
    text = value.meta.serialize(format="json")
    if _holds_code(json.loads(text)):
        raise DefinitionError(
            "MS-D105",
            "an expression calls a Python function",
            where=where,
            why="a definition is stored and read back as data, and nothing is unpickled from data",
            hint="write it with polars' own functions",
        )
    try:
        parse(text)
    except pl.exceptions.PolarsError:
        what = f"{value} cannot be stored: JSON has no NaN and no infinity"
        hint = ".is_nan(), .is_infinite(), or None for a missing value"
        raise DefinitionError("MS-D104", what, where=where, hint=hint) from None
    try:
        output = value.meta.output_name()
        # Of no rows, but carried out: the types of a plan alone let a date's functions pass on a text.
        dtype = pl.DataFrame(schema=dict(schema)).select(value.alias("x")).schema["x"]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DefinitionError(
            "MS-D104", f"{value} does not fit {of}: {str(error).splitlines()[0]}", where=where
        ) from None
    if not _is_row_level(value):
        raise DefinitionError(
            "MS-D103",
            f"{value} looks at other rows",
            where=where,
            why="a row-level expression that shifts, aggregates or ranks could see the future",
            hint='use a feature view with a window, such as ms.mean("x", window="3h")',
        )
    kind = kind_of(dtype)
    if kind is None:
        raise DefinitionError(
            "MS-D104", f"{value} gives {dtype}, which is none of {', '.join(POLARS_TYPES)}", where=where
        )
    return Expression(text, name or output, kind, inputs)


def _holds_code(node: Any) -> bool:
    """Whether the JSON of an expression has a Python function in it: polars pickles those."""
    if isinstance(node, dict):
        return any("Anonymous" in key or "Python" in key or _holds_code(part) for key, part in node.items())
    return isinstance(node, list) and any(_holds_code(part) for part in node)


def _is_row_level(value: pl.Expr) -> bool:
    """Whether each output row depends on its own input row alone: of the whole and of each of its parts."""
    return value.meta.is_row_separable() and all(_is_row_level(part) for part in value.meta.pop())
