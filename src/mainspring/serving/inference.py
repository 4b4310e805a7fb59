"""The core that every protocol calls: rows in, outputs out. It knows nothing of HTTP.

One batch is one snapshot of the online store, one evaluation of each expression and one run of each model. What fails,
fails for its own row: the rest of the batch is answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mainspring.definitions import SourceDef, ViewDef
from mainspring.features.reader import Reader
from mainspring.models.runtime import Runtime
from mainspring.serving.layout import DEFAULT, Codes, Floats, Gathered, Inputs, Layout, Row

if TYPE_CHECKING:
    import polars as pl

EXPRESSION, MODEL, OUTPUT, NOT_LOADED = "expression", "model", "output", "not_loaded"
"""Why a row failed: its expression cannot be computed, the model raised, it gave no finite number, it is not there."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """One version of a model, loaded, and how its inputs are filled."""

    version: str
    runtime: Runtime
    layout: Layout


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one model says of a batch.

    Attributes:
        values: One float a row; meaningless where the row failed.
        failed: Reason and detail of the rows that failed.
        took_us: Time that filling the inputs and running the model took.
    """

    inputs: Inputs
    values: list[float]
    failed: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    took_us: int = 0


Scored = tuple[Scorer, Outputs]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model's output answers a row.

    Attributes:
        variant: ``champion``, ``challenger`` or ``fallback``.
        scorer: Of the model that answers; of the assigned one when nobody could.
        output: None when nobody could.
        other_version: The other model of the pair, with its output or its failure, and the time it took.
        fallback: What was fallen back to, or None.
        error: Why the assigned model did not answer, or None.
    """

    variant: str
    scorer: Scorer
    inputs: Inputs
    output: float | None
    other_version: str | None = None
    other_output: float | None = None
    other_error: str | None = None
    other_took_us: int | None = None
    fallback: str | None = None
    error: str | None = None


class Expressions:
    """The row-level expressions of a route, by polars.

    Args:
        expressions: JSON of each, in the order of ``Gathered.computed``, with whether it gives text.
        source: The request's source.
    """

    def __init__(self, expressions: Sequence[tuple[str, bool]], source: SourceDef) -> None:
        from mainspring.definitions.expressions import parse

        self._is_text = [is_text for _, is_text in expressions]
        self._exprs = [parse(text).alias(f"e{i}") for i, (text, _) in enumerate(expressions)]
        roots = {name for expr in self._exprs for name in expr.meta.root_names()}
        self._columns = [(i, f) for i, f in enumerate(source.fields) if f.name in roots]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._exprs)

    def evaluate(self, rows: Sequence[Row]) -> tuple[list[Any], dict[int, dict[int, str]]]:
        """Values of each expression, and by expression the rows for which it cannot be computed."""
        if not self._exprs:
            return [], {}
        try:
            return self._evaluate(rows), {}
        except Exception as error:  # noqa: BLE001  polars raises what its plugins raise; the row is found below
            if len(rows) == 1:
                return self._one(rows, error)
        parts = [self.evaluate([row]) for row in rows]
        broken: dict[int, dict[int, str]] = {}
        for row, (_, found) in enumerate(parts):
            for number, whys in found.items():
                broken.setdefault(number, {})[row] = whys[0]
        joined = [_join([part[0][e] for part in parts], is_text=text) for e, text in enumerate(self._is_text)]
        return joined, broken

    def _one(self, rows: Sequence[Row], error: Exception) -> tuple[list[Any], dict[int, dict[int, str]]]:
        """One row, expression by expression."""
        out: list[Any] = []
        broken: dict[int, dict[int, str]] = {}
        for number, expr in enumerate(self._exprs):
            try:
                out.append(self._column(self._frame(rows).with_columns(expr), number))
            except Exception as own:  # noqa: BLE001  see evaluate
                out.append([None] if self._is_text[number] else np.array([np.nan]))
                broken[number] = {0: str(own).splitlines()[0] if str(own) else type(error).__name__}
        return out, broken

    def _evaluate(self, rows: Sequence[Row]) -> list[Any]:
        frame = self._frame(rows).with_columns(self._exprs)
        return [self._column(frame, number) for number in range(len(self._exprs))]

    def _frame(self, rows: Sequence[Row]) -> pl.DataFrame:
        import polars as pl

        from mainspring.definitions.expressions import POLARS_TYPES

        columns = [pl.Series("_row", range(len(rows)), dtype=pl.UInt32)]
        for i, one in self._columns:
            stored = pl.Int64() if one.kind == "datetime" else POLARS_TYPES[one.kind]
            column = pl.Series(one.name, [row[i] for row in rows], dtype=stored)
            columns.append(column.cast(POLARS_TYPES["datetime"]) if one.kind == "datetime" else column)
        return pl.DataFrame(columns)

    def _column(self, frame: pl.DataFrame, number: int) -> Any:
        import polars as pl

        column = frame.get_column(f"e{number}")
        return column.to_list() if self._is_text[number] else column.cast(pl.Float64).to_numpy()


def gather(
    rows: Sequence[Row],
    times_us: Sequence[int],
    views: Sequence[tuple[ViewDef, tuple[int, ...]]],
    expressions: Expressions,
    reader: Reader,
) -> tuple[Gathered, Exception | None]:
    """Read all that the models of a route need, in one snapshot of the store.

    Args:
        rows: Checked request rows.
        times_us: Moment of each row, microseconds since 1970 UTC.
        views: Each view with the places of its entity's columns in a row.
        expressions: Over the request.
        reader: Of the online store.

    Returns:
        What was read; and the error when the store could not be: its features are then null with status ``default``.
    """
    computed, broken = expressions.evaluate(rows)
    t_us = np.array(times_us, np.int64)
    try:
        if not views:
            return Gathered(rows, (), computed, broken, reader.store.folded_offset()), None
        with reader.snapshot() as snapshot:
            blocks = [snapshot.read(view, _keys(rows, places), t_us) for view, places in views]
            return Gathered(rows, blocks, computed, broken, snapshot.offset), None
    except Exception as error:  # noqa: BLE001  whatever the store does, the request is answered; the caller reports it
        return Gathered(rows, [_defaults(len(rows), view) for view, _ in views], computed, broken, 0), error


def run(scorer: Scorer, gathered: Gathered) -> Outputs:
    """Score every row with one model."""
    started_ns = perf_counter_ns()
    inputs = scorer.layout.fill(gathered)
    failed: dict[int, tuple[str, str]] = {}
    for number, rows in gathered.broken.items():
        if number in scorer.layout.expressions:
            failed |= {row: (EXPRESSION, why) for row, why in rows.items()}
    values = _predict(scorer.runtime, inputs, failed)
    for row, value in enumerate(values):
        if value - value != 0.0 and row not in failed:  # NaN or infinite
            failed[row] = (OUTPUT, f"the model gave {value}")
    return Outputs(inputs, values, failed, (perf_counter_ns() - started_ns) // 1_000)


def choose(
    assigned: str,
    row: int,
    champion: Scored | None,
    challenger: Scored | None,
    last_good: Scored | None,
) -> Choice:
    """Who answers a row: the assigned model, else the champion, else the last good version, else nobody.

    Raises:
        ValueError: There is no model at all.
    """
    pair = {"champion": champion, "challenger": challenger}
    asked = pair[assigned] or champion
    other = other_of(pair["champion" if assigned == "challenger" else "challenger"], row)
    output = _output(asked, row)
    if asked is not None and output is not None:
        return Choice(assigned, asked[0], asked[1].inputs, output, *other)
    error = asked[1].failed[row][0] if asked is not None else NOT_LOADED
    chain = [("champion", champion)] if assigned == "challenger" else []
    for name, one in (*chain, ("last_good", last_good)):
        output = _output(one, row)
        if one is not None and output is not None:
            if assigned == "challenger" and challenger is not None:
                other = (challenger[0].version, None, None, None)  # its failure is this answer's own error
            return Choice("fallback", one[0], one[1].inputs, output, *other, name, error)
    nobody = asked or last_good
    if nobody is None:
        raise ValueError("a route without a model")
    return Choice(assigned, nobody[0], nobody[1].inputs, None, *other, None, error)


def other_of(one: Scored | None, row: int) -> tuple[str | None, float | None, str | None, int | None]:
    """Version, output, error and time of the other model of a pair, as they are logged."""
    if one is None:
        return None, None, None, None
    scorer, outputs = one
    if row in outputs.failed:
        return scorer.version, None, outputs.failed[row][0], outputs.took_us
    return scorer.version, outputs.values[row], None, outputs.took_us


def _output(one: Scored | None, row: int) -> float | None:
    return None if one is None or row in one[1].failed else one[1].values[row]


def _predict(runtime: Runtime, inputs: Inputs, failed: dict[int, tuple[str, str]]) -> list[float]:
    try:
        return cast("list[float]", runtime.predict_matrix(inputs.numbers, inputs.texts).tolist())
    except Exception as error:  # noqa: BLE001  onnxruntime's exceptions share no base; the row that fails is found
        rows = len(inputs.values)
        if rows == 1:
            failed.setdefault(0, (MODEL, str(error)))
            return [float("nan")]
        out = []
        for row in range(rows):
            part = slice(row, row + 1)
            one = Inputs(
                inputs.names, inputs.values[part], inputs.status[part], inputs.numbers[part], inputs.texts[part], {}
            )
            alone: dict[int, tuple[str, str]] = {}
            out += _predict(runtime, one, alone)
            if alone:
                failed.setdefault(row, alone[0])
        return out


def _keys(rows: Sequence[Row], places: tuple[int, ...]) -> list[tuple[Any, ...] | None]:
    if len(places) == 1:
        place = places[0]
        return [(row[place],) for row in rows]
    return [tuple(row[place] for place in places) for row in rows]


def _defaults(rows: int, view: ViewDef) -> tuple[Floats, Codes]:
    shape = (rows, len(view.features))
    return np.full(shape, np.nan), np.full(shape, DEFAULT, np.uint8)


def _join(parts: Sequence[Any], *, is_text: bool) -> Any:
    return [text for part in parts for text in part] if is_text else np.concatenate(parts)
