"""The core that every protocol calls: rows in, outputs out. It knows nothing of HTTP.

One batch is one snapshot of the online store, one evaluation of each expression and one run of each model. What fails,
fails for its own row: the rest of the batch is answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.definitions import MOMENT, SourceDef, ViewDef
from mainspring.definitions.expressions import POLARS_TYPES
from mainspring.definitions.values import Kind, LatencyDef
from mainspring.events.system import EXPRESSION, OTHERWISE
from mainspring.features.reader import Reader
from mainspring.features.request import Answer, Program, of_objects, view_column
from mainspring.models.runtime import Runtime
from mainspring.serving.layout import (
    DEFAULT,
    MISSING,
    PRESENT,
    UNAVAILABLE,
    Codes,
    Floats,
    Gathered,
    Inputs,
    Layout,
)
from mainspring.serving.pace import Pace
from mainspring.serving.table import Row, Table, column_of

if TYPE_CHECKING:
    from mainspring.serving.composed import Composition

MODEL, OUTPUT, NOT_LOADED = "model", "output", "not_loaded"
"""Why a row failed, besides EXPRESSION: the model raised, it gave no finite number, it is not there."""
FEATURES, DEADLINE, SHED, BREAKER = "features", "deadline", "shed", "breaker"
"""Why a model was not asked, or not believed: its features could not be read, its time was up, too many rows waited, it
lately failed."""
VALUE = "value"
"""What is fallen back to when no model is left: the declared value."""
MEMBER = "member"
"""What is fallen back to where a member of a composite gave nothing: what the others say."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """One version of a model, loaded, how its inputs are filled, and how long it takes."""

    version: str
    runtime: Runtime
    layout: Layout
    latency: LatencyDef | None = None
    pace: Pace = field(default_factory=Pace)


class Outputs(msgspec.Struct, frozen=True, eq=False):
    """What one model says of a batch.

    Attributes:
        inputs: What it saw; None when it was left alone.
        values: One float a row; meaningless where the row failed.
        failed: Reason and detail of the rows that failed.
        took_us: Time that filling the inputs and running the model took.
    """

    inputs: Inputs | None
    values: list[float]
    failed: Mapping[int, tuple[str, str]] = msgspec.field(default_factory=dict)
    took_us: int = 0


Scored = tuple[Scorer, Outputs]


class Repeated(msgspec.Struct, frozen=True, gc=False):
    """The prediction whose answer is given again.

    Attributes:
        id: Of it.
        folded: Offset of the log folded into the features that it was made of.
    """

    id: str
    folded: int


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Which model's output answers a row.

    Attributes:
        variant: ``champion``, ``challenger`` or ``fallback``.
        version: Of the model that answers; of the assigned one when nobody could; ``OTHERWISE`` of a declared value.
        inputs: What that model saw; None where no model answered.
        output: None when nobody could.
        other_version: The other model of the pair, with its output or its failure, and the time it took.
        fallback: What was fallen back to (``champion``, ``last_good``, ``challenger``, ``value``), or None.
        error: Why the assigned model did not answer, or no better member of a cascade; or None.
        drawn: What was assigned, where a fallback answered.
        answered: What output rules made of the output, where they acted.
        rules: Those that acted.
        composition: What a composite's answer is made of.
        repeats: The prediction that a cache gives again; ``inputs`` are then of this row alone.
    """

    variant: str
    version: str
    inputs: Inputs | None
    output: float | None
    other_version: str | None = None
    other_output: float | None = None
    other_error: str | None = None
    other_took_us: int | None = None
    fallback: str | None = None
    error: str | None = None
    drawn: str | None = None
    answered: float | None = None
    rules: tuple[str, ...] = ()
    composition: Composition | None = None
    repeats: Repeated | None = None

    @property
    def answer(self) -> float | None:
        """What the client is told."""
        return self.answered if self.rules else self.output


class Expressions:
    """The expressions of a route's models over the request and the views that they read, as one program.

    Args:
        texts: JSON of each, in the order of ``Gathered.computed``; columns of a view are named by ``versioned``.
        source: The request's source.
        views: In the order of ``Gathered.blocks``.
    """

    def __init__(self, texts: Sequence[str], source: SourceDef, views: Sequence[ViewDef]) -> None:
        from mainspring.definitions.expressions import parse

        schema = {name: source.schema[f.name] for name, f in source.names.items()} | {MOMENT: POLARS_TYPES["datetime"]}
        values: dict[str, tuple[int, int, Kind]] = {}
        for number, view in enumerate(views):
            dtypes = list(view.own_schema.values())
            for slot, (column, kind) in enumerate(zip(view.column_names, view.kinds, strict=True)):
                name = versioned(view, column)
                schema[name] = dtypes[slot]
                values[name] = (number, slot, kind)
        self._program = Program([(text, text) for text in texts], schema)
        self._needs_moment = MOMENT in self._program.inputs
        places = source.places
        inputs = self._program.inputs
        self._columns = [(name, places[name], schema[name]) for name in inputs if name in places]
        self._values = [(name, *values[name]) for name in inputs if name in values]
        self._reads: list[dict[int, list[int]]] = []
        for text in texts:
            reads: dict[int, list[int]] = {}
            for name in parse(text).meta.root_names():
                if name in values:
                    reads.setdefault(values[name][0], []).append(values[name][1])
            self._reads.append(reads)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._reads)

    def evaluate(
        self,
        rows: Sequence[Row],
        t_us: npt.NDArray[np.int64],
        blocks: Sequence[tuple[Floats, Codes]],
        texts: Mapping[tuple[int, int], Sequence[str | None]],
    ) -> tuple[list[Answer], list[Codes], dict[int, dict[int, str]]]:
        """Values and status of each expression, and by expression the rows for which it cannot be computed."""
        if not self._reads:
            return [], [], {}
        columns = {name: of_objects(column_of(rows, i), dtype) for name, i, dtype in self._columns}
        for name, view, slot, kind in self._values:
            columns[name] = view_column(kind, blocks[view][0][:, slot], texts.get((view, slot)))
        if self._needs_moment:
            columns[MOMENT] = t_us, None
        computed, broken = self._program.answer(columns, len(rows))
        return computed, [self._status(i, answer, blocks) for i, answer in enumerate(computed)], broken

    def _status(self, number: int, answer: Answer, blocks: Sequence[tuple[Floats, Codes]]) -> Codes:
        """Missing where null; and what could not be read of a view, its expressions could not either."""
        if isinstance(answer, list):
            status = np.array([MISSING if text is None else PRESENT for text in answer], np.uint8)
        else:
            status = (answer != answer).astype(np.uint8)  # NaN: PRESENT is 0, MISSING is 1
        for view, slots in self._reads[number].items():
            codes = blocks[view][1][:, slots].max(axis=1)
            unread = codes >= DEFAULT
            if unread.any():
                status[unread] = np.maximum(status, codes)[unread]
        return status


def versioned(view: ViewDef, column: str) -> str:
    """A view's column as the expressions of a route name it: two releases may read two versions of one view."""
    return f"{view.name}@{view.version}__{column.removeprefix(f'{view.name}__')}"


def gather(
    rows: Sequence[Row],
    times_us: Sequence[int],
    views: Sequence[tuple[ViewDef, tuple[int, ...]]],
    expressions: Expressions,
    reader: Reader,
) -> tuple[Gathered, Exception | None]:
    """Read all that the models of a route need, in one snapshot of the store, and evaluate their expressions.

    Args:
        rows: Checked request rows.
        times_us: Moment of each row, microseconds since 1970 UTC.
        views: Each view with the places of its entity's columns in a row.
        expressions: Over the request and the views.
        reader: Of the online store.

    Returns:
        What was read; and the error when the store could not be: its features are then null with status ``default``.
    """
    rows, t_us = Table.of(rows), np.array(times_us, np.int64)
    blocks: list[tuple[Floats, Codes]] = []
    texts: dict[tuple[int, int], Sequence[str | None]] = {}
    failure: Exception | None = None
    folded = 0
    try:
        if views:
            with reader.snapshot() as snapshot:
                blocks = snapshot.read_views([(view, [column_of(rows, i) for i in at]) for view, at in views], t_us)
                for number, (view, _) in enumerate(views):
                    for slot in _text_slots(view):
                        texts[number, slot] = snapshot.texts(blocks[number][0][:, slot])
                folded = snapshot.offset
        else:
            folded = reader.store.folded_offset()
    except Exception as error:  # noqa: BLE001  whatever the store does, the request is answered; the caller reports it
        failure = error
        blocks = [_defaults(len(rows), view) for view, _ in views]
        texts = {(i, slot): [None] * len(rows) for i, (view, _) in enumerate(views) for slot in _text_slots(view)}
    computed, status, broken = expressions.evaluate(rows, t_us, blocks, texts)
    return Gathered(rows, blocks, texts, computed, status, broken, folded), failure


def run(scorer: Scorer, gathered: Gathered, *, blind: bool = True) -> Outputs:
    """Score every row with one model.

    Args:
        scorer: The model.
        gathered: What it is fed from.
        blind: Whether it answers for rows whose features could not be read; if not they fail, with their output kept.
    """
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
    if not blind:
        gone = ((inputs.status == DEFAULT) | (inputs.status == UNAVAILABLE)).any(axis=1)
        for row in np.flatnonzero(gone).tolist():
            failed.setdefault(row, (FEATURES, "features could not be read"))
    return Outputs(inputs, values, failed, (perf_counter_ns() - started_ns) // 1_000)


def choose(
    assigned: str,
    row: int,
    pair: Mapping[str, Scored | None],
    spare: Sequence[tuple[str, Scored | None]] = (),
    value: float | None = None,
    absent: str = "",
) -> Choice:
    """Who answers a row: the assigned model, else the champion, else the first of ``spare`` that can, else ``value``.

    A model that failed only because its features could not be read answers rather than nobody.

    Args:
        assigned: ``champion`` or ``challenger``.
        row: Which one of the batch.
        pair: Both models of the route, as far as they are loaded and were asked.
        spare: What is fallen back to after the champion, in order.
        value: The declared value for this row.
        absent: Version of the champion, named where nothing is loaded.
    """
    asked = pair[assigned] or pair["champion"]
    other = other_of(pair["champion" if assigned == "challenger" else "challenger"], row)
    output = _output(asked, row)
    if asked is not None and output is not None:
        return Choice(assigned, asked[0].version, asked[1].inputs, output, *other)
    error = asked[1].failed[row][0] if asked is not None else NOT_LOADED
    failing, challenger = other, pair["challenger"]
    if assigned == "challenger" and challenger is not None:
        failing = (challenger[0].version, None, None, None)  # its failure is this answer's own error
    chain = [("champion", pair["champion"])] if assigned == "challenger" else []
    for name, one in (*chain, *spare):
        output = _output(one, row)
        if one is not None and output is not None:
            return Choice("fallback", one[0].version, one[1].inputs, output, *failing, name, error, assigned)
    if value is not None:
        return Choice("fallback", OTHERWISE, None, value, *failing, VALUE, error, assigned)
    nobody = asked or next((one for _, one in spare if one is not None), None)
    if nobody is None:
        return Choice(assigned, absent, None, None, *other, None, error)
    scorer, outputs = nobody
    if outputs.failed[row][0] == FEATURES:
        return Choice(assigned, scorer.version, outputs.inputs, outputs.values[row], *other)
    return Choice(assigned, scorer.version, outputs.inputs, None, *other, None, error)


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


def _defaults(rows: int, view: ViewDef) -> tuple[Floats, Codes]:
    shape = (rows, len(view.column_names))
    return np.full(shape, np.nan), np.full(shape, DEFAULT, np.uint8)


def _text_slots(view: ViewDef) -> list[int]:
    return [slot for slot, kind in enumerate(view.kinds) if kind == "str"] if "str" in view.kinds else []
