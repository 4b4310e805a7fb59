"""Answered batches as events, by column: of each row the request's own, if it has an id, and the prediction.

A column costs about as much of a few rows as of a few hundred. So batches that one model answers, one after the other,
are a run, of which each column is made at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.core.ids import PredictionIds
from mainspring.definitions import SourceDef
from mainspring.events.cells import Cells
from mainspring.events.internal import Block, CheckedRows, RowShape
from mainspring.events.record_batch import MOST_ROWS, RecordBatch
from mainspring.events.system import PREDICTION
from mainspring.serving.answers import Batch
from mainspring.serving.composed import Composed, Composition
from mainspring.serving.inference import NOT_LOADED, Choice, Scored, other_of
from mainspring.serving.served import Served
from mainspring.serving.table import Row, Table, column_of, texts_of
from mainspring.serving.unanimous import Unanimous

_FRAME = msgspec.msgpack.Decoder(tuple[int, bytes])
_ROWS_FRAME = msgspec.msgpack.Decoder(tuple[int, tuple[list[RowShape], list[tuple[int, tuple[Any, ...]]]]])
_NAMED_FRAME = msgspec.msgpack.Decoder(tuple[int, list[tuple[str, dict[str, Any]]]])
_SHAPE = RowShape(PREDICTION.name, PREDICTION.version, tuple(PREDICTION.columns))


@dataclass(frozen=True, slots=True, eq=False)
class Logged:
    """An answered batch as it waits for the log; its rows are made by whoever takes it from there.

    Attributes:
        shadow: What the challenger in shadow said, if it was asked.
    """

    batch: Batch
    shadow: Scored | None

    def __len__(self) -> int:
        """How many answers it has."""
        return len(self._told())

    @property
    def answerer(self) -> tuple[str, str, str] | None:
        """Variant and version that answered every row, as nobody's part, and no other asked; and the ids' epoch."""
        batch, choices = self.batch, self.batch.choices
        if self.shadow is not None or batch.part_of is not None or not isinstance(choices, Unanimous):
            return None
        return choices.variant, choices.version, batch.ids.epoch

    def goes_on_with(self, other: Logged) -> bool:
        """Whether ``other`` has the same model's answers, so that both are of one run."""
        answerer = self.answerer
        return answerer is not None and self.batch.served is other.batch.served and answerer == other.answerer

    def asked(self) -> Table:
        """The requests that were answered."""
        rows, told = self.batch.gathered.rows, self._told()
        return Table.of(rows if len(told) == len(rows) else [rows[i] for i in told])

    def predictions(self) -> list[Cells]:
        """The columns of the ``_prediction`` source, from its rows."""
        told = self._told()
        _, *others = zip(*map(self.prediction, told), strict=True)
        ids = self.batch.ids
        return [Cells.ids(PredictionIds(ids.epoch, [ids.numbers[i] for i in told])), *map(Cells.of, others)]

    def prediction(self, i: int) -> tuple[Any, ...]:
        """One row of the ``_prediction`` source, in the order of its columns; of a row that was answered."""
        batch, choice = self.batch, self.batch.choices[i]
        if choice is None:
            raise ValueError(f"row {i} has no answer")
        served, whole, repeats, inputs = batch.served, choice.composition, choice.repeats, choice.inputs
        features, status = inputs.logged(i if repeats is None else 0) if inputs is not None else ("[]", "")
        other_version, other_output, other_error, other_latency_us = self._other(i, choice)
        return (
            batch.ids[i],
            batch.times_us[i],
            served.model.name,
            choice.version,
            choice.variant,
            batch.probabilities[i],
            batch.units[i],
            _id_of(served.model.request, batch.gathered.rows[i]),
            batch.gathered.folded if repeats is None else repeats.folded,
            choice.output,
            other_version,
            other_output,
            features,
            status,
            batch.latencies_us[i],
            choice.fallback,
            choice.error,
            served.rollout,
            other_latency_us,
            other_error,
            choice.drawn,
            choice.answered,
            "; ".join(choice.rules) or None,
            whole.member if whole is not None else None,
            _members(whole) if whole is not None else None,
            whole.spread if whole is not None else None,
            None if batch.part_of is None else batch.part_of[i],
            batch.is_selected,
            None if repeats is None else repeats.id,
        )

    def _told(self) -> Sequence[int]:
        """The rows whose clients were told this answer, and not something else before."""
        choices = self.batch.choices
        if isinstance(choices, Unanimous):
            return range(len(choices))
        return [i for i, choice in enumerate(choices) if choice is not None]

    def _other(self, i: int, choice: Choice) -> tuple[str | None, float | None, str | None, int | None]:
        """Version, output, error and latency of the other model of the pair."""
        served = self.batch.served
        if served.is_shadow:
            version, output, error, took_us = other_of(self.shadow, i)
        elif served.absent is not None:
            return served.absent, None, NOT_LOADED, None
        else:
            version, output, error = choice.other_version, choice.other_output, choice.other_error
            took_us = choice.other_took_us
        return version, output, error, None if took_us is None else self.batch.before_us[i] + took_us


class Run:
    """Batches that go on with one another, as one.

    Attributes:
        size: Rows that were told their answer.
    """

    def __init__(self, first: Logged) -> None:
        self._some = [first]
        self.size = len(first)

    @property
    def model(self) -> str:
        """Of whose answers they are."""
        return self._some[0].batch.served.model.name

    def takes(self, other: Logged) -> bool:
        """Take a batch too, if it goes on with these and there is room in a record; whether it did."""
        size = self.size + len(other)
        if size > MOST_ROWS or not self._some[-1].goes_on_with(other):
            return False
        self._some.append(other)
        self.size = size
        return True

    def requests(self) -> tuple[SourceDef, list[Cells]] | None:
        """Source and columns of the requests, where these are events: they have an id, and are nobody's part."""
        batch = self._some[0].batch
        source = batch.served.model.request
        if source.id is None or batch.part_of is not None:
            return None
        asked = [one.asked() for one in self._some]
        numbers = _together([one.floats(source.float_places) for one in asked], axis=1)
        floats = dict(zip(source.float_places, numbers, strict=True))
        return source, [
            Cells.floats(floats[place])
            if place in floats
            else Cells.of_kind(field.kind, _after([one.column(place) for one in asked]))
            for place, field in enumerate(source.fields)
        ]

    def predictions(self) -> list[Cells]:
        """The columns of the ``_prediction`` source."""
        first = self._some[0]
        choices = first.batch.choices
        if isinstance(choices, Unanimous) and first.batch.part_of is None:
            return list(self._alike(first.batch.served, choices))
        return first.predictions()

    def _alike(self, served: Served | Composed, first: Unanimous) -> Iterator[Cells]:
        """As ``Logged.predictions``, of rows that one model answered."""
        batches, same = [one.batch for one in self._some], Cells.same
        choices = [one.choices for one in batches if isinstance(one.choices, Unanimous)]  # that is, of all
        source, inputs = served.model.request, [one.inputs for one in choices]
        none = same(None)
        id_at = None if source.id is None else source.places[source.id]
        yield Cells.ids(PredictionIds(batches[0].ids.epoch, _after([one.ids.numbers for one in batches])))
        yield Cells.ints(_after([one.times_us for one in batches]))
        yield same(served.model.name)
        yield same(first.version)
        yield same(first.variant)
        yield Cells.of(_after([one.probabilities for one in batches]))
        yield Cells.of(_after([one.units for one in batches]))
        rows = [one.gathered.rows for one in batches]
        yield none if id_at is None else Cells.of(_after([texts_of(column_of(one, id_at)) for one in rows]))
        yield Cells.of(_after([[one.gathered.folded] * len(one.times_us) for one in batches]))
        yield Cells.floats(_after([one.outputs for one in choices]))
        other_version, other_output, other_error, other_latency_us = self._others(served)
        yield other_version
        yield other_output
        written = {place: _after([one.written[place] for one in inputs]) for place in inputs[0].written}
        yield Cells.arrays(_together([one.values for one in inputs]), written)
        yield Cells.codes(_together([one.status for one in inputs]))
        yield Cells.ints(_after([one.latencies_us for one in batches]))
        yield none
        yield none
        yield same(served.rollout)
        yield other_latency_us
        yield other_error
        yield from [none] * 9

    def _others(self, served: Served | Composed) -> tuple[Cells, Cells, Cells, Cells]:
        """Version, output, error and latency of the other model of the pair, of choices that have none themselves."""
        first, none = self._some[0], Cells.same(None)
        if first.shadow is not None:
            scorer, said = first.shadow
            latencies_us = Cells.ints([before_us + said.took_us for before_us in first.batch.before_us])
            if not said.failed:
                return Cells.same(scorer.version), Cells.floats(said.values), none, latencies_us
            others = [other_of(first.shadow, i)[:3] for i in range(self.size)]
            version, output, error = zip(*others, strict=True)
            return Cells.of(version), Cells.of(output), Cells.of(error), latencies_us
        if not served.is_shadow and served.absent is not None:
            return Cells.same(served.absent), none, Cells.same(NOT_LOADED), none
        return none, none, none, none


def rows_of(answered: Sequence[Logged]) -> CheckedRows:
    """The events of answered batches: requests first, so that none comes after its prediction."""
    asked: dict[int, tuple[SourceDef, list[tuple[int, list[Cells]]]]] = {}
    said: dict[str, list[tuple[int, list[Cells]]]] = {}
    for run in _runs_of(answered):
        request = run.requests()
        if request is not None:
            asked.setdefault(id(request[0]), (request[0], []))[1].append((run.size, request[1]))
        said.setdefault(run.model, []).append((run.size, run.predictions()))
    shapes, batches = [_SHAPE], list[RecordBatch]()
    for source, parts in asked.values():
        batches += RecordBatch.several(len(shapes), parts)
        shapes.append(RowShape(source.name, source.version, tuple(source.columns)))
    batches += [batch for parts in said.values() for batch in RecordBatch.several(0, parts)]
    return CheckedRows(tuple(shapes), (), batches)


def _runs_of(answered: Sequence[Logged]) -> list[Run]:
    """Batches of a model keep their order; those of others that lie between them do not end a run."""
    found: list[Run] = []
    last: dict[str, Run] = {}
    for one in answered:
        if not len(one):
            continue
        name = one.batch.served.model.name
        if name not in last or not last[name].takes(one):
            last[name] = Run(one)
            found.append(last[name])
    return found


def _after(parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """One after the other."""
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


def _together(parts: Sequence[npt.NDArray[Any]], axis: int = 0) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _id_of(source: SourceDef, row: Row) -> str | None:
    return None if source.id is None else str(row[source.places[source.id]])


def _members(whole: Composition) -> str:
    """What each member said, after its output rules, as a JSON array."""
    said = [(name, choice.version, choice.variant, choice.answer) for name, choice in whole.said]
    return msgspec.json.encode(said).decode()


def read_frame(frame: bytes) -> tuple[int, bytes]:
    """How many answers a frame of the spool holds, and their rows as they are posted; in all forms that there were.

    Raises:
        msgspec.DecodeError: It is none.
    """
    try:
        return _FRAME.decode(frame)
    except msgspec.ValidationError:
        pass
    try:
        count, (shapes, rows) = _ROWS_FRAME.decode(frame)
    except msgspec.ValidationError:
        count, events = _NAMED_FRAME.decode(frame)
        shapes = [RowShape(source, "", tuple(fields)) for source, fields in events]
        rows = [(i, tuple(fields.values())) for i, (_, fields) in enumerate(events)]
    blocks = [Block.of(number, [row]) for number, row in rows]
    return count, msgspec.msgpack.encode(CheckedRows(tuple(shapes), blocks))
