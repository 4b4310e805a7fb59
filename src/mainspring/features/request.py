"""The expressions of a model or of views, as one program that runs the same offline and online.

What the closed subset has (``docs/reference/definitions.md``) is compiled when loaded to a tape of numpy operations;
the rest is evaluated by polars, which costs a batch about 250 µs once, whatever its size. Training sets and the gateway
run the same program, so that they agree by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.definitions import MOMENT, ModelDef, ViewDef
from mainspring.definitions.expressions import POLARS_TYPES, parse
from mainspring.definitions.values import Kind
from mainspring.features.operations import Column
from mainspring.features.tape import NUMPY_TYPES, Node, Outside, Tape, column_of
from mainspring.features.texts import objects

Answer = npt.NDArray[np.float64] | list[str | None]
"""Of an expression for a batch: float64[n] with NaN for null, bools as 0 and 1; or n texts."""

FAULTS = (Exception, pl.exceptions.PanicException)
"""Whatever an expression may raise: polars' panics are no exceptions to Python, its plugins raise what they like."""

POLARS_COST = "about 250 µs a batch"


@dataclass(frozen=True)
class Interpreted:
    """An expression that is left to polars, and the part of it that the subset does not have."""

    name: str
    why: str


class Program:
    """Expressions over one schema, compiled as far as the subset goes.

    Args:
        expressions: JSON of each, by a name for messages.
        schema: Polars types of the columns that they may read.

    Attributes:
        inputs: Columns that they read.
        interpreted: The expressions that polars evaluates.
        wrapping: Names of those that may wrap around in a short number type, and that type: ``dt.hour() * 60`` has
            eight bits in polars, and here.
    """

    def __init__(self, expressions: Sequence[tuple[str, str]], schema: Mapping[str, Any]) -> None:
        self._exprs = [parse(text) for _, text in expressions]
        roots = dict.fromkeys(name for expr in self._exprs for name in expr.meta.root_names())
        self._schema = {name: schema[name] for name in roots}
        self.inputs = tuple(roots)
        empty = pl.DataFrame(schema=self._schema)
        self._is_text = [empty.select(expr.alias("x")).schema["x"] == pl.String() for expr in self._exprs]
        self._tape = Tape(self._schema)
        self._nodes: list[Node | None] = []
        interpreted = []
        for name, text in expressions:
            try:
                self._nodes.append(self._tape.compile(text))
            except Outside as why:
                self._nodes.append(None)
                interpreted.append(Interpreted(name, str(why)))
        self.interpreted = tuple(interpreted)
        named = zip(expressions, self._nodes, strict=True)
        self.wrapping = tuple((name, node.wraps) for (name, _), node in named if node is not None and node.wraps)
        left = [(i, expr) for i, (expr, node) in enumerate(zip(self._exprs, self._nodes, strict=True)) if node is None]
        self._left = [expr.alias(f"_{i}") for i, expr in left]
        needed = {name for _, expr in left for name in expr.meta.root_names()}
        self._left_inputs = [name for name in roots if name in needed]

    def __len__(self) -> int:
        """How many expressions there are."""
        return len(self._nodes)

    def run(self, columns: Mapping[str, Column], rows: int) -> list[Answer]:
        """Every expression for a batch.

        Args:
            columns: Values and nulls of ``inputs``, of the numpy types of ``tape.NUMPY_TYPES``.
            rows: How many there are.

        Raises:
            ValueError: A strict cast of a value that does not fit.
            PolarsError: Whatever polars says of what it evaluates.
        """
        registers = self._tape.run(columns)
        frame = self._interpreted(columns, rows) if self._left else None
        out: list[Answer] = []
        for number, node in enumerate(self._nodes):
            found = column_of(_plain(frame[f"_{number}"])) if node is None and frame is not None else None
            if node is not None:
                found = registers[node.place]
            if found is None:
                raise AssertionError("an expression is neither compiled nor interpreted")
            out.append(_texts(found, rows) if self._is_text[number] else _floats(found, rows))
        return out

    def answer(self, columns: Mapping[str, Column], rows: int) -> tuple[list[Answer], dict[int, dict[int, str]]]:
        """As ``run``, but a row that cannot be computed spoils nothing else.

        Returns:
            The answers, null where there is none; and by expression the rows that have none and why.
        """
        try:
            return self.run(columns, rows), {}
        except FAULTS as error:
            if rows == 1:
                return self._one(columns, error)
            if rows == 0:
                raise
        halves = (0, rows // 2), (rows // 2, rows - rows // 2)  # few rows break: most halves go through at once
        parts = [self.answer({name: piece(c, *half) for name, c in columns.items()}, half[1]) for half in halves]
        broken: dict[int, dict[int, str]] = {}
        for (first, _), (_, found) in zip(halves, parts, strict=True):
            for number, whys in found.items():
                broken.setdefault(number, {}).update({first + row: why for row, why in whys.items()})
        answers = [_joined([part[0][number] for part in parts]) for number in range(len(self))]
        return answers, broken

    def _one(
        self, columns: Mapping[str, Column], error: BaseException
    ) -> tuple[list[Answer], dict[int, dict[int, str]]]:
        """One row, expression by expression, by polars: it tells which one cannot be computed."""
        out: list[Answer] = []
        broken: dict[int, dict[int, str]] = {}
        frame = pl.DataFrame([_series(name, self._schema[name], columns[name]) for name in self.inputs])
        for number, expr in enumerate(self._exprs):
            try:
                found = column_of(_plain(frame.select(expr.alias("x"))["x"]))
            except FAULTS as own:
                out.append([None] if self._is_text[number] else np.array([np.nan]))
                broken[number] = {0: first_line(own)}
            else:
                out.append(_texts(found, 1) if self._is_text[number] else _floats(found, 1))
        if not broken:
            raise error
        return out, broken

    def _interpreted(self, columns: Mapping[str, Column], rows: int) -> pl.DataFrame:
        given = [_series(name, self._schema[name], columns[name]) for name in self._left_inputs]
        return pl.DataFrame([pl.Series("_row", range(rows), pl.UInt32), *given]).select(pl.col("_row"), *self._left)


def column_types(request: Mapping[str, Any], views: Iterable[ViewDef]) -> dict[str, Any]:
    """Polars types of all that a model's expressions may read.

    Args:
        request: Types of the request's columns.
        views: Whose columns they may read, as ``view__slot``.
    """
    out = dict(request) | {MOMENT: POLARS_TYPES["datetime"]}
    for view in views:
        out |= {f"{view.name}__{slot}": dtype for slot, dtype in view.own_schema.items() if slot != MOMENT}
    return out


def view_column(kind: Kind, values: npt.NDArray[Any], texts: Sequence[str | None] | None = None) -> Column:
    """What a view answers as a column that expressions read.

    Args:
        kind: Of the view's slot.
        values: float64[n], NaN for null; instants are microseconds, texts are words.
        texts: What the words stand for.
    """
    if kind == "str":
        if texts is None:
            raise ValueError("words without their texts")
        return of_objects(texts, POLARS_TYPES["str"])
    nulls = values != values
    if not nulls.any():
        return (values.astype(np.int64) if kind == "datetime" else values), None
    return (np.where(nulls, 0.0, values).astype(np.int64) if kind == "datetime" else values), nulls


def of_objects(values: Sequence[Any], dtype: Any) -> Column:
    """Python values with None for null as a column; instants are microseconds."""
    if dtype not in NUMPY_TYPES or dtype == pl.String():
        nulls = np.array([v is None for v in values], np.bool_)
        return objects(values), nulls if nulls.any() else None
    if None in values:
        nulls = np.array([v is None for v in values], np.bool_)
        return np.array([0 if v is None else v for v in values], NUMPY_TYPES[dtype]), nulls
    return np.array(values, NUMPY_TYPES[dtype]), None


def of_series(series: pl.Series, dtype: Any) -> Column:
    """A polars series, brought to ``dtype``, as a column."""
    return column_of(series.cast(dtype)) if dtype in NUMPY_TYPES else of_objects(series.to_list(), dtype)


def piece(column: Column, first: int, rows: int) -> Column:
    """Some rows of a column, one after another."""
    values, nulls = column
    part = slice(first, first + rows)
    return values[part], None if nulls is None else nulls[part]


def program_of(model: ModelDef) -> Program:
    """The expressions of a model, for what there is to say of them before it is trained."""
    expressions = [(f.name, f.expression.json) for f in model.features if f.expression is not None]
    return Program(expressions, column_types(model.request.schema, model.views))


def _series(name: str, dtype: Any, column: Column) -> pl.Series:
    values, nulls = column
    if dtype not in NUMPY_TYPES or dtype == pl.String():
        return pl.Series(name, values.tolist(), dtype)
    stored = pl.Int64() if dtype.is_temporal() else dtype
    series = pl.Series(name, values, stored)
    if nulls is not None:
        series = series.set(pl.Series(nulls), None)
    return series.cast(dtype) if dtype.is_temporal() else series


def _plain(series: pl.Series) -> pl.Series:
    """Whatever an expression gives, as text or as float64."""
    return series if series.dtype == pl.String() else series.cast(pl.Float64)


def _floats(column: Column, rows: int) -> npt.NDArray[np.float64]:
    values, nulls = column
    out = np.empty(rows)
    out[:] = values
    if nulls is not None:
        out[np.broadcast_to(nulls, rows)] = np.nan
    return out


def _texts(column: Column, rows: int) -> list[str | None]:
    texts: list[str | None] = np.broadcast_to(column[0], rows).tolist()
    if column[1] is None:
        return texts
    nulls = np.broadcast_to(column[1], rows).tolist()
    return [None if null else text for text, null in zip(texts, nulls, strict=True)]


def _joined(parts: Sequence[Any]) -> Answer:
    if isinstance(parts[0], list):
        return [text for part in parts for text in part]
    return np.concatenate(parts)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
