"""Answered batches as events, by column: of each row the request's own, if it has an id, and the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mainspring.core.ids import PredictionIds
from mainspring.definitions import SourceDef
from mainspring.events.cells import Cells
from mainspring.events.internal import Block, CheckedRows, RowShape
from mainspring.events.record_batch import RecordBatch
from mainspring.events.system import PREDICTION
from mainspring.serving.answers import Batch
from mainspring.serving.composed import Composition
from mainspring.serving.inference import NOT_LOADED, Choice, Scored, other_of
from mainspring.serving.table import Row, Table, column_of
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

    def requests(self) -> tuple[SourceDef, list[Cells]] | None:
        """Source and columns of the requests, where these are events: they have an id, and are nobody's part."""
        batch, source = self.batch, self.batch.served.model.request
        if source.id is None or batch.part_of is not None:
            return None
        rows, told = batch.gathered.rows, self._told()
        asked = Table.of(rows if len(told) == len(rows) else [rows[i] for i in told])
        floats = dict(zip(source.float_places, asked.floats(source.float_places), strict=True))
        return source, [
            Cells.floats(floats[place]) if place in floats else Cells.of_kind(field.kind, asked.columns[place])
            for place, field in enumerate(source.fields)
        ]

    def predictions(self) -> list[Cells]:
        """The columns of the ``_prediction`` source."""
        choices = self.batch.choices
        if isinstance(choices, Unanimous) and self.batch.part_of is None:
            return list(self._alike(choices))
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

    def _alike(self, choices: Unanimous) -> Iterator[Cells]:
        """As ``predictions``, of a batch of which one model answered every row."""
        batch, same = self.batch, Cells.same
        served, source, inputs = batch.served, batch.served.model.request, choices.inputs
        none = same(None)
        id_at = None if source.id is None else source.places[source.id]
        yield Cells.ids(batch.ids)
        yield Cells.ints(batch.times_us)
        yield same(served.model.name)
        yield same(choices.version)
        yield same(choices.variant)
        yield Cells.of(batch.probabilities)
        yield Cells.of(batch.units)
        yield none if id_at is None else Cells.of([str(id) for id in column_of(batch.gathered.rows, id_at)])
        yield same(batch.gathered.folded)
        yield Cells.floats(choices.outputs)
        other_version, other_output, other_error, other_latency_us = self._others(len(choices))
        yield other_version
        yield other_output
        yield Cells.arrays(inputs.values, inputs.written)
        yield Cells.codes(inputs.status)
        yield Cells.ints(batch.latencies_us)
        yield none
        yield none
        yield same(served.rollout)
        yield other_latency_us
        yield other_error
        yield from [none] * 9

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

    def _others(self, n: int) -> tuple[Cells, Cells, Cells, Cells]:
        """As ``_other``, of all n rows of a batch whose choices have no other model."""
        served, none = self.batch.served, Cells.same(None)
        if served.is_shadow and self.shadow is not None:
            scorer, said = self.shadow
            latencies_us = Cells.ints([before_us + said.took_us for before_us in self.batch.before_us])
            if not said.failed:
                return Cells.same(scorer.version), Cells.floats(said.values), none, latencies_us
            version, output, error = zip(*[other_of(self.shadow, i)[:3] for i in range(n)], strict=True)
            return Cells.of(version), Cells.of(output), Cells.of(error), latencies_us
        if not served.is_shadow and served.absent is not None:
            return Cells.same(served.absent), none, Cells.same(NOT_LOADED), none
        return none, none, none, none


def rows_of(answered: Sequence[Logged]) -> CheckedRows:
    """The events of answered batches: requests first, so that none comes after its prediction."""
    some = [one for one in answered if len(one)]
    asked: dict[int, tuple[SourceDef, list[tuple[int, list[Cells]]]]] = {}
    said: dict[str, list[tuple[int, list[Cells]]]] = {}
    for one in some:
        request = one.requests()
        if request is not None:
            asked.setdefault(id(request[0]), (request[0], []))[1].append((len(one), request[1]))
        said.setdefault(one.batch.served.model.name, []).append((len(one), one.predictions()))
    shapes, batches = [_SHAPE], list[RecordBatch]()
    for source, parts in asked.values():
        batches += RecordBatch.several(len(shapes), parts)
        shapes.append(RowShape(source.name, source.version, tuple(source.columns)))
    batches += [batch for parts in said.values() for batch in RecordBatch.several(0, parts)]
    return CheckedRows(tuple(shapes), (), batches)


def _id_of(source: SourceDef, row: Row) -> str | None:
    return None if source.id is None else str(row[source.places[source.id]])


def _members(whole: Composition) -> str:
    """What each member said, as a JSON array."""
    said = [(name, choice.version, choice.variant, choice.output) for name, choice in whole.said]
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
